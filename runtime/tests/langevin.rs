//! The dynamics of a purifier against closed forms, on every backend that can be used here.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ebm_runtime::{
    ErrorKind, ImageShape, Images, Purifier, Request, drift_factor, noise::fill_normal,
};

use common::{GREY, backends, constant, model, ramps};

/// The stiffness a of the energy `a/2·‖x − m‖²` of the quadratic fixtures.
const STIFFNESS: f64 = 1.5;
/// The minimum m of `digits` in every pixel.
const MINIMUM: f64 = 0.5;
/// With b = (ε²/(2T))·a each step is `x − m ← (1 − b)(x − m) + ε·z`, so that after K steps from x₀
/// mean = m + (1 − b)ᴷ(x₀ − m) and variance = ε²·(1 − (1 − b)²ᴷ) / (1 − (1 − b)²).
#[test]
fn a_quadratic_energy_has_the_closed_form_mean_and_variance() {
    let (start, n_images) = (-0.75, 1000);
    for backend in backends() {
        for (steps, step_size, temperature) in [(1, 0.3, 0.5), (10, 0.2, 0.1), (50, 0.1, 0.5)] {
            let purifier = Purifier::builder(&model("digits/step.onnx"))
                .steps(steps)
                .step_size(step_size)
                .temperature(temperature)
                .backend(backend.clone())
                .batch(100)
                .build(5)
                .unwrap();
            let purified = purifier
                .purify(&constant(GREY, n_images, start as f32))
                .unwrap();
            let values: Vec<f64> = purified.array().iter().map(|&x| f64::from(x)).collect();
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;

            let rest = 1.0 - drift_factor(step_size, temperature) * STIFFNESS;
            let expected_mean = MINIMUM + rest.powi(steps as i32) * (start - MINIMUM);
            let expected_variance =
                step_size.powi(2) * (1.0 - rest.powi(2 * steps as i32)) / (1.0 - rest * rest);
            // Five standard errors of a mean and of a variance of n normal values.
            let case = format!("{backend}, {steps} steps");
            assert!(
                (mean - expected_mean).abs() < 5.0 * (expected_variance / n).sqrt(),
                "{case}: mean {mean}, expected {expected_mean}"
            );
            assert!(
                (variance - expected_variance).abs() < 5.0 * expected_variance * (2.0 / n).sqrt(),
                "{case}: variance {variance}, expected {expected_variance}"
            );
        }
    }
}

/// The same chains computed here from the documented noise, value by value.
#[test]
fn every_step_is_that_of_the_formula_with_the_documented_noise() {
    let (steps, step_size, temperature, seed, replica, first_index) = (4_u32, 0.2, 0.3, 77, 2, 9);
    let images = ramps(GREY, 2);
    let factor = drift_factor(step_size, temperature) * STIFFNESS;
    for backend in backends() {
        let purifier = Purifier::builder(&model("digits/step.onnx"))
            .steps(steps as usize)
            .step_size(step_size)
            .temperature(temperature)
            .replica(replica)
            .backend(backend.clone())
            .build(seed)
            .unwrap();
        let purified = purifier
            .run(&Request::new(&images).first_index(first_index).n_replicas(2))
            .unwrap();
        for (offset, result) in purified.replicas.iter().enumerate() {
            for image in 0..2 {
                let mut x: Vec<f64> = images.image(image).iter().map(|&x| f64::from(x)).collect();
                for step in 0..steps {
                    let mut z = vec![0.0; x.len()];
                    fill_normal(
                        seed,
                        first_index + image as u32,
                        replica + offset as u32,
                        step,
                        &mut z,
                    );
                    for (x, z) in x.iter_mut().zip(z) {
                        *x += -factor * (*x - MINIMUM) + step_size * f64::from(z);
                    }
                }
                for (x, got) in x.iter().zip(result.image(image)) {
                    assert!(
                        (x - f64::from(*got)).abs() < 1e-5,
                        "{backend}: expected {x}, got {got}"
                    );
                }
            }
        }
    }
}

/// `‖x' − x − ε·z‖` is the smaller of the limit and the unclipped length of the drift.
#[test]
fn clipping_shortens_the_drift_and_nothing_else() {
    let (step_size, temperature, clip) = (0.3, 0.2, 0.4);
    // The further an image is from the minimum, the longer its drift: the first stays below the limit.
    let mut images = constant(GREY, 2, 0.6).into_array();
    images.index_axis_mut(ndarray::Axis(0), 1).fill(-1.0);
    let images = Images::from_array(images);
    for backend in backends() {
        let builder = Purifier::builder(&model("digits/step.onnx"))
            .steps(1)
            .step_size(step_size)
            .temperature(temperature)
            .backend(backend.clone());
        let free = builder.clone().build(0).unwrap().purify(&images).unwrap();
        let clipped = builder
            .clip(clip)
            .build(0)
            .unwrap()
            .purify(&images)
            .unwrap();
        assert_eq!(clipped.image(0), free.image(0), "{backend}");
        let mut z = vec![0.0; 64];
        fill_normal(0, 1, 0, 0, &mut z);
        let drift = |purified: &Images| -> Vec<f64> {
            let pixels = purified.image(1).iter().zip(images.image(1)).zip(&z);
            pixels
                .map(|((next, x), z)| f64::from(*next) - f64::from(*x) - step_size * f64::from(*z))
                .collect()
        };
        let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
        let (free, clipped) = (drift(&free), drift(&clipped));
        // Each of 64 pixels is 1.5 from the minimum.
        let expected = drift_factor(step_size, temperature) * STIFFNESS * 1.5 * 8.0;
        assert!(
            (norm(&free) - expected).abs() < 1e-4,
            "{backend}: {}",
            norm(&free)
        );
        assert!(
            (norm(&clipped) - clip).abs() < 1e-4,
            "{backend}: {}",
            norm(&clipped)
        );
        let ratio = clip / expected;
        assert!(
            free.iter()
                .zip(&clipped)
                .all(|(f, c)| (f * ratio - c).abs() < 1e-5),
            "{backend}"
        );
    }
}

