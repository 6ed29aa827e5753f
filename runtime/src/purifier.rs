//! Purification of images.

mod builder;
mod request;

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use builder::PurifierBuilder;
use request::MeasureEnd;
pub use request::{ChainReport, Purified, Request};

use crate::backend::{Backend, Parallelism, Session};
use crate::contract::Contract;
use crate::error::{Error, ErrorKind, Result, out_of_range};
use crate::images::Images;
use crate::langevin::{Batch, Chain, Dynamics};
use crate::model::Model;

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
        PurifierBuilder::new(model)
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
