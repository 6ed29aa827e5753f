//! The exported files on every backend compute what libtorch computes.

use ebm_export::graph::Batch;
use ebm_export::source::Energy;
use ebm_export::source::checkpoint::Header;
use ebm_export::source::networks::Network;
use ebm_export::transform::pipeline::gradient_graph;
use ebm_export::transform::rewrite::Rewrite;
use ebm_export::write::Export;
use ebm_export::write::onnx::Opset;
use ebm_runtime::{Backend, Input, Model, Output, Session, noise};
use ebm_trainer::chains::langevin;
use ebm_trainer::config::{Dynamics, Setting};
use ebm_trainer::network::{Program, from_host, to_device};
use tch::{Device, Kind, Tensor};

use crate::networks::{differences, energies, images, slope_difference, weights, worst_difference};

const ENERGY_TOLERANCE: f64 = 1e-4;
const GRADIENT_TOLERANCE: f64 = 1e-4;
const CHAIN_TOLERANCE: f64 = 1e-3;
const BATCH: usize = 5;
const N_STEPS: u32 = 20;
const STEP_SIZE: f32 = 0.02;
const TEMPERATURE: f32 = 0.01;

/// Every backend. A missing one fails the test, for what a passing test prints is not shown.
pub fn backends() -> Vec<Backend> {
    let backends = vec![
        Backend::tract(),
        Backend::rten(),
        Backend::ort(),
        Backend::native(),
    ];
    for backend in &backends {
        if let Err(error) = backend.check() {
            panic!(
                "backend {} is not here: {error}; run `cargo xtask setup`",
                backend.name()
            );
        }
    }
    backends
}

/// The exported files of a network with the weights of the tests, by name.
pub fn models(network: &Network, export: &Export) -> Vec<(&'static str, Model)> {
    models_of(&energy(network), export)
}

/// A network with the weights of the tests.
fn energy(network: &Network) -> Energy {
    Energy::of_network(&Header::new(network.clone()), &weights(network, 1)).unwrap()
}

fn models_of(energy: &Energy, export: &Export) -> Vec<(&'static str, Model)> {
    let files = export.files(energy, 1).unwrap();
    files
        .into_iter()
        .map(|file| {
            (
                file.name,
                Model::from_bytes(file.model.to_bytes(), file.name).unwrap(),
            )
        })
        .collect()
}

