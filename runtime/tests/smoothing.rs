//! Certificates against closed forms, on every backend that can be used here.
#![cfg(feature = "certificates")]
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex};

use ebm_runtime::{
    Backend, Cancel, Certificate, Classifier, ErrorKind, Images, PixelDistance, Purifier,
    PurifierBuilder, Result, SmoothedClassifier, Smoothing, drift_factor,
};

use common::{GREY, backends, constant, model, ramps};

/// `‖w‖` of the classifier of `digits`, whose logits are `±w·x` with ±1/32 in the upper and the lower half.
const WEIGHT_NORM: f64 = 0.25;

fn smoothing(sigma: f64, n: usize, alpha: f64) -> Smoothing {
    Smoothing {
        n0: 20,
        n,
        alpha,
        ..Smoothing::new(PixelDistance::of_unit_range(sigma))
    }
}

fn smoothed(backend: &Backend, smoothing: Smoothing) -> SmoothedClassifier {
    let classifier = Classifier::builder(&model("digits/classifier.onnx"))
        .backend(backend.clone())
        .threads(2)
        .build()
        .unwrap();
    SmoothedClassifier::new(classifier, smoothing).unwrap()
}

fn energy(backend: &Backend) -> PurifierBuilder {
    Purifier::builder(&model("digits/step.onnx"))
        .backend(backend.clone())
        .threads(2)
}

/// An image with `w·x = margin`, so that its distance from the boundary is `margin/‖w‖` of pixels in `[-1, 1]`.
fn with_margin(margin: f64) -> Images {
    let half = |i: usize| if i < 32 { 1.0 } else { -1.0 };
    let values =
        (0..64).map(|i| (0.1 * ((i * 37) % 32) as f64 / 32.0 + 0.5 * margin * half(i)) as f32);
    Images::from_vec(GREY, values.collect()).unwrap()
}

/// `Φ⁻¹` by halving the normal distribution's integral, to compare with.
fn quantile(p: f64) -> f64 {
    let cdf = |x: f64| 0.5 * libm::erfc(-x / std::f64::consts::SQRT_2);
    let (mut low, mut high) = (-9.0, 9.0);
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        match cdf(middle) < p {
            true => low = middle,
            false => high = middle,
        }
    }
    low
}

/// The energy is `a/2·‖x − m‖²` and `w·m = 0`: K steps with noise of variance v leave `w·x` times `r = (1 − b)ᴷ` and normal noise of variance `‖w‖²(r²σ² + v)`. The smoothed
/// classifier has the boundary `w·x = 0` all the same, so that the true radius is `|w·x|/‖w‖`, and the certified one that of the probability of its class, which is a share
/// `rσ/√(r²σ² + v)` of the true one: all of it without noise.
#[test]
fn the_radius_of_a_linear_classifier_behind_a_quadratic_energy_is_known_and_never_exceeded() {
    const STIFFNESS: f64 = 1.5;
    let (sigma, steps, step_size, temperature) = (0.25, 4, 0.1, 0.5);
    let rest = 1.0 - drift_factor(step_size, temperature) * STIFFNESS;
    let variance = step_size.powi(2) * (1.0 - rest.powi(2 * steps)) / (1.0 - rest * rest);
    let signal = rest.powi(steps) * 2.0 * sigma;
    let share_with_noise = signal / (signal * signal + variance).sqrt();
    let settings = smoothing(sigma, 2000, 0.001);
    for backend in backends() {
        let of_steps = || energy(&backend).steps(steps as usize);
        let of_steps = || of_steps().step_size(step_size).temperature(temperature);
        let bare = smoothed(&backend, settings);
        let cases: [(&str, f64, SmoothedClassifier); 4] = [
            ("bare", 1.0, bare.clone()),
            (
                "noise",
                share_with_noise,
                bare.clone().behind(of_steps()).unwrap(),
            ),
            (
                "descent",
                1.0,
                bare.clone().behind(of_steps().without_noise()).unwrap(),
            ),
            (
                "denoiser",
                1.0,
                bare.clone()
                    .behind(energy(&backend).denoiser(settings.sigma))
                    .unwrap(),
            ),
        ];
        for (name, share, smoothed) in cases {
            // The denoiser's step goes beyond the minimum: 1 − a = −½ turns the sign of what it leaves.
            let sign = if name == "denoiser" { -1.0 } else { 1.0 };
            for (seed, margin) in (0..).zip([0.02, 0.1, -0.15, 0.25, -0.35]) {
                let case = format!("{backend}, {name}, margin {margin}");
                let certificate = smoothed
                    .certify_with(seed, 3, &with_margin(margin))
                    .unwrap();
                let truth = margin.abs() / WEIGHT_NORM / 2.0;
                let radius = certificate.radius.in_unit_range();
                assert!(radius <= truth, "{case}: {radius} exceeds {truth}");
                // The estimate is within five standard errors of the probability; the bound lies below it by less than five more.
                let class = usize::from(sign * margin < 0.0);
                let z = share * truth / sigma;
                let p = 0.5 * libm::erfc(-z / std::f64::consts::SQRT_2);
                let error = 5.0 * (p * (1.0 - p) / 2000.0).sqrt();
                let estimate = certificate.estimation.of_classes[class] as f64 / 2000.0;
                match certificate.class {
                    Some(certified) => {
                        assert_eq!(certified, class, "{case}");
                        assert!((estimate - p).abs() <= error, "{case}: {estimate}, not {p}");
                        let least = sigma * quantile((p - 2.0 * error).max(0.5) - 5e-3);
                        assert!(radius > least, "{case}: {radius} is below {least}");
                    }
                    None => assert!(p < 0.5 + 2.0 * error, "{case}: {p}"),
                }
            }
        }
    }
}

