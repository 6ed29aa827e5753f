//! Attacks and their files.

use std::fs;
use std::path::Path;

use ebm_export::graph::tensor::{Tensor, Tensors};
use ebm_export::source::checkpoint::{self, Header};
use ebm_export::source::networks::Activation;
use predicates::str::contains;
use safetensors::SafeTensors;

use crate::common::{classifier, fit, refused, trainer};

const TINY: &str = "--epsilon 0.125 --protocol quick --images 7 --pgd-steps 2 --replicas 2 --verify-replicas 3 --steps 2 --threads 1";

struct Runs {
    folder: tempfile::TempDir,
}

impl Runs {
    fn learned() -> Runs {
        let runs = Runs {
            folder: tempfile::tempdir().unwrap(),
        };
        fit(&runs.path("energy"), "");
        classifier(&runs.path("classifier"));
        runs
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn attack(&self, more: &str) -> assert_cmd::Command {
        let [energy, classifier] = ["energy", "classifier"].map(|name| self.path(name));
        trainer(&format!(
            "attack --energy {} --classifier {} {more}",
            energy.display(),
            classifier.display()
        ))
    }

    /// A checkpoint like another with other weights.
    fn with_weights(
        &self,
        of: &str,
        change: impl FnOnce(&mut Header, &mut Tensors),
    ) -> std::path::PathBuf {
        let from = checkpoint::resolve(&self.path(of)).unwrap();
        let mut header = checkpoint::read_header(&from).unwrap();
        let mut weights = checkpoint::read_best_weights(&from, &header).unwrap();
        change(&mut header, &mut weights);
        let to = self.path("changed");
        checkpoint::write(&to, &header, &[(checkpoint::WEIGHTS, &weights)]).unwrap();
        to
    }
}

fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let bytes = file.tensor(name).unwrap().data().to_vec();
    bytes
        .chunks_exact(4)
        .map(|word| f32::from_le_bytes(word.try_into().unwrap()))
        .collect()
}

fn check_tensors(path: &Path) {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    for (name, shape) in [
        ("clean", vec![7, 1, 8, 8]),
        ("attacked", vec![7, 1, 8, 8]),
        ("bare_attacked", vec![7, 1, 8, 8]),
    ] {
        assert_eq!(file.tensor(name).unwrap().shape(), shape, "{name}");
    }
    for (name, bytes) in [("labels", 7 * 8), ("broken", 7), ("bare_broken", 7)] {
        assert_eq!(file.tensor(name).unwrap().data().len(), bytes, "{name}");
    }
    let clean = floats(&file, "clean");
    for name in ["attacked", "bare_attacked"] {
        for (clean, attacked) in clean.iter().zip(floats(&file, name)) {
            assert!(
                (clean - attacked).abs() <= 0.25 + 1e-6 && (-1.0..=1.0).contains(&attacked),
                "{name}"
            );
        }
    }
}

#[test]
fn an_attack_writes_its_results_and_repeats_them() {
    let runs = Runs::learned();
    let [one, other] = ["one", "other"].map(|name| runs.path(name));
    for out in [&one, &other] {
        runs.attack(&format!("{TINY} -o {}", out.display()))
            .assert()
            .success()
            .stdout(contains("BPDA+EOT"))
            .stdout(contains("what no attack broke"))
            .stdout(contains("ℓ∞ 0.125 of [0, 1] (0.25 of [-1, 1])"))
            .stdout(contains("piecewise linear"))
            .stdout(contains("95 % interval"));
    }
    check_tensors(&one.join("attacked.safetensors"));
    assert_eq!(
        fs::read(one.join("attacked.safetensors")).unwrap(),
        fs::read(other.join("attacked.safetensors")).unwrap()
    );
    let results: serde_json::Value =
        serde_json::from_slice(&fs::read(one.join("attack.json")).unwrap()).unwrap();
    for key in ["clean", "attacked", "defended_clean", "defended_attacked"] {
        assert_eq!(results[key]["n"], 7, "{key}");
        assert_eq!(
            results[key]["interval"].as_array().unwrap().len(),
            2,
            "{key}"
        );
    }
    let epsilon = &results["parameters"]["ball"]["epsilon"];
    assert_eq!(
        (&epsilon["of_0_to_1"], &epsilon["of_minus_1_to_1"]),
        (&0.125.into(), &0.25.into())
    );
    assert_eq!(results["purification"]["steps"], 2);
    refused(
        &mut runs.attack(&format!("{TINY} -o {}", one.display())),
        &["holds the results of an attack", "--force"],
    );
    runs.attack(&format!("{TINY} -o {} --force", one.display()))
        .assert()
        .success();
}

#[test]
fn parameters_out_of_range_are_refused() {
    let runs = Runs::learned();
    for (more, expected) in [
        ("--epsilon 0", "--epsilon 0: expected above 0"),
        ("--epsilon 300/255", "expected at most 1"),
        (
            "--epsilon 0.2 --norm l2 --attacks square",
            "--attacks square: it is one of ℓ∞",
        ),
        ("--epsilon 0.2 --memory 0", "--memory"),
        (
            "--epsilon 0.2 --step-size 0",
            "purification.step_size = 0: expected above 0",
        ),
        (
            "--epsilon 0.2 --temperature 0",
            "purification.temperature = 0: expected above 0",
        ),
        (
            "--epsilon 0.2 --steps 0",
            "purification.steps = 0: expected at least 1",
        ),
        (
            "--epsilon 0.2 --replicas 0",
            "--replicas 0: expected at least 1",
        ),
        (
            "--epsilon 0.2 --seed 4 --verify-seed 4",
            "with another seed",
        ),
    ] {
        refused(
            &mut runs.attack(&format!("{more} -o {}", runs.path("out").display())),
            &[expected],
        );
    }
}

