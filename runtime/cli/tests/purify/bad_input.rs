//! Each bad input ends in one sentence that says what was expected, what came and what to do.

use predicates::prelude::*;
use predicates::str::contains;
use prost::Message;

use crate::workbench::{COLOUR, GREY, Workbench, fixture, has_ort, npy};

/// ONNX's `ModelProto`, as far as it is written here.
#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(message, repeated, tag = "14")]
    entries: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// A step graph for `[1, 8, 8]` with this contract: protobuf messages concatenate.
fn step_with(contract: &str) -> Vec<u8> {
    let entry = Entry {
        key: "ebm.contract".into(),
        value: contract.into(),
    };
    let mut bytes = std::fs::read(fixture("bare.onnx")).unwrap();
    bytes.extend(
        Metadata {
            entries: vec![entry],
        }
        .encode_to_vec(),
    );
    bytes
}

fn contract(kind: &str, shape: [usize; 3]) -> String {
    let [channels, height, width] = shape;
    serde_json::json!({
        "format_version": 1, "kind": kind, "value_range": [-1.0, 1.0],
        "image": {"channels": channels, "height": height, "width": width},
    })
    .to_string()
}

#[test]
fn models_that_are_none_or_foreign() {
    let good = std::fs::read(fixture("digits/step.onnx")).unwrap();
    let newer = contract("step", [1, 8, 8]).replace("\"format_version\":1", "\"format_version\":2");
    let cases: [(&str, Vec<u8>, &str); 8] = [
        (
            "without a contract",
            std::fs::read(fixture("bare.onnx")).unwrap(),
            "the ONNX model carries no contract",
        ),
        (
            "with a foreign contract",
            step_with("{\"poem\": 1}"),
            "has no `format_version`",
        ),
        (
            "with a contract that is not JSON",
            step_with("poem"),
            "is not JSON",
        ),
        (
            "with a newer contract",
            step_with(&newer),
            "another format version: expected 1, got 2",
        ),
        (
            "truncated",
            good[..good.len() / 2].to_vec(),
            "the file is not a whole ONNX model",
        ),
        ("empty", Vec::new(), "the file is not a whole ONNX model"),
        (
            "of another kind",
            step_with(&contract("gradient", [1, 8, 8])),
            "expected a model of kind `step`, got kind `gradient`",
        ),
        (
            "without size",
            step_with(&contract("step", [1, 0, 8])),
            "`image` is wrong: expected dimensions from 1",
        ),
    ];
    let bench = Workbench::new();
    bench.image("a.png", GREY, 9);
    for (name, bytes, message) in cases {
        bench.file("model/step.onnx", &bytes);
        let output = bench
            .purify(&["run", "a.png", "--model", "model", "-o", "out"])
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "a model {name}: {errors}");
        assert!(
            errors.contains(message) && errors.contains("step.onnx"),
            "a model {name}: {errors}"
        );
        assert_eq!(
            errors.trim_end().lines().count(),
            1,
            "a model {name}: {errors}"
        );
    }
    assert!(!bench.path("out").exists());
}

/// The contract names another shape than the graph has.
#[test]
fn a_model_that_does_not_keep_its_contract() {
    let bench = Workbench::new();
    bench.image("a.png", COLOUR, 9);
    bench.file("model/step.onnx", &step_with(&contract("step", [3, 8, 8])));
    let settings = ["--steps", "1", "--step-size", "0.1", "--temperature", "1"];
    bench.purify(&["run", "a.png", "--model", "model", "-o", "out"]).args(settings).assert().code(1)
        .stderr(contains("tensor `x`: the model's input has another shape than its contract says: expected [N, 3, 8, 8], got [N, 1, 8, 8]"));
}

#[test]
fn a_model_without_recommendation_needs_settings() {
    let bench = Workbench::new();
    bench.image("a.png", GREY, 9);
    bench.file("model/step.onnx", &step_with(&contract("step", [1, 8, 8])));
    bench
        .purify(&["run", "a.png", "--model", "model", "-o", "out"])
        .assert()
        .code(1)
        .stderr(contains(
            "the contract recommends no purification, and `steps` is not set",
        ));
}

