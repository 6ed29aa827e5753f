//! A run that continues: its checkpoint and its data.

use std::path::PathBuf;

use anyhow::{Result, bail};
use ebm_export::source::networks::Network;

use super::load;
use crate::cli::MachineArgs;
use crate::config::DataConfig;
use crate::data::{Dataset, Fingerprint};
use crate::machine::Machine;
use crate::machine::ranks::Ranks;
use crate::run::folder::RunFolder;
use crate::run::learning::Learning;
use crate::run::resumption::{Resumed, Resumption};
use crate::run::saved::Saved;
use crate::run::state::State;
use crate::run::stop::StopSignal;

/// Which run continues, on what data, and on which machine.
#[derive(Debug)]
pub(super) struct OldRun {
    pub(super) resumed: Resumed,
    /// Where its data lie, if they have moved.
    pub(super) data: Option<PathBuf>,
    pub(super) changed_data: ChangedData,
    pub(super) machine: MachineArgs,
}

/// What to do if data are not those that a run has learned from so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChangedData {
    /// The run does not continue.
    Refused,
    /// It continues with them.
    Allowed,
}

impl ChangedData {
    /// From the option `--allow-changed-data`.
    pub(super) fn from_flag(allowed: bool) -> ChangedData {
        match allowed {
            true => ChangedData::Allowed,
            false => ChangedData::Refused,
        }
    }
}

impl OldRun {
    /// The state to continue from, with the data that are there.
    fn state(&self, saved: &Saved, data: Option<Fingerprint>, ranks: &Ranks) -> Result<State> {
        let state = saved.state()?;
        let lines = match (&state.data, &data) {
            (Some(then), Some(now)) => self.lines_of_changes(&now.changes_since(then))?,
            (None, Some(_)) => vec![
                "an older version wrote this checkpoint without a fingerprint of its data: that they are the same cannot be checked".to_string(),
            ],
            _ => Vec::new(),
        };
        if ranks.is_first() {
            lines.iter().for_each(|line| warning!("{line}"));
        }
        Ok(State {
            data_directory: saved.data_directory(self.data.as_deref()),
            data,
            ..state
        })
    }

    fn lines_of_changes(&self, changes: &[String]) -> Result<Vec<String>> {
        let run = self.resumed.run.display();
        let listed = changes.join("; ");
        match self.changed_data {
            _ if changes.is_empty() => Ok(Vec::new()),
            ChangedData::Refused => bail!(
                "the data are not those that {run} has learned from so far: {listed}; bring them back, name their folder with --data DIR, \
                 or continue with these data by --allow-changed-data"
            ),
            ChangedData::Allowed => Ok(vec![format!(
                "{run} continues with other data ({listed}): the result differs from that of a run on either of them"
            )]),
        }
    }
}

/// A run that continues: from where, into which folder, and what computes it.
#[derive(Debug)]
pub(super) struct Continued<'a> {
    pub(super) old: &'a OldRun,
    pub(super) resumption: &'a Resumption,
    pub(super) folder: &'a RunFolder,
    pub(super) machine: Machine,
    pub(super) stop: &'a StopSignal,
}

impl Continued<'_> {
    /// Where its data lie.
    pub(super) fn data_directory(&self) -> Option<PathBuf> {
        let saved = &self.resumption.saved;
        saved.data_directory(self.old.data.as_deref())
    }

    /// The state to continue from, with the data that are there.
    pub(super) fn state(&self, data: Option<Fingerprint>) -> Result<State> {
        let ranks = self.machine.team.ranks();
        self.old.state(&self.resumption.saved, data, ranks)
    }

    /// The data that are configured, and the state to continue from with them.
    pub(super) fn load(&self, data: &DataConfig, network: &Network) -> Result<(Dataset, State)> {
        let directory = self.data_directory();
        let dataset = load(data, directory.as_deref(), network, &self.machine.team)?;
        let state = self.state(Some(dataset.fingerprint()))?;
        Ok((dataset, state))
    }
}

/// All processes read the checkpoint to continue from; then the first makes room for those to come.
pub(super) fn restore(
    learning: &mut dyn Learning,
    resumption: &Resumption,
    folder: &RunFolder,
) -> Result<()> {
    let saved = &resumption.saved;
    learning.restore(&saved.header, &|group| saved.group(group))?;
    let ranks = learning.terms().ranks;
    ranks.any(false)?;
    match ranks.is_first() {
        true => resumption.put_aside(folder),
        false => Ok(()),
    }
}
