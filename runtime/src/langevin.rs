//! Langevin chains: `x ← x − (ε²/(2T))·∇E(x) + ε·z`, the state of a batch of chains held by the engine from step to step.

use std::ops::RangeInclusive;

use crate::backend::{Input, Output, Recurrence, Recurrent, Session};
use crate::contract::ImageShape;
use crate::error::Result;
use crate::images::Images;
use crate::noise::{NoiseCoordinates, NoiseOfRuns, NoiseThread};
use crate::seed::Seed;

/// The factor `ε²/(2T)` of the gradient in the drift of one Langevin step.
pub fn drift_factor(step_size: f64, temperature: f64) -> f64 {
    step_size * step_size / (2.0 * temperature)
}

/// What all chains of a run have in common.
#[derive(Debug, Clone)]
pub(crate) struct Dynamics {
    /// A multiple of `steps_per_run`.
    pub n_steps: u32,
    /// Steps that the model takes in one run.
    pub steps_per_run: u32,
    pub step_size: f64,
    pub temperature: f64,
    /// The largest L2 norm of an image's drift. Only for models that take one step in a run.
    pub clip: Option<f64>,
    /// Chains whose energy leaves this range are stopped.
    pub energy_range: RangeInclusive<f32>,
    pub noise: StepNoise,
    pub seed: Seed,
}

/// Whether the steps have noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepNoise {
    Drawn,
    LeftOut,
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
#[non_exhaustive]
pub struct Measurement {
    /// E(x).
    pub energy: f32,
    /// ‖∇E(x)‖.
    pub gradient_norm: f32,
}

/// A batch of chains. If the model wants a larger batch than there are chains, the other rows are padding.
pub(crate) struct Batch<'a> {
    images: &'a Images,
    chains: Vec<Chain>,
    dynamics: &'a Dynamics,
    /// `[rows, C, H, W]`
    shape: [usize; 4],
    runs: Box<dyn Recurrent>,
    noise: NoiseOfRuns,
    /// `[steps_per_run, rows]`, as are the gradient norms.
    energies: Vec<f32>,
    gradient_norms: Vec<f32>,
    /// Steps that the chains had behind them at their start.
    first_step: u32,
    /// Steps taken since.
    n_steps: u32,
    failed_steps: Vec<Option<u32>>,
}

impl<'a> Batch<'a> {
    /// Chains that have `first_step` steps behind them, in a batch of `n_rows`, which is not below the number of chains.
    pub fn new(
        session: &dyn Session,
        images: &'a Images,
        chains: Vec<Chain>,
        dynamics: &'a Dynamics,
        n_rows: usize,
        first_step: u32,
        noise_thread: NoiseThread,
    ) -> Result<Self> {
        let image = images.shape();
        let shape = [n_rows, image.channels, image.height, image.width];
        let mut runs = session.recur(&Recurrence {
            output: "x_next",
            input: "x",
            shape: &shape,
        })?;
        let mut states = Vec::with_capacity(n_rows * image.n_values());
        for chain in &chains {
            states.extend_from_slice(images.image(chain.image));
        }
        states.resize(n_rows * image.n_values(), 0.0);
        runs.write(&states)?;
        let n_measured = n_rows * dynamics.steps_per_run as usize;
        let coordinates = NoiseCoordinates {
            seed: dynamics.seed.number(),
            streams: match dynamics.noise {
                StepNoise::Drawn => chains
                    .iter()
                    .map(|chain| (chain.noise_index, chain.replica))
                    .collect(),
                // Rows without a stream have noise 0.
                StepNoise::LeftOut => Vec::new(),
            },
            n_values: image.n_values(),
            n_rows,
            first_step,
            steps_per_run: dynamics.steps_per_run,
        };
        Ok(Self {
            images,
            dynamics,
            shape,
            runs,
            noise: NoiseOfRuns::new(coordinates, dynamics.n_steps, noise_thread),
            energies: vec![0.0; n_measured],
            gradient_norms: vec![0.0; n_measured],
            first_step,
            n_steps: 0,
            failed_steps: vec![None; chains.len()],
            chains,
        })
    }

    /// Runs the model once, which takes `steps_per_run` steps.
    pub fn advance(&mut self) -> Result<()> {
        let noise = self.noise.take();
        let before = match self.dynamics.clip {
            Some(_) => Some(self.all_states()?),
            None => None,
        };
        self.run(&noise)?;
        if let (Some(limit), Some(before)) = (self.dynamics.clip, before) {
            self.clip(limit, &before, &noise)?;
        }
        self.noise.give_back(noise);
        self.watch();
        self.n_steps += self.dynamics.steps_per_run;
        Ok(())
    }

