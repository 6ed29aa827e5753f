//! What a run measures: a line of JSON per log point, and a live line for people.

use std::fs::{self, File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ebm_export::file::write_whole;
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

/// Named values of one update.
pub type Measured = Vec<(&'static str, f64)>;

/// Sums since the last log point; part of a checkpoint, so that a resumed run logs the same means.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    n_updates: u64,
    sums: Vec<(String, f64)>,
}

impl Window {
    /// Adds the values of one update.
    pub fn add(&mut self, measured: &Measured) {
        if self.n_updates == 0 {
            self.sums = measured
                .iter()
                .map(|(name, _)| ((*name).to_string(), 0.0))
                .collect();
        }
        self.n_updates += 1;
        self.sums
            .iter_mut()
            .zip(measured)
            .for_each(|((_, sum), (_, value))| *sum += value);
    }

    /// Adds the magnitudes of the values of one update.
    pub fn add_magnitudes(&mut self, measured: &Measured) {
        let magnitudes = measured.iter().map(|(name, value)| (*name, value.abs()));
        self.add(&magnitudes.collect());
    }

    /// The means, and an empty window.
    pub fn take(&mut self) -> Vec<(String, f64)> {
        let Window { n_updates, sums } = std::mem::take(self);
        sums.into_iter()
            .map(|(name, sum)| (name, sum / n_updates as f64))
            .collect()
    }
}

/// `metrics.jsonl`.
#[derive(Debug)]
pub struct Metrics {
    file: File,
}

impl Metrics {
    /// Goes on behind the lines up to `update`; later ones, of a run that got further than its last checkpoint, are dropped.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(path: &Path, update: u64) -> Result<Metrics> {
        let writing = || format!("cannot write {}", path.display());
        let kept: String = match fs::read_to_string(path) {
            Ok(text) => text
                .lines()
                .filter(|line| update_of(line).is_some_and(|of| of <= update))
                .flat_map(|line| [line, "\n"])
                .collect(),
            Err(_) => String::new(),
        };
        write_whole(path, kept.as_bytes())?;
        let file = OpenOptions::new()
            .append(true)
            .open(path)
            .with_context(writing)?;
        Ok(Metrics { file })
    }

    /// Adds a line: the update, the means, the learning rate and the seconds of this process.
    ///
    /// # Errors
    /// The disk is full, for example.
    pub fn write(
        &mut self,
        update: u64,
        means: &[(String, f64)],
        learning_rate: f64,
        seconds: f64,
    ) -> Result<()> {
        let mut line = serde_json::Map::new();
        line.insert("update".to_string(), update.into());
        line.extend(
            means
                .iter()
                .map(|(name, mean)| (name.clone(), (*mean).into())),
        );
        line.insert("learning_rate".to_string(), learning_rate.into());
        line.insert("seconds".to_string(), seconds.into());
        writeln!(self.file, "{}", serde_json::Value::Object(line))
            .context("cannot write metrics.jsonl")
    }
}

fn update_of(line: &str) -> Option<u64> {
    serde_json::from_str::<serde_json::Value>(line)
        .ok()?
        .get("update")?
        .as_u64()
}

/// The curves of `metrics.jsonl`: per name the pairs (update, mean).
///
/// # Errors
/// The file cannot be read.
pub fn curve(path: &Path, name: &str) -> Result<Vec<(f64, f64)>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let point = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        Some((line.get("update")?.as_f64()?, line.get(name)?.as_f64()?))
    };
    Ok(text.lines().filter_map(point).collect())
}

/// A live line on a terminal; elsewhere plain lines, seconds apart.
#[derive(Debug)]
pub enum Progress {
    /// On a terminal.
    Bar(ProgressBar),
    /// In a file or pipe.
    Lines {
        /// What is counted.
        what: &'static str,
        /// How much is done, and how much there is.
        position: u64,
        /// The end.
        total: u64,
        /// Where this process began.
        first: u64,
        /// When it began.
        start: Instant,
        /// When the last line was written.
        last: Option<Instant>,
    },
}

/// Time between plain lines.
const BETWEEN_LINES: Duration = Duration::from_secs(5);

impl Progress {
    /// Of `total` things, `position` of which are done.
    pub fn new(what: &'static str, position: u64, total: u64) -> Progress {
        if !std::io::stderr().is_terminal() {
            return Progress::Lines {
                what,
                position,
                total,
                first: position,
                start: Instant::now(),
                last: None,
            };
        }
        let bar = ProgressBar::new(total).with_position(position);
        let template =
            format!("{{bar:24}} {what} {{pos}}/{{len}} · {{elapsed}} · {{eta}} left · {{msg}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        bar.reset_eta();
        Progress::Bar(bar)
    }

    /// Shows how much is done, with a message.
    pub fn show(&mut self, done: u64, message: &str) {
        match self {
            Progress::Bar(bar) => {
                bar.set_message(message.to_string());
                bar.set_position(done);
            }
            Progress::Lines {
                what,
                position,
                total,
                first,
                start,
                last,
            } => {
                *position = done;
                if done < *total && last.is_some_and(|last| last.elapsed() < BETWEEN_LINES) {
                    return;
                }
                *last = Some(Instant::now());
                let elapsed = start.elapsed().as_secs_f64();
                let left =
                    elapsed / (done - *first).max(1) as f64 * total.saturating_sub(done) as f64;
                eprintln!("{what} {done}/{total} · {elapsed:.0} s · {left:.0} s left · {message}");
            }
        }
    }

    /// Prints a line of results on standard output, above the live line where there is one.
    pub fn print(&self, line: &str) {
        match self {
            Progress::Bar(bar) => bar.suspend(|| println!("{line}")),
            Progress::Lines { .. } => println!("{line}"),
        }
    }

    /// Leaves the terminal as it was.
    pub fn finish(&self) {
        if let Progress::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
