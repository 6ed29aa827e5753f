//! `purify certify`.

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;

use crate::workbench::{COLOUR, GREY, Workbench, fixture, npy};

/// Few draws, so that a test takes no time.
const FEW: [&str; 8] = [
    "--sigma",
    "1/4",
    "--n",
    "200",
    "--n0",
    "20",
    "--threads",
    "2",
];

/// `purify certify ARGUMENTS` with the fixture for grey images and few draws.
fn certify(bench: &Workbench, arguments: &[&str]) -> Command {
    let mut command = bench.purify(&["certify"]);
    command
        .args(arguments)
        .args(FEW)
        .arg("--model")
        .arg(fixture("digits"));
    command
}

/// A picture of the other class than [`Workbench::upper`].
fn lower(bench: &Workbench, name: &str) {
    let bytes: Vec<u8> = (0..64).map(|i| if i < 32 { 5 } else { 250 }).collect();
    let image = ebm_runtime::Images::from_bytes(GREY, &bytes).unwrap();
    std::fs::create_dir_all(bench.path(name).parent().unwrap()).unwrap();
    ebm_runtime::write_png(bench.path(name), &image, 0).unwrap();
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// All of 200 draws are of one class: `σ·Φ⁻¹(0.001^(1/200))`, which is 0.456420… by scipy.
#[test]
fn prints_class_and_radii_in_both_scales_and_what_they_cost() {
    let bench = Workbench::new();
    bench.upper("up.png");
    bench.image("flat.png", GREY, 128);
    certify(&bench, &["up.png", "flat.png"])
        .assert()
        .success()
        .stdout("up.png\t0\t0.4564\t0.9128\t0.057052\nflat.png\tabstain\t0\t0\t0\n")
        .stderr(
            contains("noise of deviation 0.25 of [0, 1] (0.5 of [-1, 1]), n0 = 20, n = 200, alpha = 0.001: no radius is above 0.456")
                .and(contains("each of 2 images takes up to 4620 runs of networks: 220 draws of noise through 20 steps"))
                .and(contains("drawn after the images were fixed; --seed"))
                .and(contains("certified 1 of 2 images, 1 without a certificate"))
                .and(contains("with confidence 0.999 for each, in exact arithmetic, after any resizing"))
                .and(contains("accuracy").not()),
        );
}

#[test]
fn the_energy_may_be_a_denoiser_or_left_out_and_the_classifier_another() {
    let bench = Workbench::new();
    bench.upper("up.png");
    // The denoiser of this energy turns the sign of what it leaves.
    for (arguments, class, runs) in [
        (&["--steps", "0"][..], "0", "220 runs"),
        (&["--denoise"], "1", "440 runs"),
        (&["--denoise", "--steps", "2"], "0", "660 runs"),
        (&["--steps", "3"], "0", "880 runs"),
    ] {
        certify(&bench, &["up.png"])
            .args(arguments)
            .assert()
            .success()
            .stdout(contains(format!("up.png\t{class}\t0.4564")))
            .stderr(contains(runs));
    }
    let other = fixture("digits/classifier.onnx");
    std::fs::create_dir(bench.path("model")).unwrap();
    std::fs::copy(fixture("digits/step.onnx"), bench.path("model/step.onnx")).unwrap();
    bench
        .purify(&["certify", "up.png", "--model", "model", "--classifier"])
        .arg(other)
        .args(FEW)
        .assert()
        .success()
        .stdout(contains("up.png\t0\t0.4564"));
}

#[test]
fn json_tells_settings_votes_and_the_curve() {
    let bench = Workbench::new();
    for name in ["in/a/1.png", "in/a/2.png", "in/b/4.png"] {
        bench.upper(name);
    }
    lower(&bench, "in/b/3.png");
    let output = certify(&bench, &["in", "--json"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("labels from the names of folders, 0 is `a` and 1 `b`"),
        "{said}"
    );
    assert!(said.contains("75.0 %  19.4 to 99.4 %"), "{said}");
    let lines = lines(&output.stdout);
    assert_eq!(lines.len(), 6);
    let settings = &lines[0]["settings"];
    assert_eq!(
        settings["sigma"],
        serde_json::json!({"0..1": 0.25, "-1..1": 0.5})
    );
    assert_eq!(
        settings["evidence"],
        "the seed was drawn after the images were fixed"
    );
    assert_eq!(
        (&settings["n"], &settings["steps"]),
        (&200.into(), &20.into())
    );
    assert!(settings["seed"].is_u64());
    let (third, fourth) = (&lines[3], &lines[4]);
    assert_eq!((&third["label"], &third["class"]), (&1.into(), &1.into()));
    assert_eq!((&fourth["label"], &fourth["class"]), (&1.into(), &0.into()));
    assert_eq!(fourth["estimation"], serde_json::json!([200, 0, 0]));
    assert_eq!(fourth["selection"], serde_json::json!([20, 0, 0]));
    let radius = |record: &Value| record["radius"]["0..1"].as_f64().unwrap();
    assert!((radius(fourth) - 0.4564).abs() < 1e-4, "{fourth}");
    assert_eq!(
        fourth["radius"]["-1..1"].as_f64().unwrap(),
        2.0 * radius(fourth)
    );
    assert_eq!(
        fourth["radius_linf"]["0..1"].as_f64().unwrap(),
        radius(fourth) / 8.0
    );
    let curve = lines[5]["summary"]["certified_accuracy"]
        .as_array()
        .unwrap()
        .clone();
    let shares: Vec<f64> = curve
        .iter()
        .map(|at| at["accuracy"].as_f64().unwrap())
        .collect();
    assert!(
        curve.len() > 5 && shares.iter().all(|&share| share == 0.75),
        "{curve:?}"
    );
    assert!(curve.last().unwrap()["radius"]["0..1"].as_f64().unwrap() <= 0.4565);
}

/// A certificate is for the image as the model takes it.
#[test]
fn pictures_of_another_size_are_resized_when_that_is_asked_for_and_the_settings_say_so() {
    let bench = Workbench::new();
    let large = ebm_runtime::ImageShape {
        channels: 1,
        height: 16,
        width: 16,
    };
    bench.image("large.png", large, 9);
    certify(&bench, &["large.png"])
        .assert()
        .code(1)
        .stderr(contains("left out: `large.png`").and(contains("keeps its class").not()));
    let output = certify(&bench, &["large.png", "--resize", "--json"])
        .output()
        .unwrap();
    let lines = lines(&output.stdout);
    assert!(lines[0]["settings"]["fit"].is_string(), "{}", lines[0]);
    assert!(lines[1]["error"].is_null(), "{}", lines[1]);
}

/// The whole results again from the seed, and others without it.
#[test]
fn a_seed_reproduces_certificates_and_is_said_to_prove_nothing_new() {
    let bench = Workbench::new();
    let ramp: Vec<u8> = (0..64).map(|i| 100 + i / 2).collect();
    bench.file("x.npy", &npy("|u1", "(1, 8, 8)", &ramp));
    let run = |arguments: &[&str]| {
        let output = certify(&bench, &["x.npy", "--json"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success());
        (
            lines(&output.stdout),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (first, _) = run(&[]);
    let seed = first[0]["settings"]["seed"].to_string();
    let (again, said) = run(&["--seed", &seed]);
    assert_eq!(first[1]["estimation"], again[1]["estimation"]);
    assert!(
        said.contains("this reproduces certificates, and is no new evidence"),
        "{said}"
    );
    assert!(
        again[0]["settings"]["evidence"]
            .as_str()
            .unwrap()
            .starts_with("none")
    );
    let (other, _) = run(&[]);
    assert_ne!(first[0]["settings"]["seed"], other[0]["settings"]["seed"]);
    // Other noise gives the same numbers of votes in one of twenty runs.
    let differs = |_| run(&[]).0[1]["estimation"] != first[1]["estimation"];
    assert!((0..6).any(differs));
}

#[test]
fn mnists_labels_are_found_beside_its_images_and_a_part_can_be_taken() {
    let bench = Workbench::new();
    let (upper, lower) = ([[250; 32], [5; 32]].concat(), [[5; 32], [250; 32]].concat());
    let header = [0, 0, 8, 3, 0, 0, 0, 6, 0, 0, 0, 8, 0, 0, 0, 8];
    let pixels = [upper.clone(), lower.clone()].concat().repeat(3);
    bench.file("t10k-images-idx3-ubyte", &[&header[..], &pixels].concat());
    bench.file(
        "t10k-labels-idx1-ubyte",
        &[0, 0, 8, 1, 0, 0, 0, 6, 0, 1, 0, 1, 0, 0],
    );
    certify(&bench, &["t10k-images-idx3-ubyte", "--take", "3"])
        .assert()
        .success()
        .stdout(
            contains("ubyte#0\t0\t0.45")
                .and(contains("ubyte#2\t0\t0.45"))
                .and(contains("ubyte#4\t0")),
        )
        .stderr(contains("labels from `t10k-labels-idx1-ubyte`").and(contains("100.0 %")));
    bench.file("labels.txt", b"1\n0\n1\n0\n1\n0\n");
    certify(
        &bench,
        &[
            "t10k-images-idx3-ubyte",
            "--take",
            "2",
            "--labels",
            "labels.txt",
        ],
    )
    .assert()
    .success()
    .stderr(contains("labels from `labels.txt`").and(contains(" 0.0 %")));
    bench.file("t10k-labels-idx1-ubyte", &[0, 0, 8, 1, 0, 0, 0, 1, 0]);
    certify(&bench, &["t10k-images-idx3-ubyte"])
        .assert()
        .code(1)
        .stderr(contains(
            "expected labels of the 6 images of `t10k-images-idx3-ubyte`, got 1",
        ));
    certify(
        &bench,
        &["t10k-images-idx3-ubyte", "--take", "1", "--labels", "none"],
    )
    .assert()
    .success()
    .stderr(contains("accuracy").not());
}

#[test]
fn an_interrupted_run_goes_on_with_its_seed_and_its_images() {
    let bench = Workbench::new();
    let ramps: Vec<u8> = (0..5 * 64)
        .map(|i| (100 + i % 64 / 2 + i / 64) as u8)
        .collect();
    bench.file("x.npy", &npy("|u1", "(5, 8, 8)", &ramps));
    let run = |arguments: &[&str]| {
        certify(&bench, &["x.npy", "-o", "out.jsonl"])
            .args(arguments)
            .assert()
    };
    let votes = || -> Vec<Value> {
        let records = lines(&bench.bytes("out.jsonl")).into_iter();
        records
            .filter(|line| line["place"].is_u64())
            .map(|line| line["estimation"].clone())
            .collect()
    };
    run(&[]).success();
    let (whole, expected) = (bench.bytes("out.jsonl"), votes());
    assert_eq!(expected.len(), 5);
    let ends: Vec<usize> = whole
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
        .map(|(i, _)| i + 1)
        .collect();
    // Whole lines, and one that is cut off.
    for (n_bytes, n_done) in [
        (ends[0], 0),
        (ends[2], 2),
        (ends[3] + 40, 3),
        (whole.len(), 5),
    ] {
        bench.file("out.jsonl", &whole[..n_bytes]);
        let assertion = run(&[]).success();
        let output = assertion.get_output();
        assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 5);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            said.contains(&format!("{n_done} done by an earlier run")),
            n_done > 0,
            "{said}"
        );
        assert_eq!(votes(), expected, "{n_done}");
        assert!(said.contains("drawn after the images were fixed"), "{said}");
    }
    certify(&bench, &["x.npy", "-o", "out.jsonl", "--alpha", "0.01"])
        .assert()
        .code(1)
        .stderr(contains("`out.jsonl` holds a run with other settings: alpha was 0.001 and is 0.01; give the same ones"));
    let mut changed = ramps.clone();
    changed[70] += 1;
    bench.file("x.npy", &npy("|u1", "(5, 8, 8)", &changed));
    run(&[]).code(1).stderr(contains("images_sha256 was"));
    run(&["--force"]).success();
    assert_ne!(votes(), expected);
    // What another program wrote stays.
    for poem in [&b"a poem"[..], b"a poem\nof two lines\n"] {
        bench.file("poem.txt", poem);
        certify(&bench, &["x.npy", "-o", "poem.txt"])
            .assert()
            .code(1)
            .stderr(contains("expected a file that `purify certify` wrote"));
        assert_eq!(bench.bytes("poem.txt"), poem);
    }
}

#[test]
fn goes_on_after_files_that_cannot_be_read() {
    let bench = Workbench::new();
    bench.file("in/a.png", b"");
    bench.upper("in/b.png");
    certify(&bench, &["in", "--json"])
        .assert()
        .code(3)
        .stdout(contains("\"failed\":1"))
        .stderr(contains("left out: `in/a.png`"));
}

/// What is wrong is said in one sentence, before any network runs.
#[test]
fn what_cannot_be_certified_is_refused_by_name() {
    let bench = Workbench::new();
    bench.upper("up.png");
    bench.upper("in/a/1.png");
    bench.image("colour.png", COLOUR, 9);
    bench.file("labels.txt", b"7\n");
    bench.file("two.txt", b"0\n1\n");
    let colour = fixture("colour/classifier.onnx").display().to_string();
    let step = fixture("digits/step.onnx").display().to_string();
    let base = |arguments: &[&str]| {
        let mut command = bench.purify(&["certify"]);
        command
            .args(arguments)
            .arg("--model")
            .arg(fixture("digits"));
        command
    };
    let cases: [(&[&str], &str); 21] = [
        (&["up.png"], "--sigma"),
        (&["up.png", "--sigma", "8"], "did you mean 8/255?"),
        (
            &["up.png", "--sigma", "64"],
            "expected a distance of pixels in [0, 1], as in 8/255 or 0.03, got `64`",
        ),
        (
            &["up.png", "--sigma", "0"],
            "`sigma` is out of range: expected a deviation of pixels in [0, 1], above 0 and up to 1, got 0",
        ),
        (
            &["up.png", "--sigma", "3/2"],
            "above 0 and up to 1, got 1.5",
        ),
        (&["up.png", "--sigma", "-0.25"], "got `-0.25`"),
        (&["up.png", "--sigma", "nan"], "got `nan`"),
        (&["up.png", "--sigma", "a quarter"], "got `a quarter`"),
        (
            &["up.png", "--sigma", "0.25", "--n", "0"],
            "`n` is out of range: expected a number from n0, which is 100, to 100000, got 0",
        ),
        (
            &["up.png", "--sigma", "0.25", "--n", "50"],
            "which is 100, to 100000, got 50",
        ),
        (
            &["up.png", "--sigma", "0.25", "--n", "1000000"],
            "to 100000, got 1000000",
        ),
        (
            &["up.png", "--sigma", "0.25", "--n0", "0"],
            "`n0` is out of range: expected a number from 1, got 0",
        ),
        (
            &["up.png", "--sigma", "0.25", "--alpha", "0"],
            "`alpha` is out of range: expected a probability between 0 and 1, as 0.001, got 0",
        ),
        (
            &["up.png", "--sigma", "0.25", "--alpha", "1"],
            "as 0.001, got 1",
        ),
        (
            &["up.png", "--sigma", "0.25", "--alpha", "NaN"],
            "as 0.001, got NaN",
        ),
        (
            &["up.png", "--sigma", "0.25", "--classifier", &colour],
            "expected a classifier of images [1, 8, 8], for which the energy is, got one of images [3, 8, 8]",
        ),
        (
            &["up.png", "--sigma", "0.25", "--classifier", &step],
            "the model is of another kind",
        ),
        (
            &["up.png", "--sigma", "0.25", "--labels", "labels.txt"],
            "labels from `labels.txt`: expected classes from 0 to 1, as the classifier has, got 7",
        ),
        (
            &["up.png", "--sigma", "0.25", "--labels", "two.txt"],
            "expected a label for each of 1 images, got 2",
        ),
        (
            &["in", "--sigma", "0.25", "--labels", "folders"],
            "expected 2 folders, one for each class of the classifier, got 1: a",
        ),
        (
            &["up.png", "--sigma", "0.25", "--labels", "no-such-file"],
            "`no-such-file`: the labels cannot be read",
        ),
    ];
    for (arguments, part) in cases {
        base(arguments)
            .assert()
            .failure()
            .stdout("")
            .stderr(contains(part));
    }
    let others: [(&[&str], &str); 9] = [
        (&["-o", "up.png"], "this file is read by the same command"),
        (&["-o", "in"], "expected the name of a file, got a folder"),
        (
            &["--labels", "labels.txt", "-o", "labels.txt", "--force"],
            "this file is read by the same command",
        ),
        (&["--n0", "1", "--n", "9"], "do not give below 10, got 9"),
        (
            &["--steps", "0", "--denoise"],
            "--steps 0 takes none; leave out one of them",
        ),
        (
            &["--threads", "0"],
            "--threads: expected a number from 1, got 0",
        ),
        (&["--take", "0"], "--take"),
        (&["--force"], "--output"),
        (&["--step-size", "-1"], "`step_size` is out of range"),
    ];
    for (arguments, part) in others {
        base(&["up.png", "--sigma", "0.25"])
            .args(arguments)
            .assert()
            .failure()
            .stdout("")
            .stderr(contains(part));
    }
    // An image of another shape is left out, like one that cannot be read.
    base(&["colour.png", "--sigma", "0.25"])
        .assert()
        .code(1)
        .stderr(contains("left out: `colour.png`"));
}
