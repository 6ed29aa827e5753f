//! Watches what a run measures: when it diverges, and where it then goes on.

use std::fmt;

use anyhow::{Context, Result, ensure};
use ebm_export::source::checkpoint::Header;
use serde::{Deserialize, Serialize};

use crate::config::{EnergyGuard, LossGuard, Setting};
use crate::run::record::Measured;
use crate::weights::NotFinite;

/// Learning diverged once more than is allowed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct GaveUp(String);

/// What is watched.
#[derive(Clone, Debug)]
pub struct Guard {
    /// The most that the magnitude of a measured value may be, by its name.
    pub limits: Vec<(&'static str, f64)>,
    /// Updates in a row after which a value that is out of its range means divergence. One that is not finite means it at once.
    pub patience: u64,
    /// How often a run goes back to a checkpoint before it gives up.
    pub rollbacks: u64,
    /// What to do about a run that gave up.
    pub advice: &'static str,
}

/// A return to an earlier checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setback {
    /// The update that diverged, counted from 1.
    pub update: u64,
    /// What was out of its range.
    pub reason: String,
    /// The update of the checkpoint with which the run went on.
    pub to: u64,
}

/// The last return to an earlier checkpoint.
impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.setbacks.last() {
            Some(Setback { update, reason, to }) => write!(
                f,
                "update {update} diverged: {reason}; back to the checkpoint of update {to}"
            ),
            None => write!(f, "no update diverged"),
        }
    }
}

/// What a run went through; part of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Updates in a row, up to the last one, with a value out of its range.
    out_of_range: u64,
    /// All returns to earlier checkpoints.
    setbacks: Vec<Setback>,
}

/// What is to be said of an update.
#[derive(Debug)]
pub enum Verdict {
    /// Learning goes on.
    Fine(Measured),
    /// Learning leads nowhere; why.
    Diverged(String),
}

impl EnergyGuard {
    /// What is watched, by the names of `metrics.jsonl`.
    pub fn guard(&self) -> Guard {
        Guard {
            limits: on(&[
                ("energy_difference", self.energy_difference),
                ("gradient_strength", self.gradient_strength),
                ("saturation", self.saturation),
            ]),
            patience: self.patience,
            rollbacks: self.rollbacks,
            advice: "begin again with a lower learning.learning_rate or langevin.step_size, a higher langevin.temperature, or with langevin.clip",
        }
    }

    /// What learning rates are multiplied by after that many rollbacks.
    pub fn pace(&self, rollbacks: u64) -> f64 {
        pace(self.rate_factor, rollbacks)
    }
}

impl LossGuard {
    /// What is watched, by the names of `metrics.jsonl`.
    pub fn guard(&self) -> Guard {
        Guard {
            limits: on(&[("loss", self.loss)]),
            patience: self.patience,
            rollbacks: self.rollbacks,
            advice: "begin again with a lower learning.learning_rate",
        }
    }

    /// What the learning rate is multiplied by after that many rollbacks.
    pub fn pace(&self, rollbacks: u64) -> f64 {
        pace(self.rate_factor, rollbacks)
    }
}

