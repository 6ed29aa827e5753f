//! The programs of this workspace, as the tasks that use them build and run them.

use crate::step::Step;
use crate::surroundings::Surroundings;

/// Packages and features of every build. Another selection would have other features of shared dependencies, `syn` for example, and then nearly
/// everything would be built a second time.
pub const EVERYTHING: &str = "--release --workspace --features ebm-runtime/ort";

/// The step that builds them all.
pub fn build() -> Step {
    Step::cargo("build", &format!("build {EVERYTHING}"))
}

/// A step that runs one of them.
pub fn run(surroundings: &Surroundings, name: &'static str, program: &str, line: &str) -> Step {
    let path = surroundings.target().join("release").join(program);
    Step::new(name, path.display().to_string(), line)
}