#[test]
fn reports_tell_energy_and_gradient_before_and_after() {
    for backend in backends() {
        let purifier = Purifier::builder(&model("digits/step.onnx"))
            .steps(40)
            .step_size(0.05)
            .temperature(0.002)
            .backend(backend.clone())
            .build(0)
            .unwrap();
        let images = constant(GREY, 3, -0.5);
        let purified = purifier
            .run(&Request::new(&images).n_replicas(2).measure_end())
            .unwrap();
        assert_eq!(purified.reports.len(), 6);
        for (place, report) in purified.reports.iter().enumerate() {
            assert_eq!(
                (report.image, report.replica as usize),
                (place % 3, place / 3)
            );
            // Energy a/2·64·1² and gradient norm a·8·1 at one unit from the minimum.
            assert!(
                (report.start.unwrap().energy - 48.0).abs() < 1e-3,
                "{backend}: {report:?}"
            );
            assert!(
                (report.start.unwrap().gradient_norm - 12.0).abs() < 1e-3,
                "{backend}: {report:?}"
            );
            let end = report.end.unwrap();
            let x = purified.replicas[place / 3].image(place % 3);
            let squared: f64 = x.iter().map(|&x| (f64::from(x) - MINIMUM).powi(2)).sum();
            assert!(
                (f64::from(end.energy) - 0.5 * STIFFNESS * squared).abs() < 1e-3,
                "{backend}: {report:?}"
            );
            assert!(end.energy < report.start.unwrap().energy && report.failed_step.is_none());
        }
        let without = purifier.run(&Request::new(&images)).unwrap();
        assert!(without.reports.iter().all(|report| report.end.is_none()));
    }
}

/// On both backends the same bits, whatever the batch, the threads, the order and what else is in the call.
#[test]
fn results_do_not_depend_on_batch_threads_order_or_split() {
    let model = model("colour/step.onnx");
    let images = ramps(model.contract().image, 11);
    for backend in backends() {
        let build = |batch, threads| {
            Purifier::builder(&model)
                .steps(5)
                .backend(backend.clone())
                .batch(batch)
                .threads(threads)
                .build(1)
                .unwrap()
        };
        let expected = build(1, 1).purify(&images).unwrap();
        for (batch, threads) in [
            (3, 1),
            (8, 1),
            (1, 2),
            (3, 2),
            (8, 2),
            (1, 3),
            (3, 3),
            (8, 3),
            (64, 1),
        ] {
            let got = build(batch, threads).purify(&images).unwrap();
            assert!(
                got == expected,
                "{backend}: batch {batch}, {threads} threads"
            );
        }
        let order: Vec<u32> = vec![7, 0, 10, 3];
        let picked = order
            .iter()
            .flat_map(|&i| images.image(i as usize))
            .copied()
            .collect();
        let picked = Images::from_vec(images.shape(), picked).unwrap();
        let got = build(3, 2)
            .run(&Request::new(&picked).indices(order.clone()))
            .unwrap();
        for (place, &index) in order.iter().enumerate() {
            assert!(
                got.replicas[0].image(place) == expected.image(index as usize),
                "{backend}: image {index}"
            );
        }
    }
}

#[test]
fn backends_agree() {
    let model = model("colour/step.onnx");
    let images = ramps(model.contract().image, 4);
    let results: Vec<Images> = backends()
        .into_iter()
        .map(|backend| {
            Purifier::builder(&model)
                .steps(20)
                .backend(backend)
                .build(0)
                .unwrap()
                .purify(&images)
                .unwrap()
        })
        .collect();
    for other in &results[1..] {
        let pairs = results[0].array().iter().zip(other.array());
        let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest < 1e-4, "{largest}");
    }
}

/// A model whose batch is fixed runs any number of images, the last batch padded.
#[test]
fn a_fixed_batch_is_padded() {
    let (free, fixed) = (
        model("quadratic/step.onnx"),
        model("quadratic-batch2/step.onnx"),
    );
    let images = ramps(free.contract().image, 5);
    for backend in backends() {
        let run = |model| {
            Purifier::builder(model)
                .backend(backend.clone())
                .threads(1)
                .build(0)
                .unwrap()
                .purify(&images)
                .unwrap()
        };
        assert_eq!(run(&free), run(&fixed), "{backend}");
    }
}

