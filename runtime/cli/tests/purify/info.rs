//! `purify info` and `purify backends`.

use std::io::Read;

use predicates::prelude::*;
use predicates::str::contains;

use crate::workbench::{Workbench, fixture};

#[test]
fn info_prints_the_contract() {
    let bench = Workbench::new();
    let mut command = bench.purify(&["info", "--model"]);
    command.arg(fixture("digits")).assert().success().stdout(
        contains("image [C, H, W]  [1, 8, 8]")
            .and(contains("20 steps, ε = 0.1, T = 0.5"))
            .and(contains("classes          2"))
            .and(contains("runs on          native\nvectors          "))
            .and(contains("memory           0.0 MiB of weights, 0.0")),
    );
}

#[test]
fn info_prints_json() {
    let bench = Workbench::new();
    let mut command = bench.purify(&["info", "--json", "--model"]);
    let output = command
        .arg(fixture("digits"))
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    let contracts: serde_json::Value = serde_json::from_slice(&output).unwrap();
    assert_eq!(contracts["step"]["purification"]["steps"], 20);
    assert_eq!(contracts["classifier"]["n_classes"], 2);
    for kind in ["step", "classifier"] {
        let machine = &contracts["runs_on"][kind];
        assert_eq!(machine["backend"], "native");
        assert!(machine["weight_bytes"].as_u64() > Some(0), "{machine}");
        assert!(machine["image_bytes"].as_u64() > Some(0), "{machine}");
    }
}

#[test]
fn backends_are_listed_with_the_reason_where_one_is_missing() {
    let bench = Workbench::new();
    bench
        .purify(&["backends"])
        .env("ORT_DYLIB_PATH", "/nowhere/libonnxruntime.so")
        .assert()
        .success()
        .stdout(contains("native: available").and(contains("ort: missing: ")));
}

/// It is not an error if the reader goes away.
#[test]
fn a_broken_pipe_is_harmless() {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_purify"))
        .args(["info", "--json", "--model"])
        .arg(fixture("digits"))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut errors = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut errors)
        .unwrap();
    assert!(child.wait().unwrap().success(), "{errors}");
    assert_eq!(errors, "");
}
