//! Runs that were interrupted go on.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use predicates::prelude::*;
use predicates::str::contains;

use crate::workbench::{GREY, Workbench, fixture, npy};

/// Pictures, an array and an array within a zip's order of names: a, b/0 … b/11, c.
fn fill(bench: &Workbench) {
    bench.file("in/a.npy", &npy("|u1", "(12, 8, 8)", &[40; 768]));
    for i in 0..12 {
        bench.image(&format!("in/b/{i:02}.png"), GREY, 20 * i);
    }
    let floats: Vec<u8> = 0.1_f32.to_le_bytes().repeat(768);
    bench.file("in/c.npy", &npy("<f4", "(12, 8, 8)", &floats));
}

fn contents(bench: &Workbench, folder: &str) -> BTreeMap<String, Vec<u8>> {
    let names = bench.list(folder).into_iter();
    names
        .map(|name| (name.clone(), bench.bytes(&format!("{folder}/{name}"))))
        .collect()
}

/// Slow enough to be killed in the middle, one image at a time.
const SLOW: [&str; 6] = ["--batch", "1", "--threads", "1", "--steps", "3000"];

fn start(bench: &Workbench, arguments: &[&str]) -> Child {
    let slow: &[&str] = if arguments.contains(&"--steps") {
        &[]
    } else {
        &SLOW
    };
    Command::new(env!("CARGO_BIN_EXE_purify"))
        .args(["run", "in", "-o", "out", "--model"])
        .arg(fixture("digits"))
        .args(slow)
        .args(arguments)
        .current_dir(bench.path(""))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The seed of a run, as its journal has it.
fn seed(bench: &Workbench, folder: &str) -> String {
    let journal = bench.bytes(&format!("{folder}/.purify.jsonl"));
    let first = String::from_utf8_lossy(&journal)
        .lines()
        .next()
        .map(String::from);
    let settings: serde_json::Value = serde_json::from_str(&first.unwrap()).unwrap();
    settings["settings"]["seed"].to_string()
}

/// Lines of the journal.
fn n_lines(bench: &Workbench) -> usize {
    let journal = std::fs::read(bench.path("out/.purify.jsonl")).unwrap_or_default();
    journal.iter().filter(|&&byte| byte == b'\n').count()
}

/// `Child::kill` is SIGKILL: nothing can be tidied up.
fn kill_when_there_are(bench: &Workbench, mut child: Child, n: usize) {
    let started = Instant::now();
    while n_lines(bench) < n && started.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(1));
        if child.try_wait().unwrap().is_some() {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_with_the_same_files_and_lines() {
    for arguments in [
        &[][..],
        &["--filter-top", "50"],
        &["--replicas", "2", "--keep-originals"],
    ] {
        let bench = Workbench::new();
        fill(&bench);
        bench
            .run(&["in", "-o", "whole"])
            .args(SLOW)
            .args(arguments)
            .assert()
            .success();
        // The first part is told its seed, the others keep it.
        let chosen = ["--seed".to_owned(), seed(&bench, "whole")];
        let mut first: Vec<&str> = arguments.to_vec();
        first.extend(chosen.iter().map(String::as_str));
        for n in [2, 6, 11, 15, 20, 27, 31] {
            let arguments = match n {
                2 => &first[..],
                _ => arguments,
            };
            kill_when_there_are(&bench, start(&bench, arguments), n);
            for (name, bytes) in contents(&bench, "out") {
                if !name.contains("/.") && !name.starts_with('.') {
                    let whole = bench.bytes(&format!("whole/{name}"));
                    assert!(
                        bytes == whole,
                        "{name} is whole after {n} lines, {arguments:?}"
                    );
                }
            }
        }
        let n_before = n_lines(&bench);
        bench
            .run(&["in", "-o", "out"])
            .args(SLOW)
            .args(arguments)
            .assert()
            .success();
        assert!(
            contents(&bench, "out") == contents(&bench, "whole"),
            "{arguments:?}"
        );
        // Settings, 36 images, summary: nothing was done twice but what was in the works.
        assert!(
            n_before > 1 && n_lines(&bench) >= 38,
            "{n_before}, {}",
            n_lines(&bench)
        );
        let records = |folder: &str| {
            let journal = bench.bytes(&format!("{folder}/.purify.jsonl"));
            let text = String::from_utf8(journal).unwrap();
            let mut lines: Vec<_> = text
                .lines()
                .filter(|l| l.contains("\"place\""))
                .map(String::from)
                .collect();
            lines.dedup();
            lines
        };
        assert_eq!(records("out"), records("whole"), "{arguments:?}");
    }
}

#[test]
fn a_complete_run_does_nothing_the_second_time_and_tells_the_same() {
    let bench = Workbench::new();
    fill(&bench);
    let run = || bench.run(&["in", "-o", "out", "--json"]).output().unwrap();
    let first = String::from_utf8(run().stdout).unwrap();
    let modified = |name: &str| {
        std::fs::metadata(bench.path(name))
            .unwrap()
            .modified()
            .unwrap()
    };
    let before = modified("out/b/00.png");
    let second = run();
    let errors = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        errors.contains("purified 36 of 36 images into `out`, 36 done by an earlier run"),
        "{errors}"
    );
    let second = String::from_utf8(second.stdout).unwrap();
    let records = |text: &str| -> Vec<String> { text.lines().take(37).map(String::from).collect() };
    assert_eq!(records(&first), records(&second));
    assert_eq!(modified("out/b/00.png"), before);
}

#[test]
fn what_was_removed_or_mended_is_made_again() {
    let bench = Workbench::new();
    fill(&bench);
    bench.file("in/b/05.png", b"damaged");
    bench
        .run(&["in", "-o", "out"])
        .assert()
        .code(3)
        .stderr(contains("left out: `in/b/05.png`"));
    bench
        .run(&["in", "-o", "out"])
        .assert()
        .code(3)
        .stderr(contains("1 failed, 35 done by"));
    bench.image("in/b/05.png", GREY, 100);
    std::fs::remove_file(bench.path("out/b/07.png")).unwrap();
    std::fs::remove_file(bench.path("out/a.npy")).unwrap();
    bench
        .run(&["in", "-o", "out"])
        .assert()
        .success()
        .stderr(contains("purified 36 of 36").and(contains("22 done by an earlier run")));
    bench
        .run(&["in", "-o", "whole", "--seed", &seed(&bench, "out")])
        .assert()
        .success();
    assert!(contents(&bench, "out") == contents(&bench, "whole"));
}

/// A fixed seed would be known noise.
#[test]
fn every_run_draws_a_seed_and_prints_it_and_one_that_goes_on_keeps_it() {
    let bench = Workbench::new();
    bench.image("a.png", GREY, 90);
    let run = |arguments: &[&str]| {
        let output = bench.run(&["a.png"]).args(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        said
    };
    let said = run(&["-o", "one"]);
    let drawn = seed(&bench, "one");
    assert!(
        said.contains(&format!("seed {drawn}; --seed {drawn} repeats this run")),
        "{said}"
    );
    run(&["-o", "two"]);
    assert_ne!(seed(&bench, "two"), drawn);
    assert_ne!(bench.bytes("two/a.png"), bench.bytes("one/a.png"));
    run(&["-o", "three", "--seed", &drawn]);
    assert_eq!(bench.bytes("three/a.png"), bench.bytes("one/a.png"));
    let said = run(&["-o", "one"]);
    assert!(
        said.contains(&format!("seed {drawn};")) && said.contains("1 done by an earlier run"),
        "{said}"
    );
    run(&["-o", "one", "--force"]);
    assert_ne!(seed(&bench, "one"), drawn);
    // What is not noise has no seed.
    let said = run(&["-o", "four", "--jpeg", "50"]);
    assert!(!said.contains("seed"), "{said}");
    assert_eq!(seed(&bench, "four"), "null");
}

#[test]
fn other_settings_another_model_and_another_list_are_refused_by_name() {
    let bench = Workbench::new();
    fill(&bench);
    bench
        .run(&["in", "-o", "out", "--seed", "1"])
        .assert()
        .success();
    let refused = |arguments: &[&str], part: &str| {
        bench
            .run(&["in", "-o", "out"])
            .args(arguments)
            .assert()
            .code(1)
            .stderr(contains("`out` holds a run with other settings: ").and(contains(part)));
    };
    refused(&["--seed", "2"], "seed was 1 and is 2; give the same ones");
    refused(
        &["--seed", "1", "--steps", "7"],
        "other settings: steps was 20 and is 7;",
    );
    refused(
        &["--seed", "1", "--filter-top", "5"],
        "filter_top was null and is 5.0;",
    );
    refused(&["--jpeg", "50"], "jpeg was null and is 50");
    // Speed is no setting of the result.
    bench
        .run(&[
            "in",
            "-o",
            "out",
            "--seed",
            "1",
            "--batch",
            "3",
            "--threads",
            "1",
        ])
        .assert()
        .success();
    let model = bench.path("model");
    std::fs::create_dir(&model).unwrap();
    let mut other = std::fs::read(fixture("digits/step.onnx")).unwrap();
    // An unknown field of a protobuf message, which is passed over.
    other.extend([0xf8, 0x07, 0x01]);
    std::fs::write(model.join("step.onnx"), other).unwrap();
    bench
        .purify(&["run", "in", "-o", "out", "--seed", "1", "--model", "model"])
        .assert()
        .code(1)
        .stderr(contains("model_sha256 was"));
    bench.image("in/b/99.png", GREY, 9);
    refused(
        &["--seed", "1"],
        "files was 14 and is 15, images was 36 and is 37",
    );
    bench
        .run(&["in", "-o", "out", "--seed", "2", "--force"])
        .assert()
        .success();
    assert_eq!(bench.list("out").len(), 15);
}

/// A complete run leaves the folder free for others whose names are free.
#[test]
fn pictures_can_be_purified_into_one_folder_one_after_another() {
    let bench = Workbench::new();
    bench.image("a.png", GREY, 9);
    bench.image("b.png", GREY, 9);
    bench.run(&["a.png", "-o", "out"]).assert().success();
    let first = seed(&bench, "out");
    bench.run(&["b.png", "-o", "out"]).assert().success();
    assert_ne!(seed(&bench, "out"), first, "other pictures, other noise");
    assert_eq!(bench.list("out"), ["a.png", "b.png"]);
    bench
        .run(&["a.png", "-o", "out"])
        .assert()
        .code(1)
        .stderr(contains("other settings"));
}

#[test]
fn two_runs_do_not_meet_in_one_folder() {
    let bench = Workbench::new();
    fill(&bench);
    let mut child = start(&bench, &["--steps", "1000000"]);
    let started = Instant::now();
    while n_lines(&bench) < 1 && started.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(1));
    }
    bench
        .run(&["in", "-o", "out", "--force"])
        .assert()
        .code(1)
        .stderr(contains("`out`: another run works in this folder"));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_journal_that_is_torn_or_foreign() {
    let bench = Workbench::new();
    fill(&bench);
    let run = |output| bench.run(&["in", "-o", output, "--seed", "6"]);
    run("whole").assert().success();
    run("out").assert().success();
    let journal = bench.bytes("out/.purify.jsonl");
    for n in [0, 1, 100, journal.len() / 2, journal.len() - 1] {
        bench.file("out/.purify.jsonl", &journal[..n]);
        let has_settings = journal[..n].contains(&b'\n');
        let assertion = run("out").assert();
        match has_settings {
            true => drop(assertion.success()),
            false => drop(assertion.code(1).stderr(contains("exists; give --force"))),
        }
        assert!(
            contents(&bench, "out") == contents(&bench, "whole"),
            "{n} bytes"
        );
    }
    bench.file("out/.purify.jsonl", b"a poem\n");
    bench
        .run(&["in", "-o", "out"])
        .assert()
        .code(1)
        .stderr(contains(
            "expected what an earlier run has left, got something else",
        ));
    run("out").arg("--force").assert().success();
    assert!(contents(&bench, "out") == contents(&bench, "whole"));
}

/// Energies that an interrupted run has measured are taken; those of another run are not.
#[test]
fn energies_belong_to_their_run() {
    let bench = Workbench::new();
    for (name, byte) in [("a", 0), ("b", 100), ("c", 200)] {
        bench.image(&format!("in/{name}.png"), GREY, byte);
    }
    let run = || bench.run(&["in", "-o", "out", "--filter-top", "30"]);
    let unchanged = |name: &str| {
        bench.bytes(&format!("in/{name}.png")) == bench.bytes(&format!("out/{name}.png"))
    };
    run().assert().success();
    assert_eq!(["a", "b", "c"].map(unchanged), [false, true, true]);
    // As a run leaves them that is killed after its first pass: c is said to have the highest.
    let energies: Vec<u8> = [1.0_f32, 2.0, 3.0]
        .iter()
        .flat_map(|e| e.to_le_bytes())
        .collect();
    let leave = |energies: &[u8]| {
        let journal = String::from_utf8(bench.bytes("out/.purify.jsonl")).unwrap();
        let settings = format!("{}\n", journal.lines().next().unwrap());
        for name in ["a", "b", "c"] {
            std::fs::remove_file(bench.path(&format!("out/{name}.png"))).unwrap();
        }
        bench.file("out/.purify.jsonl", settings.as_bytes());
        bench.file("out/.purify.energies", energies);
    };
    leave(&energies);
    run().assert().success();
    assert_eq!(["a", "b", "c"].map(unchanged), [true, true, false]);
    leave(&energies[..5]);
    run().assert().success();
    assert_eq!(["a", "b", "c"].map(unchanged), [false, true, true]);
    leave(&energies);
    run().arg("--force").assert().success();
    assert_eq!(["a", "b", "c"].map(unchanged), [false, true, true]);
    assert_eq!(bench.list("out"), ["a.png", "b.png", "c.png"]);
}

/// As they are left by a process that was killed while it wrote.
#[test]
fn temporary_files_of_a_killed_run_are_removed_and_others_are_not() {
    let bench = Workbench::new();
    fill(&bench);
    bench.file("out/b/.00.png.4242.part", b"half");
    bench.file("out/.foreign.4242.part", b"of another program");
    bench.run(&["in", "-o", "out"]).assert().success();
    let hidden: Vec<_> = bench
        .list("out")
        .into_iter()
        .filter(|name| name.contains(".part"))
        .collect();
    assert_eq!(hidden, [".foreign.4242.part"]);
}
