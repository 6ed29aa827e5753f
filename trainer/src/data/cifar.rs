//! CIFAR-10 in its binary version: per image one label byte and 3,072 bytes, the planes R, G, B.

use std::fs;
use std::path::{Path, PathBuf};

use ebm_export::contract::ImageShape;

use super::{Dataset, Error, Images, check_labels};

const SHAPE: ImageShape = ImageShape {
    channels: 3,
    height: 32,
    width: 32,
};
const PIXELS: usize = 3072;
const ROW: usize = PIXELS + 1;
const ROWS: usize = 10_000;
const N_CLASSES: usize = 10;

/// The six files of a folder, or of `cifar-10-batches-bin` in it.
pub(super) fn load(directory: &Path) -> Result<Dataset, Error> {
    let inner = directory.join("cifar-10-batches-bin");
    let directory = if inner.is_dir() {
        inner
    } else {
        directory.to_path_buf()
    };
    let train: Vec<String> = (1..=5)
        .map(|number| format!("data_batch_{number}.bin"))
        .collect();
    let test = ["test_batch.bin".to_string()];
    let paths = |names: &[String]| {
        names
            .iter()
            .map(|name| existing(&directory, name))
            .collect::<Result<Vec<_>, _>>()
    };
    let (train, test) = (paths(&train)?, paths(&test)?);
    Ok(Dataset {
        train: read(&train, ROWS)?,
        test: read(&test, ROWS)?,
        n_classes: N_CLASSES,
    })
}

fn existing(directory: &Path, name: &str) -> Result<PathBuf, Error> {
    let path = directory.join(name);
    let length = fs::metadata(&path).map_err(|_| {
        let packed = if directory.join(format!("{name}.xz")).exists() {
            " (only its .xz is there: unpack it with `xz -d`)"
        } else {
            ""
        };
        Error::Missing {
            directory: directory.to_path_buf(),
            candidates: format!("{name}{packed}"),
        }
    })?;
    let expected = (ROWS * ROW) as u64;
    if length.len() == expected {
        Ok(path)
    } else {
        Err(Error::Length {
            file: path,
            expected,
            got: length.len(),
        })
    }
}

fn read(paths: &[PathBuf], rows: usize) -> Result<Images, Error> {
    let mut pixels = Vec::with_capacity(paths.len() * rows * PIXELS);
    let mut labels = Vec::with_capacity(paths.len() * rows);
    for path in paths {
        let bytes = fs::read(path).map_err(|source| Error::Unreadable {
            file: path.clone(),
            source,
        })?;
        if bytes.len() != rows * ROW {
            return Err(Error::Length {
                file: path.clone(),
                expected: (rows * ROW) as u64,
                got: bytes.len() as u64,
            });
        }
        let file_labels: Vec<u8> = bytes.chunks_exact(ROW).map(|row| row[0]).collect();
        check_labels(path, &file_labels, N_CLASSES)?;
        labels.extend(file_labels);
        bytes
            .chunks_exact(ROW)
            .for_each(|row| pixels.extend_from_slice(&row[1..]));
    }
    Ok(Images::new(pixels, SHAPE, &labels, u8::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(labels: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("batch.bin");
        let bytes: Vec<u8> = labels
            .iter()
            .flat_map(|&label| std::iter::once(label).chain(vec![label; PIXELS]))
            .collect();
        fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    #[test]
    fn rows_become_images_and_labels() {
        let (_folder, path) = written(&[3, 9]);
        let images = read(&[path], 2).unwrap();
        assert_eq!(images.shape().channels, 3);
        let (batch, labels) = images.first(2);
        assert_eq!(batch.size(), [2, 3, 32, 32]);
        assert_eq!(labels.int64_value(&[1]), 9);
    }

    #[test]
    fn a_label_above_nine_and_a_short_file_are_errors() {
        let (_folder, path) = written(&[3, 10]);
        assert!(matches!(
            read(std::slice::from_ref(&path), 2),
            Err(Error::Label {
                row: 1,
                label: 10,
                ..
            })
        ));
        assert!(matches!(read(&[path], 3), Err(Error::Length { .. })));
    }
}
