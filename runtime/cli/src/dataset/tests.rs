#![allow(clippy::unwrap_used)]

use std::io::Write;

use flate2::write::{DeflateEncoder, GzEncoder};
use proptest::prelude::*;
use rawzip::{CompressionMethod, ZipArchiveWriter};

use super::idx::tests::idx;
use super::npy::tests::npy;
use super::*;

const GREY: ImageShape = ImageShape {
    channels: 1,
    height: 2,
    width: 3,
};
const CIFAR: ImageShape = ImageShape {
    channels: 3,
    height: 32,
    width: 32,
};

fn header(descriptor: &str, shape: &str) -> String {
    format!("{{'descr': '{descriptor}', 'fortran_order': False, 'shape': {shape}, }}")
}

fn bytes(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 7) as u8).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A zip file, every other entry of it deflated.
fn zip(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = ZipArchiveWriter::new(Vec::new());
    for (place, (name, bytes)) in entries.iter().enumerate() {
        let deflated = place % 2 == 1;
        let method = match deflated {
            true => CompressionMethod::DEFLATE,
            false => CompressionMethod::STORE,
        };
        let file = archive.new_file(*name).compression_method(method);
        let (mut file, config) = file.start().unwrap();
        let descriptor = match deflated {
            true => {
                let encoder = DeflateEncoder::new(&mut file, Compression::default());
                let mut stream = config.wrap(encoder);
                stream.write_all(bytes).unwrap();
                let (encoder, descriptor) = stream.finish().unwrap();
                encoder.finish().unwrap();
                descriptor
            }
            false => {
                let mut stream = config.wrap(&mut file);
                stream.write_all(bytes).unwrap();
                stream.finish().unwrap().1
            }
        };
        file.finish(descriptor).unwrap();
    }
    archive.finish().unwrap()
}

fn floats(n: usize) -> Vec<u8> {
    let values = (0..n).map(|i| i as f32 / n as f32 * 2.0 - 1.0);
    values.flat_map(f32::to_le_bytes).collect()
}

/// A whole file of each format, and the number of its images.
fn files() -> Vec<(&'static str, DataSetFormat, ImageShape, Vec<u8>, usize)> {
    use DataSetFormat::{Cifar, Idx, Npy, Npz};
    let u8s = npy(&header("|u1", "(4, 2, 3)"), &bytes(24));
    let f32s = npy(&header("<f4", "(2, 2, 3, 1)"), &floats(12));
    let labels = npy(&header("<i8", "(6,)"), &bytes(48));
    let batch = |labels: &[u8]| [labels, &bytes(3072)].concat().repeat(3);
    vec![
        ("npy of bytes", Npy, GREY, u8s.clone(), 4),
        ("npy of floats", Npy, GREY, f32s.clone(), 2),
        ("IDX", Idx, GREY, idx(&[5, 2, 3], &bytes(30)), 5),
        (
            "IDX, gzip",
            Idx,
            GREY,
            gzip(&idx(&[5, 2, 3], &bytes(30))),
            5,
        ),
        ("CIFAR-10", Cifar, CIFAR, batch(&[7]), 3),
        ("CIFAR-100", Cifar, CIFAR, batch(&[7, 70]), 3),
        (
            "npz",
            Npz,
            GREY,
            zip(&[
                ("x_test.npy", u8s.clone()),
                ("x_train.npy", f32s),
                ("y.npy", labels.clone()),
                ("z.npy", labels),
                ("notes.txt", b"hello".to_vec()),
                ("more.npy", u8s),
            ]),
            10,
        ),
    ]
}

fn open(bytes: &[u8], format: DataSetFormat, shape: ImageShape) -> Result<DataSet> {
    DataSet::from_bytes(bytes.to_vec(), format, shape, FloatRange::default())
}

fn unpacked(data_set: &DataSet) -> Vec<Vec<u8>> {
    let parts = data_set.stacks.iter().map(|(_, part)| {
        let mut bytes = Vec::new();
        let mut stream = data_set.source.stream(part, 0).unwrap();
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    });
    parts.collect()
}

#[test]
fn names_and_first_bytes_tell_the_format() {
    use DataSetFormat::{Cifar, Idx, Npy, Npz};
    for (name, format) in [
        ("a.npy", Some(Npy)),
        ("A.NPZ", Some(Npz)),
        ("train-images-idx3-ubyte", Some(Idx)),
        ("t10k-images.idx3-ubyte.gz", Some(Idx)),
        ("colour.idx", Some(Idx)),
        ("data_batch_1.bin", Some(Cifar)),
        ("train-labels-idx1-ubyte", None),
        ("a.png", None),
        ("a.gz", None),
        ("", None),
    ] {
        assert_eq!(DataSetFormat::of_name(Path::new(name)), format, "{name}");
    }
    for (name, format, _, bytes, _) in files() {
        let told = DataSetFormat::of_bytes(&bytes);
        assert!(told.is_none_or(|told| told == format), "{name}: {told:?}");
    }
}

#[test]
fn records_come_in_order_from_wherever_they_are_asked_for() {
    for (name, format, shape, bytes, n_images) in files() {
        let data_set = open(&bytes, format, shape).unwrap();
        assert_eq!(data_set.len(), n_images, "{name}");
        let all: Vec<Record> = data_set.records(0).unwrap().map(Result::unwrap).collect();
        assert_eq!(all.len(), n_images, "{name}");
        for first in 0..=n_images {
            let rest = data_set.records(first).unwrap();
            let rest: Vec<_> = rest.map(|record| record.unwrap().pixels).collect();
            let expected: Vec<_> = all[first..].iter().map(|r| r.pixels.clone()).collect();
            assert_eq!(rest, expected, "{name} from {first}");
        }
        for (place, record) in all.iter().enumerate() {
            let image = record.image.as_ref().unwrap();
            let encoded = data_set.encode(place, image, 0);
            let n_bytes = data_set.n_pixel_bytes(place + 1) - data_set.n_pixel_bytes(place);
            assert_eq!(encoded.len() as u64, n_bytes, "{name}");
            if n_bytes == shape.n_values() as u64 {
                assert_eq!(encoded, record.pixels, "{name}, image {place}");
            }
        }
    }
}

