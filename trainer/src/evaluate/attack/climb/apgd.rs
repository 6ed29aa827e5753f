//! Auto-PGD (Croce and Hein 2020): steps that halve where the loss no longer grows, with momentum, from the best image so far.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::{Climber, ascend, gradient};
use crate::evaluate::attack::ball::Ball;
use crate::evaluate::attack::oracle::{Probe, Question};

/// Weight of a step against the momentum.
const STEP_WEIGHT: f64 = 0.75;
/// Share of the steps between two checkpoints that have to raise the loss.
const LEAST_RISES: f64 = 0.75;

/// Climbs with one step length per image.
#[derive(Debug)]
pub struct Apgd {
    ball: Ball,
    checkpoints: Vec<usize>,
    /// Answers so far.
    n_answers: usize,
    /// Answers at the checkpoint before.
    n_at_checkpoint: usize,
    rows: Rows,
}

/// One row per image.
#[derive(Debug)]
struct Rows {
    clean: Tensor,
    images: Tensor,
    previous: Tensor,
    loss: Tensor,
    best: Tensor,
    best_gradient: Tensor,
    best_loss: Tensor,
    /// The best loss at the checkpoint before, and whether the step was halved there.
    checkpoint_loss: Tensor,
    was_halved: Tensor,
    rises: Tensor,
    /// `[n, 1, 1, 1]`.
    length: Tensor,
}

impl Rows {
    fn all(&mut self) -> [&mut Tensor; 11] {
        [
            &mut self.clean,
            &mut self.images,
            &mut self.previous,
            &mut self.loss,
            &mut self.best,
            &mut self.best_gradient,
            &mut self.best_loss,
            &mut self.checkpoint_loss,
            &mut self.was_halved,
            &mut self.rises,
            &mut self.length,
        ]
    }
}

impl Apgd {
    /// From these images of the ball, for that many answers.
    pub fn new(ball: Ball, clean: &Tensor, start: Tensor, n_answers: usize) -> Result<Apgd> {
        let n = [clean.size()[0]];
        let numbers = |value: f64| Tensor::f_full(n, value, (clean.kind(), clean.device()));
        let flags = Tensor::f_zeros(n, (Kind::Bool, clean.device()))?;
        Ok(Apgd {
            ball,
            checkpoints: checkpoints(n_answers),
            n_answers: 0,
            n_at_checkpoint: 0,
            rows: Rows {
                clean: clean.shallow_clone(),
                previous: start.shallow_clone(),
                best: start.shallow_clone(),
                best_gradient: start.f_zeros_like()?,
                images: start,
                loss: numbers(f64::NEG_INFINITY)?,
                best_loss: numbers(f64::NEG_INFINITY)?,
                checkpoint_loss: numbers(f64::NEG_INFINITY)?,
                was_halved: flags,
                rises: numbers(0.0)?,
                length: numbers(2.0 * ball.radius())?.f_view([-1, 1, 1, 1])?,
            },
        })
    }

    /// Halves the steps of images whose loss grew too seldom, or whose best loss has not changed since a checkpoint without a halving; these
    /// go back to their best image. Gives which, bool `[n]`.
    fn halve(&mut self) -> Result<Tensor> {
        let rows = &mut self.rows;
        let wanted = LEAST_RISES * (self.n_answers - self.n_at_checkpoint) as f64;
        let stuck = rows
            .best_loss
            .f_le_tensor(&rows.checkpoint_loss)?
            .f_logical_and(&rows.was_halved.f_logical_not()?)?;
        let halved = rows.rises.f_lt(wanted)?.f_logical_or(&stuck)?;
        let per_image = halved.f_view([-1, 1, 1, 1])?;
        rows.length = (&rows.length * 0.5).f_where_self(&per_image, &rows.length)?;
        rows.was_halved = halved.shallow_clone();
        rows.checkpoint_loss = rows.best_loss.shallow_clone();
        rows.rises = rows.rises.f_zeros_like()?;
        self.n_at_checkpoint = self.n_answers;
        Ok(halved)
    }
}

impl Climber for Apgd {
    fn question(&self) -> Question {
        Question::Gradient
    }

    fn query(&mut self) -> Result<Tensor> {
        Ok(self.rows.images.shallow_clone())
    }

    fn learn(&mut self, images: &Tensor, answer: &Probe) -> Result<()> {
        let mut gradient = gradient(answer)?.shallow_clone();
        let rows = &mut self.rows;
        rows.rises =
            (&rows.rises + answer.loss.f_gt_tensor(&rows.loss)?).f_to_kind(rows.rises.kind())?;
        rows.loss = answer.loss.shallow_clone();
        let better = answer.loss.f_gt_tensor(&rows.best_loss)?;
        let per_image = better.f_view([-1, 1, 1, 1])?;
        rows.best = images.f_where_self(&per_image, &rows.best)?;
        rows.best_gradient = gradient.f_where_self(&per_image, &rows.best_gradient)?;
        rows.best_loss = answer.loss.f_where_self(&better, &rows.best_loss)?;

        let is_first = self.n_answers == 0;
        self.n_answers += 1;
        let mut from = images.shallow_clone();
        if self.checkpoints.contains(&self.n_answers) {
            let back = self.halve()?.f_view([-1, 1, 1, 1])?;
            from = self.rows.best.f_where_self(&back, &from)?;
            gradient = self.rows.best_gradient.f_where_self(&back, &gradient)?;
        }
        let rows = &mut self.rows;
        let stepped = ascend(&self.ball, &from, &gradient, &rows.clean, &rows.length)?;
        let next = match is_first {
            true => stepped,
            false => {
                let momentum = (&from - &rows.previous) * (1.0 - STEP_WEIGHT);
                let moved = &from + (stepped - &from) * STEP_WEIGHT + momentum;
                self.ball.project(&moved, &rows.clean)?
            }
        };
        rows.previous = from;
        rows.images = next;
        Ok(())
    }

    fn keep(&mut self, places: &Tensor) -> Result<()> {
        for rows in self.rows.all() {
            *rows = rows.f_index_select(0, places)?;
        }
        Ok(())
    }
}

/// The answers behind which steps may halve: `⌈p_j·N⌉` with `p_1 = 0.22` and `p_{j+1} = p_j + max(p_j − p_{j−1} − 0.03, 0.06)`.
fn checkpoints(n_answers: usize) -> Vec<usize> {
    let (mut before, mut share) = (0.0, 0.22);
    let mut checkpoints = Vec::new();
    while share < 1.0 {
        // The sums of shares are exact up to rounding only.
        checkpoints.push((share * n_answers as f64 - 1e-9).ceil() as usize);
        (before, share) = (share, share + f64::max(share - before - 0.03, 0.06));
    }
    checkpoints.dedup();
    checkpoints
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 100 steps: the shares of the paper.
    #[test]
    fn checkpoints_are_those_of_the_paper() {
        assert_eq!(checkpoints(100), [22, 41, 57, 70, 80, 87, 93, 99]);
    }
}
