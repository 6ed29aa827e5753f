//! Chains in batches on all threads.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::request::{ChainReport, Measured, Request};
use super::{Progress, Purifier};
use crate::backend::{Parallelism, Session};
use crate::clock::Instant;
use crate::error::Result;
use crate::langevin::{Batch, Chain, Measurement};
use crate::noise::NoiseThread;

/// Values of noise that take as long as handing them from thread to thread: some 30 microseconds. The thread takes a processor from the model meanwhile.
const WORTH_A_THREAD: usize = 16_384;

/// The end of a batch of chains.
pub(crate) struct Finished {
    /// `[chains, C, H, W]`
    pub states: Vec<f32>,
    /// One for each chain.
    pub reports: Vec<ChainReport>,
    /// States after the numbers of steps that were asked for.
    pub snapshots: Vec<(u32, Vec<f32>)>,
}

impl Purifier {
    /// Runs all chains in batches on all threads. Gives what `finish` makes of each finished batch, in the order of the chains.
    pub(crate) fn run_chains<R: Send>(
        &self,
        request: &Request<'_>,
        chains: &[Chain],
        finish: impl Fn(Finished) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        let n_workers = self.model.n_workers();
        let batch = self.batch.min(self.model.most_images_each());
        let batch = batch.min(chains.len().div_ceil(n_workers)).max(1);
        let batches: Vec<&[Chain]> = chains.chunks(batch).collect();
        // Batches of one group go step by step together, so that a deadline finds them equally far.
        let per_group = match request.deadline {
            Some(_) => batches.len().div_ceil(n_workers).max(1),
            None => 1,
        };
        let groups: Vec<_> = batches.chunks(per_group).collect();
        let done = Done {
            n_done: AtomicU64::new(0),
            n_total: chains.len() as u64 * u64::from(self.dynamics.n_steps),
        };
        let finished = self.model.map(&groups, |session, group| {
            let batches = self.run_group(session, request, group, &done)?;
            let finished = batches
                .into_iter()
                .map(|batch| finish(batch.finish(request)?));
            finished.collect::<Result<Vec<_>>>()
        })?;
        Ok(finished.into_iter().flatten().collect())
    }

    /// Takes the steps of batches that go together.
    fn run_group<'a>(
        &'a self,
        session: &dyn Session,
        request: &Request<'a>,
        group: &[&'a [Chain]],
        done: &Done,
    ) -> Result<Vec<Watched<'a>>> {
        let started = group.iter();
        let started = started.map(|chains| Watched::start(self, session, request, chains));
        let mut batches = started.collect::<Result<Vec<_>>>()?;
        let mut clock = Clock::new(request.deadline);
        let n_runs = self.dynamics.n_steps / self.dynamics.steps_per_run;
        'runs: for _ in 0..n_runs {
            for batch in &mut batches {
                request.cancel.check()?;
                if clock.tick().is_break() {
                    break 'runs;
                }
                batch.advance(request)?;
                let n_chains = batch.chains.len() as u64;
                self.report_progress(done, n_chains * u64::from(self.dynamics.steps_per_run));
            }
        }
        Ok(batches)
    }

    fn report_progress(&self, done: &Done, n: u64) {
        let n_done = done.n_done.fetch_add(n, Ordering::Relaxed) + n;
        if let Some(on_progress) = &self.on_progress {
            on_progress(Progress {
                n_done,
                n_total: done.n_total,
            });
        }
    }

    /// Noise is made on a thread of its own if the model uses its threads by itself, there is more than one, and a run wants much noise.
    pub(super) fn noise_thread(&self, n_rows: usize) -> NoiseThread {
        let n_steps = self.dynamics.steps_per_run as usize;
        let n_values = n_steps * n_rows * self.contract().image.n_values();
        match self.model.backend().parallelism() {
            Parallelism::WithinSession
                if self.model.n_threads() > 1 && n_values >= WORTH_A_THREAD =>
            {
                NoiseThread::Own
            }
            _ => NoiseThread::Asking,
        }
    }
}

