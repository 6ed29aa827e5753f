//! `sessions.jsonl`: when and on which machine the processes of a run computed, a line for each.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::machine::{Place, device_name};

/// The name of the file.
pub const FILE: &str = "sessions.jsonl";

/// A process of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// When it began, in seconds since 1970.
    pub began: u64,
    /// The updates that were done before.
    pub update: u64,
    /// `cpu` or `cuda:0`.
    pub device: String,
    /// Threads of the CPU that compute.
    pub threads: usize,
    /// The name of the processor, if the system says it.
    pub processor: String,
    /// Cores that the system gives.
    pub cores: usize,
    /// Operating system and architecture.
    pub system: String,
    /// The version of this crate.
    pub version: String,
}

impl Session {
    /// One that begins here and now.
    pub fn now(update: u64, place: Place) -> Session {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Session {
            began: now.map_or(0, |time| time.as_secs()),
            update,
            device: device_name(place.device),
            threads: place.n_threads,
            processor: processor().unwrap_or_else(|| "unknown processor".to_string()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            version: env!("CARGO_PKG_VERSION").to_string(),
        }
    }

    /// Adds it to a file.
    pub fn append(&self, path: &Path) -> Result<()> {
        let line = serde_json::to_string(self).context("cannot write a session as JSON")?;
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| writeln!(file, "{line}"))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The sessions in a file, oldest first; none if there is no file.
pub fn read(path: &Path) -> Vec<Session> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// As Linux says it.
fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn sessions_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sessions.jsonl");
        assert_eq!(read(&path), []);
        let place = Place {
            device: Device::Cpu,
            n_threads: 3,
        };
        let sessions = [0, 40].map(|update| Session::now(update, place));
        sessions
            .iter()
            .for_each(|session| session.append(&path).unwrap());
        assert_eq!(read(&path), sessions);
        assert_eq!(
            (sessions[1].device.as_str(), sessions[1].threads),
            ("cpu", 3)
        );
    }
}