    /// Energies and gradients at the present states, behind which the chains cannot go on.
    pub fn measure(mut self) -> Result<Vec<Measurement>> {
        let n_noise = self.shape.iter().product::<usize>() * self.dynamics.steps_per_run as usize;
        self.run(&vec![0.0; n_noise])?;
        Ok(self.measurements(0))
    }

    /// Energies and gradients before one of the steps of the last run.
    pub fn measurements(&self, step_of_run: u32) -> Vec<Measurement> {
        let first = step_of_run as usize * self.shape[0];
        let pairs = self.energies[first..]
            .iter()
            .zip(&self.gradient_norms[first..])
            .take(self.chains.len());
        pairs
            .map(|(&energy, &gradient_norm)| Measurement {
                energy,
                gradient_norm,
            })
            .collect()
    }

    pub fn image_shape(&self) -> ImageShape {
        self.images.shape()
    }

    /// The steps taken so far.
    pub fn n_steps(&self) -> u32 {
        self.n_steps
    }

    /// The states `[chains, C, H, W]`. A chain that failed is at its start.
    pub fn states(&mut self) -> Result<Vec<f32>> {
        let n = self.images.shape().n_values();
        let mut states = self.all_states()?;
        states.truncate(self.chains.len() * n);
        let last_step = self.first_step + self.n_steps.saturating_sub(1);
        let rows = states
            .chunks_exact_mut(n)
            .zip(&self.chains)
            .zip(&mut self.failed_steps);
        for ((state, chain), failed_step) in rows {
            if failed_step.is_none() && state.iter().any(|x| !x.is_finite()) {
                *failed_step = Some(last_step);
            }
            if failed_step.is_some() {
                state.copy_from_slice(self.images.image(chain.image));
            }
        }
        Ok(states)
    }

    /// For each chain the step at which it left the finite numbers or its range of energies, if it did.
    pub fn failed_steps(&self) -> &[Option<u32>] {
        &self.failed_steps
    }

    fn all_states(&self) -> Result<Vec<f32>> {
        let mut states = vec![0.0; self.shape.iter().product()];
        self.runs.read(&mut states)?;
        Ok(states)
    }

    fn run(&mut self, noise: &[f32]) -> Result<()> {
        let steps = self.dynamics.steps_per_run as usize;
        let [rows, channels, height, width] = self.shape;
        let of_all_steps = [steps, rows, channels, height, width];
        // A model that takes one step has no dimension for them.
        let (noise_shape, measured_shape) = match steps {
            1 => (&of_all_steps[1..], &of_all_steps[1..2]),
            _ => (&of_all_steps[..], &of_all_steps[..2]),
        };
        let (step_size, temperature) = (
            self.dynamics.step_size as f32,
            self.dynamics.temperature as f32,
        );
        let inputs = [
            Input::new("noise", noise_shape, noise),
            Input::scalar("step_size", &step_size),
            Input::scalar("temperature", &temperature),
        ];
        let mut outputs = [
            Output::new("energy", measured_shape, &mut self.energies),
            Output::new("gradient_norm", measured_shape, &mut self.gradient_norms),
        ];
        self.runs.step(&inputs, &mut outputs)
    }

    /// Scales the drift of the images whose drift is longer than the limit.
    fn clip(&mut self, limit: f64, before: &[f32], noise: &[f32]) -> Result<()> {
        let factor = drift_factor(self.dynamics.step_size, self.dynamics.temperature);
        let step_size = self.dynamics.step_size as f32;
        let n = self.images.shape().n_values();
        let mut states = self.all_states()?;
        for (row, &gradient_norm) in self.gradient_norms.iter().enumerate() {
            let drift_norm = factor * f64::from(gradient_norm);
            if drift_norm <= limit {
                continue;
            }
            let scale = (limit / drift_norm) as f32;
            let values = row * n..(row + 1) * n;
            let starts = before[values.clone()].iter().zip(&noise[values.clone()]);
            for (next, (state, noise)) in states[values].iter_mut().zip(starts) {
                let without_drift = state + step_size * noise;
                *next = without_drift + (*next - without_drift) * scale;
            }
        }
        self.runs.write(&states)
    }

    /// Marks the chains that were found outside the finite numbers or their range of energies in the last run.
    fn watch(&mut self) {
        for step in 0..self.dynamics.steps_per_run {
            let measurements = self.measurements(step);
            for (failed_step, at) in self.failed_steps.iter_mut().zip(measurements) {
                let fine = self.dynamics.energy_range.contains(&at.energy)
                    && at.energy.is_finite()
                    && at.gradient_norm.is_finite();
                if failed_step.is_none() && !fine {
                    *failed_step = Some(self.first_step + self.n_steps + step);
                }
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
