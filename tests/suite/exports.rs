//! Exported generators, classifiers and steps of joint potentials compute on every backend what the interpreter computes in f64.

use std::collections::BTreeMap;

use ebm_export::graph::Graph;
use ebm_export::graph::reference::{bindings, evaluate, to_array};
use ebm_export::graph::tensor::{Tensor, Tensors};
use ebm_export::source::Energy;
use ebm_export::source::checkpoint::Header;
use ebm_export::source::networks::{
    Activation, BigganGenerator, Classes, Network, SnganGenerator, WideResnet,
};
use ebm_export::transform::langevin::{Steps, steps_graph};
use ebm_export::transform::pipeline::gradient_graph;
use ebm_export::transform::potential::{Potential, Prior};
use ebm_export::write::{Export, ModelFile};
use ebm_runtime::noise::fill_uniform;
use ebm_runtime::{Images, Input, Model, Output, Purifier, Request};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::agreement::backends;
use crate::networks::{free_form, weights, worst_difference};

const TOLERANCE: f64 = 1e-4;
const BATCH: usize = 3;

/// Small networks that are no energies, with everything that the published ones have.
fn others() -> Vec<Network> {
    let activation = Activation::Relu;
    let generator = |classes, resize| {
        Network::BigganGenerator(BigganGenerator {
            latent: 6,
            channels: 3,
            classes,
            bottom: 16,
            widths: vec![16, 16, 8],
            upsamples: vec![false, true, true],
            attention: Some(2),
            resize,
            norm_epsilon: 1e-4,
            activation,
        })
    };
    let classes = Classes {
        n_classes: 5,
        embedding: 4,
    };
    vec![
        Network::SnganGenerator(SnganGenerator {
            latent: 6,
            widths: vec![8, 6, 4],
            ..SnganGenerator::gen_sngan32(1)
        }),
        generator(None, None),
        generator(Some(classes), Some(11)),
        Network::WideResnet(WideResnet {
            image_size: 8,
            depth: 10,
            ..WideResnet::wrn28(1)
        }),
    ]
}

/// Values of all inputs of a graph by name: between −1 and 1.
fn inputs(graph: &Graph) -> BTreeMap<String, Tensor> {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut draw = |value| {
        let shape = graph.shape(value).concrete(BATCH);
        let count = shape.iter().product();
        let data = (0..count).map(|_| rng.random_range(-1.0f32..1.0)).collect();
        (graph.node(value).name.clone(), Tensor::new(&shape, data))
    };
    graph.inputs().map(&mut draw).collect()
}

/// Asserts that a file gives the output that the graph has, on every backend.
fn check(
    file: ModelFile,
    graph: &Graph,
    weights: &Tensors,
    inputs: &BTreeMap<String, Tensor>,
    output: &str,
) {
    let mut values = bindings(weights);
    values.extend(
        inputs
            .iter()
            .map(|(name, tensor)| (name.clone(), to_array(tensor))),
    );
    let wanted = evaluate(graph, &values).unwrap().remove(output).unwrap();
    let model = Model::from_bytes(file.model.to_bytes(), file.name).unwrap();
    for backend in backends() {
        let mut session = backend.prepare(&model, 1).unwrap();
        let given: Vec<Input<'_>> = inputs
            .iter()
            .map(|(name, tensor)| Input {
                name,
                shape: tensor.shape(),
                values: tensor.data(),
            })
            .collect();
        let mut got = vec![0.0; wanted.len()];
        let mut outputs = [Output {
            name: output,
            shape: wanted.shape(),
            values: &mut got,
        }];
        session.run(&given, &mut outputs).unwrap();
        let wanted: Vec<f64> = wanted.iter().copied().collect();
        let got: Vec<f64> = got.into_iter().map(f64::from).collect();
        let error = worst_difference(&wanted, &got, BATCH);
        let backend = backend.name();
        assert!(error <= TOLERANCE, "{output} on {backend}: off by {error}");
    }
}

#[test]
fn generators_and_classifiers_agree_on_every_backend() {
    for network in others() {
        let graph = network.graph().unwrap();
        let weights = weights(&network, 1);
        let energy = Energy::of_network(&Header::new(network), &weights).unwrap();
        let [file] = Export::default()
            .files(&energy, 1)
            .unwrap()
            .try_into()
            .unwrap();
        let output = graph.outputs()[0].0.clone();
        check(file, &graph, &weights, &inputs(&graph), &output);
    }
}