fn on(limits: &[(&'static str, Setting)]) -> Vec<(&'static str, f64)> {
    let limits = limits.iter();
    limits
        .filter_map(|(name, limit)| Some((*name, limit.value()?)))
        .collect()
}

fn pace(factor: f64, rollbacks: u64) -> f64 {
    factor.powi(i32::try_from(rollbacks).unwrap_or(i32::MAX))
}

impl Guard {
    /// What is to be said of an update.
    ///
    /// # Errors
    /// It failed for another reason than a value that is not finite.
    pub fn judge(&self, update: Result<Measured>, history: &mut History) -> Result<Verdict> {
        let measured = match update {
            Ok(measured) => measured,
            Err(error) if error.is::<NotFinite>() => {
                return Ok(Verdict::Diverged(error.to_string()));
            }
            Err(error) => return Err(error),
        };
        let Some((name, value, limit)) = self.beyond(&measured) else {
            history.out_of_range = 0;
            return Ok(Verdict::Fine(measured));
        };
        history.out_of_range += 1;
        if value.is_finite() && history.out_of_range < self.patience {
            return Ok(Verdict::Fine(measured));
        }
        Ok(Verdict::Diverged(format!(
            "{} is {value:.4e}, beyond guard.{name} = {limit}",
            name.replace('_', " ")
        )))
    }

    /// The first value beyond its limit, and the limit.
    fn beyond(&self, measured: &Measured) -> Option<(&'static str, f64, f64)> {
        self.limits.iter().find_map(|&(watched, limit)| {
            let (_, value) = measured.iter().find(|(name, _)| *name == watched)?;
            let within = value.abs() <= limit;
            (!within).then_some((watched, *value, limit))
        })
    }

    /// Refuses to go back once more than is allowed.
    ///
    /// # Errors
    /// It was; the error says why and what to do.
    pub fn allow_another(&self, update: u64, reason: &str, history: &History) -> Result<()> {
        let rollbacks = history.rollbacks();
        ensure!(
            rollbacks < self.rollbacks,
            GaveUp(format!(
                "update {update} diverged: {reason}; the run went back to an earlier checkpoint {rollbacks} times, \
                 as often as guard.rollbacks allows: {}",
                self.advice
            ))
        );
        Ok(())
    }
}

impl History {
    /// Of a checkpoint.
    pub fn of(header: &Header) -> Option<History> {
        serde_json::from_value(header.state.get("watch")?.clone()).ok()
    }

    /// Whether all watched values of the last update were in their ranges.
    pub fn is_in_range(&self) -> bool {
        self.out_of_range == 0
    }

    /// How often the run went back to an earlier checkpoint.
    pub fn rollbacks(&self) -> u64 {
        self.setbacks.len() as u64
    }

    /// All returns to earlier checkpoints, a line of JSON each.
    pub fn rollback_lines(&self) -> Result<String> {
        self.setbacks
            .iter()
            .map(|setback| {
                let line =
                    serde_json::to_string(setback).context("cannot write rollbacks.jsonl")?;
                Ok(line + "\n")
            })
            .collect()
    }

    /// The checkpoint to go back to, of the good ones in ascending order: the newest, but the one before if divergence followed the
    /// newest already.
    pub fn target(&self, good: &[u64]) -> Option<u64> {
        let last = self.setbacks.last().map(|setback| setback.to);
        match good {
            [.., before, newest] if Some(*newest) == last => Some(*before),
            _ => good.last().copied(),
        }
    }

    /// After one more return.
    pub fn after(&self, setback: Setback) -> History {
        let mut setbacks = self.setbacks.clone();
        setbacks.push(setback);
        History {
            out_of_range: 0,
            setbacks,
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    const GUARD: fn() -> Guard = || Guard {
        limits: vec![("energy_difference", 10.0), ("saturation", 0.5)],
        patience: 2,
        rollbacks: 1,
        advice: "do something else",
    };

    fn measured(energy_difference: f64, saturation: f64) -> Result<Measured> {
        Ok(vec![
            ("energy_difference", energy_difference),
            ("gradient_strength", 1e9),
            ("saturation", saturation),
        ])
    }

    #[test]
    fn a_value_that_stays_out_of_its_range_means_divergence_and_a_spike_does_not() {
        let mut history = History::default();
        let mut diverges = |update| match GUARD().judge(update, &mut history).unwrap() {
            Verdict::Fine(_) => None,
            Verdict::Diverged(reason) => Some(reason),
        };
        for (energy_difference, saturation) in [(10.0, 0.5), (-11.0, 0.1), (0.0, 0.0), (0.0, 0.6)] {
            let update = measured(energy_difference, saturation);
            assert_eq!(diverges(update), None, "{energy_difference} {saturation}");
        }
        let reason = diverges(measured(-12.0, 0.0)).unwrap();
        assert_eq!(
            reason,
            "energy difference is -1.2000e1, beyond guard.energy_difference = 10"
        );
    }

    #[test]
    fn what_is_not_finite_means_divergence_at_once_and_other_errors_stay_errors() {
        for update in [
            measured(f64::NAN, 0.0),
            measured(f64::INFINITY, 0.0),
            Err(NotFinite("the loss is NaN".to_string()).into()),
        ] {
            let verdict = GUARD().judge(update, &mut History::default()).unwrap();
            assert!(matches!(verdict, Verdict::Diverged(_)));
        }
        let failed = GUARD().judge(Err(anyhow!("no space")), &mut History::default());
        assert_eq!(failed.unwrap_err().to_string(), "no space");
    }

    #[test]
    fn a_checkpoint_that_divergence_followed_is_not_taken_twice_where_there_is_another() {
        let setback = |to| Setback {
            update: 50,
            reason: String::new(),
            to,
        };
        let fresh = History::default();
        let once = fresh.after(setback(40));
        for (history, good, wanted) in [
            (&fresh, &[][..], None),
            (&fresh, &[30, 40], Some(40)),
            (&once, &[30, 40], Some(30)),
            (&once, &[30, 40, 45], Some(45)),
            (&once, &[40], Some(40)),
        ] {
            assert_eq!(history.target(good), wanted, "{history:?} {good:?}");
        }
        assert!(GUARD().allow_another(50, "why", &fresh).is_ok());
        let error = GUARD().allow_another(50, "why", &once).unwrap_err();
        assert!(error.to_string().ends_with("do something else"), "{error}");
    }
}
