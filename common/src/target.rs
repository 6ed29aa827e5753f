//! Files that a command is told to write: whether they can be written, and what is there, is found out before any work.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::files::{AtomicFile, folder_of};

/// What becomes of a file that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and the command is refused.
    Kept,
    /// The new file takes its place.
    Replaced,
}

impl Existing {
    /// As `--force` says.
    pub fn of(force: bool) -> Self {
        match force {
            true => Self::Replaced,
            false => Self::Kept,
        }
    }
}

/// A file that an option names.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The option, for messages.
    pub option: &'a str,
    /// The file.
    pub path: &'a Path,
    /// What becomes of one that is there.
    pub existing: Existing,
}

/// Why a file is not written, in a sentence for people.
#[derive(Debug)]
pub struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

impl Target<'_> {
    /// Returns Ok if the file can be written, and is none of the `inputs`, which the command reads. A `folder` that the command makes need not be there.
    ///
    /// # Errors
    /// Something stands in the way.
    pub fn check(
        self,
        inputs: impl IntoIterator<Item = PathBuf>,
        folder: Option<&Path>,
    ) -> Result<(), Refusal> {
        let refused = |problem: &str| {
            Err(Refusal(format!(
                "{} `{}`{problem}",
                self.option,
                self.path.display()
            )))
        };
        if self.path == Path::new("-") {
            return refused(
                ": expected the name of a file; this is not written to standard output",
            );
        }
        if self.path.is_dir() {
            return refused(": expected the name of a file, got a folder");
        }
        let itself = resolved(self.path);
        if inputs.into_iter().any(|input| resolved(&input) == itself) {
            return refused(": this file is read by the same command; give another name");
        }
        if self.existing == Existing::Kept && is_there(self.path) {
            return refused(" exists; give --force to replace it, or another name");
        }
        let parent = folder_of(self.path);
        if folder.is_some_and(|folder| !folder.exists() && resolved(folder) == resolved(parent)) {
            return Ok(());
        }
        // Only an attempt tells. What it leaves is removed when it is dropped.
        match AtomicFile::create(self.path) {
            Ok(_) => Ok(()),
            Err(error) => refused(&format!(
                ": the file cannot be written; check that its folder is there and may be written to: {error}"
            )),
        }
    }
}

/// Whether something has this name, be it a link to nothing.
pub fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// A path without links, as far as it is there.
pub fn resolved(path: &Path) -> PathBuf {
    match (path.canonicalize(), path.file_name()) {
        (Ok(path), _) => path,
        (Err(_), Some(name)) => resolved(folder_of(path)).join(name),
        (Err(_), None) => path.to_path_buf(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths_are_the_same_however_they_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("a")).unwrap();
        std::fs::write(at("a/x"), b"").unwrap();
        for name in ["a/x", "a/../a/x", "a/./x"] {
            assert_eq!(resolved(&at(name)), resolved(&at("a/x")), "{name}");
        }
        assert_eq!(resolved(&at("a/../a/new/y")), resolved(&at("a/new/y")));
        assert_ne!(resolved(&at("a/new")), resolved(&at("a/x")));
        assert_eq!(resolved(Path::new("new")), resolved(Path::new("./new")));
    }

    #[test]
    fn what_must_not_be_written_is_refused_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("made")).unwrap();
        for name in ["input.png", "old.json"] {
            std::fs::write(at(name), b"precious").unwrap();
        }
        for (name, existing, wanted) in [
            ("new.json", Existing::Kept, None),
            ("old.json", Existing::Kept, Some("exists; give --force")),
            ("old.json", Existing::Replaced, None),
            (
                "input.png",
                Existing::Replaced,
                Some("is read by the same command"),
            ),
            ("made/../input.png", Existing::Replaced, Some("is read by")),
            ("made", Existing::Replaced, Some("got a folder")),
            ("nowhere/a", Existing::Replaced, Some("cannot be written")),
            ("out/a", Existing::Kept, None),
            ("input.png/a", Existing::Kept, Some("cannot be written")),
        ] {
            let target = Target {
                option: "--json",
                path: &at(name),
                existing,
            };
            let checked = target.check([at("input.png")], Some(&at("out")));
            match (checked, wanted) {
                (Ok(()), None) => {}
                (Err(error), Some(wanted)) => {
                    let error = error.to_string();
                    assert!(error.contains(wanted), "{name}: {error}");
                }
                (checked, _) => panic!("{name}: {checked:?}"),
            }
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
        assert_eq!(std::fs::read(at("old.json")).unwrap(), b"precious");
    }
}
