//! `cargo xtask bench latency`: a whole Langevin step of the runtime against PyTorch and ONNX Runtime from Python.

use std::path::Path;

use anyhow::Result;

use super::report::LatencyRow;
use super::{Effort, Plan};
use crate::programs;
use crate::step::Step;
use crate::surroundings::Surroundings;

const WORK: &str = "target/bench-latency";

/// The program that times one case.
const RIVAL: &str = "benches/rivals/latency.py";

const THREADS: [usize; 2] = [1, 2];

/// A network with the steps of a sample at each batch, so many that a sample takes some tenths of a second: the first steps of a sample
/// find cold caches and sleeping threads.
struct Network {
    name: &'static str,
    /// Channels behind the stem.
    width: usize,
    /// What `ebm-export init` is told.
    description: &'static str,
    /// Batch and steps.
    batches: &'static [(usize, usize)],
}

const NETWORKS: &[Network] = &[
    Network {
        name: "sngan32",
        width: 64,
        description: "sngan32 --width 64",
        batches: &[(1, 50), (8, 15)],
    },
    Network {
        name: "sngan32",
        width: 256,
        description: "sngan32 --width 256",
        batches: &[(1, 10), (8, 4)],
    },
    Network {
        name: "sngan64",
        width: 64,
        description: "sngan64 --width 64",
        batches: &[(1, 4), (8, 1)],
    },
    Network {
        name: "sngan128",
        width: 64,
        description: "sngan128 --width 64",
        batches: &[(1, 2), (8, 1)],
    },
    Network {
        name: "biggan128",
        width: 64,
        description: "biggan128 --width 64",
        batches: &[(1, 2), (8, 1)],
    },
    Network {
        name: "mnist-midrun",
        width: 16,
        description: r#"{"name":"sngan","image_size":32,"channels":1,"widths":[16,32,32,32],"pools":[true,true,true,false],"activation":"silu"}"#,
        batches: &[(1, 200)],
    },
];

/// Exports the networks, times all cases, prints the table, and keeps the rows where `json` says.
pub fn latency(surroundings: &Surroundings, effort: Effort, json: Option<&Path>) -> Result<()> {
    let python = super::prepare(surroundings, json, |rivals| {
        rivals.check_headers(surroundings)
    })?;
    let (steps, rows) = steps(surroundings, &python, effort);
    let plan = Plan {
        name: "latency",
        work: WORK.to_string(),
        steps,
        rows,
    };
    super::run::<LatencyRow>(surroundings, &plan, effort, json)
}

/// The build, the exports of each network, and one measurement per case, with the names of the files of rows.
fn steps(surroundings: &Surroundings, python: &str, effort: Effort) -> (Vec<Step>, Vec<String>) {
    let export = |name, line: String| programs::run(surroundings, name, "ebm-export", &line);
    let purify = surroundings.target().join("release/purify");
    let mut steps = vec![programs::build(programs::EVERYTHING)];
    let mut rows = Vec::new();
    let (networks, batches, threads, rounds) = match effort {
        Effort::Full => (NETWORKS, usize::MAX, &THREADS[..], 9),
        Effort::Quick => (&NETWORKS[..1], 1, &THREADS[..1], 5),
    };
    for network in networks {
        let Network {
            name,
            width,
            description,
            ..
        } = network;
        let folder = format!("{WORK}/{name}-{width}");
        let file = |kind: &str, options: &str| {
            format!("onnx {folder}/checkpoint -o {folder}/{kind}{options}")
        };
        steps.extend([
            export(
                "random weights",
                format!("init {description} -o {folder}/checkpoint"),
            ),
            export("export with rewrites", file("rewritten", "")),
            export("export for tract", file("tract", " --target tract")),
            export("export without rewrites", file("raw", " --raw")),
        ]);
        // Compilation takes longer than everything else.
        let compiled = if *name == "sngan32" {
            " --compiled"
        } else {
            ""
        };
        for &(batch, n_steps) in network.batches.iter().take(batches) {
            for n_threads in threads {
                let output = format!("{name}-{width}-{batch}-{n_threads}.json");
                let line = format!(
                    "{RIVAL} --name {name} --checkpoint {folder}/checkpoint --model {folder}/rewritten --tract-model {folder}/tract \
                     --raw-model {folder}/raw --purify {}{compiled} --batch {batch} --threads {n_threads} --steps {n_steps} --rounds {rounds} \
                     --output {WORK}/{output}",
                    purify.display()
                );
                rows.push(output);
                steps.push(Step::new("measurement", python, &line));
            }
        }
    }
    (steps, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_measured_once_and_has_rows_of_its_own() {
        let surroundings = Surroundings::new("/clone", []);
        let (steps, mut rows) = steps(&surroundings, "python3", Effort::Full);
        let typed: Vec<String> = steps
            .iter()
            .map(|step| step.typed(surroundings.workspace()))
            .collect();
        let count = |pattern: &str| typed.iter().filter(|line| line.contains(pattern)).count();
        assert_eq!(count("ebm-export init "), NETWORKS.len());
        assert_eq!(count(RIVAL), 22);
        rows.sort();
        rows.dedup();
        assert_eq!(rows.len(), 22);
    }
}
