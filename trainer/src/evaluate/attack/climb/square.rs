//! Square attack for ℓ∞ (Andriushchenko et al. 2020): random squares of ±ε, kept if the loss grows. Needs no gradient.

use anyhow::{Result, ensure};
use tch::Tensor;

use super::Climber;
use crate::config::Norm;
use crate::evaluate::attack::ball::Ball;
use crate::evaluate::attack::oracle::{Probe, Question};
use crate::machine::randomness::{Purpose, derive, seeded, uniform};

/// Share of the pixels that a square covers at first.
const FIRST_SHARE: f64 = 0.8;
/// After these answers, of 10,000, the share is halved.
const HALVINGS: [usize; 8] = [10, 50, 200, 1_000, 2_000, 4_000, 6_000, 8_000];

/// The best image so far, and the one that is tried.
#[derive(Debug)]
pub struct Square {
    ball: Ball,
    seed: u64,
    n_answers: usize,
    most_answers: usize,
    clean: Tensor,
    best: Tensor,
    best_loss: Tensor,
}

impl Square {
    /// For that many answers. Begins with vertical stripes.
    pub fn new(ball: Ball, clean: &Tensor, most_answers: usize, seed: u64) -> Result<Square> {
        ensure!(
            ball.norm == Norm::Linf,
            "the Square attack is one of ℓ∞, expected --norm linf"
        );
        let size = clean.size();
        let stripes = {
            let _draws = seeded(seed);
            let columns = Tensor::f_rand(
                [size[0], size[1], 1, size[3]],
                (clean.kind(), clean.device()),
            )?;
            (columns - 0.5).f_sign()?
        };
        Ok(Square {
            ball,
            seed,
            n_answers: 0,
            most_answers,
            clean: clean.shallow_clone(),
            best: ball.project(&clean.f_add(&(stripes * ball.radius()))?, clean)?,
            best_loss: Tensor::f_full(
                [size[0]],
                f64::NEG_INFINITY,
                (clean.kind(), clean.device()),
            )?,
        })
    }

    /// The side of the next squares.
    fn side(&self, height: i64, width: i64) -> i64 {
        let scaled = self.n_answers * 10_000 / self.most_answers.max(1);
        let halvings = HALVINGS.iter().filter(|&&at| scaled > at).count();
        let share = FIRST_SHARE / f64::from(1 << halvings as u32);
        let side = (share * (height * width) as f64).sqrt().round() as i64;
        side.clamp(1, height.min(width))
    }
}

impl Climber for Square {
    fn question(&self) -> Question {
        Question::Loss
    }

    fn query(&mut self) -> Result<Tensor> {
        if self.n_answers == 0 {
            return Ok(self.best.shallow_clone());
        }
        let [n, channels, height, width] = self.clean.size4()?.into();
        let side = self.side(height, width);
        let seed = derive(self.seed, self.n_answers as u64, Purpose::AttackStart);
        let change = self.best.f_sub(&self.clean)?;
        let stride = channels as u64 + 2;
        let draw = |image: i64, of: i64, number: u64| {
            (uniform(seed, image as u64 * stride + number) * of as f64) as i64
        };
        for image in 0..n {
            let (top, left) = (
                draw(image, height - side + 1, 0),
                draw(image, width - side + 1, 1),
            );
            for channel in 0..channels {
                let up = uniform(seed, image as u64 * stride + 2 + channel as u64) < 0.5;
                let value = if up {
                    self.ball.radius()
                } else {
                    -self.ball.radius()
                };
                let square = change.f_get(image)?.f_get(channel)?;
                let square = square.f_narrow(0, top, side)?.f_narrow(1, left, side)?;
                let _ = square.shallow_clone().f_fill_(value)?;
            }
        }
        self.ball.project(&self.clean.f_add(&change)?, &self.clean)
    }

    fn learn(&mut self, images: &Tensor, answer: &Probe) -> Result<()> {
        let better = answer.loss.f_gt_tensor(&self.best_loss)?;
        self.best = images.f_where_self(&better.f_view([-1, 1, 1, 1])?, &self.best)?;
        self.best_loss = answer.loss.f_where_self(&better, &self.best_loss)?;
        self.n_answers += 1;
        Ok(())
    }

    fn keep(&mut self, places: &Tensor) -> Result<()> {
        for rows in [&mut self.clean, &mut self.best, &mut self.best_loss] {
            *rows = rows.f_index_select(0, places)?;
        }
        Ok(())
    }
}
