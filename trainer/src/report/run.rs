//! What the folder of a run says about it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use ebm_export::source::checkpoint;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::evaluate::attack;
use crate::evaluate::frechet::Score;
use crate::evaluate::sampling::{PLOT, ROWS};
use crate::run::folder::{ATTACK, ATTACK_RESULTS, DISTANCES, RunFolder, SAMPLED};
use crate::run::record::WORK;
use crate::run::record::diagnostics::N_UPDATES;
use crate::run::record::metrics::{self, MetricsLine, curve};
use crate::run::record::sessions::{self, Session};
use crate::run::record::updates::Recent;
use crate::run::stage::Stage;

/// A run, as its folder shows it.
#[derive(Debug)]
pub struct Run {
    /// The name of the folder.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// The resolved configuration as text, and read.
    pub config_text: String,
    /// The resolved configuration.
    pub config: toml::Table,
    /// Lines of `metrics.jsonl`.
    pub lines: Vec<MetricsLine>,
    /// The newest rows of `updates.csv`.
    pub recent: Recent,
    /// Sample sheets by update, oldest first.
    pub sheets: Vec<(u64, PathBuf)>,
    /// Checkpoints, oldest first.
    pub checkpoints: Vec<Checkpoint>,
    /// The update of the best checkpoint, if one is kept.
    pub best: Option<u64>,
    /// The processes that learned.
    pub sessions: Vec<Session>,
    /// Long chains, if the run was sampled.
    pub sampled: Option<Sampled>,
    /// The results of an attack, if its folder is in that of the run.
    pub attack: Option<attack::Results>,
    /// The Fréchet distances of `fid.json`.
    pub distances: Vec<Score>,
    /// Lines of `rollbacks.jsonl`: what went wrong.
    pub events: Vec<MetricsLine>,
}

/// How fast a run is.
#[derive(Debug, PartialEq)]
pub struct Speed {
    /// What is done per second.
    pub unit: &'static str,
    /// All of it over all seconds.
    pub mean: f64,
    /// Pairs (update, speed since the log point before).
    pub points: Vec<(f64, f64)>,
}

/// What `trainer sample` wrote of long chains.
#[derive(Debug)]
pub struct Sampled {
    /// Their energies and saturation over steps, as SVG text.
    pub plot: String,
    /// What was measured at each snapshot.
    pub rows: Vec<MetricsLine>,
}

impl Sampled {
    fn read(folder: &Path) -> Option<Sampled> {
        Some(Sampled {
            plot: fs::read_to_string(folder.join(PLOT)).ok()?,
            rows: metrics::read(&folder.join(ROWS)).ok()?,
        })
    }
}

/// A checkpoint of a run.
#[derive(Debug)]
pub struct Checkpoint {
    /// Updates before it.
    pub update: u64,
    /// When it was written, in seconds since 1970.
    pub written: u64,
    /// The size of its files.
    pub bytes: u64,
    /// What is in it.
    pub groups: Vec<String>,
}

/// The run in a folder, or all runs in the folders within it, those of a life cycle in their order.
///
/// # Errors
/// There is none, or what is there cannot be read.
pub fn runs(path: &Path) -> Result<Vec<Run>> {
    if let Ok(folder) = RunFolder::look_at(path) {
        return Ok(vec![Run::read(&folder)?]);
    }
    let entries =
        fs::read_dir(path).with_context(|| format!("cannot read the folder {}", path.display()))?;
    let mut folders: Vec<RunFolder> = entries
        .flatten()
        .filter_map(|entry| RunFolder::look_at(&entry.path()).ok())
        .collect();
    if folders.is_empty() {
        bail!(
            "{} is not a run and has no folders of runs: expected what `trainer fit`, `trainer classifier` or `trainer life-cycle` made",
            path.display()
        );
    }
    folders.sort_by_key(|folder| {
        let name = folder_name(folder.path());
        let stage = Stage::ALL.iter().position(|stage| stage.name() == name);
        (stage.unwrap_or(Stage::ALL.len()), name)
    });
    folders.iter().map(Run::read).collect()
}

/// The content of a JSON file, if it is there. A damaged one is named and left out.
fn json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        read => read.context("cannot be read"),
    };
    let result = bytes.and_then(|bytes| {
        serde_json::from_slice(&bytes)
            .context("is not what `trainer attack` or `trainer fid --json` writes")
    });
    result
        .inspect_err(|error| warning!("left out: {} {error:#}", path.display()))
        .ok()
}

