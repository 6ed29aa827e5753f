//! Projected gradient ascent (Madry et al. 2018).

use anyhow::Result;
use tch::Tensor;

use super::{Climber, ascend, gradient};
use crate::evaluate::attack::ball::Ball;
use crate::evaluate::attack::oracle::{Probe, Question};

/// Steps of one length from a start.
#[derive(Debug)]
pub struct Pgd {
    ball: Ball,
    length: Tensor,
    clean: Tensor,
    images: Tensor,
}

impl Pgd {
    /// From these images of the ball, by steps of that length in `[-1, 1]`.
    pub fn new(ball: Ball, clean: &Tensor, start: Tensor, length: f64) -> Pgd {
        Pgd {
            ball,
            length: Tensor::from(length)
                .to_kind(clean.kind())
                .to_device(clean.device()),
            clean: clean.shallow_clone(),
            images: start,
        }
    }
}

impl Climber for Pgd {
    fn question(&self) -> Question {
        Question::Gradient
    }

    fn query(&mut self) -> Result<Tensor> {
        Ok(self.images.shallow_clone())
    }

    fn learn(&mut self, images: &Tensor, answer: &Probe) -> Result<()> {
        self.images = ascend(
            &self.ball,
            images,
            gradient(answer)?,
            &self.clean,
            &self.length,
        )?;
        Ok(())
    }

    fn keep(&mut self, places: &Tensor) -> Result<()> {
        for rows in [&mut self.clean, &mut self.images] {
            *rows = rows.f_index_select(0, places)?;
        }
        Ok(())
    }
}
