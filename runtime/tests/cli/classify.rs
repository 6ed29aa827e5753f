//! `purify classify`.

use predicates::str::contains;

use crate::workbench::{GREY, Workbench, fixture};

#[test]
fn prints_bare_and_defended_class_and_agreement() {
    let bench = Workbench::new();
    bench.upper("up.png");
    let mut command = bench.purify(&[
        "classify",
        "up.png",
        "--replicas",
        "4",
        "--json",
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
fn goes_on_after_files_that_cannot_be_read() {
    let bench = Workbench::new();
    bench.file("in/a.png", b"");
    bench.image("in/b.png", GREY, 3);
    let mut command = bench.purify(&["classify", "in", "--model"]);
    command
        .arg(fixture("digits"))
        .assert()
        .code(1)
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
