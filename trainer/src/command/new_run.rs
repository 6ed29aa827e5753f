//! A new run: its configuration and its folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ebm_export::source::networks::Network;
use tch::Device;

use super::load;
use crate::cli::{LearnArgs, MachineArgs};
use crate::config::{Configuration, DataConfig, Layers};
use crate::data::{Dataset, Fingerprint};
use crate::machine::{Machine, console, device_name};
use crate::run::folder::RunFolder;
use crate::run::learning::Terms;
use crate::run::state::State;
use crate::run::stop::End;
use ebm_common::target::Existing;

/// Where a new run is made, of what data, and on which machine.
#[derive(Debug)]
pub(super) struct NewRun {
    pub(super) data: Option<PathBuf>,
    pub(super) folder: PathBuf,
    pub(super) existing: Existing,
    pub(super) machine: MachineArgs,
}

impl From<&LearnArgs> for NewRun {
    fn from(args: &LearnArgs) -> NewRun {
        let name = args
            .preset_or_file
            .as_ref()
            .or(args.preset.as_ref())
            .map(Path::new)
            .and_then(Path::file_stem);
        let default = || PathBuf::from("runs").join(name.unwrap_or("run".as_ref()));
        NewRun {
            data: args.data.clone(),
            folder: args.output.clone().unwrap_or_else(default),
            existing: Existing::of(args.force),
            machine: args.machine,
        }
    }
}

impl MachineArgs {
    /// For what runs in one process.
    pub(super) fn alone(self) -> Result<Machine> {
        Machine::new(self.device, self.threads)
    }

    /// For what several processes may learn.
    pub(super) fn among_ranks(self) -> Result<Machine> {
        Machine::among_ranks(self.device, self.threads)
    }
}

impl NewRun {
    pub(super) fn state(&self, data: Option<Fingerprint>) -> State {
        State {
            data_directory: self.data.clone(),
            data,
            ..State::default()
        }
    }

    /// The data that are configured, and the state that a run on them begins with.
    pub(super) fn load(
        &self,
        data: &DataConfig,
        network: &Network,
        machine: &Machine,
    ) -> Result<(Dataset, State)> {
        let dataset = load(data, self.data.as_deref(), network, &machine.team)?;
        let state = self.state(Some(dataset.fingerprint()));
        Ok((dataset, state))
    }

    /// Refuses before any work what [`NewRun::create`] would refuse, in the first process.
    pub(super) fn expect_free(&self, machine: &Machine) -> Result<()> {
        match machine.team.ranks().is_first() {
            true => RunFolder::expect_free(&self.folder, self.existing),
            false => Ok(()),
        }
    }

    /// Makes the folder, in the first process.
    pub(super) fn create<C: Configuration>(&self, config: &C, terms: &Terms) -> Result<RunFolder> {
        if !terms.ranks.is_first() {
            return Ok(RunFolder::of_first_rank(&self.folder));
        }
        let folder = RunFolder::create(&self.folder, self.existing)?;
        folder.write_config(
            &toml::to_string(config).context("cannot write the configuration as TOML")?,
        )?;
        note!("run folder {}", self.folder.display());
        Ok(folder)
    }
}

/// What is configured: a preset, a file, and single values.
pub(super) fn layers(args: &LearnArgs) -> Result<Layers> {
    let mut layers = Layers::default();
    if let Some(name) = &args.preset {
        layers = layers.preset(name)?;
    }
    if let Some(name) = &args.preset_or_file {
        layers = layers.preset_or_file(name)?;
    }
    layers = layers.set_all(&args.set)?;
    if let Some(seed) = args.seed {
        layers = layers.set(&format!("seed={seed}"))?;
    }
    Ok(layers)
}

/// The first process says how it ended.
pub(super) fn report_end(end: End, terms: &Terms, folder: &RunFolder) -> Result<End> {
    if !terms.ranks.is_first() {
        return Ok(end);
    }
    let path = folder.path().display();
    match end {
        End::Complete => console::print(&format!(
            "done: {path} (checkpoints, metrics.jsonl, samples, diagnostics.svg); a page about it: `trainer report {path}`"
        ))?,
        End::Interrupted => {
            let on = match terms.place.device {
                Device::Cpu => String::new(),
                device if terms.ranks.n_ranks() == 1 => {
                    format!(" --device {}", device_name(device))
                }
                _ => " --device cuda".to_string(),
            };
            note!("interrupted; nothing is lost: continue with `trainer resume {path}{on}`")
        }
    }
    Ok(end)
}
