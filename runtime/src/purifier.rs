//! Purification of images.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::{Backend, Parallelism, Session};
use crate::error::{Error, ErrorKind, Result};
use crate::images::Images;
use crate::langevin::{Batch, Chain, Dynamics, Measurement};
use crate::model::{Contract, Kind, Model};

/// The largest number of chains that run as one batch, where nothing else is asked for.
const DEFAULT_BATCH: usize = 8;

/// How far a run has come, in steps of single images: images × replicas × steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
pub struct Purifier {
    contract: Contract,
    dynamics: Dynamics,
    first_replica: u32,
    backend: Backend,
    n_threads: usize,
    batch: usize,
    on_progress: Option<OnProgress>,
    prototype: Mutex<Box<dyn Session>>,
    idle: Mutex<Vec<Box<dyn Session>>>,
}

impl Purifier {
    /// Starts a purifier for a model of kind `step`, with what its contract recommends.
    pub fn builder(model: &Model) -> PurifierBuilder {
        let recommended = model.contract().purification;
        PurifierBuilder {
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

    /// Purifies each image once; image `i` has index `i` in the noise.
    ///
    /// `images` are `[N, C, H, W]` as the model's contract says, and so is the result. Pixels of the result may lie a little outside `[-1, 1]`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] and [`ErrorKind::NonFinite`] for images that do not fit or have bad pixels, [`ErrorKind::NonFinite`] where a chain
    /// leaves the finite numbers, [`ErrorKind::Backend`] where the engine fails.
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
        let n = self.contract.image.n_values();
        let values = Mutex::new(vec![0.0_f32; chains.len() * n]);
        let reports = Mutex::new(vec![None; chains.len()]);
        self.run_chains(request, &chains, &|first, finished| {
            let states = finished.states;
            lock(&values)[first * n..][..states.len()].copy_from_slice(states);
            lock(&reports)[first..][..finished.reports.len()].copy_from_slice(finished.reports);
            Ok(())
        })?;
        let values = into_inner(values);
        let reports: Vec<ChainReport> = into_inner(reports).into_iter().flatten().collect();
        let n_images = request.images.len();
        let replicas = (0..request.n_replicas).map(|replica| {
            let part = &values[replica * n_images * n..][..n_images * n];
            Images::from_vec(self.contract.image, part.to_vec())
        });
        let replicas = replicas.collect::<Result<_>>()?;
        Ok(Purified { replicas, reports })
    }

    /// The contract of the model.
    pub fn contract(&self) -> &Contract {
        &self.contract
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
    pub fn seed(&self) -> u64 {
        self.dynamics.seed
    }

    /// Number of threads.
    pub fn n_threads(&self) -> usize {
        self.n_threads
    }

    /// The largest number of chains that run as one batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The backend that runs the steps.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Checks a request and lists its chains, replica by replica.
    pub(crate) fn chains(&self, request: &Request<'_>) -> Result<Vec<Chain>> {
        request.images.check(self.contract.image)?;
        if request.n_replicas == 0 {
            return Err(out_of_range("n_replicas", "a number from 1", 0));
        }
        let n_images = request.images.len();
        let indices = request.noise_indices(n_images)?;
        let chain = |row: usize| -> Result<Chain> {
            let (replica, image) = (row / n_images, row % n_images);
            let last = u32::try_from(replica)
                .ok()
                .and_then(|r| self.first_replica.checked_add(r));
            let replica =
                last.ok_or_else(|| out_of_range("replica", "at most 2³² − 1", replica))?;
            Ok(Chain {
                image,
                noise_index: indices[image],
                replica,
            })
        };
        (0..n_images * request.n_replicas).map(chain).collect()
    }

    /// Runs all chains in batches on all threads, and hands each finished batch on together with the number of its first chain.
    pub(crate) fn run_chains(
        &self,
        request: &Request<'_>,
        chains: &[Chain],
        finish: Finish<'_>,
    ) -> Result<()> {
        let n_workers = match self.backend.parallelism() {
            Parallelism::AcrossSessions => self.n_threads,
            Parallelism::WithinSession => 1,
        };
        let batch = self.batch.min(chains.len().div_ceil(n_workers)).max(1);
        let n_batches = chains.len().div_ceil(batch);
        let shared = Shared {
            next_batch: AtomicUsize::new(0),
            n_done: AtomicU64::new(0),
            n_total: chains.len() as u64 * u64::from(self.dynamics.n_steps),
        };
        let work = || -> Result<()> {
            let mut session = self.take_session();
            loop {
                let first = shared
                    .next_batch
                    .fetch_add(1, Ordering::Relaxed)
                    .saturating_mul(batch);
                if first >= chains.len() {
                    break;
                }
                let last = (first + batch).min(chains.len());
                let worked = self.run_batch(&mut *session, request, &chains[first..last], &shared);
                if let Err(error) = worked.and_then(|finished| finished.hand_to(first, finish)) {
                    // The other threads find nothing more to do.
                    shared.next_batch.store(n_batches, Ordering::Relaxed);
                    return Err(error);
                }
            }
            lock(&self.idle).push(session);
            Ok(())
        };
        match n_workers.min(n_batches) {
            0 => Ok(()),
            1 => work(),
            n => std::thread::scope(|scope| {
                let workers: Vec<_> = (0..n).map(|_| scope.spawn(work)).collect();
                let results = workers
                    .into_iter()
                    .map(|worker| worker.join().unwrap_or_else(|_| Err(panicked())));
                results.collect::<Vec<_>>().into_iter().collect()
            }),
        }
    }

    fn run_batch<'a>(
        &self,
        session: &mut dyn Session,
        request: &Request<'a>,
        chains: &'a [Chain],
        shared: &Shared,
    ) -> Result<FinishedBatch<'a>> {
        let n_rows = self.contract.batch.unwrap_or(chains.len());
        let mut batch = Batch::new(request.images, chains, self.dynamics, n_rows);
        let mut start = Vec::new();
        for step in 0..self.dynamics.n_steps {
            batch.step(session, step)?;
            if step == 0 {
                start = batch.measurements();
            }
            self.report_progress(shared, chains.len() as u64);
        }
        let end = match request.measure_end {
            MeasureEnd::Yes => batch.measure(session)?.into_iter().map(Some).collect(),
            MeasureEnd::No => vec![None; chains.len()],
        };
        let reports = chains.iter().enumerate().map(|(row, chain)| ChainReport {
            image: chain.image,
            replica: chain.replica,
            start: start[row],
            end: end[row],
            failed_step: batch.failed_steps()[row],
        });
        Ok(FinishedBatch {
            reports: reports.collect(),
            batch,
        })
    }

