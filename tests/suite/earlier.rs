//! Files that earlier programs wrote are still read, and their work goes on with the same results.
//!
//! `tests/suite/earlier` holds what the programs of revision 5ba61a0 wrote; `make.sh` there says by which commands. Results may differ in the last
//! bits from one processor to another, so that numbers are compared within a tolerance.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ebm_runtime::{ImageShape, read_png};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use tempfile::TempDir;

use crate::programs::{program, run};

/// Of weights, moments and images in [-1, 1], after a few updates or steps in f32.
const TOLERANCE: f32 = 1e-4;
/// Of a generator: the gradients of its biases in front of batch norms are rounding alone, of which Adam makes steps as long as any others.
const GENERATOR_TOLERANCE: f32 = 5e-3;

/// Of 200 draws of noise: how many classes may flip at a border.
const FLIPPED: i64 = 2;

const CERTIFY: &str = "certify pictures --model model --sigma 0.25 --n 200 --n0 20 --steps 2 --seed 3 --backend tract --labels none -o certificates.jsonl";
const ATTACK: &str = "attack --energy run --classifier classifier --epsilon 0.125 --protocol quick -o run/attack -n 6 --replicas 2 \
                      --verify-replicas 3 --pgd-steps 2 --steps 3 --threads 1";

fn recorded(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("suite/earlier")
        .join(name)
}

/// A copy that programs may change.
fn copied() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let from = recorded(".");
    let copied = Command::new("cp")
        .arg("-r")
        .arg(from)
        .arg(folder.path())
        .status();
    assert!(copied.unwrap().success());
    folder
}

fn json_lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

/// Leaves the settings and the first images of a journal, as if the program had been killed then.
fn interrupted(journal: &Path, n_images: usize) {
    let text = fs::read_to_string(journal).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').take(1 + n_images).collect();
    fs::write(journal, lines.concat()).unwrap();
}

fn assert_same_tensors(got: &Path, wanted: &Path) {
    assert_close_tensors(got, wanted, TOLERANCE);
}

fn assert_close_tensors(got: &Path, wanted: &Path, tolerance: f32) {
    let [got_bytes, wanted_bytes] = [got, wanted].map(|path| fs::read(path).unwrap());
    let name = got.display().to_string();
    let tensors = |bytes| -> BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> {
        let file = SafeTensors::deserialize(bytes).unwrap();
        let tensors = file.iter().map(|(key, tensor)| {
            let shape = tensor.shape().to_vec();
            (
                key.to_string(),
                (tensor.dtype(), shape, tensor.data().to_vec()),
            )
        });
        tensors.collect()
    };
    let (got, wanted) = (tensors(&got_bytes), tensors(&wanted_bytes));
    for (key, (dtype, shape, values)) in &wanted {
        let got = got.get(key);
        let (got_dtype, got_shape, got_values) = got.unwrap_or_else(|| panic!("{name}: no {key}"));
        assert_eq!((got_dtype, got_shape), (dtype, shape), "{name}: {key}");
        if *dtype != Dtype::F32 {
            assert_eq!(got_values, values, "{name}: {key}");
            continue;
        }
        let of = |bytes: &[u8]| -> Vec<f32> {
            let values = bytes
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes(b.try_into().unwrap()));
            values.collect()
        };
        let pairs = of(got_values).into_iter().zip(of(values));
        let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let tolerance = match name.contains("generator") {
            true => GENERATOR_TOLERANCE,
            false => tolerance,
        };
        assert!(worst <= tolerance, "{name}: {key} is off by {worst}");
    }
}

#[test]
fn a_run_resumes_from_its_checkpoint_to_the_same_weights() {
    let folder = copied();
    run(
        folder.path(),
        "trainer",
        "resume run --checkpoint 00000003 --threads 1",
    );
    let last = "run/checkpoints/00000006";
    let files = fs::read_dir(recorded(last)).unwrap();
    let files = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files: Vec<String> = files
        .filter(|name| name.ends_with(".safetensors"))
        .collect();
    assert_eq!(files.len(), 7);
    for name in files {
        let name = format!("{last}/{name}");
        assert_same_tensors(&folder.path().join(&name), &recorded(&name));
    }
}

#[test]
fn a_finished_run_shows_its_attack_its_samples_and_its_distances() {
    let folder = copied();
    run(folder.path(), "trainer", "report run");
    let page = fs::read_to_string(folder.path().join("run/report.html")).unwrap();
    for words in ["FID-24", "28.09", "BPDA+EOT", "cooperative-persistent"] {
        assert!(page.contains(words), "{words} is not on the page");
    }
    // What is there is known as done, not taken for something else or written over.
    for (arguments, words) in [
        (ATTACK, "run/attack holds the results of an attack already"),
        (
            "sample run -n 24 --steps 10 --threads 1",
            "run/sampled holds this sample already",
        ),
    ] {
        let mut command = program("trainer");
        let refused = command
            .current_dir(folder.path())
            .args(arguments.split_whitespace())
            .assert();
        let said = String::from_utf8_lossy(&refused.failure().get_output().stderr).into_owned();
        assert!(said.contains(words), "{said}");
    }
    let distances = "fid --samples run/sampled --reference run --features classifier --snapshot all --threads 1 --json";
    let distances: Value = serde_json::from_str(&run(folder.path(), "trainer", distances)).unwrap();
    let wanted: Value =
        serde_json::from_slice(&fs::read(recorded("run/fid.json")).unwrap()).unwrap();
    for index in 0..2 {
        let [got, wanted] = [&distances, &wanted].map(|all| all[index]["value"].as_f64().unwrap());
        assert!(
            (got / wanted - 1.0).abs() < 1e-3,
            "{got}, expected {wanted}"
        );
    }
}

