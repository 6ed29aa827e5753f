//! Accuracy with its interval.

use ebm_common::interval::interval;

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

    /// The 95 % interval of Clopper and Pearson.
    pub fn interval(&self) -> [f64; 2] {
        interval(self.n_right, self.n, 0.05)
    }
}
