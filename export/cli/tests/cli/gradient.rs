//! `ebm-export gradient`.

use std::fs;
use std::path::Path;

use predicates::prelude::*;
use predicates::str::contains;

use crate::workplace::{Workplace, case, files};

/// A model of `tests/zoo`.
fn zoo(name: &str) -> String {
    let zoo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/zoo");
    zoo.join(name).display().to_string()
}

impl Workplace {
    /// `ebm-export gradient` of a model of the zoo to `out.onnx`, and what `ebm-export inspect` says of it.
    fn gradient(&self, model: &str, arguments: &[&str]) -> serde_json::Value {
        let model = zoo(model);
        let arguments = [
            &["gradient", &model, "-o", "out.onnx", "--force"],
            arguments,
        ]
        .concat();
        self.export(&arguments).success();
        self.inspection("out.onnx")
    }

    /// Refused, and nothing is there afterwards.
    fn refuses_gradient(&self, model: &str, arguments: &[&str], reason: &str) {
        let arguments = [&["gradient", model, "-o", "out.onnx"], arguments].concat();
        self.export(&arguments).failure().stderr(contains(reason));
        let left = files(self.folder());
        assert!(left.is_empty(), "{reason}: left {left:?}");
    }
}

/// Names and shapes of the inputs or outputs of an inspected file.
fn values(inspection: &serde_json::Value, which: &str) -> Vec<String> {
    let values = inspection[which].as_array().unwrap();
    let shown = |value: &serde_json::Value| {
        let shape: Vec<&str> = value["shape"]
            .as_array()
            .unwrap()
            .iter()
            .map(|size| size.as_str().unwrap())
            .collect();
        format!("{} [{}]", value["name"].as_str().unwrap(), shape.join(", "))
    };
    values.iter().map(shown).collect()
}

#[test]
fn a_model_becomes_its_gradient() {
    let workplace = Workplace::empty();
    workplace
        .export(&["gradient", &zoo("toy_tanh.legacy13.onnx"), "-o", "out.onnx"])
        .success()
        .stdout(contains("energy \"energy\" of input \"x\", opset 13").and(contains("out.onnx: ")));
    let inspection = workplace.gradient("toy_tanh.legacy13.onnx", &[]);
    assert_eq!(values(&inspection, "inputs"), ["x [N, 2]"]);
    assert_eq!(
        values(&inspection, "outputs"),
        ["energy [N]", "gradient [N, 2]"]
    );
    assert_eq!(inspection["contract"]["kind"], "gradient");
    assert_eq!(inspection["contract"]["network"]["name"], "onnx");
    assert_eq!(inspection["opset"], 17);
}

#[test]
fn flags_say_what_is_written() {
    let workplace = Workplace::empty();
    for (model, arguments, inputs, outputs) in [
        (
            "strided_leaky.legacy13.onnx",
            &["--keep-energy", "--batch", "4", "--opset", "13"][..],
            &["images [4, 1, 8, 8]"][..],
            &["energy [4]", "gradient [4, 1, 8, 8]", "out [4]"][..],
        ),
        (
            "toy_tanh.legacy13.onnx",
            &["--hvp", "--v-name", "direction", "--gradient-name", "slope"],
            &["x [N, 2]", "direction [N, 2]"],
            &["energy [N]", "slope [N, 2]", "hvp [N, 2]"],
        ),
        (
            "conditional.legacy13.onnx",
            &["--input", "label"],
            &["x [N, 4]", "label [N, 3]"],
            &["energy [N]", "gradient [N, 3]"],
        ),
        (
            "strided_leaky.legacy13.onnx",
            &["--steps", "1", "--clip", "0.5"],
            &[
                "x [N, 1, 8, 8]",
                "noise [N, 1, 8, 8]",
                "step_size []",
                "temperature []",
            ],
            &["x_next [N, 1, 8, 8]", "energy [N]", "gradient_norm [N]"],
        ),
        (
            "strided_leaky.legacy13.onnx",
            &["--steps", "3"],
            &[
                "x [N, 1, 8, 8]",
                "noise [3, N, 1, 8, 8]",
                "step_size []",
                "temperature []",
            ],
            &[
                "x_next [N, 1, 8, 8]",
                "energy [3, N]",
                "gradient_norm [3, N]",
            ],
        ),
        (
            "vit_four.dynamo22.onnx",
            &[],
            &["x [4, 1, 8, 8]"],
            &["energy [4]", "gradient [4, 1, 8, 8]"],
        ),
        (
            "vit_four.dynamo22.onnx",
            &["--batch", "any"],
            &["x [N, 1, 8, 8]"],
            &["energy [N]", "gradient [N, 1, 8, 8]"],
        ),
        (
            "bad/dynamic_size.onnx",
            &["--shape", "3,8,10"],
            &["pixels [N, 3, 8, 10]"],
            &["energy [N]", "gradient [N, 3, 8, 10]"],
        ),
    ] {
        let inspection = workplace.gradient(model, arguments);
        assert_eq!(
            values(&inspection, "inputs"),
            inputs,
            "{model} {arguments:?}"
        );
        assert_eq!(
            values(&inspection, "outputs"),
            outputs,
            "{model} {arguments:?}"
        );
    }
}

