//! `ebm-export onnx --layout triton`: what is written is what its published schema says.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ebm_export::check::inspect::inspect;
use ebm_export::write::triton::{
    Batching, EnsembleConfig, EnsembleStep, ModelConfig, TensorConfig,
};
use predicates::str::contains;
use prost_reflect::{DescriptorPool, DynamicMessage, Value};

use crate::workplace::Workplace;

/// The message of a `config.pbtxt`, or why it is none.
fn parsed(text: &str) -> Result<DynamicMessage, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto");
    let schema = protox::compile(["model_config.proto"], [folder]).unwrap();
    let pool = DescriptorPool::from_file_descriptor_set(schema).unwrap();
    let config = pool.get_message_by_name("inference.ModelConfig").unwrap();
    DynamicMessage::parse_text_format(config, text).map_err(|error| error.to_string())
}

fn field<'a>(message: &'a DynamicMessage, name: &str) -> std::borrow::Cow<'a, Value> {
    message.get_field_by_name(name).unwrap()
}

fn tensor(name: &str, dims: &[usize]) -> TensorConfig {
    TensorConfig {
        name: name.to_string(),
        dims: dims.to_vec(),
    }
}

const BATCHING: Batching = Batching {
    max_batch: 16,
    max_delay_microseconds: 500,
};

fn model() -> String {
    ModelConfig {
        name: "purifier".to_string(),
        inputs: vec![tensor("x", &[3, 32, 32]), tensor("noise", &[10, 3, 32, 32])],
        outputs: vec![tensor("x_next", &[3, 32, 32]), tensor("energy", &[])],
    }
    .text(BATCHING)
}

#[test]
fn a_model_says_what_it_was_given() {
    let config = parsed(&model()).unwrap();
    assert_eq!(field(&config, "name").as_str(), Some("purifier"));
    assert_eq!(field(&config, "backend").as_str(), Some("onnxruntime"));
    assert_eq!(field(&config, "max_batch_size").as_i32(), Some(16));
    let batching = field(&config, "dynamic_batching");
    let delay = field(
        batching.as_message().unwrap(),
        "max_queue_delay_microseconds",
    );
    assert_eq!(delay.as_u64(), Some(500));
    let inputs = field(&config, "input");
    let shown: Vec<String> = inputs
        .as_list()
        .unwrap()
        .iter()
        .map(Value::to_string)
        .collect();
    assert_eq!(
        shown,
        [
            r#"{name:"x",data_type:TYPE_FP32,dims:[3,32,32]}"#,
            r#"{name:"noise",data_type:TYPE_FP32,dims:[10,3,32,32]}"#
        ]
    );
    let outputs = field(&config, "output");
    let energy = outputs.as_list().unwrap()[1].as_message().unwrap();
    assert!(energy.has_field_by_name("reshape"), "{energy}");
}

#[test]
fn an_ensemble_says_what_it_was_given() {
    let pair = |key: &str, value: &str| (key.to_string(), value.to_string());
    let text = EnsembleConfig {
        name: "both \"ε\"".to_string(),
        inputs: vec![tensor("x", &[2])],
        outputs: vec![tensor("y", &[2])],
        steps: vec![EnsembleStep {
            model: "a".to_string(),
            inputs: vec![pair("in", "x")],
            outputs: vec![pair("out\n", "y")],
        }],
    };
    let config = parsed(&text.text(BATCHING)).unwrap();
    assert_eq!(field(&config, "name").as_str(), Some("both \"ε\""));
    assert_eq!(field(&config, "platform").as_str(), Some("ensemble"));
    assert!(!config.has_field_by_name("dynamic_batching"));
    assert_eq!(
        field(&config, "ensemble_scheduling").to_string(),
        r#"{step:[{model_name:"a",model_version:-1,input_map:[{key:"in",value:"x"}],output_map:[{key:"out\n",value:"y"}]}]}"#
    );
}

