//! `ebm-export verify`.

use std::fs;

use ebm_export::source::onnx::proto::{ModelProto, NodeProto, TensorProto};
use predicates::str::contains;
use prost::Message;

use crate::workplace::{Workplace, case};

fn energy(activation: &str) -> String {
    format!(
        r#"{{"name":"sngan","image_size":8,"channels":1,"widths":[4,6],"pools":[true,false],"activation":{activation}}}"#
    )
}

const CLASSIFIER: &str = r#"{"name":"conv_classifier","image_size":8,"channels":1,"widths":[4],"pools":[true],"n_classes":3,"activation":"relu"}"#;

/// A folder with checkpoints `smooth`, `kinked` and `classifier`, and the files of the first in `model`.
fn workplace() -> Workplace {
    let workplace = Workplace::with_checkpoints(
        &[
            ("smooth", &energy("\"silu\"")),
            ("kinked", &energy("\"relu\"")),
            ("classifier", CLASSIFIER),
        ],
        &[],
    );
    workplace
        .export(&["onnx", "smooth", "-o", "model"])
        .success();
    workplace
}

impl Workplace {
    /// What the command prints as JSON, and whether it succeeds.
    fn report(&self, arguments: &[&str]) -> (serde_json::Value, bool) {
        let assert = self.export(&[&["verify", "--json"], arguments].concat());
        let output = assert.get_output();
        let report = serde_json::from_slice(&output.stdout).unwrap();
        (report, output.status.success())
    }

    /// What is compared with what, and whether it passes.
    fn checks(&self, arguments: &[&str]) -> Vec<(String, String, bool)> {
        let (report, succeeds) = self.report(arguments);
        assert_eq!(report["passes"], succeeds, "{report}");
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_string();
        let check = |check: &serde_json::Value| {
            let passes = check["passes"].as_bool().unwrap();
            (text(&check["output"]), text(&check["against"]), passes)
        };
        report["checks"]
            .as_array()
            .unwrap()
            .iter()
            .map(check)
            .collect()
    }

    /// Copies a model without one of its outputs.
    fn without_output(&self, model: &str, output: &str, copy: &str) {
        let mut proto = ModelProto::decode(fs::read(self.path(model)).unwrap().as_slice()).unwrap();
        let graph = proto.graph.as_mut().unwrap();
        graph.output.retain(|value| value.name() != output);
        fs::write(self.path(copy), proto.encode_to_vec()).unwrap();
    }

    /// Copies a model of which an output is computed as another one is.
    fn with_output_of_another(&self, model: &str, output: &str, other: &str, copy: &str) {
        let mut proto = ModelProto::decode(fs::read(self.path(model)).unwrap().as_slice()).unwrap();
        let graph = proto.graph.as_mut().unwrap();
        let info = graph.output.iter().find(|value| value.name() == other);
        let mut info = info.unwrap().clone();
        info.name = Some(output.to_string());
        graph.output.retain(|value| value.name() != output);
        graph.output.push(info);
        for name in graph.node.iter_mut().flat_map(|node| &mut node.output) {
            if name == output {
                *name = format!("{output}.before");
            }
        }
        for name in graph.node.iter_mut().flat_map(|node| &mut node.input) {
            if name == output {
                *name = format!("{output}.before");
            }
        }
        graph.node.push(NodeProto {
            op_type: Some("Identity".to_string()),
            input: vec![other.to_string()],
            output: vec![output.to_string()],
            ..NodeProto::default()
        });
        fs::write(self.path(copy), proto.encode_to_vec()).unwrap();
    }

    /// Copies a model with an input called otherwise, everywhere.
    fn with_input_called(&self, model: &str, input: &str, name: &str, copy: &str) {
        let mut proto = ModelProto::decode(fs::read(self.path(model)).unwrap().as_slice()).unwrap();
        let graph = proto.graph.as_mut().unwrap();
        let values = graph.input.iter_mut();
        for value in values.filter(|value| value.name() == input) {
            value.name = Some(name.to_string());
        }
        let operands = graph.node.iter_mut().flat_map(|node| &mut node.input);
        for operand in operands.filter(|operand| *operand == input) {
            *operand = name.to_string();
        }
        fs::write(self.path(copy), proto.encode_to_vec()).unwrap();
    }

