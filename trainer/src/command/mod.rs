//! The commands: from what the user typed to a finished run.

mod attack;
mod bench;
mod classifier;
mod data;
mod data_source;
mod fid;
mod fit;
mod life_cycle;
mod matching;
mod new_run;
mod old_run;
mod presets;
mod report;
mod resume;
mod sample;
mod shell;

use std::path::Path;

use anyhow::{Context, Result};
use ebm_export::source::networks::Network;

pub use attack::attack;
pub use bench::bench;
pub use classifier::classifier;
pub use data::check;
pub use fid::fid;
pub use fit::fit;
pub use life_cycle::life_cycle;
pub use presets::presets;
pub use report::report;
pub use resume::resume;
pub use sample::sample;
pub use shell::{completions, man};

use crate::config::{ClassifierConfig, Configuration, DataConfig, Fit, Layers, Task, checked};
use crate::data::Dataset;
use crate::machine::parallel::Team;
use crate::run::saved::Saved;

/// The configuration of the run that wrote a checkpoint.
fn saved_config<C: Configuration>(saved: &Saved) -> Result<C> {
    checked(&saved.header.config).with_context(|| not_of_this_version(saved))
}

/// The configuration of the run that wrote a checkpoint of an energy network.
fn saved_fit(saved: &Saved) -> Result<Fit> {
    Fit::of_run(&saved.header.config).with_context(|| not_of_this_version(saved))
}

fn not_of_this_version(saved: &Saved) -> String {
    let folder = saved.folder.display();
    format!("the configuration in {folder} is not one of this version")
}

/// The data that are configured, for an energy network or a classifier, and that network.
fn configured_data(layers: &Layers) -> Result<(DataConfig, Network)> {
    Ok(match layers.task() {
        Some(Task::Classifier) => {
            let ClassifierConfig { data, network, .. } = layers.resolve()?;
            (data, network)
        }
        _ => layers.resolve_fit()?.into_data(),
    })
}

/// How many threads are meant: one per core if no number is given.
fn n_threads(given: Option<u16>) -> usize {
    match given {
        Some(n_threads) => usize::from(n_threads),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    }
}

/// The configured data, checked against the images of the network. Pictures are decoded on the threads of the team.
fn load(
    config: &DataConfig,
    directory: Option<&Path>,
    network: &Network,
    team: &Team,
) -> Result<Dataset> {
    crate::data::load(config, directory, network.image(), team.n_threads())
}
