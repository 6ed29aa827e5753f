//! Models that are ready to run, and how everything is made that runs them.

mod builder;

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::{Backend, Footprint, Parallelism, Session};
use crate::contract::Contract;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Model;
pub use builder::{AnyModel, Buildable, Builder};
pub(crate) use builder::{buildable, positive, sealed};

/// Whether the platform can start threads.
const HAS_THREADS: bool = !cfg!(all(target_family = "wasm", not(target_feature = "atomics")));

/// A model prepared by a backend. Clones share it, so that many purifiers, samplers and scores run one loaded model, from as many threads as they like.
#[derive(Clone)]
pub struct Prepared(Arc<Inner>);

struct Inner {
    contract: Contract,
    backend: Backend,
    backend_reason: Option<String>,
    n_threads: usize,
    most_images: Option<usize>,
    session: Mutex<Box<dyn Session>>,
}

buildable!(Prepared, ());

impl Builder<Prepared> {
    /// Prepares the model.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] for no threads, more than [`Prepared::most_threads`], or several if the platform has none, and the errors of
    /// [`Backend::prepare`].
    pub fn build(self) -> Result<Prepared> {
        self.prepare()
    }
}

impl Prepared {
    /// Starts from a model, of any kind.
    pub fn builder(model: impl Into<AnyModel>) -> Builder<Self> {
        Builder::new(model.into(), ())
    }

    /// Prepares a model on a backend that may use `n_threads`.
    pub(crate) fn new(model: &Model, backend: &Backend, n_threads: usize) -> Result<Self> {
        let most = Self::most_threads();
        if !(1..=most).contains(&n_threads) {
            return Err(Error::out_of_range(
                "threads",
                &format!("a number from 1 to {most}"),
                n_threads,
            ));
        }
        if n_threads > 1 && !HAS_THREADS {
            return Err(Error::out_of_range(
                "threads",
                "1, since this platform has no threads",
                n_threads,
            ));
        }
        let chosen = backend.choose(model, n_threads)?;
        Ok(Self(Arc::new(Inner {
            contract: model.contract().clone(),
            backend: chosen.backend,
            backend_reason: chosen.reason,
            n_threads,
            most_images: chosen.most_images,
            session: Mutex::new(chosen.session),
        })))
    }

    /// The most threads that are started: four for each that the machine runs at once, and at least 64. More would only take memory and time.
    pub fn most_threads() -> usize {
        4 * std::thread::available_parallelism()
            .map_or(1, usize::from)
            .max(16)
    }

    /// What the model says about itself.
    pub fn contract(&self) -> &Contract {
        &self.0.contract
    }

    /// The backend that runs it: of [`Backend::automatic`], the one that took the model.
    pub fn backend(&self) -> &Backend {
        &self.0.backend
    }

    /// For [`Backend::automatic`]: why the backends before it do not run it.
    pub fn backend_reason(&self) -> Option<&str> {
        self.0.backend_reason.as_deref()
    }

    /// What it takes of this machine, if it runs on `native`. Other backends do not tell.
    pub fn footprint(&self) -> Option<Footprint> {
        self.lock().footprint()
    }

    /// Number of threads that it may use.
    pub fn n_threads(&self) -> usize {
        self.0.n_threads
    }

    /// Works on all items, on as many threads as the backend leaves to its callers, each with a session of its own. The results are in the order of
    /// the items; the first failure ends the work.
    pub(crate) fn map<T: Sync, R: Send>(
        &self,
        items: &[T],
        work: impl Fn(&mut dyn Session, &T) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        let next = AtomicUsize::new(0);
        let n_workers = self.n_workers().min(items.len());
        // Fewer sessions than threads share all of them.
        let threads_each = match n_workers == self.n_workers() {
            true => self.n_threads() / n_workers.max(1),
            false => self.n_threads(),
        };
        let work = || -> Result<Vec<(usize, R)>> {
            let mut session = self.fork(threads_each);
            let mut results = Vec::new();
            loop {
                let place = next.fetch_add(1, Ordering::Relaxed);
                let Some(item) = items.get(place) else {
                    return Ok(results);
                };
                let result = work(&mut *session, item);
                // After a failure the other threads find nothing more to do.
                let result = result.inspect_err(|_| next.store(items.len(), Ordering::Relaxed));
                results.push((place, result?));
            }
        };
        let mut results = match n_workers {
            0 => Vec::new(),
            1 => work()?,
            n => std::thread::scope(|scope| -> Result<Vec<_>> {
                let workers: Vec<_> = (0..n).map(|_| scope.spawn(work)).collect();
                let joined = workers
                    .into_iter()
                    .map(|worker| worker.join().unwrap_or_else(|_| Err(panicked())));
                let joined: Vec<_> = joined.collect();
                let results: Vec<_> = joined.into_iter().collect::<Result<_>>()?;
                Ok(results.into_iter().flatten().collect())
            })?,
        };
        results.sort_by_key(|(place, _)| *place);
        Ok(results.into_iter().map(|(_, result)| result).collect())
    }

    /// Number of threads that run sessions.
    pub(crate) fn n_workers(&self) -> usize {
        match self.backend().parallelism() {
            Parallelism::AcrossSessions => self.n_threads().min(self.most_images()),
            Parallelism::WithinSession => 1,
        }
    }

    /// How many images may be in one session if all of them run.
    pub(crate) fn most_images_each(&self) -> usize {
        self.most_images() / self.n_workers()
    }

    fn most_images(&self) -> usize {
        self.0.most_images.unwrap_or(usize::MAX)
    }

    /// A session on the prepared model for the thread that asks, for steps of one's own making.
    pub fn session(&self) -> Box<dyn Session> {
        self.fork(self.n_threads())
    }

    fn fork(&self, n_threads: usize) -> Box<dyn Session> {
        self.lock().fork(n_threads)
    }

    fn lock(&self) -> MutexGuard<'_, Box<dyn Session>> {
        let session = self.0.session.lock();
        session.unwrap_or_else(PoisonError::into_inner)
    }
}

fn panicked() -> Error {
    Error::new(
        ErrorKind::Backend,
        "the engine broke down while it ran the model",
    )
    .advise("the message above says where; try the other backend")
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("kind", &self.contract().kind)
            .field("image", &self.contract().image)
            .field("backend", &self.backend().name())
            .field("n_threads", &self.n_threads())
            .finish()
    }
}
