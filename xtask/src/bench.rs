//! `cargo xtask bench gradient`: one gradient on ONNX Runtime against PyTorch.

mod chart;
mod report;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::step::{self, Step};
use crate::surroundings::Surroundings;
use crate::tool;
use report::Report;

/// Where checkpoints, exported files and the rows of single cases go, below the root of the clone.
const WORK: &str = "target/bench-gradient";

/// Where results are kept, below the root of the clone.
const RESULTS: &str = "benches/results";

/// The program that times one case.
const RIVAL: &str = "benches/gradient/rival.py";

/// How thoroughly to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Every case, many rounds; table, chart and rows become files below `benches/results`.
    Full,
    /// One case, few rounds; no result is kept.
    Quick,
}

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
];

impl Effort {
    fn cases(self) -> &'static [Case] {
        match self {
            Effort::Full => CASES,
            Effort::Quick => &CASES[..1],
        }
    }

    fn rounds(self) -> usize {
        match self {
            Effort::Full => 40,
            Effort::Quick => 7,
        }
    }
}

/// Exports the networks, times all cases, prints the table, and keeps the rows where `json` says.
pub fn gradient(surroundings: &Surroundings, effort: Effort, json: Option<&Path>) -> Result<()> {
    let python = tool::rival_python(surroundings)?;
    let work = surroundings.workspace().join(WORK);
    if work.exists() {
        fs::remove_dir_all(&work)
            .with_context(|| format!("could not remove {}", work.display()))?;
    }
    fs::create_dir_all(&work).with_context(|| format!("could not make {}", work.display()))?;
    step::run_all(surroundings, &steps(surroundings, &python, effort))?;
    let report = effort
        .cases()
        .iter()
        .map(|case| Report::read(&work.join(rows_file(case))))
        .collect::<Result<Vec<_>>>()
        .and_then(Report::merged)?;
    println!("\n{}", report.table());
    if let Some(path) = json {
        report.write(path)?;
    }
    match effort {
        Effort::Full => keep(&report, &surroundings.workspace().join(RESULTS)),
        Effort::Quick => Ok(()),
    }
}

fn keep(report: &Report, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
    report.write(&folder.join("gradient.json"))?;
    for (name, text) in [
        ("gradient.md", report.table()),
        ("gradient.svg", chart::svg(report)),
    ] {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))?;
    }
    println!("Written: {RESULTS}/gradient.json, gradient.md and gradient.svg");
    Ok(())
}

/// The build, three commands per network, and one measurement per case.
fn steps(surroundings: &Surroundings, python: &str, effort: Effort) -> Vec<Step> {
    let export = surroundings.target().join("release/export");
    let export = |name, line: String| Step::new(name, export.display().to_string(), &line);
    let mut steps = vec![Step::cargo("build", "build --release -p ebm-export")];
    let mut exported = "";
    for case in effort.cases() {
        let network = case.network;
        let folder = format!("{WORK}/{network}");
        if network != exported {
            exported = network;
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
        }
        let Case { batch, threads, .. } = case;
        let line = format!(
            "{RIVAL} --name {network} --checkpoint {folder}/checkpoint --onnx {folder}/rewritten/gradient.onnx \
             --raw-onnx {folder}/raw/gradient.onnx --batch {batch} --threads {threads} --rounds {} --output {WORK}/{}",
            effort.rounds(),
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
        assert_eq!(count("export init sngan32 "), 1);
        assert_eq!(count("--raw"), 3 + CASES.len());
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
