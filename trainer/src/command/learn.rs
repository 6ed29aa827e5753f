//! `trainer fit`, `trainer classifier` and `trainer resume`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ebm_export::contract::Kind as NetworkKind;
use tch::Device;

use super::{load, saved_config};
use crate::borrowed::Borrowed;
use crate::classifier::ClassifierLearner;
use crate::cli::{FitArgs, LearnArgs, MachineArgs, ResumeArgs};
use crate::config::{ClassifierConfig, Configuration, EnergyConfig, Layers};
use crate::examples::Examples;
use crate::learner::Learner;
use crate::record::sessions;
use crate::run_folder::{Existing, RunFolder};
use crate::saved::Saved;
use crate::session::{self, End, Learning, Machine, State, StopSignal, device_name};

/// `trainer fit`.
///
/// # Errors
/// The configuration, the data or the folder is refused; or learning fails.
pub fn fit(args: &FitArgs) -> Result<End> {
    let layers =
        layers(&args.learn)?.borrowing(args.generator.as_deref(), args.prior.as_deref())?;
    begin_fit(&layers, &NewRun::from(&args.learn), &StopSignal::listen()?)
}

/// `trainer classifier`.
///
/// # Errors
/// The configuration, the data or the folder is refused; or learning fails.
pub fn classifier(args: &LearnArgs) -> Result<End> {
    begin_classifier(&layers(args)?, &NewRun::from(args), &StopSignal::listen()?)
}

/// `trainer resume`.
///
/// # Errors
/// There is no run, it does not fit its data any more, or learning fails.
pub fn resume(args: &ResumeArgs) -> Result<End> {
    go_on(
        &args.run,
        args.data.as_deref(),
        args.machine,
        &StopSignal::listen()?,
    )
}

/// Where a new run is made, of what data, and on which machine.
#[derive(Debug)]
pub(super) struct NewRun {
    pub(super) data: Option<PathBuf>,
    pub(super) folder: PathBuf,
    pub(super) existing: Existing,
    pub(super) machine: MachineArgs,
}

impl From<&LearnArgs> for NewRun {
    fn from(args: &LearnArgs) -> NewRun {
        let name = args
            .preset_or_file
            .as_ref()
            .or(args.preset.as_ref())
            .map(Path::new)
            .and_then(Path::file_stem);
        let default = || PathBuf::from("runs").join(name.unwrap_or("run".as_ref()));
        NewRun {
            data: args.data.clone(),
            folder: args.output.clone().unwrap_or_else(default),
            existing: Existing::from_force(args.force),
            machine: args.machine,
        }
    }
}

impl MachineArgs {
    /// For what runs in one process.
    pub(super) fn alone(self) -> Result<Machine> {
        Machine::new(self.device, self.threads)
    }

    /// For what several processes may learn.
    fn among_ranks(self) -> Result<Machine> {
        Machine::among_ranks(self.device, self.threads)
    }
}

impl NewRun {
    fn state(&self) -> State {
        State {
            data_directory: self.data.clone(),
            ..State::default()
        }
    }

    /// Makes the folder, in the first process.
    fn create<C: Configuration>(&self, config: &C, learning: &dyn Learning) -> Result<RunFolder> {
        if !learning.ranks().is_first() {
            return Ok(RunFolder::of_first_rank(&self.folder));
        }
        let folder = RunFolder::create(&self.folder, self.existing)?;
        folder.write_config(
            &toml::to_string(config).context("cannot write the configuration as TOML")?,
        )?;
        eprintln!("run folder {}", self.folder.display());
        Ok(folder)
    }
}

/// Learns an energy network from its beginning.
pub(super) fn begin_fit(layers: &Layers, run: &NewRun, stop: &StopSignal) -> Result<End> {
    let config: EnergyConfig = layers.resolve()?;
    let machine = run.machine.among_ranks()?;
    let examples = Examples::load(&config, run.data.as_deref(), machine.team.n_threads())?;
    let borrowed = Borrowed::from_earlier_runs(&config)?;
    let mut learner = Learner::new(config.clone(), examples, borrowed, machine)?;
    let folder = run.create(&config, &learner)?;
    report_rounding(&learner)?;
    let end = session::run(&mut learner, &folder, run.state(), stop)?;
    Ok(report_end(end, &learner, &folder))
}

/// Says how exact the gradients of the chains are, where they are not those of f32.
fn report_rounding(learner: &Learner) -> Result<()> {
    if let Some(rounding) = learner.rounding()?
        && learner.ranks().is_first()
    {
        eprintln!("{rounding}");
    }
    Ok(())
}