/// The schema refuses what it does not know, so that passing it says something.
#[test]
fn what_the_schema_does_not_know_is_refused() {
    let right = model();
    for (from, to, reason) in [
        ("max_batch_size", "maximal_batch_size", "maximal_batch_size"),
        ("TYPE_FP32", "TYPE_F32", "TYPE_F32"),
        ("KIND_AUTO", "KIND_ANY", "KIND_ANY"),
        ("max_batch_size: 16", "max_batch_size: \"16\"", "expected"),
        ("dims: [ 3", "dims: [ x", "expected"),
        (
            "dynamic_batching {",
            "dynamic_batching { priority: 1",
            "priority",
        ),
    ] {
        let wrong = right.replacen(from, to, 1);
        assert_ne!(right, wrong);
        let error = parsed(&wrong).unwrap_err();
        assert!(error.contains(reason), "{from}: {error}");
    }
}

const ENERGY: &str = r#"{"name":"sngan","image_size":8,"channels":1,"widths":[4,6],"pools":[true,false],"activation":"silu"}"#;
const CLASSES: &str = r#"{"name":"conv_classifier","image_size":8,"channels":1,"widths":[4],"pools":[true],"n_classes":3,"activation":"relu"}"#;
const COLOURS: &str = r#"{"name":"conv_classifier","image_size":8,"channels":3,"widths":[4],"pools":[true],"n_classes":3,"activation":"relu"}"#;

/// A folder with the checkpoints `energy`, `classes` and `colours`.
fn workplace() -> Workplace {
    Workplace::with_checkpoints(
        &[
            ("energy", ENERGY),
            ("classes", CLASSES),
            ("colours", COLOURS),
        ],
        &["--step-size", "0.1", "--temperature", "0.5", "--steps", "7"],
    )
}

impl Workplace {
    fn serves(&self, arguments: &[&str]) {
        let command = ["onnx", "energy", "-o", "served", "--layout", "triton"];
        self.export(&[&command, arguments].concat()).success();
    }

    /// Refused, and nothing is there afterwards.
    fn refuses_to_serve(&self, arguments: &[&str], reason: &str) {
        self.refuses(arguments, reason);
        assert!(!self.path("served").exists(), "{arguments:?}");
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The configuration of a served model.
    fn config(&self, model: &str) -> DynamicMessage {
        let config = parsed(&self.text(&format!("served/{model}/config.pbtxt"))).unwrap();
        assert_eq!(field(&config, "name").as_str(), Some(model));
        config
    }

    /// Inputs or outputs of the ONNX file of a served model, as Triton sees them: without the batch, which is open.
    fn of_file(&self, model: &str, kind: &str) -> Vec<(String, Vec<i64>)> {
        let path = self.path(&format!("served/{model}/1/model.onnx"));
        let inspection = inspect(&path).unwrap();
        let values = match kind {
            "input" => inspection.inputs,
            _ => inspection.outputs,
        };
        let described = values.into_iter().map(|value| {
            assert_eq!(value.shape[0], "N", "{}", value.name);
            let extents = value.shape[1..].iter();
            (
                value.name,
                extents.map(|size| size.parse().unwrap()).collect(),
            )
        });
        described.collect()
    }
}

/// Inputs or outputs as a configuration states them.
fn of_config(config: &DynamicMessage, kind: &str) -> Vec<(String, Vec<i64>)> {
    let tensors = field(config, kind);
    let described = tensors.as_list().unwrap().iter().map(|tensor| {
        let tensor = tensor.as_message().unwrap();
        let name = field(tensor, "name").as_str().unwrap().to_string();
        let dims = field(tensor, "dims");
        let dims = dims.as_list().unwrap().iter();
        (name, dims.map(|size| size.as_i64().unwrap()).collect())
    });
    described.collect()
}

/// The steps of an ensemble: the model, and which tensors of the ensemble its inputs and outputs are.
fn steps(config: &DynamicMessage) -> Vec<(String, [BTreeMap<String, String>; 2])> {
    let map = |step: &DynamicMessage, name: &str| {
        let map = field(step, name);
        let pairs = map.as_map().unwrap().iter();
        pairs
            .map(|(key, value)| {
                let [key, value] = [key.as_str().unwrap(), value.as_str().unwrap()];
                (key.to_string(), value.to_string())
            })
            .collect()
    };
    let scheduling = field(config, "ensemble_scheduling");
    let steps = field(scheduling.as_message().unwrap(), "step").into_owned();
    let described = steps.as_list().unwrap().iter().map(|step| {
        let step = step.as_message().unwrap();
        let model = field(step, "model_name").as_str().unwrap().to_string();
        (model, [map(step, "input_map"), map(step, "output_map")])
    });
    described.collect()
}

/// All files below a folder.
fn files_below(folder: &Path) -> Vec<String> {
    let mut paths = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(path) = open.pop() {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => paths.push(path.strip_prefix(folder).unwrap().display().to_string()),
            }
        }
    }
    paths.sort();
    paths
}

