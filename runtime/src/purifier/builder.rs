//! Settings of a purifier.

use std::fmt;
use std::sync::{Arc, Mutex};

use super::{OnProgress, Progress, Purifier};
use crate::backend::Backend;
use crate::contract::Kind;
use crate::error::{Error, ErrorKind, Result, out_of_range};
use crate::langevin::Dynamics;
use crate::model::Model;

/// The largest number of chains that run as one batch, where nothing else is asked for.
const DEFAULT_BATCH: usize = 8;

/// Settings of a [`Purifier`]. What is not set is as the contract recommends.
#[derive(Clone)]
pub struct PurifierBuilder {
    model: Model,
    steps: Option<usize>,
    step_size: Option<f64>,
    temperature: Option<f64>,
    clip: Option<f64>,
    seed: u64,
    replica: u32,
    threads: Option<usize>,
    batch: Option<usize>,
    backend: Backend,
    on_progress: Option<OnProgress>,
}

impl PurifierBuilder {
    /// What the contract of `model` recommends.
    pub(super) fn new(model: &Model) -> Self {
        let recommended = model.contract().purification;
        Self {
            model: model.clone(),
            steps: recommended.map(|p| p.steps),
            step_size: recommended.map(|p| p.step_size),
            temperature: recommended.map(|p| p.temperature),
            clip: None,
            seed: 0,
            replica: 0,
            threads: None,
            batch: None,
            backend: Backend::default(),
            on_progress: None,
        }
    }

    /// Number of Langevin steps, from 1.
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

    /// Seed of the noise; 0 by default.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Number of the first replica in the noise; 0 by default.
    pub fn replica(mut self, replica: u32) -> Self {
        self.replica = replica;
        self
    }

    /// Number of threads, from 1; all of the machine's by default.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// The largest number of chains that run as one batch, from 1. It does not change the result.
    pub fn batch(mut self, batch: usize) -> Self {
        self.batch = Some(batch);
        self
    }

    /// The backend; [`Backend::default`] by default.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = backend;
        self
    }

    /// What is called after each step of each batch, on the thread that made it.
    pub fn on_progress(mut self, on_progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.on_progress = Some(Arc::new(on_progress));
        self
    }

    /// Checks the settings and prepares the model.
    ///
    /// # Errors
    /// [`ErrorKind::WrongKind`] for a model that is no step, [`ErrorKind::Argument`] for settings out of range or set neither here nor in the contract,
    /// and the errors of [`Backend::prepare`].
    pub fn build(self) -> Result<Purifier> {
        self.model.expect_kind(Kind::Step)?;
        let dynamics = self.dynamics()?;
        let n_threads = match self.threads {
            Some(threads) => from_one("threads", threads)?,
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let contract = self.model.contract().clone();
        let batch = from_one("batch", self.batch.unwrap_or(DEFAULT_BATCH))?;
        let prototype = self.backend.prepare(&self.model, n_threads)?;
        Ok(Purifier {
            dynamics,
            first_replica: self.replica,
            n_threads,
            batch: contract.batch.map_or(batch, |fixed| batch.min(fixed)),
            contract,
            backend: self.backend,
            on_progress: self.on_progress,
            prototype: Mutex::new(prototype),
            idle: Mutex::default(),
        })
    }

    fn dynamics(&self) -> Result<Dynamics> {
        let steps = from_one("steps", set("steps", self.steps)?)?;
        Ok(Dynamics {
            n_steps: u32::try_from(steps)
                .map_err(|_| out_of_range("steps", "at most 2³² − 1", steps))?,
            step_size: positive("step_size", set("step_size", self.step_size)?)?,
            temperature: positive("temperature", set("temperature", self.temperature)?)?,
            clip: self.clip.map(|clip| positive("clip", clip)).transpose()?,
            seed: self.seed,
        })
    }
}

impl fmt::Debug for PurifierBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PurifierBuilder")
            .field("model", &self.model.path())
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
        Err(out_of_range(name, "a number from 1", value))
    }
}

/// The model computes in f32, so that a value must be positive and finite there too.
fn positive(name: &str, value: f64) -> Result<f64> {
    let rounded = value as f32;
    if rounded > 0.0 && rounded.is_finite() {
        return Ok(value);
    }
    Err(out_of_range(name, "a positive, finite number", value))
}
