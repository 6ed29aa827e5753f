//! The loop that all learning shares: update, record, checkpoint; stop at the end, on Ctrl-C or on a value that is not finite.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use ebm_export::checkpoint::Header;
use ebm_export::tensor::Tensors;
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::config::Output;
use crate::cuda::DeviceName;
use crate::parallel::Team;
use crate::ranks::{Launch, Ranks};
use crate::record::{Measured, Metrics, Progress, Window, curve};
use crate::report::{self, Curve};
use crate::run_folder::RunFolder;

/// Something that learns by updates.
pub trait Learning {
    /// Updates done.
    fn update_number(&self) -> u64;

    /// Updates in all.
    fn n_updates(&self) -> u64;

    /// What is written, and when.
    fn output(&self) -> Output;

    /// The learning rate of an update, counted from 0.
    fn learning_rate(&self, update: u64) -> f64;

    /// This process among those that learn together.
    fn ranks(&self) -> &Ranks;

    /// Does one update.
    ///
    /// # Errors
    /// A value is not finite, or libtorch fails; the state is then as before the update or no longer usable.
    fn update(&mut self) -> Result<Measured>;

    /// What a checkpoint says of it; the caller fills in `state`.
    ///
    /// # Errors
    /// The configuration cannot be written.
    fn header(&self) -> Result<Header>;

    /// All tensors of a checkpoint, in every process.
    ///
    /// # Errors
    /// libtorch cannot copy.
    fn groups(&self) -> Result<Vec<(&'static str, Tensors)>>;

    /// A sample sheet as PNG, where there is something to see.
    ///
    /// # Errors
    /// libtorch cannot copy.
    fn sheet(&self) -> Result<Option<Vec<u8>>>;

    /// Which of the measured values the diagnostics show, and under which label.
    fn curves(&self) -> &'static [(&'static str, &'static str)];

    /// What the live line says of an update.
    fn message(&self, measured: &Measured) -> String {
        measured
            .iter()
            .map(|(name, value)| format!("{} {value:.4}", name.replace('_', " ")))
            .collect::<Vec<_>>()
            .join(" · ")
    }
}

/// What a checkpoint keeps beside tensors and configuration.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// Where the data lie, where the source needs a folder.
    pub data_directory: Option<std::path::PathBuf>,
    /// Means since the last log point.
    pub window: Window,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All updates are done.
    Complete,
    /// Ctrl-C: the checkpoint holds all updates done.
    Interrupted,
}

/// Set when the user wants to stop.
#[derive(Clone, Debug, Default)]
pub struct StopSignal(Arc<AtomicBool>);

impl StopSignal {
    /// Listens for Ctrl-C and a request to terminate; a second one ends the process at once.
    ///
    /// # Errors
    /// The system refuses.
    pub fn listen() -> Result<StopSignal> {
        let signal = StopSignal::default();
        let flag = signal.0.clone();
        ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(INTERRUPTED);
            }
            eprintln!("\nstopping as soon as what is done is kept; a second Ctrl-C stops at once");
        })
        .context("cannot listen for Ctrl-C")?;
        Ok(signal)
    }

    /// Whether the user wants to stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Exit code of a process that Ctrl-C ended.
pub const INTERRUPTED: i32 = 130;

/// Learns until all updates are done or the user stops. A run has a checkpoint from its beginning on.
///
/// # Errors
/// An update fails, or a file cannot be written; the last checkpoint is as it was.
pub fn run(
    learning: &mut dyn Learning,
    folder: &RunFolder,
    state: State,
    stop: &StopSignal,
) -> Result<End> {
    let path = folder.path().display();
    learn(learning, folder, state, stop)
        .with_context(|| format!("the run in {path} stopped; its last checkpoint is as it was"))
}