#[test]
fn rewrites_are_chosen() {
    let workplace = Workplace::empty();
    let model = "sngan.legacy13.onnx";
    let rewrites = |arguments: &[&str]| {
        let inspection = workplace.gradient(model, arguments);
        let names = inspection["contract"]["rewrites"]
            .as_array()
            .unwrap()
            .clone();
        (
            names,
            inspection["multiplications_per_image"].as_u64().unwrap(),
        )
    };
    let (raw, most) = rewrites(&["--raw"]);
    assert!(raw.is_empty());
    let (one, _) = rewrites(&["--rewrites", "flip_conv"]);
    assert_eq!(one, ["flip_conv"]);
    for target in ["cpu", "cuda", "tract"] {
        let (names, count) = rewrites(&["--target", target]);
        assert!(
            !names.is_empty() && count < most,
            "{target}: {count} of {most}"
        );
    }
}

#[test]
fn a_file_that_is_there_is_replaced_only_when_asked() {
    let workplace = Workplace::empty();
    let model = zoo("toy_tanh.legacy13.onnx");
    fs::copy(&model, workplace.path("model.onnx")).unwrap();
    fs::write(workplace.path("out.onnx"), "mine").unwrap();
    for (file, arguments, reason) in [
        (
            "out.onnx",
            &[][..],
            "out.onnx exists already; give another name with -o, or --force to replace it",
        ),
        (
            "model.onnx",
            &["--force"],
            "model.onnx is an input, which is read; give another name with -o",
        ),
        (
            ".",
            &["--force"],
            ". is a folder, expected a file or nothing",
        ),
    ] {
        let arguments = [&["gradient", "model.onnx", "-o", file], arguments].concat();
        workplace
            .export(&arguments)
            .failure()
            .stderr(contains(reason));
    }
    assert_eq!(fs::read(workplace.path("out.onnx")).unwrap(), b"mine");
    assert_eq!(
        fs::read(workplace.path("model.onnx")).unwrap(),
        fs::read(&model).unwrap()
    );
    workplace
        .export(&["gradient", "model.onnx", "-o", "out.onnx", "--force"])
        .success();
}

