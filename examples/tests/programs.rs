//! The example programs, run as a user would, on the runtime's fixture models.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use ebm_runtime::{ImageShape, Images, write_png};
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use safetensors::tensor::{Dtype, TensorView, serialize};

const SHAPE: ImageShape = ImageShape {
    channels: 1,
    height: 8,
    width: 8,
};

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/tests/fixtures/digits")
}

fn program(name: &str) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin(name));
    command.timeout(std::time::Duration::from_secs(120));
    command
}

/// Images of class 0 (upper half bright) where `upper` holds, else of class 1.
fn halves(n: usize, upper: impl Fn(usize) -> bool) -> Images {
    let pixel = |i: usize| {
        if (i % 64 < 32) == upper(i / 64) {
            0.9
        } else {
            -0.9
        }
    };
    Images::from_vec(SHAPE, (0..n * 64).map(pixel).collect()).unwrap()
}

fn bytes(images: &Images) -> Vec<u8> {
    images
        .array()
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect()
}

/// 20 clean images of alternating classes; the attack turned those below 5 into the other class, and confirmed breaking those from 15 on.
fn attack_file(folder: &Path, labels_dtype: Dtype) {
    let even = |i: usize| i.is_multiple_of(2);
    let clean = bytes(&halves(20, even));
    let attacked = bytes(&halves(20, |i| even(i) == (i >= 5)));
    let bare = bytes(&halves(20, |i| !even(i)));
    let labels: Vec<u8> = (0..20_i64).flat_map(|i| (i % 2).to_le_bytes()).collect();
    let broken: Vec<u8> = (0..20).map(|i| u8::from(i >= 15)).collect();
    let bare_broken = vec![1_u8; 20];
    let image = || vec![20, 1, 8, 8];
    let tensor = |dtype, shape, data| TensorView::new(dtype, shape, data).unwrap();
    let tensors = [
        ("clean", tensor(Dtype::F32, image(), &clean)),
        ("attacked", tensor(Dtype::F32, image(), &attacked)),
        ("bare_attacked", tensor(Dtype::F32, image(), &bare)),
        ("labels", tensor(labels_dtype, vec![20], &labels)),
        ("broken", tensor(Dtype::U8, vec![20], &broken)),
        ("bare_broken", tensor(Dtype::U8, vec![20], &bare_broken)),
    ];
    std::fs::write(
        folder.join("attacked.safetensors"),
        serialize(tensors, None).unwrap(),
    )
    .unwrap();
}

#[test]
fn life_cycle_report_counts_what_neither_attack_nor_fresh_purifications_break() {
    let folder = tempfile::tempdir().unwrap();
    attack_file(folder.path(), Dtype::I64);
    let output = folder.path().join("out");
    program("life_cycle_report")
        .arg("--model")
        .arg(model())
        .arg("--attack")
        .arg(folder.path())
        .arg("-o")
        .arg(&output)
        .args(["--epsilon", "0.5", "--replicas", "4", "--seed", "900913"])
        .args([
            "--certify",
            "0.1",
            "--certified-images",
            "3",
            "--draws",
            "100",
        ])
        .assert()
        .success()
        .stdout(contains("certified by smoothing with σ 0.1 of [0, 1]"))
        .stdout(contains("defended, attacked           50.0 %     20"));
    let results: serde_json::Value =
        serde_json::from_slice(&std::fs::read(output.join("results.json")).unwrap()).unwrap();
    // Attacked: 5 are of the other class in fresh purifications, 5 others were broken by the attack.
    for (key, accuracy) in [
        ("clean", 1.0),
        ("attacked", 0.0),
        ("defended_clean", 1.0),
        ("defended_attacked", 0.5),
        ("defended_clean_majority", 1.0),
        ("defended_attacked_majority", 0.5),
        ("defended_clean_worst_of_10", 1.0),
        ("defended_attacked_worst_of_10", 0.5),
    ] {
        assert_eq!(results[key], accuracy, "{key}");
        let interval = results[format!("{key}_interval")]
            .as_array()
            .unwrap()
            .clone();
        let (low, high) = (interval[0].as_f64().unwrap(), interval[1].as_f64().unwrap());
        assert!(
            0.0 <= low && low <= accuracy && accuracy <= high && high <= 1.0,
            "{key}: {low} to {high}"
        );
    }
    assert_eq!(
        (&results["epsilon"]["of_0_to_1"], &results["n_images"]),
        (&0.5.into(), &20.into())
    );
    assert_eq!(results["certificates"]["accuracy"][0]["accuracy"], 1.0);
    assert!(results["seconds"].as_f64().unwrap() > 0.0);
    assert!(results["milliseconds_per_image_step"].as_f64().unwrap() > 0.0);
    let picture = image::open(output.join("summary.png")).unwrap();
    assert!(
        picture.width() > 800 && picture.height() > 300,
        "{} × {}",
        picture.width(),
        picture.height()
    );
}

#[test]
fn life_cycle_report_refuses_what_it_cannot_read() {
    let folder = tempfile::tempdir().unwrap();
    let report = || {
        let mut command = program("life_cycle_report");
        command
            .arg("--model")
            .arg(model())
            .arg("--attack")
            .arg(folder.path());
        command
            .arg("-o")
            .arg(folder.path())
            .args(["--epsilon", "0.5"]);
        command
    };
    report()
        .assert()
        .failure()
        .stderr(contains("attacked.safetensors` cannot be read"));
    std::fs::write(folder.path().join("attacked.safetensors"), b"poem").unwrap();
    report()
        .assert()
        .failure()
        .stderr(contains("is not a file of attacked images"));
    attack_file(folder.path(), Dtype::U64);
    report()
        .assert()
        .failure()
        .stderr(contains("`labels`: expected elements I64, got U64"));
    attack_file(folder.path(), Dtype::I64);
    report()
        .args(["--replicas", "0"])
        .assert()
        .failure()
        .stderr(contains("n_replicas"));
}

