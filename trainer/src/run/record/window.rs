//! Means between log points.

use serde::{Deserialize, Serialize};

use super::Measured;

/// Sums since the last log point; part of a checkpoint, so that a resumed run logs the same means.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    n_updates: u64,
    sums: Vec<(String, f64)>,
}

impl Window {
    /// Adds the values of one update.
    pub fn add(&mut self, measured: &Measured) {
        if self.n_updates == 0 {
            self.sums = measured
                .iter()
                .map(|(name, _)| ((*name).to_string(), 0.0))
                .collect();
        }
        self.n_updates += 1;
        self.sums
            .iter_mut()
            .zip(measured)
            .for_each(|((_, sum), (_, value))| *sum += value);
    }

    /// Adds the magnitudes of the values of one update.
    pub fn add_magnitudes(&mut self, measured: &Measured) {
        let magnitudes = measured.iter().map(|(name, value)| (*name, value.abs()));
        self.add(&magnitudes.collect());
    }

    /// The means, and an empty window.
    pub fn take(&mut self) -> Vec<(String, f64)> {
        let Window { n_updates, sums } = std::mem::take(self);
        sums.into_iter()
            .map(|(name, sum)| (name, sum / n_updates as f64))
            .collect()
    }
}
