//! Encoded pictures, in files of their own or inside larger ones.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use ebm_common::folder::{Listing, files_below};

use super::unreadable;

/// Encoded pictures in an order that follows from their names alone. None of them is in memory.
pub(super) trait Files: fmt::Debug + Send + Sync {
    /// Number of pictures.
    fn len(&self) -> usize;

    /// About how many bytes of memory the list of them takes.
    fn bytes(&self) -> u64;

    /// The name of one of them in messages.
    fn name(&self, index: usize) -> String;

    /// The path of one below the folder of the data. It stays the same if that folder moves.
    fn own_name(&self, index: usize) -> String;

    /// The file that contains one.
    fn file(&self, index: usize) -> PathBuf;

    /// The encoded bytes of one.
    fn read(&self, index: usize) -> Result<Vec<u8>, Problem>;
}

/// Why a picture cannot be read.
#[derive(Debug)]
pub(super) enum Problem {
    /// Only this one is damaged. The text is put behind its name.
    Damage(String),
    /// The folder or file of all of them is gone.
    Lost(anyhow::Error),
}

impl Problem {
    /// A file or folder that was there when the run began cannot be opened any more.
    pub(super) fn lost(place: &Path, source: std::io::Error) -> Problem {
        Problem::Lost(anyhow::Error::new(source).context(format!(
            "the data in {} cannot be reached any more: bring them back and go on with `trainer resume`, with --data DIR if they have moved",
            place.display()
        )))
    }
}

/// Pictures that were found, and their labels if they have any.
#[derive(Debug)]
pub(super) struct Found {
    /// Where they lie, for messages.
    pub(super) place: PathBuf,
    /// The pictures.
    pub(super) files: Arc<dyn Files>,
    /// The label of each picture, if it has one.
    pub(super) labels: Vec<Option<u32>>,
    /// Names of the classes, if they have names.
    pub(super) classes: Vec<String>,
}

/// The wanted files below a folder, in the order of their paths. What is left out is printed.
pub(super) fn below(directory: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let listing = listed(directory, wanted)?;
    for line in listing.left_out {
        note!("{line}");
    }
    Ok(listing.files)
}

/// The wanted files below a folder, and what is left out.
pub(super) fn listed(directory: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Listing> {
    files_below(directory, |_| true, wanted)
        .map_err(|unlisted| anyhow::Error::new(unlisted.source).context(unreadable(&unlisted.path)))
}