/// At α = 0.2 about a fifth of the certificates may exceed the truth; five standard errors more of 400 would be a sign that the bound is none.
#[test]
fn at_most_the_share_alpha_of_the_certificates_is_wrong() {
    let (alpha, n_certificates, margin) = (0.2, 400, 0.1);
    let backend = backends().remove(0);
    let smoothed = smoothed(&backend, smoothing(0.25, 100, alpha));
    let image = with_margin(margin);
    let exceeds = |seed: u64| {
        let certificate = smoothed.certify_with(seed, 0, &image).unwrap();
        certificate.radius.in_signed_range() > margin / WEIGHT_NORM
    };
    let n_wrong = (0..n_certificates).filter(|&seed| exceeds(seed)).count() as f64;
    let n = n_certificates as f64;
    let most = n * alpha + 5.0 * (n * alpha * (1.0 - alpha)).sqrt();
    assert!(n_wrong <= most, "{n_wrong} of {n} are wrong");
    assert!(
        n_wrong > 0.0,
        "a bound that is never reached gives something away"
    );
}

#[test]
fn a_seed_reproduces_a_certificate_whatever_batch_and_threads_and_fresh_ones_differ() {
    for backend in backends() {
        let certify = |batch, threads| {
            let energy = energy(&backend).steps(3).batch(batch).threads(threads);
            let smoothed = smoothed(&backend, smoothing(0.5, 600, 0.01));
            smoothed.behind(energy).unwrap()
        };
        let image = with_margin(0.1);
        let expected = certify(1, 1).certify_with(7, 2, &image).unwrap();
        for (batch, threads) in [(7, 1), (8, 2), (64, 3)] {
            let got = certify(batch, threads).certify_with(7, 2, &image).unwrap();
            assert_eq!(got, expected, "{backend}, batch {batch}, {threads} threads");
        }
        let votes = |certificate: &Certificate| certificate.estimation.clone();
        let others =
            [(8, 2), (7, 3)].map(|(seed, index)| certify(8, 2).certify_with(seed, index, &image));
        for other in others {
            assert_ne!(votes(&other.unwrap()), votes(&expected));
        }
        let fresh = [0, 1].map(|_| certify(8, 2).certify(&image).unwrap());
        assert_ne!(fresh[0].seed, fresh[1].seed);
        let again = certify(8, 2)
            .certify_with(fresh[0].seed, 0, &image)
            .unwrap();
        assert_eq!(again, fresh[0]);
        let prediction = certify(8, 2).predict(&with_margin(0.35)).unwrap();
        assert_eq!(prediction.class, Some(0));
        let again = certify(8, 2).predict_with(prediction.seed, 0, &with_margin(0.35));
        assert_eq!(again.unwrap(), prediction);
    }
}

/// At the boundary either class has probability ½.
#[test]
fn an_undecided_image_is_abstained_from_before_all_noise_is_drawn() {
    let backend = backends().remove(0);
    let smoothed = smoothed(&backend, smoothing(0.25, 10_000, 0.001));
    let image = with_margin(0.0);
    let certificate = smoothed.certify_with(1, 0, &image).unwrap();
    assert_eq!(
        (certificate.class, certificate.radius),
        (None, PixelDistance::ZERO)
    );
    let n = certificate.estimation.n();
    assert!((9_000..10_000).contains(&n), "{n}");
    let prediction = smoothed.predict_with(1, 0, &image).unwrap();
    assert_eq!(prediction.class, None);
    assert!(prediction.votes.n() < 10_000);
}

