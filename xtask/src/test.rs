//! `cargo xtask test`: everything that a change has to pass, in one command.

use anyhow::{Result, bail};

use crate::bench::{self, Effort};
use crate::platform::{EVERYWHERE, PLATFORMS, weighing};
use crate::programs::EVERYTHING;
use crate::setup::{self, Libtorch};
use crate::step::{self, Step};
use crate::surroundings::Surroundings;

/// Sets up, then runs every step in order and stops at the first that fails.
pub fn test(surroundings: &Surroundings) -> Result<()> {
    setup::setup(surroundings, Libtorch::AsLinked)?;
    let mut steps = steps(surroundings);
    let mut left_out = String::new();
    for platform in PLATFORMS {
        match platform.steps(surroundings) {
            Ok(more) => steps.extend(more),
            Err(reason) => left_out += &format!("SKIPPED: {reason}\n"),
        }
    }
    if !left_out.is_empty() && surroundings.variable(EVERYWHERE).is_some() {
        bail!("{EVERYWHERE} is set, and not everything can be tested here:\n{left_out}");
    }
    // Once before the work, and once at the end, where it does not scroll away.
    print!("{left_out}");
    let result = step::run_all(surroundings, &steps);
    print!("{left_out}");
    result
}

/// Runs every benchmark once, on one case, to see that it runs.
pub fn benches(surroundings: &Surroundings) -> Result<()> {
    bench::ALL
        .iter()
        .try_for_each(|bench| bench(surroundings, Effort::Quick, None))
}

/// The steps on this machine, cheap ones first. What is built and what is only checked have one selection of packages and features each, so that
/// nothing is built twice.
fn steps(surroundings: &Surroundings) -> Vec<Step> {
    let cargo = |name, line: &str| Step::cargo(name, &line.replace("{everything}", EVERYTHING));
    let no_libtorch = surroundings.workspace().join(".deps/no-libtorch");
    let no_libtorch = no_libtorch.display().to_string();
    let installed = surroundings
        .target()
        .join("installed")
        .display()
        .to_string();
    let built = surroundings.target().join("release").display().to_string();
    let smallest = surroundings.target().join("smallest").display().to_string();
    vec![
        cargo("formatting", "fmt --all --check"),
        cargo("lints", "clippy {everything} --all-targets -- -D warnings"),
        cargo("documentation", "doc {everything} --no-deps").with("RUSTDOCFLAGS", "-D warnings"),
        cargo(
            "without libtorch",
            "check --release -p ebm-export-cli -p ebm-runtime-c -p ebm-runtime-cli",
        )
        .with("LIBTORCH", &no_libtorch),
        cargo(
            "on the engine alone",
            "check --release -p ebm-runtime --no-default-features --features native",
        )
        .with("LIBTORCH", &no_libtorch),
        cargo("programs", "xtask install --as-tested --root").argument(&installed),
        // Tests start programs: two that spin in OpenMP on the same cores run many times slower than two that do not.
        cargo("tests", "test {everything}")
            .with("OMP_NUM_THREADS", "1")
            .with("EBM_INSTALLED", &installed)
            // The step before has built the library for C, with the features of the tests.
            .with("EBM_RUNTIME_LIBRARY", &built),
        // In a folder of its own, since the tests run the whole one.
        cargo(
            "purify on the engine alone",
            "build --profile web -p ebm-runtime-cli --no-default-features --target-dir",
        )
        .argument(&smallest)
        .with("LIBTORCH", &no_libtorch),
        weighing("purify_alone").with("EBM_SMALLEST_PURIFY", format!("{smallest}/web/purify")),
    ]
}
