//! The commands: from what the user typed to a finished run.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use ebm_export::checkpoint::tensors_sha256;
use ebm_export::contract::Kind as NetworkKind;
use ebm_export::pipeline::gradient_graph;
use ebm_export::rewrite::Rewrite;
use tch::Kind;

use crate::attack::{Defence, Outcome, Parameters, Report, Results, attack_bare, attack_defended};
use crate::classifier::ClassifierLearner;
use crate::cli::{AttackArgs, LearnArgs, ResumeArgs};
use crate::config::{
    ClassifierConfig, Configuration, DataConfig, Dynamics, EnergyConfig, Layers, Off, PRESETS,
    Setting, preset,
};
use crate::data::{self, Dataset};
use crate::learner::Learner;
use crate::network::{Program, to_device};
use crate::run_folder::{Existing, RunFolder};
use crate::saved::Saved;
use crate::session::{self, End, Machine, State, StopSignal};

/// `trainer fit`.
///
/// # Errors
/// The configuration, the data or the folder is refused; or learning fails.
pub fn fit(args: &LearnArgs) -> Result<End> {
    let config: EnergyConfig = resolve(args)?;
    let machine = Machine::new(args.machine.device, args.machine.threads)?;
    let dataset = load(&config.data, args.data.as_deref(), &config.network)?;
    let mut learner = Learner::new(config.clone(), dataset, machine)?;
    let folder = new_run(args, &config)?;
    let state = State {
        data_directory: args.data.clone(),
        ..State::default()
    };
    session::run(&mut learner, &folder, state, &StopSignal::listen()?)
        .map(|end| report_end(end, &folder))
}

/// `trainer classifier`.
///
/// # Errors
/// The configuration, the data or the folder is refused; or learning fails.
pub fn classifier(args: &LearnArgs) -> Result<End> {
    let config: ClassifierConfig = resolve(args)?;
    let machine = Machine::new(args.machine.device, args.machine.threads)?;
    let dataset = load(&config.data, args.data.as_deref(), &config.network)?;
    let mut learner = ClassifierLearner::new(config.clone(), dataset, machine)?;
    let folder = new_run(args, &config)?;
    let state = State {
        data_directory: args.data.clone(),
        ..State::default()
    };
    let end = session::run(&mut learner, &folder, state, &StopSignal::listen()?)?;
    report_classifier(end, &learner, &folder)
}

/// `trainer resume`.
///
/// # Errors
/// There is no run, it does not fit its data any more, or learning fails.
pub fn resume(args: &ResumeArgs) -> Result<End> {
    let folder = RunFolder::open(&args.run)?;
    let saved = Saved::open(&args.run)?;
    let mut state: State =
        serde_json::from_value(saved.header.state.clone()).with_context(|| {
            format!(
                "{} was not written by a run of `trainer`",
                saved.folder.display()
            )
        })?;
    if args.data.is_some() {
        state.data_directory = args.data.clone();
    }
    let machine = Machine::new(args.machine.device, args.machine.threads)?;
    eprintln!(
        "resuming {} after update {}",
        args.run.display(),
        saved.header.update
    );
    match saved.header.kind {
        NetworkKind::Classifier => resume_classifier(&saved, &folder, state, machine),
        _ => resume_fit(&saved, &folder, state, machine),
    }
}

fn resume_fit(saved: &Saved, folder: &RunFolder, state: State, machine: Machine) -> Result<End> {
    let config: EnergyConfig = saved_config(saved)?;
    let dataset = load(
        &config.data,
        state.data_directory.as_deref(),
        &config.network,
    )?;
    let mut learner = Learner::new(config, dataset, machine)?;
    learner.restore(&saved.header, |group| saved.group(group))?;
    session::run(&mut learner, folder, state, &StopSignal::listen()?)
        .map(|end| report_end(end, folder))
}

fn resume_classifier(
    saved: &Saved,
    folder: &RunFolder,
    state: State,
    machine: Machine,
) -> Result<End> {
    let config: ClassifierConfig = saved_config(saved)?;
    let dataset = load(
        &config.data,
        state.data_directory.as_deref(),
        &config.network,
    )?;
    let mut learner = ClassifierLearner::new(config, dataset, machine)?;
    learner.restore(&saved.header, |group| saved.group(group))?;
    let end = session::run(&mut learner, folder, state, &StopSignal::listen()?)?;
    report_classifier(end, &learner, folder)
}

