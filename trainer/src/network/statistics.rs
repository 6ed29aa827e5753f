//! Statistics of batches, and the running ones that batch norms use once they are learned.

use anyhow::{Context, Result};
use tch::Tensor;

use super::Weights;
use super::instruction::{Moment, Operand};

/// Share of a batch's statistics in the running ones.
const MOMENTUM: f64 = 0.1;

/// Where a program finds a statistic of its batch.
#[derive(Clone, Debug)]
pub(super) struct Statistic {
    /// The weight that is the running one.
    pub(super) name: String,
    pub(super) moment: Moment,
    pub(super) operand: Operand,
    pub(super) n_pixels: usize,
}

/// Mean and variance of a batch per channel, by the names of the weights that are the running ones.
#[derive(Debug, Default)]
pub struct Statistics(pub(super) Vec<(String, Tensor)>);

impl Statistic {
    /// The statistic as it enters the running ones: a variance is that of the population from which n values were drawn.
    pub(super) fn estimate(&self, of_the_batch: &Tensor, n_images: i64) -> Result<Tensor> {
        let n = (n_images * self.n_pixels as i64) as f64;
        let estimate = match self.moment {
            Moment::Mean => of_the_batch.detach(),
            Moment::Variance => of_the_batch.detach().f_mul_scalar(n / (n - 1.0).max(1.0))?,
        };
        Ok(estimate)
    }
}

impl Statistics {
    /// `running ← 0.9 · running + 0.1 · batch`.
    pub fn enter(&self, weights: &mut Weights) -> Result<()> {
        tch::no_grad(|| {
            for (name, statistic) in &self.0 {
                let running = weights
                    .get_mut(name)
                    .with_context(|| format!("there is no running statistic {name:?}"))?;
                let _ = running.f_lerp_(statistic, MOMENTUM)?;
            }
            Ok(())
        })
    }
}
