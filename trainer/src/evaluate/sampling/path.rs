//! What chains had on their way, and how well they mix.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result};
use serde::Serialize;
use tch::Tensor;

use super::chains::Observed;
use super::plan::window;
use crate::chains::mixing::{Mixing, mixing};

/// What chains had at the steps that are recorded.
#[derive(Debug, Default)]
pub struct EnergyPath(BTreeMap<u64, Observed>);

/// What is said of a snapshot.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Steps since the starts.
    pub step: u64,
    /// Number of chains.
    pub n_chains: usize,
    /// Mean over chains of T·U(x), which is E(x) if the potential is the energy alone.
    pub energy_mean: f64,
    /// Its standard deviation.
    pub energy_deviation: f64,
    /// Mean over chains of the L2 norm of the drift `(ε²/2)·∇U`.
    pub gradient_strength: f64,
    /// Share of the values of all pixels that are at or beyond the ends of `[-1, 1]`.
    pub saturation: f64,
    /// Of the energy over the second half of the steps so far, if these are enough.
    pub mixing: Option<Mixing>,
    /// Draws per chain that the mixing was computed from.
    pub n_draws: usize,
}

impl EnergyPath {
    /// Adds a step.
    pub fn add(&mut self, step: u64, observed: Observed) {
        self.0.insert(step, observed);
    }

    /// The steps in order, and what chains had at them.
    pub fn steps(&self) -> impl Iterator<Item = (u64, &Observed)> {
        self.0.iter().map(|(&step, observed)| (step, observed))
    }

    /// What is said of the chains at a step that was recorded.
    pub fn row(&self, step: u64) -> Result<Row> {
        let observed = self.at(step)?;
        let (energy_mean, energy_deviation) = observed.energy();
        let draws = self.draws(step);
        Ok(Row {
            step,
            n_chains: observed.energies.len(),
            energy_mean,
            energy_deviation,
            gradient_strength: observed.gradient_strength,
            saturation: observed.saturation,
            mixing: mixing(&draws),
            n_draws: draws.first().map_or(0, Vec::len),
        })
    }

    /// The energies of all chains at some steps, f32 `[steps, N]`.
    pub fn energies(&self, steps: impl Iterator<Item = u64>) -> Result<Tensor> {
        let rows = steps.map(|step| Ok(Tensor::from_slice(&self.at(step)?.energies)));
        Ok(Tensor::f_stack(&rows.collect::<Result<Vec<Tensor>>>()?, 0)?)
    }

    fn at(&self, step: u64) -> Result<&Observed> {
        let observed = self.0.get(&step);
        observed.with_context(|| format!("step {step} was not recorded"))
    }

    /// The energies of each chain in the window of a step; none where a step of it was not recorded, as when the chains were interrupted.
    fn draws(&self, step: u64) -> Vec<Vec<f64>> {
        let observed: Option<Vec<&Observed>> =
            window(step).iter().map(|step| self.0.get(step)).collect();
        let Some(observed) = observed.filter(|observed| !observed.is_empty()) else {
            return Vec::new();
        };
        let chain = |chain: usize| {
            let energies = observed.iter().map(|step| f64::from(step.energies[chain]));
            energies.collect()
        };
        (0..observed[0].energies.len()).map(chain).collect()
    }
}

impl Row {
    /// What stands above the columns of rows.
    pub const HEADING: &'static str =
        "       step        energy ± deviation   gradient strength   saturation   R-hat       ESS";
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>11}  {:>12.4} ± {:<9.4}   {:>17.4}   {:>8.2} %",
            self.step,
            self.energy_mean,
            self.energy_deviation,
            self.gradient_strength,
            100.0 * self.saturation
        )?;
        match self.mixing {
            Some(Mixing {
                r_hat,
                effective_sample_size,
            }) => write!(f, "   {r_hat:>5.3}   {effective_sample_size:>7.0}"),
            None => write!(f, "       –         –"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(energies: &[f32]) -> Observed {
        Observed {
            energies: energies.to_vec(),
            gradient_strength: 0.5,
            saturation: 0.25,
        }
    }

    /// Two chains that alternate around 1 and 3, of which the first half of the way is far away.
    fn path() -> EnergyPath {
        let mut path = EnergyPath::default();
        for step in 1..=32u64 {
            let far = if step <= 16 { 100.0 } else { 0.0 };
            let sign = [1.0, 1.0, -1.0, -1.0][step as usize % 4];
            path.add(step, observed(&[1.0 + sign + far, 3.0 - sign]));
        }
        path
    }

    #[test]
    fn a_row_says_how_the_second_half_mixes() {
        let row = path().row(32).unwrap();
        assert_eq!((row.n_chains, row.n_draws), (2, 16));
        assert_eq!((row.energy_mean, row.energy_deviation), (2.0, 0.0));
        // Halves of 8 draws: W = 8/7, B/n = 4/3; var⁺ = 7/8 · 8/7 + 4/3.
        let wanted = ((7.0 / 3.0) / (8.0f64 / 7.0)).sqrt();
        assert!((row.mixing.unwrap().r_hat - wanted).abs() < 1e-9);
        let text = row.to_string();
        assert_eq!(text.chars().count(), Row::HEADING.chars().count(), "{text}");
    }

    #[test]
    fn early_rows_say_nothing_of_mixing() {
        let row = path().row(4).unwrap();
        assert_eq!((row.mixing, row.n_draws), (None, 2));
        let text = row.to_string();
        assert_eq!(text.chars().count(), Row::HEADING.chars().count(), "{text}");
        assert!(path().row(33).is_err());
    }

    #[test]
    fn energies_are_stacked_by_step() {
        let energies = path().energies([17, 32].into_iter()).unwrap();
        assert_eq!(energies.size(), [2, 2]);
        assert_eq!(Vec::<f32>::try_from(energies.get(0)).unwrap(), [2.0, 2.0]);
    }
}
