//! The bank in which chains burn in before they enter the one that learning draws from. The updates since their start are visits.

use anyhow::Result;
use tch::Tensor;

use crate::chains::Chains;
use crate::chains::pool::{Drawn, Pool};
use crate::chains::start::Origin;
use crate::machine::randomness::{Purpose, seed_torch};

impl Pool {
    /// Puts visited chains back at their ends, `[n, C, H, W]`. Those that have had all of their `visits` are given to the caller, and others
    /// begin in their places.
    pub fn promote(
        &mut self,
        (seed, update): (u64, u64),
        visited: Drawn,
        ends: &Tensor,
        visits: u64,
        origin: &dyn Origin,
    ) -> Result<Option<Chains>> {
        let Drawn { places, chains } = visited;
        let chains = chains.moved(ends);
        self.put(&places, &chains)?;
        let done = chains.updates().f_ge(visits as f64)?;
        let done = done.f_nonzero()?.f_view([-1])?;
        let n_done = done.size()[0] as usize;
        if n_done == 0 {
            return Ok(None);
        }
        let _draws = seed_torch(seed, update, Purpose::BurnInChains);
        let fresh = origin.draw(n_done, ends.device())?;
        self.put(&places.f_index_select(0, &done)?, &fresh)?;
        Ok(Some(chains.select(&done)?.renewed()))
    }
}

#[cfg(test)]
mod tests {
    use std::iter;
    use std::rc::Rc;

    use tch::{Device, Kind};

    use super::*;
    use crate::chains::start::Noise;
    use crate::machine::randomness::derive;
    use crate::machine::ranks::Ranks;

    /// Four chains at 0, of which each update moves two by 10: after three visits a chain is promoted at 30, and another begins.
    #[test]
    fn a_chain_is_promoted_after_its_visits_and_another_begins() {
        let zeros = Tensor::zeros([4, 1, 1, 1], (Kind::Float, Device::Cpu));
        let chains = iter::once(Ok(Chains::begin(zeros, None)));
        let pool = Pool::gathered(chains, 4, Rc::new(Ranks::alone()));
        let mut burn_in = pool.unwrap();
        let fresh = Noise([1, 1, 1]);
        let mut promoted = 0;
        for update in 0..60 {
            let visited = burn_in
                .draw(derive(5, update, Purpose::BurnInChains), 2)
                .unwrap();
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
        let waiting = burn_in.own().updates();
        assert!(waiting.max().double_value(&[]) < 3.0);
        let visits = 3 * promoted as i64 + waiting.sum(Kind::Int64).int64_value(&[]);
        assert_eq!(visits, 120, "no visit is lost");
    }
}