    /// Copies a model with one of its tensors changed: the first of those whose names contain `part`, of more than one element.
    fn tamper(&self, model: &str, part: &str, tampered: &str) {
        let mut proto = ModelProto::decode(fs::read(self.path(model)).unwrap().as_slice()).unwrap();
        let tensors = &mut proto.graph.as_mut().unwrap().initializer;
        let is_meant = |tensor: &&mut TensorProto| {
            tensor.name().contains(part) && tensor.data_type() == 1 && tensor.raw_data().len() > 4
        };
        let tensor = tensors.iter_mut().find(is_meant).unwrap();
        let bytes = tensor.raw_data.as_mut().unwrap();
        let value = f32::from_le_bytes(bytes[..4].try_into().unwrap()) + 0.05;
        bytes[..4].copy_from_slice(&value.to_le_bytes());
        fs::write(self.path(tampered), proto.encode_to_vec()).unwrap();
    }
}

fn outputs(checks: &[(String, String, bool)]) -> Vec<(&str, &str)> {
    let outputs = checks.iter();
    outputs
        .map(|(output, against, _)| (output.as_str(), against.as_str()))
        .collect()
}

const DIFFERENCES: &str = "differences of its energy";
const MODEL: &str = "the model";

#[test]
fn the_files_of_a_checkpoint_are_right() {
    let workplace = workplace();
    workplace
        .export(&["onnx", "kinked", "-o", "kinks"])
        .success();
    workplace
        .export(&["onnx", "classifier", "-o", "classes"])
        .success();
    for (folder, checkpoint) in [("model", "smooth"), ("kinks", "kinked")] {
        for (file, wanted) in [
            (
                "gradient.onnx",
                &[
                    ("energy", MODEL),
                    ("gradient", DIFFERENCES),
                    ("gradient", MODEL),
                ][..],
            ),
            (
                "step.onnx",
                &[
                    ("x_next", DIFFERENCES),
                    ("gradient_norm", "its x_next"),
                    ("energy", MODEL),
                    ("x_next", MODEL),
                ],
            ),
            ("energy.onnx", &[("energy", MODEL)]),
        ] {
            let path = format!("{folder}/{file}");
            let checks = workplace.checks(&[&path, "--against", checkpoint]);
            assert_eq!(outputs(&checks), wanted, "{path}");
            assert!(checks.iter().all(|check| check.2), "{path}: {checks:?}");
        }
    }
    let checks = workplace.checks(&["classes/classifier.onnx", "--against", "classifier"]);
    assert_eq!(outputs(&checks), [("logits", MODEL)]);
    assert!(checks[0].2);
}

/// Errors of right files are those of weights that were rounded to f32: far below what is allowed.
#[test]
fn errors_of_right_files_are_small() {
    let workplace = workplace();
    let (report, _) = workplace.report(&["model/gradient.onnx", "--against", "smooth"]);
    for check in report["checks"].as_array().unwrap() {
        assert!(check["worst"].as_f64().unwrap() < 2e-6, "{check}");
    }
}

#[test]
fn a_foreign_model_and_its_derivatives_are_compared() {
    let workplace = workplace();
    let derive = |file: &str, options: &[&str]| {
        let command = ["gradient", "model/energy.onnx", "-o", file];
        workplace.export(&[&command, options].concat()).success();
    };
    derive("both.onnx", &[]);
    workplace.without_output("both.onnx", "energy", "alone.onnx");
    derive("hvp.onnx", &["--hvp"]);
    derive("steps.onnx", &["--steps", "3"]);
    derive(
        "named.onnx",
        &[
            "--keep-energy",
            "--energy-name",
            "score",
            "--gradient-name",
            "slope",
        ],
    );
    let against = ["--against", "model/energy.onnx"];
    for (file, options, wanted) in [
        (
            "alone.onnx",
            &against[..],
            &[
                ("gradient", "differences of the model's energy"),
                ("gradient", MODEL),
            ][..],
        ),
        (
            "hvp.onnx",
            &[],
            &[
                ("gradient", DIFFERENCES),
                ("hvp", "differences of its gradient"),
            ],
        ),
        (
            "hvp.onnx",
            &against,
            &[
                ("energy", MODEL),
                ("gradient", DIFFERENCES),
                ("gradient", MODEL),
                ("hvp", "differences of its gradient"),
                ("hvp", MODEL),
            ],
        ),
        (
            "steps.onnx",
            &against,
            &[
                ("derivative of its energy", DIFFERENCES),
                ("x_next", "single steps down its energy"),
                ("energy", "single steps down its energy"),
                ("gradient_norm", "single steps down its energy"),
                ("x_next", MODEL),
                ("energy", MODEL),
                ("gradient_norm", MODEL),
            ],
        ),
        (
            "named.onnx",
            &["--energy-name", "score", "--gradient-name", "slope"],
            &[("gradient", DIFFERENCES)],
        ),
    ] {
        let checks = workplace.checks(&[&[file], options].concat());
        assert_eq!(outputs(&checks), wanted, "{file}");
        assert!(checks.iter().all(|check| check.2), "{file}: {checks:?}");
    }
    workplace.refuses(
        &["verify", "alone.onnx"],
        "nothing to be compared with; give a model or checkpoint with --against",
    );
}