/// The name of a folder, even if it is given as `.`.
pub fn folder_name(path: &Path) -> String {
    let name = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    name.file_name().map_or_else(
        || "run".to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// The names of all values in lines, in the order in which they come.
pub fn names(lines: &[MetricsLine]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for name in lines.iter().flat_map(MetricsLine::keys) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names
}

impl Run {
    /// Reads a folder. What is not there yet is empty.
    fn read(folder: &RunFolder) -> Result<Run> {
        let config_text = folder.read_config()?;
        let path = folder.path();
        Ok(Run {
            name: folder_name(path),
            config: config_text
                .parse()
                .with_context(|| format!("the configuration in {} is not TOML", path.display()))?,
            config_text,
            lines: metrics::read(&folder.metrics()).unwrap_or_default(),
            recent: Recent::read(&folder.updates_csv(), N_UPDATES)?,
            sheets: folder.sheets(),
            checkpoints: folder
                .checkpoints()
                .into_iter()
                .map(Checkpoint::read)
                .collect(),
            best: checkpoint::read_header(&folder.best())
                .ok()
                .map(|header| header.update),
            sessions: sessions::read(&folder.sessions()),
            sampled: Sampled::read(&path.join(SAMPLED)),
            attack: json(&path.join(ATTACK).join(ATTACK_RESULTS)),
            distances: json(&path.join(DISTANCES)).unwrap_or_default(),
            events: metrics::read(&folder.rollbacks()).unwrap_or_default(),
            path: path.to_path_buf(),
        })
    }

    /// A value of the configuration, by its keys.
    pub fn setting(&self, keys: &[&str]) -> Option<&toml::Value> {
        let (first, rest) = keys.split_first()?;
        rest.iter()
            .try_fold(self.config.get(*first)?, |value, key| value.get(*key))
    }

    /// Updates done, as far as log points and checkpoints know.
    pub fn update(&self) -> u64 {
        let logged = self
            .lines
            .last()
            .and_then(|line| line.get("update")?.as_u64());
        let kept = self.checkpoints.last().map(|checkpoint| checkpoint.update);
        logged.max(kept).unwrap_or_default()
    }

    /// Updates in all.
    pub fn n_updates(&self) -> u64 {
        let updates = self.setting(&["learning", "updates"]);
        updates
            .and_then(toml::Value::as_integer)
            .map_or(0, |updates| updates.max(0) as u64)
    }

    /// Whether all updates are done.
    pub fn is_complete(&self) -> bool {
        self.update() >= self.n_updates()
    }

    /// The names of the values at log points, in the order in which they come.
    pub fn measured(&self) -> Vec<&str> {
        names(&self.lines)
    }

    /// The mean of a value over the last tenth of the log points.
    pub fn at_last(&self, name: &str) -> Option<f64> {
        let values = curve(&self.lines, name);
        let last = &values[values.len() - values.len().div_ceil(10)..];
        let sum: f64 = last.iter().map(|(_, value)| value).sum();
        (!last.is_empty()).then(|| sum / last.len() as f64)
    }

    /// Seconds of all processes up to their last log points.
    pub fn seconds(&self) -> f64 {
        self.stretches().iter().map(|stretch| stretch.seconds).sum()
    }

    /// Work per second.
    pub fn speed(&self) -> Option<Speed> {
        let measured = self.measured();
        let (work, unit) = WORK.into_iter().find(|(work, _)| measured.contains(work))?;
        let mut speed = Speed {
            unit,
            mean: 0.0,
            points: Vec::new(),
        };
        let (mut all, mut seconds) = (0.0, 0.0);
        for stretch in self.stretches() {
            let amount = stretch.line.get(work).and_then(Value::as_f64);
            let amount = amount.unwrap_or_default() * stretch.updates;
            if stretch.seconds > 0.0 {
                (all, seconds) = (all + amount, seconds + stretch.seconds);
                speed
                    .points
                    .push((stretch.update, amount / stretch.seconds));
            }
        }
        speed.mean = if seconds > 0.0 { all / seconds } else { 0.0 };
        Some(speed)
    }

    /// What lies between log points of one process.
    fn stretches(&self) -> Vec<Stretch<'_>> {
        let (mut update, mut seconds) = (0.0, 0.0);
        let mut stretches = Vec::new();
        for line in &self.lines {
            let number = |name| line.get(name).and_then(Value::as_f64);
            let (Some(new_update), Some(new_seconds)) = (number("update"), number("seconds"))
            else {
                continue;
            };
            // The clock of each process begins at 0.
            let since = update as u64..new_update as u64;
            let is_of_another = self
                .sessions
                .iter()
                .any(|session| since.contains(&session.update));
            let passed = match is_of_another || new_seconds < seconds {
                true => new_seconds,
                false => new_seconds - seconds,
            };
            stretches.push(Stretch {
                line,
                update: new_update,
                updates: new_update - update,
                seconds: passed,
            });
            (update, seconds) = (new_update, new_seconds);
        }
        stretches
    }
}

/// From one log point to the next.
struct Stretch<'a> {
    line: &'a MetricsLine,
    /// The update at its end.
    update: f64,
    /// Updates and seconds in it.
    updates: f64,
    seconds: f64,
}

