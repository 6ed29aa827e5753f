//! What networks and files compute.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What an exported file computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `x → energy`.
    Energy,
    /// `x → energy, gradient`.
    Gradient,
    /// One Langevin step.
    Step,
    /// Langevin steps as a server batches them, ε and T fixed.
    Purifier,
    /// `x → logits`.
    Classifier,
    /// `z → image`.
    Generator,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Energy => "energy",
            Kind::Gradient => "gradient",
            Kind::Step => "step",
            Kind::Purifier => "purifier",
            Kind::Classifier => "classifier",
            Kind::Generator => "generator",
        })
    }
}