/// A potential has its temperature as an input, and a prior that only its own checkpoint knows.
#[test]
fn steps_down_a_whole_potential_are_right() {
    let workplace = workplace();
    let options = ["--prior", "kinked", "--tau", "0.5", "--clip", "0.1"];
    workplace
        .export(&[&["onnx", "smooth", "-o", "whole"], &options[..]].concat())
        .success();
    for file in [
        "whole/energy.onnx",
        "whole/gradient.onnx",
        "whole/step.onnx",
    ] {
        let verify = [file, "--against", "smooth"];
        let checks = workplace.checks(&[&verify[..], &["--prior", "kinked"]].concat());
        assert!(checks.iter().all(|check| check.2), "{file}: {checks:?}");
        let checks = workplace.checks(&[&verify[..], &["--prior", "smooth"]].concat());
        let of_model = checks.iter().filter(|check| check.1 == MODEL);
        assert!(of_model.clone().count() > 0 && of_model.clone().all(|check| !check.2));
        workplace.refuses(
            &[&["verify"], &verify[..]].concat(),
            "the file descends a prior too; give its checkpoint with --prior",
        );
    }
}

/// Some tensors belong to the backward pass alone.
#[test]
fn a_changed_weight_is_found_by_differences() {
    let workplace = workplace();
    for file in ["gradient.onnx", "step.onnx"] {
        workplace.tamper(&format!("model/{file}"), "grad", "tampered.onnx");
        let checks = workplace.checks(&["tampered.onnx"]);
        assert!(!checks[0].2, "{file}: {checks:?}");
        workplace
            .export(&["verify", "tampered.onnx"])
            .failure()
            .code(1)
            .stdout(contains("FAILED"))
            .stderr(contains("tampered.onnx is not what it claims: 1 of"));
    }
}

/// Without rewrites both passes read the same weights: then the file is the gradient of another energy, which the checkpoint alone shows.
#[test]
fn a_changed_weight_that_both_passes_share_is_found_by_the_model() {
    let workplace = workplace();
    workplace
        .export(&["onnx", "smooth", "-o", "raw", "--raw"])
        .success();
    workplace.tamper("raw/gradient.onnx", "conv1.weight", "tampered.onnx");
    let checks = workplace.checks(&["tampered.onnx", "--against", "smooth"]);
    let wanted = [
        ("energy", MODEL, false),
        ("gradient", DIFFERENCES, true),
        ("gradient", MODEL, false),
    ];
    let got: Vec<(&str, &str, bool)> = checks
        .iter()
        .map(|(output, against, passes)| (output.as_str(), against.as_str(), *passes))
        .collect();
    assert_eq!(got, wanted);
}

/// All images zero and no biases: every ReLU is at its kink, and nothing is decided. That is not a success.
#[test]
fn images_at_kinks_decide_nothing() {
    let workplace = workplace();
    workplace
        .export(&["onnx", "kinked", "-o", "kinks"])
        .success();
    let zeros = safetensors(&[2, 1, 8, 8], &[0.0; 128]);
    fs::write(workplace.path("zeros"), zeros).unwrap();
    let (report, succeeds) = workplace.report(&["kinks/gradient.onnx", "--images", "zeros"]);
    assert!(!succeeds);
    assert_eq!(report["checks"][0]["decided"], 0);
    assert_eq!(report["checks"][0]["worst"], serde_json::Value::Null);
}

