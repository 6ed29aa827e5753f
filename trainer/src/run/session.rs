//! The loop that all learning shares: update, record, checkpoint; back to the last good checkpoint on divergence; stop at the end or on Ctrl-C.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use ebm_export::graph::tensor::Tensors;
use ebm_export::source::checkpoint::{Header, sha256};
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::config::Output;
use crate::data::Fingerprint;
use crate::draw::plot;
use crate::draw::sheet::{Block, sheet};
use crate::machine::device::DeviceName;
use crate::machine::memory::Estimate;
use crate::machine::parallel::Team;
use crate::machine::ranks::{Launch, Ranks};
use crate::run::folder::RunFolder;
use crate::run::guard::{GaveUp, Guard, Setback, Verdict, Watch};
use crate::run::record::diagnostics;
use crate::run::record::metrics;
use crate::run::record::sessions::Session;
use crate::run::record::updates::Recent;
use crate::run::record::{Measured, Record, Window};

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
    /// A value is not finite ([`NotFinite`](crate::run::guard::NotFinite)), or libtorch fails; the state is then as before the update or of no
    /// use until it is restored.
    fn update(&mut self) -> Result<Measured>;

    /// Goes on from a checkpoint; `group` reads one of its groups.
    ///
    /// # Errors
    /// The checkpoint is of another network or configuration.
    fn restore(&mut self, header: &Header, group: &dyn Fn(&str) -> Result<Tensors>) -> Result<()>;

    /// From now on draws and learning rates are those of a run that went back to an earlier checkpoint so often.
    fn set_rollbacks(&mut self, rollbacks: u64);

    /// Restarts the chains that are of no use any more, where there are chains.
    ///
    /// # Errors
    /// libtorch fails.
    fn restart_lost_chains(&mut self) -> Result<()> {
        Ok(())
    }

    /// What it needs of memory.
    fn memory(&self) -> Estimate;

    /// When it diverges.
    fn guard(&self) -> Guard;

    /// How good the network is now, more being better, where that can be said; from the mean magnitudes of what the updates since the last
    /// checkpoint measured.
    ///
    /// # Errors
    /// libtorch fails.
    fn merit(&self, magnitudes: &[(String, f64)]) -> Result<Option<f64>>;

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

    /// Images to look at, where there are any.
    ///
    /// # Errors
    /// libtorch cannot copy.
    fn samples(&self) -> Result<Vec<Block>>;

    /// Where it computes.
    fn place(&self) -> Place;
}

/// The device and the threads of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The device.
    pub device: Device,
    /// Threads of the CPU.
    pub n_threads: usize,
}

