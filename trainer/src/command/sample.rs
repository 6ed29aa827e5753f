//! `trainer sample`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use ebm_common::target::Existing;
use ebm_export::graph::tensor::Tensors;
use ebm_export::graph::weights::check_weights;
use ebm_export::source::Kind as NetworkKind;
use ebm_export::source::checkpoint::{EMA, GENERATOR, GENERATOR_EMA, WEIGHTS, tensors_sha256};
use ebm_export::transform::potential::Potential;
use ebm_export::transform::potential::read_potential;
use serde::Serialize;
use tch::{Device, Kind};

use super::saved_fit;
use crate::chains::descent::Descent;
use crate::chains::heun::{Flow, NormalNoise};
use crate::chains::start::{Noise, Origin};
use crate::cli::{PotentialChoice, SampleArgs, StartChoice, WeightsChoice};
use crate::config::{
    BatchNormMode, Dynamics, EnergyConfig, FixedGenerator, FlowObjective, GeneratorConfig,
    Precision, Start, Warming,
};
use crate::evaluate::npz;
use crate::evaluate::sampling::{self, Descending, Motion, Plan, SampleFolder, SampledChains};
use crate::learn::examples::Examples;
use crate::learn::generator::Generator;
use crate::learn::origin::Data;
use crate::machine::Machine;
use crate::machine::console;
use crate::network::to_device;
use crate::run::folder::SAMPLED;
use crate::run::saved::Saved;
use crate::run::stop::{End, StopSignal};

/// What a sample is made of; the same request gives the same bits on one machine.
#[derive(Debug, Serialize)]
struct Request {
    run: PathBuf,
    update: u64,
    weights: WeightsChoice,
    weights_sha256: String,
    generator_sha256: Option<String>,
    n_chains: usize,
    start: StartChoice,
    potential: PotentialChoice,
    tau: Option<f64>,
    prior_temperature: Option<f64>,
    temperature: f64,
    joint_temperature: f64,
    step_size: Option<f64>,
    clip: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flow: Option<Flow>,
    n_steps: u64,
    snapshots: String,
    seed: u64,
    device: String,
}

/// `trainer sample`.
pub fn sample(args: &SampleArgs) -> Result<End> {
    let saved = Saved::open_kind(&args.run, NetworkKind::Energy, "RUN")?;
    let fit = saved_fit(&saved)?;
    let flow = fit.flow().cloned();
    let config = fit.into_chains();
    let weights = weights(&saved, args.weights)?;
    let potential = match args.potential {
        PotentialChoice::Whole => read_potential(&saved.folder, &saved.header)?,
        PotentialChoice::Energy => Potential::default(),
    };
    check_size(args.n, &config)?;
    let (motion, n_steps) = match &flow {
        Some(objective) => following(args, objective)?,
        None => descending(args, &config, saved.header.update)?,
    };
    let plan = Plan::new(n_steps as u64, &args.snapshots)?;
    let start = start(args, &config, flow.as_ref())?;
    let generator = GeneratorOfRun::read(&saved, &config, args.weights)?;
    let machine = Machine::new(args.machine.device, args.machine.threads)?;
    let request = Request {
        run: args.run.clone(),
        update: saved.header.update,
        weights: args.weights,
        weights_sha256: tensors_sha256(&weights),
        generator_sha256: generator.as_ref().map(|own| tensors_sha256(&own.weights)),
        n_chains: args.n,
        start,
        potential: args.potential,
        tau: potential.tau,
        prior_temperature: potential.prior.as_ref().map(|prior| prior.temperature),
        temperature: motion.temperature(),
        joint_temperature: args.joint_temperature,
        step_size: motion.langevin().map(|dynamics| dynamics.step_size),
        clip: motion.langevin().and_then(|dynamics| dynamics.clip.value()),
        flow: motion.flow(),
        n_steps: plan.n_steps(),
        snapshots: format!("{:?}", args.snapshots),
        seed: args.seed,
        device: format!("{:?}", machine.device),
    };

    let generator = generator
        .map(|own| own.generator(machine.device))
        .transpose()?;
    let examples = match start {
        StartChoice::Data => Some(examples(args, &saved, &config, machine.team.n_threads())?),
        _ => None,
    };
    let origin: Box<dyn Origin + '_> = match (start, flow) {
        (StartChoice::Noise, Some(_)) => Box::new(NormalNoise::of(&config)),
        _ => origin(start, &config, generator.as_ref(), examples.as_ref())?,
    };
    let descent = Descent::new(&config.network, &potential, Precision::F32, machine.device)?;
    let weights = to_device(&weights, Kind::Float, machine.device);
    let network = descent.bind(&weights, motion.temperature())?;
    let descending = Descending {
        network: &network,
        motion: motion.heated(args.joint_temperature),
        team: &machine.team,
    };
    note!("{n_steps} {}", descending.motion);
    let chains = SampledChains::begin(origin.as_ref(), args.n, args.seed, descending)?;
    let output = args.output.clone();
    let output = output.unwrap_or_else(|| args.run.join(SAMPLED));
    let folder = SampleFolder::open(&output, &request, Existing::of(args.force))?;
    let end = sampling::run(chains, &plan, &folder, &StopSignal::listen()?)?;
    report(end, &folder)?;
    Ok(end)
}

