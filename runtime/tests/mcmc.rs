//! Markov chains against closed forms on a Gaussian, on every backend that can be used here.
#![allow(clippy::unwrap_used)]

mod common;

use ebm_runtime::mcmc::{Drawn, MarkovChains, Transition};
use ebm_runtime::{Backend, ErrorKind, ImageShape, Images, Prepared};

use common::{GREY, backends, constant, model};

/// The energy of `digits` is a/2·‖x − m‖² with these in every pixel.
const STIFFNESS: f64 = 1.5;
const MINIMUM: f64 = 0.5;
const TRANSITIONS: [Transition; 3] = [
    Transition::MetropolisLangevin,
    Transition::UnderdampedLangevin { friction: 1.0 },
    Transition::Hamiltonian { n_leapfrog: 4 },
];

fn prepared(name: &str, backend: &Backend, n_threads: usize) -> Prepared {
    Prepared::builder(&model(&format!("digits/{name}")))
        .backend(backend.clone())
        .threads(n_threads)
        .build()
        .unwrap()
}

/// Mean and variance of all values, with the number of values.
fn moments(drawn: &Drawn) -> (f64, f64, f64) {
    let values: Vec<f64> = drawn.images.array().iter().map(|&x| f64::from(x)).collect();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (
        mean,
        values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n,
        n,
    )
}

/// The density is a Gaussian of mean m and variance T/a. All three keep it without an error from the step size: the first and the last by rejection, BAOAB because it is
/// exact in the positions of a harmonic energy. A plain Langevin step of ε = 0.7 and T = 0.6 would have the variance T/a / (1 − ε²a/(4T)) = 1.44·T/a.
#[test]
fn a_gaussian_keeps_its_mean_and_variance() {
    let temperature = 0.6;
    for backend in backends() {
        let model = prepared("gradient.onnx", &backend, 2);
        for (transition, step_size, n_steps) in [
            (TRANSITIONS[0], 0.35, 250),
            (TRANSITIONS[1], 0.7, 60),
            (TRANSITIONS[2], 0.35, 40),
        ] {
            let chains = MarkovChains::builder(&model)
                .transition(transition)
                .step_size(step_size)
                .temperature(temperature)
                .build(4)
                .unwrap();
            let drawn = chains.run(&constant(GREY, 150, -0.5), n_steps).unwrap();
            let (mean, variance, n) = moments(&drawn);
            let expected = temperature / STIFFNESS;
            let case = format!("{backend}, {transition:?}, {:?}", &drawn.acceptance[..3]);
            // Five standard errors of mean and variance of n independent normal values.
            assert!(
                (mean - MINIMUM).abs() < 5.0 * (expected / n).sqrt(),
                "{case}: mean {mean}"
            );
            assert!(
                (variance - expected).abs() < 5.0 * expected * (2.0 / n).sqrt(),
                "{case}: variance {variance}, expected {expected}"
            );
            let acceptance = drawn.acceptance.iter().sum::<f32>() / 150.0;
            match transition {
                Transition::UnderdampedLangevin { .. } => assert_eq!(acceptance, 1.0),
                _ => assert!((0.2..0.999).contains(&acceptance), "{case}: {acceptance}"),
            }
            // The mean energy of 64 harmonic pixels is 64·T/2.
            let energy = drawn.energies.iter().map(|&e| f64::from(e)).sum::<f64>() / 150.0;
            assert!(
                (energy - 32.0 * temperature).abs() < 1.0,
                "{case}: energy {energy}"
            );
        }
    }
}

/// Small steps are always accepted, huge ones never, and then the chain stays where it is.
#[test]
fn acceptance_falls_with_the_step_size() {
    for backend in backends() {
        let model = prepared("gradient.onnx", &backend, 1);
        let starts = constant(GREY, 3, 0.25);
        for transition in [TRANSITIONS[0], TRANSITIONS[2]] {
            let run = |step_size| {
                MarkovChains::builder(&model)
                    .transition(transition)
                    .step_size(step_size)
                    .build(0)
                    .unwrap()
                    .run(&starts, 20)
                    .unwrap()
            };
            assert!(run(1e-3).acceptance.iter().all(|&share| share > 0.99));
            let stuck = run(50.0);
            assert_eq!((stuck.acceptance, &stuck.images), (vec![0.0; 3], &starts));
        }
    }
}