impl Checkpoint {
    fn read((update, path): (u64, PathBuf)) -> Checkpoint {
        let header = checkpoint::read_header(&path);
        let files = fs::read_dir(&path).into_iter().flatten().flatten();
        let written = path.metadata().and_then(|metadata| metadata.modified());
        let since_1970 = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).ok();
        Checkpoint {
            update,
            written: written
                .ok()
                .and_then(since_1970)
                .map_or(0, |time| time.as_secs()),
            bytes: files
                .filter_map(|file| file.metadata().ok())
                .map(|metadata| metadata.len())
                .sum(),
            groups: header
                .map_or_else(|_| Vec::new(), |header| header.groups.into_keys().collect()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use tch::Device;

    use super::*;
    use crate::machine::Place;

    /// A run of two processes: 10 updates in 2 s, then 10 in 1 s.
    pub(crate) fn write_run(path: &Path) {
        fs::create_dir_all(path).unwrap();
        let config = "kind = \"energy\"\n[learning]\nupdates = 40\n[langevin]\nsteps = [[0, 5]]\n";
        fs::write(path.join("config.toml"), config).unwrap();
        let lines = [(10, 2.0, 2.0), (20, 1.0, 4.0)].map(|(update, seconds, difference)| {
            format!("{{\"update\":{update},\"seconds\":{seconds},\"image_steps\":100,\"energy_difference\":{difference}}}\n")
        });
        fs::write(path.join("metrics.jsonl"), lines.concat()).unwrap();
    }

    #[test]
    fn a_folder_says_how_far_and_how_fast_a_run_is() {
        let folder = tempfile::tempdir().unwrap();
        write_run(folder.path());
        let run = runs(folder.path()).unwrap().pop().unwrap();
        assert_eq!(
            (run.update(), run.n_updates(), run.is_complete()),
            (20, 40, false)
        );
        assert_eq!(run.seconds(), 3.0);
        let speed = Speed {
            unit: "images·steps/s",
            mean: 2000.0 / 3.0,
            points: vec![(10.0, 500.0), (20.0, 1000.0)],
        };
        assert_eq!(run.speed(), Some(speed));
        assert_eq!(run.at_last("energy_difference"), Some(4.0));
        assert_eq!(run.at_last("loss"), None);
        let updates = run.setting(&["learning", "updates"]).unwrap();
        assert_eq!(updates.as_integer(), Some(40));
        assert_eq!(run.setting(&["learning", "batch"]), None);
    }

    /// The second process logs later after its beginning than the first did.
    #[test]
    fn time_is_that_of_all_processes() {
        let folder = tempfile::tempdir().unwrap();
        write_run(folder.path());
        let slower = fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
        let slower = slower.replace("\"seconds\":1", "\"seconds\":5");
        fs::write(folder.path().join("metrics.jsonl"), slower).unwrap();
        let place = Place {
            device: Device::Cpu,
            n_threads: 1,
        };
        for update in [0, 10] {
            let session = Session::now(update, place);
            session
                .append(&folder.path().join("sessions.jsonl"))
                .unwrap();
        }
        let run = runs(folder.path()).unwrap().pop().unwrap();
        assert_eq!(run.seconds(), 7.0);
    }

    #[test]
    fn folders_of_runs_come_in_the_order_of_a_life_cycle() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "midrun",
            "another",
            "classifier",
            "shortrun",
            "longrun",
            "prior",
        ] {
            write_run(&folder.path().join(name));
        }
        fs::create_dir(folder.path().join("model")).unwrap();
        let names: Vec<String> = runs(folder.path())
            .unwrap()
            .into_iter()
            .map(|run| run.name)
            .collect();
        assert_eq!(
            names,
            [
                "classifier",
                "shortrun",
                "midrun",
                "prior",
                "longrun",
                "another"
            ]
        );
        let message = runs(&folder.path().join("model")).unwrap_err().to_string();
        assert!(
            message.contains("is not a run and has no folders of runs"),
            "{message}"
        );
    }
}