#[test]
fn no_model_folder() {
    let bench = Workbench::new();
    bench.image("a.png", GREY, 9);
    let step = fixture("digits/step.onnx");
    for (model, wanted) in [
        (
            "nowhere",
            "got no such folder; write one with `ebm-export onnx",
        ),
        (
            ".",
            "got a folder without it; write one with `ebm-export onnx",
        ),
        (
            "a.png",
            "got a file; give the folder of `step.onnx`, such as `.`",
        ),
        (step.to_str().unwrap(), "digits`"),
    ] {
        bench
            .purify(&["run", "a.png", "--model", model, "-o", "out"])
            .assert()
            .code(1)
            .stderr(contains("expected a folder that holds `step.onnx`").and(contains(wanted)));
    }
}

#[test]
fn backends_that_are_not_there() {
    let bench = Workbench::new();
    bench.image("a.png", GREY, 9);
    let run = |arguments: &[&str]| {
        let mut command = bench.run(&["a.png", "-o", "out"]);
        command.args(arguments);
        command
    };
    run(&["--backend", "cuda"])
        .assert()
        .code(2)
        .stderr(contains(
            "expected one of auto, native, rten, tract, ort, ort-cuda",
        ));
    run(&["--device", "gpu"]).assert().code(2).stderr(contains(
        "expected cpu, cuda, or cuda:N with the number of a card",
    ));
    run(&["--device", "cuda", "--backend", "rten"])
        .assert()
        .code(1)
        .stderr(contains(
            "error: --device cuda: the backend `rten` does not run on NVIDIA",
        ));
    run(&["--device", "cuda:1"])
        .assert()
        .code(1)
        .stderr(contains("ort"));
    let ort = ["--backend", "ort"];
    if !has_ort() {
        run(&ort).assert().code(1).stderr(contains(
            "`ort` was not compiled in; build with `--features ort`",
        ));
        return;
    }
    run(&ort).env("ORT_DYLIB_PATH", "/nowhere/libonnxruntime.so").assert().code(1)
        .stderr(contains("`/nowhere/libonnxruntime.so`: the library of ONNX Runtime (named in ORT_DYLIB_PATH) cannot be used"))
        .stderr(contains("or use the backend `auto`").and(contains("panicked").not()));
    let no_library = bench.file("libonnxruntime.so", b"this is not a library");
    run(&ort)
        .env("ORT_DYLIB_PATH", &no_library)
        .assert()
        .code(1)
        .stderr(contains("cannot be used"));
    run(&ort)
        .args(["--onnxruntime", "other.so"])
        .assert()
        .code(1)
        .stderr(contains("(given explicitly) cannot be used"));
    assert!(!bench.path("out").exists());
}

#[test]
fn images_of_another_size_or_colour() {
    let bench = Workbench::new();
    bench.image("large.png", ebm_runtime::ImageShape { width: 9, ..GREY }, 9);
    bench.image("colour.png", COLOUR, 9);
    bench.run(&["large.png", "-o", "out"]).assert().code(1)
        .stderr(contains("`large.png`: the image has another size than the model's: expected 8×8 (width×height), got 9×8"));
    bench
        .run(&["colour.png", "-o", "out"])
        .assert()
        .code(1)
        .stderr(contains("`colour.png`").and(contains("convert the image to grey")));
    bench.image("grey.png", GREY, 9);
    let mut command = bench.purify(&["run", "grey.png", "-o", "out", "--model"]);
    command
        .arg(fixture("colour"))
        .assert()
        .code(1)
        .stderr(contains("convert the image to RGB"));
}

