//! `trainer classifier`: from a configuration, or a checkpoint, to a classifier that is learned.

use anyhow::Result;

use super::new_run::{NewRun, layers, report_end};
use super::old_run::{Continued, restore};
use super::saved_config;
use crate::cli::LearnArgs;
use crate::config::{ClassifierConfig, Layers};
use crate::learn::classifier::{ClassifierLearner, learn};
use crate::machine::console;
use crate::run::folder::RunFolder;
use crate::run::learning::Described;
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
    let (dataset, state) = run.load(&config.data, &config.network, &machine)?;
    let mut learner = ClassifierLearner::new(config.clone(), dataset, machine)?;
    let folder = run.create(&config, &learner.terms())?;
    learn_classifier(&mut learner, &folder, state, stop)
}

/// Continues the learning of a classifier.
pub(super) fn go_on_with_classifier(run: Continued<'_>) -> Result<End> {
    let config: ClassifierConfig = saved_config(&run.resumption.saved)?;
    let (dataset, state) = run.load(&config.data, &config.network)?;
    let mut learner = ClassifierLearner::new(config, dataset, run.machine)?;
    restore(&mut learner, run.resumption, run.folder)?;
    learn_classifier(&mut learner, run.folder, state, run.stop)
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
