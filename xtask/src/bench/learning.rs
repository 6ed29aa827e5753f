//! `cargo xtask bench learning`: one update of the trainer against the same update in PyTorch.

use std::path::Path;

use anyhow::Result;

use super::report::LearningRow;
use super::{Effort, Plan};
use crate::programs;
use crate::step::Step;
use crate::surroundings::Surroundings;

const WORK: &str = "target/bench-learning";

/// The program that times one case.
const RIVAL: &str = "benches/rivals/learning.py";

/// Objective, width and number of threads.
const CASES: [(&str, usize, usize); 6] = [
    ("maximum-likelihood", 64, 1),
    ("maximum-likelihood", 64, 2),
    ("maximum-likelihood", 256, 1),
    ("maximum-likelihood", 256, 2),
    ("matching", 32, 1),
    ("matching", 32, 2),
];

/// Builds the trainer, times all cases, prints the table, and keeps the rows where `json` says.
pub fn learning(surroundings: &Surroundings, effort: Effort, json: Option<&Path>) -> Result<()> {
    let python = super::prepare(surroundings, json, |_| Ok(()))?;
    let (steps, rows) = steps(surroundings, &python, effort);
    let plan = Plan {
        name: "learning",
        work: WORK.to_string(),
        steps,
        rows,
    };
    super::run::<LearningRow>(surroundings, &plan, effort, json)
}

/// The build and one measurement per case, with the names of the files of rows.
fn steps(surroundings: &Surroundings, python: &str, effort: Effort) -> (Vec<Step>, Vec<String>) {
    let trainer = surroundings.target().join("release/trainer");
    let (cases, rounds) = match effort {
        Effort::Full => (&CASES[..], 5),
        Effort::Quick => (&CASES[1..2], 3),
    };
    let mut steps = vec![programs::build(programs::EVERYTHING)];
    let mut rows = Vec::new();
    for (objective, width, threads) in cases {
        let case = format!("{objective}-{width}-{threads}");
        let output = format!("{case}.json");
        let line = format!(
            "{RIVAL} --objective {objective} --trainer {} --width {width} --threads {threads} --rounds {rounds} --work {WORK}/{case} \
             --output {WORK}/{output}",
            trainer.display()
        );
        steps.push(Step::new("measurement", python, &line));
        rows.push(output);
    }
    (steps, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_measured_once() {
        let surroundings = Surroundings::new("/clone", []);
        for (effort, wanted) in [(Effort::Full, CASES.len()), (Effort::Quick, 1)] {
            let (steps, rows) = steps(&surroundings, "python3", effort);
            assert_eq!((steps.len(), rows.len()), (wanted + 1, wanted));
        }
    }
}