#[test]
fn one_purifier_serves_many_threads() {
    let model = model("digits/step.onnx");
    let images = ramps(GREY, 4);
    for backend in backends() {
        let purifier = Purifier::builder(&model)
            .backend(backend)
            .threads(2)
            .build(0)
            .unwrap();
        let expected = purifier.purify(&images).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    (0..5).for_each(|_| assert_eq!(purifier.purify(&images).unwrap(), expected))
                });
            }
        });
    }
}

#[test]
fn progress_counts_every_step_of_every_image() {
    for backend in backends() {
        let (calls, last) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (calls_inside, last_inside) = (Arc::clone(&calls), Arc::clone(&last));
        let purifier = Purifier::builder(&model("digits/step.onnx"))
            .steps(7)
            .batch(2)
            .threads(2)
            .backend(backend)
            .on_progress(move |progress| {
                assert_eq!(progress.n_total, 5 * 3 * 7);
                calls_inside.fetch_add(1, Ordering::Relaxed);
                last_inside.fetch_max(progress.n_done, Ordering::Relaxed);
            })
            .build(0)
            .unwrap();
        purifier
            .run(&Request::new(&ramps(GREY, 5)).n_replicas(3))
            .unwrap();
        assert_eq!(
            (calls.load(Ordering::Relaxed), last.load(Ordering::Relaxed)),
            (8 * 7, 5 * 3 * 7)
        );
    }
}

/// ε²/(2T)·a ≫ 2 makes the chain grow without bound.
#[test]
fn chains_that_blow_up_are_named_and_their_images_returned_as_given() {
    let images = ramps(GREY, 3);
    for backend in backends() {
        let purifier = Purifier::builder(&model("digits/step.onnx"))
            .steps(10)
            .step_size(1e6)
            .temperature(1e-6)
            .backend(backend.clone())
            .build(0)
            .unwrap();
        let error = purifier.purify(&images).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NonFinite);
        let message = error.to_string();
        assert!(
            message.contains("image 0")
                && message.contains("at step 2")
                && message.contains("smaller step size"),
            "{message}"
        );
        let purified = purifier.run(&Request::new(&images)).unwrap();
        assert!(
            purified
                .reports
                .iter()
                .all(|report| report.failed_step == Some(2)),
            "{backend}"
        );
        assert_eq!(purified.replicas[0], images, "{backend}");
    }
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let model = model("digits/step.onnx");
    let builder = || Purifier::builder(&model);
    let cases = [
        ("steps", builder().steps(0)),
        ("step_size", builder().step_size(0.0)),
        ("step_size", builder().step_size(-0.1)),
        ("step_size", builder().step_size(f64::NAN)),
        ("step_size", builder().step_size(1e-60)),
        ("temperature", builder().temperature(0.0)),
        ("temperature", builder().temperature(-1.0)),
        ("temperature", builder().temperature(f64::INFINITY)),
        ("clip", builder().clip(0.0)),
        ("clip", builder().clip(f64::NAN)),
        ("threads", builder().threads(0)),
        ("batch", builder().batch(0)),
    ];
    for (name, builder) in cases {
        let error = builder.build(0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Argument, "{error}");
        assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
    }
}

#[test]
fn images_that_do_not_fit_are_refused_before_any_work() {
    let backend = backends().remove(0);
    let purifier = Purifier::builder(&model("digits/step.onnx"))
        .backend(backend)
        .build(0)
        .unwrap();
    let wrong = constant(
        ImageShape {
            channels: 3,
            ..GREY
        },
        1,
        0.0,
    );
    assert_eq!(
        purifier.purify(&wrong).unwrap_err().kind(),
        ErrorKind::Shape
    );
    let error = purifier.purify(&constant(GREY, 1, f32::NAN)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NonFinite);
    assert!(error.to_string().contains("image 0"), "{error}");
    let fine = constant(GREY, 2, 0.0);
    for request in [
        Request::new(&fine).n_replicas(0),
        Request::new(&fine).first_index(u32::MAX),
        Request::new(&fine).indices(vec![1]),
    ] {
        assert_eq!(
            purifier.run(&request).unwrap_err().kind(),
            ErrorKind::Argument
        );
    }
}

#[test]
fn no_images_are_no_work() {
    for backend in backends() {
        let purifier = Purifier::builder(&model("digits/step.onnx"))
            .backend(backend)
            .build(0)
            .unwrap();
        assert!(purifier.purify(&constant(GREY, 0, 0.0)).unwrap().is_empty());
    }
}

#[test]
fn only_step_models_purify() {
    let error = Purifier::builder(&model("digits/classifier.onnx"))
        .steps(1)
        .step_size(0.1)
        .temperature(1.0)
        .build(0);
    assert_eq!(error.unwrap_err().kind(), ErrorKind::WrongKind);
}