/// As libtorch names it.
pub fn device_name(device: Device) -> String {
    match device {
        Device::Cpu => "cpu".to_string(),
        Device::Cuda(index) => format!("cuda:{index}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// What a checkpoint keeps beside tensors and configuration.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// Where the data lie, where the source needs a folder.
    pub data_directory: Option<std::path::PathBuf>,
    /// What they are, unless a generator makes them or an older version began the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Fingerprint>,
    /// Means since the last log point.
    pub window: Window,
    /// Mean magnitudes since the last checkpoint that was due.
    pub since_checkpoint: Window,
    /// What the guard has seen.
    pub watch: Watch,
    /// How good the network of this checkpoint is, where that can be said.
    pub merit: Option<f64>,
    /// Whether the user stopped the run at this checkpoint, which was not due.
    #[serde(default)]
    pub interrupted: bool,
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
/// Learning diverged once more than the guard allows, an update failed for another reason, or a file cannot be written; the last checkpoint
/// is as it was.
pub fn run(
    learning: &mut dyn Learning,
    folder: &RunFolder,
    state: State,
    stop: &StopSignal,
) -> Result<End> {
    let path = folder.path().display();
    learn(learning, folder, state, stop).map_err(|error| {
        let stopped = format!("the run in {path} stopped; its last checkpoint is as it was");
        let gave_up = error.is::<GaveUp>();
        error.context(match gave_up {
            true => stopped,
            false => format!(
                "{stopped}, and `trainer resume {path}` goes on from it once the cause is mended"
            ),
        })
    })
}

fn learn(
    learning: &mut dyn Learning,
    folder: &RunFolder,
    mut state: State,
    stop: &StopSignal,
) -> Result<End> {
    let (output, guard) = (learning.output(), learning.guard());
    learning.set_rollbacks(state.watch.rollbacks());
    if learning.ranks().is_first() {
        folder.sweep();
        folder.write_events(&state.watch.events()?)?;
        eprintln!("{}", learning.memory());
        Session::now(learning.update_number(), learning.place()).append(&folder.sessions())?;
    }
    check_agreement(learning, &state)?;
    write_checkpoint(learning, folder, &state)?;
    state.interrupted = false;
    // A process before may have been stopped between a checkpoint and this.
    keep_best(learning, folder, &mut state)?;
    let began = Instant::now();
    let mut record = open_record(learning, folder, began)?;
    while learning.update_number() < learning.n_updates() && !learning.ranks().any(stop.is_set())? {
        let update = learning.update_number() + 1;
        let measured = match guard.judge(learning.update(), &mut state.watch)? {
            Verdict::Fine(measured) => measured,
            Verdict::Diverged(reason) => {
                if let Some(record) = record {
                    record.finish()?;
                }
                state = go_back(learning, folder, state, (update, reason))?;
                record = open_record(learning, folder, began)?;
                continue;
            }
        };
        state.window.add(&measured);
        state.since_checkpoint.add_magnitudes(&measured);
        let last = update == learning.n_updates();
        let means = (last || is_due(update, output.log_every)).then(|| state.window.take());
        if let Some(record) = &mut record {
            record.add(update, &measured)?;
            if let Some(means) = &means {
                record.log(update, means, learning.learning_rate(update - 1))?;
            }
            if last || is_due(update, output.sample_every) {
                write_pictures(learning, folder, record)?;
            }
        }
        if last || is_due(update, output.checkpoint_every) {
            if let Some(record) = &mut record {
                record.flush()?;
            }
            write_due_checkpoint(learning, folder, &mut state)?;
        }
    }
    if let Some(record) = record {
        record.finish()?;
    }
    let complete = learning.update_number() == learning.n_updates();
    if !complete {
        state.interrupted = true;
        write_checkpoint(learning, folder, &state)?;
    }
    learning.ranks().farewell()?;
    Ok(match complete {
        true => End::Complete,
        false => End::Interrupted,
    })
}

/// That all processes begin with the same configuration and data after the same update: where one has read an older checkpoint, they would
/// learn on without a sign of it.
fn check_agreement(learning: &dyn Learning, state: &State) -> Result<()> {
    let (config, update) = (learning.header()?.config, learning.update_number());
    let digest = sha256(&serde_json::to_vec(&(config, update, &state.data))?);
    // Of so many digits sums over thousands of processes are exact in f64.
    let digest = u64::from_str_radix(&digest[..10], 16)? as f64;
    let ranks = learning.ranks();
    let [sum] = ranks.sums([digest])?;
    ensure!(
        sum == digest * ranks.n_ranks() as f64,
        "the processes do not agree on the configuration, on the data and on the update to go on from ({update} here): \
         start all of them with the same options, the same data, and the same checkpoints in the folder of the run"
    );
    Ok(())
}

/// What the first process shows and writes of each update.
fn open_record(
    learning: &dyn Learning,
    folder: &RunFolder,
    began: Instant,
) -> Result<Option<Record>> {
    if !learning.ranks().is_first() {
        return Ok(None);
    }
    let updates = (learning.update_number(), learning.n_updates());
    Ok(Some(Record::open(folder, updates, began)?))
}

/// Goes back from divergence at an update to the last good checkpoint, with other draws, lower rates, and new chains in place of lost ones.
fn go_back(
    learning: &mut dyn Learning,
    folder: &RunFolder,
    state: State,
    (update, reason): (u64, String),
) -> Result<State> {
    learning
        .guard()
        .allow_another(update, &reason, &state.watch)?;
    let is_first = learning.ranks().is_first();
    // The first process chooses for all of them.
    let target = match is_first {
        true => folder.target(&state.watch)?,
        false => 0,
    };
    let [target] = learning.ranks().sums([target as f64])?;
    let saved = folder.saved(target as u64)?;
    let to = saved.header.update;
    learning.restore(&saved.header, &|group| saved.group(group))?;
    let watch = state.watch.after(Setback { update, reason, to });
    learning.set_rollbacks(watch.rollbacks());
    learning.restart_lost_chains()?;
    if is_first {
        folder.remove_after(to)?;
        folder.write_events(&watch.events()?)?;
        let rate = learning.learning_rate(to);
        eprintln!("{watch}, with other draws and the learning rate {rate}");
    }
    Ok(State {
        watch,
        merit: None,
        data_directory: state.data_directory,
        data: state.data,
        ..saved.state()?
    })
}

/// A checkpoint that may become the best.
fn write_due_checkpoint(
    learning: &dyn Learning,
    folder: &RunFolder,
    state: &mut State,
) -> Result<()> {
    let magnitudes = state.since_checkpoint.take();
    if state.watch.is_in_range() {
        state.merit = learning.merit(&magnitudes)?;
    }
    write_checkpoint(learning, folder, state)?;
    keep_best(learning, folder, state)
}

/// Keeps the checkpoint that was written last as the best, where it is.
fn keep_best(learning: &dyn Learning, folder: &RunFolder, state: &mut State) -> Result<()> {
    match state.merit.take() {
        Some(merit) if learning.ranks().is_first() => {
            folder.offer_best(learning.update_number(), merit)
        }
        _ => Ok(()),
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

fn write_pictures(learning: &dyn Learning, folder: &RunFolder, record: &mut Record) -> Result<()> {
    let (update, blocks) = (learning.update_number(), learning.samples()?);
    if !blocks.is_empty() {
        folder.write_sheet(update, &sheet(&blocks)?)?;
        let pictures = blocks.iter().map(Block::picture).collect::<Result<_>>()?;
        record.show(update, pictures)?;
    }
    record.flush()?;
    let recent = Recent::read(&folder.updates_csv(), diagnostics::N_UPDATES)?;
    let panels = diagnostics::panels(&metrics::read(&folder.metrics())?, &recent);
    folder.write_diagnostics(
        &plot::svg(&panels, diagnostics::COLUMNS)?,
        &plot::png(&panels, diagnostics::COLUMNS)?,
    )
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
        expect_one_process()?;
        Ok(Machine {
            device: crate::machine::device::device(device, 0)?,
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
        let device = crate::machine::device::device(device, local_rank)?;
        let n_threads = n_threads.or_else(|| launch.as_ref().map(threads_of_one));
        let ranks = Ranks::join(launch.as_ref(), device)?;
        if let Some(engine) = ranks.engine().filter(|_| ranks.is_first()) {
            let n_ranks = ranks.n_ranks();
            eprintln!("learning in {n_ranks} processes, which exchange by {engine}");
        }
        Ok(Machine {
            device,
            team: Team::among(ranks, n_threads)?,
        })
    }
}

/// Refuses several.
///
/// # Errors
/// A launcher started several processes.
pub fn expect_one_process() -> Result<()> {
    match Launch::from_environment()? {
        None => Ok(()),
        Some(Launch { n_ranks, .. }) => bail!(
            "this command runs in one process, and a launcher started {n_ranks} (WORLD_SIZE or SLURM_NTASKS): \
             start it alone; `trainer fit` and `trainer resume` of an energy network run in several"
        ),
    }
}

/// The share of the cores of one of the processes of this machine.
fn threads_of_one(launch: &Launch) -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    u16::try_from(cores / launch.n_local_ranks)
        .unwrap_or(u16::MAX)
        .max(1)
}