#[test]
fn settings_out_of_range() {
    let bench = Workbench::new();
    bench.image("a.png", GREY, 9);
    let cases: [(&[&str], i32, &str); 11] = [
        (
            &["--steps", "0"],
            1,
            "`steps` is out of range: expected a number from 1, got 0",
        ),
        (
            &["--step-size", "0"],
            1,
            "`step_size` is out of range: expected a positive, finite number, got 0",
        ),
        (&["--step-size", "-0.1"], 1, "`step_size` is out of range"),
        (
            &["--step-size", "NaN"],
            1,
            "`step_size` is out of range: expected a positive, finite number, got NaN",
        ),
        (&["--temperature", "0"], 1, "`temperature` is out of range"),
        (&["--temperature", "-1"], 1, "`temperature` is out of range"),
        (&["--clip", "0"], 1, "`clip` is out of range"),
        (&["--threads", "0"], 1, "`threads` is out of range"),
        (
            &["--threads", "100000"],
            1,
            "`threads` is out of range: expected a number from 1 to ",
        ),
        (&["--batch", "0"], 1, "`batch` is out of range"),
        (
            &["--replicas", "0"],
            1,
            "--replicas: expected a number from 1, got 0",
        ),
    ];
    for (arguments, code, message) in cases {
        bench
            .run(&["a.png", "-o", "out"])
            .args(arguments)
            .assert()
            .code(code)
            .stderr(contains(message));
    }
    bench
        .run(&["a.png", "-o", "out", "--seed", "-1"])
        .assert()
        .code(2)
        .stderr(contains("--seed"));
    assert!(
        !bench.path("out").exists(),
        "nothing is written before the settings are checked"
    );
}

#[test]
fn no_images() {
    let bench = Workbench::new();
    bench.file("in/notes.txt", b"");
    bench.file("in/images.bin", b"");
    bench.run(&["in", "-o", "out"]).assert().code(1).stderr(
        contains("`in`: expected images, got none")
            .and(contains("data_batch_*.bin, test_batch.bin")),
    );
    bench
        .run(&["nowhere.png", "-o", "out"])
        .assert()
        .code(1)
        .stderr(
            contains("left out: `nowhere.png`: the image cannot be read")
                .and(contains("purified 0 of 1")),
        );
    bench.run(&["-o", "out"]).assert().code(2);
}

#[test]
fn an_output_that_cannot_be_written() {
    let bench = Workbench::new();
    bench.image("a.png", GREY, 9);
    bench.file("file", b"");
    bench
        .run(&["a.png", "-o", "file"])
        .assert()
        .code(1)
        .stderr(contains(
            "`file`: expected a folder for the output, got a file",
        ));
    bench
        .run(&["a.png", "-o", "file/deep"])
        .assert()
        .code(1)
        .stderr(contains("`file/deep`: the output folder cannot be made"));
    // Not even root can write here.
    if cfg!(target_os = "linux") {
        bench
            .run(&["a.png", "-o", "/proc/out"])
            .assert()
            .code(1)
            .stderr(contains("`/proc/out`: the output folder cannot be made"));
    }
}

/// A file system of a few pages, which only root can mount.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk() {
    let bench = Workbench::new();
    let disk = bench.path("disk");
    std::fs::create_dir(&disk).unwrap();
    let mount = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=16k", "tmpfs"])
        .arg(&disk)
        .output();
    if !mount.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: a small file system could not be mounted, which takes root");
        return;
    }
    for i in 0..20 {
        bench.image(&format!("in/{i:02}.png"), GREY, i);
    }
    let output = bench.run(&["in", "-o", "disk"]).output().unwrap();
    let written = bench.list("disk");
    let whole = written
        .iter()
        .all(|name| ebm_runtime::read_png(disk.join(name), GREY).is_ok());
    let unmounted = std::process::Command::new("umount")
        .arg(&disk)
        .status()
        .unwrap()
        .success();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(unmounted);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains("the file cannot be written") && errors.contains("free space"),
        "{errors}"
    );
    assert!(whole && (1..20).contains(&written.len()), "{written:?}");
    assert!(
        written.iter().all(|name| !name.starts_with('.')),
        "{written:?}"
    );
}