pub fn session(
    backend: &Backend,
    models: &[(&'static str, Model)],
    name: &str,
) -> Box<dyn Session> {
    let (_, model) = models
        .iter()
        .find(|(existing, _)| *existing == name)
        .unwrap();
    backend.prepare(model, 1).unwrap()
}

fn as_f64(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// The elements of a tensor in standard layout.
pub fn elements(tensor: &Tensor) -> Vec<f64> {
    Vec::<f64>::try_from(tensor.to_kind(Kind::Double).contiguous().view([-1])).unwrap()
}

/// Energy and gradient of images.
pub fn energy_and_gradient(
    session: &mut dyn Session,
    x: &ebm_export::Tensor,
) -> (Vec<f64>, Vec<f64>) {
    let batch = x.shape()[0];
    let (mut energy, mut gradient) = (vec![0.0; batch], vec![0.0; x.data().len()]);
    let input = Input {
        name: "x",
        shape: x.shape(),
        values: x.data(),
    };
    let mut outputs = [
        Output {
            name: "energy",
            shape: &[batch],
            values: &mut energy,
        },
        Output {
            name: "gradient",
            shape: x.shape(),
            values: &mut gradient,
        },
    ];
    session.run(&[input], &mut outputs).unwrap();
    (as_f64(&energy), as_f64(&gradient))
}

#[test]
fn energies_and_gradients_agree_on_every_backend() {
    for (name, network) in energies() {
        let x = images(&network, BATCH, 2);
        let graph = gradient_graph(&network.graph().unwrap(), &[]).unwrap();
        let program = Program::new(&graph, Kind::Double, Device::Cpu);
        let weights = to_device(&weights(&network, 1), Kind::Double, Device::Cpu);
        let bound = program.bind(&weights).unwrap();
        let at = from_host(&x, Kind::Double, Device::Cpu);
        let [energy, gradient] =
            ["energy", "gradient"].map(|output| elements(&bound.output(output, &at).unwrap()));
        for (form, rewrites) in [("raw", Vec::new()), ("rewritten", Rewrite::ALL.to_vec())] {
            let models = models(
                &network,
                &Export {
                    rewrites,
                    ..Export::default()
                },
            );
            for backend in backends() {
                let mut session = session(&backend, &models, "gradient.onnx");
                let (got_energy, got_gradient) = energy_and_gradient(session.as_mut(), &x);
                let error = worst_difference(&energy, &got_energy, BATCH);
                assert!(
                    error <= ENERGY_TOLERANCE,
                    "{name}, {form}, {}: energy off by {error}",
                    backend.name()
                );
                let error = slope_difference(&network, &gradient, &got_gradient, BATCH);
                assert!(
                    error <= GRADIENT_TOLERANCE,
                    "{name}, {form}, {}: gradient off by {error}",
                    backend.name()
                );
            }
        }
    }
}

#[test]
fn every_opset_and_a_fixed_batch_compute_the_same() {
    let (_, network) = energies().pop().unwrap();
    let x = images(&network, BATCH, 2);
    for backend in backends() {
        let evaluated = |opset, batch| {
            let export = Export {
                opset,
                ..Export::default()
            };
            let energy = Energy {
                batch,
                ..energy(&network)
            };
            let mut session = session(&backend, &models_of(&energy, &export), "gradient.onnx");
            energy_and_gradient(session.as_mut(), &x).1
        };
        let wanted = evaluated(Opset::DEFAULT, Batch::Symbolic);
        for opset in Opset::OLDEST.number()..=Opset::NEWEST.number() {
            for batch in [Batch::Symbolic, Batch::Fixed(BATCH)] {
                let got = evaluated(Opset::new(opset).unwrap(), batch);
                let error = slope_difference(&network, &wanted, &got, BATCH);
                assert!(
                    error <= 1e-6,
                    "{}, opset {opset}, {batch:?}: off by {error}",
                    backend.name()
                );
            }
        }
    }
}

/// The noise of one step, as the runtime makes it.
fn step_noise(step: u32, x: &ebm_export::Tensor) -> ebm_export::Tensor {
    let mut noise = vec![0.0; x.data().len()];
    for (image, noise) in noise.chunks_mut(x.data().len() / BATCH).enumerate() {
        noise::fill_normal(7, image as u32, 0, step, noise);
    }
    ebm_export::Tensor::new(x.shape(), noise)
}

/// The chains of the trainer's own update, in f64.
fn trainer_chains(network: &Network, x: &ebm_export::Tensor) -> Vec<f64> {
    let graph = gradient_graph(&network.graph().unwrap(), &[]).unwrap();
    let program = Program::new(&graph, Kind::Double, Device::Cpu);
    let weights = to_device(&weights(network, 1), Kind::Double, Device::Cpu);
    let bound = program.bind(&weights).unwrap();
    let dynamics = Dynamics {
        steps: N_STEPS as usize,
        step_size: f64::from(STEP_SIZE),
        temperature: f64::from(TEMPERATURE),
        clip: Setting::OFF,
    };
    let mut state = from_host(x, Kind::Double, Device::Cpu);
    for step in 0..N_STEPS {
        let noise = from_host(&step_noise(step, x), Kind::Double, Device::Cpu);
        let gradient = bound.output("gradient", &state).unwrap();
        state = langevin::step(&state, &gradient, &noise, &dynamics)
            .unwrap()
            .0;
    }
    elements(&state)
}

/// The chains of the exported step.
fn exported_chains(session: &mut dyn Session, x: &ebm_export::Tensor) -> Vec<f64> {
    let mut state = x.data().to_vec();
    for step in 0..N_STEPS {
        let noise = step_noise(step, x);
        let (mut next, mut energy, mut norm) =
            (vec![0.0; state.len()], vec![0.0; BATCH], vec![0.0; BATCH]);
        let inputs = [
            Input {
                name: "x",
                shape: x.shape(),
                values: &state,
            },
            Input {
                name: "noise",
                shape: x.shape(),
                values: noise.data(),
            },
            Input {
                name: "step_size",
                shape: &[],
                values: &[STEP_SIZE],
            },
            Input {
                name: "temperature",
                shape: &[],
                values: &[TEMPERATURE],
            },
        ];
        let mut outputs = [
            Output {
                name: "x_next",
                shape: x.shape(),
                values: &mut next,
            },
            Output {
                name: "energy",
                shape: &[BATCH],
                values: &mut energy,
            },
            Output {
                name: "gradient_norm",
                shape: &[BATCH],
                values: &mut norm,
            },
        ];
        session.run(&inputs, &mut outputs).unwrap();
        state = next;
    }
    as_f64(&state)
}

/// The update stands once in the trainer and once in the step graph; this ties the two.
#[test]
fn twenty_langevin_steps_agree_on_every_backend() {
    for (name, network) in energies()
        .into_iter()
        .filter(|(name, _)| name != "sngan128")
    {
        let x = images(&network, BATCH, 2);
        let wanted = trainer_chains(&network, &x);
        let moved = differences(&as_f64(x.data()), &wanted, BATCH);
        assert!(moved[0] > 0.01, "{name}: the chains do not move");
        let models = models(&network, &Export::default());
        for backend in backends() {
            let mut session = session(&backend, &models, "step.onnx");
            let got = exported_chains(session.as_mut(), &x);
            let error = slope_difference(&network, &wanted, &got, BATCH);
            assert!(
                error <= CHAIN_TOLERANCE,
                "{name}, {}: off by {error}",
                backend.name()
            );
        }
    }
}
