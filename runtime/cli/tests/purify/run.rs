//! `purify run`.

use predicates::prelude::*;
use predicates::str::contains;

use crate::workbench::{COLOUR, GREY, Workbench, fixture};

#[test]
fn purifies_a_picture_under_its_own_name() {
    let bench = Workbench::new();
    bench.image("in/a.png", GREY, 40);
    bench
        .run(&["in/a.png", "-o", "out"])
        .assert()
        .success()
        .stderr(contains("purified 1 of 1 images into `out`"));
    assert_eq!(bench.list("out"), ["a.png"]);
    let (before, after) = (bench.read("in/a.png", GREY), bench.read("out/a.png", GREY));
    // The energy's minimum is at 0.5 in every pixel; the picture starts at -0.69.
    let mean = |images: &ebm_runtime::Images| images.array().mean().unwrap();
    assert!(
        (mean(&after) - 0.5).abs() < (mean(&before) - 0.5).abs(),
        "{} → {}",
        mean(&before),
        mean(&after)
    );
}

#[test]
fn keeps_the_tree_of_a_folder_and_makes_the_output_folder() {
    let bench = Workbench::new();
    for name in ["in/b.png", "in/a.png", "in/deep/er/c.png"] {
        bench.image(name, GREY, 90);
    }
    bench.file("in/notes.txt", b"not a picture");
    bench.run(&["in", "-o", "new/out"]).assert().success();
    assert_eq!(bench.list("new/out"), ["a.png", "b.png", "deep/er/c.png"]);
}

#[test]
fn output_inside_the_input_folder_is_no_input_the_next_time() {
    let bench = Workbench::new();
    bench.image("in/a.png", GREY, 90);
    bench.run(&["in", "-o", "in/out"]).assert().success();
    bench
        .run(&["in", "-o", "in/out", "--force"])
        .assert()
        .success()
        .stderr(contains("1 of 1"));
    assert_eq!(bench.list("in"), ["a.png", "out/a.png"]);
}

#[test]
fn writes_replicas_beside_each_other_and_they_differ() {
    let bench = Workbench::new();
    bench.image("a.png", GREY, 90);
    bench
        .run(&["a.png", "-o", "out", "--replicas", "3", "--seed", "2"])
        .assert()
        .success();
    assert_eq!(bench.list("out"), ["a-r0.png", "a-r1.png", "a-r2.png"]);
    assert_ne!(
        bench.read("out/a-r0.png", GREY),
        bench.read("out/a-r1.png", GREY)
    );
    bench
        .run(&["a.png", "-o", "single", "--seed", "2"])
        .assert()
        .success();
    assert_eq!(
        bench.read("out/a-r0.png", GREY),
        bench.read("single/a.png", GREY)
    );
}

#[test]
fn same_seed_same_bytes_whatever_batch_and_threads_and_another_seed_others() {
    let bench = Workbench::new();
    for i in 0..7 {
        bench.image(&format!("in/{i}.png"), COLOUR, 30 * i);
    }
    let run = |out: &str, arguments: &[&str]| {
        let mut command = bench.purify(&["run", "in", "-o", out, "--model"]);
        command
            .arg(fixture("colour"))
            .args(arguments)
            .assert()
            .success();
        let read = |name: &String| std::fs::read(bench.path(out).join(name)).unwrap();
        bench.list(out).iter().map(read).collect::<Vec<_>>()
    };
    let expected = run("o1", &["--seed", "4", "--batch", "1", "--threads", "1"]);
    assert_eq!(expected.len(), 7);
    assert!(expected == run("o2", &["--seed", "4", "--batch", "3", "--threads", "2"]));
    assert!(expected == run("o3", &["--seed", "4"]));
    assert!(expected != run("o4", &["--seed", "5"]));
}

#[test]
fn settings_replace_what_the_model_recommends() {
    let bench = Workbench::new();
    bench.image("a.png", GREY, 0);
    let settings = [
        "--steps",
        "200",
        "--step-size",
        "0.02",
        "--temperature",
        "0.0004",
        "--clip",
        "1e6",
    ];
    bench
        .run(&["a.png", "-o", "out"])
        .args(settings)
        .assert()
        .success();
    // 200 steps of contraction 1 − 0.75 leave the minimum 0.5 and noise of standard deviation 0.02/√(1 − 0.25²).
    let after = bench.read("out/a.png", GREY);
    assert!(
        after.array().iter().all(|x| (x - 0.5).abs() < 0.1),
        "{:?}",
        after.array()
    );
}

