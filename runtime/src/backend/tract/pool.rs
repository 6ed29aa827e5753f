//! Threads that work on one run of a model together.

#[cfg(feature = "threads")]
use std::sync::{Arc, OnceLock};

#[cfg(feature = "threads")]
use tract_onnx::prelude::multithread::{Executor, multithread_tract_scope};

/// As many threads as were asked for, started when a run first wants them. tract divides matrix products among them by tiles of the result, so that the bits do
/// not depend on their number.
pub(super) struct Pool {
    #[cfg(feature = "threads")]
    n_threads: usize,
    #[cfg(feature = "threads")]
    executor: OnceLock<Executor>,
}

#[cfg(feature = "threads")]
impl Pool {
    pub fn new(n_threads: usize) -> Self {
        Self {
            n_threads,
            executor: OnceLock::new(),
        }
    }

    /// What a piece of work gives whose matrix products are divided among the threads.
    pub fn scope<T>(&self, work: impl FnOnce() -> T) -> T {
        let executor = self.executor.get_or_init(|| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(self.n_threads)
                .build();
            // Where the system has no threads to give, the work is done without.
            pool.map_or(Executor::SingleThread, |pool| {
                Executor::MultiThread(Arc::new(pool))
            })
        });
        multithread_tract_scope(executor.clone(), work)
    }
}

#[cfg(not(feature = "threads"))]
impl Pool {
    pub fn new(_n_threads: usize) -> Self {
        Self {}
    }

    /// What a piece of work gives.
    pub fn scope<T>(&self, work: impl FnOnce() -> T) -> T {
        work()
    }
}