#[test]
fn checkpoints_that_do_not_fit_are_refused() {
    let runs = Runs::learned();
    let attack = |energy: &Path, classifier: &Path| {
        let (energy, classifier, out) = (energy.display(), classifier.display(), runs.path("out"));
        trainer(&format!(
            "attack --energy {energy} --classifier {classifier} {TINY} -o {}",
            out.display()
        ))
    };
    let [energy, classifier] = ["energy", "classifier"].map(|name| runs.path(name));
    refused(
        &mut attack(&classifier, &energy),
        &[
            "--energy",
            "expected a checkpoint of kind Energy, got Classifier",
        ],
    );
    refused(
        &mut attack(&runs.path("none"), &classifier),
        &["--energy", "no such folder"],
    );
}

#[test]
fn weights_that_are_not_finite_are_refused() {
    let runs = Runs::learned();
    let changed = runs.with_weights("energy", |_, weights| {
        let bias = weights.get_mut("stem.conv1.bias").unwrap();
        *bias = Tensor::new(bias.shape(), vec![f32::NAN; bias.data().len()]);
    });
    let (classifier, out) = (runs.path("classifier"), runs.path("out"));
    let arguments = format!(
        "attack --energy {} --classifier {} {TINY} -o {}",
        changed.display(),
        classifier.display(),
        out.display()
    );
    refused(
        &mut trainer(&arguments),
        &["stem.conv1.bias", "NaN", "expected finite values"],
    );
}

#[test]
fn weights_of_another_network_are_refused() {
    let runs = Runs::learned();
    let changed = runs.with_weights("energy", |_, weights| {
        weights.remove("head.weight").unwrap();
    });
    let (classifier, out) = (runs.path("classifier"), runs.path("out"));
    let arguments = format!(
        "attack --energy {} --classifier {} {TINY} -o {}",
        changed.display(),
        classifier.display(),
        out.display()
    );
    refused(
        &mut trainer(&arguments),
        &["head.weight", "another network"],
    );
}

/// Every attack and both norms, on a smooth energy; and what an interruption leaves is gone on from.
#[test]
fn all_attacks_are_made_and_an_interrupted_audit_goes_on() {
    let runs = Runs::learned();
    let smooth = runs.with_weights("energy", |header, _| {
        header.network = header.network.clone().with_activation(Activation::Silu);
    });
    let of = |out: &Path, more: &str| {
        let tiny = match more.contains("--epsilon") {
            true => TINY.replace("--epsilon 0.125", ""),
            false => TINY.to_string(),
        };
        trainer(&format!(
            "attack --energy {} --classifier {} {tiny} -o {} {more}",
            smooth.display(),
            runs.path("classifier").display(),
            out.display()
        ))
    };
    let all = runs.path("all");
    of(&all, "--attacks none,random,transfer,square,differences,bpda,surrogate,exact,exact-from-clean,apgd-ce,apgd-dlr,known-noise")
        .assert()
        .success()
        .stdout(contains("exact gradients:"))
        .stdout(contains("known noise"));
    of(
        &runs.path("l2"),
        "--norm l2 --epsilon 0.5 --attacks transfer,bpda,exact,apgd-ce",
    )
    .assert()
    .success()
    .stdout(contains("ℓ2 0.5 of [0, 1] (1 of [-1, 1])"));

    let (whole, part) = (runs.path("whole"), runs.path("part"));
    of(&whole, "--attacks bpda,exact").assert().success();
    of(&part, "--attacks bpda,exact").assert().success();
    let file = part.join("attack.json");
    let mut results: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    results["attacks"].as_array_mut().unwrap().pop();
    results["complete"] = false.into();
    fs::write(&file, serde_json::to_vec(&results).unwrap()).unwrap();
    refused(
        &mut of(&part, "--attacks bpda,exact --seed 9"),
        &["begun with other networks or options"],
    );
    of(&part, "--attacks bpda,exact")
        .assert()
        .success()
        .stderr(contains("continuing after the attacks bpda"));
    let [whole, part] =
        [whole, part].map(|folder| fs::read(folder.join("attacked.safetensors")).unwrap());
    assert_eq!(whole, part);
}

/// Results without a scale are of an earlier version, which meant pixels in [-1, 1].
#[test]
fn results_without_a_scale_are_refused() {
    let runs = Runs::learned();
    let out = runs.path("old");
    fs::create_dir(&out).unwrap();
    fs::write(
        out.join("attack.json"),
        r#"{"parameters": {"epsilon": 0.25}}"#,
    )
    .unwrap();
    refused(
        &mut runs.attack(&format!("{TINY} -o {}", out.display())),
        &["does not say of which scale its epsilon is", "--force"],
    );
}
