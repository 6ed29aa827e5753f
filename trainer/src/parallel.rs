//! Work on a batch divided among threads, each of which runs libtorch on one core.
//!
//! A batch is cut into parts by its size alone, so that results do not depend on the number of threads.
#![allow(unsafe_code)]

use std::rc::Rc;

use anyhow::{Context, Result};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use tch::{Device, Tensor};

use crate::ranks::Ranks;

/// Pixels of a part, at most, where a part has more than one image: enough that libtorch's cost per call hardly counts, and few enough that
/// values stay in the caches.
const PART_PIXELS: i64 = 8_192;

/// A value whose tensors several threads read at the same time.
///
/// `tch` tensors may be sent to another thread but not be shared. This wrapper shares them for reading.
#[derive(Debug)]
pub struct Shared<'a, T>(&'a T);

// Safety: libtorch allows concurrent reads of a tensor and counts references atomically. The threads of a team only evaluate
// graphs with shared values, which reads them; results and everything computed in place are owned by one thread.
unsafe impl<T> Sync for Shared<'_, T> {}
// Safety: as above; what is sent is a shared reference.
unsafe impl<T> Send for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
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

/// An even number on a CPU as far as there are images, elsewhere one.
fn n_parts(n: i64, n_pixels: i64, device: Device) -> i64 {
    if device != Device::Cpu || n < 2 {
        return 1;
    }
    let n_parts = (n * n_pixels + PART_PIXELS - 1) / PART_PIXELS;
    (n_parts + n_parts % 2).min(n)
}

/// Threads that divide batches, of a process that may learn with others.
#[derive(Debug)]
pub struct Team {
    pool: ThreadPool,
    ranks: Rc<Ranks>,
}

impl Team {
    /// A team of that many threads; one per core where none is given. libtorch itself is set to one thread.
    ///
    /// # Errors
    /// The system has no threads to give.
    pub fn new(n_threads: Option<u16>) -> Result<Team> {
        Team::among(Ranks::alone(), n_threads)
    }

    /// As [`Team::new`], in a process that learns with others.
    ///
    /// # Errors
    /// As [`Team::new`].
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

    /// Cuts `[N, …]` along its batch: on a CPU into an even number of parts of about the same size, elsewhere not at all.
    ///
    /// # Errors
    /// The tensor has no axis.
    pub fn split(&self, batch: &Tensor) -> Result<Vec<Tensor>> {
        let n = batch
            .size()
            .first()
            .copied()
            .context("a batch needs an axis")?;
        let n_pixels = batch.size().iter().skip(2).product();
        match n_parts(n, n_pixels, batch.device()) {
            1 => Ok(vec![batch.shallow_clone()]),
            n_parts => Ok(batch.f_tensor_split(n_parts, 0)?),
        }
    }

    /// How a batch of so many images of so many pixels is divided on a device.
    pub fn division(&self, n: usize, n_pixels: usize, device: Device) -> Division {
        let n_parts = n_parts(n as i64, n_pixels as i64, device) as usize;
        let images = n.div_ceil(n_parts);
        Division {
            n_parts: n_parts as u64,
            images: images as u64,
            at_once: n_parts.min(self.pool.current_num_threads()) as u64,
        }
    }

    /// Cuts a batch as [`Team::split`] does, and something else with one row per image into parts of the same lengths.
    ///
    /// # Errors
    /// The rows are not as many as the images.
    pub fn split_with(&self, batch: &Tensor, rows: &Tensor) -> Result<Vec<(Tensor, Tensor)>> {
        let parts = self.split(batch)?;
        let lengths: Vec<i64> = parts.iter().map(|part| part.size()[0]).collect();
        let rows = rows.f_split_with_sizes(lengths, 0)?;
        Ok(parts.into_iter().zip(rows).collect())
    }

    /// Applies a function to each part; the results come in the order of the parts.
    ///
    /// # Errors
    /// The first error of the function.
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
    use tch::Kind;

    use super::*;

    #[test]
    fn parts_are_even_in_number_and_come_back_in_order() {
        let team = Team::new(Some(2)).unwrap();
        let batch = Tensor::arange(100, (Kind::Float, Device::Cpu))
            .view([100, 1, 1, 1])
            .expand([100, 1, 32, 32], false);
        let parts = team.split(&batch).unwrap();
        assert_eq!(
            parts.iter().map(|part| part.size()[0]).collect::<Vec<_>>(),
            [8, 8, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]
        );
        let division = Division {
            n_parts: 14,
            images: 8,
            at_once: 2,
        };
        assert_eq!(team.division(100, 1024, Device::Cpu), division);
        let labels = Tensor::arange(100, (Kind::Int64, Device::Cpu));
        let last = team.split_with(&batch, &labels).unwrap().pop().unwrap();
        assert_eq!((last.0.size()[0], last.1.size()), (7, vec![7]));
        let doubled = team.map(parts, |part| Ok(part * 2.0)).unwrap();
        assert!(Tensor::cat(&doubled, 0).equal(&(batch * 2.0)));
    }
}
