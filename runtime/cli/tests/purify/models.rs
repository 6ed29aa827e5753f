//! `purify models`, and models by name.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use predicates::prelude::*;
use predicates::str::contains;

use crate::workbench::{Workbench, fixture, npy};

/// The models of the repository.
fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models")
}

/// A folder of models with one that is called `small`.
fn place(bench: &Workbench) -> PathBuf {
    for file in ["step.onnx", "classifier.onnx"] {
        let bytes = fs::read(fixture("digits").join(file)).unwrap();
        bench.file(&format!("place/small/{file}"), &bytes);
    }
    bench.file("place/small/README.md", b"# Small\n\nFor tests.\n\nMore.\n");
    bench.file("place/empty/README.md", b"# No model\n");
    bench.path("place")
}

#[test]
fn models_are_listed_and_taken_by_name() {
    let bench = Workbench::new();
    let place = place(&bench);
    let mut listed = bench.purify(&["models"]);
    listed.env("EBM_MODELS", &place).assert().success().stdout(
        contains("small")
            .and(contains("[1, 8, 8]"))
            .and(contains("For tests."))
            .and(contains("empty").not()),
    );
    let json = bench
        .purify(&["models", "--json"])
        .env("EBM_MODELS", &place)
        .output()
        .unwrap();
    let first = String::from_utf8(json.stdout).unwrap();
    let first: serde_json::Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["name"], &first["classifies"]),
        (&"small".into(), &true.into())
    );

    bench.upper("up.png");
    let arguments = ["classify", "up.png", "--model", "small"];
    let mut named = bench.purify(&arguments);
    named
        .env("EBM_MODELS", &place)
        .assert()
        .success()
        .stdout(contains("up.png\t0\t0\t"));
    // A folder of that name comes first.
    bench.file("small/other", b"");
    let mut folder = bench.purify(&arguments);
    let folder = folder.env("EBM_MODELS", &place).assert().code(1);
    folder.stderr(contains("a folder without it"));
}

#[test]
fn a_name_without_a_model_is_refused_as_a_folder_that_is_not_there() {
    let bench = Workbench::new();
    bench.upper("up.png");
    let mut command = bench.purify(&["classify", "up.png", "--model", "nothing"]);
    command.assert().code(1).stderr(contains("no such folder"));
}

/// Each model of the repository has a card and files that are not too large, and purifies an image of its shape.
#[test]
fn every_model_of_the_repository_purifies() {
    let bench = Workbench::new();
    let mut n_models = 0;
    for entry in fs::read_dir(repository()).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        n_models += 1;
        let name = folder.file_name().unwrap().to_str().unwrap().to_string();
        let card = fs::read_to_string(folder.join("README.md")).unwrap();
        for piece in [
            "Data",
            "Licence",
            "Command",
            "Seed",
            "Cost",
            "SHA-256",
            "must not be used",
        ] {
            assert!(
                card.contains(piece),
                "the card of {name} says nothing of {piece:?}"
            );
        }
        for file in fs::read_dir(&folder).unwrap() {
            let bytes = file.unwrap().metadata().unwrap().len();
            assert!(bytes <= 2_000_000, "{name}: {bytes} bytes");
        }
        let info = bench
            .purify(&["info", "--json", "--model", &name])
            .env("EBM_MODELS", repository())
            .output()
            .unwrap();
        let info: serde_json::Value = serde_json::from_slice(&info.stdout).unwrap();
        let [channels, height, width] =
            ["channels", "height", "width"].map(|key| info["step"]["image"][key].as_u64().unwrap());
        let n_values = (channels * height * width) as usize;
        let grey = npy(
            "|u1",
            &format!("(1, {channels}, {height}, {width})"),
            &vec![128; n_values],
        );
        bench.file(&format!("{name}.npy"), &grey);
        let output = format!("{name}-cleaned");
        bench
            .purify(&[
                "run",
                &format!("{name}.npy"),
                "--model",
                &name,
                "-o",
                &output,
                "--steps",
                "2",
            ])
            .env("EBM_MODELS", repository())
            .assert()
            .success();
    }
    assert!(n_models >= 1);
}

/// The first digits of the bundled set, purified and classified with the model of that name.
#[test]
fn digits_are_classified_by_name() {
    const N: usize = 60;
    let bench = Workbench::new();
    let bundled =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../trainer/data/digits/digits.csv.gz");
    let mut text = String::new();
    GzDecoder::new(fs::File::open(bundled).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    let rows: Vec<Vec<f64>> = text
        .lines()
        .take(N)
        .map(|line| {
            line.split(',')
                .map(|value| value.parse().unwrap())
                .collect()
        })
        .collect();
    let pixels: Vec<u8> = rows
        .iter()
        .flat_map(|row| {
            row[..64]
                .iter()
                .map(|value| (value * 255.0 / 16.0).round() as u8)
        })
        .collect();
    bench.file("digits.npy", &npy("|u1", &format!("({N}, 8, 8)"), &pixels));
    let output = bench
        .purify(&[
            "classify",
            "digits.npy",
            "--model",
            "digits",
            "--seed",
            "1",
            "--replicas",
            "4",
        ])
        .env("EBM_MODELS", repository())
        .output()
        .unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let classes: Vec<usize> = lines
        .lines()
        .map(|line| line.split('\t').nth(2).unwrap().parse().unwrap())
        .collect();
    let right = classes
        .iter()
        .zip(&rows)
        .filter(|(class, row)| **class == row[64] as usize);
    let n_right = right.count();
    assert!(
        classes.len() == N && n_right >= 54,
        "{n_right} of {N}: {lines}"
    );
}
