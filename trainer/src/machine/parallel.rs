//! Work on a batch divided among threads, each of which runs libtorch on one core.
//!
//! A batch is cut into parts by its size and the network alone, so that results do not depend on the number of threads.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::rc::Rc;

use anyhow::{Context, Result};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use tch::Tensor;

use crate::machine::ranks::Ranks;
use crate::network::{BoundNetwork, ImagesAtOnce, Program};

/// Values that hold tensors, which keep them from being [`Sync`], and otherwise only what is.
///
/// # Safety
/// Nothing but tensors and values that are `Sync` is reached through a shared reference.
pub unsafe trait HoldsTensors {}

// Safety: it is one.
unsafe impl HoldsTensors for Tensor {}
// Safety: names are strings.
unsafe impl<T: HoldsTensors> HoldsTensors for BTreeMap<String, T> {}
// Safety: beside constants that are tensors a program has numbers, names and descriptions of operators.
unsafe impl HoldsTensors for Program {}
// Safety: a program with tensors.
unsafe impl HoldsTensors for BoundNetwork<'_> {}

/// A value whose tensors several threads read at the same time.
///
/// `tch` tensors may be sent to another thread but not be shared. This wrapper shares them for reading:
///
/// ```no_run
/// use ebm_trainer::machine::parallel::Shared;
///
/// let tensor = tch::Tensor::from(1.0);
/// let shared = Shared::new(&tensor);
/// std::thread::scope(|scope| {
///     scope.spawn(|| shared.get().size());
/// });
/// ```
///
/// Nothing else that threads must not share can be wrapped:
///
/// ```compile_fail,E0277
/// use ebm_trainer::machine::parallel::Shared;
///
/// let count = std::cell::Cell::new(0);
/// let shared = Shared::new(&count);
/// std::thread::scope(|scope| {
///     scope.spawn(|| shared.get().set(1));
/// });
/// ```
#[derive(Debug)]
pub struct Shared<'a, T>(&'a T);

// Safety: libtorch allows concurrent reads of a tensor and counts references atomically; what else the value holds is `Sync`. The threads of
// a team only evaluate graphs with shared values, which reads them; results and everything computed in place are owned by one thread.
unsafe impl<T: HoldsTensors> Sync for Shared<'_, T> {}
// Safety: as above; what is sent is a shared reference.
unsafe impl<T: HoldsTensors> Send for Shared<'_, T> {}

impl<'a, T: HoldsTensors> Shared<'a, T> {
    /// Shares a value for reading.
    pub fn new(value: &'a T) -> Shared<'a, T> {
        Shared(value)
    }

    /// The value.
    pub fn get(&self) -> &'a T {
        self.0
    }
}

/// How a batch is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Division {
    /// Parts.
    pub n_parts: u64,
    /// Images of the largest one.
    pub images: u64,
    /// Parts that are worked on at the same time.
    pub at_once: u64,
}

impl Division {
    /// Of a batch that stays whole.
    pub fn none(n: usize) -> Division {
        Division {
            n_parts: 1,
            images: n as u64,
            at_once: 1,
        }
    }
}

/// An even number as far as there are images.
fn n_parts(n: usize, most: ImagesAtOnce) -> usize {
    match most {
        ImagesAtOnce::All => 1,
        ImagesAtOnce::AtMost(most) => n.div_ceil(most).next_multiple_of(2).min(n).max(1),
    }
}

/// Threads that divide batches, of a process that may learn with others.
#[derive(Debug)]
pub struct Team {
    pool: ThreadPool,
    ranks: Rc<Ranks>,
}

impl Team {
    /// A team of that many threads; one per core if none is given. libtorch itself is set to one thread.
    pub fn new(n_threads: Option<u16>) -> Result<Team> {
        Team::among(Ranks::alone(), n_threads)
    }

