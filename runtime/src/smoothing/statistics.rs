//! What counts of votes say.

use ebm_common::interval::upper_tail;
use statrs::function::erf::erf_inv;

/// The two-sided binomial test of whether `a` and `b` hits come from two equally likely things.
pub(super) fn p_value_of_a_tie(a: usize, b: usize) -> f64 {
    (2.0 * upper_tail(a.max(b), a + b, 0.5)).min(1.0)
}

/// `Φ⁻¹(p)`, the quantile of the standard normal distribution.
pub(super) fn normal_quantile(p: f64) -> f64 {
    std::f64::consts::SQRT_2 * erf_inv(2.0 * p - 1.0)
}