fn saved_config<C: Configuration>(saved: &Saved) -> Result<C> {
    let config: C = serde_json::from_value(saved.header.config.clone()).with_context(|| {
        format!(
            "the configuration in {} is not one of this version",
            saved.folder.display()
        )
    })?;
    config.check()?;
    Ok(config)
}

fn resolve<C: Configuration>(args: &LearnArgs) -> Result<C> {
    let mut layers = Layers::default();
    if let Some(name) = &args.preset {
        layers = layers.preset(name)?;
    }
    if let Some(name) = &args.preset_or_file {
        layers = layers.preset_or_file(name)?;
    }
    for set in &args.set {
        layers = layers.set(set)?;
    }
    if let Some(seed) = args.seed {
        layers = layers.set(&format!("seed={seed}"))?;
    }
    Ok(layers.resolve()?)
}

fn load(
    config: &DataConfig,
    directory: Option<&Path>,
    network: &ebm_export::arch::Network,
) -> Result<Dataset> {
    Ok(data::load(config, directory, network.image())?)
}

fn new_run<C: Configuration>(args: &LearnArgs, config: &C) -> Result<RunFolder> {
    let name = args
        .preset_or_file
        .as_ref()
        .or(args.preset.as_ref())
        .map(Path::new)
        .and_then(Path::file_stem);
    let default = || PathBuf::from("runs").join(name.unwrap_or("run".as_ref()));
    let path = args.output.clone().unwrap_or_else(default);
    let folder = RunFolder::create(&path, Existing::from_force(args.force))?;
    folder.write_config(
        &toml::to_string(config).context("cannot write the configuration as TOML")?,
    )?;
    eprintln!("run folder {}", path.display());
    Ok(folder)
}

fn report_end(end: End, folder: &RunFolder) -> End {
    let path = folder.path().display();
    match end {
        End::Complete => {
            println!("done: {path} (checkpoints, metrics.jsonl, samples, diagnostics.svg)")
        }
        End::Interrupted => {
            eprintln!("interrupted; nothing is lost: continue with `trainer resume {path}`")
        }
    }
    end
}

fn report_classifier(end: End, learner: &ClassifierLearner, folder: &RunFolder) -> Result<End> {
    if end == End::Complete {
        println!("test accuracy {}", learner.test_accuracy()?);
    }
    Ok(report_end(end, folder))
}

/// `trainer presets`.
///
/// # Errors
/// There is no preset of that name.
pub fn presets(name: Option<&str>) -> Result<End> {
    match name {
        Some(name) => print!("{}", preset(name)?.text),
        None => PRESETS
            .iter()
            .for_each(|preset| println!("{:<26} {}", preset.name, preset.summary())),
    }
    Ok(End::Complete)
}