#[test]
fn leaves_out_what_it_cannot_read_and_says_so() {
    let bench = Workbench::new();
    bench.image("in/a.png", GREY, 90);
    bench.file("in/b.png", b"this is not a PNG");
    bench.image("in/c.png", COLOUR, 90);
    bench.image("in/d.png", GREY, 200);
    bench
        .run(&["in", "-o", "out", "--seed", "2"])
        .assert()
        .code(3)
        .stderr(contains("left out: `in/b.png`").and(contains("left out: `in/c.png`")))
        .stderr(contains("purified 2 of 4 images"));
    assert_eq!(bench.list("out"), ["a.png", "d.png"]);
    // The noise of d.png belongs to its place in the list, with or without the files before it.
    bench.image("in/b.png", GREY, 7);
    bench.image("in/c.png", GREY, 8);
    bench
        .run(&["in", "-o", "whole", "--seed", "2"])
        .assert()
        .success();
    assert_eq!(
        bench.read("out/d.png", GREY),
        bench.read("whole/d.png", GREY)
    );
}

#[test]
fn leaves_out_chains_that_blow_up() {
    let bench = Workbench::new();
    bench.image("a.png", GREY, 90);
    bench.run(&["a.png", "-o", "out", "--step-size", "1e6", "--temperature", "1e-6"]).assert().code(1)
        .stderr(contains("left out: `a.png`: it left the finite numbers, or its range of energies, at step 2; take a smaller --step-size"));
    assert!(bench.list("out").is_empty());
}

#[test]
fn replaces_nothing_without_force() {
    let bench = Workbench::new();
    bench.image("in/a.png", GREY, 90);
    bench.image("in/b.png", GREY, 90);
    bench.file("out/b.png", b"precious");
    bench
        .run(&["in", "-o", "out"])
        .assert()
        .failure()
        .stderr(contains("b.png` exists; give --force"));
    assert_eq!(
        bench.list("out"),
        ["b.png"],
        "nothing is written before all names are free"
    );
    assert_eq!(std::fs::read(bench.path("out/b.png")).unwrap(), b"precious");
    bench
        .run(&["in", "-o", "out", "--force"])
        .assert()
        .success();
    assert_eq!(bench.read("out/b.png", GREY).len(), 1);
}

#[test]
fn refuses_two_inputs_for_one_output() {
    let bench = Workbench::new();
    bench.image("x/a.png", GREY, 90);
    bench.image("y/a.png", GREY, 90);
    bench
        .run(&["x", "y", "-o", "out"])
        .assert()
        .failure()
        .stderr(contains("would both be written to"));
}

#[test]
fn help_has_examples() {
    let bench = Workbench::new();
    bench
        .purify(&["run", "--help"])
        .assert()
        .success()
        .stdout(contains("purify run photo.png --model model -o cleaned"));
    bench
        .purify(&["--help"])
        .assert()
        .success()
        .stdout(contains("classify").and(contains("info")));
}

/// Both backends through the command, where ONNX Runtime can be used.
#[test]
fn runs_on_onnx_runtime() {
    if let Err(error) = ebm_runtime::Backend::ort().check() {
        eprintln!("SKIPPED: {error}");
        return;
    }
    let bench = Workbench::new();
    bench.image("a.png", GREY, 90);
    bench
        .run(&["a.png", "-o", "native", "--seed", "2"])
        .assert()
        .success()
        .stderr(contains("note: step on backend native\n"));
    bench
        .run(&["a.png", "-o", "ort", "--seed", "2", "--backend", "ort"])
        .assert()
        .success();
    let difference =
        bench.read("native/a.png", GREY).array() - bench.read("ort/a.png", GREY).array();
    // One level of 255.
    assert!(
        difference.iter().all(|d| d.abs() <= 2.1 / 255.0),
        "{difference}"
    );
}

/// A run that is killed leaves whole pictures only. Not by SIGINT, which a shell may have told its background jobs to ignore.
#[cfg(unix)]
#[test]
fn a_termination_leaves_no_half_written_picture() {
    let bench = Workbench::new();
    for i in 0..400 {
        bench.image(&format!("in/{i:03}.png"), GREY, (i % 250) as u8);
    }
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_purify"))
        .args([
            "run",
            "in",
            "-o",
            "out",
            "--batch",
            "1",
            "--threads",
            "1",
            "--steps",
            "20000",
            "--model",
        ])
        .arg(fixture("digits"))
        .current_dir(bench.path(""))
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let started = std::time::Instant::now();
    while !bench.path("out/003.png").exists() && started.elapsed().as_secs() < 60 {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let termination = std::process::Command::new("kill")
        .arg("-TERM")
        .arg(child.id().to_string())
        .status();
    assert!(termination.unwrap().success());
    assert!(!child.wait().unwrap().success());
    let written: Vec<String> = bench
        .list("out")
        .into_iter()
        .filter(|name| !name.starts_with('.'))
        .collect();
    assert!((4..400).contains(&written.len()), "{}", written.len());
    written
        .iter()
        .for_each(|name| assert_eq!(bench.read(&format!("out/{name}"), GREY).len(), 1));
}
