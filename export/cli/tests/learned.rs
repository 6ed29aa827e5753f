//! Checkpoints of energies that were learned beside other networks.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use assert_cmd::Command;
use ebm_export::source::Langevin;
use ebm_export::source::checkpoint::{
    self, GENERATOR, GENERATOR_EMA, Header, PRIOR, PriorHeader, WEIGHTS, tensors_sha256,
};
use ebm_export::source::networks::{Activation, Network, Sngan, SnganGenerator};
use predicates::prelude::*;
use predicates::str::contains;

fn export(folder: &Path, arguments: &str) -> assert_cmd::assert::Assert {
    Command::new(env!("CARGO_BIN_EXE_ebm-export"))
        .current_dir(folder)
        .args(arguments.split_whitespace())
        .assert()
}

/// An energy that was learned beside a prior and τ, with a generator.
#[test]
fn what_was_learned_together_is_exported_together() {
    let folder = tempfile::tempdir().unwrap();
    let energy = Network::Sngan(Sngan::small(8, 1, &[4], &[true], Activation::Silu));
    let other = Network::Sngan(Sngan::small(8, 1, &[3], &[true], Activation::Silu));
    let generator = Network::SnganGenerator(SnganGenerator {
        latent: 5,
        channels: 1,
        widths: vec![4, 3],
        ..SnganGenerator::gen_sngan32(1)
    });
    let mut header = Header::new(energy.clone());
    header.langevin = Some(Langevin {
        step_size: 0.05,
        temperature: 1e-2,
        steps: 20,
        tau: Some(0.5),
    });
    header.prior = Some(PriorHeader {
        network: other.clone(),
        temperature: 2e-2,
    });
    header.generator = Some(generator.clone());
    let weights = energy.initial_weights(1).unwrap();
    let prior = other.initial_weights(2).unwrap();
    let [last, average] = [3, 4].map(|seed| generator.initial_weights(seed).unwrap());
    let groups = [
        (WEIGHTS, &weights),
        (PRIOR, &prior),
        (GENERATOR, &last),
        (GENERATOR_EMA, &average),
    ];
    checkpoint::write(&folder.path().join("learned"), &header, &groups).unwrap();

    export(folder.path(), "onnx learned -o model").success();
    export(folder.path(), "inspect model/step.onnx")
        .success()
        .stdout(contains("\"tau\": 0.5").and(contains(tensors_sha256(&prior))));
    export(folder.path(), "inspect model/generator.onnx")
        .success()
        .stdout(contains(tensors_sha256(&average)));
    export(
        folder.path(),
        "verify model/gradient.onnx --against learned",
    )
    .success();

    export(folder.path(), "onnx learned -o last --weights last").success();
    export(folder.path(), "inspect last/generator.onnx")
        .success()
        .stdout(contains(tensors_sha256(&last)));
    export(folder.path(), "onnx learned -o model")
        .failure()
        .stderr(contains("exists already"));
}
