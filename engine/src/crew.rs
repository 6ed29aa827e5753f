//! Threads that run a plan together.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Looks at what a thread waits for before it is parked: about as long as waking it takes.
const PATIENCE: usize = 2000;

/// A number that only grows, and threads that wait until it has changed: they look for a moment, then they sleep.
struct Round {
    number: AtomicUsize,
    sleepers: Mutex<usize>,
    bell: Condvar,
}

impl Round {
    fn new() -> Self {
        Self {
            number: AtomicUsize::new(0),
            sleepers: Mutex::new(0),
            bell: Condvar::new(),
        }
    }

    fn now(&self) -> usize {
        self.number.load(Ordering::Acquire)
    }

    fn next(&self) {
        // Under the lock, so that nobody goes to sleep between looking at the number and waiting for the bell.
        let sleepers = self.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        self.number.fetch_add(1, Ordering::Release);
        // The bell is a call of the system, even if nobody hears it.
        if *sleepers > 0 {
            self.bell.notify_all();
        }
    }

    fn wait_behind(&self, number: usize) {
        for _ in 0..PATIENCE {
            if self.now() != number {
                return;
            }
            std::hint::spin_loop();
        }
        let mut sleepers = self.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        *sleepers += 1;
        while self.now() == number {
            sleepers = self
                .bell
                .wait(sleepers)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *sleepers -= 1;
    }
}

/// Where the threads of a run wait for each other.
pub(crate) struct Barrier {
    n_members: usize,
    arrived: AtomicUsize,
    round: Round,
}

impl Barrier {
    pub fn new(n_members: usize) -> Self {
        Self {
            n_members,
            arrived: AtomicUsize::new(0),
            round: Round::new(),
        }
    }

    /// Until all members are here.
    pub fn wait(&self) {
        if self.n_members == 1 {
            return;
        }
        let round = self.round.now();
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.n_members {
            self.arrived.store(0, Ordering::Relaxed);
            self.round.next();
        } else {
            self.round.wait_behind(round);
        }
    }
}

/// One of the threads of a run.
#[derive(Clone, Copy)]
pub(crate) struct Member<'a> {
    pub number: usize,
    pub barrier: &'a Barrier,
}

impl Member<'_> {
    /// The part of `n_items` items that this thread takes.
    pub fn share(&self, n_items: usize) -> Range<usize> {
        let bound = |member: usize| member * n_items / self.barrier.n_members;
        bound(self.number)..bound(self.number + 1)
    }

    /// Until all are here.
    pub fn wait(&self) {
        self.barrier.wait();
    }
}

/// Work that all threads do at the same time, each with its number.
pub(crate) trait Together: Send + Sync + 'static {
    fn part(&self, number: usize);
}

/// The thread that asks and its helpers, which sleep between two runs.
pub(crate) struct Crew<W: Together> {
    orders: Arc<Orders<W>>,
    helpers: Vec<JoinHandle<()>>,
}

struct Orders<W> {
    round: Round,
    /// What is done in this round; nothing when the helpers go home.
    work: Mutex<Option<Arc<W>>>,
}

impl<W: Together> Crew<W> {
    /// So many threads, the one that asks among them.
    pub fn new(n_threads: usize) -> Self {
        let orders = Arc::new(Orders::<W> {
            round: Round::new(),
            work: Mutex::new(None),
        });
        let helper = |number: usize| {
            let orders = Arc::clone(&orders);
            std::thread::spawn(move || {
                let mut round = 0;
                loop {
                    orders.round.wait_behind(round);
                    round += 1;
                    let work = orders
                        .work
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .clone();
                    match work {
                        Some(work) => work.part(number),
                        None => return,
                    }
                }
            })
        };
        let helpers = (1..n_threads).map(helper).collect();
        Self { orders, helpers }
    }

    /// Does the work on all threads. All its parts end together: the last thing that each does is to wait for the others.
    pub fn run(&self, work: &Arc<W>) {
        self.order(Some(Arc::clone(work)));
        work.part(0);
    }

    fn order(&self, work: Option<Arc<W>>) {
        if self.helpers.is_empty() {
            return;
        }
        *self
            .orders
            .work
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = work;
        self.orders.round.next();
    }
}

impl<W: Together> Drop for Crew<W> {
    fn drop(&mut self) {
        self.order(None);
        for helper in self.helpers.drain(..) {
            // A helper that panicked has said so.
            let _ = helper.join();
        }
    }
}
