use ndarray::{ArrayD, array};
use prost::Message;

use super::*;
use crate::graph::reference::{bindings, evaluate};
use crate::source::checkpoint::{self, WEIGHTS};
use crate::source::networks::{Activation, ConvClassifier, Network, Sngan, SnganGenerator};
use crate::source::onnx::proto::tensor_proto::DataType;
use crate::source::onnx::proto::{ModelProto, type_proto};
use crate::source::onnx::testing::Attribute::Int;
use crate::source::onnx::testing::{self};
use crate::source::onnx::{Selection, read};
use crate::source::{ImageShape, Langevin, Purification};
use crate::write::OwnEnergy;

fn files_of(header: &Header, weights: &Tensors, export: &Export) -> Result<Vec<ModelFile>> {
    export.files(&Energy::of_network(header, weights)?, 1)
}

fn network() -> Network {
    Network::Sngan(Sngan::small(
        8,
        1,
        &[4, 6],
        &[true, false],
        Activation::Silu,
    ))
}

#[test]
fn the_same_checkpoint_gives_the_same_bytes() {
    let header = Header::new(network());
    let weights = header.network.initial_weights(1).unwrap();
    let files = || files_of(&header, &weights, &Export::default()).unwrap();
    assert_eq!(files(), files());
    assert_eq!(
        files().iter().map(|file| file.name).collect::<Vec<_>>(),
        file_names(Kind::Energy)
    );
}

#[test]
fn a_classifier_is_one_file() {
    let header = Header::new(Network::ConvClassifier(ConvClassifier {
        image_size: 8,
        channels: 1,
        widths: vec![4],
        pools: vec![true],
        n_classes: 10,
        activation: Activation::Relu,
    }));
    let weights = header.network.initial_weights(1).unwrap();
    let files = files_of(&header, &weights, &Export::default()).unwrap();
    assert_eq!(
        files.iter().map(|file| file.name).collect::<Vec<_>>(),
        ["classifier.onnx"]
    );
}

#[test]
fn a_generator_is_one_file() {
    let network = SnganGenerator {
        latent: 3,
        widths: vec![4, 2],
        ..SnganGenerator::gen_sngan32(1)
    };
    let header = Header::new(Network::SnganGenerator(network));
    let weights = header.network.initial_weights(1).unwrap();
    let files = files_of(&header, &weights, &Export::default()).unwrap();
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].name, "generator.onnx");
    let clipped = Export {
        clip: Some(1.0),
        ..Export::default()
    };
    let error = files_of(&header, &weights, &clipped).unwrap_err();
    assert!(error.to_string().contains("belong to energies"), "{error}");
}

/// Learned with τ, a checkpoint is exported with it, unless the export say otherwise.
#[test]
fn the_gaussian_term_of_a_checkpoint_is_part_of_its_step() {
    let mut header = Header::new(network());
    header.langevin = Some(Langevin {
        step_size: 0.01,
        temperature: 1e-4,
        steps: 10,
        tau: Some(0.15),
    });
    let weights = header.network.initial_weights(1).unwrap();
    let energy = Energy::of_network(&header, &weights).unwrap();
    let learned = Export::default().potential_of(&energy).unwrap();
    assert_eq!(learned.tau, Some(0.15));
    let contract = contract(&Export::default(), &energy, &learned);
    assert_eq!(contract.potential.unwrap().tau, Some(0.15));
    let without = Export {
        potential: Some(Potential::default()),
        ..Export::default()
    };
    assert!(without.potential_of(&energy).unwrap().is_plain());
    let clipped = Export {
        clip: Some(-1.0),
        ..Export::default()
    };
    let error = clipped.potential_of(&energy).unwrap_err().to_string();
    assert!(error.contains("clip must be positive"), "{error}");
}

