//! Encoded pictures wherever they lie, and the parts of a data set.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ebm_common::folder::{Listing, files_below};
use ebm_common::name::has_extension;

use super::Error;

/// Encoded pictures in an order that follows from their names alone. None of them is in memory.
pub(super) trait Files: fmt::Debug + Send + Sync {
    /// Number of pictures.
    fn len(&self) -> usize;

    /// Bytes of the list of them, about.
    fn bytes(&self) -> u64;

    /// What a message calls one of them.
    fn name(&self, index: usize) -> String;

    /// The encoded bytes of one.
    fn read(&self, index: usize) -> Result<Vec<u8>, Problem>;
}

/// Why a picture cannot be had.
#[derive(Debug)]
pub(super) enum Problem {
    /// It alone is damaged: what is wrong with it, to be put behind its name.
    Damage(String),
    /// What holds all of them is gone.
    Lost(Error),
}

impl Problem {
    /// A file or folder that was there when the run began cannot be opened any more.
    pub(super) fn lost(place: &Path, source: std::io::Error) -> Problem {
        Problem::Lost(Error::Lost {
            place: place.to_path_buf(),
            source,
        })
    }
}

/// Pictures that were found, and their labels where they have some.
#[derive(Debug)]
pub(super) struct Found {
    /// Where they lie, for messages.
    pub(super) place: PathBuf,
    /// The pictures.
    pub(super) files: Arc<dyn Files>,
    /// One for each, where it has one.
    pub(super) labels: Vec<Option<u32>>,
    /// Names of the classes, where they have any.
    pub(super) classes: Vec<String>,
}

/// The parts of a data set.
#[derive(Debug)]
pub(super) struct Parts<T> {
    /// What is learned from.
    pub(super) train: T,
    /// What is never learned from, where the files say so.
    pub(super) test: Option<T>,
}

impl<T> Parts<T> {
    /// The same parts of something else.
    pub(super) fn map<U>(self, change: impl Fn(T) -> Result<U, Error>) -> Result<Parts<U>, Error> {
        Ok(Parts {
            train: change(self.train)?,
            test: self.test.map(&change).transpose()?,
        })
    }
}

/// Words that say what a file is of, the part to prefer for testing first.
const TRAIN: &[&str] = &["train", "training"];
const TESTS: &[&[&str]] = &[&["val", "valid", "validation"], &["test"]];

/// Divides files by the words of their names and of the folders below `directory`: `train-00000.tar`, `data/validation-0.parquet`,
/// `val/7.tar`. Where both are there, validation files are for testing and test files for nothing; files that say nothing are for training
/// where none says that it is.
pub(super) fn by_name(directory: &Path, files: Vec<PathBuf>) -> Parts<Vec<PathBuf>> {
    let words = |file: &PathBuf| {
        let name = file.strip_prefix(directory).unwrap_or(file);
        let name = name.with_extension("").to_string_lossy().to_lowercase();
        let words = name.split(|letter: char| !letter.is_alphabetic());
        words.map(str::to_string).collect::<Vec<String>>()
    };
    let that_say = |wanted: &[&str]| -> Vec<PathBuf> {
        let says = |file: &&PathBuf| {
            words(file)
                .iter()
                .any(|word| wanted.contains(&word.as_str()))
        };
        files.iter().filter(says).cloned().collect()
    };
    let train = match that_say(TRAIN) {
        train if !train.is_empty() => train,
        _ => {
            let others = TESTS.concat();
            let others = that_say(&others);
            files
                .iter()
                .filter(|file| !others.contains(file))
                .cloned()
                .collect()
        }
    };
    let tests = TESTS.iter().map(|wanted| that_say(wanted));
    Parts {
        train,
        test: tests.into_iter().find(|files| !files.is_empty()),
    }
}

/// The folders of a data set's parts: `train` and `val` or `test` in `directory`, or `directory` itself.
pub(super) fn by_folder(directory: &Path) -> Parts<PathBuf> {
    let first = |names: &[&str]| {
        let folders = names.iter().map(|name| directory.join(name));
        folders.into_iter().find(|folder| folder.is_dir())
    };
    match first(TRAIN) {
        Some(train) => Parts {
            train,
            test: TESTS.iter().find_map(|names| first(names)),
        },
        None => Parts {
            train: directory.to_path_buf(),
            test: None,
        },
    }
}

/// All files below a folder that end in one of those ways, in the order of their paths. What else was met there is told.
pub(super) fn below(directory: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, Error> {
    let listing = listed(directory, |path| has_extension(path, extensions))?;
    for line in listing.left_out {
        eprintln!("{line}");
    }
    Ok(listing.files)
}

/// The files below a folder that are wanted, and what else was met there.
pub(super) fn listed(directory: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Listing, Error> {
    files_below(directory, |_| true, wanted).map_err(|unlisted| Error::Unreadable {
        file: unlisted.path,
        source: unlisted.source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &[&str]) -> Vec<PathBuf> {
        names
            .iter()
            .map(|name| Path::new("/d").join(name))
            .collect()
    }

    #[test]
    fn files_are_divided_by_the_words_of_their_names() {
        for (names, train, test) in [
            (&["0.tar", "1.tar"][..], &["0.tar", "1.tar"][..], &[][..]),
            (
                &["train-0.tar", "train-1.tar", "val-0.tar"],
                &["train-0.tar", "train-1.tar"],
                &["val-0.tar"],
            ),
            (
                &[
                    "data/test-0.tar",
                    "data/train-0.tar",
                    "data/validation-0.tar",
                ],
                &["data/train-0.tar"],
                &["data/validation-0.tar"],
            ),
            (
                &["imagenet_train_00.tar", "imagenet_test_00.tar"],
                &["imagenet_train_00.tar"],
                &["imagenet_test_00.tar"],
            ),
            (
                &["test/0.tar", "train/0.tar"],
                &["train/0.tar"],
                &["test/0.tar"],
            ),
            (&["testament.tar"], &["testament.tar"], &[]),
            (
                &["restrained.tar", "test.tar"],
                &["restrained.tar"],
                &["test.tar"],
            ),
            (&["test.tar"], &[], &["test.tar"]),
        ] {
            let parts = by_name(Path::new("/d"), paths(names));
            assert_eq!(parts.train, paths(train), "{names:?}");
            assert_eq!(parts.test.unwrap_or_default(), paths(test), "{names:?}");
        }
    }
}
