//! Ascent without gradients: each is estimated from the losses of pairs of images on both sides (natural evolution strategies, Ilyas et al. 2018).
//! Both images of a pair lie in the ball, as every image that is asked about: one that is wrong is a break.

use anyhow::Result;
use tch::Tensor;

use super::{Climber, ascend};
use crate::evaluate::attack::ball::Ball;
use crate::evaluate::attack::oracle::{Probe, Question};
use crate::machine::randomness::{Purpose, derive, seeded};

/// Pairs of a step.
const PAIRS: usize = 16;
/// How far both images of a pair are from the one between them, in parts of ε.
const REACH: f64 = 0.1;

/// Which image of a pair is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Ahead,
    Behind,
}

/// `Σ_j (f(x⁺_j) − f(x⁻_j))·(x⁺_j − x⁻_j)` in place of the gradient, with `x^± = x ± σu` for a normal u, brought back into the ball.
#[derive(Debug)]
pub struct Differences {
    ball: Ball,
    length: Tensor,
    seed: u64,
    n_pairs: usize,
    side: Side,
    clean: Tensor,
    images: Tensor,
    direction: Tensor,
    ahead: Tensor,
    loss_ahead: Tensor,
    estimate: Tensor,
}

impl Differences {
    /// From these images, by steps of that length in `[-1, 1]`.
    pub fn new(
        ball: Ball,
        clean: &Tensor,
        start: Tensor,
        length: f64,
        seed: u64,
    ) -> Result<Differences> {
        Ok(Differences {
            ball,
            length: Tensor::from(length)
                .f_to_kind(clean.kind())?
                .f_to_device(clean.device())?,
            seed,
            n_pairs: 0,
            side: Side::Ahead,
            clean: clean.shallow_clone(),
            direction: start.f_zeros_like()?,
            ahead: start.shallow_clone(),
            estimate: start.f_zeros_like()?,
            loss_ahead: Tensor::f_zeros([clean.size()[0]], (clean.kind(), clean.device()))?,
            images: start,
        })
    }
}

impl Climber for Differences {
    fn question(&self) -> Question {
        Question::Loss
    }

    fn query(&mut self) -> Result<Tensor> {
        let sign = match self.side {
            Side::Ahead => {
                self.seed = derive(self.seed, 0, Purpose::AttackStart);
                let _draws = seeded(self.seed);
                self.direction = self.images.f_randn_like()?;
                1.0
            }
            Side::Behind => -1.0,
        };
        let reach = sign * REACH * self.ball.radius();
        let moved = self.images.f_add(&(&self.direction * reach))?;
        self.ball.project(&moved, &self.clean)
    }

    /// Both sides of a pair meet the same noise, so that their difference is owed to the images.
    fn noise(&self, number: u64) -> u64 {
        number / 2
    }

    fn learn(&mut self, images: &Tensor, answer: &Probe) -> Result<()> {
        match self.side {
            Side::Ahead => {
                self.ahead = images.shallow_clone();
                self.loss_ahead = answer.loss.shallow_clone();
                self.side = Side::Behind;
                return Ok(());
            }
            Side::Behind => self.side = Side::Ahead,
        }
        let rise = (&self.loss_ahead - &answer.loss).f_view([-1, 1, 1, 1])?;
        let between = self.ahead.f_sub(images)?;
        self.estimate = self.estimate.f_add(&(between * rise))?;
        self.n_pairs += 1;
        if self.n_pairs.is_multiple_of(PAIRS) {
            self.images = ascend(
                &self.ball,
                &self.images,
                &self.estimate,
                &self.clean,
                &self.length,
            )?;
            self.estimate = self.estimate.f_zeros_like()?;
        }
        Ok(())
    }

    fn keep(&mut self, places: &Tensor) -> Result<()> {
        for rows in [
            &mut self.clean,
            &mut self.images,
            &mut self.direction,
            &mut self.ahead,
            &mut self.loss_ahead,
            &mut self.estimate,
        ] {
            *rows = rows.f_index_select(0, places)?;
        }
        Ok(())
    }
}
