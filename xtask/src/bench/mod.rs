//! `cargo xtask bench`: what the project exports and runs, against PyTorch.

mod chart;
mod gradient;
mod latency;
mod learning;
mod report;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::rivals::Rivals;
use crate::setup::{self, Libtorch};
use crate::step::{self, Step};
use crate::surroundings::Surroundings;
pub use gradient::gradient;
pub use latency::latency;
pub use learning::learning;
use report::{Report, Row};

/// A benchmark, with how thoroughly to measure and where to write the rows as well.
pub type Benchmark = fn(&Surroundings, Effort, Option<&Path>) -> Result<()>;

/// All of them.
pub const ALL: [Benchmark; 3] = [gradient, latency, learning];

/// Where results are kept, below the root of the clone.
const RESULTS: &str = "benches/results";

/// How thoroughly to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Every case, many rounds; table, chart and rows become files below `benches/results`.
    Full,
    /// One case, few rounds; no result is kept.
    Quick,
}

/// What a benchmark runs, and where its rows are.
struct Plan {
    /// Name of the benchmark, and of its files.
    name: &'static str,
    /// Where checkpoints, exported files and the rows of single cases go, below the root of the clone.
    work: String,
    steps: Vec<Step>,
    /// Names of the files of rows, below `work`.
    rows: Vec<String>,
}

/// Checks the Python of the rivals with `check` and the place of the rows, then brings what is missing: before anything is built, so that nobody
/// waits for a build in vain. Returns the program of that Python.
fn prepare(
    surroundings: &Surroundings,
    json: Option<&Path>,
    check: impl FnOnce(&Rivals) -> Result<()>,
) -> Result<String> {
    let rivals = Rivals::check(surroundings)?;
    check(&rivals)?;
    if let Some(path) = json {
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        if folder.is_some_and(|folder| !folder.is_dir()) || path.is_dir() {
            bail!("--json {} is not a place for a file", path.display());
        }
    }
    setup::setup(surroundings, Libtorch::AsLinked)?;
    rivals.python(surroundings)
}

/// Runs a plan, prints the table, and keeps the rows where `json` says.
fn run<R: Row>(
    surroundings: &Surroundings,
    plan: &Plan,
    effort: Effort,
    json: Option<&Path>,
) -> Result<()> {
    let work = surroundings.workspace().join(&plan.work);
    if work.exists() {
        fs::remove_dir_all(&work)
            .with_context(|| format!("could not remove {}", work.display()))?;
    }
    fs::create_dir_all(&work).with_context(|| format!("could not make {}", work.display()))?;
    step::run_all(surroundings, &plan.steps)?;
    let reports = plan.rows.iter().map(|file| Report::read(&work.join(file)));
    let report: Report<R> = reports
        .collect::<Result<Vec<_>>>()
        .and_then(Report::merged)?;
    println!("\n{}", report.table());
    if let Some(path) = json {
        report.write(path)?;
    }
    match effort {
        Effort::Full => keep(&report, plan.name, &surroundings.workspace().join(RESULTS)),
        Effort::Quick => Ok(()),
    }
}

fn keep<R: Row>(report: &Report<R>, name: &str, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
    report.write(&folder.join(format!("{name}.json")))?;
    for (ending, text) in [("md", report.table()), ("svg", chart::svg(report))] {
        let path = folder.join(format!("{name}.{ending}"));
        fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))?;
    }
    println!("Written: {RESULTS}/{name}.json, {name}.md and {name}.svg");
    Ok(())
}