#[test]
fn a_run_that_diverged_still_says_so() {
    let folder = copied();
    run(folder.path(), "trainer", "report diverged");
    let page = fs::read_to_string(folder.path().join("diverged/report.html")).unwrap();
    let reason = "loss is 1.7283e4, beyond guard.loss = 20";
    assert!(page.contains(reason), "{reason} is not on the page");
}

#[test]
fn a_sample_goes_on_to_the_same_energies() {
    let folder = copied();
    let sample = "sample run -n 8 --steps 1500 --snapshots 500 --threads 1 -o sampling";
    run(folder.path(), "trainer", sample);
    let got = json_lines(&folder.path().join("sampling/snapshots.jsonl"));
    let wanted = json_lines(&recorded("sampled.jsonl"));
    assert_eq!(got.len(), wanted.len(), "{got:?}");
    for (got, wanted) in got.iter().zip(&wanted) {
        assert_eq!(got["step"], wanted["step"]);
        let [got, wanted] = [got, wanted].map(|line| line["energy_mean"].as_f64().unwrap());
        // A thousand steps carry the last bits of one processor far.
        assert!(
            (got / wanted - 1.0).abs() < 1e-2,
            "{got}, expected {wanted}"
        );
    }
}

#[test]
fn an_attack_goes_on_to_the_same_images() {
    let folder = copied();
    for name in [
        "attack.json",
        "attacked.safetensors",
        "known-noise.safetensors",
    ] {
        fs::remove_file(folder.path().join("run/attack").join(name)).unwrap();
    }
    run(folder.path(), "trainer", ATTACK);
    // Steps along signs of gradients, some of which are zero up to rounding, may part: then only the ball is the same, of ε = 0.25 in [-1, 1].
    for (name, tolerance) in [
        ("attacked.safetensors", TOLERANCE),
        ("known-noise.safetensors", 2.0 * 0.25),
        ("exact.safetensors", TOLERANCE),
    ] {
        let name = format!("run/attack/{name}");
        assert_close_tensors(&folder.path().join(&name), &recorded(&name), tolerance);
    }
}

#[test]
fn checkpoints_are_exported_and_exported_files_are_read() {
    let folder = copied();
    for (learned, file) in [("run", "gradient.onnx"), ("classifier", "classifier.onnx")] {
        run(
            folder.path(),
            "ebm-export",
            &format!("onnx {learned} -o again"),
        );
        assert!(folder.path().join("again").join(file).is_file());
    }
    for name in ["energy", "gradient", "step", "generator", "classifier"] {
        let said = run(
            folder.path(),
            "ebm-export",
            &format!("inspect model/{name}.onnx"),
        );
        assert!(!said.is_empty(), "{name}");
    }
    let said = run(folder.path(), "ebm-export", "verify model/gradient.onnx");
    assert!(said.ends_with("ok\n"), "{said}");
    let said = run(folder.path(), "purify", "info --model model");
    for words in ["sngan", "conv_classifier", "4 steps, ε = 0.05, T = 0.01"] {
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_purification_goes_on_to_the_same_pixels() {
    let folder = copied();
    let at = |name: &str| folder.path().join("purified").join(name);
    interrupted(&at(".purify.jsonl"), 2);
    for name in ["2.png", "3.png", "4.png"] {
        fs::remove_file(at(name)).unwrap();
    }
    let said = program("purify")
        .current_dir(folder.path())
        .args(
            "run pictures --model model -o purified --steps 5 --seed 3 --backend tract".split(' '),
        )
        .assert()
        .success();
    let said = String::from_utf8_lossy(&said.get_output().stderr).into_owned();
    assert!(said.contains("2 done by an earlier run"), "{said}");
    let shape = ImageShape {
        channels: 1,
        height: 8,
        width: 8,
    };
    for index in 0..5 {
        let name = format!("{index}.png");
        let [got, wanted] = [at(&name), recorded("purified").join(&name)];
        let [got, wanted] = [got, wanted].map(|path| read_png(path, shape).unwrap());
        let pairs = got.array().iter().zip(wanted.array());
        // One step of a byte: a value at the border between two may fall to either.
        let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= 2.01 / 255.0, "{name}: off by {worst}");
    }
}

#[test]
fn a_certification_goes_on_to_the_same_votes() {
    let folder = copied();
    let journal = folder.path().join("certificates.jsonl");
    interrupted(&journal, 2);
    run(folder.path(), "purify", CERTIFY);
    let [got, wanted] = [journal, recorded("certificates.jsonl")].map(|path| json_lines(&path));
    assert_eq!(got.len(), wanted.len());
    assert_eq!(got[0]["settings"], wanted[0]["settings"]);
    for (got, wanted) in got.iter().zip(&wanted).skip(1).take(5) {
        assert_eq!(got["file"], wanted["file"]);
        let votes = |line: &Value| -> Vec<i64> {
            let counts = line["estimation"].as_array().unwrap();
            counts.iter().map(|count| count.as_i64().unwrap()).collect()
        };
        let pairs = votes(got).into_iter().zip(votes(wanted));
        let worst = pairs.map(|(a, b)| (a - b).abs()).max().unwrap();
        assert!(worst <= FLIPPED, "{got}, expected {wanted}");
    }
}
