//! `trainer fit`, `trainer classifier` and `trainer resume`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ebm_export::contract::Kind as NetworkKind;

use super::{load, saved_config};
use crate::borrowed::Borrowed;
use crate::classifier::ClassifierLearner;
use crate::cli::{FitArgs, LearnArgs, ResumeArgs};
use crate::config::{ClassifierConfig, Configuration, EnergyConfig, Layers};
use crate::learner::Learner;
use crate::run_folder::{Existing, RunFolder};
use crate::saved::Saved;
use crate::session::{self, End, Machine, State, StopSignal};

/// `trainer fit`.
///
/// # Errors
/// The configuration, the data or the folder is refused; or learning fails.
pub fn fit(fit: &FitArgs) -> Result<End> {
    let args = &fit.learn;
    let mut layers = layers(args)?;
    for (key, path) in [("generator", &fit.generator), ("prior", &fit.prior)] {
        if let Some(path) = path {
            layers = layers.path(&format!("{key}.checkpoint"), path)?;
        }
    }
    let config: EnergyConfig = layers.resolve()?;
    let machine = Machine::new(args.machine.device, args.machine.threads)?;
    let dataset = load(&config.data, args.data.as_deref(), &config.network)?;
    let borrowed = Borrowed::from_earlier_runs(&config)?;
    let mut learner = Learner::new(config.clone(), dataset, borrowed, machine)?;
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
    let config: ClassifierConfig = layers(args)?.resolve()?;
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
    let borrowed = Borrowed::from_own_checkpoint(saved, &config)?;
    let mut learner = Learner::new(config, dataset, borrowed, machine)?;
    learner.restore(&saved.header, &|group| saved.group(group))?;
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
    learner.restore(&saved.header, &|group| saved.group(group))?;
    let end = session::run(&mut learner, folder, state, &StopSignal::listen()?)?;
    report_classifier(end, &learner, folder)
}

fn layers(args: &LearnArgs) -> Result<Layers> {
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
    Ok(layers)
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
