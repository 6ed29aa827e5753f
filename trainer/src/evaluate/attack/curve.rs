//! How the accuracy under the strongest attack changes with what was chosen: an attack that is right reaches 0 % as ε grows, and gains nothing from
//! further iterations (Carlini et al. 2019).

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::kind::Attack;
use crate::evaluate::interval::Accuracy;

/// What changes along a curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Axis {
    /// The bound ε, doubled until nothing is right, at last to the whole range of pixels.
    Epsilon,
    /// The Langevin steps of a purification.
    Steps,
    /// The purifications over which a gradient is averaged.
    Copies,
    /// The steps of the attack, doubled until it gains no more.
    Iterations,
}

/// Accuracies over one axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// What changes.
    pub axis: Axis,
    /// Under which attack.
    pub attack: Attack,
    /// In rising order.
    pub points: Vec<Point>,
    /// Whether all points are there.
    pub complete: bool,
}

/// One point of a curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The value on the axis; ε is of pixels in `[0, 1]`.
    pub at: f64,
    /// By the largest vote.
    pub accuracy: Accuracy,
}

impl Axis {
    /// All of them.
    pub fn all() -> &'static [Axis] {
        Axis::value_variants()
    }

    /// As it is called beside a plot.
    pub fn title(self) -> &'static str {
        match self {
            Axis::Epsilon => "ε, of pixels in [0, 1]",
            Axis::Steps => "Langevin steps",
            Axis::Copies => "purifications per gradient",
            Axis::Iterations => "steps of the attack",
        }
    }
}

impl Curve {
    /// Nothing yet.
    pub fn new(axis: Axis, attack: Attack) -> Curve {
        Curve {
            axis,
            attack,
            points: Vec::new(),
            complete: false,
        }
    }

    /// Whether nothing more is to be learned from further points.
    pub fn is_flat(&self) -> bool {
        let right: Vec<usize> = self
            .points
            .iter()
            .map(|point| point.accuracy.n_right)
            .collect();
        match (self.axis, right.as_slice()) {
            (Axis::Epsilon, [.., 0]) => true,
            // One image is the least that can be gained.
            (Axis::Iterations, [.., _, before, last]) => before.abs_diff(*last) <= 1,
            _ => false,
        }
    }
}

impl fmt::Display for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "right, in %, over {} ({}):",
            self.axis.title(),
            self.attack.title()
        )?;
        for Point { at, accuracy } in &self.points {
            write!(f, " {at:.4}: {:.1};", 100.0 * accuracy.accuracy)?;
        }
        Ok(())
    }
}