#[test]
fn what_makes_no_sense_is_refused_and_leaves_nothing() {
    let workplace = Workplace::empty();
    let good = zoo("toy_tanh.legacy13.onnx");
    for (arguments, reason) in [
        (&["--opset", "12"][..], "expected an opset from 13"),
        (&["--batch", "0"], "expected a batch from 1"),
        (
            &["--batch", "many"],
            "--batch: expected a number or `any`, got \"many\"",
        ),
        (
            &["--input", "y"],
            "the graph has no input \"y\"; it has [\"x\"]",
        ),
        (
            &["--output", "y"],
            "the graph has no output \"y\"; it has [\"energy\"",
        ),
        (
            &["--shape", "3"],
            "its shape [?, 2] is not the one that was given, [3]",
        ),
        (&["--energy-name", ""], "expected a name, got \"\""),
        (&["--gradient-name", " "], "expected a name, got \" \""),
        (&["--hvp", "--v-name", ""], "expected a name"),
        (&["--input", ""], "expected a name"),
        (&["--output", ""], "expected a name"),
        (
            &["--hvp", "--v-name", "hvp"],
            "v and hvp are both called \"hvp\"",
        ),
        (
            &["--max-error", "-1"],
            "--max-error: expected a positive number, got -1",
        ),
        (&["--images", "absent"], "--images"),
        (
            &["--image-layout", "hwc"],
            "unknown image layout \"hwc\"; there are nchw, nhwc",
        ),
        (
            &["--image-layout", "nhwc"],
            "channels last are those of images [N, H, W, C]",
        ),
        (&["--reduce", "mean"], "expected logsumexp, class=K"),
        (
            &["--reduce", "logsumexp"],
            "logsumexp expects logits [N, classes]",
        ),
        (&["--reduce", "sum", "--keep-energy"], "cannot be used with"),
        (&["--steps", "0"], "expected from 1 to 1024 steps, got 0"),
        (&["--steps", "1", "--clip", "-1"], "to clip at, got -1"),
        (
            &["--gradient-name", "x"],
            "the model has an input named \"x\"; give gradient another name with --gradient-name",
        ),
    ] {
        workplace.refuses_gradient(&good, arguments, reason);
    }
    workplace.refuses_gradient("absent.onnx", &[], "cannot read absent.onnx");
    let bad = Path::new(&zoo("bad")).to_path_buf();
    for file in [
        "not_onnx.onnx",
        "truncated.onnx",
        "control_if.onnx",
        "nan_weight.onnx",
        "external_missing.onnx",
        "classifier.onnx",
    ] {
        workplace.refuses_gradient(&bad.join(file).display().to_string(), &[], "bad/");
    }
}

/// Models that were refused or misread once: each has its gradient now, which is checked against the model.
#[test]
fn models_of_users_have_their_gradients() {
    let workplace = Workplace::empty();
    for (model, arguments, inputs, outputs, line) in [
        (
            "sum.onnx",
            &[][..],
            &["x [1, 3, 16, 16]"][..],
            &["energy [1]", "gradient [1, 3, 16, 16]"][..],
            "",
        ),
        (
            "torch_dynamo.onnx",
            &["--hvp"],
            &["x [1, 3, 16, 16]", "v [1, 3, 16, 16]"],
            &[
                "energy [1]",
                "gradient [1, 3, 16, 16]",
                "hvp [1, 3, 16, 16]",
            ],
            "",
        ),
        (
            "torch_dynamo.onnx",
            &["--steps", "2", "--clip", "0.5"],
            &[
                "x [1, 3, 16, 16]",
                "noise [2, 1, 3, 16, 16]",
                "step_size []",
                "temperature []",
            ],
            &[
                "x_next [1, 3, 16, 16]",
                "energy [2, 1]",
                "gradient_norm [2, 1]",
            ],
            "",
        ),
        (
            "weights_scaled_by_image.onnx",
            &["--hvp"],
            &["x [1, 2, 7, 7]", "v [1, 2, 7, 7]"],
            &["energy [1]", "gradient [1, 2, 7, 7]", "hvp [1, 2, 7, 7]"],
            "",
        ),
        (
            "jax_var.onnx",
            &[],
            &["in_0 [N, 4, 4, 3]"],
            &["energy [N]", "gradient [N, 4, 4, 3]"],
            "",
        ),
        (
            "label.onnx",
            &["--hvp"],
            &["x [N, 4]", "y [N]", "v [N, 4]"],
            &["energy [N]", "gradient [N, 4]", "hvp [N, 4]"],
            "",
        ),
        (
            "timestep.onnx",
            &["--batch", "1"],
            &["x [1, 3, 16, 16]", "c [1]"],
            &["energy [1]", "gradient [1, 3, 16, 16]"],
            "",
        ),
        (
            "unused.onnx",
            &["--steps", "1"],
            &["x [N, 4]", "noise [N, 4]", "step_size []", "temperature []"],
            &["x_next [N, 4]", "energy [N]", "gradient_norm [N]"],
            "input \"unused\" is left out: nothing of \"energy\" needs it",
        ),
        (
            "keras.onnx",
            &["--steps", "1"],
            &[
                "x [N, 3, 16, 16]",
                "noise [N, 3, 16, 16]",
                "step_size []",
                "temperature []",
            ],
            &["x_next [N, 3, 16, 16]", "energy [N]", "gradient_norm [N]"],
            "input \"x\" [N, 16, 16, 3] has the channels last: the file takes [N, 3, 16, 16]; --image-layout nchw leaves it",
        ),
        (
            "keras.onnx",
            &["--image-layout", "nchw"],
            &["x [N, 16, 16, 3]"],
            &["energy [N]", "gradient [N, 16, 16, 3]"],
            "",
        ),
        (
            "keras_classifier.onnx",
            &["--reduce", "logsumexp", "--image-layout", "nhwc"],
            &["x [N, 3, 16, 16]"],
            &["energy [N]", "gradient [N, 3, 16, 16]"],
            "energy, logsumexp of \"Identity:0\"",
        ),
        (
            "keras_classifier.onnx",
            &["--reduce", "class=9", "--steps", "2", "--batch", "1"],
            &[
                "x [1, 3, 16, 16]",
                "noise [2, 1, 3, 16, 16]",
                "step_size []",
                "temperature []",
            ],
            &[
                "x_next [1, 3, 16, 16]",
                "energy [2, 1]",
                "gradient_norm [2, 1]",
            ],
            "energy, class=9 of",
        ),
        (
            "resize10_lin.onnx",
            &[],
            &["x [N, 2, 7, 7]"],
            &["energy [N]", "gradient [N, 2, 7, 7]"],
            "",
        ),
        (
            "fn_name_clash2.onnx",
            &[],
            &["x [N, 4]"],
            &["energy [N]", "gradient [N, 4]"],
            "",
        ),
        (
            "ln_outputs.onnx",
            &["--hvp"],
            &["x [N, 2, 7, 7]", "v [N, 2, 7, 7]"],
            &["energy [N]", "gradient [N, 2, 7, 7]", "hvp [N, 2, 7, 7]"],
            "",
        ),
    ] {
        let model = case(model);
        let command = ["gradient", &model, "-o", "out.onnx", "--force"];
        workplace
            .export(&[&command, arguments].concat())
            .success()
            .stdout(contains(line));
        let inspection = workplace.inspection("out.onnx");
        assert_eq!(values(&inspection, "inputs"), inputs, "{model}");
        assert_eq!(values(&inspection, "outputs"), outputs, "{model}");
        workplace
            .export(&["verify", "out.onnx", "--against", &model])
            .success();
    }
    let bytes = case("clf_uint8.onnx");
    workplace
        .export(&["gradient", &bytes, "-o", "bytes.onnx"])
        .failure()
        .stderr(contains("input \"x\": it holds UINT8, expected floats"));
}

