//! Where a run takes its first weights from.

use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::check::above_zero;

/// The run whose weights learning begins with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmStart {
    /// The run. Empty: it is given with `--from`.
    #[serde(default)]
    pub checkpoint: PathBuf,
    /// σ₀: the energy of a denoiser is taken as one of temperature σ₀².
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sigma: Option<f64>,
    /// Updates that its optimiser has seen, if that goes on; the run states it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updates: Option<u64>,
}

impl WarmStart {
    pub(super) fn check(&self) -> Result<()> {
        self.sigma
            .map_or(Ok(()), |sigma| above_zero("from.sigma", sigma))
    }
}
