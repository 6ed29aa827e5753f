//! Pictures in a folder, or in one folder per class.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use ebm_common::folder::folders_in;
use ebm_common::{PictureFormat, picture};

use super::files::{Files, Found, Problem, below};
use super::parts::{Parts, by_folder};
use super::{missing, unreadable};

/// Pictures, each in a file of its own.
#[derive(Debug)]
struct Folder {
    directory: PathBuf,
    /// Below the folder.
    paths: Vec<Box<Path>>,
}

impl Files for Folder {
    fn len(&self) -> usize {
        self.paths.len()
    }

    fn bytes(&self) -> u64 {
        let paths = self.paths.iter();
        paths
            .map(|path| size_of_val(path) + path.as_os_str().len())
            .sum::<usize>() as u64
    }

    fn name(&self, index: usize) -> String {
        self.file(index).display().to_string()
    }

    fn own_name(&self, index: usize) -> String {
        self.paths[index].display().to_string()
    }

    fn file(&self, index: usize) -> PathBuf {
        self.directory.join(&self.paths[index])
    }

    fn read(&self, index: usize) -> Result<Vec<u8>, Problem> {
        picture::read(&self.file(index)).map_err(|fault| match fs::read_dir(&self.directory) {
            Ok(_) => Problem::Damage(fault.to_string()),
            Err(source) => Problem::lost(&self.directory, source),
        })
    }
}

/// The pictures in `train` and in `val` or `test`, or all of a folder. Folders in it are classes in the order of their names.
pub(super) fn open(directory: &Path) -> Result<Parts<Found>> {
    let pictures = pictures_below(directory)?;
    let folders = by_folder(directory, &pictures)?;
    let names = classes(&folders.train)?;
    folders.map(|folder| part(folder, &names, &pictures))
}

