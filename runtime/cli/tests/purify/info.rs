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
fn accuracy_and_memory_choose_the_tiles() {
    let bench = Workbench::new();
    let model = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../models/cifar10-midrun-small"
    );
    let tiles = |options: &[&str]| {
        let options = [&["info", "--json", "--model", model], options].concat();
        let output = bench.purify(&options).output().unwrap();
        let info: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let machine = &info["runs_on"]["step"];
        let [side, weights, image] = ["tile_side", "weight_bytes", "image_bytes"]
            .map(|name| machine[name].as_u64().expect("a number"));
        (side, weights + image)
    };
    let (side, needed) = tiles(&[]);
    assert_eq!(side, 4);
    let (side, less) = tiles(&["--accuracy", "high"]);
    assert_eq!(side, 2);
    assert!(less < needed);
    for (memory, wanted) in [(needed, 4), (needed - 1, 2), (less, 2), (less - 1, 1)] {
        let (side, taken) = tiles(&["--memory", &memory.to_string()]);
        assert_eq!(side, wanted, "{memory}");
        assert!(taken <= memory);
    }
    let options = ["info", "--accuracy", "high", "--model", model];
    let said = contains("tiles            2×2 pixels at most");
    bench.purify(&options).assert().success().stdout(said);
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