fn learn(
    learning: &mut dyn Learning,
    folder: &RunFolder,
    mut state: State,
    stop: &StopSignal,
) -> Result<End> {
    let output = learning.output();
    if learning.ranks().is_first() {
        folder.sweep();
    }
    write_checkpoint(learning, folder, &state)?;
    let mut log = match learning.ranks().is_first() {
        true => Some(Log::open(learning, folder)?),
        false => None,
    };
    while learning.update_number() < learning.n_updates() && !learning.ranks().any(stop.is_set())? {
        let measured = learning.update()?;
        let update = learning.update_number();
        state.window.add(&measured);
        let last = update == learning.n_updates();
        let means = (last || is_due(update, output.log_every)).then(|| state.window.take());
        if let Some(log) = &mut log {
            log.progress.show(update, &learning.message(&measured));
            if let Some(means) = &means {
                let seconds = log.start.elapsed().as_secs_f64();
                log.metrics
                    .write(update, means, learning.learning_rate(update - 1), seconds)?;
            }
            if last || is_due(update, output.sample_every) {
                write_pictures(learning, folder)?;
            }
        }
        if last || is_due(update, output.checkpoint_every) {
            write_checkpoint(learning, folder, &state)?;
        }
    }
    if let Some(log) = &log {
        log.progress.finish();
    }
    let complete = learning.update_number() == learning.n_updates();
    if !complete {
        write_checkpoint(learning, folder, &state)?;
    }
    learning.ranks().farewell();
    Ok(match complete {
        true => End::Complete,
        false => End::Interrupted,
    })
}

/// What the first process shows and writes of each update.
struct Log {
    metrics: Metrics,
    progress: Progress,
    start: Instant,
}

impl Log {
    fn open(learning: &dyn Learning, folder: &RunFolder) -> Result<Log> {
        let update = learning.update_number();
        Ok(Log {
            metrics: Metrics::open(&folder.metrics(), update)?,
            progress: Progress::new("update", update, learning.n_updates()),
            start: Instant::now(),
        })
    }
}

fn is_due(update: u64, every: u64) -> bool {
    every > 0 && update.is_multiple_of(every)
}

/// All processes give their parts, and the first writes.
fn write_checkpoint(learning: &dyn Learning, folder: &RunFolder, state: &State) -> Result<()> {
    let mut header = learning.header()?;
    header.update = learning.update_number();
    header.state = serde_json::to_value(state).context("cannot write the state of the run")?;
    let groups = learning.groups()?;
    if !learning.ranks().is_first() {
        return Ok(());
    }
    let groups: Vec<(&str, &Tensors)> = groups
        .iter()
        .map(|(name, tensors)| (*name, tensors))
        .collect();
    folder.write_checkpoint(&header, &groups, learning.output().keep)
}

fn write_pictures(learning: &dyn Learning, folder: &RunFolder) -> Result<()> {
    if let Some(png) = learning.sheet()? {
        folder.write_sheet(learning.update_number(), &png)?;
    }
    let curves = learning.curves().iter().map(|(name, label)| {
        Ok(Curve {
            label,
            points: curve(&folder.metrics(), name)?,
        })
    });
    let curves = curves.collect::<Result<Vec<Curve>>>()?;
    folder.write_diagnostics(&report::diagnostics(&curves)?)
}

/// Where a run computes.
#[derive(Debug)]
pub struct Machine {
    /// The device.
    pub device: Device,
    /// The threads.
    pub team: Team,
}

impl Machine {
    /// Looks for the device and starts the threads.
    ///
    /// # Errors
    /// The device is not there, or a launcher started several processes.
    pub fn new(device: DeviceName, n_threads: Option<u16>) -> Result<Machine> {
        if let Some(Launch { n_ranks, .. }) = Launch::from_environment()? {
            bail!(
                "this command runs in one process, and a launcher started {n_ranks} (WORLD_SIZE or SLURM_NTASKS): \
                 start it alone; `trainer fit` and `trainer resume` of an energy network run in several"
            );
        }
        Ok(Machine {
            device: crate::cuda::device(device, 0)?,
            team: Team::new(n_threads)?,
        })
    }

    /// As [`Machine::new`], and meets the other processes where a launcher started several.
    ///
    /// # Errors
    /// The device is not there, or the processes do not meet.
    pub fn among_ranks(device: DeviceName, n_threads: Option<u16>) -> Result<Machine> {
        let launch = Launch::from_environment()?;
        let local_rank = launch.as_ref().map_or(0, |launch| launch.local_rank);
        let device = crate::cuda::device(device, local_rank)?;
        let n_threads = n_threads.or_else(|| launch.as_ref().map(threads_of_one));
        let ranks = Ranks::join(launch.as_ref())?;
        if ranks.n_ranks() > 1 && ranks.is_first() {
            eprintln!("learning in {} processes", ranks.n_ranks());
        }
        Ok(Machine {
            device,
            team: Team::among(ranks, n_threads)?,
        })
    }
}

/// The share of the cores of one of the processes of this machine.
fn threads_of_one(launch: &Launch) -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    u16::try_from(cores / launch.n_local_ranks)
        .unwrap_or(u16::MAX)
        .max(1)
}
