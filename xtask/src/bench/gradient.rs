//! `cargo xtask bench gradient`: one gradient on ONNX Runtime against PyTorch.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use super::report::GradientRow;
use super::{Effort, Plan};
use crate::programs;
use crate::step::Step;
use crate::surroundings::Surroundings;

const WORK: &str = "target/bench-gradient";

/// The program that times one case.
const RIVAL: &str = "benches/rivals/gradient.py";

/// The rewrites of `ebm-export onnx`, in order. Each is left out once: it stays there only if it pays.
const REWRITES: [&str; 5] = ["simplify", "fold_affine", "pool_conv", "flip_conv", "mask"];

/// One network at one batch and number of threads.
#[derive(Debug, Clone, Copy)]
struct Case {
    title: &'static str,
    network: &'static str,
    batch: usize,
    threads: usize,
}

const fn case(title: &'static str, network: &'static str, batch: usize, threads: usize) -> Case {
    Case {
        title,
        network,
        batch,
        threads,
    }
}

const CASES: &[Case] = &[
    case("sngan32, batch 1, 1 thread", "sngan32", 1, 1),
    case("sngan32, batch 1, 2 threads", "sngan32", 1, 2),
    case("sngan32, batch 8, 1 thread", "sngan32", 8, 1),
    case("sngan32, batch 8, 2 threads", "sngan32", 8, 2),
    case("sngan64, batch 1, 1 thread", "sngan64", 1, 1),
    case("sngan64, batch 1, 2 threads", "sngan64", 1, 2),
    case("sngan128, batch 1, 1 thread", "sngan128", 1, 1),
    case("sngan128, batch 1, 2 threads", "sngan128", 1, 2),
    case("biggan128, batch 1, 1 thread", "biggan128", 1, 1),
    case("biggan128, batch 1, 2 threads", "biggan128", 1, 2),
];

/// Exports the networks, times all cases, prints the table, and keeps the rows where `json` says.
pub fn gradient(surroundings: &Surroundings, effort: Effort, json: Option<&Path>) -> Result<()> {
    let python = super::prepare(surroundings, json, |_| Ok(()))?;
    let plan = Plan {
        name: "gradient",
        work: WORK.to_string(),
        steps: steps(surroundings, &python, effort),
        rows: cases(effort).iter().map(rows_file).collect(),
    };
    super::run::<GradientRow>(surroundings, &plan, effort, json)
}

fn cases(effort: Effort) -> &'static [Case] {
    match effort {
        Effort::Full => CASES,
        Effort::Quick => &CASES[..1],
    }
}

fn rounds(effort: Effort) -> usize {
    match effort {
        Effort::Full => 40,
        Effort::Quick => 7,
    }
}

/// The build, the exports of each network and one per batch, and one measurement per case.
fn steps(surroundings: &Surroundings, python: &str, effort: Effort) -> Vec<Step> {
    let export = |name, line: String| programs::run(surroundings, name, "ebm-export", &line);
    let mut steps = vec![programs::build(programs::EVERYTHING)];
    let mut exported = BTreeSet::new();
    for case in cases(effort) {
        let network = case.network;
        let folder = format!("{WORK}/{network}");
        if exported.insert((network, 1)) {
            steps.extend([
                export(
                    "random weights",
                    format!("init {network} -o {folder}/checkpoint"),
                ),
                export(
                    "export with rewrites",
                    format!("onnx {folder}/checkpoint -o {folder}/rewritten"),
                ),
                export(
                    "export without rewrites",
                    format!("onnx {folder}/checkpoint -o {folder}/raw --raw"),
                ),
            ]);
            steps.extend(REWRITES.map(|left_out| {
                let others: Vec<&str> = REWRITES
                    .into_iter()
                    .filter(|name| *name != left_out)
                    .collect();
                let others = others.join(",");
                let line = format!(
                    "onnx {folder}/checkpoint -o {folder}/without-{left_out} --rewrites {others}"
                );
                export("export without a rewrite", line)
            }));
        }
        let Case { batch, threads, .. } = case;
        let fixed = format!("{folder}/batch-{batch}");
        if exported.insert((network, *batch)) {
            steps.push(export(
                "export for the batch",
                format!("onnx {folder}/checkpoint -o {fixed} --batch {batch}"),
            ));
        }
        let fixed = match batch {
            1 => String::new(),
            _ => format!("--fixed-onnx {fixed}/gradient.onnx "),
        };
        let without = REWRITES
            .map(|name| format!("--without {name}={folder}/without-{name}/gradient.onnx "))
            .concat();
        let line = format!(
            "{RIVAL} --name {network} --checkpoint {folder}/checkpoint --onnx {folder}/rewritten/gradient.onnx \
             --raw-onnx {folder}/raw/gradient.onnx {without}{fixed}--batch {batch} --threads {threads} --rounds {} --output {WORK}/{}",
            rounds(effort),
            rows_file(case)
        );
        steps.push(Step::new(case.title, python, &line));
    }
    steps
}

fn rows_file(case: &Case) -> String {
    format!("{}-{}-{}.json", case.network, case.batch, case.threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_exported_once_and_every_case_has_rows_of_its_own() {
        let surroundings = Surroundings::new("/clone", []);
        let typed: Vec<String> = steps(&surroundings, "python3", Effort::Full)
            .iter()
            .map(|step| step.typed(surroundings.workspace()))
            .collect();
        let count = |pattern: &str| typed.iter().filter(|line| line.contains(pattern)).count();
        assert_eq!(count("ebm-export init sngan32 "), 1);
        assert_eq!(count("--raw"), 4 + CASES.len());
        assert_eq!(count("--batch 8"), 1 + 2);
        assert_eq!(count("--fixed-onnx"), 2);
        assert_eq!(
            count("--rewrites simplify,fold_affine,pool_conv,flip_conv"),
            4
        );
        assert_eq!(
            count("--without mask=target/bench-gradient/sngan32/without-mask/gradient.onnx"),
            4
        );
        let mut files: Vec<String> = CASES.iter().map(rows_file).collect();
        files.sort();
        files.dedup();
        assert_eq!(files.len(), CASES.len());
    }

    #[test]
    fn titles_say_what_is_measured() {
        for Case {
            title,
            network,
            batch,
            threads,
        } in CASES
        {
            let plural = if *threads == 1 { "" } else { "s" };
            assert_eq!(
                *title,
                format!("{network}, batch {batch}, {threads} thread{plural}")
            );
        }
    }
}
