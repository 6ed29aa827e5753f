//! CIFAR-10 and CIFAR-100 in their binary versions.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use ebm_common::cifar::{Cifar, SHAPE};

use super::stored::{Split, Stored};
use super::{check_labels, check_length, missing, read};

/// Files of one data set that all have the same length.
#[derive(Clone, Copy)]
struct Layout {
    set: Cifar,
    /// The place of the label that is learned.
    label: usize,
    n_rows: usize,
}

impl Layout {
    fn n_bytes(self) -> u64 {
        (self.n_rows * self.set.n_record_bytes()) as u64
    }
}

/// CIFAR-10: the six files of a folder, or of `cifar-10-batches-bin` in it.
pub(super) fn load_10(directory: &Path) -> Result<Split> {
    let directory = inner(directory, "cifar-10-batches-bin");
    let layout = Layout {
        set: Cifar::Ten,
        label: 0,
        n_rows: 10_000,
    };
    let train = [1, 2, 3, 4, 5].map(|number| format!("data_batch_{number}.bin"));
    Ok(Split {
        train: load(&directory, &train, layout)?,
        test: load(&directory, &["test_batch.bin".to_string()], layout)?,
    })
}

/// CIFAR-100: the two files of a folder, or of `cifar-100-binary` in it; with its 100 classes or the 20 that these belong to.
pub(super) fn load_100(directory: &Path, n_classes: usize) -> Result<Split> {
    let directory = inner(directory, "cifar-100-binary");
    let label = match n_classes {
        20 => 0,
        100 => 1,
        _ => bail!(
            "data.n_classes = {n_classes}: CIFAR-100 has 100 classes, or 20 that these belong to: set one of the two"
        ),
    };
    let layout = |n_rows| Layout {
        set: Cifar::Hundred,
        label,
        n_rows,
    };
    Ok(Split {
        train: load(&directory, &["train.bin".to_string()], layout(50_000))?,
        test: load(&directory, &["test.bin".to_string()], layout(10_000))?,
    })
}

/// The folder that the published archive makes, if it is there.
fn inner(directory: &Path, name: &str) -> PathBuf {
    let inner = directory.join(name);
    match inner.is_dir() {
        true => inner,
        false => directory.to_path_buf(),
    }
}

/// All files of a part are looked at before any is read.
fn load(directory: &Path, names: &[String], layout: Layout) -> Result<Stored> {
    let paths = names
        .iter()
        .map(|name| existing(directory, name, layout))
        .collect::<Result<Vec<_>>>()?;
    read_rows(&paths, layout)
}

fn existing(directory: &Path, name: &str, layout: Layout) -> Result<PathBuf> {
    let path = directory.join(name);
    let Ok(metadata) = fs::metadata(&path) else {
        let packed = match directory.join(format!("{name}.xz")).exists() {
            true => " (only its .xz is there: unpack it with `xz -d`)",
            false => "",
        };
        return Err(missing(directory, &format!("a file named {name}{packed}")));
    };
    check_length(&path, layout.n_bytes(), metadata.len())?;
    Ok(path)
}

fn read_rows(paths: &[PathBuf], layout: Layout) -> Result<Stored> {
    let n_classes = layout.set.n_classes();
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for path in paths {
        let bytes = read(path)?;
        check_length(path, layout.n_bytes(), bytes.len() as u64)?;
        let rows = bytes.chunks_exact(layout.set.n_record_bytes());
        let own: Vec<u8> = rows.clone().map(|row| row[layout.label]).collect();
        check_labels(path, &own, n_classes[layout.label].into())?;
        labels.extend(own);
        rows.for_each(|row| pixels.extend_from_slice(&row[n_classes.len()..]));
    }
    Ok(Stored::new(pixels, SHAPE, &labels, u8::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::order::Pick;

    const TEN: Layout = Layout {
        set: Cifar::Ten,
        label: 0,
        n_rows: 2,
    };

    /// A file whose images have the value of their last label byte throughout.
    fn written(labels: &[&[u8]]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("batch.bin");
        let rows = labels.iter().map(|labels| {
            let pixels = vec![labels[labels.len() - 1]; SHAPE.n_values()];
            [labels.to_vec(), pixels].concat()
        });
        fs::write(&path, rows.collect::<Vec<_>>().concat()).unwrap();
        (folder, path)
    }

    #[test]
    fn rows_become_images_and_labels() {
        let hundred = |label| Layout {
            set: Cifar::Hundred,
            label,
            ..TEN
        };
        for (layout, rows, wanted) in [
            (TEN, [&[3u8][..], &[9]], [3, 9]),
            (hundred(0), [&[4, 77], &[19, 99]], [4, 19]),
            (hundred(1), [&[4, 77], &[19, 99]], [77, 99]),
        ] {
            let (_folder, path) = written(&rows);
            let images = read_rows(&[path], layout).unwrap();
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
        for (layout, wanted) in [
            (TEN, "the label of image 1 is 10"),
            (Layout { n_rows: 3, ..TEN }, "is truncated"),
        ] {
            let error = read_rows(std::slice::from_ref(&path), layout).unwrap_err();
            assert!(error.to_string().contains(wanted), "{error}");
        }
    }

    #[test]
    fn cifar100_has_20_or_100_classes() {
        let error = load_100(Path::new("/nowhere"), 10).unwrap_err();
        assert!(error.to_string().contains("data.n_classes = 10"));
        let error = load_100(Path::new("/nowhere"), 20).unwrap_err();
        assert!(error.to_string().contains("train.bin"));
    }
}
