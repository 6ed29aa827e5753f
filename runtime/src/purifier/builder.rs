//! Settings of a purifier.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::{OnProgress, Progress, Purifier};
use crate::contract::{Contract, Kind};
use crate::error::{Error, ErrorKind, Result};
use crate::langevin::{Dynamics, StepNoise};
use crate::prepared::{Builder, buildable, positive};
use crate::seed::Seed;
use ebm_common::PixelDistance;

/// The largest number of chains that run as one batch, if nothing else is asked for.
const DEFAULT_BATCH: usize = 8;

/// Settings of a [`Purifier`]. What is not set is as the contract recommends.
pub type PurifierBuilder = Builder<Purifier>;

/// What a [`PurifierBuilder`] has been told.
#[derive(Clone)]
pub struct PurifierSettings {
    steps: Option<usize>,
    step_size: Option<f64>,
    temperature: Option<f64>,
    clip: Option<f64>,
    energy_range: RangeInclusive<f32>,
    noise: StepNoise,
    replica: u32,
    batch: Option<usize>,
    on_progress: Option<OnProgress>,
}

impl PurifierSettings {
    /// What the contract of a model recommends.
    pub(super) fn recommended(contract: &Contract) -> Self {
        let recommended = contract.purification;
        Self {
            steps: recommended.map(|p| p.steps),
            step_size: recommended.map(|p| p.step_size),
            temperature: recommended.map(|p| p.temperature),
            clip: None,
            energy_range: f32::NEG_INFINITY..=f32::INFINITY,
            noise: StepNoise::Drawn,
            replica: 0,
            batch: None,
            on_progress: None,
        }
    }
}

buildable!(Purifier, PurifierSettings);

impl Builder<Purifier> {
    /// Takes the dynamics under which the energy was learned, as sampling does, in place of the recommended purification.
    pub fn as_learned(mut self) -> Self {
        if let Some(learned) = self.model.contract().langevin {
            self.settings.steps = learned.steps;
            self.settings.step_size = Some(learned.step_size);
            self.settings.temperature = Some(learned.temperature);
        }
        self
    }

    /// Number of Langevin steps, from 1; a multiple of the steps that the model takes in one run.
    pub fn steps(mut self, steps: usize) -> Self {
        self.settings.steps = Some(steps);
        self
    }

    /// Step size ε > 0.
    pub fn step_size(mut self, step_size: f64) -> Self {
        self.settings.step_size = Some(step_size);
        self
    }

    /// Temperature T > 0.
    pub fn temperature(mut self, temperature: f64) -> Self {
        self.settings.temperature = Some(temperature);
        self
    }

    /// The largest L2 norm of an image's drift `(ε²/(2T))·∇E`; none by default.
    pub fn clip(mut self, clip: f64) -> Self {
        self.settings.clip = Some(clip);
        self
    }

    /// The energies that a chain may have; all finite ones by default. A chain that leaves them is stopped and its image returned as it was given.
    pub fn energy_range(mut self, range: RangeInclusive<f32>) -> Self {
        self.settings.energy_range = range;
        self
    }

    /// Leaves out the noise of the steps: plain gradient descent down the potential.
    pub fn without_noise(mut self) -> Self {
        self.settings.noise = StepNoise::LeftOut;
        self
    }

    /// Takes the one step without noise that denoises images with Gaussian noise of standard deviation `sigma`: Tweedie's `x − σ²·∇U(x)`. For an
    /// energy that was learned by *denoise* matching this is `x − ∇E(x)`, since its potential is E/σ². A Langevin step of size `√2·σ` at temperature
    /// `σ²` is that step.
    pub fn denoiser(self, sigma: PixelDistance) -> Self {
        let sigma = sigma.in_signed_range();
        self.steps(1)
            .step_size(std::f64::consts::SQRT_2 * sigma)
            .temperature(sigma * sigma)
            .without_noise()
    }

    /// Number of the first replica in the noise; 0 by default.
    pub fn replica(mut self, replica: u32) -> Self {
        self.settings.replica = replica;
        self
    }

    /// The largest number of chains that run as one batch, from 1. It does not change the result.
    pub fn batch(mut self, batch: usize) -> Self {
        self.settings.batch = Some(batch);
        self
    }

    /// What is called after each step of each batch, on the thread that made it.
    pub fn on_progress(mut self, on_progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.settings.on_progress = Some(Arc::new(on_progress));
        self
    }

    /// Checks the settings and prepares the model. The seed of the noise has to be chosen: [`Seed::fresh`], or a number that repeats a run.
    ///
    /// # Errors
    /// [`ErrorKind::WrongKind`] for a model of another kind, [`ErrorKind::Argument`] for settings that are out of range, that neither the caller nor the
    /// contract states, or that a prepared model has already, and the errors of [`Backend::prepare`](crate::Backend::prepare).
    pub fn build(self, seed: impl Into<Seed>) -> Result<Purifier> {
        self.expect_kind(&[Kind::Step])?;
        let dynamics = self.dynamics(seed.into())?;
        let batch = from_one("batch", self.settings.batch.unwrap_or(DEFAULT_BATCH))?;
        let model = self.prepare()?;
        let fixed = model.contract().batch;
        Ok(Purifier {
            model,
            dynamics,
            first_replica: self.settings.replica,
            batch: fixed.map_or(batch, |fixed| batch.min(fixed)),
            on_progress: self.settings.on_progress,
        })
    }

    fn dynamics(&self, seed: Seed) -> Result<Dynamics> {
        let contract = self.model.contract();
        let steps_per_run = contract.n_steps.unwrap_or(1);
        let steps = from_one("steps", set("steps", self.settings.steps)?)?;
        if !steps.is_multiple_of(steps_per_run) {
            let expected =
                format!("a multiple of the {steps_per_run} steps of one run of the model");
            return Err(Error::out_of_range("steps", &expected, steps));
        }
        if let (Some(clip), true) = (self.settings.clip, steps_per_run > 1) {
            return Err(Error::out_of_range(
                "clip",
                "none for a model that takes several steps in a run; export it with --clip",
                clip,
            ));
        }
        if self.settings.energy_range.is_empty() {
            let got = format!("{:?}", self.settings.energy_range);
            return Err(Error::out_of_range(
                "energy_range",
                "a range from low to high",
                got,
            ));
        }
        let number = |name, value: usize| {
            u32::try_from(value).map_err(|_| Error::out_of_range(name, "at most 2³² − 1", value))
        };
        Ok(Dynamics {
            n_steps: number("steps", steps)?,
            steps_per_run: number("steps of one run", steps_per_run)?,
            step_size: positive("step_size", set("step_size", self.settings.step_size)?)?,
            temperature: positive(
                "temperature",
                set("temperature", self.settings.temperature)?,
            )?,
            clip: self
                .settings
                .clip
                .map(|clip| positive("clip", clip))
                .transpose()?,
            energy_range: self.settings.energy_range.clone(),
            noise: self.settings.noise,
            seed,
        })
    }
}

impl fmt::Debug for PurifierSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PurifierSettings")
            .field("steps", &self.steps)
            .field("step_size", &self.step_size)
            .field("temperature", &self.temperature)
            .finish_non_exhaustive()
    }
}

fn set<T>(name: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| {
        let problem = format!("the contract recommends no purification, and `{name}` is not set");
        Error::new(ErrorKind::Argument, problem).advise("set steps, step size and temperature")
    })
}

fn from_one(name: &str, value: usize) -> Result<usize> {
    if value > 0 {
        Ok(value)
    } else {
        Err(Error::out_of_range(name, "a number from 1", value))
    }
}