/// A class is half of what a conditional generator takes, and its images are compared as those of any other.
#[test]
fn low_types_of_a_conditional_generator_are_measured_at_a_class() {
    use crate::source::networks::{BigganGenerator, Classes};
    use crate::transform::precision::random_images;
    let network = Network::BigganGenerator(BigganGenerator {
        latent: 3,
        channels: 2,
        classes: Some(Classes {
            n_classes: 5,
            embedding: 2,
        }),
        bottom: 8,
        widths: vec![8, 4],
        upsamples: vec![false, true],
        attention: None,
        ..BigganGenerator::gen_biggan128(1)
    });
    let header = Header::new(network);
    let weights = header.network.initial_weights(1).unwrap();
    let energy = Energy::of_network(&header, &weights).unwrap();
    let others = other_inputs(&energy);
    let class = others["class"].iter().copied().collect::<Vec<f64>>();
    assert_eq!(class, [1.0, 0.0, 0.0, 0.0, 0.0]);
    let low = Export {
        precision: Precision::F16,
        rewrites: Rewrite::COMMON.to_vec(),
        ..Export::default()
    };
    let comparison = low.comparison(&energy).unwrap();
    let z = random_images(2, &comparison.extents().unwrap(), 1);
    let errors = comparison.relative_errors(&z).unwrap();
    // Nothing is exact in f16.
    assert!(
        errors.iter().all(|error| (1e-6..1e-1).contains(error)),
        "{errors:?}"
    );
}

/// Operators by what they are and the type of their result: those that steps add to the network, and all in a low type.
type Types = BTreeMap<(String, i32), usize>;

fn types(bytes: &[u8]) -> [Types; 2] {
    let graph = ModelProto::decode(bytes).unwrap().graph.unwrap();
    let stated = graph.value_info.iter().chain(&graph.output);
    let of_value: BTreeMap<&str, i32> = stated
        .map(|info| match info.r#type.as_ref().unwrap().value.as_ref() {
            Some(type_proto::Value::TensorType(tensor)) => (info.name(), tensor.elem_type()),
            _ => panic!("{} is not a tensor", info.name()),
        })
        .collect();
    let mut counts = [Types::new(), Types::new()];
    for node in &graph.node {
        let dtype = of_value[node.output[0].as_str()];
        let kind = (node.op_type().to_string(), dtype);
        if node.name().starts_with("step.") {
            *counts[0].entry(kind.clone()).or_default() += 1;
        }
        if [DataType::Float16, DataType::Bfloat16].contains(&DataType::try_from(dtype).unwrap()) {
            *counts[1].entry(kind).or_default() += 1;
        }
    }
    counts
}

/// What a file computes, whatever its values are called: they are numbered in the order in which nodes use and make them, and
/// weights stand for themselves.
fn computed(bytes: &[u8]) -> Vec<String> {
    let graph = ModelProto::decode(bytes).unwrap().graph.unwrap();
    let mut weights: BTreeMap<String, String> = BTreeMap::new();
    for mut tensor in graph.initializer {
        let name = std::mem::take(&mut tensor.name).unwrap();
        weights.insert(name, format!("{tensor:?}"));
    }
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    let mut seen = |name: &String| match weights.get(name) {
        Some(elements) => elements.clone(),
        None => {
            let next = numbers.len();
            numbers.entry(name.clone()).or_insert(next).to_string()
        }
    };
    let nodes = graph.node.iter();
    nodes
        .map(|node| {
            let inputs: Vec<String> = node.input.iter().map(&mut seen).collect();
            let outputs: Vec<String> = node.output.iter().map(&mut seen).collect();
            let (op_type, attributes) = (node.op_type(), &node.attribute);
            format!("{outputs:?} = {op_type} {attributes:?} {inputs:?}")
        })
        .collect()
}

