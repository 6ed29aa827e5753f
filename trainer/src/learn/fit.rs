//! Maximum-likelihood learning of an energy network, from top to bottom.
//!
//! Each update compares data with the ends of Langevin chains and follows
//! `∇_θ [ mean E(x⁺ + σz) − mean E(x⁻) ] / T`: energy falls where data are and rises where chains end. What else the chains descend,
//! a prior or a Gaussian term, does not depend on θ. A generator that is learned follows `∇ mean ‖x⁻ − G(z)‖²` in the same update.

use anyhow::Result;

use crate::learn::energy::EnergyLearner;
use crate::run::stop::End;
use crate::run::training::Training;

/// Learns until all updates are done or the user stops.
pub fn fit(energy: &mut EnergyLearner, training: &mut Training<'_>) -> Result<End> {
    while training.goes_on(energy)? {
        let update = training.attempt(energy, |energy| {
            // x⁺: a batch of data, with noise.
            let data = energy.data()?;
            // Chains where they start: at data, at noise, at images of a generator, or where the bank keeps them.
            let starts = energy.starts()?;
            // x⁻: K times x ← x − (ε²/2)·∇U(x) + ε·z, after which the bank keeps them again.
            let ends = energy.langevin(starts)?;
            // The loss [ mean E(x⁺) − mean E(x⁻) ] / T and its gradient with respect to the weights.
            let loss = energy.loss(&data, &ends)?;
            // One step of Adam, of the moving average of the weights, and of the generator.
            energy.step(loss, ends)
        });
        // None: the update diverged, and learning is back at an earlier checkpoint.
        let Some(measured) = update? else { continue };
        training.record(&measured, energy)?;
        training.checkpoint(energy)?;
    }
    training.end(energy)
}
