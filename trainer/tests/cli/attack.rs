//! Attacks and their files.

use std::fs;
use std::path::Path;

use ebm_export::graph::tensor::{Tensor, Tensors};
use ebm_export::source::Energy;
use ebm_export::source::checkpoint::{self, Header};
use ebm_export::source::networks::Activation;
use ebm_export::write::{Export, Form};
use predicates::str::contains;
use safetensors::SafeTensors;

use crate::common::{classifier, fit, refused, trainer};

const TINY: &str = "--epsilon 0.125 --protocol quick -n 7 --pgd-steps 2 --replicas 2 --verify-replicas 3 --steps 2 --threads 1";

struct Runs {
    folder: tempfile::TempDir,
}

impl Runs {
    fn learned() -> Runs {
        let runs = Runs {
            folder: tempfile::tempdir().unwrap(),
        };
        // With ReLUs, which some of these tests are about.
        fit(&runs.path("energy"), "--set network.activation=relu");
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

/// The network of a run as an ONNX file.
fn as_onnx(runs: &Runs, run: &str) -> std::path::PathBuf {
    let network = Energy::of_checkpoint(&runs.path(run)).unwrap();
    let file = Export::default().model(&network, &Form::Forward).unwrap();
    let path = runs.path(&format!("{run}.onnx"));
    fs::write(&path, file.to_bytes()).unwrap();
    path
}

fn results(folder: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(folder.join("attack.json")).unwrap()).unwrap()
}

/// Results without what differs from run to run.
fn without_seconds(mut results: serde_json::Value) -> serde_json::Value {
    results["seconds"] = 0.into();
    for list in ["attacks", "baselines"] {
        for entry in results[list].as_array_mut().unwrap() {
            entry["seconds"] = 0.into();
            for attack in entry["attacks"].as_array_mut().into_iter().flatten() {
                attack["seconds"] = 0.into();
            }
        }
    }
    results
}

/// A step file says how to purify with it. One whose steps are clipped is another defence than its energy.
#[test]
fn step_files_are_attacked_as_their_contracts_recommend() {
    let runs = Runs::learned();
    let energy = Energy::of_checkpoint(&runs.path("energy")).unwrap();
    let step = |name: &str, clip: Option<f64>| {
        let export = Export {
            clip,
            ..Export::default()
        };
        let file = export.model(&energy, &Form::Steps(1)).unwrap();
        fs::write(runs.path(name), file.to_bytes()).unwrap();
        let [step, classifier] = [name, "classifier"].map(|name| runs.path(name));
        format!(
            "attack --energy {} --classifier {} --epsilon 0.125 --protocol quick -n 4 --pgd-steps 1 --replicas 1 \
             --verify-replicas 2 --threads 1 --attacks transfer -o {}",
            step.display(),
            classifier.display(),
            runs.path(&format!("{name}-attacked")).display()
        )
    };
    trainer(&step("step.onnx", None)).assert().success();
    let of_run = runs.path("of-run");
    runs.attack(&format!(
        "--epsilon 0.125 --protocol quick -n 4 --pgd-steps 1 --replicas 1 --verify-replicas 2 --threads 1 --attacks transfer -o {}",
        of_run.display()
    ))
    .assert()
    .success();
    let [of_run, of_file] =
        [of_run, runs.path("step.onnx-attacked")].map(|folder| results(&folder));
    for key in ["purification", "lines", "defended_attacked"] {
        assert_eq!(of_run[key], of_file[key], "{key}");
    }
    refused(
        &mut trainer(&step("clipped.onnx", Some(0.5))),
        &["--energy", "a clipped drift", "attack the run"],
    );
}

/// A purifier and a classifier that anybody exported meet the attacks that their runs meet.
#[test]
fn onnx_files_are_attacked_as_their_runs_are() {
    let runs = Runs::learned();
    let (run, files) = (runs.path("of-runs"), runs.path("of-files"));
    let same = "--step-size 0.02 --temperature 0.001 --attacks bpda,exact,softened,softened-0.3";
    runs.attack(&format!("{TINY} {same} -o {}", run.display()))
        .assert()
        .success();
    let [energy, classifier] = ["energy", "classifier"].map(|run| as_onnx(&runs, run));
    let of_files = format!(
        "attack --energy {} --classifier {} --images digits-classifier {TINY}",
        energy.display(),
        classifier.display()
    );
    trainer(&format!("{of_files} {same} -o {}", files.display()))
        .assert()
        .success();
    let [one, other] = [&run, &files].map(|folder| results(folder));
    let verdicts = |results: &serde_json::Value| -> Vec<serde_json::Value> {
        let baselines = results["baselines"].as_array().unwrap();
        baselines
            .iter()
            .map(|baseline| baseline["on_clean"].clone())
            .collect()
    };
    assert_eq!(verdicts(&one), verdicts(&other));
    for key in ["lines", "clean", "attacked", "defended_attacked"] {
        assert_eq!(one[key], other[key], "{key}");
    }
    // A file that somebody else wrote has no contract.
    let mut bytes = fs::read(&energy).unwrap();
    let key = b"ebm.contract";
    let at = bytes.windows(key.len()).position(|bytes| bytes == key);
    bytes[at.unwrap()] = b'x';
    fs::write(&energy, bytes).unwrap();
    let out = runs.path("refused");
    refused(
        &mut trainer(&format!("{of_files} -o {}", out.display())),
        &["recommends no purification", "--step-size"],
    );
    let [energy, classifier] = [energy, classifier].map(|path| path.display().to_string());
    for (arguments, expected) in [
        (
            format!("--classifier {energy} --images digits-classifier"),
            vec!["--classifier", "expected logits [N, classes]", "[N]"],
        ),
        (
            format!("--energy {classifier} --classifier {classifier} --images digits-classifier"),
            vec!["--energy", "expected one energy per image [N]"],
        ),
        (
            format!("--classifier {classifier}"),
            vec!["has no images of its own", "--images DIR"],
        ),
        (
            format!("--classifier {classifier} --images 64"),
            vec!["--images 64", "-n 64"],
        ),
        (
            format!("--classifier {classifier} --images digits-classifier --attacks bpda"),
            vec!["--attacks bpda", "none stands before the classifier"],
        ),
    ] {
        refused(
            &mut trainer(&format!("attack {arguments} {TINY} -o {}", out.display())),
            &expected,
        );
    }
    assert!(!out.exists(), "nothing is written before all is checked");
}

/// A classifier alone, with another one beside it; and the curves, which end at 0 % if ε is the whole range.
#[test]
fn a_bare_classifier_is_attacked_and_compared() {
    let runs = Runs::learned();
    let out = runs.path("bare");
    let classifier = runs.path("classifier").display().to_string();
    trainer(&format!(
        "attack --classifier {classifier} --baseline {classifier} --epsilon 0.125 --protocol quick -n 16 --pgd-steps 10 --threads 1 \
         --curves epsilon,iterations,steps -o {}",
        out.display()
    ))
    .assert()
    .success()
    .stdout(contains("exact APGD, logits ratio"))
    .stdout(contains("Square"))
    .stdout(contains("over ε"));
    let results = results(&out);
    assert!(results["purification"].is_null());
    assert_eq!(results["baselines"][0]["title"], classifier);
    let curves = results["curves"].as_array().unwrap();
    let axes: Vec<_> = curves.iter().map(|curve| curve["axis"].as_str()).collect();
    assert_eq!(axes, [Some("epsilon"), Some("iterations")]);
    let points = curves[0]["points"].as_array().unwrap();
    assert_eq!(
        points.last().unwrap()["accuracy"]["n_right"],
        0,
        "{points:?}"
    );
}

/// The free baselines stand in the table, and an audit that was interrupted among them goes on.
#[test]
fn baselines_and_curves_go_on_where_they_were() {
    let runs = Runs::learned();
    let out = runs.path("out");
    let more = format!(
        "{TINY} --attacks bpda --curves copies,steps -o {}",
        out.display()
    );
    runs.attack(&more)
        .assert()
        .success()
        .stdout(contains("JPEG 75, attacked"))
        .stdout(contains("noise alone"))
        .stdout(contains("binarisation, clean"))
        .stdout(contains("descent without noise, attacked"));
    let whole = results(&out);
    let mut part = whole.clone();
    part["complete"] = false.into();
    part["baselines"].as_array_mut().unwrap().truncate(2);
    let curves = part["curves"].as_array_mut().unwrap();
    curves.truncate(1);
    curves[0]["complete"] = false.into();
    curves[0]["points"].as_array_mut().unwrap().truncate(1);
    fs::write(out.join("attack.json"), serde_json::to_vec(&part).unwrap()).unwrap();
    runs.attack(&more).assert().success();
    assert_eq!(without_seconds(results(&out)), without_seconds(whole));
}
