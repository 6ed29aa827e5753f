//! At which steps chains are looked at.

use std::collections::BTreeSet;
use std::str::FromStr;

use anyhow::{Context, Error, Result, ensure};

/// Draws per chain from which R-hat and effective sample size are computed, at most.
const MAX_DRAWS: u64 = 500;
/// Steps that are recorded between a power of ten and the next for the plot.
const PER_DECADE: f64 = 20.0;

/// Which steps are snapshots, beside the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Snapshots {
    /// 1, 10, 100, …
    Decades,
    /// None.
    End,
    /// These.
    At(Vec<u64>),
}

impl FromStr for Snapshots {
    type Err = Error;

    fn from_str(text: &str) -> Result<Snapshots> {
        let at = |text: &str| {
            text.split(',')
                .map(|step| step.trim().parse().ok())
                .collect::<Option<Vec<u64>>>()
        };
        match text {
            "decades" => Ok(Snapshots::Decades),
            "end" => Ok(Snapshots::End),
            text => at(text)
                .map(Snapshots::At)
                .context("expected decades, end, or steps with commas between, as in 1000,10000"),
        }
    }
}

/// The steps of chains at which something is written down.
#[derive(Debug)]
pub struct Plan {
    n_steps: u64,
    snapshots: BTreeSet<u64>,
    recorded: BTreeSet<u64>,
}

impl Plan {
    /// Of chains of `n_steps` steps. Step 0 is their start.
    ///
    /// # Errors
    /// A snapshot lies behind the last step.
    pub fn new(n_steps: u64, snapshots: &Snapshots) -> Result<Plan> {
        let mut at: BTreeSet<u64> = match snapshots {
            Snapshots::Decades => powers_of_ten().take_while(|&step| step < n_steps).collect(),
            Snapshots::End => BTreeSet::new(),
            Snapshots::At(steps) => steps.iter().copied().collect(),
        };
        let latest = at.last().copied().unwrap_or_default();
        ensure!(
            latest <= n_steps,
            "--snapshots {latest}: expected at most --steps, which is {n_steps}"
        );
        at.insert(n_steps);
        let windows = at.iter().flat_map(|&step| window(step));
        Ok(Plan {
            n_steps,
            recorded: windows.chain(for_the_plot(n_steps)).collect(),
            snapshots: at,
        })
    }

    /// Steps in all.
    pub fn n_steps(&self) -> u64 {
        self.n_steps
    }

    /// The snapshots before a step.
    pub fn snapshots_before(&self, step: u64) -> impl Iterator<Item = u64> {
        self.snapshots.range(..step).copied()
    }

    /// Whether images are kept at a step.
    pub fn is_snapshot(&self, step: u64) -> bool {
        self.snapshots.contains(&step)
    }

    /// Whether energies are kept at a step.
    pub fn is_recorded(&self, step: u64) -> bool {
        self.is_snapshot(step) || self.recorded.contains(&step)
    }
}

/// The steps that say how well chains mix up to a step: the second half, so that their way from the start is left out, at equal distances
/// where that is many.
pub fn window(step: u64) -> Vec<u64> {
    let half = step.div_ceil(2);
    let stride = half.div_ceil(MAX_DRAWS).max(1);
    let back = (0..half).step_by(stride as usize);
    let mut steps: Vec<u64> = back.map(|back| step - back).collect();
    steps.reverse();
    steps
}

fn powers_of_ten() -> impl Iterator<Item = u64> {
    (0..).map_while(|power| 10u64.checked_pow(power))
}

fn for_the_plot(n_steps: u64) -> impl Iterator<Item = u64> {
    let step = |index: u32| 10f64.powf(f64::from(index) / PER_DECADE).round() as u64;
    (0..).map(step).take_while(move |&step| step <= n_steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_read_as_they_are_typed() {
        for (text, wanted) in [
            ("decades", Some(Snapshots::Decades)),
            ("end", Some(Snapshots::End)),
            ("5", Some(Snapshots::At(vec![5]))),
            ("1000, 10", Some(Snapshots::At(vec![1000, 10]))),
            ("10,", None),
            ("-1", None),
            ("all", None),
        ] {
            assert_eq!(text.parse::<Snapshots>().ok(), wanted, "{text}");
        }
    }

    #[test]
    fn snapshots_are_at_decades_and_the_end() {
        for (n_steps, snapshots, wanted) in [
            (1, Snapshots::Decades, vec![1]),
            (10, Snapshots::Decades, vec![1, 10]),
            (2500, Snapshots::Decades, vec![1, 10, 100, 1000, 2500]),
            (2500, Snapshots::End, vec![2500]),
            (2500, Snapshots::At(vec![0, 7]), vec![0, 7, 2500]),
        ] {
            let plan = Plan::new(n_steps, &snapshots).unwrap();
            let got = (0..=n_steps).filter(|&step| plan.is_snapshot(step));
            assert_eq!(got.collect::<Vec<u64>>(), wanted);
        }
        assert!(Plan::new(10, &Snapshots::At(vec![11])).is_err());
    }

    #[test]
    fn windows_are_second_halves_of_bounded_size_and_recorded() {
        assert!(window(0).is_empty());
        assert_eq!(window(1), [1]);
        assert_eq!(window(10), [6, 7, 8, 9, 10]);
        assert_eq!(window(1001).len(), 251);
        let plan = Plan::new(1_000_000, &Snapshots::Decades).unwrap();
        for step in powers_of_ten().take(7) {
            let window = window(step);
            assert!(window.len() <= MAX_DRAWS as usize);
            assert!(window.iter().all(|&step| plan.is_recorded(step)));
            assert!(window[0] > step / 2 && window[window.len() - 1] == step);
        }
        assert!(plan.recorded.len() < 2800, "{}", plan.recorded.len());
    }
}
