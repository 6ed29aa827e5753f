//! `trainer classifier`: from a configuration, or a checkpoint, to a classifier that is learned.

use anyhow::Result;

use super::new_run::{NewRun, layers, report_end};
use super::old_run::{OldRun, restore};
use super::{load, saved_config};
use crate::cli::LearnArgs;
use crate::config::{ClassifierConfig, Layers};
use crate::learn::classifier::{ClassifierLearner, learn};
use crate::machine::{Machine, console};
use crate::run::folder::RunFolder;
use crate::run::learning::Described;
use crate::run::resumption::Resumption;
use crate::run::state::State;
use crate::run::stop::{End, StopSignal};
use crate::run::training::Training;

/// `trainer classifier`.
pub fn classifier(args: &LearnArgs) -> Result<End> {
    begin_classifier(&layers(args)?, &NewRun::from(args), &StopSignal::listen()?)
}

/// Learns a classifier from its beginning.
pub(super) fn begin_classifier(layers: &Layers, run: &NewRun, stop: &StopSignal) -> Result<End> {
    let config: ClassifierConfig = layers.resolve()?;
    let machine = run.machine.alone()?;
    run.expect_free(&machine)?;
    let dataset = load(
        &config.data,
        run.data.as_deref(),
        &config.network,
        &machine.team,
    )?;
    let state = run.state(Some(dataset.fingerprint()));
    let mut learner = ClassifierLearner::new(config.clone(), dataset, machine)?;
    let folder = run.create(&config, &learner.terms())?;
    learn_classifier(&mut learner, &folder, state, stop)
}

/// Continues the learning of a classifier.
pub(super) fn go_on_with_classifier(
    old: &OldRun,
    resumption: &Resumption,
    folder: &RunFolder,
    machine: Machine,
    stop: &StopSignal,
) -> Result<End> {
    let saved = &resumption.saved;
    let config: ClassifierConfig = saved_config(saved)?;
    let directory = saved.data_directory(old.data.as_deref());
    let dataset = load(
        &config.data,
        directory.as_deref(),
        &config.network,
        &machine.team,
    )?;
    let state = old.state(saved, Some(dataset.fingerprint()), machine.team.ranks())?;
    let mut learner = ClassifierLearner::new(config, dataset, machine)?;
    restore(&mut learner, resumption, folder)?;
    learn_classifier(&mut learner, folder, state, stop)
}

fn learn_classifier(
    learner: &mut ClassifierLearner,
    folder: &RunFolder,
    state: State,
    stop: &StopSignal,
) -> Result<End> {
    let end = Training::run(learner, folder, state, stop, learn)?;
    if end == End::Complete {
        console::print(&format!("test accuracy {}", learner.test_accuracy()?))?;
        if let Some((what, accuracy)) = learner.hard_test_accuracy()? {
            console::print(&format!("test accuracy {accuracy}, {what}"))?;
        }
    }
    report_end(end, &learner.terms(), folder)
}