fn report(end: End, folder: &SampleFolder) -> Result<()> {
    let path = folder.path().display();
    match end {
        End::Complete => {
            console::print(&format!(
                "done: {path} (samples.npz, snapshots, energy.svg)"
            ))?;
        }
        End::Interrupted => {
            note!("interrupted; nothing is lost: the same command continues {path}");
        }
    }
    Ok(())
}

/// Those of the energy, finite and its own.
fn weights(saved: &Saved, choice: WeightsChoice) -> Result<Tensors> {
    let weights = saved.group(chosen(saved, choice, [EMA, WEIGHTS]))?;
    check_weights(&saved.header.network.graph()?, &weights)
        .with_context(|| format!("the weights in {} are of no use", saved.folder.display()))?;
    Ok(weights)
}

/// Of the groups of the moving average and of the raw weights the one to use.
fn chosen<'a>(saved: &Saved, choice: WeightsChoice, [average, raw]: [&'a str; 2]) -> &'a str {
    match choice {
        WeightsChoice::Ema if saved.header.groups.contains_key(average) => average,
        _ => raw,
    }
}

/// Images are kept in one array of a file.
fn check_size(n: usize, config: &EnergyConfig) -> Result<()> {
    let image = config.network.image();
    let n_values = image.channels * image.height * image.width;
    let most = npz::MAX_BYTES / (size_of::<f32>() * n_values) as u64;
    ensure!(
        n as u64 <= most,
        "-n {n}: expected at most {most}, since an npz file holds no larger array; take several samples with other seeds"
    );
    Ok(())
}

/// Along the flow that the run learned, as its samples are drawn but for what the user says.
fn following(args: &SampleArgs, objective: &FlowObjective) -> Result<(Motion, usize)> {
    let run = args.run.display();
    ensure!(
        args.step_size.is_none(),
        "--step-size: expected none, since {run} learned a flow: Δt is --time divided by --steps"
    );
    ensure!(
        args.joint_temperature == 1.0,
        "--joint-temperature {}: expected none, since {run} learned a flow: its noise has the temperature --temperature",
        args.joint_temperature
    );
    let time = args.time.unwrap_or(objective.sampling.time);
    ensure!(
        time > 0.0 && time.is_finite(),
        "--time {time}: expected above 0; a flow reaches data at time 1"
    );
    let (own, _) = Flow::of(objective);
    let n_steps = match args.steps {
        Some(0) => bail!("--steps 0: expected at least 1"),
        Some(steps) => usize::try_from(steps)?,
        None => own.n_steps(time),
    };
    let temperature = args.temperature.unwrap_or(own.warming.temperature);
    ensure!(
        temperature >= 0.0 && temperature.is_finite(),
        "--temperature {temperature}: expected 0 (a flow without noise) or above"
    );
    let flow = Flow {
        drift: time / n_steps as f64,
        warming: Warming {
            temperature,
            ..own.warming
        },
    };
    Ok((Motion::Flow(flow), n_steps))
}

