//! MNIST, Fashion-MNIST and everything else in the IDX format, plain or gzip.

use std::path::Path;

use ebm_export::source::ImageShape;

use super::stored::{Split, Stored};
use super::{Error, check_labels, find, read_unpacked};

/// First four bytes of a file of byte images: two zeros, unsigned byte, three axes.
const IMAGES_MAGIC: u32 = 0x0000_0803;
/// First four bytes of a file of byte labels: two zeros, unsigned byte, one axis.
const LABELS_MAGIC: u32 = 0x0000_0801;

/// The four files of a folder.
pub(super) fn load(directory: &Path, n_classes: usize) -> Result<Split, Error> {
    Ok(Split {
        train: load_pair(directory, "train", n_classes)?,
        test: load_pair(directory, "t10k", n_classes)?,
    })
}

fn load_pair(directory: &Path, part: &str, n_classes: usize) -> Result<Stored, Error> {
    let images_path = find(directory, &names(part, "images", 3))?;
    let labels_path = find(directory, &names(part, "labels", 1))?;
    let (sizes, pixels) = read(&images_path, IMAGES_MAGIC, 3)?;
    let (_, labels) = read(&labels_path, LABELS_MAGIC, 1)?;
    if sizes[0] != labels.len() {
        return Err(Error::Count {
            images: images_path,
            n_images: sizes[0],
            labels: labels_path,
            n_labels: labels.len(),
        });
    }
    check_labels(&labels_path, &labels, n_classes)?;
    let shape = ImageShape {
        channels: 1,
        height: sizes[1],
        width: sizes[2],
    };
    Ok(Stored::new(pixels, shape, &labels, u8::MAX))
}

fn names(part: &str, what: &str, axes: usize) -> Vec<String> {
    ["-idx", ".idx"]
        .iter()
        .flat_map(|separator| {
            ["", ".gz"].map(|end| format!("{part}-{what}{separator}{axes}-ubyte{end}"))
        })
        .collect()
}

/// Extents and bytes of one file.
fn read(path: &Path, magic: u32, axes: usize) -> Result<(Vec<usize>, Vec<u8>), Error> {
    let bytes = read_unpacked(path)?;
    parse(path, bytes, magic, axes)
}

fn parse(
    path: &Path,
    mut bytes: Vec<u8>,
    magic: u32,
    axes: usize,
) -> Result<(Vec<usize>, Vec<u8>), Error> {
    let word = |index: usize| {
        let bytes = bytes.get(4 * index..4 * index + 4)?;
        Some(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    };
    if word(0) != Some(magic) {
        return Err(Error::Foreign {
            file: path.to_path_buf(),
            expected: if axes == 3 {
                "an IDX file of images (magic 00000803)"
            } else {
                "an IDX file of labels (magic 00000801)"
            },
            got: word(0).map_or_else(
                || format!("{} bytes in all", bytes.len()),
                |word| format!("a file that begins with {word:08x}"),
            ),
        });
    }
    let header = 4 * (axes + 1);
    let length_error = |expected: u64| Error::Length {
        file: path.to_path_buf(),
        expected,
        got: bytes.len() as u64,
    };
    let sizes: Vec<usize> = (1..=axes)
        .map_while(word)
        .map(|size| size as usize)
        .collect();
    if sizes.len() != axes {
        return Err(length_error(header as u64));
    }
    let expected = sizes
        .iter()
        .fold(1u64, |product, &size| product.saturating_mul(size as u64))
        .saturating_add(header as u64);
    if expected != bytes.len() as u64 {
        return Err(length_error(expected));
    }
    Ok((sizes, bytes.split_off(header)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(magic: u32, sizes: &[u32], data: &[u8]) -> Vec<u8> {
        let words = std::iter::once(&magic).chain(sizes);
        words
            .flat_map(|word| word.to_be_bytes())
            .chain(data.iter().copied())
            .collect()
    }

    #[test]
    fn a_file_gives_its_extents_and_bytes() {
        let bytes = file(IMAGES_MAGIC, &[2, 1, 2], &[1, 2, 3, 4]);
        let (sizes, data) = parse(Path::new("a"), bytes, IMAGES_MAGIC, 3).unwrap();
        assert_eq!((sizes, data), (vec![2, 1, 2], vec![1, 2, 3, 4]));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let whole = file(IMAGES_MAGIC, &[2, 1, 2], &[1, 2, 3, 4]);
        for length in 0..whole.len() {
            assert!(
                parse(Path::new("a"), whole[..length].to_vec(), IMAGES_MAGIC, 3).is_err(),
                "{length} bytes"
            );
        }
    }

    #[test]
    fn extents_that_overflow_are_an_error() {
        let bytes = file(IMAGES_MAGIC, &[u32::MAX, u32::MAX, u32::MAX], &[]);
        assert!(matches!(
            parse(Path::new("a"), bytes, IMAGES_MAGIC, 3),
            Err(Error::Length { .. })
        ));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_behind_a_right_magic_are_read_or_refused(rest: Vec<u8>) {
            let bytes = [IMAGES_MAGIC.to_be_bytes().to_vec(), rest].concat();
            if let Ok((sizes, data)) = parse(Path::new("a"), bytes, IMAGES_MAGIC, 3) {
                assert_eq!(sizes.iter().product::<usize>(), data.len());
            }
        }
    }
}