#[test]
fn purify_picture_writes_a_purified_picture() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.png"), folder.path().join("out.png"));
    write_png(&input, &halves(1, |_| true), 0).unwrap();
    program("purify_picture")
        .arg(model())
        .arg(&input)
        .arg(&output)
        .assert()
        .success();
    assert_eq!(image::open(&output).unwrap().width(), 8);
    program("purify_picture")
        .assert()
        .failure()
        .stderr(contains("expected MODEL_DIR"));
}

#[test]
fn defended_classifier_names_the_class_of_each_picture() {
    let folder = tempfile::tempdir().unwrap();
    let images = halves(2, |i| i == 0);
    let files = [
        folder.path().join("upper.png"),
        folder.path().join("lower.png"),
    ];
    files
        .iter()
        .enumerate()
        .for_each(|(i, file)| write_png(file, &images, i).unwrap());
    program("defended_classifier")
        .arg(model())
        .args(&files)
        .assert()
        .success()
        .stdout(
            contains("upper.png: class 0, given by 100 %")
                .and(contains("lower.png: class 1, given by 100 %")),
        );
}

#[test]
fn within_a_deadline_says_how_far_it_came() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.png"), folder.path().join("out.png"));
    write_png(&input, &halves(1, |_| true), 0).unwrap();
    for (time, steps) in [("60000", "20 of 20 steps"), ("0", "0 of 20 steps")] {
        let mut command = program("within_a_deadline");
        command.arg(model()).arg(&input).arg(&output).arg(time);
        command.assert().success().stdout(contains(steps));
    }
    assert_eq!(
        std::fs::read(&output).unwrap(),
        std::fs::read(&input).unwrap()
    );
    let mut command = program("within_a_deadline");
    command.arg(model()).arg(&input).arg(&output).arg("soon");
    command
        .assert()
        .failure()
        .stderr(contains("number of milliseconds"));
}

#[test]
fn outlier_score_finds_the_picture_that_is_unlike_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let known = folder.path().join("known");
    std::fs::create_dir(&known).unwrap();
    // The energy grows with the distance from 0.5 in every pixel.
    let grey = |name: &Path, value: f32| {
        write_png(name, &Images::from_vec(SHAPE, vec![value; 64]).unwrap(), 0).unwrap();
    };
    for i in 0..20 {
        grey(&known.join(format!("{i}.png")), 0.3 + i as f32 / 50.0);
    }
    let (near, far) = (
        folder.path().join("near.png"),
        folder.path().join("far.png"),
    );
    grey(&near, 0.45);
    grey(&far, -0.9);
    let mut command = program("outlier_score");
    command.arg(model()).arg(&known).arg(&near).arg(&far);
    let verdicts = contains("\tknown\n").and(contains("\toutlier\n"));
    let output = command.assert().success().stdout(verdicts);
    let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    assert!(text.lines().nth(1).unwrap().ends_with("known"), "{text}");
    let mut command = program("outlier_score");
    command
        .arg(model())
        .arg(folder.path().join("nowhere"))
        .arg(&near);
    command.assert().failure().stderr(contains("nowhere"));
}

#[test]
fn sample_sheet_has_a_row_for_each_decade() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("sheet.png");
    let mut command = program("sample_sheet");
    command.arg(model()).arg(&output).arg("30");
    let rows = contains("rows after 0, 1, 10, 30 steps");
    command.assert().success().stdout(rows);
    let sheet = image::open(&output).unwrap();
    assert_eq!((sheet.width(), sheet.height()), (64, 32));
}

/// The picture of `from_scratch` is three squares of this many pixels a side: data, samples, density.
const SIDE: usize = 200;

#[test]
fn from_scratch_learns_where_the_data_are() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("picture.pgm");
    program("from_scratch")
        .arg(&file)
        .arg("200")
        .assert()
        .success();
    let bytes = std::fs::read(file).unwrap();
    let pixels = bytes.strip_prefix(b"P5 600 200 255\n").unwrap();
    assert_eq!(pixels.len(), 3 * SIDE * SIDE);
    let darkness = |square: usize, [x, y]: [usize; 2]| 255 - pixels[(3 * y + square) * SIDE + x];

    // Four pixels around each data point are a quarter of the square.
    let around = |at: usize| at.saturating_sub(4)..(at + 5).min(SIDE);
    let places = || (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| [x, y]));
    let mut is_near = vec![false; SIDE * SIDE];
    for [x, y] in places().filter(|place| darkness(0, *place) > 0) {
        for row in around(y) {
            is_near[row * SIDE..][around(x)].fill(true);
        }
    }
    let area = is_near.iter().filter(|near| **near).count() as f64 / (SIDE * SIDE) as f64;
    assert!(area < 0.3, "{area}");
    for (square, name) in [(1, "samples"), (2, "density")] {
        let of = |place: [usize; 2]| f64::from(darkness(square, place));
        let near = places()
            .filter(|[x, y]| is_near[y * SIDE + x])
            .map(of)
            .sum::<f64>();
        let share = near / places().map(of).sum::<f64>();
        assert!(share > 0.7, "{share} of the {name} is near data");
    }
}
