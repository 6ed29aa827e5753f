//! `cargo xtask demo`: learn, export, attack, purify and certify on the bundled digits.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::programs;
use crate::setup::{self, Libtorch};
use crate::step::{self, Step};
use crate::surroundings::Surroundings;

/// Where everything goes, below the root of the clone.
const FOLDER: &str = "demo";

/// File in [`FOLDER`] that says who wrote it.
const MARKER: &str = ".written-by-cargo-xtask-demo";

/// What a demo writes into [`FOLDER`]. Nothing else in there is ever removed.
const WRITTEN: &[&str] = &[
    "classifier",
    "energy",
    "model",
    "attack",
    "results.json",
    "summary.png",
];

/// Bound of the attack, as the largest change of a pixel in [0, 1].
const EPSILON: &str = "0.125";

/// The stages: name, program, and what it is told. How images are purified is as the preset recommends; that was compared with other numbers of steps on
/// validation images, which are neither learned from nor among those attacked here (`benches/results/demo-2026-12-01-xeon-2-cores.md`). `{epsilon}` stands for [`EPSILON`].
const STAGES: &[(&str, &str, &str)] = &[
    (
        "learn a classifier",
        "trainer",
        "classifier digits-classifier -o demo/classifier",
    ),
    (
        "learn an energy network",
        "trainer",
        "fit digits-midrun -o demo/energy",
    ),
    (
        "export the energy and its gradient",
        "ebm-export",
        "onnx demo/energy -o demo/model",
    ),
    (
        "export the classifier",
        "ebm-export",
        "onnx demo/classifier -o demo/model",
    ),
    (
        "attack",
        "trainer",
        "attack --energy demo/energy --classifier demo/classifier --epsilon {epsilon} --protocol quick -n 100 --in-all 48 --pgd-steps 20 --curves epsilon -o demo/attack",
    ),
    (
        "purify with the exported model, and certify the first test images",
        "life_cycle_report",
        "--model demo/model --attack demo/attack --epsilon {epsilon} --certify 0.1 --draws 500 -o demo",
    ),
];

/// What a user types next: program, and what it is told.
const NEXT: (&str, &str) = (
    "trainer",
    "fit mnist-midrun --data FOLDER_OF_YOUR_IDX_FILES -o runs/mine",
);

/// What to do with a folder `demo` that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Overwrite it only if an earlier demo wrote it.
    OfDemo,
    /// Overwrite it whoever wrote it.
    Any,
}

/// Sets up, builds, and runs the stages.
pub fn demo(surroundings: &Surroundings, existing: Existing) -> Result<()> {
    let folder = surroundings.workspace().join(FOLDER);
    check(&folder, existing)?;
    setup::setup(surroundings, Libtorch::AsLinked)?;
    step::run_all(surroundings, &[programs::build(programs::FOR_USERS)])?;
    prepare(&folder)?;
    let started = Instant::now();
    step::run_all(surroundings, &stages(surroundings))?;
    println!(
        "The demo took {:.0} s after the build.",
        started.elapsed().as_secs_f64()
    );
    println!("Table and pictures: {FOLDER}/results.json, {FOLDER}/summary.png");
    println!(
        "These are attacks that were tried, from BPDA to exact gradients: no accuracy under attack is a guarantee. The certificates hold \
         whatever is tried, but for smaller changes."
    );
    let next = programs::run(surroundings, "next", NEXT.0, NEXT.1);
    println!(
        "Next, on images of your own:\n  {}",
        next.typed(surroundings.workspace())
    );
    Ok(())
}

/// Refuses a folder that no demo wrote, before any work starts.
fn check(folder: &Path, existing: Existing) -> Result<()> {
    let is_foreign = folder.symlink_metadata().is_ok() && !folder.join(MARKER).is_file();
    if is_foreign && existing == Existing::OfDemo {
        bail!(
            "{} was not written by a demo: move it away, or repeat with --force to overwrite {} in it",
            folder.display(),
            WRITTEN.join(", ")
        );
    }
    Ok(())
}

/// Makes the folder, marks it, and removes what an earlier demo wrote.
fn prepare(folder: &Path) -> Result<()> {
    let could_not = || format!("could not prepare {}", folder.display());
    fs::create_dir_all(folder).with_context(could_not)?;
    fs::write(
        folder.join(MARKER),
        "`cargo xtask demo` overwrites its own files in this folder.\n",
    )
    .with_context(could_not)?;
    for name in WRITTEN {
        let path = folder.join(name);
        let Ok(metadata) = path.symlink_metadata() else {
            continue;
        };
        let removed = if metadata.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.with_context(|| format!("could not remove {}", path.display()))?;
    }
    Ok(())
}

fn stages(surroundings: &Surroundings) -> Vec<Step> {
    let stage = |&(name, program, line): &(&'static str, &str, &str)| {
        let line = line.replace("{epsilon}", EPSILON);
        programs::run(surroundings, name, program, &line)
    };
    STAGES.iter().map(stage).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_someone_else_is_refused_unless_forced() {
        let clone = tempfile::tempdir().unwrap();
        let folder = clone.path().join(FOLDER);
        check(&folder, Existing::OfDemo).unwrap();
        fs::create_dir(&folder).unwrap();
        let error = check(&folder, Existing::OfDemo).unwrap_err().to_string();
        assert!(
            error.contains("was not written by a demo") && error.contains("--force"),
            "{error}"
        );
        check(&folder, Existing::Any).unwrap();
    }

    #[test]
    fn a_demo_removes_only_what_demos_write() {
        let clone = tempfile::tempdir().unwrap();
        let folder = clone.path().join(FOLDER);
        fs::create_dir_all(folder.join("energy")).unwrap();
        fs::write(folder.join("results.json"), "{}").unwrap();
        fs::write(folder.join("notes.txt"), "mine").unwrap();
        prepare(&folder).unwrap();
        check(&folder, Existing::OfDemo).unwrap();
        assert!(!folder.join("energy").exists() && !folder.join("results.json").exists());
        assert_eq!(
            fs::read_to_string(folder.join("notes.txt")).unwrap(),
            "mine"
        );
    }

    #[test]
    fn stages_write_only_what_the_next_demo_removes() {
        for (name, _, line) in STAGES {
            let words: Vec<&str> = line.split_whitespace().collect();
            let output = words
                .iter()
                .position(|word| *word == "-o")
                .map(|index| words[index + 1])
                .unwrap();
            let is_known = WRITTEN
                .iter()
                .any(|written| output == format!("{FOLDER}/{written}"));
            assert!(is_known || output == FOLDER, "{name} writes {output}");
        }
    }
}
