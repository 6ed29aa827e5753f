//! What files compute.

use crate::source::{Energy, Kind, Purification};

/// What a file computes.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// `x → energy`; of a classifier `x → logits`, of a generator `z → image`.
    Forward,
    /// `x → energy, gradient`.
    Gradient,
    /// `x, v → energy, gradient, hvp`.
    HessianVectorProduct,
    /// `x, noise, step_size, temperature → x_next, energy, gradient_norm`, that many Langevin steps in one run.
    Steps(usize),
    /// The same as a server batches it, ε and T fixed.
    Purifier(Purification),
}

impl Form {
    /// The contract's word for it.
    pub(super) fn kind(&self, energy: &Energy) -> Kind {
        match self {
            Form::Forward => energy.kind,
            Form::Gradient | Form::HessianVectorProduct => Kind::Gradient,
            Form::Steps(_) => Kind::Step,
            Form::Purifier(_) => Kind::Purifier,
        }
    }

    /// Langevin steps of one run, if there are any.
    pub(super) fn n_steps(&self) -> Option<usize> {
        match self {
            Form::Steps(count) => Some(*count),
            Form::Purifier(dynamics) => Some(dynamics.steps),
            _ => None,
        }
    }
}
