//! `trainer fit`, `trainer classifier` and `trainer resume`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ebm_export::source::Kind as NetworkKind;
use tch::Device;

use super::{load, saved_config};
use crate::cli::{FitArgs, LearnArgs, MachineArgs, ResumeArgs};
use crate::config::{ClassifierConfig, Configuration, EnergyConfig, Layers};
use crate::data::Fingerprint;
use crate::learn::borrowed::Borrowed;
use crate::learn::classifier::ClassifierLearner;
use crate::learn::energy::Learner;
use crate::learn::examples::Examples;
use crate::machine::console;
use crate::machine::ranks::Ranks;
use crate::run::folder::{Existing, RunFolder};
use crate::run::record::sessions;
use crate::run::resumption::{Resumed, Resumption};
use crate::run::saved::Saved;
use crate::run::session::{self, End, Learning, Machine, State, StopSignal, device_name};

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
    let old = OldRun {
        resumed: Resumed::of(&args.run, args.checkpoint.as_deref())?,
        data: args.data.clone(),
        changed_data: ChangedData::from_flag(args.allow_changed_data),
        machine: args.machine,
    };
    go_on(&old, &StopSignal::listen()?)
}

/// Where a new run is made, of what data, and on which machine.
#[derive(Debug)]
pub(super) struct NewRun {
    pub(super) data: Option<PathBuf>,
    pub(super) folder: PathBuf,
    pub(super) existing: Existing,
    pub(super) machine: MachineArgs,
}

/// Which run goes on, on what data, and on which machine.
#[derive(Debug)]
pub(super) struct OldRun {
    pub(super) resumed: Resumed,
    /// Where its data lie, if they have moved.
    pub(super) data: Option<PathBuf>,
    pub(super) changed_data: ChangedData,
    pub(super) machine: MachineArgs,
}

/// What to do if data are not those that a run has learned from so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChangedData {
    /// The run does not go on.
    Refused,
    /// It goes on with them.
    Allowed,
}

impl ChangedData {
    /// From the option `--allow-changed-data`.
    pub(super) fn from_flag(allowed: bool) -> ChangedData {
        match allowed {
            true => ChangedData::Allowed,
            false => ChangedData::Refused,
        }
    }
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
    fn state(&self, data: Option<Fingerprint>) -> State {
        State {
            data_directory: self.data.clone(),
            data,
            ..State::default()
        }
    }

