//! Files that a command is told to write: whether they can be written, and what is there, is found out before any work.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ebm_common::files::AtomicFile;

/// What becomes of a file that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    Kept,
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
    pub option: &'a str,
    pub path: &'a Path,
    pub existing: Existing,
}

impl Target<'_> {
    /// Returns Ok if the file can be written, and is none of those that the command reads. A `folder` that the command makes need not be there.
    pub fn check(
        self,
        inputs: impl IntoIterator<Item = PathBuf>,
        folder: Option<&Path>,
    ) -> Result<()> {
        let (option, shown) = (self.option, self.path.display());
        if self.path == Path::new("-") {
            bail!(
                "{option} -: expected the name of a file; this is not written to standard output"
            );
        }
        if self.path.is_dir() {
            bail!("{option} `{shown}`: expected the name of a file, got a folder");
        }
        let itself = resolved(self.path);
        if inputs.into_iter().any(|input| resolved(&input) == itself) {
            bail!("{option} `{shown}`: this file is read by the same command; give another name");
        }
        if self.existing == Existing::Kept && is_there(self.path) {
            bail!("`{shown}` exists; give --force to replace it, or another name with {option}");
        }
        let parent = parent(self.path);
        if folder.is_some_and(|folder| !folder.exists() && resolved(folder) == resolved(parent)) {
            return Ok(());
        }
        // Only an attempt tells. What it leaves is removed when it is dropped.
        let attempt = AtomicFile::create(self.path);
        attempt.map(drop).with_context(|| {
            format!("{option} `{shown}`: the file cannot be written; check that its folder is there and may be written to")
        })
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
        (Err(_), Some(name)) => resolved(parent(path)).join(name),
        (Err(_), None) => path.to_path_buf(),
    }
}

/// The folder of a path.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
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
                    let error = format!("{error:#}");
                    assert!(error.contains(wanted), "{name}: {error}");
                }
                (checked, _) => panic!("{name}: {checked:?}"),
            }
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
        assert_eq!(std::fs::read(at("old.json")).unwrap(), b"precious");
    }
}