#[test]
fn chains_do_not_depend_on_threads_or_company() {
    for backend in backends() {
        let values = (0..40 * 64)
            .map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0)
            .collect();
        let starts = Images::from_vec(GREY, values).unwrap();
        for transition in TRANSITIONS {
            let run = |n_threads, starts: &Images| {
                let model = prepared("gradient.onnx", &backend, n_threads);
                let chains = MarkovChains::builder(&model)
                    .transition(transition)
                    .step_size(0.2)
                    .temperature(0.5)
                    .build(9)
                    .unwrap();
                chains.run(starts, 15).unwrap()
            };
            let all = run(1, &starts);
            assert_eq!(run(3, &starts), all, "{backend}");
            let few = Images::from_vec(GREY, starts.array().as_slice().unwrap()[..5 * 64].to_vec())
                .unwrap();
            let alone = run(1, &few);
            assert_eq!(
                alone.images.image(4),
                all.images.image(4),
                "{backend}, {transition:?}"
            );
            assert_eq!(alone.energies[4], all.energies[4]);
        }
    }
}

#[test]
fn a_chain_without_rejection_that_blows_up_is_named_and_returned_as_given() {
    for backend in backends() {
        let model = prepared("gradient.onnx", &backend, 1);
        let starts = constant(GREY, 2, 0.25);
        let chains = MarkovChains::builder(&model)
            .transition(TRANSITIONS[1])
            .step_size(1e6)
            .build(0)
            .unwrap();
        let drawn = chains.run(&starts, 10).unwrap();
        assert!(
            drawn.failed_steps.iter().all(Option::is_some),
            "{:?}",
            drawn.failed_steps
        );
        assert_eq!(drawn.images, starts);
        assert!((drawn.energies[0] - 0.75 * 64.0 * 0.0625).abs() < 1e-4);
    }
}

#[test]
fn settings_and_models_that_do_not_fit_are_refused() {
    let backend = backends().remove(0);
    let model = prepared("gradient.onnx", &backend, 1);
    let new = |transition, step_size, temperature| {
        MarkovChains::builder(&model)
            .transition(transition)
            .step_size(step_size)
            .temperature(temperature)
            .build(0)
            .unwrap_err()
    };
    let metropolis = Transition::MetropolisLangevin;
    for (name, error) in [
        ("step_size", new(metropolis, 0.0, 1.0)),
        ("step_size", new(metropolis, f64::NAN, 1.0)),
        ("temperature", new(metropolis, 1.0, -1.0)),
        (
            "friction",
            new(Transition::UnderdampedLangevin { friction: 0.0 }, 1.0, 1.0),
        ),
        (
            "n_leapfrog",
            new(Transition::Hamiltonian { n_leapfrog: 0 }, 1.0, 1.0),
        ),
    ] {
        assert_eq!(error.kind(), ErrorKind::Argument);
        assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
    }
    let step = prepared("step.onnx", &backend, 1);
    let error = MarkovChains::builder(&step)
        .transition(metropolis)
        .build(0)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongKind);
    assert!(error.to_string().contains("gradient.onnx"), "{error}");
    let chains = MarkovChains::builder(&model)
        .transition(metropolis)
        .step_size(0.1)
        .build(0)
        .unwrap();
    let wrong = Images::from_vec(
        ImageShape {
            channels: 3,
            ..GREY
        },
        vec![0.0; 192],
    )
    .unwrap();
    assert_eq!(chains.run(&wrong, 1).unwrap_err().kind(), ErrorKind::Shape);
}