#[test]
fn a_file_that_is_written_again_with_its_own_pixels_is_the_same() {
    for (name, format, shape, bytes, n_images) in files() {
        let data_set = open(&bytes, format, shape).unwrap();
        let records = data_set.records(0).unwrap();
        let pixels: Vec<u8> = records.flat_map(|r| r.unwrap().pixels).collect();
        assert_eq!(
            pixels.len() as u64,
            data_set.n_pixel_bytes(n_images),
            "{name}"
        );
        let mut written = Vec::new();
        data_set
            .write(&mut written, &mut pixels.as_slice())
            .unwrap();
        let again = open(&written, format, shape).unwrap();
        assert_eq!(unpacked(&again), unpacked(&data_set), "{name}");
        if format != DataSetFormat::Idx {
            assert!(written == bytes, "{name}");
        }
        let short = &pixels[..pixels.len() - 1];
        let result = data_set.write(&mut Vec::new(), &mut &short[..]);
        assert!(result.is_err(), "{name}: a pixel is missing");
    }
}

#[test]
fn labels_and_other_arrays_stay_where_pixels_change() {
    for (name, format, shape, bytes, n_images) in files() {
        let data_set = open(&bytes, format, shape).unwrap();
        let black = Images::from_vec(shape, vec![-1.0; shape.n_values()]).unwrap();
        let pixels: Vec<u8> = (0..n_images)
            .flat_map(|place| data_set.encode(place, &black, 0))
            .collect();
        let mut written = Vec::new();
        data_set
            .write(&mut written, &mut pixels.as_slice())
            .unwrap();
        let images =
            decode_data_set(written.clone(), format, shape, FloatRange::default()).unwrap();
        assert!(images.array().iter().all(|&x| x == -1.0), "{name}");
        match format {
            DataSetFormat::Cifar => {
                let n = bytes.len() / 3;
                let n_labels = n - 3072;
                for record in 0..3 {
                    let labels = record * n..record * n + n_labels;
                    assert_eq!(written[labels.clone()], bytes[labels], "{name}");
                }
            }
            DataSetFormat::Npz => {
                let again = open(&written, format, shape).unwrap();
                let entries = &again.archive.as_ref().unwrap().entries();
                assert_eq!(
                    entries,
                    &data_set.archive.as_ref().unwrap().entries(),
                    "{name}"
                );
            }
            _ => {}
        }
    }
}

#[test]
fn files_that_are_not_whole_are_refused() {
    for (name, format, shape, bytes, _) in files() {
        // An end of directory within a zip file is nowhere but at its end.
        for n in (0..bytes.len()).step_by(if format == DataSetFormat::Cifar {
            97
        } else {
            1
        }) {
            let cut = open(&bytes[..n], format, shape);
            assert!(cut.is_err(), "{name}: {n} of {} bytes", bytes.len());
        }
        if format != DataSetFormat::Npz {
            let longer = [bytes.as_slice(), &[0]].concat();
            assert!(open(&longer, format, shape).is_err(), "{name}: a byte more");
        }
    }
}

#[test]
fn a_changed_byte_in_a_packed_array_is_found() {
    let (_, format, shape, mut bytes, _) = files().pop().unwrap();
    let at = bytes.windows(24).position(|part| part == self::bytes(24));
    bytes[at.unwrap()] ^= 1;
    let error = open(&bytes, format, shape).unwrap_err().to_string();
    assert!(error.contains("checksum is wrong"), "{error}");
}

#[test]
fn an_npz_without_images_says_what_it_holds() {
    let labels = npy(&header("<i8", "(6,)"), &bytes(48));
    let bytes = zip(&[("y.npy", labels), ("notes.txt", b"hello".to_vec())]);
    let error = open(&bytes, DataSetFormat::Npz, GREY).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("got y (<i8 [6]), notes.txt (no array)"),
        "{error}"
    );
}

#[test]
fn impossible_sizes_are_refused_before_anything_is_read() {
    let huge = header("|u1", &format!("({}, 2, 3)", usize::MAX));
    for bytes in [npy(&huge, &[]), npy(&header("|u1", "(0, 2, 3)"), &[])] {
        assert!(open(&bytes, DataSetFormat::Npy, GREY).is_err());
    }
}

proptest! {
    /// Whatever happens to a file, its reader answers, and what it gives are images.
    #[test]
    fn any_change_gives_an_answer(
        file in 0..7_usize,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let (_, format, shape, mut bytes, _) = files().swap_remove(file);
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(images) = decode_data_set(bytes, format, shape, FloatRange::default()) {
            prop_assert_eq!(images.shape(), shape);
            prop_assert!(images.array().iter().all(|x| (-1.0..=1.0).contains(x)));
        }
    }

    #[test]
    fn any_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        use DataSetFormat::{Cifar, Idx, Npy, Npz};
        for format in [Npy, Npz, Idx, Cifar] {
            for start in [b"".as_slice(), b"\x93NUMPY\x01\x00", b"PK\x03\x04", b"\x1f\x8b\x08\x00"] {
                let bytes = [start, &bytes].concat();
                decode_data_set(bytes, format, GREY, FloatRange::default()).ok();
            }
        }
    }
}
