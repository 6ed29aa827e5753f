//! Weights in the forms in which they are published, against what PyTorch makes of them in f64.
//!
//! `import/make.py` wrote the checkpoints and `import/expected.json` (PyTorch 2.11, safetensors 0.8).
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use assert_cmd::Command;
use ebm_export::Tensors;
use ebm_export::graph::reference::{bindings, evaluate};
use ebm_export::source::import::{Convention, NameMap, Output, Pooling, Reading, Source, weights};
use ebm_export::source::networks::{
    Activation, Biggan, BigganGenerator, Classes, Network, Sngan, SnganGenerator,
};
use ndarray::ArrayD;
use predicates::prelude::*;
use predicates::str::contains;
use serde::Deserialize;

/// Weights are divided by their norms in f64 and kept in f32.
const TOLERANCE: f64 = 2e-6;

#[derive(Deserialize)]
struct Flat {
    shape: Vec<usize>,
    data: Vec<f64>,
}

impl Flat {
    fn array(&self) -> ArrayD<f64> {
        ArrayD::from_shape_vec(self.shape.clone(), self.data.clone()).unwrap()
    }
}

#[derive(Deserialize)]
struct Expected {
    inputs: BTreeMap<String, Flat>,
    output: Flat,
}

fn path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/import")
        .join(file)
}

fn source(file: &str) -> Source {
    Source::read(fs::read(path(file)).unwrap()).unwrap()
}

/// Asserts that the network with those weights computes what PyTorch did, and gives the largest error relative to the largest value.
fn check(file: &str, network: &Network, weights: &Tensors, sign: f64) {
    let text = fs::read_to_string(path("expected.json")).unwrap();
    let mut all: BTreeMap<String, Expected> = serde_json::from_str(&text).unwrap();
    let expected = all.remove(file).unwrap();
    let mut values = bindings(weights);
    values.extend(
        expected
            .inputs
            .iter()
            .map(|(name, flat)| (name.clone(), flat.array())),
    );
    let graph = network.graph().unwrap();
    let output = graph.outputs()[0].0.clone();
    let got = evaluate(&graph, &values).unwrap().remove(&output).unwrap();
    let wanted = expected.output.array() * sign;
    assert_eq!(got.shape(), wanted.shape(), "{file}");
    let largest =
        |array: &ArrayD<f64>| array.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
    let error = largest(&(&got - &wanted)) / largest(&wanted);
    assert!(error <= TOLERANCE, "{file}: {error}");
}

fn discriminator() -> Network {
    let pools = [true, true, false];
    let energy = Sngan::small(8, 2, &[4, 6, 6], &pools, Activation::Relu);
    Network::Sngan(energy.as_in_mimicry())
}

fn generator() -> Network {
    Network::SnganGenerator(SnganGenerator {
        latent: 3,
        channels: 2,
        widths: vec![4, 3, 2],
        ..SnganGenerator::gen_sngan32(1)
    })
}

fn biggan() -> Network {
    Network::Biggan(Biggan {
        image_size: 8,
        channels: 2,
        stem: 8,
        widths: vec![16, 16, 20, 20],
        pools: vec![true, false, true, false],
        attention: Some(2),
        activation: Activation::Relu,
    })
}

fn biggan_generator() -> BigganGenerator {
    BigganGenerator {
        latent: 3,
        channels: 3,
        classes: Some(Classes {
            n_classes: 4,
            embedding: 2,
        }),
        bottom: 16,
        widths: vec![16, 8, 8],
        upsamples: vec![false, true, false],
        attention: Some(2),
        resize: None,
        norm_epsilon: 1e-5,
        activation: Activation::Relu,
    }
}

fn pretrained_generator() -> Network {
    Network::BigganGenerator(BigganGenerator {
        widths: vec![8, 8],
        upsamples: vec![true, false],
        attention: Some(1),
        norm_epsilon: 1e-4,
        ..biggan_generator()
    })
}

#[test]
fn published_networks_compute_what_pytorch_computes() {
    let published = Reading::default();
    let logit = Reading {
        output: Output::Logit,
        ..published
    };
    let half = Reading {
        truncation: 0.5,
        ..published
    };
    let cases = [
        (
            "mimicry_discriminator.pth",
            Convention::Mimicry,
            discriminator(),
            published,
            1.0,
        ),
        (
            "mimicry_discriminator.pth",
            Convention::Mimicry,
            discriminator(),
            logit,
            -1.0,
        ),
        (
            "mimicry_generator.pth",
            Convention::Mimicry,
            generator(),
            published,
            1.0,
        ),
        (
            "biggan_discriminator.safetensors",
            Convention::BigganPytorch,
            biggan(),
            published,
            1.0,
        ),
        (
            "biggan_generator.pth",
            Convention::BigganPytorch,
            Network::BigganGenerator(biggan_generator()),
            published,
            1.0,
        ),
        (
            "pretrained_generator.bin",
            Convention::PretrainedBiggan,
            pretrained_generator(),
            half,
            1.0,
        ),
    ];
    for (file, convention, network, reading, sign) in cases {
        let source = source(file);
        let map = convention.name_map(&source, &network, &reading).unwrap();
        let graph = network.graph().unwrap();
        let weights = weights(&source, &graph, &map).unwrap();
        check(file, &network, &weights, sign);
    }
}

