//! What a checkpoint says of its run.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::data::Fingerprint;
use crate::run::guard::History;
use crate::run::record::Window;

/// What a checkpoint keeps beside tensors and configuration.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// Where the data lie, if the source needs a folder.
    pub data_directory: Option<PathBuf>,
    /// What they are, unless a generator makes them or an older version began the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Fingerprint>,
    /// Means since the last log point.
    pub window: Window,
    /// Mean magnitudes since the last checkpoint that was due.
    pub since_checkpoint: Window,
    /// What the guard has seen.
    #[serde(rename = "watch")]
    pub history: History,
    /// How good the network of this checkpoint is, if that can be said.
    pub merit: Option<f64>,
    /// Whether the user stopped the run at this checkpoint, which was not due.
    #[serde(default)]
    pub interrupted: bool,
}
