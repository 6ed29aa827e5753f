//! `cargo xtask api`: whether programs that were written for an earlier revision still compile against the libraries.

use anyhow::{Result, bail};

use crate::step::{self, Step};
use crate::surroundings::Surroundings;

/// The program that compares.
const PROGRAM: &str = "cargo-semver-checks";

/// The packages whose public items are kept.
const PACKAGES: [&str; 1] = ["ebm-runtime"];

/// Compares the public items of the working tree with those of a git revision.
pub fn api(surroundings: &Surroundings, revision: &str) -> Result<()> {
    if surroundings.find_program(PROGRAM).is_none() {
        bail!(
            "{PROGRAM} compares the public items and is not installed: run `cargo install {PROGRAM} --locked` (some minutes, once)"
        );
    }
    let packages = PACKAGES.map(|package| format!("--package {package}"));
    let line = format!("semver-checks {} --baseline-rev", packages.join(" "));
    let compare = Step::cargo("public items", &line).argument(revision);
    step::run_all(surroundings, &[compare])
}
