//! Is a file what it claims to be? Evaluated in f64 by the interpreter that the tests trust, and compared with differences and with other models.

mod chain;
mod checks;
mod claims;
mod difference;
mod function;
mod points;
mod truth;

use std::collections::BTreeSet;

use ndarray::ArrayD;
use serde::Serialize;

pub use claims::{Claims, Naming, Outputs, StepOutputs};
pub use function::{Function, Point, Weights};
pub use truth::{Derivatives, Truth};

use checks::{Checks, Outcome};
use points::points;

use crate::error::{Choice, Error, Result};

/// How a file is verified.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Number of images.
    pub count: usize,
    /// Seed of all that is random.
    pub seed: u64,
    /// The largest relative error that passes, positive.
    pub max_error: f64,
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verification {
    /// What the file is.
    pub kind: &'static str,
    /// Number of images.
    pub images: usize,
    /// Seed of all that was random.
    pub seed: u64,
    /// The largest relative error that passes.
    pub max_error: f64,
    /// Does every check pass?
    pub passes: bool,
    /// The checks in order.
    pub checks: Vec<Check>,
}

/// An output against something else, over all images. Errors are relative, in the L2 norm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// The output that is looked at.
    pub output: String,
    /// What it is compared with.
    pub against: &'static str,
    /// The median error of the images that decide.
    pub median: Option<f64>,
    /// The worst of them.
    pub worst: Option<f64>,
    /// Images that decide: they do not lie at a kink.
    pub decided: usize,
    /// At least half of the images decide, and the worst error is allowed.
    pub passes: bool,
}

/// Compares a file with differences of its own outputs and, if it is given, with the truth.
///
/// # Errors
/// The file is a forward model and there is no truth; `images` `[n, …]` are not those of its input; the truth has inputs that the file has not; or a value is
/// not finite.
pub fn verify(
    claims: &Claims,
    truth: Option<&Truth>,
    images: Option<&ArrayD<f64>>,
    settings: &Settings,
) -> Result<Verification> {
    let is_forward = matches!(claims.outputs, Outputs::Forward { .. });
    if truth.is_some_and(|truth| truth.derivatives.is_none()) && !is_forward {
        return Err(Error::Onnx(
            "the model to compare with does not give one number per image, so it is not an energy"
                .to_string(),
        ));
    }
    let points = points(claims, images, settings.count, settings.seed)?;
    let outcomes = in_parallel(&points, |index, point| {
        let seed = settings.seed.wrapping_add(1 + index as u64);
        Checks::new(claims, truth, settings.max_error, point, seed).outcomes()
    })?;
    let checks = checks(&outcomes, settings.max_error);
    if checks.is_empty() {
        return Err(Error::choice(
            Choice::Comparison,
            format!(
                "a {} alone has nothing to be compared with; give a model or checkpoint",
                claims.outputs.kind()
            ),
        ));
    }
    Ok(Verification {
        kind: claims.outputs.kind(),
        images: points.len(),
        seed: settings.seed,
        max_error: settings.max_error,
        passes: checks.iter().all(|check| check.passes),
        checks,
    })
}

/// The outcomes of each point, computed on all cores.
fn in_parallel(
    points: &[Point],
    outcomes: impl Fn(usize, &Point) -> Result<Vec<Outcome>> + Sync,
) -> Result<Vec<Vec<Outcome>>> {
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    let n_threads = n_threads.min(points.len()).max(1);
    let of_thread = |first: usize| -> Result<Vec<(usize, Vec<Outcome>)>> {
        let own = points.iter().enumerate().skip(first).step_by(n_threads);
        own.map(|(index, point)| Ok((index, outcomes(index, point)?)))
            .collect()
    };
    let parts: Vec<_> = std::thread::scope(|scope| {
        let of_thread = &of_thread;
        let threads: Vec<_> = (0..n_threads)
            .map(|first| scope.spawn(move || of_thread(first)))
            .collect();
        threads
            .into_iter()
            .map(|thread| match thread.join() {
                Ok(part) => part,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    });
    let mut all = Vec::new();
    for part in parts {
        all.extend(part?);
    }
    all.sort_by_key(|(index, _)| *index);
    Ok(all.into_iter().map(|(_, outcomes)| outcomes).collect())
}

/// Outcomes of the same kind together.
fn checks(outcomes: &[Vec<Outcome>], max_error: f64) -> Vec<Check> {
    let mut seen = BTreeSet::new();
    let kinds = outcomes.iter().flatten();
    let kinds = kinds.filter(|outcome| seen.insert((&outcome.output, outcome.against)));
    kinds
        .map(|kind| {
            let same =
                |other: &&Outcome| (&other.output, other.against) == (&kind.output, kind.against);
            let errors: Vec<Option<f64>> = outcomes
                .iter()
                .flatten()
                .filter(same)
                .map(|outcome| outcome.error)
                .collect();
            check(kind, &errors, max_error)
        })
        .collect()
}

fn check(kind: &Outcome, errors: &[Option<f64>], max_error: f64) -> Check {
    let mut decided: Vec<f64> = errors.iter().copied().flatten().collect();
    decided.sort_by(f64::total_cmp);
    let worst = decided.last().copied();
    Check {
        output: kind.output.clone(),
        against: kind.against,
        median: decided.get(decided.len() / 2).copied(),
        worst,
        decided: decided.len(),
        passes: decided.len() * 2 >= errors.len() && worst.is_some_and(|worst| worst <= max_error),
    }
}
