//! What is not taken is named, and no file and no run with wrong shapes breaks down.
#![allow(clippy::unwrap_used)]

mod common;

use std::panic::catch_unwind;
use std::sync::Arc;

use ebm_engine::{Error, Input, Output, Plan, Session};
use ebm_export::source::Energy;
use ebm_export::source::checkpoint::Header;
use ebm_export::source::networks::{Activation, Network, Sngan};
use ebm_export::transform::precision::Precision;
use ebm_export::transform::rewrite::Target;
use ebm_export::write;
use ebm_export::write::onnx::Opset;

use common::Numbers;

fn step_file(precision: Precision) -> Vec<u8> {
    let network = Network::Sngan(Sngan::small(
        8,
        1,
        &[3, 4],
        &[true, false],
        Activation::Relu,
    ));
    let weights = network.initial_weights(3).unwrap();
    let energy = Energy::of_network(&Header::new(network), &weights).unwrap();
    let plan = write::Export {
        rewrites: Target::Tract.rewrites(),
        opset: Opset::new(22).unwrap(),
        precision,
        ..write::Export::default()
    };
    let files = plan.files(&energy, 1).unwrap();
    let file = files.into_iter().find(|file| file.name == "step.onnx");
    file.unwrap().model.to_bytes()
}

/// The file with a text replaced by another of the same length, everywhere.
fn replaced(file: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut file = file.to_vec();
    let mut found = 0;
    for place in 0..file.len() - from.len() {
        if file[place..].starts_with(from.as_bytes()) {
            file[place..place + to.len()].copy_from_slice(to.as_bytes());
            found += 1;
        }
    }
    assert!(found > 0, "{from} is not in the file");
    file
}

#[test]
fn other_operators_and_types_are_named() {
    let whole = step_file(Precision::F32);
    assert!(Plan::new(whole.clone()).is_ok());
    let cases = [
        (replaced(&whole, "Sqrt", "Ceil"), "operator Ceil of node"),
        (
            replaced(&whole, "group", "grouq"),
            "the attribute `grouq` is not supported",
        ),
        (
            replaced(&whole, "count_include_pad", "count_exclude_pad"),
            "count_exclude_pad",
        ),
        (
            replaced(&whole, "asymmetric", "half_pixel"),
            "expected coordinate_transformation_mode asymmetric, got `half_pixel`",
        ),
        (step_file(Precision::F16), "10"),
        (step_file(Precision::Bf16), "16"),
    ];
    for (file, part) in cases {
        let error = Plan::new(file).err().expect(part);
        assert!(error.to_string().contains(part), "{part}: {error}");
        assert!(!matches!(error, Error::Misfit(_)), "{error}");
    }
}

/// Parts of a file and files with changed bytes give a plan or an error.
#[test]
fn no_file_breaks_down() {
    let whole = step_file(Precision::F32);
    let mut numbers = Numbers::new(1);
    let cut = (0..whole.len())
        .step_by(97)
        .map(|end| whole[..end].to_vec());
    let changed = (0..2000).map(|_| {
        let mut file = whole.clone();
        let mut place =
            || ((numbers.unit().abs() * file.len() as f32) as usize).min(file.len() - 1);
        let (place, other) = (place(), place());
        file[place] ^= 1 << (other % 8);
        file
    });
    for (number, file) in cut.chain(changed).enumerate() {
        assert!(
            catch_unwind(|| Plan::new(file).is_ok()).is_ok(),
            "file {number}"
        );
    }
}

static PIXELS: [f32; 128] = [0.0; 128];
static ONE: [f32; 1] = [1.0];

#[test]
fn runs_that_do_not_fit_are_refused() {
    let plan = Arc::new(Plan::new(step_file(Precision::F32)).unwrap());
    let mut session = Session::new(&plan);
    let input = |name, shape, values: &'static [f32]| Input {
        name,
        shape,
        values,
    };
    let good = [
        input("x", &[2, 1, 8, 8], &PIXELS),
        input("noise", &[2, 1, 8, 8], &PIXELS),
        input("step_size", &[], &ONE),
        input("temperature", &[], &ONE),
    ];
    let mut energy = [0.0; 2];
    let mut run = |inputs: &[Input<'_>], name, shape| {
        let output = Output {
            name,
            shape,
            values: &mut energy,
        };
        session
            .run(inputs, &mut [output])
            .map_err(|error| error.to_string())
    };
    assert_eq!(run(&good, "energy", &[2]), Ok(()));
    let of = |place: usize, other: Input<'static>| {
        let mut inputs = good.to_vec();
        inputs[place] = other;
        inputs
    };
    let cases: [(Vec<Input<'_>>, &str, &[usize], &str); 5] = [
        (
            good[..3].to_vec(),
            "energy",
            &[2],
            "the input `temperature` is missing",
        ),
        (
            of(1, input("noise", &[1, 1, 8, 8], &PIXELS[..64])),
            "energy",
            &[2],
            "`noise`: expected the shape [2, 1, 8, 8], got [1, 1, 8, 8]",
        ),
        (
            of(0, input("x", &[2, 1, 8, 8], &PIXELS[..64])),
            "energy",
            &[2],
            "with 64 values",
        ),
        (
            good.to_vec(),
            "energies",
            &[2],
            "there is no output `energies`",
        ),
        (good.to_vec(), "energy", &[1, 2], "expected the shape [2]"),
    ];
    for (inputs, name, shape, part) in cases {
        let error = run(&inputs, name, shape).unwrap_err();
        assert!(error.contains(part), "{part}: {error}");
    }
}