/// The folders in a folder.
fn classes(directory: &Path) -> Result<Vec<String>> {
    let names = folders_in(directory).with_context(|| unreadable(directory))?;
    let names = names.iter().map(|name| name.to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    // Names that are not valid text may sort differently after they are converted.
    names.sort();
    Ok(names)
}

/// All pictures below a folder, in the order of their paths.
pub(super) fn pictures_below(directory: &Path) -> Result<Vec<PathBuf>> {
    below(directory, |path| PictureFormat::of_name(path).is_some())
}

/// The pictures of one part, with the labels of its classes.
fn part(directory: PathBuf, classes: &[String], pictures: &[PathBuf]) -> Result<Found> {
    let (mut paths, mut labels) = (Vec::new(), Vec::new());
    let own = pictures
        .iter()
        .filter_map(|path| path.strip_prefix(&directory).ok());
    for path in own {
        labels.push(label(&directory, path, classes)?);
        paths.push(path.into());
    }
    if paths.is_empty() {
        return Err(no_pictures(&directory));
    }
    let n_labels = labels.iter().flatten().count();
    if n_labels > 0 && n_labels < paths.len() {
        bail!(
            "{} holds pictures beside folders with pictures: expected either pictures, or one folder for each class; \
             move the pictures into one",
            directory.display()
        );
    }
    Ok(Found {
        place: directory.clone(),
        files: Arc::new(Folder { directory, paths }),
        classes: if n_labels > 0 {
            classes.to_vec()
        } else {
            Vec::new()
        },
        labels,
    })
}

/// Pictures of a folder, without labels.
pub(super) fn unlabelled(directory: &Path, pictures: &[&Path]) -> Found {
    let below = |path: &&Path| path.strip_prefix(directory).unwrap_or(path).into();
    Found {
        place: directory.to_path_buf(),
        files: Arc::new(Folder {
            directory: directory.to_path_buf(),
            paths: pictures.iter().map(below).collect(),
        }),
        labels: vec![None; pictures.len()],
        classes: Vec::new(),
    }
}

/// The error of a folder without pictures.
pub(super) fn no_pictures(directory: &Path) -> anyhow::Error {
    let patterns = PictureFormat::patterns();
    let expected = format!("{patterns}, or folders of classes with such files");
    missing(directory, &expected)
}

/// The number of the class whose folder a path begins with.
fn label(directory: &Path, path: &Path, classes: &[String]) -> Result<Option<u32>> {
    let mut folders = path.parent().into_iter().flat_map(Path::components);
    let Some(class) = folders.next() else {
        return Ok(None);
    };
    let class = class.as_os_str().to_string_lossy();
    let number = classes.binary_search_by(|known| known.as_str().cmp(&class));
    let number = number.map_err(|_| {
        anyhow!(
            "{} holds a folder {class:?} that is none of the classes for training: expected folders of the same names",
            directory.display()
        )
    })?;
    Ok(Some(number as u32))
}

#[cfg(test)]
mod tests {
    use image::ImageFormat;

    use super::*;
    use crate::data::form::tests::{encoded, plain};

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, encoded(plain(2, 2, [1, 2, 3]), ImageFormat::Png)).unwrap();
        }
        folder
    }

    /// Names below `directory`, and labels.
    fn listed(found: &Found, directory: &Path) -> (Vec<String>, Option<Vec<u32>>) {
        let labels = found.labels.iter().copied().collect();
        let prefix = format!("{}/", directory.display());
        let names =
            (0..found.files.len()).map(|index| found.files.name(index).replace(&prefix, ""));
        (names.collect(), labels)
    }

    #[test]
    fn pictures_are_listed_by_name_and_folders_are_classes() {
        type Listed<'a> = (&'a [&'a str], Option<&'a [u32]>);
        let cases: [(&[&str], Listed<'_>, Option<Listed<'_>>); 4] = [
            (
                &["b.jpg", "a.png", "notes.txt"],
                (&["a.png", "b.jpg"], None),
                None,
            ),
            (
                &["dog/1.png", "cat/2.webp", "cat/deep/1.png"],
                (
                    &["cat/2.webp", "cat/deep/1.png", "dog/1.png"],
                    Some(&[0, 0, 1]),
                ),
                None,
            ),
            (
                &[
                    "train/dog/1.png",
                    "train/cat/1.png",
                    "val/dog/1.png",
                    "test/dog/2.png",
                ],
                (&["train/cat/1.png", "train/dog/1.png"], Some(&[0, 1])),
                Some((&["val/dog/1.png"], Some(&[1]))),
            ),
            (
                &["Training/1.png", "TEST/2.png", "3.png", "labels/1.txt"],
                (&["Training/1.png"], None),
                Some((&["TEST/2.png"], None)),
            ),
        ];
        for (names, train, test) in cases {
            let folder = folder(names);
            let parts = open(folder.path()).unwrap();
            let owned = |(names, labels): Listed<'_>| {
                let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
                (names, labels.map(<[u32]>::to_vec))
            };
            assert_eq!(
                listed(&parts.train, folder.path()),
                owned(train),
                "{names:?}"
            );
            let found = parts.test.map(|found| listed(&found, folder.path()));
            assert_eq!(found, test.map(owned), "{names:?}");
        }
    }

    #[test]
    fn folders_without_a_clear_meaning_are_refused() {
        for (names, wanted) in [
            (&["notes.txt"][..], "no data in"),
            (&["1.png", "cat/1.png"], "beside folders"),
            (&["train/cat/1.png", "val/dog/1.png"], "\"dog\""),
            (&["train/cat/1.png", "val/notes.txt"], "no data in"),
            (
                &["train/cat/1.png", "cat/1.png"],
                "\"train\" beside \"cat\"",
            ),
        ] {
            let folder = folder(names);
            let error = open(folder.path()).unwrap_err().to_string();
            assert!(error.contains(wanted), "{names:?}: {error}");
        }
        let error = open(Path::new("/nowhere")).unwrap_err().to_string();
        assert!(error.contains("cannot read /nowhere"), "{error}");
    }

    #[test]
    fn a_missing_picture_is_damage_and_a_missing_folder_the_end() {
        let folder = folder(&["cat/1.png", "cat/2.png"]);
        let found = open(folder.path()).unwrap().train;
        fs::remove_file(folder.path().join("cat/1.png")).unwrap();
        assert!(
            matches!(found.files.read(0), Err(Problem::Damage(reason)) if reason.contains("cannot be read"))
        );
        assert!(found.files.read(1).is_ok());
        fs::remove_dir_all(folder.path()).unwrap();
        assert!(matches!(found.files.read(1), Err(Problem::Lost(_))));
    }
}