    /// As [`Team::new`], in a process that learns with others.
    pub fn among(ranks: Ranks, n_threads: Option<u16>) -> Result<Team> {
        tch::set_num_threads(1);
        let n_threads = n_threads.map_or(0, usize::from);
        let pool = ThreadPoolBuilder::new()
            .num_threads(n_threads)
            .start_handler(|_| tch::set_num_threads(1))
            .build();
        Ok(Team {
            pool: pool.context("cannot start threads")?,
            ranks: Rc::new(ranks),
        })
    }

    /// This process among those that learn together.
    pub fn ranks(&self) -> &Rc<Ranks> {
        &self.ranks
    }

    /// How many threads it has.
    pub fn n_threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Cuts `[N, …]` along its batch into an even number of parts of about the same size, or not at all.
    pub fn split(&self, batch: &Tensor, most: ImagesAtOnce) -> Result<Vec<Tensor>> {
        let size = batch.size();
        let n = *size.first().context("a batch needs an axis")? as usize;
        match n_parts(n, most) {
            1 => Ok(vec![batch.shallow_clone()]),
            n_parts => Ok(batch.f_tensor_split(n_parts as i64, 0)?),
        }
    }

    /// How a batch of `n` images is divided.
    pub fn division(&self, n: usize, most: ImagesAtOnce) -> Division {
        let n_parts = n_parts(n, most);
        let images = n.div_ceil(n_parts);
        Division {
            n_parts: n_parts as u64,
            images: images as u64,
            at_once: n_parts.min(self.pool.current_num_threads()) as u64,
        }
    }

    /// Cuts a batch as [`Team::split`] does, and something else with one row per image into parts of the same lengths.
    pub fn split_with(
        &self,
        batch: &Tensor,
        rows: &Tensor,
        most: ImagesAtOnce,
    ) -> Result<Vec<(Tensor, Tensor)>> {
        let parts = self.split(batch, most)?;
        let lengths: Vec<i64> = parts.iter().map(|part| part.size()[0]).collect();
        let rows = rows.f_split_with_sizes(lengths, 0)?;
        Ok(parts.into_iter().zip(rows).collect())
    }

    /// Applies a function to each part; the results come in the order of the parts.
    pub fn map<T: Send, R: Send>(
        &self,
        parts: Vec<T>,
        function: impl Fn(T) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        let function = &function;
        self.pool
            .install(|| parts.into_par_iter().map(function).collect())
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn parts_are_even_in_number_where_there_are_so_many_images() {
        for (n, most, wanted) in [
            (0, 4, 1),
            (1, 4, 1),
            (2, 4, 2),
            (5, 2, 4),
            (64, 32, 2),
            (65, 32, 4),
        ] {
            assert_eq!(
                n_parts(n, ImagesAtOnce::AtMost(most)),
                wanted,
                "{n} by {most}"
            );
        }
        assert_eq!(n_parts(64, ImagesAtOnce::All), 1);
    }

    #[test]
    fn parts_come_back_in_order() {
        let team = Team::new(Some(2)).unwrap();
        let batch = Tensor::arange(100, (Kind::Float, Device::Cpu)).view([100, 1, 1, 1]);
        let most = ImagesAtOnce::AtMost(8);
        let parts = team.split(&batch, most).unwrap();
        assert_eq!(
            parts.iter().map(|part| part.size()[0]).collect::<Vec<_>>(),
            [8, 8, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]
        );
        let division = Division {
            n_parts: 14,
            images: 8,
            at_once: 2,
        };
        assert_eq!(team.division(100, most), division);
        let labels = Tensor::arange(100, (Kind::Int64, Device::Cpu));
        let last = team
            .split_with(&batch, &labels, most)
            .unwrap()
            .pop()
            .unwrap();
        assert_eq!((last.0.size()[0], last.1.size()), (7, vec![7]));
        let doubled = team.map(parts, |part| Ok(part * 2.0)).unwrap();
        assert!(Tensor::cat(&doubled, 0).equal(&(batch * 2.0)));
    }
}
