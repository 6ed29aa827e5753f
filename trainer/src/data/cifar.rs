//! CIFAR-10 and CIFAR-100 in their binary versions: per image one or two label bytes and 3,072 bytes, the planes R, G, B.

use std::fs;
use std::path::{Path, PathBuf};

use ebm_export::source::ImageShape;

use super::stored::{Split, Stored};
use super::{Error, check_labels};

const SHAPE: ImageShape = ImageShape {
    channels: 3,
    height: 32,
    width: 32,
};
const PIXELS: usize = 3072;

/// Rows of a file.
#[derive(Clone, Copy)]
struct Layout {
    n_rows: usize,
    n_label_bytes: usize,
    /// Which of the label bytes counts.
    label: usize,
    n_classes: usize,
}

impl Layout {
    fn row(self) -> usize {
        self.n_label_bytes + PIXELS
    }

    fn n_bytes(self) -> u64 {
        (self.n_rows * self.row()) as u64
    }
}

/// CIFAR-10: the six files of a folder, or of `cifar-10-batches-bin` in it.
pub(super) fn load_10(directory: &Path) -> Result<Split, Error> {
    let directory = inner(directory, "cifar-10-batches-bin");
    let layout = Layout {
        n_rows: 10_000,
        n_label_bytes: 1,
        label: 0,
        n_classes: 10,
    };
    let train: Vec<String> = (1..=5)
        .map(|number| format!("data_batch_{number}.bin"))
        .collect();
    Ok(Split {
        train: load(&directory, &train, layout)?,
        test: load(&directory, &["test_batch.bin".to_string()], layout)?,
    })
}

/// CIFAR-100: the two files of a folder, or of `cifar-100-binary` in it; with its 100 classes or the 20 that these belong to.
pub(super) fn load_100(directory: &Path, n_classes: usize) -> Result<Split, Error> {
    let directory = inner(directory, "cifar-100-binary");
    let label = match n_classes {
        20 => 0,
        100 => 1,
        _ => return Err(Error::Cifar100 { n_classes }),
    };
    let layout = |n_rows| Layout {
        n_rows,
        n_label_bytes: 2,
        label,
        n_classes,
    };
    Ok(Split {
        train: load(&directory, &["train.bin".to_string()], layout(50_000))?,
        test: load(&directory, &["test.bin".to_string()], layout(10_000))?,
    })
}

/// The folder that the published archive makes, where it is there.
fn inner(directory: &Path, name: &str) -> PathBuf {
    let inner = directory.join(name);
    match inner.is_dir() {
        true => inner,
        false => directory.to_path_buf(),
    }
}

/// All files of a part are looked at before any is read.
fn load(directory: &Path, names: &[String], layout: Layout) -> Result<Stored, Error> {
    let paths = names
        .iter()
        .map(|name| existing(directory, name, layout))
        .collect::<Result<Vec<_>, _>>()?;
    read(&paths, layout)
}

fn existing(directory: &Path, name: &str, layout: Layout) -> Result<PathBuf, Error> {
    let path = directory.join(name);
    let length = fs::metadata(&path).map_err(|_| {
        let packed = if directory.join(format!("{name}.xz")).exists() {
            " (only its .xz is there: unpack it with `xz -d`)"
        } else {
            ""
        };
        Error::Missing {
            directory: directory.to_path_buf(),
            candidates: format!("a file named {name}{packed}"),
        }
    })?;
    if length.len() == layout.n_bytes() {
        Ok(path)
    } else {
        Err(Error::Length {
            file: path,
            expected: layout.n_bytes(),
            got: length.len(),
        })
    }
}

fn read(paths: &[PathBuf], layout: Layout) -> Result<Stored, Error> {
    let n_images = paths.len() * layout.n_rows;
    let mut pixels = Vec::with_capacity(n_images * PIXELS);
    let mut labels = Vec::with_capacity(n_images);
    for path in paths {
        let bytes = fs::read(path).map_err(|source| Error::Unreadable {
            file: path.clone(),
            source,
        })?;
        if bytes.len() as u64 != layout.n_bytes() {
            return Err(Error::Length {
                file: path.clone(),
                expected: layout.n_bytes(),
                got: bytes.len() as u64,
            });
        }
        let rows = || bytes.chunks_exact(layout.row());
        let file_labels: Vec<u8> = rows().map(|row| row[layout.label]).collect();
        check_labels(path, &file_labels, layout.n_classes)?;
        labels.extend(file_labels);
        rows().for_each(|row| pixels.extend_from_slice(&row[layout.n_label_bytes..]));
    }
    Ok(Stored::new(pixels, SHAPE, &labels, u8::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::order::Pick;

    const TEN: Layout = Layout {
        n_rows: 2,
        n_label_bytes: 1,
        label: 0,
        n_classes: 10,
    };

    /// A file whose images have the value of their last label byte throughout.
    fn written(labels: &[&[u8]]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("batch.bin");
        let rows = labels.iter().map(|labels| {
            let pixels = vec![labels[labels.len() - 1]; PIXELS];
            [labels.to_vec(), pixels].concat()
        });
        fs::write(&path, rows.collect::<Vec<_>>().concat()).unwrap();
        (folder, path)
    }

    #[test]
    fn rows_become_images_and_labels() {
        let hundred = |label, n_classes| Layout {
            n_label_bytes: 2,
            label,
            n_classes,
            ..TEN
        };
        for (layout, rows, wanted) in [
            (TEN, [&[3u8][..], &[9]], [3, 9]),
            (hundred(0, 20), [&[4, 77], &[19, 99]], [4, 19]),
            (hundred(1, 100), [&[4, 77], &[19, 99]], [77, 99]),
        ] {
            let (_folder, path) = written(&rows);
            let images = read(&[path], layout).unwrap();
            assert_eq!(images.shape().channels, 3);
            let (batch, labels) = images.batch(&[Pick::centred(0), Pick::centred(1)]);
            assert_eq!(batch.size(), [2, 3, 32, 32]);
            assert_eq!(Vec::<i64>::try_from(labels).unwrap(), wanted);
            let value = f64::from(*rows[1].last().unwrap()) / 127.5 - 1.0;
            assert!((batch.get(1).double_value(&[2, 31, 31]) - value).abs() < 1e-6);
        }
    }

    #[test]
    fn a_label_above_nine_and_a_short_file_are_errors() {
        let (_folder, path) = written(&[&[3], &[10]]);
        assert!(matches!(
            read(std::slice::from_ref(&path), TEN),
            Err(Error::Label {
                row: 1,
                label: 10,
                ..
            })
        ));
        let longer = Layout { n_rows: 3, ..TEN };
        assert!(matches!(read(&[path], longer), Err(Error::Length { .. })));
    }

    #[test]
    fn cifar100_has_20_or_100_classes() {
        let error = load_100(Path::new("/nowhere"), 10).unwrap_err();
        assert!(error.to_string().contains("data.n_classes = 10"));
        let error = load_100(Path::new("/nowhere"), 20).unwrap_err();
        assert!(error.to_string().contains("train.bin"));
    }
}
