//! The classes to which images are known to belong.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::io::Read;
use std::path::Path;

use crate::arguments::LabelSource;
use crate::dataset::DataSetFormat;
use anyhow::{Context, Result, bail};
use flate2::read::GzDecoder;

use crate::inputs::{Content, Input, n_images};

/// A file of labels is no longer than this.
const MAX_BYTES: u64 = 1 << 30;

/// The labels of all images of the list, and where they come from.
#[derive(Debug, Default)]
pub struct Labels {
    of_places: HashMap<u32, usize>,
    sources: BTreeSet<String>,
    /// Of images whose files state them.
    stated: Stated,
}

/// Whether labels that stand in the files of images count.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Stated {
    #[default]
    Ignored,
    Taken,
}

impl Labels {
    /// What is known of these images before they are read.
    pub fn find(source: &LabelSource, inputs: &[Input], n_classes: usize) -> Result<Self> {
        let mut labels = Self::default();
        match source {
            LabelSource::None => {}
            LabelSource::File(path) => labels.of_file(path, inputs)?,
            LabelSource::Folders => labels.of_folders(inputs, n_classes)?,
            LabelSource::Auto => {
                labels.stated = Stated::Taken;
                labels.beside(inputs)?;
                // Pictures in other folders than those of classes have no labels.
                labels.of_folders(inputs, n_classes).unwrap_or_default();
            }
        }
        Ok(labels)
    }

    /// Takes the label that the file of an image states, if nothing else was asked for.
    pub fn state(&mut self, place: u32, label: u8) {
        if self.stated == Stated::Taken {
            self.of_places.insert(place, usize::from(label));
            self.sources.insert("the files of images".to_owned());
        }
    }

    pub fn get(&self, place: u32) -> Option<usize> {
        self.of_places.get(&place).copied()
    }

    /// Returns Ok if all labels are classes of the classifier.
    pub fn check(&self, n_classes: usize) -> Result<()> {
        match self.of_places.values().max() {
            Some(label) if *label >= n_classes => bail!(
                "labels from {self}: expected classes from 0 to {}, as the classifier has, got {label}; give --labels FILE with others, or --labels none",
                n_classes - 1
            ),
            _ => Ok(()),
        }
    }

    /// One class number for each image, in the order of the list.
    fn of_file(&mut self, path: &Path, inputs: &[Input]) -> Result<()> {
        let labels = read(path)?;
        let n_images = n_images(inputs) as usize;
        if labels.len() != n_images {
            bail!(
                "--labels `{}`: expected a label for each of {n_images} images, got {}",
                path.display(),
                labels.len()
            );
        }
        self.of_places = (0..).zip(labels).collect();
        self.sources.insert(format!("`{}`", path.display()));
        Ok(())
    }

    /// MNIST's `…labels-idx1-ubyte` beside `…images-idx3-ubyte`.
    fn beside(&mut self, inputs: &[Input]) -> Result<()> {
        for input in inputs.iter().filter(|input| input.is_data_set()) {
            let path = input.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let beside = path.with_file_name(name.replace("images-idx3", "labels-idx1"));
            if DataSetFormat::of_name(&path) == Some(DataSetFormat::Idx)
                && beside != path
                && beside.is_file()
            {
                let labels = read(&beside)?;
                if labels.len() != input.n_images() as usize {
                    bail!(
                        "`{}`: expected labels of the {} images of `{}`, got {}; give --labels FILE, or --labels none",
                        beside.display(),
                        input.n_images(),
                        path.display(),
                        labels.len()
                    );
                }
                self.of_places.extend((input.first..).zip(labels));
                self.sources.insert(format!("`{}`", beside.display()));
            }
        }
        Ok(())
    }

    /// The first folder of each picture's name, in alphabetical order.
    fn of_folders(&mut self, inputs: &[Input], n_classes: usize) -> Result<()> {
        let folder = |input: &Input| -> Option<String> {
            let mut parts = input.name.iter();
            let first = parts.next()?.to_string_lossy().into_owned();
            parts.next().map(|_| first)
        };
        let pictures = || {
            inputs
                .iter()
                .filter(|input| matches!(input.content, Content::Picture))
        };
        if let Some(outside) = pictures().find(|input| folder(input).is_none()) {
            bail!(
                "--labels folders: expected pictures in one folder for each class, got `{}` in none; give the folder above the classes",
                outside.path().display()
            );
        }
        if pictures().next().is_none() {
            bail!(
                "--labels folders: expected pictures in one folder for each class, got files of many images; give --labels FILE"
            );
        }
        let classes: BTreeSet<String> = pictures().filter_map(folder).collect();
        if classes.len() != n_classes {
            let names: Vec<_> = classes.iter().take(5).map(String::as_str).collect();
            bail!(
                "--labels folders: expected {n_classes} folders, one for each class of the classifier, got {}: {}…",
                classes.len(),
                names.join(", ")
            );
        }
        let numbers: HashMap<&String, usize> = classes.iter().zip(0..).collect();
        for input in pictures() {
            if let Some(number) = folder(input).and_then(|name| numbers.get(&name).copied()) {
                self.of_places.insert(input.first, number);
            }
        }
        let (first, last) = (classes.first(), classes.last());
        if let (Some(first), Some(last)) = (first, last) {
            let last_number = n_classes - 1;
            self.sources.insert(format!(
                "the names of folders, 0 is `{first}` and {last_number} `{last}`"
            ));
        }
        Ok(())
    }
}

