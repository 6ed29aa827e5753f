//! `trainer bench`.

use std::io::BufRead;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use ebm_export::graph::tensor::Tensors;
use ebm_export::source::checkpoint;
use tch::Tensor;

use crate::cli::BenchArgs;
use crate::config::{Fit, Layers};
use crate::data::{Dataset, Images};
use crate::learn::borrowed::Borrowed;
use crate::learn::energy::EnergyLearner;
use crate::learn::examples::Examples;
use crate::learn::fit::fit;
use crate::learn::matching::{self, MatchingLearner, Regression};
use crate::machine::console;
use crate::network::tensor_to_host;
use crate::run::learning::Described;
use crate::run::stop::End;
use crate::run::training::Training;

/// What can be timed.
trait Benched: Described {
    /// What the next update begins from, and what else has to be known to repeat it.
    fn begins_from(&mut self) -> Result<(Tensors, serde_json::Value)>;

    /// Work of the next update, and the unit of its rate.
    fn work(&self) -> (f64, &'static str);

    /// Does the next update.
    fn learn(&mut self, training: &mut Training<'_>) -> Result<End>;
}

impl Benched for EnergyLearner {
    /// Images and the starts of chains, and the seed of the noise.
    fn begins_from(&mut self) -> Result<(Tensors, serde_json::Value)> {
        let state = serde_json::json!({ "noise_seed": self.noise_seed() });
        let (positives, starts) = (self.data()?, self.starts()?);
        let starts = starts.chains.states();
        let named = named([("positives", &positives), ("starts", starts)])?;
        Ok((named, state))
    }

    fn work(&self) -> (f64, &'static str) {
        (self.image_steps() as f64, "images·steps/s")
    }

    fn learn(&mut self, training: &mut Training<'_>) -> Result<End> {
        fit(self, training)
    }
}

impl Benched for MatchingLearner {
    /// Inputs, targets and weights of the regression.
    fn begins_from(&mut self) -> Result<(Tensors, serde_json::Value)> {
        let Regression {
            inputs,
            targets,
            weights,
        } = self.regression()?;
        let named = named([
            ("inputs", &inputs),
            ("targets", &targets),
            ("weights", &weights),
        ])?;
        Ok((named, serde_json::Value::Null))
    }

    fn work(&self) -> (f64, &'static str) {
        (self.batch() as f64, "images/s")
    }

    fn learn(&mut self, training: &mut Training<'_>) -> Result<End> {
        matching::learn(self, training)
    }
}

fn named<const N: usize>(tensors: [(&str, &Tensor); N]) -> Result<Tensors> {
    let tensors = tensors.into_iter();
    tensors
        .map(|(name, tensor)| Ok((name.to_string(), tensor_to_host(tensor)?)))
        .collect()
}

/// Times updates and prints their median.
pub fn bench(args: &BenchArgs) -> Result<End> {
    let layers = Layers::default().preset_or_file(&args.preset_or_file)?;
    match layers.set_all(&args.set)?.resolve_fit()? {
        Fit::Likelihood(config) => {
            let (examples, borrowed) = (Examples::random(&config), Borrowed::untrained(&config)?);
            let machine = args.machine.alone()?;
            let mut learner = EnergyLearner::new(*config, examples, borrowed, machine)?;
            timed(&mut learner, args)
        }
        Fit::Matching(config) => {
            let images = |n| Images::random(config.network.image(), n);
            let dataset = Dataset {
                train: images(config.learning.batch),
                test: images(0),
                n_classes: config.data.n_classes,
            };
            let machine = args.machine.alone()?;
            timed(
                &mut MatchingLearner::new(*config, dataset, None, machine)?,
                args,
            )
        }
    }
}

fn timed(learner: &mut dyn Benched, args: &BenchArgs) -> Result<End> {
    if args.on_request {
        return on_request(learner, args);
    }
    let first = first(learner, args)?;
    note!("first update {first:.3} s");
    let (work, unit) = learner.work();
    let seconds = (0..args.updates).map(|_| seconds(learner));
    let mut seconds = seconds.collect::<Result<Vec<f64>>>()?;
    seconds.sort_by(f64::total_cmp);
    let at = |share: usize| seconds[(seconds.len() - 1) * share / 4];
    console::print(&format!(
        "update {:.4} s (quartiles {:.4} and {:.4}, n = {}), {:.0} {unit}",
        at(2),
        at(1),
        at(3),
        seconds.len(),
        work / at(2)
    ))?;
    Ok(End::Complete)
}

fn on_request(learner: &mut dyn Benched, args: &BenchArgs) -> Result<End> {
    let mut is_first = true;
    for line in std::io::stdin().lock().lines() {
        line.context("cannot read from standard input")?;
        let seconds = match std::mem::take(&mut is_first) {
            true => first(learner, args)?,
            false => seconds(learner)?,
        };
        console::print(&seconds.to_string())?;
    }
    Ok(End::Complete)
}

fn seconds(learner: &mut dyn Benched) -> Result<f64> {
    let mut one = Training::unrecorded(learner, 1);
    let start = Instant::now();
    learner.learn(&mut one)?;
    Ok(start.elapsed().as_secs_f64())
}

/// The first update, which is recorded if that is wanted.
fn first(learner: &mut dyn Benched, args: &BenchArgs) -> Result<f64> {
    match &args.record {
        Some(folder) => recorded(learner, folder),
        None => seconds(learner),
    }
}

/// An update of which a folder keeps `before` and `after` (the weights) and `inputs` (what it begins from), and as `state` in
/// `checkpoint.json` what else has to be known.
fn recorded(learner: &mut dyn Benched, folder: &Path) -> Result<f64> {
    let mut header = learner.header()?;
    let (inputs, state) = learner.begins_from()?;
    header.state = state;
    let before = weights(learner)?;
    let seconds = seconds(learner)?;
    let after = weights(learner)?;
    let groups = [("before", &before), ("inputs", &inputs), ("after", &after)];
    checkpoint::write(folder, &header, &groups)?;
    Ok(seconds)
}

fn weights(learner: &dyn Benched) -> Result<Tensors> {
    let groups = learner.groups()?;
    let weights = groups
        .into_iter()
        .find(|(name, _)| *name == checkpoint::WEIGHTS);
    weights
        .map(|(_, weights)| weights)
        .context("there are no weights")
}