/// Chains move by steps that f16 would round away: the state, and all that is added to it, is f32, whichever way a file is made.
#[test]
fn steps_stay_f32_behind_the_same_network_whatever_a_file_is_made_of() {
    let header = Header::new(network());
    let weights = header.network.initial_weights(1).unwrap();
    let of_name = |files: Vec<ModelFile>, name: &str| {
        let mut files = files.into_iter();
        let file = files.find(|file| file.name == name).unwrap();
        file.model.to_bytes()
    };
    let raw = Export {
        rewrites: Vec::new(),
        ..Export::default()
    };
    let built_in = Energy::of_network(&header, &weights).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    checkpoint::write(&path, &header, &[(WEIGHTS, &weights)]).unwrap();
    let of_checkpoint = Energy::of_checkpoint(&path).unwrap();
    let forward = raw.model(&built_in, &Form::Forward).unwrap().to_bytes();
    let of_model = read(&forward, &Selection::default()).unwrap();
    let dynamics = Purification {
        step_size: 0.01,
        temperature: 1e-4,
        steps: 1,
    };
    for precision in [Precision::F16, Precision::Bf16, Precision::Mixed] {
        let export = Export {
            precision,
            rewrites: Rewrite::COMMON.to_vec(),
            opset: Opset::OLDEST_WITH_BF16,
            ..Export::default()
        };
        let bytes = |energy: &Energy, form: &Form| export.model(energy, form).unwrap().to_bytes();
        let step = Form::Steps(1);
        let own = bytes(&built_in, &step);
        assert!(own == bytes(&of_checkpoint, &step), "{precision}");
        let of_files = of_name(files_of(&header, &weights, &export).unwrap(), "step.onnx");
        assert!(own == of_files, "{precision}");
        let derived = bytes(&of_model, &step);
        assert_eq!(computed(&derived), computed(&own), "{precision}");

        let [steps, network] = types(&own);
        assert!(!network.is_empty(), "{precision}");
        let single = DataType::Float as i32;
        assert!(steps.keys().all(|(_, dtype)| *dtype == single), "{steps:?}");
        let [sub, norm] = ["Sub", "Sqrt"].map(|op_type| (op_type.to_string(), single));
        assert!(steps.contains_key(&sub) && steps.contains_key(&norm));
        let purifier = types(&bytes(&built_in, &Form::Purifier(dynamics.clone())));
        let [purifier_steps, purifier_network] = purifier;
        assert_eq!(purifier_network, network, "{precision}");
        // What ε and T make alone is computed before.
        let is_single = |(kind, count): (&(String, i32), &usize)| {
            kind.1 == single && steps.get(kind).is_some_and(|own| count <= own)
        };
        assert!(purifier_steps.iter().all(is_single), "{purifier_steps:?}");
    }
}

#[test]
fn weights_that_do_not_belong_are_refused() {
    let header = Header::new(network());
    let weights = header.network.initial_weights(1).unwrap();
    let changed = |change: &dyn Fn(&mut Tensors)| {
        let mut weights = weights.clone();
        change(&mut weights);
        files_of(&header, &weights, &Export::default())
            .unwrap_err()
            .to_string()
    };
    let bias = "stem.conv1.bias";
    for (change, wanted) in [
        (
            &|weights: &mut Tensors| drop(weights.remove(bias)) as (),
            "weight \"stem.conv1.bias\": missing",
        ),
        (
            &|weights: &mut Tensors| {
                drop(weights.insert(bias.into(), crate::Tensor::filled(&[5], 0.0)))
            },
            "expected shape [4], got [5]",
        ),
        (
            &|weights: &mut Tensors| {
                drop(weights.insert(bias.into(), crate::Tensor::filled(&[4], f32::NAN)))
            },
            "element 0 is NaN",
        ),
        (
            &|weights: &mut Tensors| {
                drop(weights.insert("more".into(), crate::Tensor::scalar(0.0)))
            },
            "no weight of this name",
        ),
    ] as [(&dyn Fn(&mut Tensors), &str); 4]
    {
        let error = changed(change);
        assert!(error.contains(wanted), "{error}");
    }
}

/// E(x) = Σ w x², `score [N, 1]` of `images [N, 2]`.
fn energy() -> testing::Model {
    testing::Model::new()
        .input("images", &[-1, 2])
        .floats("w", &[2], &[1.0, 3.0])
        .ints("axes", &[1])
        .node("Mul", "images images", "square", &[])
        .node("Mul", "square w", "weighed", &[])
        .node(
            "ReduceSum",
            "weighed axes",
            "score",
            &[("keepdims", Int(1))],
        )
        .output("score")
}

fn file(model: &testing::Model, form: &Form) -> Result<Vec<u8>, String> {
    named_file(model, form, &Names::default())
}

fn named_file(model: &testing::Model, form: &Form, names: &Names) -> Result<Vec<u8>, String> {
    let export = Export {
        names: names.clone(),
        ..Export::default()
    };
    let file = export.model(&model.read(), form);
    file.map(|file| file.to_bytes())
        .map_err(|error| error.to_string())
}

fn names(bytes: &[u8]) -> (Vec<String>, Vec<String>) {
    let inspection = crate::check::inspect::inspect_bytes(bytes).unwrap();
    let [inputs, outputs] = [inspection.inputs, inspection.outputs]
        .map(|values| values.into_iter().map(|value| value.name).collect());
    (inputs, outputs)
}

fn contract_of(bytes: &[u8]) -> Contract {
    let inspection = crate::check::inspect::inspect_bytes(bytes).unwrap();
    serde_json::from_value(inspection.contract.unwrap()).unwrap()
}

