//! `ebm-export classifier`.

use std::path::Path;

use predicates::prelude::*;
use predicates::str::contains;

use crate::workplace::{Workplace, case, files};

/// A classifier of images `[2, 8, 8]` in three classes.
const CLASSIFIER: &str = r#"{"name":"conv_classifier","image_size":8,"channels":2,"widths":[4],"pools":[true],"n_classes":3,"activation":"relu"}"#;

/// A folder with it as an ONNX file, `made/classifier.onnx`.
fn workplace() -> Workplace {
    let workplace = Workplace::with_checkpoints(&[("classes", CLASSIFIER)], &[]);
    let arguments = ["onnx", "classes", "-o", "made", "--batch", "5"];
    workplace.export(&arguments).success();
    workplace
}

/// A model of `tests/zoo/bad`.
fn zoo(name: &str) -> String {
    let zoo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/zoo/bad");
    zoo.join(name).display().to_string()
}

#[test]
fn a_classifier_of_others_becomes_one_of_the_runtime() {
    let workplace = workplace();
    let model = "made/classifier.onnx";
    workplace
        .export(&["classifier", model, "-o", "model/classifier.onnx"])
        .success()
        .stdout(contains("logits \"logits\" of input").and(contains("model/classifier.onnx: ")));
    let inspection = workplace.inspection("model/classifier.onnx");
    assert_eq!(inspection["contract"]["kind"], "classifier");
    assert_eq!(inspection["inputs"][0]["name"], "x");
    assert_eq!(inspection["contract"]["n_classes"], 3);
    assert_eq!(inspection["contract"]["batch"], 5);
    assert_eq!(inspection["contract"]["network"]["name"], "onnx");
    let before = std::fs::read(workplace.path("model/classifier.onnx")).unwrap();
    workplace.refuses(
        &["classifier", model, "-o", "model/classifier.onnx"],
        "exists already",
    );
    let pixels = "--force --range 0,1 --mean 0.5 --std 0.25 --opset 13 --batch 4";
    let arguments = ["classifier", model, "-o", "model/classifier.onnx"];
    let arguments = [&arguments[..], &pixels.split(' ').collect::<Vec<_>>()].concat();
    workplace.export(&arguments).success();
    let inspection = workplace.inspection("model/classifier.onnx");
    assert_eq!(inspection["opset"], 13);
    assert_eq!(inspection["contract"]["batch"], 4);
    assert_ne!(
        std::fs::read(workplace.path("model/classifier.onnx")).unwrap(),
        before
    );
}

#[test]
fn what_is_no_classifier_is_refused_and_leaves_nothing() {
    let workplace = workplace();
    let model = "made/classifier.onnx";
    let refuses = |model: &str, options: &[&str], reason: &str| {
        let arguments = [&["classifier", model, "-o", "out.onnx"], options].concat();
        workplace.refuses(&arguments, reason);
        assert_eq!(files(workplace.folder()), ["classes", "made"], "{reason}");
    };
    refuses(model, &["--mean", "1,2,3,4,5"], "expected one mean");
    refuses(model, &["--std", "0"], "no finite numbers");
    refuses(model, &["--range", "1,1"], "no finite numbers");
    refuses(model, &["--opset", "12"], "expected an opset from 13");
    refuses(model, &["--batch", "0"], "expected a batch from 1");
    refuses(model, &["--output", "nothing"], "no output \"nothing\"");
    refuses("nowhere.onnx", &[], "cannot read nowhere.onnx");
    refuses(&zoo("not_onnx.onnx"), &[], "not_onnx.onnx");
    refuses(&zoo("classifier.onnx"), &[], "that of the model is [N, 4]");
    let white = ["classifier", model, "-o", "out.onnx", "--range", "white"];
    workplace
        .export(&white)
        .failure()
        .stderr(contains("expected two numbers with a comma between"));
    let points = zoo("../toy_tanh.legacy13.onnx");
    refuses(&points, &[], "an input [N, C, H, W]");
}

/// A Keras classifier: the file takes what every other takes, and means are those of three channels.
#[test]
fn channels_may_be_last() {
    let workplace = Workplace::empty();
    let keras = case("keras_classifier.onnx");
    let command = ["classifier", &keras, "-o", "out.onnx", "--mean", ".5,.4,.3"];
    workplace.export(&command).success().stdout(contains(
        "input \"x\" [N, 16, 16, 3] has the channels last: the file takes [N, 3, 16, 16]",
    ));
    let contract = &workplace.inspection("out.onnx")["contract"];
    assert_eq!(contract["image"]["channels"], 3);
    assert_eq!(contract["image"]["width"], 16);
    let command = ["classifier", &keras, "-o", "out.onnx", "--force"];
    workplace.export(&command).success();
    let against = ["verify", "out.onnx", "--against", &keras];
    workplace.export(&against).success();
    let asked = [&command[..], &["--image-layout", "nchw", "--batch", "1"]].concat();
    workplace.export(&asked).success();
    let contract = &workplace.inspection("out.onnx")["contract"];
    assert_eq!(contract["image"]["channels"], 16);
    assert_eq!(contract["batch"], 1);
    workplace.refuses(
        &["classifier", &case("clf_uint8.onnx"), "-o", "bytes.onnx"],
        "input \"x\": it holds UINT8, expected floats; export the model without the cast",
    );
}
