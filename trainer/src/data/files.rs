//! Encoded pictures wherever they lie.

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

    /// The name of one below the folder of the data, which tells it from the others wherever that folder lies.
    fn own_name(&self, index: usize) -> String;

    /// The file that one lies in.
    fn file(&self, index: usize) -> PathBuf;

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

/// All files below a folder that end in one of those ways, in the order of their paths. What else was met there is told.
pub(super) fn below(directory: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, Error> {
    let listing = listed(directory, |path| has_extension(path, extensions))?;
    for line in listing.left_out {
        note!("{line}");
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
