//! The options of `purify run`.

use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;

use crate::workbench::{COLOUR, GREY, Workbench, fixture, npy};

fn lines(bytes: &[u8]) -> Vec<Value> {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The energy of the fixture is `1.5/2·Σ(x − 0.5)²`, so that the darkest images have the highest.
#[test]
fn filters_the_images_of_highest_energy() {
    let bench = Workbench::new();
    for (i, byte) in [200, 0, 100, 190, 10, 180, 150, 170, 160, 140]
        .into_iter()
        .enumerate()
    {
        bench.image(&format!("in/{i}.png"), GREY, byte);
    }
    bench
        .run(&["in", "-o", "out", "--filter-top", "20%", "--seed", "2"])
        .assert()
        .success()
        .stderr(contains("purified 2 of 10 images into `out`, 8 unchanged"));
    for i in 0..10 {
        let name = format!("{i}.png");
        let same = bench.bytes(&format!("in/{name}")) == bench.bytes(&format!("out/{name}"));
        assert_eq!(same, i != 1 && i != 4, "{name}");
    }
    // The purified ones are those of a run over all.
    bench
        .run(&["in", "-o", "all", "--seed", "2"])
        .assert()
        .success();
    assert_eq!(bench.bytes("out/4.png"), bench.bytes("all/4.png"));
    assert_eq!(bench.list("out").len(), 10, "the energies do not stay");
}

#[test]
fn filters_within_arrays_and_leaves_the_others_bit_for_bit() {
    let bench = Workbench::new();
    let floats: Vec<u8> = [0.3_f32, -0.9, 0.7]
        .iter()
        .flat_map(|v| v.to_le_bytes().repeat(64))
        .collect();
    bench.file("x.npy", &npy("<f4", "(3, 8, 8)", &floats));
    bench
        .run(&["x.npy", "-o", "out", "--filter-top", "1", "--range=-2,1.1"])
        .assert()
        .success();
    let (before, after) = (bench.bytes("x.npy"), bench.bytes("out/x.npy"));
    let image = |bytes: &[u8], i: usize| bytes[bytes.len() - 768 + i * 256..][..256].to_vec();
    let same: Vec<bool> = (0..3)
        .map(|i| image(&before, i) == image(&after, i))
        .collect();
    assert_eq!(same, [true, false, true]);
}

#[test]
fn keeps_originals_beside_the_purified() {
    let bench = Workbench::new();
    bench.image("in/deep/a.png", GREY, 90);
    bench.file("in/x.npy", &npy("|u1", "(1, 8, 8)", &[90; 64]));
    bench
        .run(&["in", "-o", "out", "--keep-originals", "--replicas", "2"])
        .assert()
        .success();
    assert_eq!(
        bench.list("out"),
        [
            "deep/a-original.png",
            "deep/a-r0.png",
            "deep/a-r1.png",
            "x-original.npy",
            "x-r0.npy",
            "x-r1.npy"
        ]
    );
    assert_eq!(
        bench.bytes("out/deep/a-original.png"),
        bench.bytes("in/deep/a.png")
    );
    assert_eq!(bench.bytes("out/x-original.npy"), bench.bytes("in/x.npy"));
    assert_ne!(bench.bytes("out/x-r0.npy"), bench.bytes("out/x-r1.npy"));
}

#[test]
fn the_free_baseline_encodes_as_jpeg_without_the_model() {
    let bench = Workbench::new();
    bench.upper("in/a.png");
    let pixels: Vec<u8> = (0..64).map(|i| if i % 3 == 0 { 250 } else { 5 }).collect();
    bench.file("in/x.npy", &npy("|u1", "(1, 8, 8)", &pixels));
    bench
        .run(&["in", "-o", "low", "--jpeg", "10"])
        .assert()
        .success()
        .stderr(contains("re-encoded 2 of 2 images into `low`"));
    bench
        .run(&["in", "-o", "high", "--jpeg", "100"])
        .assert()
        .success();
    let far = |folder: &str| -> u32 {
        let written = bench.bytes(&format!("{folder}/x.npy"));
        let after = &written[written.len() - 64..];
        pixels
            .iter()
            .zip(after)
            .map(|(a, b)| u32::from(a.abs_diff(*b)))
            .sum()
    };
    assert!(
        far("low") > 10 * far("high"),
        "{} and {}",
        far("low"),
        far("high")
    );
    for arguments in [["--jpeg", "0"], ["--jpeg", "101"], ["--jpeg", "-1"]] {
        bench
            .run(&["in", "-o", "no"])
            .args(arguments)
            .assert()
            .code(2);
    }
    bench
        .run(&["in", "-o", "no", "--jpeg", "5", "--replicas", "2"])
        .assert()
        .code(2);
}

#[test]
fn json_tells_settings_every_image_and_a_summary() {
    let bench = Workbench::new();
    bench.image("in/a.png", GREY, 0);
    bench.file("in/b.png", b"");
    bench.file("in/c.npy", &npy("|u1", "(2, 8, 8)", &[191; 128]));
    let output = bench
        .run(&[
            "in",
            "-o",
            "out",
            "--json",
            "--replicas",
            "2",
            "--seed",
            "1",
        ])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    let lines = lines(&output.stdout);
    assert_eq!(lines.len(), 6);
    assert_eq!(lines[0]["settings"]["steps"], 20);
    assert_eq!(lines[0]["settings"]["images"], 4);
    // The energy of black, 1.5/2·64·1.5².
    let (a, b, c) = (&lines[1], &lines[2], &lines[4]);
    assert!(
        (a["energy_before"].as_f64().unwrap() - 108.0).abs() < 1e-3,
        "{a}"
    );
    assert_eq!(a["energies_after"].as_array().unwrap().len(), 2);
    assert!(a["energies_after"][1].as_f64().unwrap() < 80.0, "{a}");
    assert_eq!(a["outputs"], serde_json::json!(["a-r0.png", "a-r1.png"]));
    assert_eq!(
        (&b["status"], &b["outputs"]),
        (&"failed".into(), &serde_json::json!([]))
    );
    assert!(
        b["error"].as_str().unwrap().contains("is an empty file"),
        "{b}"
    );
    assert_eq!(
        (&c["place"], &c["image"], &c["status"]),
        (&3.into(), &1.into(), &"purified".into())
    );
    let summary = &lines[5]["summary"];
    assert_eq!(
        (&summary["purified"], &summary["failed"]),
        (&3.into(), &1.into())
    );
    assert!(summary["images_per_second"].as_f64().unwrap() > 0.0);
}

#[test]
fn json_names_the_step_that_failed() {
    let bench = Workbench::new();
    bench.image("a.png", GREY, 90);
    let output = bench
        .run(&[
            "a.png",
            "-o",
            "out",
            "--step-size",
            "1e6",
            "--temperature",
            "1e-6",
            "--json",
        ])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let lines = lines(&output.stdout);
    assert_eq!(
        (&lines[1]["status"], &lines[1]["failed_step"]),
        (&"failed".into(), &2.into())
    );
}

#[test]
fn the_sheet_shows_the_first_images_also_of_a_run_that_is_complete() {
    let bench = Workbench::new();
    for i in 0..3 {
        bench.image(&format!("in/{i}.png"), COLOUR, 60 * i);
    }
    bench.file("in/x.npy", &npy("|u1", "(2, 8, 8, 3)", &[20; 384]));
    let size = |name: &str| {
        let bytes = bench.bytes(name);
        let number = |at: usize| {
            u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        (number(16), number(20))
    };
    let run = |arguments: &[&str]| {
        let mut command = bench.purify(&["run", "in", "-o", "out", "--model"]);
        command.arg(fixture("colour")).args(arguments).assert()
    };
    run(&["--sheet", "all.png"]).success();
    let (width, five) = size("all.png");
    run(&[
        "--sheet",
        "four.png",
        "--sheet-images",
        "4",
        "--sheet-gain",
        "10",
    ])
    .success()
    .stderr(contains("5 done by an earlier run"));
    let (_, four) = size("four.png");
    assert_eq!(five - four, 100, "one row of 96 pixels and its margin");
    assert!(width > 300, "{width}");
    run(&["--sheet", "s.png", "--sheet-gain", "0"])
        .code(1)
        .stderr(contains("--sheet-gain: expected a positive"));
    run(&["--sheet", "nowhere/s.png"])
        .code(1)
        .stderr(contains("`nowhere/s.png`: the file cannot be written"));
    run(&["--sheet-images", "4"])
        .code(2)
        .stderr(contains("--sheet"));
}

#[test]
fn options_out_of_range_are_refused_before_anything_is_written() {
    let bench = Workbench::new();
    bench.image("a.png", GREY, 9);
    for (arguments, part) in [
        (["--filter-top", "0"], "above 0 and up to 100"),
        (["--filter-top", "101%"], "above 0 and up to 100"),
        (["--filter-top", "-5"], "above 0 and up to 100"),
        (["--filter-top", "NaN"], "above 0 and up to 100"),
        (["--range", "1"], "two numbers with a comma"),
        (["--range", "1,0"], "the lower one first"),
        (["--format", "gif"], "possible values: lossless, same"),
        (["--replicas", "-2"], "--replicas"),
        (["--steps", "-2"], "--steps"),
        (["--threads", "-2"], "--threads"),
        (["--sheet-images", "0"], "--sheet-images"),
    ] {
        bench
            .run(&["a.png", "-o", "out"])
            .args(arguments)
            .assert()
            .code(2)
            .stderr(contains(part).and(contains(arguments[0])));
    }
    assert!(!bench.path("out").exists());
}

/// As `purify run … --json | head -1` makes it.
#[test]
fn a_reader_that_goes_away_does_not_stop_the_work() {
    let bench = Workbench::new();
    for i in 0..50 {
        bench.image(&format!("in/{i}.png"), GREY, i);
    }
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_purify"))
        .args(["run", "in", "-o", "out", "--json", "--model"])
        .arg(fixture("digits"))
        .current_dir(bench.path(""))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(bench.list("out").len(), 50);
}
