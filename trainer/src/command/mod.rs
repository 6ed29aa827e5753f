//! The commands: from what the user typed to a finished run.

mod attack;
mod bench;
mod fid;
mod learn;
mod life_cycle;
mod presets;
mod sample;

use std::path::Path;

use anyhow::{Context, Result};
use ebm_export::arch::Network;

pub use attack::attack;
pub use bench::bench;
pub use fid::fid;
pub use learn::{classifier, fit, resume};
pub use life_cycle::life_cycle;
pub use presets::presets;
pub use sample::sample;

use crate::config::{Configuration, DataConfig};
use crate::data::{self, Dataset};
use crate::saved::Saved;

/// The configuration of the run that wrote a checkpoint.
fn saved_config<C: Configuration>(saved: &Saved) -> Result<C> {
    let config: C = serde_json::from_value(saved.header.config.clone()).with_context(|| {
        format!(
            "the configuration in {} is not one of this version",
            saved.folder.display()
        )
    })?;
    config.check()?;
    Ok(config)
}

/// The configured data, checked against the images of the network.
fn load(config: &DataConfig, directory: Option<&Path>, network: &Network) -> Result<Dataset> {
    Ok(data::load(config, directory, network.image())?)
}
