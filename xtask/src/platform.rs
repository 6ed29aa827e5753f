//! Platforms other than this machine's, for which the runtime is built and on which its tests run.

use crate::programs::EVERYTHING;
use crate::step::Step;
use crate::surroundings::Surroundings;
use crate::{browser, tool};

/// Set to anything, it makes a platform that cannot be tested here a failure.
pub const EVERYWHERE: &str = "EBM_TEST_EVERYWHERE";

/// A platform, and what its tests need on this machine.
pub struct Platform {
    title: &'static str,
    target: &'static str,
    /// Programs, each by the names that it has, and the package of Debian that brings it.
    programs: &'static [(&'static [&'static str], &'static str)],
    steps: fn(&Surroundings) -> Vec<Step>,
}

/// All of them.
pub const PLATFORMS: [Platform; 2] = [
    Platform {
        title: "browsers",
        target: browser::TARGET,
        programs: &[(CHROMIUM, "chromium")],
        steps: browser_steps,
    },
    Platform {
        title: "aarch64",
        target: AARCH64,
        programs: &[
            (
                &[CROSS_COMPILER],
                "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
            ),
            (&[EMULATOR], "qemu-user"),
        ],
        steps: aarch64_steps,
    },
];

const CHROMIUM: &[&str] = &[
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];

const AARCH64: &str = "aarch64-unknown-linux-gnu";
const CROSS_COMPILER: &str = "aarch64-linux-gnu-gcc";
const CROSS_STRIP: &str = "aarch64-linux-gnu-strip";
const EMULATOR: &str = "qemu-aarch64";
/// The program that is weighed, below a folder of what is built.
const SMALLEST: &str = "release/examples/smallest";
/// Where the emulator finds the libraries of the platform.
const SYSROOT: &str = "/usr/aarch64-linux-gnu";

impl Platform {
    /// The steps that build and test for the platform; if it cannot be tested here, one sentence that says what to install.
    pub fn steps(&self, surroundings: &Surroundings) -> Result<Vec<Step>, String> {
        let mut commands = Vec::new();
        if tool::target(surroundings, self.target).is_err() {
            commands.push(format!("rustup target add {}", self.target));
        }
        let is_missing = |names: &[&str]| find(surroundings, names).is_none();
        let missing = self.programs.iter().filter(|(names, _)| is_missing(names));
        let packages: Vec<&str> = missing.map(|&(_, package)| package).collect();
        if !packages.is_empty() {
            commands.push(format!("apt-get install {}", packages.join(" ")));
        }
        match commands.as_slice() {
            [] => Ok((self.steps)(surroundings)),
            _ => Err(format!(
                "the tests for {} cannot run on this machine: run `{}`",
                self.title,
                commands.join(" && ")
            )),
        }
    }
}

/// The page, and the same purifications in it as in this machine's own program.
fn browser_steps(surroundings: &Surroundings) -> Vec<Step> {
    let page = surroundings.target().join(browser::PAGE);
    vec![
        Step::cargo("page for browsers", "xtask browser"),
        // With the features of the tests before, since then nothing has to be built again.
        Step::cargo(
            "tests in a browser",
            &format!("test {EVERYTHING} --test browser -- --ignored --nocapture"),
        )
        .with("EBM_BROWSER_PAGE", page.display().to_string())
        .with(
            "EBM_CHROMIUM",
            find(surroundings, CHROMIUM).unwrap_or_default(),
        ),
    ]
}

/// The test of a size.
pub fn weighing(test: &str) -> Step {
    let line = format!("test {EVERYTHING} --test suite lightness::{test} -- --ignored --nocapture");
    Step::cargo("size", &line)
}

/// The tests, and the smallest program, which takes what was built for them.
fn aarch64_steps(surroundings: &Surroundings) -> Vec<Step> {
    let cargo = |name, command: &str, what: &str| {
        let line = format!(
            "{command} --release -p ebm-runtime --no-default-features --features native,png {what} --target {AARCH64}"
        );
        Step::cargo(name, &line).with(
            "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER",
            CROSS_COMPILER,
        )
    };
    let runner = format!("{EMULATOR} -L {SYSROOT}");
    let program = surroundings.target().join(AARCH64).join(SMALLEST);
    vec![
        cargo("tests on aarch64", "test", "--tests")
            .with("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", &runner),
        cargo("smallest program", "build", "--example smallest"),
        weighing("the_smallest_program")
            .with("EBM_SMALLEST_PROGRAM", program.display().to_string())
            .with("EBM_SMALLEST_STRIP", CROSS_STRIP)
            .with("EBM_SMALLEST_RUNNER", &runner),
    ]
}

/// The first of these programs that is there.
fn find(surroundings: &Surroundings, names: &[&str]) -> Option<String> {
    let mut found = names
        .iter()
        .filter_map(|name| surroundings.find_program(name));
    found.next().map(|program| program.display().to_string())
}