/// An in-place activation makes another function: the reference's shortcut does not see it.
#[test]
fn look_alikes_differ() {
    let Network::Sngan(variant) = discriminator() else {
        panic!("no SNGAN")
    };
    let reference = Network::Sngan(Sngan {
        shortcut: Default::default(),
        ..variant
    });
    let source = source("mimicry_discriminator.pth");
    let mean = Reading {
        pooling: Pooling::Mean,
        ..Reading::default()
    };
    for (network, reading) in [(reference, Reading::default()), (discriminator(), mean)] {
        let map = Convention::Mimicry
            .name_map(&source, &network, &reading)
            .unwrap();
        let weights = weights(&source, &network.graph().unwrap(), &map).unwrap();
        let differs = std::panic::catch_unwind(|| {
            check("mimicry_discriminator.pth", &network, &weights, 1.0);
        });
        assert!(differs.is_err());
    }
}

const OWN_MAP: &str = r#"
    ignore = ["steps", "*.bias_of_nothing", "last.bias"]

    [weights]
    "first.kernel" = { to = "stem.conv1.weight", steps = [{ transpose = [3, 2, 0, 1] }] }
    "second.kernel" = { to = "stem.conv2.weight", steps = [{ transpose = [3, 2, 0, 1] }] }
    "second.bias" = "stem.conv2.bias"
    "side.kernel" = { to = "stem.shortcut.weight", steps = [{ transpose = [3, 2, 0, 1] }] }
    "side.bias" = "stem.shortcut.bias"
    "last.kernel" = "head.weight"

    [fill]
    "stem.conv1.bias" = 0.0
"#;

fn own_energy() -> Network {
    Network::Sngan(Sngan::small(4, 1, &[4], &[false], Activation::Relu))
}

#[test]
fn any_names_can_be_mapped() {
    let source = source("own_energy.safetensors");
    let map: NameMap = toml::from_str(OWN_MAP).unwrap();
    let network = own_energy();
    let weights = weights(&source, &network.graph().unwrap(), &map).unwrap();
    check("own_energy.safetensors", &network, &weights, 1.0);
}

#[test]
fn what_a_map_leaves_open_is_an_error() {
    let source = source("own_energy.safetensors");
    let graph = own_energy().graph().unwrap();
    for (from, to, wanted) in [
        (
            "\"last.bias\"]",
            "]",
            "tensors [\"last.bias\"] of the file go nowhere",
        ),
        (
            "\"side.bias\" = ",
            "\"side.offset\" = ",
            "the file has no tensor \"side.offset\"",
        ),
        (
            "stem.shortcut.bias",
            "stem.side.bias",
            "the network has no weight of this name",
        ),
        (
            "= \"stem.shortcut.bias\"",
            "= \"stem.conv2.bias\"",
            "another tensor goes there too",
        ),
        (
            "transpose = [3, 2, 0, 1] }] }\n    \"second.b",
            "scale = 1.0 }] }\n    \"second.b",
            "expected shape [4, 4, 3, 3], got [3, 3, 4, 4]",
        ),
        (
            "\"stem.conv1.bias\" = 0.0",
            "",
            "no tensor of the file goes to weights [\"stem.conv1.bias\"]",
        ),
        (
            "\"stem.conv1.bias\" = 0.0",
            "\"stem.*\" = inf",
            "expected finite values",
        ),
        (
            "\"stem.conv1.bias\" = 0.0",
            "\"*.bias\" = 0.0\n\"c\" = 1.0",
            "fill \"c\" fits no weight",
        ),
        (
            "\"steps\", ",
            "",
            "tensors [\"steps\"] of the file go nowhere",
        ),
        (
            "\"last.kernel\"",
            "\"steps\" = \"stem.conv1.bias\"\n\"last.kernel\"",
            "expected f64, f32, f16 or bf16, got I64",
        ),
        (
            "ignore",
            "roots = [\"state_dict\"]\nignore",
            "no tensor below any of [\"state_dict\"]; there are [\"first.kernel\"",
        ),
    ] {
        let text = OWN_MAP.replacen(from, to, 1);
        assert_ne!(text, OWN_MAP);
        let map: NameMap = toml::from_str(&text).unwrap();
        let error = weights(&source, &graph, &map).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}: expected {wanted:?}");
    }
}

