//! How weights follow their gradients.

use std::fmt::Debug;

use anyhow::{Context, Result, ensure};
use ebm_export::graph::tensor::Tensors;
use tch::Device;

use crate::network::{Weights, to_host};

/// An optimiser over named weights, with a state that can be saved.
pub trait Optimizer: Debug {
    /// Moves each weight that the optimiser knows by its gradient.
    fn step(
        &mut self,
        weights: &mut Weights,
        gradients: &Weights,
        learning_rate: f64,
    ) -> Result<()>;

    /// Bytes of the state.
    fn bytes(&self) -> u64;

    /// The state by name.
    fn state(&self) -> Result<Tensors>;

    /// Continues from a state after that many steps.
    fn restore(&mut self, steps: u64, state: &Tensors, device: Device) -> Result<()>;
}

/// The tensors of a state, each called `prefix` + the name of its weight.
pub(crate) fn named(prefix: &str, tensors: &Weights) -> Result<Tensors> {
    let named = |(name, tensor)| (format!("{prefix}{name}"), tensor);
    Ok(to_host(tensors)?.into_iter().map(named).collect())
}

/// Copies saved tensors called `prefix` + name over those of an optimiser.
pub(crate) fn restore_named(own: &mut Weights, saved: &Weights, prefix: &str) -> Result<()> {
    for (name, tensor) in own {
        let saved = saved
            .get(&format!("{prefix}{name}"))
            .with_context(|| format!("the saved optimiser knows no weight {name:?}"))?;
        ensure!(
            saved.size() == tensor.size(),
            "the saved optimiser has another shape of weight {name:?}"
        );
        *tensor = saved.shallow_clone();
    }
    Ok(())
}

/// A tensor of zeros for each weight.
pub(crate) fn zeros(weights: &Weights) -> Weights {
    weights
        .iter()
        .map(|(name, weight)| (name.clone(), weight.zeros_like().set_requires_grad(false)))
        .collect()
}