/// A chain that leaves the finite numbers gives no vote to any class.
#[test]
fn chains_that_fail_certify_nothing() {
    for backend in backends() {
        let wild = energy(&backend).steps(10).step_size(1e6).temperature(1e-6);
        let smoothed = smoothed(&backend, smoothing(0.25, 400, 0.01))
            .behind(wild)
            .unwrap();
        let certificate = smoothed.certify(&with_margin(0.35)).unwrap();
        assert_eq!(certificate.class, None);
        assert_eq!(certificate.selection.of_none, 20);
        assert_eq!(smoothed.predict(&with_margin(0.35)).unwrap().class, None);
    }
}

/// Without noise, one step of the denoiser is `x − ∇E(x)`: of a quadratic energy `x − a(x − m)`.
#[test]
fn a_denoiser_takes_one_step_down_the_gradient() {
    for backend in backends() {
        for sigma in [0.05, 0.25, 1.0] {
            let denoiser = energy(&backend).denoiser(PixelDistance::of_unit_range(sigma));
            let images = ramps(GREY, 3);
            let denoised = denoiser.build(0).unwrap().purify(&images).unwrap();
            for (x, got) in images.array().iter().zip(denoised.array()) {
                let expected = x - 1.5 * (x - 0.5);
                assert!(
                    (expected - got).abs() < 1e-5,
                    "{backend}: expected {expected}, got {got}"
                );
            }
        }
    }
}

#[test]
fn progress_is_told_and_a_cancelled_certificate_ends() {
    let backend = backends().remove(0);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let inside = Arc::clone(&seen);
    let cancel = Cancel::new();
    let stop = cancel.clone();
    let watched = smoothed(&backend, smoothing(0.25, 1000, 0.001)).on_progress(move |progress| {
        inside
            .lock()
            .unwrap()
            .push((progress.n_done, progress.n_total))
    });
    watched.certify(&with_margin(0.3)).unwrap();
    let seen = seen.lock().unwrap().clone();
    assert!(
        seen.is_sorted() && seen[0] == (20, 1020) && *seen.last().unwrap() == (1020, 1020),
        "{seen:?}"
    );
    let stopped = watched.cancel(&cancel).on_progress(move |_| stop.cancel());
    let error = stopped.certify(&with_margin(0.3)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let backend = backends().remove(0);
    let fine = smoothing(0.25, 100, 0.001);
    let new = |smoothing| -> Result<SmoothedClassifier> {
        let classifier = Classifier::builder(&model("digits/classifier.onnx"))
            .backend(backend.clone())
            .threads(1)
            .build()?;
        SmoothedClassifier::new(classifier, smoothing)
    };
    let with_sigma = |sigma| Smoothing {
        sigma: PixelDistance::of_unit_range(sigma),
        ..fine
    };
    for (name, smoothing) in [
        ("sigma", with_sigma(0.0)),
        ("sigma", with_sigma(-0.25)),
        ("sigma", with_sigma(f64::NAN)),
        ("sigma", with_sigma(f64::INFINITY)),
        ("sigma", with_sigma(8.0)),
        ("alpha", Smoothing { alpha: 0.0, ..fine }),
        ("alpha", Smoothing { alpha: 1.0, ..fine }),
        (
            "alpha",
            Smoothing {
                alpha: -0.1,
                ..fine
            },
        ),
        (
            "alpha",
            Smoothing {
                alpha: f64::NAN,
                ..fine
            },
        ),
        ("n0", Smoothing { n0: 0, ..fine }),
        ("n", Smoothing { n: 0, ..fine }),
        ("n", Smoothing { n: 19, ..fine }),
        (
            "n",
            Smoothing {
                n0: 1,
                n: 9,
                ..fine
            },
        ),
        ("n", Smoothing { n: 100_001, ..fine }),
    ] {
        let error = new(smoothing).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Argument);
        assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
    }
    assert!(
        new(Smoothing {
            n0: 1,
            n: 10,
            ..fine
        })
        .is_ok(),
        "0.001^(1/10) is above one half"
    );
    let smoothed = new(fine).unwrap();
    for (kind, image) in [
        (ErrorKind::Argument, constant(GREY, 0, 0.0)),
        (ErrorKind::Argument, constant(GREY, 2, 0.0)),
        (ErrorKind::NonFinite, constant(GREY, 1, f32::NAN)),
        (
            ErrorKind::Shape,
            constant(model("colour/step.onnx").contract().image, 1, 0.0),
        ),
    ] {
        assert_eq!(smoothed.certify(&image).unwrap_err().kind(), kind);
        assert_eq!(smoothed.predict(&image).unwrap_err().kind(), kind);
    }
    let colour = Purifier::builder(&model("colour/step.onnx")).backend(backend);
    assert_eq!(
        smoothed.behind(colour).unwrap_err().kind(),
        ErrorKind::Shape
    );
}