/// A download cache has links where a model has files.
#[cfg(unix)]
#[test]
fn a_model_may_be_links_and_none_of_its_files_is_replaced() {
    use std::os::unix::fs::symlink;
    let workplace = Workplace::empty();
    let path = |name: &str| workplace.path(name);
    let weights = [0.5f32; 2400].map(f32::to_le_bytes).concat();
    for folder in ["blobs", "snapshot"] {
        fs::create_dir(path(folder)).unwrap();
    }
    fs::copy(case("external.onnx"), path("blobs/1111")).unwrap();
    fs::write(path("blobs/2222"), &weights).unwrap();
    symlink("../blobs/1111", path("snapshot/a.onnx")).unwrap();
    symlink("../blobs/2222", path("snapshot/a.onnx.data")).unwrap();
    fs::hard_link(path("blobs/2222"), path("other_name")).unwrap();
    let model = "snapshot/a.onnx";
    for output in [
        "snapshot/a.onnx",
        "./snapshot/../snapshot/a.onnx",
        "blobs/1111",
        "snapshot/a.onnx.data",
        "blobs/2222",
        "other_name",
    ] {
        for command in ["gradient", "classifier"] {
            let arguments = [command, model, "-o", output, "--force"];
            workplace.refuses(&arguments, "which is read; give another name with -o");
        }
    }
    assert_eq!(fs::read(path("blobs/2222")).unwrap(), weights);
    for (output, reason) in [
        ("blobs/1111/out.onnx", "cannot write into blobs/1111"),
        ("snapshot", "snapshot is a folder"),
    ] {
        workplace.refuses(&["gradient", model, "-o", output], reason);
    }
    workplace
        .export(&["gradient", model, "-o", "new/out.onnx"])
        .success();
}
