//! What must not depend on the machine: the bits of the noise, and within a tolerance what becomes of an image.
//!
//! `machines/x86_64.json` holds what came out on x86-64. To make it again: `RENEW_GOLDEN=1 cargo test --release -p ebm-runtime --test machines`.
#![cfg(feature = "native")]
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};

use ebm_runtime::noise::{fill_normal, fill_uniform};
use ebm_runtime::{Backend, Model, Purifier, Request};
use serde_json::{Value, json};

use common::{GREY, ramps};

/// How far pixels may lie apart after the 40 recommended steps. Machines round sums in another order, and with or without fused multiplications; the gradient of a
/// network with ReLUs jumps where one of them switches a step earlier, which multiplies such differences.
const ACROSS_MACHINES: f32 = 1e-5;
/// How far energies may lie apart, relative to the largest of them.
const ENERGIES_ACROSS_MACHINES: f32 = 1e-5;

fn golden() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machines/x86_64.json");
    if std::env::var_os("RENEW_GOLDEN").is_some() {
        let (values, energies) = purified();
        let made = json!({"noise": noise(), "values": values, "energies": energies});
        std::fs::write(&path, format!("{made}\n")).unwrap();
    }
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Bits of normal and uniform noise at several places.
fn noise() -> Vec<u32> {
    let mut bits = Vec::new();
    for (seed, image, replica, step) in [
        (0, 0, 0, 0),
        (7, 1, 2, 3),
        (u64::MAX, u32::MAX, 9, 1_000_000),
    ] {
        for fill in [fill_normal, fill_uniform] {
            let mut values = [0.0_f32; 64];
            fill(seed, image, replica, step, &mut values);
            bits.extend(values.map(f32::to_bits));
        }
    }
    bits
}

/// Pixels and energies of two images purified with a network that was learned.
fn purified() -> (Vec<f32>, Vec<f32>) {
    let path: PathBuf =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/browser/model/step.onnx");
    let purifier = Purifier::builder(&Model::open(path).unwrap())
        .backend(Backend::native())
        .threads(1)
        .build(3)
        .unwrap();
    let purified = purifier
        .run(&Request::new(&ramps(GREY, 2)).trace())
        .unwrap();
    let energies = purified.reports.iter().flat_map(|report| &report.path);
    (
        purified.replicas[0].array().iter().copied().collect(),
        energies.map(|at| at.energy).collect(),
    )
}

fn numbers(golden: &Value, key: &str) -> Vec<f32> {
    let numbers = golden[key].as_array().unwrap().iter();
    numbers
        .map(|number| number.as_f64().unwrap() as f32)
        .collect()
}

/// The largest difference, and the largest expected value.
fn difference(got: &[f32], expected: &[f32]) -> (f32, f32) {
    assert_eq!(got.len(), expected.len());
    let pairs = got.iter().zip(expected);
    let largest = pairs
        .map(|(got, expected)| (got - expected).abs())
        .fold(0.0, f32::max);
    (
        largest,
        expected
            .iter()
            .fold(0.0, |most, value| most.max(value.abs())),
    )
}

#[test]
fn the_noise_has_the_same_bits_on_every_machine() {
    let expected: Vec<u32> = serde_json::from_value(golden()["noise"].clone()).unwrap();
    assert_eq!(noise(), expected);
}

#[test]
fn images_come_out_alike_on_every_machine() {
    let golden = golden();
    let (values, energies) = purified();
    let (of_values, _) = difference(&values, &numbers(&golden, "values"));
    let (of_energies, scale) = difference(&energies, &numbers(&golden, "energies"));
    println!(
        "{}: pixels differ by {of_values:e}, energies by {of_energies:e} of {scale}",
        std::env::consts::ARCH
    );
    assert!(of_values <= ACROSS_MACHINES, "{of_values:e}");
    assert!(
        of_energies <= ENERGIES_ACROSS_MACHINES * scale,
        "{of_energies:e} of {scale}"
    );
}
