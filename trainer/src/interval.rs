//! Accuracies with their 95 % intervals.

use std::fmt;

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
    /// Wilson's 95 % interval of it.
    pub interval: [f64; 2],
}

impl Accuracy {
    /// From counts; `n` is above 0.
    pub fn new(n_right: usize, n: usize) -> Accuracy {
        Accuracy {
            n,
            n_right,
            accuracy: n_right as f64 / n as f64,
            interval: wilson(n_right, n),
        }
    }

    /// From one truth value per image.
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

/// The score interval of a share (Wilson 1927): also right where all or none are.
///
/// `(p + z²/2n ± z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n)`.
fn wilson(n_right: usize, n: usize) -> [f64; 2] {
    /// The 97.5 % quantile of the standard normal distribution.
    const Z: f64 = 1.959_963_984_540_054;
    let n = n as f64;
    let share = n_right as f64 / n;
    let centre = share + Z * Z / (2.0 * n);
    let reach = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    [
        ((centre - reach) / scale).max(0.0),
        ((centre + reach) / scale).min(1.0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of R's `prop.test(…, correct = FALSE)`.
    #[test]
    fn intervals_are_those_of_other_software() {
        for ((n_right, n), expected) in [
            ((8, 10), [0.490_162, 0.943_318]),
            ((0, 10), [0.0, 0.277_533]),
            ((10, 10), [0.722_467, 1.0]),
        ] {
            let got = wilson(n_right, n);
            assert!(
                (got[0] - expected[0]).abs() < 1e-5 && (got[1] - expected[1]).abs() < 1e-5,
                "{n_right}/{n}: {got:?}"
            );
        }
    }
}
