//! What a server runs in one call is what the runtime's steps do one after the other.

use ebm_export::source::Energy;
use ebm_export::source::Purification;
use ebm_export::source::checkpoint::Header;
use ebm_export::source::networks::Activation;
use ebm_export::transform::potential::{Potential, Prior};
use ebm_export::write::Export;
use ebm_export::write::triton::{Batching, Content, Served, repository};
use ebm_runtime::{Input, Model, Output, Session, noise};

use crate::agreement::backends;
use crate::networks::{free_form, images, weights, worst_difference};

const TOLERANCE: f64 = 1e-4;
const BATCH: usize = 3;
const N_STEPS: usize = 4;
const STEP_SIZE: f64 = 0.1;
const TEMPERATURE: f64 = 0.02;

/// The states behind each step and what is known before it, or those of one call: `x_next`, `energy` and `gradient_norm`.
struct Run {
    x_next: Vec<f32>,
    energies: Vec<Vec<f32>>,
    norms: Vec<Vec<f32>>,
}

/// One run of a session; the last two outputs have `n_steps` numbers per image.
fn run(session: &mut dyn Session, inputs: &[Input<'_>], n_steps: Option<usize>) -> [Vec<f32>; 3] {
    let x_shape = inputs[0].shape;
    let per_image: Vec<usize> = [BATCH].into_iter().chain(n_steps).collect();
    let count = per_image.iter().product();
    let [mut x_next, mut energy, mut norm] =
        [x_shape.iter().product(), count, count].map(|count| vec![0.0; count]);
    let mut outputs = [
        Output {
            name: "x_next",
            shape: x_shape,
            values: &mut x_next,
        },
        Output {
            name: "energy",
            shape: &per_image,
            values: &mut energy,
        },
        Output {
            name: "gradient_norm",
            shape: &per_image,
            values: &mut norm,
        },
    ];
    session.run(inputs, &mut outputs).unwrap();
    [x_next, energy, norm]
}

/// The noise of a step for every image.
fn noise_of(step: usize, n_pixels: usize) -> Vec<f32> {
    let mut values = vec![0.0; BATCH * n_pixels];
    for (image, values) in values.chunks_mut(n_pixels).enumerate() {
        noise::fill_normal(7, image as u32, 0, step as u32, values);
    }
    values
}

fn one_by_one(session: &mut dyn Session, x: &ebm_export::Tensor, n_steps: usize) -> Run {
    let mut run_so_far = Run {
        x_next: x.data().to_vec(),
        energies: Vec::new(),
        norms: Vec::new(),
    };
    for step in 0..n_steps {
        let noise = noise_of(step, x.data().len() / BATCH);
        let scalar = |name, values| Input {
            name,
            shape: &[],
            values,
        };
        let inputs = [
            Input {
                name: "x",
                shape: x.shape(),
                values: &run_so_far.x_next,
            },
            Input {
                name: "noise",
                shape: x.shape(),
                values: &noise,
            },
            scalar("step_size", &[STEP_SIZE as f32]),
            scalar("temperature", &[TEMPERATURE as f32]),
        ];
        let [x_next, energy, norm] = run(session, &inputs, None);
        run_so_far.x_next = x_next;
        run_so_far.energies.push(energy);
        run_so_far.norms.push(norm);
    }
    run_so_far
}

fn at_once(session: &mut dyn Session, x: &ebm_export::Tensor, n_steps: usize) -> Run {
    let n_pixels = x.data().len() / BATCH;
    let steps: Vec<Vec<f32>> = (0..n_steps).map(|step| noise_of(step, n_pixels)).collect();
    let of_image = |image: usize| {
        let part = image * n_pixels..(image + 1) * n_pixels;
        steps
            .iter()
            .flat_map(move |step| step[part.clone()].to_vec())
    };
    let noise: Vec<f32> = (0..BATCH).flat_map(of_image).collect();
    let noise_shape = [&[BATCH, n_steps], &x.shape()[1..]].concat();
    let inputs = [
        Input {
            name: "x",
            shape: x.shape(),
            values: x.data(),
        },
        Input {
            name: "noise",
            shape: &noise_shape,
            values: &noise,
        },
    ];
    let [x_next, energy, norm] = run(session, &inputs, Some(n_steps));
    let by_step = |values: &[f32]| {
        let of_step = |step: usize| values.iter().skip(step).step_by(n_steps).copied().collect();
        (0..n_steps).map(of_step).collect()
    };
    Run {
        x_next,
        energies: by_step(&energy),
        norms: by_step(&norm),
    }
}

fn assert_near(wanted: &[f32], got: &[f32], what: &str) {
    let as_f64 = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect();
    let [wanted, got]: [Vec<f64>; 2] = [as_f64(wanted), as_f64(got)];
    let error = worst_difference(&wanted, &got, BATCH);
    assert!(error <= TOLERANCE, "{what}: off by {error}");
}

/// Prior, Gaussian term and a clip that shortens some drifts.
fn joint() -> Export {
    let (_, prior) = free_form(Activation::Gelu);
    let prior = Prior {
        weights: weights(&prior, 2),
        network: prior,
        temperature: 0.5,
    };
    Export {
        potential: Some(Potential {
            prior: Some(prior),
            tau: Some(0.5),
        }),
        clip: Some(0.05),
        ..Export::default()
    }
}

#[test]
fn a_purifier_is_its_steps_on_every_backend() {
    let (_, network) = free_form(Activation::Silu);
    let own = weights(&network, 1);
    let x = images(&network, BATCH, 3);
    let energy = Energy::of_network(&Header::new(network), &own).unwrap();
    for (form, n_steps, export) in [
        ("plain", N_STEPS, Export::default()),
        ("one step", 1, Export::default()),
        ("joint", N_STEPS, joint()),
    ] {
        let served = Served {
            dynamics: Purification {
                step_size: STEP_SIZE,
                temperature: TEMPERATURE,
                steps: n_steps,
            },
            batching: Batching {
                max_batch: 8,
                max_delay_microseconds: 100,
            },
            classifier: None,
        };
        let files = repository(&energy, &export, &served).unwrap();
        let purifier = files.into_iter().find_map(|file| match file.content {
            Content::Model(model) => Some(model.to_bytes()),
            Content::Bytes(_) => None,
        });
        let purifier = Model::from_bytes(purifier.unwrap(), "model.onnx").unwrap();
        let files = export.files(&energy, 1).unwrap();
        let step = files.into_iter().find(|file| file.name == "step.onnx");
        let step = Model::from_bytes(step.unwrap().model.to_bytes(), "step.onnx").unwrap();
        for backend in backends() {
            let name = backend.name();
            let mut session = backend.prepare(&step, 1).unwrap();
            let wanted = one_by_one(session.as_mut(), &x, n_steps);
            let mut session = backend.prepare(&purifier, 1).unwrap();
            let got = at_once(session.as_mut(), &x, n_steps);
            assert_ne!(wanted.x_next, x.data());
            assert_near(
                &wanted.x_next,
                &got.x_next,
                &format!("{form}, {name}: x_next"),
            );
            for step in 0..n_steps {
                let what = format!("{form}, {name}, step {step}");
                assert_near(&wanted.energies[step], &got.energies[step], &what);
                assert_near(&wanted.norms[step], &got.norms[step], &what);
            }
        }
    }
}
