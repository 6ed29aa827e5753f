//! How a classifier is smoothed.

use super::statistics::normal_quantile;
use crate::error::{Error, Result};
use ebm_common::PixelDistance;
use ebm_common::interval::lower_bound;

/// More draws than this are refused: the tail of a binomial distribution is known to nine digits up to here.
const MOST_DRAWS: usize = 100_000;

/// How a classifier is smoothed, and how sure of its answers it has to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Smoothing {
    /// Standard deviation σ of the noise on each pixel: above 0, up to 1 of pixels in `[0, 1]`.
    pub sigma: PixelDistance,
    /// Draws n₀ that select the class to certify.
    pub n0: usize,
    /// Draws n that estimate its probability, not below n₀; of a prediction all that there are.
    pub n: usize,
    /// The largest probability α of an answer that is wrong about the smoothed classifier.
    pub alpha: f64,
}

impl Smoothing {
    /// Noise of deviation `sigma` with the paper's n₀ = 100, n = 10,000 and α = 0.001.
    pub fn new(sigma: PixelDistance) -> Self {
        Self {
            sigma,
            n0: 100,
            n: 10_000,
            alpha: 0.001,
        }
    }

    /// The radius of an image whose draws are all of one class; none is larger.
    pub fn largest_radius(&self) -> PixelDistance {
        self.radius(lower_bound(self.n, self.n, self.alpha))
    }

    /// `σ·Φ⁻¹(p)` for a class of probability p or more; nothing if p is not above ½.
    pub(super) fn radius(&self, probability: f64) -> PixelDistance {
        match probability > 0.5 {
            true => PixelDistance::of_unit_range(
                self.sigma.in_unit_range() * normal_quantile(probability),
            ),
            false => PixelDistance::ZERO,
        }
    }

    /// Returns Ok if all settings are in their range.
    pub(super) fn check(&self) -> Result<()> {
        let sigma = self.sigma.in_unit_range();
        if !(sigma > 0.0 && sigma <= 1.0) {
            let expected = "a deviation of pixels in [0, 1], above 0 and up to 1";
            return Err(Error::out_of_range("sigma", expected, sigma));
        }
        if !(self.alpha > 0.0 && self.alpha < 1.0) {
            let expected = "a probability between 0 and 1, as 0.001";
            return Err(Error::out_of_range("alpha", expected, self.alpha));
        }
        if self.n0 == 0 {
            return Err(Error::out_of_range("n0", "a number from 1", 0));
        }
        if !(self.n0..=MOST_DRAWS).contains(&self.n) {
            let expected = format!("a number from n0, which is {}, to {MOST_DRAWS}", self.n0);
            return Err(Error::out_of_range("n", &expected, self.n));
        }
        if self.largest_radius() == PixelDistance::ZERO {
            let expected = format!(
                "enough draws for a certificate at alpha = {}, which even equal ones do not give below {}",
                self.alpha,
                (self.alpha.ln() / 0.5_f64.ln()).floor() + 1.0
            );
            return Err(Error::out_of_range("n", &expected, self.n));
        }
        Ok(())
    }
}