    fn report_progress(&self, shared: &Shared, n: u64) {
        let n_done = shared.n_done.fetch_add(n, Ordering::Relaxed) + n;
        if let Some(on_progress) = &self.on_progress {
            on_progress(Progress {
                n_done,
                n_total: shared.n_total,
            });
        }
    }

    fn take_session(&self) -> Box<dyn Session> {
        let idle = lock(&self.idle).pop();
        idle.unwrap_or_else(|| lock(&self.prototype).fork())
    }
}

impl fmt::Debug for Purifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Purifier")
            .field("dynamics", &self.dynamics)
            .field("first_replica", &self.first_replica)
            .field("backend", &self.backend)
            .field("n_threads", &self.n_threads)
            .field("batch", &self.batch)
            .finish_non_exhaustive()
    }
}

/// What is called with each finished batch and the number of its first chain.
pub(crate) type Finish<'a> = &'a (dyn Fn(usize, Finished<'_>) -> Result<()> + Sync);

/// The end of a batch of chains: states `[chains, C, H, W]`, and a report for each.
pub(crate) struct Finished<'a> {
    pub states: &'a [f32],
    pub reports: &'a [Option<ChainReport>],
}

struct FinishedBatch<'a> {
    batch: Batch<'a>,
    reports: Vec<ChainReport>,
}

impl FinishedBatch<'_> {
    fn hand_to(&self, first: usize, finish: Finish<'_>) -> Result<()> {
        let reports: Vec<_> = self.reports.iter().copied().map(Some).collect();
        finish(
            first,
            Finished {
                states: self.batch.states(),
                reports: &reports,
            },
        )
    }
}

