//! How chains move, down which potential, in what numbers.

use ebm_common::named;
use serde::{Deserialize, Serialize};
use tch::Kind;

use super::{Schedule, Setting};
use crate::network::Products;

/// K Langevin steps `x ← x − (ε²/2)·∇U + ε·z` down `U(x) = E(x)/T [+ E_prior(x)/T_prior] [+ ‖x‖²/(2τ²)]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LangevinConfig {
    /// K, or pairs `[from update, K]`.
    pub steps: Schedule<usize>,
    /// ε.
    pub step_size: f64,
    /// T.
    pub temperature: f64,
    /// Largest L2 norm, per image, of the drift `(ε²/2)·∇U`.
    pub clip: Setting,
    /// τ.
    pub tau: Setting,
    /// Of the numbers in which `∇U` is computed; runs of before there was a choice have f32.
    #[serde(default)]
    pub precision: Precision,
}

named! {
    "precision";
    /// In what numbers the gradient that chains descend is computed. States, noise and steps are f32, and so is what weights learn from.
    #[derive(Default, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum Precision {
        /// 24 bits of mantissa.
        #[default]
        F32 = "f32",
        /// f32, of which an NVIDIA GPU multiplies the first 11 bits of mantissa; elsewhere the same as f32.
        Tf32 = "tf32",
        /// 8 bits of mantissa and the exponents of f32.
        Bf16 = "bf16",
    }
}

impl Precision {
    /// As libtorch names it.
    pub fn kind(self) -> Kind {
        match self {
            Precision::F32 | Precision::Tf32 => Kind::Float,
            Precision::Bf16 => Kind::BFloat16,
        }
    }

    /// How a GPU multiplies numbers of f32.
    pub fn products(self) -> Products {
        match self {
            Precision::F32 | Precision::Bf16 => Products::Exact,
            Precision::Tf32 => Products::Tf32,
        }
    }
}

impl LangevinConfig {
    /// The steps of an update, counted from 0.
    pub fn at(&self, update: u64) -> Dynamics {
        self.with_steps(self.steps.at(update))
    }

    /// So many steps.
    pub fn with_steps(&self, steps: usize) -> Dynamics {
        Dynamics {
            steps,
            step_size: self.step_size,
            temperature: self.temperature,
            clip: self.clip,
        }
    }
}

/// Langevin steps `x ← x − (ε²/2)·∇U + ε·z`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dynamics {
    /// K.
    pub steps: usize,
    /// ε.
    pub step_size: f64,
    /// T.
    pub temperature: f64,
    /// Largest L2 norm, per image, of the drift `(ε²/2)·∇U`.
    pub clip: Setting,
}
