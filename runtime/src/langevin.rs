//! Langevin chains: `x ← x − (ε²/(2T))·∇E(x) + ε·z`, one run of the step model for each step of a batch.

use crate::backend::{Input, Output, Session};
use crate::error::Result;
use crate::images::Images;
use crate::noise;

/// The factor `ε²/(2T)` of the gradient in the drift of one Langevin step.
pub fn drift_factor(step_size: f64, temperature: f64) -> f64 {
    step_size * step_size / (2.0 * temperature)
}

/// What all chains of a run have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dynamics {
    pub n_steps: u32,
    pub step_size: f64,
    pub temperature: f64,
    /// The largest L2 norm of an image's drift.
    pub clip: Option<f64>,
    pub seed: u64,
}

/// One chain: the image that it starts from, and the coordinates of its noise.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chain {
    /// Place of the image in the call's images.
    pub image: usize,
    /// The image's number in the noise.
    pub noise_index: u32,
    pub replica: u32,
}

/// Energy and L2 norm of its gradient at a state of a chain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measurement {
    /// E(x).
    pub energy: f32,
    /// ‖∇E(x)‖.
    pub gradient_norm: f32,
}

/// The states of a batch of chains. Where the model wants a larger batch than there are chains, the rows behind them are padding.
pub(crate) struct Batch<'a> {
    images: &'a Images,
    chains: &'a [Chain],
    dynamics: Dynamics,
    shape: [usize; 4],
    states: Vec<f32>,
    next_states: Vec<f32>,
    noise: Vec<f32>,
    energies: Vec<f32>,
    gradient_norms: Vec<f32>,
    failed_steps: Vec<Option<u32>>,
}

impl<'a> Batch<'a> {
    /// Chains at their start, in a batch of `n_rows`, which is not below the number of chains.
    pub fn new(images: &'a Images, chains: &'a [Chain], dynamics: Dynamics, n_rows: usize) -> Self {
        let image = images.shape();
        let n_values = n_rows * image.n_values();
        let mut states = Vec::with_capacity(n_values);
        chains
            .iter()
            .for_each(|chain| states.extend_from_slice(images.image(chain.image)));
        states.resize(n_values, 0.0);
        Self {
            images,
            chains,
            dynamics,
            shape: [n_rows, image.channels, image.height, image.width],
            states,
            next_states: vec![0.0; n_values],
            noise: vec![0.0; n_values],
            energies: vec![0.0; n_rows],
            gradient_norms: vec![0.0; n_rows],
            failed_steps: vec![None; chains.len()],
        }
    }

    /// Takes step number `step`, counted from 0.
    pub fn step(&mut self, session: &mut dyn Session, step: u32) -> Result<()> {
        let n = self.images.shape().n_values();
        for (chain, noise) in self.chains.iter().zip(self.noise.chunks_exact_mut(n)) {
            noise::fill_normal(
                self.dynamics.seed,
                chain.noise_index,
                chain.replica,
                step,
                noise,
            );
        }
        self.run(session)?;
        self.clip();
        std::mem::swap(&mut self.states, &mut self.next_states);
        self.stop_failed(step);
        Ok(())
    }

    /// Energies and gradients at the present states, which stay as they are.
    pub fn measure(&mut self, session: &mut dyn Session) -> Result<Vec<Measurement>> {
        self.run(session)?;
        Ok(self.measurements())
    }

    /// Energies and gradients at the states before the last step.
    pub fn measurements(&self) -> Vec<Measurement> {
        let pairs = self
            .energies
            .iter()
            .zip(&self.gradient_norms)
            .take(self.chains.len());
        pairs
            .map(|(&energy, &gradient_norm)| Measurement {
                energy,
                gradient_norm,
            })
            .collect()
    }

    /// The states `[chains, C, H, W]`. A chain that failed is at its start.
    pub fn states(&self) -> &[f32] {
        &self.states[..self.chains.len() * self.images.shape().n_values()]
    }

    /// For each chain the step that made it non-finite, if one did.
    pub fn failed_steps(&self) -> &[Option<u32>] {
        &self.failed_steps
    }

    fn run(&mut self, session: &mut dyn Session) -> Result<()> {
        let (shape, rows) = (&self.shape, &self.shape[..1]);
        let Dynamics {
            step_size,
            temperature,
            ..
        } = self.dynamics;
        session.run(
            &[
                Input {
                    name: "x",
                    shape,
                    values: &self.states,
                },
                Input {
                    name: "noise",
                    shape,
                    values: &self.noise,
                },
                Input {
                    name: "step_size",
                    shape: &[],
                    values: &[step_size as f32],
                },
                Input {
                    name: "temperature",
                    shape: &[],
                    values: &[temperature as f32],
                },
            ],
            &mut [
                Output {
                    name: "x_next",
                    shape,
                    values: &mut self.next_states,
                },
                Output {
                    name: "energy",
                    shape: rows,
                    values: &mut self.energies,
                },
                Output {
                    name: "gradient_norm",
                    shape: rows,
                    values: &mut self.gradient_norms,
                },
            ],
        )
    }

    /// Scales the drift of the images where it is longer than the limit.
    fn clip(&mut self) {
        let Some(limit) = self.dynamics.clip else {
            return;
        };
        let factor = drift_factor(self.dynamics.step_size, self.dynamics.temperature);
        let step_size = self.dynamics.step_size as f32;
        let n = self.images.shape().n_values();
        for (row, &gradient_norm) in self.gradient_norms.iter().enumerate() {
            let drift_norm = factor * f64::from(gradient_norm);
            if drift_norm <= limit {
                continue;
            }
            let scale = (limit / drift_norm) as f32;
            let values = row * n..(row + 1) * n;
            let states = self.states[values.clone()]
                .iter()
                .zip(&self.noise[values.clone()]);
            for (next, (state, noise)) in self.next_states[values].iter_mut().zip(states) {
                let without_drift = state + step_size * noise;
                *next = without_drift + (*next - without_drift) * scale;
            }
        }
    }

    /// Puts chains that have become non-finite back to their start, where they stay.
    fn stop_failed(&mut self, step: u32) {
        let n = self.images.shape().n_values();
        let rows = self
            .states
            .chunks_exact_mut(n)
            .zip(self.chains)
            .zip(&mut self.failed_steps);
        for ((state, chain), failed_step) in rows {
            if failed_step.is_none() && state.iter().any(|x| !x.is_finite()) {
                *failed_step = Some(step);
            }
            if failed_step.is_some() {
                state.copy_from_slice(self.images.image(chain.image));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_factor_is_that_of_the_formula() {
        assert_eq!(drift_factor(0.1, 0.5), 0.1 * 0.1);
        assert_eq!(drift_factor(2.0, 4.0), 0.5);
    }
}