/// `trainer attack`.
///
/// # Errors
/// A checkpoint, a parameter or the folder is refused; or libtorch fails.
pub fn attack(args: &AttackArgs) -> Result<End> {
    let energy = Saved::open_kind(&args.energy, NetworkKind::Energy, "--energy")?;
    let classifier = Saved::open_kind(&args.classifier, NetworkKind::Classifier, "--classifier")?;
    let (parameters, dynamics) = (parameters(args)?, purification(args, &energy)?);
    ensure!(
        energy.header.network.image() == classifier.header.network.image(),
        "the energy network takes images {:?}, the classifier {:?}: they must be of the same images",
        energy.header.network.image(),
        classifier.header.network.image()
    );
    prepare_output(args)?;
    let machine = Machine::new(args.machine.device, args.machine.threads)?;
    let (clean, labels) = test_images(args, &classifier)?;
    let (clean, labels) = (
        clean.to_device(machine.device),
        labels.to_device(machine.device),
    );
    let (energy_weights, classifier_weights) = (energy.weights()?, classifier.weights()?);
    let graph = gradient_graph(&energy.header.network.graph()?, &Rewrite::ALL)?;
    let gradient_program = Program::new(&graph, Kind::Float, machine.device);
    let gradient_network =
        gradient_program.bind(&to_device(&energy_weights, Kind::Float, machine.device))?;
    let classifier_program = Program::new(
        &classifier.header.network.graph()?,
        Kind::Float,
        machine.device,
    );
    let classifier_network =
        classifier_program.bind(&to_device(&classifier_weights, Kind::Float, machine.device))?;
    let defence = Defence {
        team: &machine.team,
        gradient_network: &gradient_network,
        classifier: &classifier_network,
        dynamics,
        batch: args.batch,
    };

    let start = Instant::now();
    let bare = attack_bare(&classifier_network, &clean, &labels, &parameters)?;
    let defended = attack_defended(&defence, &clean, &labels, &parameters)?;
    let results = Results {
        attack: "PGD on the bare classifier; BPDA+EOT with confirmed breaks on the defended one",
        parameters,
        purification: dynamics,
        n_images: clean.size()[0] as usize,
        report: summary(&bare, &defended),
        seconds: start.elapsed().as_secs_f64(),
        weights_sha256: [
            ("energy", tensors_sha256(&energy_weights)),
            ("classifier", tensors_sha256(&classifier_weights)),
        ]
        .into(),
    };
    results.write(&args.output, &clean, &labels, &bare, &defended)?;
    print!("{}", results.report);
    println!("{:.1} s; {}", results.seconds, args.output.display());
    Ok(End::Complete)
}

fn summary(bare: &Outcome, defended: &Outcome) -> Report {
    Report {
        clean: bare.clean(),
        attacked: bare.robust(),
        defended_clean: defended.clean(),
        defended_attacked: defended.robust(),
    }
}

fn parameters(args: &AttackArgs) -> Result<Parameters> {
    let parameters = Parameters {
        epsilon: args.epsilon,
        pgd_steps: args.pgd_steps,
        pgd_step_size: args.pgd_step_size.unwrap_or(args.epsilon / 5.0),
        replicas: args.replicas,
        verify_replicas: args.verify_replicas,
        batch: args.batch,
        attack_seed: args.seed,
        verify_seed: args.verify_seed,
    };
    parameters.check()?;
    ensure!(
        args.images >= 1,
        "--images {}: expected at least 1",
        args.images
    );
    ensure!(
        args.seed != args.verify_seed,
        "--seed and --verify-seed are both {}: a break must be confirmed with another seed",
        args.seed
    );
    Ok(parameters)
}

fn purification(args: &AttackArgs, energy: &Saved) -> Result<Dynamics> {
    let recommended = energy.header.purification.as_ref();
    let missing = |option: &str| format!("the checkpoint recommends no purification: say {option}");
    let dynamics = Dynamics {
        steps: args
            .steps
            .or(recommended.map(|recommended| recommended.steps))
            .with_context(|| missing("--steps"))?,
        step_size: args
            .step_size
            .or(recommended.map(|recommended| recommended.step_size))
            .with_context(|| missing("--step-size"))?,
        temperature: args
            .temperature
            .or(recommended.map(|recommended| recommended.temperature))
            .with_context(|| missing("--temperature"))?,
        clip: Setting::Off(Off::Off),
    };
    dynamics.check("purification")?;
    Ok(dynamics)
}

fn prepare_output(args: &AttackArgs) -> Result<()> {
    let held = ["attack.json", "attacked.safetensors"]
        .iter()
        .any(|name| args.output.join(name).exists());
    if held && !args.force {
        bail!(
            "{} holds the results of an attack already: choose another folder with -o, or replace them with --force",
            args.output.display()
        );
    }
    fs::create_dir_all(&args.output)
        .with_context(|| format!("cannot make the folder {}", args.output.display()))
}

/// The first test images of the classifier's data.
fn test_images(args: &AttackArgs, classifier: &Saved) -> Result<(tch::Tensor, tch::Tensor)> {
    let config: ClassifierConfig = saved_config(classifier)?;
    let state: Option<State> = serde_json::from_value(classifier.header.state.clone()).ok();
    let directory = args
        .data
        .clone()
        .or(state.and_then(|state| state.data_directory));
    let dataset = load(&config.data, directory.as_deref(), &config.network)?;
    Ok(dataset.test.first(args.images))
}
