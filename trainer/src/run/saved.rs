//! Checkpoints of earlier runs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ebm_export::graph::tensor::Tensors;
use ebm_export::graph::weights::check_weights;
use ebm_export::source::Kind;
use ebm_export::source::checkpoint::{self, Header};

use crate::data::Fingerprint;
use crate::run::state::State;

/// A checkpoint and what its header says.
#[derive(Clone, Debug)]
pub struct Saved {
    /// The checkpoint folder.
    pub folder: PathBuf,
    /// Its header.
    pub header: Header,
}

impl Saved {
    /// The checkpoint that `path` means: itself, or the latest of a run folder.
    pub fn open(path: &Path) -> Result<Saved> {
        let folder = checkpoint::resolve(path)?;
        let header = checkpoint::read_header(&folder)?;
        Ok(Saved { folder, header })
    }

    /// As [`Saved::open`], of that kind; if it is of another, the error names `option`.
    pub fn open_kind(path: &Path, kind: Kind, option: &str) -> Result<Saved> {
        let saved = Saved::open(path).with_context(|| format!("{option} {}", path.display()))?;
        if saved.header.kind != kind {
            bail!(
                "{option} {}: expected a checkpoint of kind {kind:?}, got {:?}",
                path.display(),
                saved.header.kind
            );
        }
        Ok(saved)
    }

    /// What a session goes on with.
    ///
    /// # Errors
    /// No run of `trainer` wrote it.
    pub fn state(&self) -> Result<State> {
        serde_json::from_value(self.header.state.clone()).with_context(|| {
            format!(
                "{} was not written by a run of this version of `trainer`",
                self.folder.display()
            )
        })
    }

    /// Where the data of the run lie: where the user says, else where it had them.
    pub fn data_directory(&self, given: Option<&Path>) -> Option<PathBuf> {
        let own = || self.state().ok()?.data_directory;
        given.map(Path::to_path_buf).or_else(own)
    }

    /// Warns if data are not those that the run has learned from.
    pub fn compare_data(&self, now: Option<&Fingerprint>) {
        let then = self.state().ok().and_then(|state| state.data);
        let (Some(now), Some(then)) = (now, then) else {
            return;
        };
        let changes = now.changes_since(&then);
        if !changes.is_empty() {
            warning!(
                "the data are not those that {} was learned from: {}",
                self.folder.display(),
                changes.join("; ")
            );
        }
    }

    /// One group of tensors.
    pub fn group(&self, name: &str) -> Result<Tensors> {
        Ok(checkpoint::read_group(&self.folder, &self.header, name)?)
    }

    /// The weights to use: the moving average if there is one. They are those of the network, and finite.
    ///
    /// # Errors
    /// They are missing, damaged, of another network or not finite.
    pub fn weights(&self) -> Result<Tensors> {
        let weights = checkpoint::read_best_weights(&self.folder, &self.header)?;
        check_weights(&self.header.network.graph()?, &weights)
            .with_context(|| format!("the weights in {} are of no use", self.folder.display()))?;
        Ok(weights)
    }
}
