//! `trainer fit` by matching: from a configuration, or a checkpoint, to an energy network that is learned.

use anyhow::Result;

use super::load;
use super::new_run::{NewRun, report_end};
use super::old_run::{OldRun, restore};
use crate::config::{MatchingConfig, WarmStart};
use crate::learn::matching::{MatchingLearner, learn};
use crate::learn::warm_start::{First, Scale, first_phase, first_weights};
use crate::machine::Machine;
use crate::run::folder::RunFolder;
use crate::run::learning::Described;
use crate::run::resumption::Resumption;
use crate::run::state::State;
use crate::run::stop::{End, StopSignal};
use crate::run::training::Training;

/// Learns an energy network from its beginning.
pub(super) fn begin_matching(
    mut config: MatchingConfig,
    run: &NewRun,
    stop: &StopSignal,
) -> Result<End> {
    let machine = run.machine.among_ranks()?;
    run.expect_free(&machine)?;
    let dataset = load(
        &config.data,
        run.data.as_deref(),
        &config.network,
        &machine.team,
    )?;
    let state = run.state(Some(dataset.fingerprint()));
    let first = config.from.as_ref().map(|from| first(&config, from));
    let first = first.transpose()?;
    if let (Some(from), Some(first)) = (&mut config.from, &first) {
        from.updates = first.optimizer.as_ref().map(|(updates, _)| *updates);
    }
    let mut learner = MatchingLearner::new(config.clone(), dataset, first, machine)?;
    let folder = run.create(&config, &learner.terms())?;
    learn_matching(&mut learner, &folder, state, stop)
}

/// Continues the learning of an energy network.
pub(super) fn go_on_with_matching(
    config: MatchingConfig,
    old: &OldRun,
    resumption: &Resumption,
    folder: &RunFolder,
    machine: Machine,
    stop: &StopSignal,
) -> Result<End> {
    let saved = &resumption.saved;
    let directory = saved.data_directory(old.data.as_deref());
    let dataset = load(
        &config.data,
        directory.as_deref(),
        &config.network,
        &machine.team,
    )?;
    let state = old.state(saved, Some(dataset.fingerprint()), machine.team.ranks())?;
    let mut learner = MatchingLearner::new(config, dataset, None, machine)?;
    restore(&mut learner, resumption, folder)?;
    learn_matching(&mut learner, folder, state, stop)
}

/// What a run begins with: the optimiser of the first phase too, if it is a second one.
fn first(config: &MatchingConfig, from: &WarmStart) -> Result<First> {
    match config.objective.contrast() {
        Some(_) => first_phase(from, &config.network),
        None => Ok(First {
            weights: first_weights(from, &config.network, Scale::Objective(&config.objective))?,
            optimizer: None,
        }),
    }
}

fn learn_matching(
    learner: &mut MatchingLearner,
    folder: &RunFolder,
    state: State,
    stop: &StopSignal,
) -> Result<End> {
    let end = Training::run(learner, folder, state, stop, learn)?;
    report_end(end, &learner.terms(), folder)
}
