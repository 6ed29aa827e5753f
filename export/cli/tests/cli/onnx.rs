//! `ebm-export onnx` and the small commands around it.

use std::fs;

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;

use crate::workplace::{Workplace, files};

const TINY: &str = r#"{"name":"sngan","image_size":8,"channels":1,"widths":[4,6],"pools":[true,false],"activation":"relu"}"#;

/// A folder with a checkpoint of random weights.
fn workplace() -> Workplace {
    Workplace::with_checkpoints(&[("checkpoint", TINY)], &[])
}

fn multiplications(workplace: &Workplace, file: &str) -> u64 {
    workplace.inspection(file)["multiplications_per_image"]
        .as_u64()
        .unwrap()
}

#[test]
fn an_energy_becomes_three_files() {
    let workplace = workplace();
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
    let workplace = workplace();
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
    let workplace = workplace();
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
    let workplace = workplace();
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
        "expected an opset from 13 to 22, got 12",
    );
    workplace.refuses(
        &["onnx", "checkpoint", "-o", "other", "--batch", "0"],
        "expected a batch from 1 to 1048576, got 0",
    );
}

#[test]
fn a_potential_of_several_terms_is_one_step() {
    let workplace = workplace();
    workplace
        .export(&[
            "init",
            TINY,
            "-o",
            "prior",
            "--seed",
            "1",
            "--temperature",
            "0.5",
        ])
        .success();
    let with = |arguments: &[&str], folder: &str| {
        let arguments = [&["onnx", "checkpoint", "-o", folder], arguments].concat();
        workplace.export(&arguments)
    };
    with(
        &["--prior", "prior", "--tau", "0.15", "--clip", "2"],
        "joint",
    )
    .success();
    workplace
        .export(&["inspect", "joint/step.onnx"])
        .success()
        .stdout(
            contains("input: temperature []")
                .and(contains("\"tau\": 0.15"))
                .and(contains("\"clip\": 2.0"))
                .and(contains("\"prior\": {"))
                .and(contains("\"temperature\": 0.5")),
        );
    workplace
        .export(&["inspect", "joint/energy.onnx"])
        .success()
        .stdout(contains("input: temperature []"));
    with(&["--tau", "none"], "plain").success();
    workplace
        .export(&["inspect", "plain/energy.onnx"])
        .success()
        .stdout(
            contains("temperature []")
                .not()
                .and(contains("potential").not()),
        );
    for (arguments, reason) in [
        (
            vec!["--prior", "nowhere"],
            "--prior: nowhere: no such folder",
        ),
        (
            vec!["--prior", "prior", "--prior-temperature=-1"],
            "the prior's temperature must be positive",
        ),
        (vec!["--tau", "0"], "tau must be positive"),
        (vec!["--clip", "0"], "clip must be positive"),
    ] {
        let arguments = [&["onnx", "checkpoint", "-o", "bad"], &arguments[..]].concat();
        workplace.refuses(&arguments, reason);
    }
    assert!(!workplace.path("bad").exists());
}

#[test]
fn published_networks_are_made_by_name() {
    let workplace = workplace();
    for (name, width, output) in [
        ("biggan64", "8", "energy.onnx"),
        ("unet_vit32", "4", "energy.onnx"),
        ("gen_sngan64", "2", "generator.onnx"),
        ("gen_biggan_cond128", "4", "generator.onnx"),
        ("wrn28_10", "1", "classifier.onnx"),
    ] {
        let folder = format!("{name}.checkpoint");
        let activation = ["--activation", "silu"];
        let init = ["init", name, "--width", width, "-o", &folder];
        workplace
            .export(&[&init[..], &activation].concat())
            .success();
        workplace.export(&["onnx", &folder, "-o", name]).success();
        workplace
            .export(&["inspect", &format!("{name}/{output}")])
            .success()
            .stdout(contains("\"activation\": \"silu\""));
    }
    workplace.refuses(
        &["init", "sngan48", "-o", "new"],
        "expected sngan32, sngan64",
    );
    workplace.refuses(
        &["init", "sngan32", "--activation", "sine", "-o", "new"],
        "--activation sine",
    );
}

#[test]
fn nothing_is_overwritten_unasked() {
    let workplace = workplace();
    workplace
        .export(&["onnx", "checkpoint", "-o", "model"])
        .success();
    workplace.refuses(
        &["onnx", "checkpoint", "-o", "model"],
        "exists already; give another name with -o, or --force",
    );
    workplace
        .export(&["onnx", "checkpoint", "-o", "model", "--force"])
        .success();
    workplace.refuses(
        &["init", "sngan32", "-o", "checkpoint"],
        "checkpoint exists already; give another name",
    );
}

