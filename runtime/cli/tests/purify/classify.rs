//! `purify classify`.

use predicates::prelude::*;
use predicates::str::contains;

use crate::workbench::{GREY, Workbench, fixture, npy};

#[test]
fn prints_bare_and_defended_class_and_agreement() {
    let bench = Workbench::new();
    bench.upper("up.png");
    let mut command = bench.purify(&[
        "classify",
        "up.png",
        "--replicas",
        "4",
        "-o",
        "answers.json",
        "--model",
    ]);
    command
        .arg(fixture("digits"))
        .assert()
        .success()
        .stdout("up.png\t0\t0\t1.000\n");
    let answers: serde_json::Value =
        serde_json::from_slice(&std::fs::read(bench.path("answers.json")).unwrap()).unwrap();
    assert_eq!(answers["replicas"], 4);
    assert_eq!(answers["images"][0]["bare"], 0);
    assert_eq!(
        answers["images"][0]["defended_logits"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn prints_json_in_place_of_the_table_what_it_also_writes() {
    let bench = Workbench::new();
    bench.upper("up.png");
    let mut command = bench.purify(&["classify", "up.png", "--json", "-o", "a.json", "--model"]);
    let output = command.arg(fixture("digits")).assert().success();
    let printed = &output.get_output().stdout;
    assert_eq!(*printed, bench.bytes("a.json"));
    let answers: serde_json::Value = serde_json::from_slice(printed).unwrap();
    assert_eq!(answers["images"][0]["file"], "up.png");
}

#[test]
fn goes_on_after_files_that_cannot_be_read() {
    let bench = Workbench::new();
    bench.file("in/a.png", b"");
    bench.image("in/b.png", GREY, 3);
    let mut command = bench.purify(&["classify", "in", "--model"]);
    command
        .arg(fixture("digits"))
        .assert()
        .code(3)
        .stdout(contains("in/b.png\t"))
        .stderr(contains("left out: `in/a.png`"));
}

#[test]
fn wants_a_classifier_and_replicas() {
    let bench = Workbench::new();
    bench.image("a.png", GREY, 3);
    std::fs::copy(fixture("digits/step.onnx"), bench.path("step.onnx")).unwrap();
    bench
        .purify(&["classify", "a.png", "--model", "."])
        .assert()
        .failure()
        .stderr(contains("the model folder has no classifier"));
    let mut command = bench.purify(&["classify", "a.png", "--replicas", "0", "--model"]);
    command
        .arg(fixture("digits"))
        .assert()
        .failure()
        .stderr(contains("`n_replicas` is out of range"));
}

/// Files of many images are numbered, and the file of answers is whole JSON.
#[test]
fn classifies_the_images_of_arrays() {
    let bench = Workbench::new();
    let pixels: Vec<u8> = (0..128)
        .map(|i| if i / 32 % 2 == 0 { 250 } else { 5 })
        .collect();
    bench.file("x.npy", &npy("|u1", "(2, 8, 8)", &pixels));
    let mut command = bench.purify(&["classify", "x.npy", "-o", "answers.json", "--model"]);
    command
        .arg(fixture("digits"))
        .assert()
        .success()
        .stdout(contains("x.npy#0\t0\t0\t").and(contains("x.npy#1\t0\t0\t")));
    let answers = std::fs::read(bench.path("answers.json")).unwrap();
    let answers: serde_json::Value = serde_json::from_slice(&answers).unwrap();
    assert_eq!(answers["images"].as_array().unwrap().len(), 2);
    assert_eq!(answers["images"][1]["file"], "x.npy#1");
}
