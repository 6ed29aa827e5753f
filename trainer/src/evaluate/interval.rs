//! Accuracies with their 95 % intervals.

use std::fmt;

use ebm_common::interval::{interval, lower_bound};
use serde::{Deserialize, Serialize};

/// A share of right answers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Images asked about.
    pub n: usize,
    /// Right answers.
    pub n_right: usize,
    /// Their share.
    pub accuracy: f64,
    /// Two-sided 95 % interval of it by Clopper and Pearson.
    pub interval: [f64; 2],
    /// One-sided 95 % lower bound of it by Clopper and Pearson.
    pub at_least: f64,
}

impl Accuracy {
    /// From counts; `n` is above 0.
    pub fn new(n_right: usize, n: usize) -> Accuracy {
        Accuracy {
            n,
            n_right,
            accuracy: n_right as f64 / n as f64,
            interval: interval(n_right, n, 0.05),
            at_least: lower_bound(n_right, n, 0.05),
        }
    }

    /// From one answer per image, right or not.
    pub fn of(right: &[bool]) -> Accuracy {
        Accuracy::new(right.iter().filter(|right| **right).count(), right.len())
    }
}

impl fmt::Display for Accuracy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [low, high] = self.interval.map(|bound| 100.0 * bound);
        write!(
            f,
            "{:.1} % (n = {}, 95 % interval {low:.1} to {high:.1} %)",
            100.0 * self.accuracy,
            self.n
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Quantiles of scipy's `beta`.
    #[test]
    fn intervals_are_those_of_other_software() {
        for ((n_right, n), [low, high], at_least) in [
            ((8, 10), [0.443_904_5, 0.974_789_3], 0.493_100_2),
            ((0, 10), [0.0, 0.308_497_1], 0.0),
            ((10, 10), [0.691_502_9, 1.0], 0.741_134_4),
            ((450, 500), [0.870_290_9, 0.924_864_2], 0.875_134_2),
        ] {
            let got = Accuracy::new(n_right, n);
            for (got, wanted) in [
                (got.interval[0], low),
                (got.interval[1], high),
                (got.at_least, at_least),
            ] {
                assert!((got - wanted).abs() < 1e-5, "{n_right}/{n}: {got} {wanted}");
            }
        }
    }
}
