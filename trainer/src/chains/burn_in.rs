//! The bank in which chains burn in before they enter the one that learning draws from.

use anyhow::Result;
use ebm_export::graph::tensor::Tensors;
use tch::Tensor;

use crate::chains::Chains;
use crate::chains::pool::{Drawn, Pool};
use crate::chains::start::Source;
use crate::machine::randomness::{Purpose, derive, seed_torch};

/// Chains that burn in; the updates since their start are visits.
#[derive(Debug)]
pub struct BurnIn {
    pool: Pool,
}

impl BurnIn {
    /// At the start of a run.
    pub fn new(pool: Pool) -> BurnIn {
        BurnIn { pool }
    }

    /// Draws `n` different chains for an update to visit.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn draw(&self, (seed, update): (u64, u64), n: usize) -> Result<Drawn> {
        self.pool
            .draw(derive(seed, update, Purpose::BurnInChains), n)
    }

    /// Puts visited chains back at their ends, `[n, C, H, W]`. Those that have been visited so often are given back, and others begin in
    /// their places.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn promote(
        &mut self,
        (seed, update): (u64, u64),
        visited: Drawn,
        ends: &Tensor,
        visits: u64,
        source: &Source<'_>,
    ) -> Result<Option<Chains>> {
        let Drawn { places, chains } = visited;
        let chains = chains.moved(ends);
        self.pool.put(&places, &chains)?;
        let done = chains.updates().f_ge(visits as f64)?;
        let done = done.f_nonzero()?.f_view([-1])?;
        let n_done = done.size()[0] as usize;
        if n_done == 0 {
            return Ok(None);
        }
        let _draws = seed_torch(seed, update, Purpose::BurnInChains);
        let fresh = source.draw(n_done, ends.device())?;
        self.pool.put(&places.f_index_select(0, &done)?, &fresh)?;
        Ok(Some(chains.select(&done)?.renewed()))
    }

    /// Bytes of the chains of this process.
    pub fn bytes(&self) -> u64 {
        self.pool.own().bytes()
    }

    /// Restarts the chains that are lost, as [`Pool::restart_lost`].
    ///
    /// # Errors
    /// libtorch fails, or a process has ended.
    pub fn restart_lost(&mut self, most: f64, batch: usize, source: &Source<'_>) -> Result<()> {
        self.pool.restart_lost(most, batch, source)
    }

    /// The first `n` states of this process, `[n, C, H, W]`.
    pub fn first_states(&self, n: usize) -> Tensor {
        self.pool.first_states(n)
    }

    /// The group of a checkpoint.
    ///
    /// # Errors
    /// libtorch cannot copy.
    pub fn save(&self) -> Result<Tensors> {
        self.pool.save()
    }

    /// Goes on with a saved group.
    ///
    /// # Errors
    /// Its chains are others than the configured ones.
    pub fn restore(&mut self, saved: &Tensors) -> Result<()> {
        self.pool.restore(saved)
    }
}

#[cfg(test)]
mod tests {
    use std::iter;
    use std::rc::Rc;

    use tch::{Device, Kind};

    use super::*;
    use crate::machine::ranks::Ranks;

    /// Four chains at 0, of which each update moves two by 10: after three visits a chain is promoted at 30, and another begins.
    #[test]
    fn a_chain_is_promoted_after_its_visits_and_another_begins() {
        let zeros = Tensor::zeros([4, 1, 1, 1], (Kind::Float, Device::Cpu));
        let chains = iter::once(Ok(Chains::begin(zeros, None)));
        let pool = Pool::gathered(chains, 4, Rc::new(Ranks::alone()));
        let mut burn_in = BurnIn::new(pool.unwrap());
        let fresh = Source::Noise([1, 1, 1]);
        let mut promoted = 0;
        for update in 0..60 {
            let visited = burn_in.draw((5, update), 2).unwrap();
            let ends = visited.chains.states() + 10.0;
            let done = burn_in
                .promote((5, update), visited, &ends, 3, &fresh)
                .unwrap();
            let Some(done) = done else { continue };
            promoted += done.len();
            assert_eq!(done.updates().max().double_value(&[]), 0.0);
            let [low, high] = [done.states().min(), done.states().max()];
            assert!(low.double_value(&[]) > 28.0 && high.double_value(&[]) < 32.0);
        }
        let waiting = burn_in.pool.own().updates();
        assert!(waiting.max().double_value(&[]) < 3.0);
        let visits = 3 * promoted as i64 + waiting.sum(Kind::Int64).int64_value(&[]);
        assert_eq!(visits, 120, "no visit is lost");
    }
}
