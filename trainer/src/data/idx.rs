//! MNIST, Fashion-MNIST and everything else in the IDX format, plain or gzip.

use std::path::Path;

use anyhow::{Context, Result, bail};
use ebm_common::contract::ImageShape;
use ebm_common::idx::Header;

use super::stored::{Split, Stored};
use super::{check_count, check_labels, check_length, find, read_unpacked};

/// The four files of a folder.
pub(super) fn load(directory: &Path, n_classes: usize) -> Result<Split> {
    Ok(Split {
        train: load_pair(directory, "train", n_classes)?,
        test: load_pair(directory, "t10k", n_classes)?,
    })
}

fn load_pair(directory: &Path, part: &str, n_classes: usize) -> Result<Stored> {
    let [images, labels] = [("images", 3), ("labels", 1)]
        .map(|(what, n_axes)| find(directory, &names(part, what, n_axes)));
    let (images, labels) = (images?, labels?);
    let ([n_images, height, width], pixels) = parse(&images, read_unpacked(&images)?, "images")?;
    let ([n_labels], numbers) = parse(&labels, read_unpacked(&labels)?, "labels")?;
    check_count((&images, n_images), (&labels, n_labels))?;
    check_labels(&labels, &numbers, n_classes)?;
    let shape = ImageShape {
        channels: 1,
        height,
        width,
    };
    Ok(Stored::new(pixels, shape, &numbers, u8::MAX))
}

fn names(part: &str, what: &str, n_axes: usize) -> Vec<String> {
    ["-idx", ".idx"]
        .iter()
        .flat_map(|separator| {
            ["", ".gz"].map(|end| format!("{part}-{what}{separator}{n_axes}-ubyte{end}"))
        })
        .collect()
}

/// Sizes of the axes, and the values of a file.
fn parse<const N: usize>(
    path: &Path,
    mut bytes: Vec<u8>,
    what: &str,
) -> Result<([usize; N], Vec<u8>)> {
    let shown = path.display();
    let header = Header::read(&mut bytes.as_slice());
    let header = header.with_context(|| {
        format!(
            "{shown} is truncated: it ends within its header, got {} bytes; fetch the file again",
            bytes.len()
        )
    })?;
    let sizes = header.and_then(
        |header| match <[usize; N]>::try_from(header.sizes.as_slice()) {
            Ok(sizes) => Ok((sizes, header)),
            Err(_) => Err(format!("a file of {} axes", header.sizes.len())),
        },
    );
    match sizes {
        Ok((sizes, header)) => {
            let expected = header.n_file_bytes().unwrap_or(u64::MAX);
            check_length(path, expected, bytes.len() as u64)?;
            Ok((sizes, bytes.split_off(header.bytes.len())))
        }
        Err(got) => bail!(
            "{shown} is not an IDX file of {what} (magic 0000080{N}): got {got}; check that --data names the right folder and that \
             data.source fits it"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(sizes: &[u32], data: &[u8]) -> Vec<u8> {
        let magic = 0x0800 + sizes.len() as u32;
        let words = std::iter::once(&magic).chain(sizes);
        words
            .flat_map(|word| word.to_be_bytes())
            .chain(data.iter().copied())
            .collect()
    }

    fn images(bytes: Vec<u8>) -> Result<([usize; 3], Vec<u8>)> {
        parse(Path::new("a"), bytes, "images")
    }

    #[test]
    fn a_file_gives_its_extents_and_bytes() {
        let parsed = images(file(&[2, 1, 2], &[1, 2, 3, 4])).unwrap();
        assert_eq!(parsed, ([2, 1, 2], vec![1, 2, 3, 4]));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let whole = file(&[2, 1, 2], &[1, 2, 3, 4]);
        for length in 0..whole.len() {
            assert!(images(whole[..length].to_vec()).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn extents_that_overflow_and_other_files_are_errors() {
        for (bytes, wanted) in [
            (file(&[u32::MAX, u32::MAX, u32::MAX], &[]), "is truncated"),
            (file(&[1], &[7]), "magic 00000803): got a file of 1 axes"),
            (b"\x89PNG".to_vec(), "got a file that begins with 89504e47"),
        ] {
            let error = images(bytes).unwrap_err().to_string();
            assert!(error.contains(wanted), "{wanted}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_behind_a_right_magic_are_read_or_refused(rest: Vec<u8>) {
            let bytes = [&[0, 0, 8, 3][..], &rest].concat();
            if let Ok((sizes, data)) = images(bytes) {
                assert_eq!(sizes.iter().product::<usize>(), data.len());
            }
        }
    }
}
