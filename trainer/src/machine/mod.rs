//! What a run computes on, and what it says meanwhile.

#[macro_use]
pub mod console;

pub mod device;
pub mod memory;
pub mod parallel;
pub mod randomness;
pub mod ranks;

use anyhow::{Result, bail};
use tch::Device;

use device::DeviceName;
use parallel::Team;
use ranks::{Launch, Ranks};

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
            device: device::device(device, 0)?,
            team: Team::new(n_threads)?,
        })
    }

    /// As [`Machine::new`], and meets the other processes if a launcher started several.
    ///
    /// # Errors
    /// The device is not there, or the processes do not meet.
    pub fn among_ranks(device: DeviceName, n_threads: Option<u16>) -> Result<Machine> {
        let launch = Launch::from_environment()?;
        let local_rank = launch.as_ref().map_or(0, |launch| launch.local_rank);
        let n_here = launch.as_ref().map_or(1, |launch| launch.n_local_ranks);
        if let (DeviceName::Cuda(Some(number)), 2..) = (device, n_here) {
            bail!(
                "--device cuda:{number} names one GPU, and a launcher started {n_here} processes on this machine: give --device cuda, by which each takes a GPU of its own"
            );
        }
        let device = device::device(device, local_rank)?;
        let n_threads = n_threads.or_else(|| launch.as_ref().map(threads_of_one));
        let ranks = Ranks::join(launch.as_ref(), device)?;
        if let Some(engine) = ranks.engine().filter(|_| ranks.is_first()) {
            let n_ranks = ranks.n_ranks();
            note!("learning in {n_ranks} processes, which exchange by {engine}");
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