/// The process is killed by the system where it goes on writing: nothing half-written has a name.
#[cfg(target_os = "linux")]
#[test]
fn a_limit_of_file_sizes() {
    let bench = Workbench::new();
    // Of noise, so that the file is longer than the limit of one block of 1,024 bytes.
    let values: Vec<u8> = (0..8 * 64_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    bench.file("in/x.npy", &npy("|u1", "(8, 8, 8)", &values));
    let floats: Vec<u8> = 0.5_f32.to_le_bytes().repeat(64 * 64);
    bench.file("in/y.npy", &npy("<f4", "(64, 8, 8)", &floats));
    let output = std::process::Command::new("sh")
        .args([
            "-c",
            "ulimit -f 4; exec \"$0\" run in -o out --seed 2 --model \"$1\"",
        ])
        .arg(env!("CARGO_BIN_EXE_purify"))
        .arg(fixture("digits"))
        .current_dir(bench.path(""))
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(!bench.path("out/y.npy").exists());
    for output in ["out", "whole"] {
        bench
            .run(&["in", "-o", output, "--seed", "2"])
            .assert()
            .success();
    }
    for name in ["x.npy", "y.npy"] {
        assert!(
            bench.bytes(&format!("out/{name}")) == bench.bytes(&format!("whole/{name}")),
            "{name}"
        );
    }
    assert_eq!(bench.list("out"), ["x.npy", "y.npy"]);
}

/// Root writes where others may not, so that this test says something to others only.
#[cfg(unix)]
#[test]
fn folders_without_permission() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Workbench::new();
    bench.image("in/a.png", GREY, 9);
    bench.image("in/b.png", GREY, 9);
    std::fs::create_dir(bench.path("out")).unwrap();
    let set = |name: &str, mode: u32| {
        std::fs::set_permissions(bench.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set("out", 0o555);
    if std::fs::write(bench.path("out/probe"), b"").is_ok() {
        eprintln!("SKIPPED: this user may write everywhere");
        return;
    }
    bench
        .run(&["in", "-o", "out"])
        .assert()
        .code(1)
        .stderr(contains(
            "`out/.purify.jsonl`: the file cannot be written; check the folder's permissions",
        ));
    set("out", 0o755);
    set("in/a.png", 0o000);
    bench
        .run(&["in", "-o", "out"])
        .assert()
        .code(3)
        .stderr(contains(
            "left out: `in/a.png`: the image cannot be read: Permission denied",
        ));
}

/// A file that is not a picture takes no more memory than one.
#[cfg(unix)]
#[test]
fn endless_files_and_folders_with_the_names_of_images() {
    let bench = Workbench::new();
    bench.image("in/a.png", GREY, 9);
    std::fs::create_dir(bench.path("in/folder.png")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", bench.path("in/zero.png")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", bench.path("in/zero.npy")).unwrap();
    std::os::unix::fs::symlink("nowhere", bench.path("in/broken.png")).unwrap();
    bench.run(&["in", "-o", "out"]).assert().code(3).stderr(
        contains("`in/zero.png`: the image is too long for a picture")
            .and(contains(
                "`in/zero.npy`: the file cannot be read: expected a regular file",
            ))
            .and(contains("`in/broken.png`: the image cannot be read"))
            .and(contains("purified 1 of 4")),
    );
}

#[test]
fn models_that_were_changed_are_refused_unless_told_otherwise() {
    let bench = Workbench::new();
    let folder = bench.path("model");
    std::fs::create_dir(&folder).unwrap();
    // Protobuf messages concatenate: one more metadata entry, with a hash that is not that of the file.
    let mut bytes = std::fs::read(fixture("digits/step.onnx")).unwrap();
    let (key, value) = ("ebm.sha256", "0".repeat(64));
    let length = |n: usize| u8::try_from(n).unwrap();
    bytes.extend([14 << 3 | 2, length(4 + key.len() + value.len())]);
    bytes.extend([1 << 3 | 2, length(key.len())]);
    bytes.extend(key.as_bytes());
    bytes.extend([2 << 3 | 2, length(value.len())]);
    bytes.extend(value.as_bytes());
    std::fs::write(folder.join("step.onnx"), bytes).unwrap();
    let image = bench.upper("a.png");
    let run = |options: &[&str]| {
        let mut command = bench.purify(&["run"]);
        command.arg(&image).arg("--model").arg(&folder);
        command.arg("-o").arg(bench.path("out")).args(options);
        command.assert()
    };
    let refused = run(&[]).failure();
    refused.stderr(contains("not what was exported").and(contains("--no-verify")));
    run(&["--no-verify"]).success();
}