#[test]
fn a_purifier_is_served_alone() {
    let workplace = workplace();
    workplace.serves(&[]);
    assert_eq!(
        files_below(&workplace.path("served")),
        [
            "README.md",
            "purifier/1/model.onnx",
            "purifier/config.pbtxt"
        ]
    );
    let config = workplace.config("purifier");
    for kind in ["input", "output"] {
        assert_eq!(
            of_config(&config, kind),
            workplace.of_file("purifier", kind),
            "{kind}"
        );
    }
    assert_eq!(
        of_config(&config, "input")[1],
        ("noise".to_string(), vec![7, 1, 8, 8])
    );
    assert_eq!(field(&config, "max_batch_size").as_i32(), Some(64));
    let readme = workplace.text("served/README.md");
    for told in ["`noise [N, 7, 1, 8, 8]`", "ε = 0.1 and T = 0.5"] {
        assert!(readme.contains(told), "{readme}");
    }
    assert!(!readme.contains("defended"), "{readme}");
    let placeholder = |part: &str| part.starts_with(|letter: char| letter.is_ascii_uppercase());
    assert!(!readme.split('{').skip(1).any(placeholder), "{readme}");
}

/// What the purifier gives is what the classifier takes, and nothing dangles.
#[test]
fn an_ensemble_fits_its_models() {
    let workplace = workplace();
    workplace.serves(&[
        "--classifier",
        "classes",
        "--steps",
        "2",
        "--max-batch",
        "8",
    ]);
    assert_eq!(
        files_below(&workplace.path("served")),
        [
            "README.md",
            "classifier/1/model.onnx",
            "classifier/config.pbtxt",
            "defended_classifier/1/.gitkeep",
            "defended_classifier/config.pbtxt",
            "purifier/1/model.onnx",
            "purifier/config.pbtxt"
        ]
    );
    let ensemble = workplace.config("defended_classifier");
    let mut known: BTreeMap<String, Vec<i64>> = of_config(&ensemble, "input").into_iter().collect();
    for (model, [inputs, outputs]) in steps(&ensemble) {
        let config = workplace.config(&model);
        assert_eq!(field(&config, "max_batch_size").as_i32(), Some(8));
        for kind in ["input", "output"] {
            let of_file = workplace.of_file(&model, kind);
            assert_eq!(of_config(&config, kind), of_file, "{model}");
        }
        let taken = of_config(&config, "input");
        assert_eq!(inputs.len(), taken.len(), "{model}");
        for (name, dims) in taken {
            assert_eq!(known[&inputs[&name]], dims, "{model}: {name}");
        }
        let given: BTreeMap<_, _> = of_config(&config, "output").into_iter().collect();
        for (name, of_ensemble) in outputs {
            known.insert(of_ensemble, given[&name].clone());
        }
    }
    let outputs = of_config(&ensemble, "output");
    assert_eq!(
        outputs,
        [
            ("logits".to_string(), vec![3]),
            ("purified".to_string(), vec![1, 8, 8])
        ]
    );
    for (name, dims) in outputs {
        assert_eq!(known[&name], dims, "{name}");
    }
}

/// The bytes of a classifier that others wrote are served as they are.
#[test]
fn a_classifier_may_be_a_file() {
    let workplace = workplace();
    workplace
        .export(&["onnx", "classes", "-o", "plain"])
        .success();
    workplace.serves(&["--classifier", "plain/classifier.onnx"]);
    let [given, served] = ["plain/classifier.onnx", "served/classifier/1/model.onnx"]
        .map(|name| fs::read(workplace.path(name)).unwrap());
    assert_eq!(given, served);
}