    /// Refuses before any work what [`NewRun::create`] would refuse, in the first process.
    fn expect_free(&self, machine: &Machine) -> Result<()> {
        match machine.team.ranks().is_first() {
            true => RunFolder::expect_free(&self.folder, self.existing),
            false => Ok(()),
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
    run.expect_free(&machine)?;
    let examples = Examples::load(&config, run.data.as_deref(), machine.team.n_threads())?;
    let state = run.state(examples.fingerprint());
    let borrowed = Borrowed::from_earlier_runs(&config)?;
    let mut learner = Learner::new(config.clone(), examples, borrowed, machine)?;
    let folder = run.create(&config, &learner)?;
    report_rounding(&learner)?;
    let end = session::run(&mut learner, &folder, state, stop)?;
    report_end(end, &learner, &folder)
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
    run.expect_free(&machine)?;
    let dataset = load(
        &config.data,
        run.data.as_deref(),
        &config.network,
        machine.team.n_threads(),
    )?;
    let state = run.state(Some(dataset.fingerprint()));
    let mut learner = ClassifierLearner::new(config.clone(), dataset, machine)?;
    let folder = run.create(&config, &learner)?;
    let end = session::run(&mut learner, &folder, state, stop)?;
    report_classifier(end, &learner, &folder)
}

/// Goes on with a run.
pub(super) fn go_on(old: &OldRun, stop: &StopSignal) -> Result<End> {
    let mut folder = RunFolder::open(&old.resumed.run)?;
    let machine = match folder.kind()? {
        NetworkKind::Classifier => old.machine.alone()?,
        _ => old.machine.among_ranks()?,
    };
    let is_first = machine.team.ranks().is_first();
    if is_first {
        folder = folder.locked()?;
    }
    let resumption = Resumption::choose(&folder, old.resumed.checkpoint.as_deref())?;
    if is_first {
        resumption.tell();
        let (run, update) = (folder.path().display(), resumption.saved.header.update);
        eprintln!("resuming {run} after update {update}");
        warn_of_another_device(&folder, machine.device);
    }
    match resumption.saved.header.kind {
        NetworkKind::Classifier => go_on_with_classifier(old, &resumption, &folder, machine, stop),
        _ => go_on_with_fit(old, &resumption, &folder, machine, stop),
    }
}

impl OldRun {
    /// What the run goes on with: its state, on the data that are there.
    fn state(&self, saved: &Saved, data: Option<Fingerprint>, ranks: &Ranks) -> Result<State> {
        let state = saved.state()?;
        let lines = match (&state.data, &data) {
            (Some(then), Some(now)) => self.lines_of_changes(&now.changes_since(then))?,
            (None, Some(_)) => vec![
                "an older version wrote this checkpoint without a fingerprint of its data: that they are the same cannot be checked".to_string(),
            ],
            _ => Vec::new(),
        };
        if ranks.is_first() {
            lines.iter().for_each(|line| eprintln!("{line}"));
        }
        Ok(State {
            data_directory: saved.data_directory(self.data.as_deref()),
            data,
            ..state
        })
    }

    fn lines_of_changes(&self, changes: &[String]) -> Result<Vec<String>> {
        let run = self.resumed.run.display();
        let listed = changes.join("; ");
        match self.changed_data {
            _ if changes.is_empty() => Ok(Vec::new()),
            ChangedData::Refused => bail!(
                "the data are not those that {run} has learned from so far: {listed}; bring them back, name their folder with --data DIR, \
                 or go on with these by --allow-changed-data"
            ),
            ChangedData::Allowed => Ok(vec![format!(
                "{run} goes on with other data ({listed}): the result is not that of a run on either of them"
            )]),
        }
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
    old: &OldRun,
    resumption: &Resumption,
    folder: &RunFolder,
    machine: Machine,
    stop: &StopSignal,
) -> Result<End> {
    let saved = &resumption.saved;
    let config: EnergyConfig = saved_config(saved)?;
    let directory = saved.data_directory(old.data.as_deref());
    let examples = Examples::load(&config, directory.as_deref(), machine.team.n_threads())?;
    let state = old.state(saved, examples.fingerprint(), machine.team.ranks())?;
    let borrowed = Borrowed::from_own_checkpoint(saved, &config)?;
    let mut learner = Learner::new(config, examples, borrowed, machine)?;
    learner.restore(&saved.header, &|group| saved.group(group))?;
    report_rounding(&learner)?;
    put_aside(resumption, &learner, folder)?;
    let end = session::run(&mut learner, folder, state, stop)?;
    report_end(end, &learner, folder)
}

fn go_on_with_classifier(
    old: &OldRun,
    resumption: &Resumption,
    folder: &RunFolder,
    machine: Machine,
    stop: &StopSignal,
) -> Result<End> {
    let saved = &resumption.saved;
    let config: ClassifierConfig = saved_config(saved)?;
    let directory = saved.data_directory(old.data.as_deref());
    let n_threads = machine.team.n_threads();
    let dataset = load(
        &config.data,
        directory.as_deref(),
        &config.network,
        n_threads,
    )?;
    let state = old.state(saved, Some(dataset.fingerprint()), machine.team.ranks())?;
    let mut learner = ClassifierLearner::new(config, dataset, machine)?;
    learner.restore(&saved.header, &|group| saved.group(group))?;
    put_aside(resumption, &learner, folder)?;
    let end = session::run(&mut learner, folder, state, stop)?;
    report_classifier(end, &learner, folder)
}

/// The first process makes room for the checkpoints to come, once all processes have read the one that they go on from.
fn put_aside(resumption: &Resumption, learning: &dyn Learning, folder: &RunFolder) -> Result<()> {
    learning.ranks().any(false)?;
    match learning.ranks().is_first() {
        true => resumption.put_aside(folder),
        false => Ok(()),
    }
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
fn report_end(end: End, learning: &dyn Learning, folder: &RunFolder) -> Result<End> {
    if !learning.ranks().is_first() {
        return Ok(end);
    }
    let path = folder.path().display();
    match end {
        End::Complete => console::print(&format!(
            "done: {path} (checkpoints, metrics.jsonl, samples, diagnostics.svg); a page about it: `trainer report {path}`"
        ))?,
        End::Interrupted => {
            let on = match learning.place().device {
                Device::Cpu => "",
                _ => " --device cuda",
            };
            eprintln!("interrupted; nothing is lost: continue with `trainer resume {path}{on}`")
        }
    }
    Ok(end)
}

fn report_classifier(end: End, learner: &ClassifierLearner, folder: &RunFolder) -> Result<End> {
    if end == End::Complete {
        console::print(&format!("test accuracy {}", learner.test_accuracy()?))?;
    }
    report_end(end, learner, folder)
}