/// An output of a file whose inputs have those values.
fn evaluated(bytes: &[u8], output: &str, inputs: &[(&str, ArrayD<f64>)]) -> ArrayD<f64> {
    let selection = Selection {
        outputs: &[output],
        input: Some(inputs[0].0),
        ..Selection::default()
    };
    let model = read(bytes, &selection).unwrap();
    let mut values = bindings(&model.weights);
    let given = inputs
        .iter()
        .map(|(name, value)| (name.to_string(), value.clone()));
    values.extend(given.collect::<BTreeMap<_, _>>());
    evaluate(&model.graph, &values)
        .unwrap()
        .remove(output)
        .unwrap()
}

/// ∇E = 2 w x and ∇²E·v = 2 w v.
#[test]
fn a_file_has_what_was_asked_for_under_its_names() {
    let x = array![[1.0, -2.0], [0.5, 3.0]].into_dyn();
    let v = array![[0.25, 1.0], [-1.0, 2.0]].into_dyn();
    let slope = array![2.0, 6.0].into_dyn();
    let bytes = file(&energy(), &Form::HessianVectorProduct).unwrap();
    assert_eq!(
        names(&bytes),
        (
            vec!["images".into(), "v".into()],
            vec!["energy".into(), "gradient".into(), "hvp".into()]
        )
    );
    let inputs = [("images", x.clone()), ("v", v.clone())];
    assert_eq!(
        evaluated(&bytes, "energy", &inputs),
        array![13.0, 27.25].into_dyn()
    );
    assert_eq!(evaluated(&bytes, "gradient", &inputs), &x * &slope);
    assert_eq!(evaluated(&bytes, "hvp", &inputs), &v * &slope);

    let renamed = Names {
        gradient: "slope".to_string(),
        own_energy: OwnEnergy::Kept,
        ..Names::default()
    };
    let bytes = named_file(&energy(), &Form::Gradient, &renamed).unwrap();
    assert_eq!(
        names(&bytes),
        (
            vec!["images".into()],
            vec!["energy".into(), "slope".into(), "score".into()]
        )
    );
    assert_eq!(evaluated(&bytes, "slope", &inputs[..1]), &x * &slope);
    let own = evaluated(&bytes, "score", &inputs[..1]);
    assert_eq!(own, evaluated(&bytes, "energy", &inputs[..1]));
}

#[test]
fn energies_of_one_number_per_image_may_have_more_axes() {
    for target in [vec![-1], vec![-1, 1], vec![-1, 1, 1, 1], vec![1, -1]] {
        let model = testing::Model::new()
            .input("x", &[-1, 1])
            .ints("target", &target);
        let model = model.node("Reshape", "x target", "y", &[]).output("y");
        let bytes = file(&model, &Form::Gradient).unwrap();
        let x = array![[3.0], [4.0]].into_dyn();
        assert_eq!(
            evaluated(&bytes, "energy", &[("x", x.clone())]),
            array![3.0, 4.0].into_dyn()
        );
        assert_eq!(
            evaluated(&bytes, "gradient", &[("x", x)]),
            array![[1.0], [1.0]].into_dyn()
        );
    }
}

#[test]
fn names_of_the_model_are_refused() {
    let named = |input: &str, weight: &str| {
        let model = testing::Model::new()
            .input(input, &[-1, 2])
            .floats(weight, &[2], &[1.0, 2.0]);
        let model =
            model
                .ints("axes", &[1])
                .node("Mul", &format!("{input} {weight}"), "square", &[]);
        model
            .node("ReduceSum", "square axes", "score", &[("keepdims", Int(0))])
            .output("score")
    };
    let hvp = Form::HessianVectorProduct;
    let usual = Names::default();
    let same = Names {
        hvp: "gradient".to_string(),
        ..Names::default()
    };
    for (model, given, wanted) in [
        (
            named("gradient", "w"),
            &usual,
            "the model has an input named \"gradient\"; give gradient another name",
        ),
        (
            named("v", "w"),
            &usual,
            "the model has an input named \"v\"; give v another name",
        ),
        (
            named("x", "hvp"),
            &usual,
            "the model has a weight named \"hvp\"; give hvp another name",
        ),
        (named("x", "energy"), &usual, "give energy another name"),
        (
            named("x", "w"),
            &same,
            "hvp and gradient are both called \"gradient\"; give hvp another name",
        ),
    ] {
        let problem = named_file(&model, &hvp, given).unwrap_err();
        assert!(problem.contains(wanted), "{problem}");
    }
    let model = named("x", "w")
        .node("Neg", "square", "gradient", &[])
        .output("gradient");
    let selection = Selection {
        outputs: &["score"],
        ..Selection::default()
    };
    let model = read(&model.bytes(), &selection).unwrap();
    let error = Export::default().model(&model, &hvp).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("the model has an output named \"gradient\""),
        "{error}"
    );
    // A value inside the model makes room.
    let inside = testing::Model::new()
        .input("x", &[-1, 1])
        .node("Exp", "x", "gradient", &[]);
    let inside = inside.node("Neg", "gradient", "y", &[]).output("y");
    assert_eq!(
        names(&file(&inside, &hvp).unwrap()).1,
        ["energy", "gradient", "hvp"]
    );
}