/// By Langevin steps as the run learned at its last update, but for what the user says.
fn descending(args: &SampleArgs, config: &EnergyConfig, update: u64) -> Result<(Motion, usize)> {
    if let Some(time) = args.time {
        bail!(
            "--time {time}: expected none, since {} learned no flow: give the number of Langevin steps, --steps",
            args.run.display()
        );
    }
    let own = config.langevin.at(update);
    let steps = args.steps.map(usize::try_from).transpose()?;
    let dynamics = Dynamics {
        steps: steps.unwrap_or(own.steps),
        step_size: args.step_size.unwrap_or(own.step_size),
        temperature: args.temperature.unwrap_or(own.temperature),
        clip: own.clip,
    };
    dynamics.check("sample")?;
    ensure!(
        args.joint_temperature > 0.0 && args.joint_temperature.is_finite(),
        "--joint-temperature {}: expected above 0",
        args.joint_temperature
    );
    Ok((Motion::Langevin(dynamics), dynamics.steps))
}

fn start(
    args: &SampleArgs,
    config: &EnergyConfig,
    flow: Option<&FlowObjective>,
) -> Result<StartChoice> {
    let as_learned = match config.chains.start {
        _ if flow.is_some() => StartChoice::Noise,
        _ if config.generator.is_some() => StartChoice::Generator,
        Start::Data | Start::DataPersistent => StartChoice::Data,
        Start::Noise | Start::NoisePersistent => StartChoice::Noise,
        Start::Cooperative | Start::CooperativePersistent => StartChoice::Noise,
    };
    let start = args.start.unwrap_or(as_learned);
    if start == StartChoice::Generator && config.generator.is_none() {
        bail!(
            "--start generator: {} has no generator: take a run of a shortrun or cooperative preset, or --start data or noise",
            args.run.display()
        );
    }
    Ok(start)
}

/// The generator of a run, learned or fixed, as it is used later: its batch norms have running statistics.
struct GeneratorOfRun {
    config: GeneratorConfig,
    weights: Tensors,
}

impl GeneratorOfRun {
    fn read(
        saved: &Saved,
        config: &EnergyConfig,
        choice: WeightsChoice,
    ) -> Result<Option<GeneratorOfRun>> {
        let Some(own) = &config.generator else {
            return Ok(None);
        };
        let weights = saved.group(chosen(saved, choice, [GENERATOR_EMA, GENERATOR]))?;
        check_weights(&own.network().graph()?, &weights)
            .with_context(|| format!("the generator in {} is of no use", saved.folder.display()))?;
        let config = GeneratorConfig::Fixed(FixedGenerator {
            network: own.network().clone(),
            checkpoint: saved.folder.clone(),
            batch_norm: BatchNormMode::Inference,
            truncation: own.truncation(),
        });
        Ok(Some(GeneratorOfRun { config, weights }))
    }

    fn generator(&self, device: Device) -> Result<Generator> {
        // A fixed generator has no weights to draw, so that its seed means nothing.
        Generator::new(&self.config, Some(&self.weights), 0, device)
    }
}

/// What the run learned from.
fn examples(
    args: &SampleArgs,
    saved: &Saved,
    config: &EnergyConfig,
    n_threads: usize,
) -> Result<Examples> {
    let directory = saved.data_directory(args.data.as_deref());
    let examples = Examples::load(config, directory.as_deref(), n_threads)?;
    saved.compare_data(examples.fingerprint().as_ref());
    Ok(examples)
}

fn origin<'a>(
    start: StartChoice,
    config: &'a EnergyConfig,
    generator: Option<&'a Generator>,
    examples: Option<&'a Examples>,
) -> Result<Box<dyn Origin + 'a>> {
    Ok(match start {
        StartChoice::Generator => Box::new(generator.context("this start needs a generator")?),
        StartChoice::Noise => Box::new(Noise::of(config)),
        StartChoice::Data => Box::new(Data {
            examples: examples.context("this start needs data")?,
            config,
            generator,
        }),
    })
}