#[test]
fn bad_checkpoints_are_refused_before_anything_is_written() {
    let workplace = workplace();
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
    use ebm_export::source::checkpoint::{self, Header, WEIGHTS};
    let workplace = workplace();
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
    let workplace = workplace();
    fs::write(workplace.path("text.onnx"), "not a model").unwrap();
    workplace.refuses(&["inspect", "text.onnx"], "text.onnx: not an ONNX model");
    workplace.refuses(&["inspect", "nowhere.onnx"], "cannot read nowhere.onnx");
}

#[test]
fn a_full_disk_leaves_nothing_half_written() {
    let workplace = workplace();
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
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_ebm-export"))
        .current_dir(workplace.folder())
        .args(["onnx", "checkpoint", "-o", "full"])
        .output();
    let left = files(&full);
    std::process::Command::new("umount")
        .arg(&full)
        .status()
        .unwrap();
    let output = output.unwrap();
    assert!(!output.status.success());
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.starts_with("error: cannot write full/"),
        "{message}"
    );
    assert_eq!(
        message.matches("No space left on device").count(),
        1,
        "{message}"
    );
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn nonsense_is_refused_in_one_sentence() {
    let workplace = workplace();
    fs::write(workplace.path("file"), "").unwrap();
    let described = |image_size: u64, widths: &str, activation: &str| {
        format!(
            r#"{{"name":"sngan","image_size":{image_size},"channels":1,"widths":{widths},"pools":[true],"activation":{activation}}}"#
        )
    };
    let init =
        |network: &str, reason: &str| workplace.refuses(&["init", network, "-o", "new"], reason);
    init(
        "sngan31",
        "wrn28_10 or a description as JSON, got \"sngan31\"",
    );
    init(r#"{"name":"sngan31"}"#, "unknown variant `sngan31`");
    init(
        &described(9, "[4]", r#""relu""#),
        "image_size must be a positive multiple of 2 for 1 pools, got 9",
    );
    init(
        &described(1 << 33, "[4]", r#""relu""#),
        "image_size must be from 1 to 65536",
    );
    init(
        &described(8, "[0]", r#""relu""#),
        "each width must be from 1 to 65536, got 0",
    );
    init(
        &described(8, "[4]", r#"{"softplus":{"beta":1e-39}}"#),
        "neither tiny nor huge",
    );
    for (option, value, reason) in [
        (
            "--width",
            "18446744073709551615",
            "each width must be from 1 to 65536",
        ),
        (
            "--step-size",
            "-0.1",
            "langevin.step_size must be positive and finite in f32, got -0.1",
        ),
        (
            "--step-size",
            "1e-60",
            "langevin.step_size must be positive",
        ),
        (
            "--temperature",
            "0",
            "langevin.temperature must be positive",
        ),
        (
            "--temperature",
            "NaN",
            "langevin.temperature must be positive",
        ),
        ("--steps", "0", "langevin.steps must be at least 1, got 0"),
    ] {
        workplace.refuses(
            &["init", "sngan32", "-o", "new", &format!("{option}={value}")],
            reason,
        );
    }
    let onnx = |option: &str, value: &str, reason: &str| {
        workplace.refuses(
            &["onnx", "checkpoint", "-o", "model", option, value],
            reason,
        );
    };
    onnx(
        "--batch",
        "18446744073709551615",
        "expected a batch from 1 to 1048576",
    );
    workplace.refuses(
        &["onnx", "checkpoint", "-o", "file"],
        "file is a file, expected a folder",
    );
    assert!(!workplace.path("model").exists() && !workplace.path("new").exists());
}

#[test]
fn a_header_that_contradicts_itself_is_refused() {
    let workplace = workplace();
    let header = workplace.path("checkpoint/checkpoint.json");
    let whole: serde_json::Value = serde_json::from_slice(&fs::read(&header).unwrap()).unwrap();
    for (pointer, value, reason) in [
        ("/kind", "\"classifier\"", "expected kind and n_classes"),
        ("/n_classes", "77", "expected kind and n_classes"),
        (
            "/langevin/step_size",
            "-1",
            "langevin.step_size must be positive",
        ),
        (
            "/langevin/temperature",
            "0",
            "langevin.temperature must be positive",
        ),
        ("/langevin/tau", "0", "langevin.tau must be positive"),
        (
            "/purification/steps",
            "0",
            "purification.steps must be at least 1",
        ),
        (
            "/format_version",
            "\"1\"",
            "expected format_version 1, got \"1\"",
        ),
        ("/network/name", "\"unknown\"", "unknown variant `unknown`"),
        (
            "/network/image_size",
            "8589934592",
            "must be from 1 to 65536",
        ),
        (
            "/network/widths",
            "\"wide\"",
            "not a valid checkpoint header",
        ),
    ] {
        let mut changed = whole.clone();
        *changed.pointer_mut(pointer).unwrap() = serde_json::from_str(value).unwrap();
        fs::write(&header, changed.to_string()).unwrap();
        workplace.refuses(&["onnx", "checkpoint", "-o", "model"], reason);
    }
    assert!(!workplace.path("model").exists());
}

#[test]
fn rewrites_are_chosen_by_name() {
    let workplace = workplace();
    let chosen = [
        "onnx",
        "checkpoint",
        "-o",
        "model",
        "--rewrites",
        "pool_conv,fold_affine",
    ];
    workplace.export(&chosen).success();
    workplace
        .export(&["inspect", "model/step.onnx", "--json"])
        .success()
        .stdout(predicate::function(|text: &str| {
            let inspection: serde_json::Value = serde_json::from_str(text).unwrap();
            inspection["contract"]["rewrites"] == serde_json::json!(["pool_conv", "fold_affine"])
        }));
    Command::new(env!("CARGO_BIN_EXE_ebm-export"))
        .current_dir(workplace.folder())
        .args(["onnx", "checkpoint", "-o", "other", "--rewrites", "magic"])
        .assert()
        .failure()
        .stderr(contains(
            "unknown rewrite \"magic\"; there are simplify, fold_affine, pool_conv, flip_conv, mask",
        ));
}

#[test]
fn the_moving_average_is_exported_unless_asked_otherwise() {
    use ebm_export::source::checkpoint::{self, EMA, Header, WEIGHTS};
    let workplace = workplace();
    let header = Header::new(serde_json::from_str(TINY).unwrap());
    let [last, average] = [0, 1].map(|seed| header.network.initial_weights(seed).unwrap());
    checkpoint::write(
        &workplace.path("both"),
        &header,
        &[(WEIGHTS, &last), (EMA, &average)],
    )
    .unwrap();
    for (folder, options, weights) in [
        ("a", &[][..], &average),
        ("b", &["--weights", "last"], &last),
    ] {
        workplace
            .export(&[&["onnx", "both", "-o", folder], options].concat())
            .success();
        let file = format!("{folder}/energy.onnx");
        workplace
            .export(&["inspect", &file])
            .success()
            .stdout(contains(checkpoint::tensors_sha256(weights)));
    }
}

#[test]
fn what_cannot_be_written_is_not_half_replaced() {
    let workplace = workplace();
    workplace
        .export(&["onnx", "checkpoint", "-o", "model"])
        .success();
    workplace
        .export(&["init", TINY, "-o", "other", "--seed", "9"])
        .success();
    let gradient = workplace.path("model/gradient.onnx");
    let before = fs::read(workplace.path("model/energy.onnx")).unwrap();
    // A folder of that name is something that no file can replace.
    fs::remove_file(&gradient).unwrap();
    fs::create_dir(&gradient).unwrap();
    workplace.refuses(
        &["onnx", "other", "-o", "model", "--force"],
        "model/gradient.onnx is a folder, expected a file",
    );
    assert!(fs::read(workplace.path("model/energy.onnx")).unwrap() == before);
}

#[test]
fn rewrites_are_those_that_pay_on_the_target_in_the_types() {
    let workplace = workplace();
    let cases: [(&[&str], bool); 4] = [
        (&[], true),
        (&["--target", "tract"], true),
        (&["--target", "cuda"], false),
        (&["--precision", "f16"], false),
    ];
    for (options, masks) in cases {
        let arguments = ["onnx", "checkpoint", "-o", "model", "--force"];
        workplace
            .export(&[&arguments[..], options].concat())
            .success();
        let output = workplace
            .export(&["inspect", "model/step.onnx", "--json"])
            .success();
        let inspection: serde_json::Value =
            serde_json::from_slice(&output.get_output().stdout).unwrap();
        let rewrites = inspection["contract"]["rewrites"].as_array().unwrap();
        let has = |name: &str| rewrites.iter().any(|rewrite| rewrite == name);
        assert!(has("pool_conv"), "{options:?}: {rewrites:?}");
        assert_eq!(has("mask"), masks, "{options:?}: {rewrites:?}");
    }
}

#[test]
fn several_steps_of_one_run_are_stated() {
    let workplace = workplace();
    let steps = ["onnx", "checkpoint", "-o", "model", "--steps-per-run", "3"];
    workplace.export(&steps).success();
    let output = workplace
        .export(&["inspect", "model/step.onnx", "--json"])
        .success();
    let inspection: serde_json::Value =
        serde_json::from_slice(&output.get_output().stdout).unwrap();
    assert_eq!(inspection["contract"]["n_steps"], 3);
    let onnx = ["onnx", "checkpoint", "-o", "other"];
    workplace.refuses(
        &[&onnx[..], &["--steps-per-run", "0"]].concat(),
        "expected from 1 to 1024 steps, got 0",
    );
    workplace.refuses(
        &[&onnx[..], &["--layout", "triton", "--steps-per-run", "2"]].concat(),
        "--steps-per-run is for step.onnx",
    );
    assert!(!workplace.path("other").exists());
}
