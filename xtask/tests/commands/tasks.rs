//! `cargo xtask test` and `cargo xtask demo` with a cargo and programs that only say what they were told.

use std::fs;
use std::path::PathBuf;

use crate::fixture::Fixture;
use xtask::demo::{self, Existing};
use xtask::surroundings::Surroundings;
use xtask::test;

/// Logs its arguments and what it sees of LIBTORCH and OMP_NUM_THREADS, and fails when told to.
const CARGO: &str = r#"#!/bin/sh
echo "$* [${LIBTORCH##*/}] [$OMP_NUM_THREADS]" >> "$FIXTURE/steps"
[ "$1" != "$FAILING" ]
"#;

/// A program of the workspace: logs its own name and arguments.
const PROGRAM: &str = "#!/bin/sh\necho \"${0##*/} $*\" >> \"$FIXTURE/steps\"\n";

/// A fixture with libraries of the user's own, so that no set-up gets in the way.
fn fixture_and_surroundings(failing: &str) -> (Fixture, Surroundings) {
    let fixture = Fixture::new();
    let own = fixture.folder().join("own-libtorch");
    fs::create_dir_all(own.join("lib")).unwrap();
    fs::write(own.join("lib/libtorch_cpu.so"), "").unwrap();
    fs::write(own.join("build-version"), "2.11.0").unwrap();
    fixture.program("cargo", CARGO);
    let cargo = fixture.folder().join("bin/cargo");
    let library = own.join("lib/libtorch_cpu.so");
    let surroundings = fixture.surroundings(&[
        ("CARGO", &cargo),
        ("LIBTORCH", &own),
        ("ORT_DYLIB_PATH", &library),
        ("FAILING", &PathBuf::from(failing)),
    ]);
    (fixture, surroundings)
}

fn steps(fixture: &Fixture) -> Vec<String> {
    let log = fs::read_to_string(fixture.folder().join("steps")).unwrap_or_default();
    log.lines().map(String::from).collect()
}

#[test]
fn the_steps_of_test_run_in_order() {
    let (fixture, surroundings) = fixture_and_surroundings("");
    test::test(&surroundings).unwrap();
    let steps = steps(&fixture);
    let commands: Vec<&str> = steps
        .iter()
        .filter_map(|step| step.split(' ').next())
        .collect();
    assert_eq!(
        commands,
        ["fmt", "clippy", "doc", "build", "test", "build", "check"]
    );
    assert!(steps[4].ends_with("[own-libtorch] [1]"), "{}", steps[4]);
    assert!(
        steps[5].ends_with("-p ebm-export -p ebm-runtime [no-libtorch] []"),
        "{}",
        steps[5]
    );
}

#[test]
fn a_failing_step_ends_test_with_the_command_that_repeats_it() {
    let (fixture, surroundings) = fixture_and_surroundings("doc");
    let error = test::test(&surroundings).unwrap_err().to_string();
    assert!(
        error.contains("RUSTDOCFLAGS='-D warnings' cargo doc --release"),
        "{error}"
    );
    assert_eq!(steps(&fixture).len(), 3);
}

#[test]
fn a_demo_runs_its_stages_and_may_be_repeated() {
    let (fixture, surroundings) = fixture_and_surroundings("");
    let target = surroundings.target().join("release");
    fs::create_dir_all(&target).unwrap();
    for name in ["trainer", "export", "life_cycle_report"] {
        fixture.program(name, PROGRAM);
        fs::rename(fixture.folder().join("bin").join(name), target.join(name)).unwrap();
    }
    for _ in 0..2 {
        demo::demo(&surroundings, Existing::OfDemo).unwrap();
    }
    let steps = steps(&fixture);
    let programs: Vec<&str> = steps
        .iter()
        .filter_map(|step| step.split(' ').next())
        .collect();
    let once = [
        "build",
        "trainer",
        "trainer",
        "export",
        "export",
        "trainer",
        "life_cycle_report",
    ];
    assert_eq!(programs, [once, once].concat());
    assert!(
        !steps.iter().any(|step| step.contains('{')),
        "every placeholder is filled: {steps:?}"
    );
}

#[test]
fn a_demo_asks_before_it_touches_a_folder_of_someone_else() {
    let (fixture, surroundings) = fixture_and_surroundings("");
    fs::create_dir(fixture.clone().join("demo")).unwrap();
    let error = demo::demo(&surroundings, Existing::OfDemo)
        .unwrap_err()
        .to_string();
    assert!(error.contains("--force"), "{error}");
    assert_eq!(
        steps(&fixture).len(),
        0,
        "nothing was built before the refusal"
    );
}