/// Prior, Gaussian term and a clip that shortens the drift, at a temperature that is not the prior's.
#[test]
fn steps_of_joint_potentials_agree_on_every_backend() {
    let (_, network) = free_form(Activation::Silu);
    let (_, prior) = free_form(Activation::Gelu);
    let prior = Prior {
        weights: weights(&prior, 2),
        network: prior,
        temperature: 0.02,
    };
    let potential = Potential {
        prior: Some(prior),
        tau: Some(0.5),
    };
    let own = weights(&network, 1);
    let gradient = gradient_graph(&network.graph().unwrap(), &[]).unwrap();
    let gradient = potential.gradient_graph(&gradient, &[]).unwrap();
    let clip = 0.05;
    let clipped = Steps {
        clip: Some(clip),
        ..Steps::ONE
    };
    let graph = steps_graph(&gradient, &clipped).unwrap();
    let mut inputs = inputs(&graph);
    for (name, value) in [("step_size", 0.2), ("temperature", 0.01)] {
        inputs.insert(name.to_string(), Tensor::scalar(value));
    }
    let all_weights = potential.weights(&own);
    let export = Export {
        potential: Some(potential),
        clip: Some(f64::from(clip)),
        ..Export::default()
    };
    let files = export
        .files(&Energy::of_network(&Header::new(network), &own).unwrap(), 1)
        .unwrap();
    let step = files.into_iter().find(|file| file.name == "step.onnx");
    let step = step.unwrap();
    check(step.clone(), &graph, &all_weights, &inputs, "x_next");
    check(step, &graph, &all_weights, &inputs, "gradient_norm");
}

/// A file of several steps a run takes the runtime where as many files of one step do.
#[test]
fn several_steps_of_one_run_are_those_of_several_runs() {
    let (_, network) = free_form(Activation::Silu);
    let own = weights(&network, 1);
    let energy = Energy::of_network(&Header::new(network), &own).unwrap();
    let step = |steps_per_run| {
        let files = Export::default().files(&energy, steps_per_run).unwrap();
        let file = files.into_iter().find(|file| file.name == "step.onnx");
        Model::from_bytes(file.unwrap().model.to_bytes(), "step.onnx").unwrap()
    };
    let (single, several) = (step(1), step(3));
    assert_eq!(several.contract().n_steps, Some(3));
    let shape = single.contract().image;
    let mut values = vec![0.0; 5 * shape.n_values()];
    fill_uniform(1, 0, 0, 0, &mut values);
    let images = Images::from_vec(shape, values).unwrap();
    for backend in backends() {
        let purify = |model| {
            let purifier = Purifier::builder(model)
                .steps(6)
                .step_size(0.1)
                .temperature(0.5);
            let purifier = purifier.backend(backend.clone()).batch(2).build(0).unwrap();
            purifier.run(&Request::new(&images).trace()).unwrap()
        };
        let (one, other) = (purify(&single), purify(&several));
        let pairs = one.replicas[0]
            .array()
            .iter()
            .zip(other.replicas[0].array());
        let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= 1e-5, "{}: off by {worst}", backend.name());
        for (one, other) in one.reports.iter().zip(&other.reports) {
            for (one, other) in one.path.iter().zip(&other.path) {
                assert!((one.energy - other.energy).abs() <= 1e-3 * one.energy.abs().max(1.0));
            }
        }
    }
}

/// Each of some bytes changed by one bit, all over the graph and the contract: the runtime either cannot read the file or says that it was tampered with.
#[test]
fn exported_files_are_opened_as_they_are_and_refused_when_changed() {
    let (_, network) = free_form(Activation::Silu);
    let own = weights(&network, 1);
    let files = Export::default()
        .files(&Energy::of_network(&Header::new(network), &own).unwrap(), 1)
        .unwrap();
    for file in files {
        let bytes = file.model.to_bytes();
        Model::from_bytes(bytes.clone(), file.name).unwrap();
        let start = bytes.len() / 100;
        for place in (start..bytes.len() - 100).step_by(bytes.len() / 97) {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            let opened = Model::from_bytes(changed, file.name);
            assert!(opened.is_err(), "{}: byte {place}", file.name);
        }
    }
}
