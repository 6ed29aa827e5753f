//! The command `export`, as a user types it.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;

const TINY: &str = r#"{"name":"sngan","image_size":8,"channels":1,"widths":[4,6],"pools":[true,false],"activation":"relu"}"#;

/// A folder with a checkpoint of random weights.
struct Workplace(tempfile::TempDir);

impl Workplace {
    fn new() -> Workplace {
        let workplace = Workplace(tempfile::tempdir().unwrap());
        workplace
            .export(&["init", TINY, "-o", "checkpoint"])
            .success();
        workplace
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn export(&self, arguments: &[&str]) -> assert_cmd::assert::Assert {
        Command::new(env!("CARGO_BIN_EXE_export"))
            .current_dir(self.0.path())
            .args(arguments)
            .assert()
    }

    fn refuses(&self, arguments: &[&str], reason: &str) {
        self.export(arguments)
            .failure()
            .stderr(contains(reason).and(predicate::function(|text: &str| {
                text.starts_with("error: ") && text.trim_end().lines().count() == 1
            })));
    }
}

fn multiplications(workplace: &Workplace, file: &str) -> u64 {
    let output = workplace
        .export(&["inspect", file, "--json"])
        .success()
        .get_output()
        .stdout
        .clone();
    let inspection: serde_json::Value = serde_json::from_slice(&output).unwrap();
    inspection["multiplications_per_image"].as_u64().unwrap()
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn an_energy_becomes_three_files() {
    let workplace = Workplace::new();
    workplace
        .export(&["onnx", "checkpoint", "-o", "model"])
        .success()
        .stdout(contains("gradient.onnx"));
    assert_eq!(
        files(&workplace.path("model")),
        ["energy.onnx", "gradient.onnx", "step.onnx"]
    );
    workplace
        .export(&["inspect", "model/step.onnx"])
        .success()
        .stdout(
            contains("input: noise [N, 1, 8, 8]")
                .and(contains("output: gradient_norm [N]"))
                .and(contains("\"kind\": \"step\"")),
        );
}

#[test]
fn the_same_checkpoint_gives_the_same_bytes() {
    let workplace = Workplace::new();
    for folder in ["a", "b"] {
        workplace
            .export(&["onnx", "checkpoint", "-o", folder])
            .success();
    }
    for file in files(&workplace.path("a")) {
        let [a, b] = ["a", "b"].map(|folder| fs::read(workplace.path(folder).join(&file)).unwrap());
        assert!(a == b, "{file} differs");
    }
}

#[test]
fn rewrites_halve_the_multiplications_of_the_published_network() {
    let workplace = Workplace::new();
    workplace
        .export(&["init", "sngan32", "-o", "wide"])
        .success();
    workplace.export(&["onnx", "wide", "-o", "fast"]).success();
    workplace
        .export(&["onnx", "wide", "-o", "raw", "--raw"])
        .success();
    let [raw, fast] =
        ["raw/gradient.onnx", "fast/gradient.onnx"].map(|file| multiplications(&workplace, file));
    assert!(raw as f64 / fast as f64 >= 2.1, "{raw} against {fast}");
}

#[test]
fn batch_and_opset_are_fixed_on_demand() {
    let workplace = Workplace::new();
    workplace
        .export(&[
            "onnx",
            "checkpoint",
            "-o",
            "model",
            "--batch",
            "4",
            "--opset",
            "13",
        ])
        .success();
    workplace
        .export(&["inspect", "model/energy.onnx"])
        .success()
        .stdout(contains("input: x [4, 1, 8, 8]").and(contains("opset: 13")));
    workplace.refuses(
        &["onnx", "checkpoint", "-o", "other", "--opset", "12"],
        "expected an opset from 13 to 21, got 12",
    );
    workplace.refuses(
        &["onnx", "checkpoint", "-o", "other", "--batch", "0"],
        "--batch must be at least 1",
    );
}

#[test]
fn nothing_is_overwritten_unasked() {
    let workplace = Workplace::new();
    workplace
        .export(&["onnx", "checkpoint", "-o", "model"])
        .success();
    workplace.refuses(
        &["onnx", "checkpoint", "-o", "model"],
        "exists already; give another folder with -o, or --force",
    );
    workplace
        .export(&["onnx", "checkpoint", "-o", "model", "--force"])
        .success();
    workplace.refuses(
        &["init", "sngan32", "-o", "checkpoint"],
        "cannot write checkpoint",
    );
}

#[test]
fn bad_checkpoints_are_refused_before_anything_is_written() {
    let workplace = Workplace::new();
    let header = workplace.path("checkpoint/checkpoint.json");
    let text = fs::read_to_string(&header).unwrap();
    let wider = text.replacen("6\n", "7\n", 1);
    assert_ne!(text, wider);
    fs::write(&header, wider).unwrap();
    workplace.refuses(
        &["onnx", "checkpoint", "-o", "model"],
        "the weights are those of another network",
    );
    fs::write(&header, text).unwrap();
    let weights = workplace.path("checkpoint/weights.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() - 100]).unwrap();
    workplace.refuses(
        &["onnx", "checkpoint", "-o", "model"],
        "damaged: expected SHA-256",
    );
    workplace.refuses(
        &["onnx", "nowhere", "-o", "model"],
        "nowhere: no such folder",
    );
    workplace.refuses(&["onnx", ".", "-o", "model"], "found neither");
    assert!(!workplace.path("model").exists());
}

#[test]
fn nan_weights_are_refused() {
    use ebm_export::checkpoint::{self, Header, WEIGHTS};
    let workplace = Workplace::new();
    let header = Header::new(serde_json::from_str(TINY).unwrap());
    let mut weights = header.network.initial_weights(0).unwrap();
    weights.insert(
        "head.weight".to_string(),
        ebm_export::Tensor::filled(&[6, 1], f32::NAN),
    );
    checkpoint::write(&workplace.path("nan"), &header, &[(WEIGHTS, &weights)]).unwrap();
    workplace.refuses(
        &["onnx", "nan", "-o", "model"],
        "weight \"head.weight\": element 0 is NaN, expected finite values",
    );
}

#[test]
fn what_is_not_onnx_is_refused() {
    let workplace = Workplace::new();
    fs::write(workplace.path("text.onnx"), "not a model").unwrap();
    workplace.refuses(&["inspect", "text.onnx"], "text.onnx: not an ONNX model");
    workplace.refuses(&["inspect", "nowhere.onnx"], "cannot read nowhere.onnx");
}

#[test]
fn a_full_disk_leaves_nothing_half_written() {
    let workplace = Workplace::new();
    let full = workplace.path("full");
    fs::create_dir(&full).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4k", "tmpfs"])
        .arg(&full)
        .status()
        .is_ok_and(|status| status.success());
    if !mounted {
        eprintln!("SKIPPED: a full disk cannot be simulated without the right to mount");
        return;
    }
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_export"))
        .current_dir(workplace.0.path())
        .args(["onnx", "checkpoint", "-o", "full"])
        .output();
    let left = files(&full);
    std::process::Command::new("umount")
        .arg(&full)
        .status()
        .unwrap();
    let output = output.unwrap();
    assert!(!output.status.success());
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .contains("cannot write full/energy.onnx: No space left")
    );
    assert!(left.is_empty(), "{left:?}");
}