/// What the threads of one run share.
struct Shared {
    next_batch: AtomicUsize,
    n_done: AtomicU64,
    n_total: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn into_inner<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn panicked() -> Error {
    Error::new(
        ErrorKind::Backend,
        "the engine broke down while it ran the model",
    )
    .advise("the message above says where; try the other backend")
}

fn out_of_range(name: &str, expected: &str, got: impl fmt::Display) -> Error {
    Error::new(
        ErrorKind::Argument,
        format!("the parameter `{name}` is out of range"),
    )
    .expected(expected)
    .but_got(got)
}

/// What to purify, how often, and under which indices in the noise.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    images: &'a Images,
    indices: NoiseIndices,
    n_replicas: usize,
    measure_end: MeasureEnd,
}

#[derive(Debug, Clone)]
enum NoiseIndices {
    From(u32),
    Each(Vec<u32>),
}

#[derive(Debug, Clone, Copy)]
enum MeasureEnd {
    Yes,
    No,
}

impl<'a> Request<'a> {
    /// One purification of each image, with noise indices from 0 on.
    pub fn new(images: &'a Images) -> Self {
        Self {
            images,
            indices: NoiseIndices::From(0),
            n_replicas: 1,
            measure_end: MeasureEnd::No,
        }
    }

    /// The noise index of the first image; the others follow.
    pub fn first_index(mut self, first_index: u32) -> Self {
        self.indices = NoiseIndices::From(first_index);
        self
    }

    /// The noise index of each image.
    pub fn indices(mut self, indices: Vec<u32>) -> Self {
        self.indices = NoiseIndices::Each(indices);
        self
    }

    /// The number of independent purifications of each image.
    pub fn n_replicas(mut self, n_replicas: usize) -> Self {
        self.n_replicas = n_replicas;
        self
    }

    /// Measures energy and gradient at the end of each chain too, which costs one more run of the model.
    pub fn measure_end(mut self) -> Self {
        self.measure_end = MeasureEnd::Yes;
        self
    }

    pub(crate) fn n_images(&self) -> usize {
        self.images.len()
    }

    fn noise_indices(&self, n_images: usize) -> Result<Vec<u32>> {
        let indices = match &self.indices {
            NoiseIndices::Each(indices) => indices.clone(),
            NoiseIndices::From(first) => match u32::try_from(n_images)
                .ok()
                .and_then(|n| first.checked_add(n))
            {
                Some(end) => (*first..end).collect(),
                None => {
                    return Err(out_of_range(
                        "first_index",
                        "indices below 2³² − 1 for all images",
                        first,
                    ));
                }
            },
        };
        if indices.len() != n_images {
            let got = format!("{} indices", indices.len());
            return Err(out_of_range(
                "indices",
                &format!("one for each of {n_images} images"),
                got,
            ));
        }
        Ok(indices)
    }
}

/// What is known of one chain at its end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChainReport {
    /// Place of the image in the request.
    pub image: usize,
    /// Number of the replica in the noise.
    pub replica: u32,
    /// Energy and gradient norm of the image as it was given.
    pub start: Measurement,
    /// Energy and gradient norm of the purified image, where they were asked for.
    pub end: Option<Measurement>,
    /// The step, counted from 0, that made the chain non-finite, if one did. The image is returned as it was given.
    pub failed_step: Option<u32>,
}

/// The result of [`Purifier::run`].
#[derive(Debug, Clone)]
pub struct Purified {
    /// For each replica the purified images `[N, C, H, W]`.
    pub replicas: Vec<Images>,
    /// One report for each chain, replica by replica.
    pub reports: Vec<ChainReport>,
}

impl Purified {
    /// Nothing where all chains stayed finite.
    ///
    /// # Errors
    /// [`ErrorKind::NonFinite`], which names the first image and step that did not.
    pub fn expect_all_finite(&self) -> Result<()> {
        self.reports.iter().try_for_each(ChainReport::expect_finite)
    }
}

impl ChainReport {
    /// Nothing where the chain stayed finite.
    ///
    /// # Errors
    /// [`ErrorKind::NonFinite`], which names image and step, where it did not.
    pub fn expect_finite(&self) -> Result<()> {
        let Some(step) = self.failed_step else {
            return Ok(());
        };
        let problem = format!(
            "image {} left the finite numbers at step {step}",
            self.image
        );
        Err(Error::new(ErrorKind::NonFinite, problem)
            .advise("take a smaller step size, a higher temperature, or clip the drift"))
    }
}

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
