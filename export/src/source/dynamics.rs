//! The Langevin dynamics that belong to an energy.

use serde::{Deserialize, Serialize};

/// Langevin dynamics as the energy was learned with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Langevin {
    /// ε.
    pub step_size: f64,
    /// T.
    pub temperature: f64,
    /// K, the steps per update.
    pub steps: usize,
    /// τ of the Gaussian term of the potential, if there is one.
    pub tau: Option<f64>,
}

/// Langevin dynamics as recommended for purification.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Purification {
    /// ε.
    pub step_size: f64,
    /// T.
    pub temperature: f64,
    /// Number of steps.
    pub steps: usize,
}
