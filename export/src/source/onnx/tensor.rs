//! Tensors of a model: floats of every width as f32, integers and booleans as they are.

use std::fmt::Display;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use ebm_common::files::folder_of;

use half::{bf16, f16};
use ndarray::{ArrayD, IxDyn};

use super::known::{Kind, Known, Number};
use super::result::Result;
use crate::graph::tensor::Tensor;
use crate::source::onnx::proto::TensorProto;
use crate::source::onnx::proto::tensor_proto::{DataLocation, DataType};

/// A tensor of a model.
pub(super) enum Decoded {
    /// Floats, as f32.
    Floats(Tensor),
    /// Integers or booleans.
    Known(Known),
}

impl Decoded {
    /// Reads a tensor; `folder` is that of the model's file, if it is a file.
    ///
    /// The elements are taken out of `proto`, so that they are not in memory twice.
    pub fn take(proto: &mut TensorProto, folder: Option<&Path>) -> Result<Decoded> {
        let sizes = sizes(proto)?;
        let kind = DataType::try_from(proto.data_type.unwrap_or(0)).map_err(|_| {
            format!(
                "its element type {} is unknown",
                proto.data_type.unwrap_or(0)
            )
        })?;
        if proto.segment.is_some() {
            return Err("it is stored in segments, which is not supported".to_string());
        }
        let count = count(&sizes)?;
        let raw = match proto.data_location() {
            DataLocation::External => Some(external(proto, folder, stored_bytes(kind, count)?)?),
            DataLocation::Default => proto.raw_data.take(),
        };
        match raw {
            Some(bytes) => from_bytes(kind, &sizes, count, &bytes),
            None => from_fields(kind, &sizes, count, proto),
        }
    }
}

fn sizes(proto: &TensorProto) -> Result<Vec<usize>> {
    proto
        .dims
        .iter()
        .map(|&size| {
            usize::try_from(size).map_err(|_| format!("its shape {:?} makes no sense", proto.dims))
        })
        .collect()
}

fn count(sizes: &[usize]) -> Result<usize> {
    sizes
        .iter()
        .try_fold(1_usize, |count, &size| count.checked_mul(size))
        .ok_or_else(|| format!("its shape {sizes:?} is too large"))
}

/// Bytes of an element, 0 where it is of a type that is not read.
fn width(kind: DataType) -> usize {
    match kind {
        DataType::Double | DataType::Int64 | DataType::Uint64 => 8,
        DataType::Float | DataType::Int32 | DataType::Uint32 => 4,
        DataType::Float16 | DataType::Bfloat16 | DataType::Int16 | DataType::Uint16 => 2,
        DataType::Int8 | DataType::Uint8 | DataType::Bool => 1,
        _ => 0,
    }
}

fn stored_bytes(kind: DataType, count: usize) -> Result<usize> {
    match width(kind) {
        0 => Err(unread(kind)),
        width => count
            .checked_mul(width)
            .ok_or_else(|| "it is too large".to_string()),
    }
}

fn unread(kind: DataType) -> String {
    format!("elements of type {} are not supported", kind.as_str_name())
}

fn from_bytes(kind: DataType, sizes: &[usize], count: usize, bytes: &[u8]) -> Result<Decoded> {
    let wanted = stored_bytes(kind, count)?;
    if bytes.len() != wanted {
        return Err(format!(
            "its shape {sizes:?} takes {wanted} bytes, got {}",
            bytes.len()
        ));
    }
    match kind {
        DataType::Float => floats(sizes, each(bytes).map(f32::from_le_bytes)),
        DataType::Double => doubles(sizes, each(bytes).map(f64::from_le_bytes)),
        DataType::Float16 => floats(sizes, each(bytes).map(|b| f16::from_le_bytes(b).to_f32())),
        DataType::Bfloat16 => floats(sizes, each(bytes).map(|b| bf16::from_le_bytes(b).to_f32())),
        DataType::Int64 => integers(kind, sizes, each(bytes).map(i64::from_le_bytes)),
        DataType::Uint64 => integers(kind, sizes, each(bytes).map(u64::from_le_bytes)),
        DataType::Int32 => integers(kind, sizes, each(bytes).map(i32::from_le_bytes)),
        DataType::Uint32 => integers(kind, sizes, each(bytes).map(u32::from_le_bytes)),
        DataType::Int16 => integers(kind, sizes, each(bytes).map(i16::from_le_bytes)),
        DataType::Uint16 => integers(kind, sizes, each(bytes).map(u16::from_le_bytes)),
        DataType::Int8 => integers(kind, sizes, each(bytes).map(i8::from_le_bytes)),
        DataType::Uint8 | DataType::Bool => integers(kind, sizes, bytes.iter().copied()),
        _ => Err(unread(kind)),
    }
}

