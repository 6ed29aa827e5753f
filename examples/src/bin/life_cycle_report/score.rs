//! Accuracy with its interval.

/// The 97.5 % quantile of the standard normal distribution.
const QUANTILE: f64 = 1.959_963_984_540_054;

/// How many of n answers were right.
#[derive(Debug, Clone, Copy)]
pub struct Score {
    pub n_right: usize,
    pub n: usize,
}

impl Score {
    pub fn of(right: &[bool]) -> Self {
        Self {
            n_right: right.iter().filter(|&&right| right).count(),
            n: right.len(),
        }
    }

    /// In `[0, 1]`.
    pub fn accuracy(&self) -> f64 {
        self.n_right as f64 / self.n as f64
    }

    /// The 95 % interval of Wilson (1927): `(s + z²/2)/(n + z²) ± z/(n + z²)·√(s(n − s)/n + z²/4)`. It is sensible at 0 and n too.
    pub fn interval(&self) -> (f64, f64) {
        let (s, n, z) = (self.n_right as f64, self.n as f64, QUANTILE);
        let middle = (s + z * z / 2.0) / (n + z * z);
        let half = z / (n + z * z) * (s * (n - s) / n + z * z / 4.0).sqrt();
        // Rounding must not push an end past the accuracy itself, which it meets at 0 and n.
        (
            (middle - half).clamp(0.0, self.accuracy()),
            (middle + half).clamp(self.accuracy(), 1.0),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference values of R's `binom::binom.wilson(x, 200)`, and the closed forms `z²/(n + z²)` and `n/(n + z²)` at 0 and n.
    #[test]
    fn intervals_are_those_of_wilson() {
        let z_squared = QUANTILE * QUANTILE;
        for (n_right, low, high) in [
            (0, 0.0, z_squared / (200.0 + z_squared)),
            (200, 200.0 / (200.0 + z_squared), 1.0),
            (100, 0.431_360, 0.568_640),
            (10, 0.027_397, 0.089_572),
        ] {
            let (got_low, got_high) = Score { n_right, n: 200 }.interval();
            assert!(
                (got_low - low).abs() < 2e-4 && (got_high - high).abs() < 2e-4,
                "{n_right}: {got_low} to {got_high}"
            );
        }
    }
}
