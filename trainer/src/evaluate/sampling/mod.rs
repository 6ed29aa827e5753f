//! Samples of an energy that is learned: chains of any length, what they are at some steps, and how they got there.

mod chains;
mod folder;
mod path;
mod plan;
mod plot;

use std::time::{Duration, Instant};

use anyhow::Result;
use tch::Tensor;

pub use chains::{Descending, Motion, Observed, SampledChains};
pub use folder::{IMAGES, PLOT, Position, ROWS, SAMPLES, SNAPSHOTS, STEPS, SampleFolder};
pub use path::{EnergyPath, Row};
pub use plan::{Plan, Snapshots};

use crate::run::record::Progress;
use crate::run::stop::{End, StopSignal};

/// The time between two savings of the chains: a power cut costs no more than that.
const BETWEEN_KEEPS: Duration = Duration::from_secs(600);

/// Moves chains to the last step of a plan, or until the user stops, and writes what they are on the way. Chains that were interrupted go on
/// where they were.
///
/// # Errors
/// An energy is not finite, libtorch fails, or a file cannot be written; what was written stays.
pub fn run(
    chains: SampledChains<'_>,
    plan: &Plan,
    folder: &SampleFolder,
    stop: &StopSignal,
) -> Result<End> {
    let (mut chains, mut path) = folder.resumed(chains)?;
    let mut progress = Progress::new("step", chains.step(), plan.n_steps());
    progress.print(Row::HEADING)?;
    let mut rows = Vec::new();
    for step in plan.snapshots_before(chains.step()) {
        rows.push(path.row(step)?);
        progress.print(&rows[rows.len() - 1].to_string())?;
    }
    let mut kept = Instant::now();
    loop {
        let step = chains.step();
        let complete = step == plan.n_steps();
        let last = complete || stop.is_set();
        if !complete && (last || kept.elapsed() > BETWEEN_KEEPS) {
            folder.write_unfinished(&chains, &path)?;
            kept = Instant::now();
        }
        let states = (last || plan.is_snapshot(step)).then(|| chains.states());
        let observed = match last {
            true => chains.observe()?,
            false => chains.advance()?,
        };
        observed.check(step)?;
        progress.show(step, &observed.to_string());
        if last || plan.is_recorded(step) {
            path.add(step, observed);
        }
        if let Some(states) = states {
            let row = path.row(step)?;
            progress.print(&row.to_string())?;
            rows.push(row);
            let position = if last {
                Position::End
            } else {
                Position::OnTheWay
            };
            folder.write_snapshot(&Tensor::f_cat(&states, 0)?, &path, &rows, position)?;
        }
        if last {
            progress.finish();
            return match complete {
                true => folder.finish().map(|()| End::Complete),
                false => Ok(End::Interrupted),
            };
        }
    }
}