/// Learns a classifier from its beginning.
pub(super) fn begin_classifier(layers: &Layers, run: &NewRun, stop: &StopSignal) -> Result<End> {
    let config: ClassifierConfig = layers.resolve()?;
    let machine = run.machine.alone()?;
    let dataset = load(
        &config.data,
        run.data.as_deref(),
        &config.network,
        machine.team.n_threads(),
    )?;
    let mut learner = ClassifierLearner::new(config.clone(), dataset, machine)?;
    let folder = run.create(&config, &learner)?;
    let end = session::run(&mut learner, &folder, run.state(), stop)?;
    report_classifier(end, &learner, &folder)
}

/// Goes on with a run from its latest checkpoint; `data` is where its data lie, where they have moved.
pub(super) fn go_on(
    run: &Path,
    data: Option<&Path>,
    machine: MachineArgs,
    stop: &StopSignal,
) -> Result<End> {
    let folder = RunFolder::open(run)?;
    let saved = Saved::open(run)?;
    let mut state = saved.state()?;
    if let Some(data) = data {
        state.data_directory = Some(data.to_path_buf());
    }
    let machine = match saved.header.kind {
        NetworkKind::Classifier => machine.alone()?,
        _ => machine.among_ranks()?,
    };
    if machine.team.ranks().is_first() {
        let (run, update) = (run.display(), saved.header.update);
        eprintln!("resuming {run} after update {update}");
        warn_of_another_device(&folder, machine.device);
    }
    match saved.header.kind {
        NetworkKind::Classifier => go_on_with_classifier(&saved, &folder, state, machine, stop),
        _ => go_on_with_fit(&saved, &folder, state, machine, stop),
    }
}

/// Says so where a run goes on elsewhere than it was.
fn warn_of_another_device(folder: &RunFolder, device: Device) {
    let earlier = sessions::read(&folder.sessions());
    let Some(last) = earlier.last() else {
        return;
    };
    // Which of several GPUs it is makes no difference.
    let kind = |name: &str| name.split(':').next().unwrap_or_default().to_string();
    let (before, now) = (kind(&last.device), kind(&device_name(device)));
    if before != now {
        eprintln!(
            "this run was on {before} and goes on on {now}, where results differ by rounding: stop it and give --device {before} where that is not meant"
        );
    }
}

fn go_on_with_fit(
    saved: &Saved,
    folder: &RunFolder,
    state: State,
    machine: Machine,
    stop: &StopSignal,
) -> Result<End> {
    let config: EnergyConfig = saved_config(saved)?;
    let directory = state.data_directory.as_deref();
    let examples = Examples::load(&config, directory, machine.team.n_threads())?;
    let borrowed = Borrowed::from_own_checkpoint(saved, &config)?;
    let mut learner = Learner::new(config, examples, borrowed, machine)?;
    learner.restore(&saved.header, &|group| saved.group(group))?;
    report_rounding(&learner)?;
    let end = session::run(&mut learner, folder, state, stop)?;
    Ok(report_end(end, &learner, folder))
}

fn go_on_with_classifier(
    saved: &Saved,
    folder: &RunFolder,
    state: State,
    machine: Machine,
    stop: &StopSignal,
) -> Result<End> {
    let config: ClassifierConfig = saved_config(saved)?;
    let dataset = load(
        &config.data,
        state.data_directory.as_deref(),
        &config.network,
        machine.team.n_threads(),
    )?;
    let mut learner = ClassifierLearner::new(config, dataset, machine)?;
    learner.restore(&saved.header, &|group| saved.group(group))?;
    let end = session::run(&mut learner, folder, state, stop)?;
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
    layers = layers.set_all(&args.set)?;
    if let Some(seed) = args.seed {
        layers = layers.set(&format!("seed={seed}"))?;
    }
    Ok(layers)
}

/// The first process says how it ended.
fn report_end(end: End, learning: &dyn Learning, folder: &RunFolder) -> End {
    if !learning.ranks().is_first() {
        return end;
    }
    let path = folder.path().display();
    match end {
        End::Complete => {
            println!(
                "done: {path} (checkpoints, metrics.jsonl, samples, diagnostics.svg); a page about it: `trainer report {path}`"
            )
        }
        End::Interrupted => {
            let on = match learning.place().device {
                Device::Cpu => "",
                _ => " --device cuda",
            };
            eprintln!("interrupted; nothing is lost: continue with `trainer resume {path}{on}`")
        }
    }
    end
}

fn report_classifier(end: End, learner: &ClassifierLearner, folder: &RunFolder) -> Result<End> {
    if end == End::Complete {
        println!("test accuracy {}", learner.test_accuracy()?);
    }
    Ok(report_end(end, learner, folder))
}