#[test]
fn refuses_what_is_no_energy_of_the_input() {
    let vector = testing::Model::new()
        .input("x", &[-1, 2])
        .node("Neg", "x", "y", &[])
        .output("y");
    let truths = testing::Model::new()
        .input("x", &[-1, 1])
        .node("Greater", "x x", "positive", &[])
        .node("Cast", "positive", "y", &[("to", Int(1))])
        .output("y");
    for (model, wanted) in [
        (
            vector,
            "output \"y\" has shape [N, 2], expected one scalar per image, [N]; reduce it",
        ),
        (truths, "output \"y\" does not depend on input \"x\""),
    ] {
        let problem = file(&model, &Form::Gradient).unwrap_err();
        assert!(problem.contains(wanted), "{problem}");
    }
}

/// Without noise a step is `x (1 − ε²/(2T)·2 w)`.
#[test]
fn steps_go_down_the_energy_from_an_input_x() {
    let bytes = file(&energy(), &Form::Steps(1)).unwrap();
    let (inputs, outputs) = names(&bytes);
    assert_eq!(inputs, ["x", "noise", "step_size", "temperature"]);
    assert_eq!(outputs, ["x_next", "energy", "gradient_norm"]);
    let x = array![[1.0, -2.0]].into_dyn();
    let scalar = |value: f64| ArrayD::from_elem(Vec::new(), value);
    let given = [
        ("x", x.clone()),
        ("noise", &x * 0.0),
        ("step_size", scalar(0.5)),
        ("temperature", scalar(2.0)),
    ];
    let wanted = &x - &(&x * &array![2.0, 6.0].into_dyn() * (0.25 / 4.0));
    assert_eq!(evaluated(&bytes, "x_next", &given), wanted);

    let contract = contract_of(&bytes);
    assert_eq!(
        (contract.kind, contract.image, contract.n_steps),
        (Kind::Step, None, None)
    );
    let several = file(&energy(), &Form::Steps(4)).unwrap();
    assert_eq!(contract_of(&several).n_steps, Some(4));
}

#[test]
fn steps_of_several_inputs_are_refused() {
    let model = testing::Model::new()
        .input("x", &[-1, 1])
        .input("label", &[-1, 1]);
    let model = model.node("Mul", "x label", "y", &[]).output("y");
    let problem = file(&model, &Form::Steps(1)).unwrap_err();
    assert!(
        problem.contains("but the model has [\"x\", \"label\"]"),
        "{problem}"
    );
}

#[test]
fn the_contract_and_the_documentation_say_where_it_comes_from() {
    let mut model = testing::Model::new().input("x", &[-1, 1, 1, 1]);
    model.0.producer_name = Some("somebody".to_string());
    model.0.doc_string = Some("An energy.".to_string());
    model.graph().name = Some("main".to_string());
    let model = model.node("Neg", "x", "y", &[]).output("y");
    let bytes = file(&model, &Form::Gradient).unwrap();
    let contract = contract_of(&bytes);
    let image = ImageShape {
        channels: 1,
        height: 1,
        width: 1,
    };
    assert_eq!(
        (contract.kind, contract.image),
        (Kind::Gradient, Some(image))
    );
    let origin = ModelOrigin {
        producer: "somebody".to_string(),
        sha256: checkpoint::sha256(&model.bytes()),
        reduction: None,
    };
    assert_eq!(contract.network, Described::Model(origin));
    let text = serde_json::to_value(&contract.network).unwrap();
    assert_eq!(text["name"], "onnx");
    let selection = Selection {
        outputs: &["gradient"],
        ..Selection::default()
    };
    let model = read(&bytes, &selection).unwrap();
    let documentation = &model.model().unwrap().documentation;
    assert_eq!(documentation.name, "main");
    assert_eq!(documentation.text, "An energy.");
}
