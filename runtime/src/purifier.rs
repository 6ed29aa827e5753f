//! Purification of images.

mod builder;
mod request;
mod trajectory;
mod work;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

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
        let gathered = Mutex::new(Gathered::new(
            chains.len(),
            self.contract().image.n_values(),
        ));
        self.run_chains(request, &chains, &|first, finished| {
            let mut gathered = gathered.lock().unwrap_or_else(PoisonError::into_inner);
            gathered.put(first, finished);
            Ok(())
        })?;
        let gathered = gathered
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        gathered.into_purified(self.contract().image, request.n_replicas)
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

/// The ends of all chains, as the batches bring them.
struct Gathered {
    n_values: usize,
    ends: Vec<f32>,
    reports: Vec<Option<ChainReport>>,
    /// By number of steps: how many chains have come so far, and their images.
    snapshots: BTreeMap<u32, (usize, Vec<f32>)>,
}

impl Gathered {
    fn new(n_chains: usize, n_values: usize) -> Self {
        Self {
            n_values,
            ends: vec![0.0; n_chains * n_values],
            reports: vec![None; n_chains],
            snapshots: BTreeMap::new(),
        }
    }

    fn put(&mut self, first: usize, finished: Finished) {
        let place = first * self.n_values;
        self.ends[place..][..finished.states.len()].copy_from_slice(&finished.states);
        for (n_steps, states) in finished.snapshots {
            let empty = || (0, vec![0.0; self.ends.len()]);
            let (n_chains, images) = self.snapshots.entry(n_steps).or_insert_with(empty);
            *n_chains += finished.reports.len();
            images[place..][..states.len()].copy_from_slice(&states);
        }
        for (place, report) in self.reports[first..].iter_mut().zip(finished.reports) {
            *place = Some(report);
        }
    }

    fn into_purified(self, image: ImageShape, n_replicas: usize) -> Result<Purified> {
        let split = |values: Vec<f32>| -> Result<Vec<Images>> {
            let n = values.len() / n_replicas;
            let part = |replica| Images::from_vec(image, values[replica * n..][..n].to_vec());
            (0..n_replicas).map(part).collect()
        };
        let n_chains = self.reports.len();
        // A deadline can fall between two batches; then only some of the chains have come as far as the last snapshot.
        let whole = self
            .snapshots
            .into_iter()
            .filter(|(_, (n, _))| *n == n_chains);
        let snapshots = whole.map(|(n_steps, (_, images))| {
            Ok(Snapshot {
                n_steps,
                replicas: split(images)?,
            })
        });
        Ok(Purified {
            snapshots: snapshots.collect::<Result<_>>()?,
            replicas: split(self.ends)?,
            reports: self.reports.into_iter().flatten().collect(),
        })
    }
}
