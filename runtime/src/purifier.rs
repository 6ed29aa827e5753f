//! Purification of images.

mod builder;
mod request;
mod trajectory;
mod work;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use builder::{PurifierBuilder, PurifierSettings};
pub use request::{ChainReport, Purified, Request, Snapshot};
pub use trajectory::{State, Trajectory};

use crate::backend::Backend;
use crate::contract::{Contract, ImageShape};
use crate::error::{Error, Result};
use crate::images::Images;
use crate::langevin::{Chain, Dynamics};
use crate::prepared::{AnyModel, Builder, Prepared};
use crate::seed::Seed;
pub(crate) use work::Finished;

/// How far a run has come, in steps of single images: images × replicas × steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Steps of images done so far.
    pub n_done: u64,
    /// Steps of images of the whole run.
    pub n_total: u64,
}

type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// Purifies images by Langevin steps. One purifier can be used from many threads at once.
///
/// Same seed, same image, same image index: the same result, whatever the batch, the order and the number of threads.
#[derive(Clone)]
pub struct Purifier {
    model: Prepared,
    dynamics: Dynamics,
    first_replica: u32,
    batch: usize,
    on_progress: Option<OnProgress>,
}

impl Purifier {
    /// Starts from a model of kind `step`, with what its contract recommends.
    pub fn builder(model: impl Into<AnyModel>) -> PurifierBuilder {
        let model = model.into();
        let settings = PurifierSettings::recommended(model.contract());
        Builder::new(model, settings)
    }

    /// Purifies each image once; image `i` has index `i` in the noise.
    ///
    /// `images` are `[N, C, H, W]` as the model's contract says, and so is the result. Pixels of the result may lie a little outside `[-1, 1]`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) for images that do not fit, [`ErrorKind::NonFinite`](crate::ErrorKind::NonFinite) for bad pixels and
    /// if a chain leaves the finite numbers, [`ErrorKind::Backend`](crate::ErrorKind::Backend) if the engine fails.
    pub fn purify(&self, images: &Images) -> Result<Images> {
        let mut purified = self.run(&Request::new(images))?;
        purified.expect_all_finite()?;
        Ok(purified.replicas.swap_remove(0))
    }

    /// Purifies as a request says, with reports on every chain.
    ///
    /// # Errors
    /// As [`Purifier::purify`], except that chains which leave the finite numbers are reported in the result and their images returned as given.
    pub fn run(&self, request: &Request<'_>) -> Result<Purified> {
        let chains = self.chains(request)?;
        let finished = self.run_chains(request, &chains, Ok)?;
        Purified::of_batches(self.contract().image, request.n_replicas, finished)
    }

    /// The contract of the model.
    pub fn contract(&self) -> &Contract {
        self.model.contract()
    }

    /// Number of Langevin steps.
    pub fn n_steps(&self) -> u32 {
        self.dynamics.n_steps
    }

    /// Step size ε.
    pub fn step_size(&self) -> f64 {
        self.dynamics.step_size
    }

    /// Temperature T.
    pub fn temperature(&self) -> f64 {
        self.dynamics.temperature
    }

    /// Seed of the noise.
    pub fn seed(&self) -> Seed {
        self.dynamics.seed
    }

    /// The same purifier with other noise. It shares the prepared model, so that a seed for each request costs nothing.
    pub fn with_seed(&self, seed: impl Into<Seed>) -> Self {
        let mut other = self.clone();
        other.dynamics.seed = seed.into();
        other
    }

    /// Number of threads.
    pub fn n_threads(&self) -> usize {
        self.model.n_threads()
    }

    /// The largest number of chains that run as one batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The backend that runs the steps.
    pub fn backend(&self) -> &Backend {
        self.model.backend()
    }

    /// The prepared model, which other purifiers, samplers and scores can share.
    pub fn model(&self) -> &Prepared {
        &self.model
    }

    /// Checks a request and lists its chains, replica by replica.
    pub(crate) fn chains(&self, request: &Request<'_>) -> Result<Vec<Chain>> {
        request.images.check(self.contract().image)?;
        if request.n_replicas == 0 {
            return Err(Error::out_of_range("n_replicas", "a number from 1", 0));
        }
        let steps_per_run = self.dynamics.steps_per_run;
        if let Some(n_steps) = request
            .snapshots
            .iter()
            .find(|n_steps| !n_steps.is_multiple_of(steps_per_run))
        {
            let expected =
                format!("multiples of the {steps_per_run} steps of one run of the model");
            return Err(Error::out_of_range("snapshots", &expected, n_steps));
        }
        let last_step = request.first_step.checked_add(self.dynamics.n_steps);
        if last_step.is_none() {
            let first_step = request.first_step;
            return Err(Error::out_of_range(
                "first_step",
                "steps below 2³²",
                first_step,
            ));
        }
        let n_images = request.images.len();
        let indices = request.noise_indices(n_images)?;
        let chain = |row: usize| -> Result<Chain> {
            let (replica, image) = (row / n_images, row % n_images);
            let last = u32::try_from(replica)
                .ok()
                .and_then(|r| self.first_replica.checked_add(r));
            let replica =
                last.ok_or_else(|| Error::out_of_range("replica", "at most 2³² − 1", replica))?;
            Ok(Chain {
                image,
                noise_index: indices[image],
                replica,
            })
        };
        (0..n_images * request.n_replicas).map(chain).collect()
    }
}

impl fmt::Debug for Purifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Purifier")
            .field("model", &self.model)
            .field("dynamics", &self.dynamics)
            .field("first_replica", &self.first_replica)
            .field("batch", &self.batch)
            .finish_non_exhaustive()
    }
}

impl Purified {
    /// Puts finished batches together, which hold the chains replica by replica.
    fn of_batches(image: ImageShape, n_replicas: usize, finished: Vec<Finished>) -> Result<Self> {
        let (mut ends, mut reports) = (Vec::new(), Vec::new());
        let mut snapshots: BTreeMap<u32, Vec<f32>> = BTreeMap::new();
        for batch in finished {
            ends.extend(batch.states);
            reports.extend(batch.reports);
            for (n_steps, states) in batch.snapshots {
                snapshots.entry(n_steps).or_default().extend(states);
            }
        }
        // A deadline can fall between two batches; then only some of the chains have come as far as the last snapshot.
        snapshots.retain(|_, images| images.len() == ends.len());
        let split = |values: Vec<f32>| -> Result<Vec<Images>> {
            let n = values.len() / n_replicas;
            let part = |replica| Images::from_vec(image, values[replica * n..][..n].to_vec());
            (0..n_replicas).map(part).collect()
        };
        let snapshots = snapshots.into_iter().map(|(n_steps, images)| {
            let replicas = split(images)?;
            Ok(Snapshot { n_steps, replicas })
        });
        Ok(Self {
            snapshots: snapshots.collect::<Result<_>>()?,
            replicas: split(ends)?,
            reports,
        })
    }
}
