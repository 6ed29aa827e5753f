//! The bank in which chains live on between updates.
//!
//! A chain of K steps is too short to mix. One that goes on from where it ended last time has made K steps for each update in which it was drawn,
//! and follows an energy that changes slowly. Restarts keep the bank from holding on to states that the energy no longer favours.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use crate::chains::pool::{Drawn, Pool};
use crate::chains::start::Origin;
use crate::machine::randomness::{Purpose, derive, seed_torch};

/// When a chain that is drawn is restarted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Restart {
    /// The chance of it.
    pub chance: f64,
    /// It is restarted in any case after more updates than this.
    pub max_updates: Option<u64>,
}

impl Pool {
    /// Draws `n` different chains for an update, of which some are restarted.
    pub fn draw_with_restarts(
        &self,
        (seed, update): (u64, u64),
        n: usize,
        restart: Restart,
        origin: &dyn Origin,
    ) -> Result<Drawn> {
        let stored = self.draw(derive(seed, update, Purpose::Chains), n)?;
        let _draws = seed_torch(seed, update, Purpose::Chains);
        // On the CPU whatever the device is, so that a run restarts the same chains on each of them.
        let device = stored.places.device();
        let chance = Tensor::f_rand([n as i64], (Kind::Float, Device::Cpu))?;
        let mut restarted = chance.f_lt(restart.chance)?.to_device(device);
        if let Some(most) = restart.max_updates {
            restarted = restarted.f_logical_or(&stored.chains.updates().f_gt(most as f64)?)?;
        }
        let wanted = Vec::<bool>::try_from(restarted.to_device(Device::Cpu))?;
        if !wanted.contains(&true) {
            return Ok(stored);
        }
        // As many rows as were drawn, of which only those that are wanted are made: masks need rows at the same places.
        let fresh = origin.draw_where(&wanted, device)?;
        Ok(Drawn {
            chains: stored.chains.replaced_where(&restarted, &fresh)?,
            places: stored.places,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::iter;
    use std::rc::Rc;

    use super::*;
    use crate::chains::Chains;
    use crate::chains::start::Noise;
    use crate::machine::randomness::seeded;
    use crate::machine::ranks::Ranks;

    const FRESH: Noise = Noise([1, 1, 1]);
    const NEVER: Restart = Restart {
        chance: 0.0,
        max_updates: None,
    };

    /// Ten chains at the states 10 to 19, which no fresh one can have.
    fn bank() -> Pool {
        let states = Tensor::arange(10, (Kind::Float, Device::Cpu)).view([10, 1, 1, 1]) + 10.0;
        let chains = iter::once(Ok(Chains::begin(states, None)));
        Pool::gathered(chains, 10, Rc::new(Ranks::alone())).unwrap()
    }

    fn states(drawn: &Drawn) -> Vec<f32> {
        Vec::try_from(drawn.chains.states().view([-1])).unwrap()
    }

    fn n_restarted(drawn: &Drawn) -> usize {
        states(drawn).iter().filter(|&&state| state < 2.0).count()
    }

    #[test]
    fn each_chain_is_drawn_once_and_found_again_where_it_was() {
        let mut bank = bank();
        let drawn = bank.draw_with_restarts((1, 0), 10, NEVER, &FRESH).unwrap();
        let ends = drawn.chains.states() + 100.0;
        bank.put(&drawn.places, &drawn.chains.moved(&ends)).unwrap();
        let again = bank.draw_with_restarts((1, 1), 10, NEVER, &FRESH).unwrap();
        let mut found = states(&again);
        found.sort_by(f32::total_cmp);
        assert_eq!(
            found,
            (110..120).map(|state| state as f32).collect::<Vec<_>>()
        );
        assert_eq!(again.chains.updates().min().double_value(&[]), 1.0);
    }

    #[test]
    fn lost_chains_restart_and_others_stay() {
        let states = Tensor::from_slice(&[0.5f32, f32::NAN, 0.5, -7.0, f32::INFINITY, 0.5]);
        for (most, n_kept) in [(f64::INFINITY, 4), (0.5, 3)] {
            let chains = Chains::begin(states.copy().view([6, 1, 1, 1]), None);
            let pool = Pool::gathered(iter::once(Ok(chains)), 6, Rc::new(Ranks::alone()));
            let mut bank = pool.unwrap();
            let _draws = seeded(1);
            bank.restart_lost(most, 2, &FRESH).unwrap();
            let now = bank.first_states(6).view([-1]);
            assert!(bool::try_from(now.isfinite().all()).unwrap());
            let kept = now.eq_tensor(&states).sum(Kind::Int64).int64_value(&[]);
            assert_eq!(kept, n_kept, "{most}");
        }
    }

    #[test]
    fn chains_restart_by_chance() {
        let restart = |chance| Restart { chance, ..NEVER };
        for (chance, wanted) in [(0.0, 0..1), (0.5, 2..9), (1.0, 10..11)] {
            let drawn = bank()
                .draw_with_restarts((1, 0), 10, restart(chance), &FRESH)
                .unwrap();
            assert!(wanted.contains(&n_restarted(&drawn)), "{chance}");
        }
    }

    #[test]
    fn chains_restart_after_their_last_update() {
        let restart = Restart {
            max_updates: Some(2),
            ..NEVER
        };
        let mut bank = bank();
        for (update, wanted) in [(0, 0), (1, 0), (2, 0), (3, 10), (4, 0)] {
            let drawn = bank
                .draw_with_restarts((1, update), 10, restart, &FRESH)
                .unwrap();
            let fresh = drawn.chains.updates().eq(0.0).sum(Kind::Int64);
            let wanted_fresh = if update == 0 { 10 } else { wanted };
            assert_eq!(fresh.int64_value(&[]), wanted_fresh, "update {update}");
            let ends = drawn.chains.states().copy();
            bank.put(&drawn.places, &drawn.chains.moved(&ends)).unwrap();
        }
    }
}
