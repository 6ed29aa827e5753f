//! Settings of a purifier.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::{OnProgress, Progress, Purifier};
use crate::backend::Backend;
use crate::contract::{Contract, Kind};
use crate::error::{Error, ErrorKind, Result};
use crate::langevin::{Dynamics, StepNoise};
use crate::model::Model;
use crate::prepared::Prepared;
use crate::seed::Seed;
use ebm_common::PixelDistance;

/// The largest number of chains that run as one batch, where nothing else is asked for.
const DEFAULT_BATCH: usize = 8;

/// Settings of a [`Purifier`]. What is not set is as the contract recommends.
#[derive(Clone)]
pub struct PurifierBuilder {
    model: Source,
    steps: Option<usize>,
    step_size: Option<f64>,
    temperature: Option<f64>,
    clip: Option<f64>,
    energy_range: RangeInclusive<f32>,
    noise: StepNoise,
    replica: u32,
    threads: Option<usize>,
    batch: Option<usize>,
    backend: Option<Backend>,
    on_progress: Option<OnProgress>,
}

/// What will run the steps.
#[derive(Clone)]
enum Source {
    Model(Box<Model>),
    Prepared(Prepared),
}

impl Source {
    fn contract(&self) -> &Contract {
        match self {
            Self::Model(model) => model.contract(),
            Self::Prepared(prepared) => prepared.contract(),
        }
    }
}

impl PurifierBuilder {
    pub(super) fn new(model: &Model) -> Self {
        Self::of(Source::Model(Box::new(model.clone())))
    }

    pub(super) fn on(model: &Prepared) -> Self {
        Self::of(Source::Prepared(model.clone()))
    }

    /// What the contract of the model recommends.
    fn of(model: Source) -> Self {
        let recommended = model.contract().purification;
        Self {
            model,
            steps: recommended.map(|p| p.steps),
            step_size: recommended.map(|p| p.step_size),
            temperature: recommended.map(|p| p.temperature),
            clip: None,
            energy_range: f32::NEG_INFINITY..=f32::INFINITY,
            noise: StepNoise::Drawn,
            replica: 0,
            threads: None,
            batch: None,
            backend: None,
            on_progress: None,
        }
    }

    /// Takes the dynamics under which the energy was learned, as sampling does, in place of the recommended purification.
    pub fn as_learned(mut self) -> Self {
        if let Some(learned) = self.model.contract().langevin {
            self.steps = learned.steps;
            self.step_size = Some(learned.step_size);
            self.temperature = Some(learned.temperature);
        }
        self
    }

    /// Number of Langevin steps, from 1; a multiple of the steps that the model takes in one run.
    pub fn steps(mut self, steps: usize) -> Self {
        self.steps = Some(steps);
        self
    }

    /// Step size ε > 0.
    pub fn step_size(mut self, step_size: f64) -> Self {
        self.step_size = Some(step_size);
        self
    }

    /// Temperature T > 0.
    pub fn temperature(mut self, temperature: f64) -> Self {
        self.temperature = Some(temperature);
        self
    }

    /// The largest L2 norm of an image's drift `(ε²/(2T))·∇E`; none by default.
    pub fn clip(mut self, clip: f64) -> Self {
        self.clip = Some(clip);
        self
    }

    /// The energies that a chain may have; all finite ones by default. A chain that leaves them is stopped and its image returned as it was given.
    pub fn energy_range(mut self, range: RangeInclusive<f32>) -> Self {
        self.energy_range = range;
        self
    }

    /// Leaves out the noise of the steps: plain gradient descent down the potential.
    pub fn without_noise(mut self) -> Self {
        self.noise = StepNoise::LeftOut;
        self
    }

    /// Takes the one step without noise that denoises images with Gaussian noise of deviation `sigma`: Tweedie's `x − σ²·∇U(x)`, which is `x − ∇E(x)` for an energy learned by *denoise*
    /// matching, since its potential is E/σ². Step size `√2·σ` and temperature `σ²` make that of a Langevin step.
    pub fn denoiser(self, sigma: PixelDistance) -> Self {
        let sigma = sigma.in_signed_range();
        self.steps(1)
            .step_size(std::f64::consts::SQRT_2 * sigma)
            .temperature(sigma * sigma)
            .without_noise()
    }

