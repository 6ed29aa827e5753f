//! `trainer bench`.

use std::io::BufRead;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use ebm_export::graph::tensor::Tensors;
use ebm_export::source::checkpoint;

use crate::cli::BenchArgs;
use crate::config::{EnergyConfig, Layers};
use crate::learn::borrowed::Borrowed;
use crate::learn::energy::EnergyLearner;
use crate::learn::examples::Examples;
use crate::learn::fit::fit;
use crate::machine::console;
use crate::network::tensor_to_host;
use crate::run::learning::Described;
use crate::run::stop::End;
use crate::run::training::Training;

/// Times updates and prints their median.
pub fn bench(args: &BenchArgs) -> Result<End> {
    let layers = Layers::default().preset_or_file(&args.preset_or_file)?;
    let config: EnergyConfig = layers.set_all(&args.set)?.resolve()?;
    let (examples, borrowed) = (Examples::random(&config), Borrowed::untrained(&config)?);
    let mut learner =
        EnergyLearner::new(config.clone(), examples, borrowed, args.machine.alone()?)?;
    if args.on_request {
        return on_request(&mut learner, args);
    }
    let first = first(&mut learner, args)?;
    note!("first update {first:.3} s");
    let image_steps = learner.image_steps();
    let seconds = (0..args.updates).map(|_| seconds(&mut learner));
    let mut seconds = seconds.collect::<Result<Vec<f64>>>()?;
    seconds.sort_by(f64::total_cmp);
    let at = |share: usize| seconds[(seconds.len() - 1) * share / 4];
    console::print(&format!(
        "update {:.4} s (quartiles {:.4} and {:.4}, n = {}), {:.0} images·steps/s",
        at(2),
        at(1),
        at(3),
        seconds.len(),
        image_steps as f64 / at(2)
    ))?;
    Ok(End::Complete)
}

fn on_request(learner: &mut EnergyLearner, args: &BenchArgs) -> Result<End> {
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

fn seconds(learner: &mut EnergyLearner) -> Result<f64> {
    let mut one = Training::unrecorded(learner, 1);
    let start = Instant::now();
    fit(learner, &mut one)?;
    Ok(start.elapsed().as_secs_f64())
}

/// The first update, which is recorded if that is wanted.
fn first(learner: &mut EnergyLearner, args: &BenchArgs) -> Result<f64> {
    match &args.record {
        Some(folder) => recorded(learner, folder),
        None => seconds(learner),
    }
}

/// An update of which a folder keeps `before` and `after` (the weights) and `inputs` (images and the starts of chains), and as `state` in
/// `checkpoint.json` the seed of the noise.
fn recorded(learner: &mut EnergyLearner, folder: &Path) -> Result<f64> {
    let mut header = learner.header()?;
    header.state = serde_json::json!({ "noise_seed": learner.noise_seed() });
    let inputs = Tensors::from([
        ("positives".to_string(), tensor_to_host(&learner.data()?)?),
        (
            "starts".to_string(),
            tensor_to_host(learner.starts()?.chains.states())?,
        ),
    ]);
    let before = weights(learner)?;
    let seconds = seconds(learner)?;
    let after = weights(learner)?;
    let groups = [("before", &before), ("inputs", &inputs), ("after", &after)];
    checkpoint::write(folder, &header, &groups)?;
    Ok(seconds)
}

fn weights(learner: &EnergyLearner) -> Result<Tensors> {
    let groups = learner.groups()?;
    let weights = groups
        .into_iter()
        .find(|(name, _)| *name == checkpoint::WEIGHTS);
    weights
        .map(|(_, weights)| weights)
        .context("there are no weights")
}
