//! Learning in several processes, on one machine or many.
//!
//! Each process draws the same random numbers as one process alone would, does a part of the work, and adds its result to those of the others. So
//! the number of processes changes rounding only.

mod group;
mod launch;
mod nccl;
mod watch;

use std::ops::Range;

use anyhow::{Context, Result};
use tch::{Device, Tensor};

pub use launch::Launch;

use crate::network::Weights;
use group::Group;
use nccl::Nccl;
use watch::{Door, Watch};

/// This process among those that learn together.
#[derive(Debug)]
pub struct Ranks {
    rank: usize,
    n_ranks: usize,
    together: Option<Together>,
}

#[derive(Debug)]
struct Together {
    group: Group,
    watch: Watch,
    /// What adds up tensors on GPUs, where each process has one and NCCL; otherwise they go through the memory of the processor.
    gpus: Option<Nccl>,
    engine: &'static str,
}

impl Ranks {
    /// One process.
    pub fn alone() -> Ranks {
        Ranks {
            rank: 0,
            n_ranks: 1,
            together: None,
        }
    }

    /// Meets the other processes, if there are some; this one computes on that device.
    ///
    /// # Errors
    /// They do not come together within five minutes, two have the same GPU, or NCCL fails.
    pub fn join(launch: Option<&Launch>, device: Device) -> Result<Ranks> {
        let Some(launch) = launch else {
            return Ok(Ranks::alone());
        };
        let Launch { rank, n_ranks, .. } = *launch;
        let group = Group::join(launch).with_context(|| {
            let Launch { host, port, .. } = launch;
            format!("rank {rank} of {n_ranks} cannot meet the others at {host}:{port}")
        })?;
        let door = (rank == 0).then(Door::open).transpose()?;
        let port = door.as_ref().map_or(Ok(0), Door::port)?;
        let mut ports = Tensor::from_slice(&[i64::from(port)]);
        group.sum(&mut ports)?;
        let watch = match &door {
            Some(door) => Watch::over(door, n_ranks - 1)?,
            None => {
                let port = u16::try_from(ports.int64_value(&[0]))?;
                Watch::with_first(&launch.host, port, u32::try_from(rank)?)?
            }
        };
        let gpus = Nccl::join(&group, rank, n_ranks, device)?;
        let engine = match (&gpus, device) {
            (Some(_), _) => "NCCL",
            (None, Device::Cpu) => "Gloo",
            (None, _) => {
                "Gloo, through the memory of the processor: not every rank has a GPU and NCCL"
            }
        };
        Ok(Ranks {
            rank,
            n_ranks,
            together: Some(Together {
                group,
                watch,
                gpus,
                engine,
            }),
        })
    }

    /// Whether this is the process that writes.
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }

    /// By what several processes exchange tensors of the device that they compute on.
    pub fn engine(&self) -> Option<&'static str> {
        Some(self.together.as_ref()?.engine)
    }

    /// Processes in all.
    pub fn n_ranks(&self) -> usize {
        self.n_ranks
    }

    /// The rows of this process, of `n` that are divided evenly.
    pub fn rows(&self, n: usize) -> Range<usize> {
        self.rank * n / self.n_ranks..(self.rank + 1) * n / self.n_ranks
    }

    /// The rows of this process of `[n, …]`.
    pub fn own(&self, whole: &Tensor) -> Result<Tensor> {
        let n = whole
            .size()
            .first()
            .copied()
            .context("a batch needs an axis")?;
        let rows = self.rows(n as usize);
        Ok(whole.f_narrow(0, rows.start as i64, rows.len() as i64)?)
    }

    /// `[n, …]`, of which each process gives its own rows.
    pub fn whole(&self, own: &Tensor, n: usize) -> Result<Tensor> {
        if self.together.is_none() {
            return Ok(own.shallow_clone());
        }
        let mut size = own.size();
        if let Some(first) = size.first_mut() {
            *first = n as i64;
        }
        let whole = Tensor::f_zeros(size.as_slice(), (own.kind(), own.device()))?;
        self.own(&whole)?.f_copy_(own)?;
        self.sum(whole)
    }

    /// The sum over all processes.
    pub fn sum(&self, part: Tensor) -> Result<Tensor> {
        let Some(together) = &self.together else {
            return Ok(part);
        };
        let device = part.device();
        if let (Some(gpus), Device::Cuda(_)) = (&together.gpus, device) {
            let mut sum = part.f_contiguous()?;
            gpus.sum(&mut sum)?;
            return Ok(sum);
        }
        let mut sum = part.to_device(Device::Cpu).f_contiguous()?;
        together
            .group
            .sum(&mut sum)
            .context("another rank has ended")?;
        Ok(sum.to_device(device))
    }

    /// The sums over all processes of each number.
    pub fn sums<const N: usize>(&self, numbers: [f64; N]) -> Result<[f64; N]> {
        let sums = self.sum(Tensor::from_slice(&numbers))?;
        let mut result = numbers;
        sums.f_copy_data(&mut result, N)?;
        Ok(result)
    }

    /// The sums over all processes of each tensor, by one exchange.
    pub fn sum_weights(&self, weights: Weights) -> Result<Weights> {
        if self.together.is_none() {
            return Ok(weights);
        }
        let flat: Vec<Tensor> = weights
            .values()
            .map(|weight| weight.reshape([-1]))
            .collect();
        let lengths: Vec<i64> = flat.iter().map(|part| part.size()[0]).collect();
        let sum = self.sum(Tensor::f_cat(&flat, 0)?)?;
        let parts = sum.f_split_with_sizes(lengths, 0)?;
        let shaped = weights.iter().zip(parts);
        let shaped =
            shaped.map(|((name, weight), part)| Ok((name.clone(), part.f_view_as(weight)?)));
        shaped.collect()
    }

    /// The means over all processes of what each has computed for itself: equal on all of them from now on, to the last bit.
    pub fn agreed(&self, weights: Weights) -> Result<Weights> {
        let mut sums = self.sum_weights(weights)?;
        if self.together.is_some() {
            for sum in sums.values_mut() {
                let _ = sum.f_div_scalar_(self.n_ranks as f64)?;
            }
        }
        Ok(sums)
    }

    /// Whether it holds in any process.
    pub fn any(&self, holds: bool) -> Result<bool> {
        Ok(self.sums([f64::from(u8::from(holds))])?[0] > 0.0)
    }

    /// All processes are about to end in good order. Returns when each has come here, since what one still has to receive needs those that
    /// sent it.
    pub fn farewell(&self) -> Result<()> {
        if let Some(together) = &self.together {
            if let Some(gpus) = &together.gpus {
                gpus.finish()?;
            }
            self.any(true)?;
            together.watch.farewell();
        }
        Ok(())
    }
}