    /// Number of the first replica in the noise; 0 by default.
    pub fn replica(mut self, replica: u32) -> Self {
        self.replica = replica;
        self
    }

    /// Number of threads, from 1; all of the machine's by default. A prepared model has its own.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// The largest number of chains that run as one batch, from 1. It does not change the result.
    pub fn batch(mut self, batch: usize) -> Self {
        self.batch = Some(batch);
        self
    }

    /// The backend; [`Backend::default`] by default. A prepared model has its own.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = Some(backend);
        self
    }

    /// What is called after each step of each batch, on the thread that made it.
    pub fn on_progress(mut self, on_progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.on_progress = Some(Arc::new(on_progress));
        self
    }

    /// Checks the settings and prepares the model. The seed of the noise has to be chosen: [`Seed::fresh`], or a number that repeats a run.
    ///
    /// # Errors
    /// [`ErrorKind::WrongKind`] for a model that is no step, [`ErrorKind::Argument`] for settings out of range, set neither here nor in the contract, or
    /// of a model that is prepared already, and the errors of [`Backend::prepare`].
    pub fn build(self, seed: impl Into<Seed>) -> Result<Purifier> {
        if let Source::Model(model) = &self.model {
            model.expect_kind(Kind::Step)?;
        }
        let dynamics = self.dynamics(seed.into())?;
        let batch = from_one("batch", self.batch.unwrap_or(DEFAULT_BATCH))?;
        let model = self.prepared()?;
        model.expect_kind(&[Kind::Step])?;
        let fixed = model.contract().batch;
        Ok(Purifier {
            model,
            dynamics,
            first_replica: self.replica,
            batch: fixed.map_or(batch, |fixed| batch.min(fixed)),
            on_progress: self.on_progress,
        })
    }

    fn prepared(&self) -> Result<Prepared> {
        match &self.model {
            Source::Prepared(prepared) => {
                let set = match (&self.backend, self.threads) {
                    (Some(_), _) => "backend",
                    (None, Some(_)) => "threads",
                    (None, None) => return Ok(prepared.clone()),
                };
                Err(Error::out_of_range(
                    set,
                    "it to be left out for a model that is prepared",
                    "a value",
                ))
            }
            Source::Model(model) => {
                let backend = self.backend.clone().unwrap_or_default();
                let all = || std::thread::available_parallelism().map_or(1, usize::from);
                let n_threads = self.threads.unwrap_or_else(all);
                Prepared::new(model, &backend, n_threads)
            }
        }
    }

    fn dynamics(&self, seed: Seed) -> Result<Dynamics> {
        let contract = self.model.contract();
        let steps_per_run = contract.n_steps.unwrap_or(1);
        let steps = from_one("steps", set("steps", self.steps)?)?;
        if !steps.is_multiple_of(steps_per_run) {
            let expected =
                format!("a multiple of the {steps_per_run} steps of one run of the model");
            return Err(Error::out_of_range("steps", &expected, steps));
        }
        if let (Some(clip), true) = (self.clip, steps_per_run > 1) {
            return Err(Error::out_of_range(
                "clip",
                "none for a model that takes several steps in a run; export it with --clip",
                clip,
            ));
        }
        if self.energy_range.is_empty() {
            let got = format!("{:?}", self.energy_range);
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
            step_size: positive("step_size", set("step_size", self.step_size)?)?,
            temperature: positive("temperature", set("temperature", self.temperature)?)?,
            clip: self.clip.map(|clip| positive("clip", clip)).transpose()?,
            energy_range: self.energy_range.clone(),
            noise: self.noise,
            seed,
        })
    }
}

impl fmt::Debug for PurifierBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PurifierBuilder")
            .field("image", &self.model.contract().image)
            .field("steps", &self.steps)
            .field("step_size", &self.step_size)
            .field("temperature", &self.temperature)
            .field("backend", &self.backend)
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

/// The model computes in f32, so that a value must be positive and finite there too.
fn positive(name: &str, value: f64) -> Result<f64> {
    let rounded = value as f32;
    if rounded > 0.0 && rounded.is_finite() {
        return Ok(value);
    }
    Err(Error::out_of_range(
        name,
        "a positive, finite number",
        value,
    ))
}