/// A batch with what has been seen of its chains.
struct Watched<'a> {
    batch: Batch<'a>,
    chains: &'a [Chain],
    steps_per_run: u32,
    /// For each state that was measured the measurements of all chains.
    path: Vec<Vec<Measurement>>,
    snapshots: Vec<(u32, Vec<f32>)>,
}

impl<'a> Watched<'a> {
    fn start(
        purifier: &'a Purifier,
        session: &dyn Session,
        request: &Request<'a>,
        chains: &'a [Chain],
    ) -> Result<Self> {
        let n_rows = purifier.contract().batch.unwrap_or(chains.len());
        let batch = Batch::new(
            session,
            request.images,
            chains.to_vec(),
            &purifier.dynamics,
            n_rows,
            request.first_step,
            purifier.noise_thread(n_rows),
        )?;
        let mut this = Self {
            batch,
            chains,
            steps_per_run: purifier.dynamics.steps_per_run,
            path: Vec::new(),
            snapshots: Vec::new(),
        };
        this.take_snapshot(request)?;
        Ok(this)
    }

    fn advance(&mut self, request: &Request<'_>) -> Result<()> {
        self.batch.advance()?;
        for step in 0..self.steps_per_run {
            if self.path.is_empty() || request.measured == Measured::EveryStep {
                self.path.push(self.batch.measurements(step));
            }
        }
        self.take_snapshot(request)
    }

    fn take_snapshot(&mut self, request: &Request<'_>) -> Result<()> {
        let n_steps = self.batch.n_steps();
        if request.snapshots.contains(&n_steps) {
            self.snapshots.push((n_steps, self.batch.states()?));
        }
        Ok(())
    }

    fn finish(mut self, request: &Request<'_>) -> Result<Finished> {
        let states = self.batch.states()?;
        let (n_steps, failed_steps) = (self.batch.n_steps(), self.batch.failed_steps().to_vec());
        let end = match request.measured {
            Measured::Start => None,
            _ => Some(self.batch.measure()?),
        };
        if let (Some(end), Measured::EveryStep) = (&end, request.measured) {
            self.path.push(end.clone());
        }
        let n_values = states.len() / self.chains.len();
        let of_chain = |row: usize| move |at: &Vec<Measurement>| at[row];
        let reports = self.chains.iter().zip(failed_steps).enumerate();
        let reports = reports.map(|(row, (chain, failed_step))| ChainReport {
            image: chain.image,
            replica: chain.replica,
            start: self.path.first().map(of_chain(row)),
            end: match failed_step {
                // The image is returned as it was given.
                Some(_) => end.as_ref().and(self.path.first()).map(of_chain(row)),
                None => end.as_ref().map(of_chain(row)),
            },
            path: match request.measured {
                Measured::EveryStep => self.path.iter().map(of_chain(row)).collect(),
                _ => Vec::new(),
            },
            n_steps,
            saturation: saturation(&states[row * n_values..][..n_values]),
            failed_step,
        });
        Ok(Finished {
            reports: reports.collect(),
            snapshots: self.snapshots,
            states,
        })
    }
}

/// The share of the values at or beyond the ends of `[-1, 1]`.
fn saturation(values: &[f32]) -> f32 {
    let n_beyond = values.iter().filter(|x| x.abs() >= 1.0).count();
    n_beyond as f32 / values.len() as f32
}

/// Says when there is no time for another run of the model.
struct Clock {
    deadline: Option<Instant>,
    last: Instant,
    longest: Duration,
}

impl Clock {
    fn new(deadline: Option<Instant>) -> Self {
        Self {
            deadline,
            last: Instant::now(),
            longest: Duration::ZERO,
        }
    }

    /// Called before each run.
    fn tick(&mut self) -> ControlFlow<()> {
        let Some(deadline) = self.deadline else {
            return ControlFlow::Continue(());
        };
        let now = Instant::now();
        self.longest = self.longest.max(now - self.last);
        self.last = now;
        match now + self.longest > deadline {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

/// Steps of images that all threads have done.
struct Done {
    n_done: AtomicU64,
    n_total: u64,
}