#[test]
fn images_are_taken_from_a_file() {
    let workplace = workplace();
    let values: Vec<f32> = (0..192).map(|index| (index as f32).sin()).collect();
    fs::write(
        workplace.path("images"),
        safetensors(&[3, 1, 8, 8], &values),
    )
    .unwrap();
    let verify = ["model/gradient.onnx", "--images", "images"];
    let (all, succeeds) = workplace.report(&[&verify[..], &["--batch", "8"]].concat());
    assert!(succeeds && all["images"] == 3, "{all}");
    let (two, _) = workplace.report(&verify);
    assert_eq!(two["images"], 2);
    fs::write(
        workplace.path("other"),
        safetensors(&[3, 1, 4, 16], &values),
    )
    .unwrap();
    workplace.refuses(
        &["verify", "model/gradient.onnx", "--images", "other"],
        "expected images of shape [1, 8, 8], got [1, 4, 16]",
    );
    fs::write(workplace.path("other"), "nothing").unwrap();
    workplace.refuses(
        &["verify", "model/gradient.onnx", "--images", "other"],
        "other: not a safetensors file",
    );
}

#[test]
fn the_same_seed_gives_the_same_report() {
    let workplace = workplace();
    let report = |seed: &str| workplace.report(&["model/gradient.onnx", "--seed", seed]).0;
    assert_eq!(report("1"), report("1"));
    assert_ne!(report("1")["checks"], report("2")["checks"]);
}

#[test]
fn what_cannot_be_verified_is_refused() {
    let workplace = workplace();
    workplace
        .export(&["onnx", "classifier", "-o", "classes"])
        .success();
    workplace.refuses(
        &["verify", "model/energy.onnx"],
        "nothing to be compared with; give a model or checkpoint with --against",
    );
    workplace.refuses(
        &["verify", "model/gradient.onnx", "--against", "classifier"],
        "does not give one number per image, so it is not an energy",
    );
    workplace.refuses(
        &["verify", "classes/classifier.onnx", "--against", "smooth"],
        "they are not of one kind",
    );
    let energy = case("torch_dynamo.onnx");
    let derive = |file: &str, options: &[&str]| {
        let command = ["gradient", &energy, "-o", file];
        workplace.export(&[&command, options].concat()).success();
    };
    derive("hvp.onnx", &["--hvp"]);
    derive("steps.onnx", &["--steps", "2"]);
    workplace.with_input_called("hvp.onnx", "v", "w", "renamed.onnx");
    workplace.refuses(
        &["verify", "renamed.onnx"],
        "the file has no input \"v\"; it has [\"x\", \"w\"], so say which one it is with --v-name",
    );
    workplace
        .export(&["verify", "renamed.onnx", "--v-name", "w"])
        .success();
    for file in ["model/step.onnx", "steps.onnx"] {
        for input in ["noise", "step_size", "temperature"] {
            workplace.with_input_called(file, input, "other", "renamed.onnx");
            let reason = format!("it needs no input {input:?}");
            workplace.refuses(&["verify", "renamed.onnx", "--input", "x"], &reason);
        }
    }
    for (file, output, wanted) in [
        ("hvp.onnx", "hvp", "energy"),
        ("hvp.onnx", "gradient", "energy"),
        ("steps.onnx", "x_next", "energy"),
        ("steps.onnx", "energy", "x_next"),
        ("steps.onnx", "gradient_norm", "x_next"),
    ] {
        workplace.with_output_of_another(file, output, wanted, "swapped.onnx");
        workplace.refuses(
            &["verify", "swapped.onnx"],
            &format!("output {output:?} is ["),
        );
    }
    workplace.refuses(
        &["verify", "hvp.onnx", "--against", &case("label.onnx")],
        "the model takes [1, 4] for one image, but the file [1, 3, 16, 16]",
    );
    workplace.refuses(&["verify", "nowhere.onnx"], "cannot read nowhere.onnx");
    fs::write(workplace.path("text.onnx"), "not a model").unwrap();
    workplace.refuses(&["verify", "text.onnx"], "text.onnx: not an ONNX model");
    for (option, value, reason) in [
        ("--batch", "0", "expected from 1 to 1024 images, got 0"),
        ("--max-error", "0", "expected a positive number, got 0"),
        ("--max-error", "NaN", "expected a positive number, got NaN"),
        ("--against", "nowhere", "nowhere"),
    ] {
        workplace.refuses(&["verify", "model/gradient.onnx", option, value], reason);
    }
}

/// A safetensors file of one tensor `x`.
fn safetensors(sizes: &[usize], values: &[f32]) -> Vec<u8> {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let header = format!(
        r#"{{"x":{{"dtype":"F32","shape":{sizes:?},"data_offsets":[0,{}]}}}}"#,
        bytes.len()
    );
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(bytes);
    file
}
