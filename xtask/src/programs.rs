//! The programs of this workspace, as the tasks that use them build and run them.

use crate::step::Step;
use crate::surroundings::Surroundings;

/// Packages and features of every build for tests and benchmarks. Another selection would have other features of shared dependencies, `syn` for example,
/// and then nearly everything would be built a second time.
pub const EVERYTHING: &str = "--release --workspace --features ebm-runtime/ort,ebm-runtime/tract";

/// The same for those who use the programs: without the backend tract, which takes longer to build than all the rest.
pub const FOR_USERS: &str = "--release --workspace --features ebm-runtime/ort";

/// The step that builds a selection.
pub fn build(selection: &str) -> Step {
    Step::cargo("build", &format!("build {selection}"))
}

/// A step that runs one of them.
pub fn run(surroundings: &Surroundings, name: &'static str, program: &str, line: &str) -> Step {
    let path = surroundings.target().join("release").join(program);
    Step::new(name, path.display().to_string(), line)
}
