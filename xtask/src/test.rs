//! `cargo xtask test`: everything that a change has to pass, in one command.

use anyhow::Result;

use crate::setup::{self, Libtorch};
use crate::step::{self, Step};
use crate::surroundings::Surroundings;

/// Sets up, then runs every step in order and stops at the first that fails.
pub fn test(surroundings: &Surroundings) -> Result<()> {
    setup::setup(surroundings, Libtorch::AsLinked)?;
    step::run_all(surroundings, &steps(surroundings))
}

/// The steps, cheap ones first. One profile and one set of features, so that they share what they build.
fn steps(surroundings: &Surroundings) -> Vec<Step> {
    let no_libtorch = surroundings
        .workspace()
        .join(".deps/no-libtorch")
        .display()
        .to_string();
    let built = surroundings.workspace().join("target/release");
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
            "check --release -p ebm-runtime --no-default-features --features tract",
        )
        .with("LIBTORCH", no_libtorch.as_str()),
    ]
}
