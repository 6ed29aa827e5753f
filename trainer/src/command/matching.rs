//! `trainer fit` by matching: from a configuration, or a checkpoint, to an energy network that is learned.

use anyhow::Result;

use super::new_run::{NewRun, report_end};
use super::old_run::{Continued, restore};
use crate::config::{MatchingConfig, WarmStart};
use crate::learn::matching::{MatchingLearner, learn};
use crate::learn::warm_start::{First, Scale, first_phase, first_weights};
use crate::run::folder::RunFolder;
use crate::run::learning::Described;
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
    let (dataset, state) = run.load(&config.data, &config.network, &machine)?;
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
pub(super) fn go_on_with_matching(config: MatchingConfig, run: Continued<'_>) -> Result<End> {
    let (dataset, state) = run.load(&config.data, &config.network)?;
    let mut learner = MatchingLearner::new(config, dataset, None, run.machine)?;
    restore(&mut learner, run.resumption, run.folder)?;
    learn_matching(&mut learner, run.folder, state, run.stop)
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