/// The bytes of each element.
fn each<const WIDTH: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; WIDTH]> {
    bytes.as_chunks().0.iter().copied()
}

fn from_fields(
    kind: DataType,
    sizes: &[usize],
    count: usize,
    proto: &TensorProto,
) -> Result<Decoded> {
    let words = &proto.int32_data;
    let half_words = || words.iter().map(|&word| word as u16);
    let found = match kind {
        DataType::Float => proto.float_data.len(),
        DataType::Double => proto.double_data.len(),
        DataType::Int64 => proto.int64_data.len(),
        DataType::Uint32 | DataType::Uint64 => proto.uint64_data.len(),
        _ => words.len(),
    };
    stored_bytes(kind, count)?;
    if found != count {
        return Err(format!(
            "its shape {sizes:?} takes {count} elements, got {found}"
        ));
    }
    match kind {
        DataType::Float => floats(sizes, proto.float_data.iter().copied()),
        DataType::Double => doubles(sizes, proto.double_data.iter().copied()),
        DataType::Float16 => floats(sizes, half_words().map(|b| f16::from_bits(b).to_f32())),
        DataType::Bfloat16 => floats(sizes, half_words().map(|b| bf16::from_bits(b).to_f32())),
        DataType::Int64 => integers(kind, sizes, proto.int64_data.iter().copied()),
        DataType::Uint32 | DataType::Uint64 => {
            integers(kind, sizes, proto.uint64_data.iter().copied())
        }
        _ => integers(kind, sizes, words.iter().copied()),
    }
}

/// As f32. What is not finite is looked at where it is used.
fn floats(sizes: &[usize], values: impl Iterator<Item = f32>) -> Result<Decoded> {
    Ok(Decoded::Floats(Tensor::new(sizes, values.collect())))
}

/// f64 as f32, if they are not too large for it.
fn doubles(sizes: &[usize], values: impl Iterator<Item = f64>) -> Result<Decoded> {
    let narrow = |value: f64| match value.is_finite() && value.abs() > f32::MAX.into() {
        true => Err(format!("its element {value:e} is beyond f32")),
        false => Ok(value as f32),
    };
    let values = values.map(narrow).collect::<Result<Vec<f32>>>()?;
    floats(sizes, values.into_iter())
}

fn integers<N: Copy + Display + TryInto<i64>>(
    kind: DataType,
    sizes: &[usize],
    numbers: impl Iterator<Item = N>,
) -> Result<Decoded> {
    let truth = kind == DataType::Bool;
    let numbers = numbers.map(|number| match number.try_into() {
        Ok(number) if truth => Ok(Number::Fixed(i64::from(number != 0))),
        Ok(number) => Ok(Number::Fixed(number)),
        Err(_) => Err(format!("its element {number} is too large")),
    });
    let elements = ArrayD::from_shape_vec(IxDyn(sizes), numbers.collect::<Result<_>>()?)
        .map_err(|error| error.to_string())?;
    let kind = if truth { Kind::Truth } else { Kind::Integer };
    Ok(Decoded::Known(Known {
        kind,
        ..Known::integers(elements)
    }))
}

