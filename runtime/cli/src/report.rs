//! What a run tells: lines of JSON, and the count of what became of the images.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use ebm_runtime::Seed;
use serde_json::{Value, json};

use crate::arguments::RunArguments;
use crate::journal::Status;
use crate::lines::Lines;

/// Where lines go, and how many images came to which end.
pub struct Report {
    lines: Lines,
    counts: BTreeMap<Status, usize>,
}

impl Report {
    pub fn new(arguments: &RunArguments) -> Self {
        Self {
            lines: Lines::of(arguments.json),
            counts: BTreeMap::new(),
        }
    }

    fn count(&self, status: Status) -> usize {
        self.counts.get(&status).copied().unwrap_or(0)
    }

    pub fn settings(&mut self, settings: &Value) -> Result<()> {
        self.print(&format!("{}\n", json!({ "settings": settings })))
    }

    /// Counts an image; `line` is its record.
    pub fn image(&mut self, line: &str, status: Status) -> Result<()> {
        *self.counts.entry(status).or_default() += 1;
        self.print(line)
    }

    /// The line of the summary. `n_images` were treated now, in this time.
    pub fn summary(&self, n_images: usize, time: Duration) -> String {
        let seconds = time.as_secs_f64();
        let summary = json!({
            "purified": self.count(Status::Purified), "reencoded": self.count(Status::Reencoded),
            "unchanged": self.count(Status::Unchanged), "failed": self.n_failed(),
            "treated_now": n_images, "seconds": seconds, "images_per_second": n_images as f64 / seconds.max(1e-9),
        });
        format!("{}\n", json!({ "summary": summary }))
    }

    pub fn print(&mut self, lines: &str) -> Result<()> {
        self.lines.print(lines)
    }

    pub fn n_failed(&self) -> usize {
        self.count(Status::Failed)
    }

    /// What a person wants to know in the end.
    pub fn say(&self, folder: &Path, n_earlier: usize, n_images: usize, time: Duration) {
        let total: usize = self.counts.values().sum();
        let (verb, n) = match self.count(Status::Reencoded) {
            0 => ("purified", self.count(Status::Purified)),
            n => ("re-encoded", n),
        };
        let mut notes = String::new();
        for (n, what) in [
            (self.count(Status::Unchanged), "unchanged"),
            (self.n_failed(), "failed"),
            (n_earlier, "done by an earlier run"),
        ] {
            if n > 0 {
                notes += &format!(", {n} {what}");
            }
        }
        let rate = n_images as f64 / time.as_secs_f64().max(1e-9);
        if n_images > 0 {
            notes += &format!(" ({rate:.1} images/s)");
        }
        eprintln!(
            "{verb} {n} of {total} images into `{}`{notes}",
            folder.display()
        );
    }
}

/// What a person has to know to repeat a run.
pub fn seed_line(seed: Seed) -> String {
    format!("note: seed {seed}; --seed {seed} repeats this run")
}
