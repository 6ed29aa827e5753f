//! `cargo xtask test`: everything that a change has to pass, in one command.

use anyhow::{Result, bail};

use crate::platform::{EVERYWHERE, PLATFORMS};
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
    // Once before the work, and once where it is not scrolled away.
    print!("{left_out}");
    let result = step::run_all(surroundings, &steps);
    print!("{left_out}");
    result
}

/// The steps, cheap ones first. One profile and one set of features, so that they share what they build.
fn steps(surroundings: &Surroundings) -> Vec<Step> {
    let no_libtorch = surroundings
        .workspace()
        .join(".deps/no-libtorch")
        .display()
        .to_string();
    let built = surroundings.workspace().join("target/release");
    let smallest = built.join("examples/smallest");
    vec![
        Step::cargo("formatting", "fmt --all --check"),
        Step::cargo(
            "lints",
            "clippy --release --workspace --all-targets --features ebm-runtime/ort -- -D warnings",
        ),
        Step::cargo(
            "documentation",
            "doc --release --workspace --no-deps --features ebm-runtime/ort",
        )
        .with("RUSTDOCFLAGS", "-D warnings"),
        Step::cargo(
            "build",
            "build --release --workspace --features ebm-runtime/ort",
        ),
        // Tests start programs: two that spin in OpenMP on the same cores run many times slower than two that do not.
        Step::cargo(
            "tests",
            "test --release --workspace --features ebm-runtime/ort",
        )
        .with("OMP_NUM_THREADS", "1")
        // The step before has built the library for C, with the features of the tests.
        .with("EBM_RUNTIME_LIBRARY", built.display().to_string()),
        Step::cargo(
            "build without libtorch",
            "build --release -p ebm-export -p ebm-runtime -p ebm-runtime-c",
        )
        .with("LIBTORCH", no_libtorch.as_str()),
        Step::cargo(
            "runtime on tract alone",
            "build --release -p ebm-runtime --no-default-features --features tract --example smallest",
        )
        .with("LIBTORCH", no_libtorch.as_str()),
        Step::cargo(
            "size of the smallest program",
            "test --release --workspace --features ebm-runtime/ort --test suite lightness -- --ignored --nocapture",
        )
        .with("EBM_SMALLEST_PROGRAM", smallest.display().to_string()),
    ]
}