/// What a tensor says of its elements in a file of their own.
pub(super) fn entry<'a>(proto: &'a TensorProto, key: &str) -> Option<&'a str> {
    let mut entries = proto.external_data.iter();
    let found = entries.find(|entry| entry.key() == key)?;
    Some(found.value())
}

/// The bytes of a tensor that stands in a file of its own beside the model.
fn external(proto: &TensorProto, folder: Option<&Path>, wanted: usize) -> Result<Vec<u8>> {
    let entry = |key: &str| entry(proto, key);
    let number = |key: &str| match entry(key) {
        Some(text) => text
            .parse::<u64>()
            .map(Some)
            .map_err(|_| format!("its external {key} {text:?} is not a number")),
        None => Ok(None),
    };
    let location = entry("location").ok_or("its external data has no location")?;
    let path = beside(location, folder)?;
    let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
    if length.is_some_and(|length| length != wanted as u64) {
        return Err(format!(
            "its shape takes {wanted} bytes, its external data has {}",
            length.unwrap_or(0)
        ));
    }
    let failed =
        |error: std::io::Error| format!("its data cannot be read from {}: {error}", path.display());
    // Asked before it is opened: opening a pipe waits for whoever writes to it.
    let metadata = path.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(format!("expected a file, got {}", path.display()));
    }
    let mut file = File::open(&path).map_err(failed)?;
    let available = metadata.len();
    if offset
        .checked_add(wanted as u64)
        .is_none_or(|end| end > available)
    {
        return Err(format!(
            "its data ends behind the end of {}: {wanted} bytes from {offset} of {available}",
            path.display()
        ));
    }
    file.seek(SeekFrom::Start(offset)).map_err(failed)?;
    let mut bytes = vec![0; wanted];
    file.read_exact(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// The file of that name in the model's folder or below it: neither a name nor a linked folder leads elsewhere. The file itself may be a link, as
/// those of download caches are.
pub(super) fn beside(location: &str, folder: Option<&Path>) -> Result<PathBuf> {
    let folder =
        folder.ok_or("it stands in another file, but the model does not come from a file")?;
    let outside =
        || format!("its external data {location:?} does not lie in the folder of the model");
    let relative = Path::new(location);
    let inside = relative
        .components()
        .all(|component| matches!(component, Component::Normal(_) | Component::CurDir));
    if location.is_empty() || !inside {
        return Err(outside());
    }
    let path = folder.join(relative);
    let failed =
        |error: std::io::Error| format!("its data cannot be read from {}: {error}", path.display());
    let holder = folder_of(&path).canonicalize().map_err(failed)?;
    match holder.starts_with(folder.canonicalize().map_err(failed)?) {
        true => Ok(path),
        false => Err(outside()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::onnx::proto::StringStringEntryProto;
    use crate::source::onnx::testing::float_tensor;

    fn raw(kind: DataType, sizes: &[i64], bytes: &[u8]) -> TensorProto {
        TensorProto {
            data_type: Some(kind as i32),
            dims: sizes.to_vec(),
            raw_data: Some(bytes.to_vec()),
            ..TensorProto::default()
        }
    }

    fn numbers(proto: &TensorProto) -> Vec<f64> {
        match Decoded::take(&mut proto.clone(), None).unwrap() {
            Decoded::Floats(tensor) => tensor.data().iter().map(|&value| value.into()).collect(),
            Decoded::Known(known) => {
                let numbers = known
                    .elements
                    .iter()
                    .map(|number| number.fixed().unwrap() as f64);
                numbers.collect()
            }
        }
    }

    fn problem(proto: &TensorProto, folder: Option<&Path>) -> String {
        match Decoded::take(&mut proto.clone(), folder) {
            Ok(_) => panic!("the tensor is read"),
            Err(problem) => problem,
        }
    }

    /// 1 and −2 in every type that has them, as bytes.
    #[test]
    fn every_type_is_read_from_bytes() {
        let cases: [(DataType, Vec<u8>); 8] = [
            (
                DataType::Float,
                [1.0f32, -2.0].map(f32::to_le_bytes).concat(),
            ),
            (
                DataType::Double,
                [1.0f64, -2.0].map(f64::to_le_bytes).concat(),
            ),
            (DataType::Float16, vec![0x00, 0x3c, 0x00, 0xc0]),
            (DataType::Bfloat16, vec![0x80, 0x3f, 0x00, 0xc0]),
            (DataType::Int64, [1i64, -2].map(i64::to_le_bytes).concat()),
            (DataType::Int32, [1i32, -2].map(i32::to_le_bytes).concat()),
            (DataType::Int16, [1i16, -2].map(i16::to_le_bytes).concat()),
            (DataType::Int8, vec![1, 0xfe]),
        ];
        for (kind, bytes) in cases {
            assert_eq!(numbers(&raw(kind, &[2], &bytes)), [1.0, -2.0], "{kind:?}");
        }
        let cases: [(DataType, Vec<u8>); 5] = [
            (DataType::Uint64, [1u64, 2].map(u64::to_le_bytes).concat()),
            (DataType::Uint32, [1u32, 2].map(u32::to_le_bytes).concat()),
            (DataType::Uint16, [1u16, 2].map(u16::to_le_bytes).concat()),
            (DataType::Uint8, vec![1, 2]),
            (DataType::Bool, vec![1, 2]),
        ];
        for (kind, bytes) in cases {
            let wanted = if kind == DataType::Bool {
                [1.0, 1.0]
            } else {
                [1.0, 2.0]
            };
            assert_eq!(numbers(&raw(kind, &[2], &bytes)), wanted, "{kind:?}");
        }
    }

    #[test]
    fn every_type_is_read_from_its_field() {
        let of = |kind: DataType| TensorProto {
            data_type: Some(kind as i32),
            dims: vec![2],
            ..TensorProto::default()
        };
        let words = |kind, words: [i32; 2]| TensorProto {
            int32_data: words.to_vec(),
            ..of(kind)
        };
        for proto in [
            float_tensor("", &[2], &[1.0, -2.0]),
            TensorProto {
                double_data: vec![1.0, -2.0],
                ..of(DataType::Double)
            },
            TensorProto {
                int64_data: vec![1, -2],
                ..of(DataType::Int64)
            },
            words(DataType::Int32, [1, -2]),
            words(DataType::Int8, [1, -2]),
            words(DataType::Float16, [0x3c00, 0xc000]),
            words(DataType::Bfloat16, [0x3f80, 0xc000]),
        ] {
            assert_eq!(numbers(&proto), [1.0, -2.0], "{proto:?}");
        }
        let unsigned = TensorProto {
            uint64_data: vec![1, 2],
            ..of(DataType::Uint32)
        };
        assert_eq!(numbers(&unsigned), [1.0, 2.0]);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let float = DataType::Float;
        for (proto, wanted) in [
            (raw(float, &[3], &[0; 8]), "takes 12 bytes, got 8"),
            (float_tensor("", &[3], &[0.0; 2]), "takes 3 elements, got 2"),
            (raw(float, &[-1], &[]), "[-1] makes no sense"),
            (raw(float, &[1 << 40, 1 << 40], &[]), "is too large"),
            (raw(float, &[1 << 60], &[]), "takes"),
            (raw(DataType::String, &[1], &[0]), "type STRING"),
            (raw(DataType::Float8e4m3fn, &[1], &[0]), "type FLOAT8E4M3FN"),
            (
                raw(DataType::Double, &[1], &f64::MAX.to_le_bytes()),
                "beyond f32",
            ),
            (
                TensorProto {
                    data_type: Some(99),
                    ..TensorProto::default()
                },
                "element type 99 is unknown",
            ),
        ] {
            let problem = problem(&proto, None);
            assert!(problem.contains(wanted), "{problem}");
        }
    }

    fn external(entries: &[(&str, &str)]) -> TensorProto {
        let entry = |(key, value): &(&str, &str)| StringStringEntryProto {
            key: Some(key.to_string()),
            value: Some(value.to_string()),
        };
        TensorProto {
            data_type: Some(DataType::Float as i32),
            dims: vec![2],
            data_location: Some(DataLocation::External as i32),
            external_data: entries.iter().map(entry).collect(),
            ..TensorProto::default()
        }
    }

    #[test]
    fn external_data_is_read_from_the_folder_of_the_model() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        let bytes = [0.0f32, 1.0, -2.0].map(f32::to_le_bytes).concat();
        std::fs::write(folder.path().join("sub/weights.bin"), bytes).unwrap();
        let proto = external(&[
            ("location", "sub/weights.bin"),
            ("offset", "4"),
            ("length", "8"),
        ]);
        match Decoded::take(&mut proto.clone(), Some(folder.path())).unwrap() {
            Decoded::Floats(tensor) => assert_eq!(tensor.data(), [1.0, -2.0]),
            Decoded::Known(_) => panic!("floats are no integers"),
        }
    }

    #[test]
    fn external_data_is_refused_elsewhere_and_where_it_does_not_fit() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("short.bin"), [0; 7]).unwrap();
        let inside = Some(folder.path());
        for (entries, folder, wanted) in [
            (
                vec![("location", "short.bin")],
                inside,
                "ends behind the end",
            ),
            (vec![("location", "absent.bin")], inside, "absent.bin"),
            (
                vec![
                    ("location", "short.bin"),
                    ("offset", "18446744073709551615"),
                ],
                inside,
                "ends behind the end",
            ),
            (
                vec![("location", "short.bin"), ("offset", "-1")],
                inside,
                "offset \"-1\" is not a number",
            ),
            (
                vec![("location", "short.bin"), ("length", "4")],
                inside,
                "takes 8 bytes, its external data has 4",
            ),
            (
                vec![("location", "../short.bin")],
                inside,
                "does not lie in the folder",
            ),
            (
                vec![("location", "/etc/passwd")],
                inside,
                "does not lie in the folder",
            ),
            (vec![("location", "")], inside, "does not lie in the folder"),
            (vec![], inside, "has no location"),
            (
                vec![("location", "short.bin")],
                None,
                "does not come from a file",
            ),
        ] {
            let problem = problem(&external(&entries), folder);
            assert!(problem.contains(wanted), "{problem}");
        }
    }

    /// A file of a download cache is a link to one elsewhere.
    #[cfg(unix)]
    #[test]
    fn external_data_may_be_a_link_to_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let [blobs, snapshot] = ["blobs", "snapshot"].map(|name| folder.path().join(name));
        std::fs::create_dir(&blobs).unwrap();
        std::fs::create_dir(&snapshot).unwrap();
        let bytes = [1.0f32, -2.0].map(f32::to_le_bytes).concat();
        std::fs::write(blobs.join("2222"), bytes).unwrap();
        let link = |to: &str, name: &str| {
            std::os::unix::fs::symlink(to, snapshot.join(name)).unwrap();
        };
        link("../blobs/2222", "data");
        link("../blobs", "folder");
        let proto = external(&[("location", "./data")]);
        assert!(Decoded::take(&mut proto.clone(), Some(&snapshot)).is_ok());
        let proto = external(&[("location", "folder")]);
        let problem = problem(&proto, Some(&snapshot));
        assert!(problem.contains("expected a file, got"), "{problem}");
    }

    #[cfg(unix)]
    #[test]
    fn external_data_is_refused_behind_a_linked_folder_that_leads_out() {
        let [folder, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        std::fs::write(other.path().join("weights.bin"), [0; 8]).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(other.path(), link).unwrap();
        let proto = external(&[("location", "link/weights.bin")]);
        let problem = problem(&proto, Some(folder.path()));
        assert!(problem.contains("does not lie in the folder"), "{problem}");
    }
}