#[test]
fn conventions_refuse_what_they_do_not_know() {
    let pretrained = source("pretrained_generator.bin");
    let between = Reading {
        truncation: 0.3,
        ..Reading::default()
    };
    let error = Convention::PretrainedBiggan
        .name_map(&pretrained, &pretrained_generator(), &between)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("multiples of 1/2 as truncation, got 0.3"),
        "{error}"
    );
    let error = Convention::Mimicry
        .name_map(&pretrained, &pretrained_generator(), &between)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("mimicry has no names for this network"),
        "{error}"
    );
}

/// Bytes changed or cut off anywhere give an error or other weights, never a panic.
#[test]
fn damaged_files_are_no_crash() {
    for file in [
        "mimicry_discriminator.pth",
        "mimicry_generator.pth",
        "own_energy.safetensors",
    ] {
        let bytes = fs::read(path(file)).unwrap();
        for position in (0..bytes.len()).step_by(7) {
            let mut changed = bytes.clone();
            changed[position] ^= 0x5a;
            for bytes in [&changed[..], &bytes[..position]] {
                let Ok(source) = Source::read(bytes.to_vec()) else {
                    continue;
                };
                for name in source.names() {
                    let _ = source.tensor(name);
                }
            }
        }
    }
}

fn export(folder: &std::path::Path, arguments: &[&str]) -> assert_cmd::assert::Assert {
    Command::new(env!("CARGO_BIN_EXE_ebm-export"))
        .current_dir(folder)
        .args(arguments)
        .assert()
}

#[test]
fn the_command_makes_a_checkpoint_that_can_be_exported() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let network = serde_json::to_string(&generator()).unwrap();
    let file = path("mimicry_generator.pth");
    let file = file.to_str().unwrap();
    export(
        folder,
        &["import", file, "--network", &network, "-o", "generator"],
    )
    .success()
    .stdout(contains("generator: ").and(contains(" parameters from 41 tensors")));
    export(folder, &["onnx", "generator", "-o", "model"]).success();
    export(folder, &["inspect", "model/generator.onnx"])
        .success()
        .stdout(
            contains("input: z [N, 3]")
                .and(contains("output: image [N, 2, 16, 16]"))
                .and(contains("\"kind\": \"generator\"")),
        );
    export(
        folder,
        &["import", file, "--network", &network, "-o", "generator"],
    )
    .failure()
    .stderr(contains("generator exists already"));
}

#[test]
fn the_map_that_is_shown_can_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let network = serde_json::to_string(&discriminator()).unwrap();
    let file = path("mimicry_discriminator.pth");
    let file = file.to_str().unwrap();
    let common = ["import", file, "--network", &network];
    let shown = export(folder, &[&common[..], &["--show-map"]].concat()).success();
    fs::write(folder.join("names.toml"), &shown.get_output().stdout).unwrap();
    export(folder, &[&common[..], &["-o", "a"]].concat()).success();
    export(
        folder,
        &[&common[..], &["-o", "b", "--map", "names.toml"]].concat(),
    )
    .success();
    let weights = |name: &str| fs::read(folder.join(name).join("weights.safetensors")).unwrap();
    assert_eq!(weights("a"), weights("b"));
}

#[test]
fn bad_files_are_one_line_of_error() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("picture.png"), b"\x89PNG\r\n").unwrap();
    fs::write(folder.join("bad.toml"), "weights = 1").unwrap();
    let own = path("own_energy.safetensors");
    let own = own.to_str().unwrap();
    for (arguments, reason) in [
        (
            vec!["picture.png", "--network", "sngan32"],
            "picture.png: neither safetensors nor a PyTorch checkpoint",
        ),
        (
            vec!["nowhere.pth", "--network", "sngan32"],
            "cannot read nowhere.pth",
        ),
        (
            vec![own, "--network", "sngan48"],
            "expected sngan32, sngan64",
        ),
        (
            vec![own, "--network", "sngan32"],
            "the file has no tensor \"block1.c1.bias\"",
        ),
        (
            vec![own, "--network", "wrn28_10"],
            "give a map of names with --map",
        ),
        (
            vec![own, "--network", "sngan32", "--map", "bad.toml"],
            "bad.toml: not a map of names",
        ),
        (
            vec![own, "--network", "sngan32", "--map", "none.toml"],
            "cannot read none.toml",
        ),
    ] {
        let arguments = [&["import"], &arguments[..], &["-o", "new"]].concat();
        export(folder, &arguments)
            .failure()
            .stderr(contains(reason).and(predicate::function(|text: &str| {
                text.starts_with("error: ") && text.trim_end().lines().count() == 1
            })));
        assert!(!folder.join("new").exists());
    }
}
