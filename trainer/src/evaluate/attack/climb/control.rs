//! Controls: what becomes of images that nobody attacks, asked about as often as attacked ones.

use anyhow::Result;
use tch::Tensor;

use super::Climber;
use crate::evaluate::attack::ball::Ball;
use crate::evaluate::attack::oracle::{Probe, Question};
use crate::machine::randomness::{Purpose, derive, seeded};

/// Asks about the clean images again and again.
#[derive(Debug)]
pub struct Still(pub Tensor);

impl Climber for Still {
    fn question(&self) -> Question {
        Question::Loss
    }

    fn query(&mut self) -> Result<Tensor> {
        Ok(self.0.shallow_clone())
    }

    fn learn(&mut self, _: &Tensor, _: &Probe) -> Result<()> {
        Ok(())
    }

    fn keep(&mut self, places: &Tensor) -> Result<()> {
        self.0 = self.0.f_index_select(0, places)?;
        Ok(())
    }
}

/// Asks about random images of the ball, each time others.
#[derive(Debug)]
pub struct Scatter {
    /// What they may change.
    pub ball: Ball,
    /// `[n, C, H, W]`.
    pub clean: Tensor,
    /// Seed of the next images.
    pub seed: u64,
}

impl Climber for Scatter {
    fn question(&self) -> Question {
        Question::Loss
    }

    fn query(&mut self) -> Result<Tensor> {
        self.seed = derive(self.seed, 0, Purpose::AttackStart);
        let _draws = seeded(self.seed);
        self.ball.random(&self.clean)
    }

    fn learn(&mut self, _: &Tensor, _: &Probe) -> Result<()> {
        Ok(())
    }

    fn keep(&mut self, places: &Tensor) -> Result<()> {
        self.clean = self.clean.f_index_select(0, places)?;
        Ok(())
    }
}