/// Also what rewrites make of the weights, such as those of `flip_conv`.
#[test]
fn all_steps_read_the_same_weights() {
    let workplace = workplace();
    let wide = r#"{"name":"sngan","image_size":16,"channels":1,"widths":[16,16],"pools":[false,true],"activation":"relu"}"#;
    workplace.export(&["init", wide, "-o", "wide"]).success();
    let stored = |file: &str| {
        inspect(&workplace.path(file))
            .unwrap()
            .stored_values
            .unwrap()
    };
    let n_parameters = 16 * 9 * 33;
    workplace
        .export(&["onnx", "wide", "-o", "plain", "--raw"])
        .success();
    let [one, many] = ["1", "5"].map(|steps| {
        let serve = ["onnx", "wide", "-o", steps, "--layout", "triton"];
        workplace
            .export(&[&serve[..], &["--steps", steps]].concat())
            .success();
        let derived = format!("steps{steps}.onnx");
        let derive = ["gradient", "plain/energy.onnx", "-o", &derived];
        workplace
            .export(&[&derive[..], &["--steps", steps]].concat())
            .success();
        [format!("{steps}/purifier/1/model.onnx"), derived].map(|file| stored(&file))
    });
    for (one, many) in one.into_iter().zip(many) {
        assert!(one > 2 * n_parameters, "{one}");
        assert!(many < one + n_parameters / 10, "{one} and {many}");
    }
}

#[test]
fn many_steps_are_several_calls() {
    let workplace = workplace();
    workplace.serves(&["--steps", "3", "--raw"]);
    let readme = workplace.text("served/README.md");
    assert!(readme.contains("recommends 7 steps, one call runs 3: call the purifier 3 times"));
}

#[test]
fn what_cannot_be_served_leaves_nothing() {
    let workplace = workplace();
    let serve = ["onnx", "energy", "-o", "served", "--layout", "triton"];
    let serving = |more: &[&'static str]| [&serve[..], more].concat();
    let onnx = ["onnx", "energy", "-o"];
    workplace
        .export(&[&onnx[..], &["plain"]].concat())
        .success();
    workplace
        .export(&["onnx", "classes", "-o", "one", "--batch", "1"])
        .success();
    for (arguments, reason) in [
        (
            vec![
                "onnx", "classes", "-o", "served", "--layout", "triton", "--steps", "2",
            ],
            "recommends no step size",
        ),
        (
            vec![
                "onnx",
                "classes",
                "-o",
                "served",
                "--layout",
                "triton",
                "--steps",
                "2",
                "--step-size",
                "1",
                "--temperature",
                "1",
            ],
            "expected the checkpoint of an energy, which is what purifies, got kind `classifier`",
        ),
        (
            serving(&["--classifier", "energy"]),
            "--classifier energy: expected the checkpoint of a classifier, got kind `energy`",
        ),
        (
            serving(&["--classifier", "colours"]),
            "takes images [3, 8, 8], but the purifier gives [1, 8, 8]",
        ),
        (
            serving(&["--classifier", "plain/gradient.onnx"]),
            "it has the outputs [\"energy\", \"gradient\"], expected one",
        ),
        (
            serving(&["--classifier", "plain/energy.onnx"]),
            "expected one list of logits",
        ),
        (
            serving(&["--classifier", "one/classifier.onnx"]),
            "has a fixed batch; export it with an open one",
        ),
        (
            serving(&["--classifier", "nowhere"]),
            "--classifier nowhere: ",
        ),
        (serving(&["--batch", "4"]), "leave the batch open"),
        (
            serving(&["--steps", "0"]),
            "expected from 1 to 1024 steps, got 0",
        ),
        (
            serving(&["--steps", "1025"]),
            "expected from 1 to 1024 steps, got 1025",
        ),
        (serving(&["--max-batch", "0"]), "expected a batch from 1"),
        (
            serving(&["--temperature", "0"]),
            "purification.temperature must be positive",
        ),
        (
            serving(&["--precision", "f16", "--max-error", "1e-9"]),
            "above 1.0e-9",
        ),
        (
            vec!["onnx", "energy", "-o", "served", "--steps", "3"],
            "--steps belongs to --layout triton",
        ),
    ] {
        workplace.refuses_to_serve(&arguments, reason);
    }
    workplace.serves(&[]);
    workplace
        .export(&serve)
        .failure()
        .stderr(contains("served/purifier/config.pbtxt exists already"));
    workplace.serves(&["--force"]);
    workplace
        .export(&["verify", "served/purifier/1/model.onnx"])
        .failure()
        .stderr(contains("verify the step.onnx of the same checkpoint"));
}
