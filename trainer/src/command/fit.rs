//! `trainer fit`: from a configuration, or a checkpoint, to an energy network that is learned.

use anyhow::Result;

use super::matching::{begin_matching, go_on_with_matching};
use super::new_run::{NewRun, layers, report_end};
use super::old_run::{Continued, restore};
use super::saved_fit;
use crate::cli::FitArgs;
use crate::config::{EnergyConfig, Fit, Layers};
use crate::learn::borrowed::Borrowed;
use crate::learn::energy::EnergyLearner;
use crate::learn::examples::Examples;
use crate::learn::fit;
use crate::run::folder::RunFolder;
use crate::run::learning::Described;
use crate::run::state::State;
use crate::run::stop::{End, StopSignal};
use crate::run::training::Training;

/// `trainer fit`.
pub fn fit(args: &FitArgs) -> Result<End> {
    let layers = layers(&args.learn)?
        .borrowing(args.generator.as_deref(), args.prior.as_deref())?
        .starting_from(args.from.as_deref())?;
    begin_fit(&layers, &NewRun::from(&args.learn), &StopSignal::listen()?)
}

/// Learns an energy network from its beginning.
pub(super) fn begin_fit(layers: &Layers, run: &NewRun, stop: &StopSignal) -> Result<End> {
    match layers.resolve_fit()? {
        Fit::Likelihood(config) => begin_likelihood(*config, run, stop),
        Fit::Matching(config) => begin_matching(*config, run, stop),
    }
}

fn begin_likelihood(config: EnergyConfig, run: &NewRun, stop: &StopSignal) -> Result<End> {
    let machine = run.machine.among_ranks()?;
    run.expect_free(&machine)?;
    let examples = Examples::load(&config, run.data.as_deref(), machine.team.n_threads())?;
    let state = run.state(examples.fingerprint());
    let borrowed = Borrowed::from_earlier_runs(&config)?;
    let mut learner = EnergyLearner::new(config.clone(), examples, borrowed, machine)?;
    let folder = run.create(&config, &learner.terms())?;
    learn_energy(&mut learner, &folder, state, stop)
}

/// Continues the learning of an energy network.
pub(super) fn go_on_with_fit(run: Continued<'_>) -> Result<End> {
    let saved = &run.resumption.saved;
    let config = match saved_fit(saved)? {
        Fit::Likelihood(config) => *config,
        Fit::Matching(config) => return go_on_with_matching(*config, run),
    };
    let n_threads = run.machine.team.n_threads();
    let examples = Examples::load(&config, run.data_directory().as_deref(), n_threads)?;
    let state = run.state(examples.fingerprint())?;
    let borrowed = Borrowed::from_own_checkpoint(saved, &config)?;
    let mut learner = EnergyLearner::new(config, examples, borrowed, run.machine)?;
    restore(&mut learner, run.resumption, run.folder)?;
    learn_energy(&mut learner, run.folder, state, run.stop)
}

fn learn_energy(
    learner: &mut EnergyLearner,
    folder: &RunFolder,
    state: State,
    stop: &StopSignal,
) -> Result<End> {
    let terms = learner.terms();
    // How exact the gradients of the chains are, if they are not those of f32.
    if let Some(rounding) = learner.rounding()?
        && terms.ranks.is_first()
    {
        note!("{rounding}");
    }
    let end = Training::run(learner, folder, state, stop, fit::fit)?;
    report_end(end, &terms, folder)
}
