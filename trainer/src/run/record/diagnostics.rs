//! The diagnostics of a run. For an energy, they are the four that the reference system shows.
//!
//! With d_t the energy difference and v_t the gradient strength of update t, over the newest n updates ([`N_UPDATES`] at most):
//!
//! - energy difference and gradient strength over updates;
//! - their cross-correlation `c[k] = (1/n) Σ_t d̂[t + k]·v̂[t]` at lags −15 to 15;
//! - their auto-correlations `(1/n) Σ_t d̂[t + k]·d̂[t]` and `(1/n) Σ_t v̂[t + k]·v̂[t]` at lags 0 to 15.
//!
//! d̂ is d divided by the root of its mean square and keeps its mean, since a difference that does not oscillate around 0 is what one looks
//! for; v̂ is v with mean 0 and variance 1. (M. Hill, E. Nijkamp, J. Mitchell and S.-C. Zhu, "On the Anatomy of MCMC-Based Maximum
//! Likelihood Learning of Energy-Based Models"; where their code divides by n − 1, this divides by n, so that lag 0 gives exactly 1.)
//! If learning is stable, d oscillates around 0: its auto-correlation turns negative within a few lags.

use std::collections::BTreeSet;

use super::correlation::{correlation, normalised, rescaled};
use super::quantity;
use super::{LEVELS, PSNR};
use crate::draw::panel::Panel;
use crate::run::record::metrics::{MetricsLine, curve};
use crate::run::record::updates::Recent;

/// The largest number of updates over which correlations are computed.
pub const N_UPDATES: usize = 5000;
/// The number of columns of panels.
pub const COLUMNS: usize = 2;

const MAX_LAG: i64 = 15;
const ENERGY_DIFFERENCE: &str = "energy_difference";
const GRADIENT_STRENGTH: &str = "gradient_strength";
/// What is shown over updates, if a run measures it.
const CURVES: [&str; 4] = [ENERGY_DIFFERENCE, GRADIENT_STRENGTH, "loss", "accuracy"];

/// The panels, from the lines of `metrics.jsonl` and the newest rows of `updates.csv`.
pub fn panels(lines: &[MetricsLine], recent: &Recent) -> Vec<Panel> {
    let mut panels: Vec<Panel> = CURVES
        .into_iter()
        .filter(|name| shows(name, lines))
        .map(|name| quantity::panel(name, curve(lines, name)))
        .collect();
    panels.extend(together(lines, "loss by level of noise", is_loss_of_level));
    panels.extend(together(
        lines,
        "PSNR of denoised test images in dB",
        is_psnr,
    ));
    panels.extend(correlations(recent).into_iter().flatten());
    panels
}

/// Whether that is one of the panels.
pub fn shows(name: &str, lines: &[MetricsLine]) -> bool {
    let has_panel = CURVES.contains(&name) || is_loss_of_level(name) || is_psnr(name);
    has_panel && lines.iter().any(|line| line.contains_key(name))
}

fn is_loss_of_level(name: &str) -> bool {
    LEVELS.contains(&name)
}

fn is_psnr(name: &str) -> bool {
    name.starts_with(PSNR)
}

/// One panel of all values of such names, if there are any.
fn together(lines: &[MetricsLine], title: &str, belongs: fn(&str) -> bool) -> Option<Panel> {
    let names = lines.iter().flat_map(MetricsLine::keys);
    let names: BTreeSet<&String> = names.filter(|name| belongs(name)).collect();
    let panel = Panel::new(title, "update");
    (!names.is_empty()).then(|| {
        names.into_iter().fold(panel, |panel, name| {
            panel.line(&name.replace('_', " "), curve(lines, name))
        })
    })
}

fn correlations(recent: &Recent) -> Option<[Panel; 2]> {
    let difference = recent.values(ENERGY_DIFFERENCE)?;
    let strength = recent.values(GRADIENT_STRENGTH)?;
    if difference.len() < 2 {
        return None;
    }
    let (difference, strength) = (rescaled(&difference), normalised(&strength));
    let most = MAX_LAG.min(difference.len() as i64 - 1);
    let cross = correlation(&difference, &strength, -most..=most);
    let own = |values: &[f64]| correlation(values, values, 0..=most);
    let lag = format!("lag k in updates, over the newest {}", difference.len());
    Some([
        Panel::new("cross-correlation of energy difference and gradient", &lag).bars("", cross),
        Panel::new("auto-correlation", &lag)
            .bars("energy difference", own(&difference))
            .bars("gradient strength", own(&strength)),
    ])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::run::record::updates::Updates;

    fn lines(name: &str) -> Vec<MetricsLine> {
        let line = |update| json!({"update": update, name: 0.5, "learning_rate": 0.1});
        let lines = (1..4).map(|update| line(update).as_object().unwrap().clone());
        lines.collect()
    }

    fn recent(n: u64) -> Recent {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("updates.csv");
        let mut updates = Updates::open(&path, 0).unwrap();
        for update in 1..=n {
            let sign = if update % 2 == 0 { 1.0 } else { -1.0 };
            let measured = vec![(ENERGY_DIFFERENCE, sign), (GRADIENT_STRENGTH, 2.0 - sign)];
            updates.write(update, &measured).unwrap();
        }
        updates.flush().unwrap();
        Recent::read(&path, N_UPDATES).unwrap()
    }

    fn titles(panels: &[Panel]) -> Vec<&str> {
        panels
            .iter()
            .map(|panel| panel.title().split([':', ' ']).next().unwrap_or_default())
            .collect()
    }

    #[test]
    fn an_energy_has_four_panels_and_a_classifier_its_own() {
        let mut energy = lines(ENERGY_DIFFERENCE);
        energy[0].insert(GRADIENT_STRENGTH.to_string(), json!(0.1));
        assert_eq!(
            titles(&panels(&energy, &recent(40))),
            [
                "energy",
                "gradient",
                "cross-correlation",
                "auto-correlation"
            ]
        );
        assert_eq!(titles(&panels(&energy, &recent(1))), ["energy", "gradient"]);
        assert_eq!(
            titles(&panels(&lines("loss"), &Recent::default())),
            ["loss"]
        );
    }

    #[test]
    fn opposite_series_have_opposite_correlations() {
        // d alternates and v is 2 − d: c[k] = −(−1)^k up to the ends.
        let [cross, own] = correlations(&recent(1000)).unwrap();
        let wanted = |sign: f64, lags: std::ops::RangeInclusive<i64>| -> Vec<(f64, f64)> {
            lags.map(|k| {
                (
                    k as f64,
                    sign * if k % 2 == 0 { 1.0 } else { -1.0 } * (1000 - k.abs()) as f64 / 1000.0,
                )
            })
            .collect()
        };
        let exact = [
            Panel::new(cross.title(), "").bars("", wanted(-1.0, -15..=15)),
            Panel::new(own.title(), "").bars("", wanted(1.0, 0..=15)),
        ];
        for (panel, exact) in [cross, own].iter().zip(&exact) {
            for (value, wanted) in panel.values(0).iter().zip(exact.values(0)) {
                assert!(
                    (value.1 - wanted.1).abs() < 1e-9 && value.0 == wanted.0,
                    "{value:?} {wanted:?}"
                );
            }
        }
    }
}