/// Where the labels come from; empty if there are none.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources: Vec<_> = self.sources.iter().map(String::as_str).collect();
        f.write_str(&sources.join("; "))
    }
}

/// The labels of an IDX file, plain or gzip, or the numbers of a text.
fn read(path: &Path) -> Result<Vec<usize>> {
    let unreadable = || format!("`{}`: the labels cannot be read", path.display());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).with_context(unreadable)?;
    file.take(MAX_BYTES)
        .read_to_end(&mut bytes)
        .with_context(unreadable)?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::new();
        GzDecoder::new(&bytes[..])
            .take(MAX_BYTES)
            .read_to_end(&mut plain)
            .with_context(unreadable)?;
        bytes = plain;
    }
    let labels = match bytes.as_slice() {
        [0, 0, 8, 1, a, b, c, d, labels @ ..] => {
            let n = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            (labels.len() == n).then(|| labels.iter().map(|&label| usize::from(label)).collect())
        }
        text => std::str::from_utf8(text).ok().and_then(numbers),
    };
    labels.with_context(|| {
        format!(
            "`{}`: expected a whole IDX file of labels, or a text with the number of one class from 0 in each line; \
             numpy.savetxt(FILE, labels, fmt=\"%d\") writes one",
            path.display()
        )
    })
}

fn numbers(text: &str) -> Option<Vec<usize>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| line.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::dataset::FloatRange;
    use crate::inputs::Reading;
    use ebm_runtime::{ImageShape, PictureFit};

    const READING: fn() -> Reading = || Reading {
        shape: ImageShape {
            channels: 1,
            height: 2,
            width: 3,
        },
        padding: 0,
        range: FloatRange::default(),
        fit: PictureFit::default(),
    };

    fn inputs(names: &[&str]) -> Vec<Input> {
        let input = |(first, name): (u32, &&str)| {
            let mut input = Input::alone(Path::new(name), Vec::new(), READING());
            input.first = first;
            input
        };
        (0..).zip(names).map(input).collect()
    }

    #[test]
    fn folders_are_classes_in_alphabetical_order() {
        let inputs = inputs(&["dog/a.png", "cat/a.png", "dog/deep/b.png"]);
        let labels = Labels::find(&LabelSource::Folders, &inputs, 2).unwrap();
        assert_eq!(
            [0, 1, 2].map(|place| labels.get(place)),
            [Some(1), Some(0), Some(1)]
        );
        assert_eq!(
            labels.to_string(),
            "the names of folders, 0 is `cat` and 1 `dog`"
        );
        for (names, n_classes, part) in [
            (
                ["dog/a.png", "cat/a.png"],
                3,
                "expected 3 folders, one for each class of the classifier, got 2: cat, dog…",
            ),
            (["dog/a.png", "a.png"], 1, "got `a.png` in none"),
        ] {
            let inputs = self::inputs(&names);
            let error = Labels::find(&LabelSource::Folders, &inputs, n_classes).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
            let auto = Labels::find(&LabelSource::Auto, &inputs, n_classes).unwrap();
            assert_eq!((auto.get(0), auto.to_string()), (None, String::new()));
        }
    }

    #[test]
    fn files_of_labels_are_read_whole_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels");
        let idx = [0, 0, 8, 1, 0, 0, 0, 3, 2, 0, 1];
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gz, &idx).unwrap();
        let gz = gz.finish().unwrap();
        for bytes in [&idx[..], &gz, b"2\n0\n1\n", b"2\r\n 0\r\n\r\n1"] {
            std::fs::write(&path, bytes).unwrap();
            let inputs = inputs(&["a.png", "b.png", "c.png"]);
            let labels = Labels::find(&LabelSource::File(path.clone()), &inputs, 3).unwrap();
            assert_eq!(
                [0, 1, 2].map(|place| labels.get(place)),
                [Some(2), Some(0), Some(1)]
            );
            labels.check(3).unwrap();
            assert!(
                labels
                    .check(2)
                    .unwrap_err()
                    .to_string()
                    .contains("from 0 to 1, as the classifier has, got 2")
            );
            let error =
                Labels::find(&LabelSource::File(path.clone()), &inputs[1..], 3).unwrap_err();
            assert!(
                error
                    .to_string()
                    .contains("expected a label for each of 2 images, got 3"),
                "{error}"
            );
        }
        for bytes in [
            &idx[..10],
            &gz[..12],
            b"0\none\n",
            b"0,1\n",
            b"-1\n",
            b"1.0\n",
            b"\xff\xfe",
        ] {
            std::fs::write(&path, bytes).unwrap();
            let error = read(&path).unwrap_err();
            assert!(error.to_string().contains("labels"), "{error}");
        }
    }
}
