//! Samplers, generators and energy scores, on every backend that can be used here.
#![allow(clippy::unwrap_used)]

mod common;

use ebm_runtime::noise::fill_normal;
use ebm_runtime::{Backend, EnergyScore, ErrorKind, Generator, Images, Purifier, Sampler, Start};

use common::{GREY, backends, model, ramps};

fn sampler(backend: &Backend, start: Start, steps: usize) -> Sampler {
    let purifier = Purifier::builder(&model("digits/step.onnx"))
        .as_learned()
        .steps(steps)
        .threads(2)
        .backend(backend.clone())
        .build(8)
        .unwrap();
    Sampler::new(purifier, start).unwrap()
}

fn generator(backend: &Backend) -> Generator {
    Generator::builder(&model("digits/generator.onnx"))
        .backend(backend.clone())
        .threads(2)
        .build()
        .unwrap()
}

#[test]
fn the_dynamics_as_learned_are_those_of_the_contract() {
    let purifier = Purifier::builder(&model("digits/step.onnx"))
        .as_learned()
        .build(0)
        .unwrap();
    assert_eq!(
        (
            purifier.n_steps(),
            purifier.step_size(),
            purifier.temperature()
        ),
        (50, 0.1, 0.5)
    );
}

#[test]
fn a_generator_spreads_documented_latents() {
    for backend in backends() {
        let generator = generator(&backend);
        assert_eq!((generator.latent(), generator.image()), (4, GREY));
        let latents = generator.latents(8, 5, 40);
        let images = generator.images(&latents).unwrap();
        for (place, index) in (5..45).enumerate() {
            let mut z = [0.0; 4];
            fill_normal(8, index, 0, u32::MAX, &mut z);
            assert_eq!(latents[place * 4..][..4], z);
            // Four bands of two rows.
            for (i, &x) in images.image(place).iter().enumerate() {
                assert_eq!(x, z[i / 16], "{backend}: image {place}, value {i}");
            }
        }
        let error = generator.images(&latents[..6]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Shape);
        let classless = model("digits/generator.onnx");
        let error = Generator::builder(&classless).class(0).build().unwrap_err();
        assert!(error.to_string().contains("no classes"), "{error}");
    }
}

#[test]
fn samples_are_chains_from_their_start() {
    for backend in backends() {
        let starts = [
            (Start::Noise, None),
            (Start::Images(ramps(GREY, 3)), Some(ramps(GREY, 3))),
            (Start::Generator(generator(&backend)), None),
        ];
        for (start, data) in starts {
            let sampler = sampler(&backend, start, 7);
            let starts = sampler.starts(0, 8).unwrap();
            if let Some(data) = data {
                assert_eq!(starts.image(7), data.image(1));
            }
            let expected = sampler.purifier().purify(&starts).unwrap();
            assert_eq!(sampler.sample(8).unwrap(), expected, "{backend}");
            // A later part of the samples is the same, whoever draws it.
            let part = sampler
                .sample_with(5, 3, |request| request.snapshots([0]))
                .unwrap();
            for i in 0..3 {
                assert_eq!(
                    part.replicas[0].image(i),
                    expected.image(5 + i),
                    "{backend}"
                );
                assert_eq!(part.snapshots[0].replicas[0].image(i), starts.image(5 + i));
            }
        }
    }
}

#[test]
fn noise_to_start_from_is_uniform_and_independent_of_the_steps() {
    let backend = backends().remove(0);
    let starts = sampler(&backend, Start::Noise, 1).starts(0, 500).unwrap();
    let values: Vec<f64> = starts.array().iter().map(|&x| f64::from(x)).collect();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let square = values.iter().map(|x| x * x).sum::<f64>() / n;
    assert!(mean.abs() < 5.0 * (1.0 / 3.0 / n).sqrt(), "{mean}");
    assert!(
        (square - 1.0 / 3.0).abs() < 5.0 * (4.0 / 45.0 / n).sqrt(),
        "{square}"
    );
}

#[test]
fn starts_that_do_not_fit_are_refused() {
    let backend = backends().remove(0);
    let build = || {
        Purifier::builder(&model("colour/step.onnx"))
            .backend(backend.clone())
            .build(0)
            .unwrap()
    };
    let error = Sampler::new(build(), Start::Generator(generator(&backend))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Shape);
    let error = Sampler::new(build(), Start::Images(ramps(GREY, 0))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Argument);
    let error = Generator::builder(&model("digits/step.onnx"))
        .backend(backend.clone())
        .threads(1)
        .build()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongKind);
}

#[test]
fn energies_are_those_of_the_formula_whatever_the_file() {
    let images = ramps(GREY, 37);
    for backend in backends() {
        for file in ["energy", "gradient", "step"] {
            let model = model(&format!("digits/{file}.onnx"));
            let score = EnergyScore::builder(&model)
                .backend(backend.clone())
                .threads(2)
                .build()
                .unwrap();
            for (i, energy) in score.energies(&images).unwrap().into_iter().enumerate() {
                let squared: f64 = images
                    .image(i)
                    .iter()
                    .map(|&x| (f64::from(x) - 0.5).powi(2))
                    .sum();
                assert!(
                    (f64::from(energy) - 0.75 * squared).abs() < 1e-3,
                    "{backend}, {file}"
                );
            }
            assert!(score.energies(&ramps(GREY, 0)).unwrap().is_empty());
        }
    }
}

#[test]
fn a_threshold_rejects_the_share_that_it_was_fitted_to() {
    let backend = backends().remove(0);
    let score = EnergyScore::builder(&model("digits/energy.onnx"))
        .backend(backend.clone())
        .threads(1)
        .build()
        .unwrap();
    // Image i lies i/100 from the minimum in every pixel, so that energies rise with i.
    let values = (0..100 * 64).map(|i| 0.5 - (i / 64) as f32 / 100.0);
    let images = Images::from_vec(GREY, values.collect()).unwrap();
    let energies = score.energies(&images).unwrap();
    for (share, n_outliers) in [(0.0, 0), (0.05, 5), (0.051, 5), (0.5, 50), (0.999, 99)] {
        let threshold = score.fit(&images, share).unwrap();
        let outliers: Vec<bool> = energies.iter().map(|&e| threshold.is_outlier(e)).collect();
        assert_eq!(
            outliers.iter().filter(|&&outlier| outlier).count(),
            n_outliers,
            "{share}"
        );
        assert!(outliers.is_sorted(), "{share}");
    }
    let threshold = score.fit(&images, 0.1).unwrap();
    assert!(threshold.is_outlier(f32::NAN) && threshold.is_outlier(f32::INFINITY));
    for share in [-0.1, 1.0, f64::NAN] {
        assert_eq!(
            score.fit(&images, share).unwrap_err().kind(),
            ErrorKind::Argument
        );
    }
    assert_eq!(
        score.fit(&ramps(GREY, 0), 0.1).unwrap_err().kind(),
        ErrorKind::Argument
    );
}

#[test]
fn scores_take_files_with_energies_only() {
    let backend = backends().remove(0);
    for file in ["digits/classifier.onnx", "digits-unrolled/step.onnx"] {
        let error = EnergyScore::builder(&model(file))
            .backend(backend.clone())
            .threads(1)
            .build()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongKind, "{file}");
        assert!(error.to_string().contains("energy.onnx"), "{error}");
    }
}
