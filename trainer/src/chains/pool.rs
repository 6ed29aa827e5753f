//! Many chains, of which each process holds a part.

use std::ops::Range;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use ebm_export::graph::tensor::Tensors;
use tch::{Device, Kind, Tensor};

use crate::chains::Chains;
use crate::chains::start::Origin;
use crate::machine::randomness::{index, permutation};
use crate::machine::ranks::Ranks;
use crate::network::{from_host, tensor_to_host};

/// Chains by their places, from 0 to their number.
#[derive(Debug)]
pub struct Pool {
    /// Those at the places of this process.
    own: Chains,
    len: usize,
    ranks: Rc<Ranks>,
}

/// Some of the chains of a pool.
#[derive(Debug)]
pub struct Drawn {
    /// Their places there, int64 `[n]`.
    pub places: Tensor,
    /// Themselves.
    pub chains: Chains,
}

impl Pool {
    /// Of `len` chains that come in parts, one after the other and the same in every process.
    ///
    /// # Errors
    /// A part cannot be drawn, or they are not as many as that.
    pub fn gathered(
        parts: impl Iterator<Item = Result<Chains>>,
        len: usize,
        ranks: Rc<Ranks>,
    ) -> Result<Pool> {
        let rows = ranks.rows(len);
        let mut own = Vec::new();
        let mut first = 0;
        for part in parts {
            let part = part?;
            let of_part = first..first + part.len();
            let kept = common(&rows, &of_part);
            if !kept.is_empty() {
                let (start, n) = ((kept.start - first) as i64, kept.len() as i64);
                own.push(part.map(|_, rows| Ok(rows.f_narrow(0, start, n)?.copy()))?);
            }
            first = of_part.end;
        }
        ensure!(first == len, "{first} chains came, expected {len}");
        Ok(Pool {
            own: Chains::joined(&own).context("a bank needs a chain for each process")?,
            len,
            ranks,
        })
    }

    /// Draws `n` different chains, the same in every process.
    pub fn draw(&self, seed: u64, n: usize) -> Result<Drawn> {
        let order = &permutation(self.len, seed)[..n];
        let places = index(order).to_device(self.device());
        let (mine, from) = self.mine(order);
        let chains = self.own.map(|_, rows| {
            let own = rows.f_index_select(0, &from)?;
            if self.ranks.n_ranks() == 1 {
                return Ok(own);
            }
            let mut size = rows.size();
            size[0] = n as i64;
            let mut all = Tensor::f_zeros(size.as_slice(), (rows.kind(), rows.device()))?;
            let _ = all.f_index_copy_(0, &mine, &own)?;
            self.ranks.sum(all)
        });
        Ok(Drawn {
            places,
            chains: chains?,
        })
    }

    /// Puts chains at places, int64 `[m]`, the same in every process.
    ///
    /// # Errors
    /// The chains are of different kinds, or not as many as places.
    pub fn put(&mut self, places: &Tensor, chains: &Chains) -> Result<()> {
        ensure!(
            places.size() == [chains.len() as i64],
            "{} chains for places {:?}",
            chains.len(),
            places.size()
        );
        let order = Vec::<i64>::try_from(places.to_device(Device::Cpu))?;
        let (mine, at) = self.mine(&order);
        self.own.put(&at, &chains.select(&mine)?)
    }

    /// Restarts the chains that are lost, as [`Chains::lost`] says, in batches of at most `batch`. The caller has seeded libtorch's generator,
    /// in every process alike.
    pub fn restart_lost(&mut self, most: f64, batch: usize, origin: &dyn Origin) -> Result<()> {
        let lost = self.ranks.whole(&self.own.lost(most)?, self.len)?;
        let places = lost.f_nonzero()?.f_view([-1])?;
        let n_lost = places.size()[0] as usize;
        if n_lost == 0 {
            return Ok(());
        }
        let fresh = origin.draw_in_batches(n_lost, batch, self.device());
        let fresh = Chains::joined(&fresh.collect::<Result<Vec<Chains>>>()?)?;
        self.put(&places, &fresh)
    }

    /// The first `n` states of this process, `[n, C, H, W]`.
    pub fn first_states(&self, n: usize) -> Tensor {
        let n = n.min(self.own.len()) as i64;
        self.own.states().narrow(0, 0, n)
    }

    /// The chains of this process.
    pub fn own(&self) -> &Chains {
        &self.own
    }

    /// The group of a checkpoint, with the chains of all processes.
    pub fn save(&self) -> Result<Tensors> {
        let saved = self.own.rows().map(|(name, rows)| {
            let whole = self.ranks.whole(rows, self.len)?;
            Ok((name.to_string(), tensor_to_host(&whole)?))
        });
        saved.collect()
    }

    /// Goes on with a saved group.
    ///
    /// # Errors
    /// A tensor is missing or has another shape than these chains'.
    pub fn restore(&mut self, saved: &Tensors) -> Result<()> {
        let device = self.device();
        self.own = self.own.map(|name, rows| {
            let tensor = saved
                .get(name)
                .with_context(|| format!("the saved chains have no tensor {name:?}"))?;
            let tensor = from_host(tensor, Kind::Float, Device::Cpu);
            let mut wanted = rows.size();
            wanted[0] = self.len as i64;
            ensure!(
                tensor.size() == wanted,
                "the saved chains have {name} of shape {:?}, expected {wanted:?}",
                tensor.size(),
            );
            Ok(self.ranks.own(&tensor)?.copy().to_device(device))
        })?;
        Ok(())
    }

    fn device(&self) -> Device {
        self.own.states().device()
    }

    /// Which of some places are of this process, and where they lie here; both int64 `[m]`.
    fn mine(&self, places: &[i64]) -> (Tensor, Tensor) {
        let rows = self.ranks.rows(self.len);
        let (mine, at): (Vec<i64>, Vec<i64>) = places
            .iter()
            .enumerate()
            .filter(|&(_, &place)| rows.contains(&(place as usize)))
            .map(|(position, &place)| (position as i64, place - rows.start as i64))
            .unzip();
        let device = self.device();
        (index(&mine).to_device(device), index(&at).to_device(device))
    }
}

fn common(one: &Range<usize>, other: &Range<usize>) -> Range<usize> {
    one.start.max(other.start)..one.end.min(other.end)
}
