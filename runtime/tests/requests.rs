//! What a request can ask for: traces, snapshots, deadlines, cancelling; and models that are shared or take several steps in a run.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use ebm_runtime::{
    Backend, Cancel, ErrorKind, ImageShape, Images, Prepared, Purifier, PurifierBuilder, Request,
};

use common::{GREY, backends, model, ramps};

fn builder(backend: &Backend, model_name: &str) -> PurifierBuilder {
    Purifier::builder(&model(&format!("{model_name}/step.onnx")))
        .backend(backend.clone())
        .steps(12)
        .batch(2)
}

fn run(purifier: PurifierBuilder, request: Request<'_>) -> ebm_runtime::Purified {
    purifier.build(3).unwrap().run(&request).unwrap()
}

#[test]
fn steps_in_one_run_make_the_bits_of_single_steps() {
    let images = ramps(GREY, 5);
    for backend in backends() {
        for threads in [1, 2] {
            let purify = |name| {
                let request = Request::new(&images)
                    .n_replicas(2)
                    .trace()
                    .snapshots([0, 4, 8]);
                run(builder(&backend, name).threads(threads), request)
            };
            let (single, unrolled) = (purify("digits"), purify("digits-unrolled"));
            assert_eq!(
                single.replicas, unrolled.replicas,
                "{backend}, {threads} threads"
            );
            assert_eq!(
                single.reports, unrolled.reports,
                "{backend}, {threads} threads"
            );
            for (one, other) in single.snapshots.iter().zip(&unrolled.snapshots) {
                assert_eq!(
                    (one.n_steps, &one.replicas),
                    (other.n_steps, &other.replicas)
                );
            }
        }
    }
}

#[test]
fn a_model_of_several_steps_takes_multiples_of_them_and_no_clip() {
    let backend = backends().remove(0);
    let images = ramps(GREY, 1);
    for (name, builder) in [
        ("steps", builder(&backend, "digits-unrolled").steps(6)),
        ("clip", builder(&backend, "digits-unrolled").clip(1.0)),
    ] {
        let error = builder.build(3).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Argument);
        assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
    }
    let purifier = builder(&backend, "digits-unrolled").build(3).unwrap();
    let error = purifier
        .run(&Request::new(&images).snapshots([3]))
        .unwrap_err();
    assert!(
        error.to_string().contains("multiples of the 4 steps"),
        "{error}"
    );
}

#[test]
fn a_trace_has_the_energy_of_every_state() {
    let images = ramps(GREY, 3);
    for backend in backends() {
        let purified = run(
            builder(&backend, "digits"),
            Request::new(&images).trace().snapshots(0..12),
        );
        for report in &purified.reports {
            assert_eq!(report.path.len(), 13);
            assert_eq!(report.path.first().copied(), report.start);
            assert_eq!(report.path.last().copied(), report.end);
            for (snapshot, at) in purified.snapshots.iter().zip(&report.path) {
                // E = a/2·‖x − m‖² and ‖∇E‖ = a·‖x − m‖ with a = 1.5, m = 0.5.
                let x = snapshot.replicas[0].image(report.image);
                let squared: f64 = x.iter().map(|&x| (f64::from(x) - 0.5).powi(2)).sum();
                assert!(
                    (f64::from(at.energy) - 0.75 * squared).abs() < 1e-3,
                    "{backend}"
                );
                assert!(
                    (f64::from(at.gradient_norm) - 1.5 * squared.sqrt()).abs() < 1e-3,
                    "{backend}"
                );
            }
        }
    }
}

#[test]
fn snapshots_are_the_ends_of_shorter_runs() {
    let images = ramps(GREY, 5);
    for backend in backends() {
        let long = run(
            builder(&backend, "digits"),
            Request::new(&images).snapshots([7, 0, 12, 99]),
        );
        let taken: Vec<u32> = long
            .snapshots
            .iter()
            .map(|snapshot| snapshot.n_steps)
            .collect();
        assert_eq!(taken, [0, 7, 12], "{backend}");
        assert_eq!(long.snapshots[0].replicas[0], images);
        assert_eq!(long.snapshots[2].replicas, long.replicas);
        let short = run(builder(&backend, "digits").steps(7), Request::new(&images));
        assert_eq!(long.snapshots[1].replicas, short.replicas, "{backend}");
    }
}

#[test]
fn a_run_in_parts_has_the_bits_of_one_run() {
    let images = ramps(GREY, 3);
    for backend in backends() {
        for name in ["digits", "digits-unrolled"] {
            let whole = run(builder(&backend, name).steps(12), Request::new(&images));
            let half = run(builder(&backend, name).steps(4), Request::new(&images));
            let rest = Request::new(&half.replicas[0]).first_step(4);
            let rest = run(builder(&backend, name).steps(8), rest);
            assert_eq!(rest.replicas, whole.replicas, "{backend}, {name}");
        }
    }
}

#[test]
fn steps_are_counted_from_the_start_of_the_chain() {
    let backend = backends().remove(0);
    let images = ramps(GREY, 1);
    // ε²/(2T)·a ≫ 2 makes the chain grow without bound.
    let wild = builder(&backend, "digits").step_size(1e6).temperature(1e-6);
    let failed = run(wild, Request::new(&images).first_step(100));
    assert_eq!(failed.reports[0].failed_step, Some(102));
    let purifier = builder(&backend, "digits").steps(2).build(3).unwrap();
    let last = Request::new(&images).first_step(u32::MAX - 2);
    assert!(purifier.run(&last).is_ok());
    let error = purifier.run(&last.first_step(u32::MAX - 1)).unwrap_err();
    assert!(error.to_string().contains("`first_step`"), "{error}");
}

#[test]
fn saturation_is_the_share_of_values_at_or_beyond_the_ends() {
    let images = ramps(GREY, 3);
    for backend in backends() {
        let purified = run(
            builder(&backend, "digits").step_size(0.5),
            Request::new(&images),
        );
        for report in &purified.reports {
            let values = purified.replicas[0].image(report.image);
            let beyond = values.iter().filter(|x| x.abs() >= 1.0).count();
            assert!(beyond > 0);
            assert_eq!(report.saturation, beyond as f32 / 64.0);
        }
    }
}

/// A white image whose chain fails at once comes back as it was: all its values are at the end of the range.
#[test]
fn values_at_the_end_of_the_range_are_saturated() {
    let white = Images::from_bytes(GREY, &[255; 64]).unwrap();
    for backend in backends() {
        let nothing = builder(&backend, "digits").energy_range(-1e30..=-1e29);
        let purified = run(nothing, Request::new(&white));
        assert_eq!(purified.replicas[0], white);
        assert_eq!(purified.reports[0].saturation, 1.0, "{backend}");
    }
}

#[test]
fn a_deadline_returns_what_was_reached_with_all_images_equally_far() {
    let images = ramps(GREY, 7);
    for backend in backends() {
        for threads in [1, 2] {
            let purifier = builder(&backend, "digits")
                .steps(4_000_000)
                .threads(threads)
                .build(3)
                .unwrap();
            let began = Instant::now();
            let request = Request::new(&images).within(Duration::from_millis(60));
            let purified = purifier.run(&request).unwrap();
            assert!(began.elapsed() < Duration::from_secs(20));
            let n_steps: Vec<u32> = purified
                .reports
                .iter()
                .map(|report| report.n_steps)
                .collect();
            let (least, most) = (n_steps.iter().min().unwrap(), n_steps.iter().max().unwrap());
            assert!(*most > 0 && *most < 4_000_000, "{backend}: {n_steps:?}");
            if threads == 1 || backend == Backend::ort() {
                assert!(most - least <= 1, "{backend}: {n_steps:?}");
            }
            // What was reached is what that number of steps gives.
            let image = Images::from_vec(GREY, images.image(2).to_vec()).unwrap();
            let steps = n_steps[2].max(1) as usize;
            let short = builder(&backend, "digits").steps(steps).build(3).unwrap();
            let expected = short.run(&Request::new(&image).first_index(2)).unwrap();
            if n_steps[2] > 0 {
                assert_eq!(purified.replicas[0].image(2), expected.replicas[0].image(0));
            }
        }
    }
}

#[test]
fn no_time_returns_the_images_as_they_are() {
    let images = ramps(GREY, 2);
    for backend in backends() {
        let purified = run(
            builder(&backend, "digits"),
            Request::new(&images).within(Duration::ZERO),
        );
        assert_eq!(purified.replicas[0], images);
        let report = &purified.reports[0];
        assert_eq!(
            (report.n_steps, report.start, report.failed_step),
            (0, None, None)
        );
    }
}

#[test]
fn a_cancelled_run_ends_and_the_next_one_is_right() {
    let images = ramps(GREY, 4);
    for backend in backends() {
        let purifier = builder(&backend, "digits")
            .steps(3_000_000)
            .threads(2)
            .build(3)
            .unwrap();
        let short = Purifier::builder(purifier.model())
            .steps(12)
            .build(3)
            .unwrap();
        let expected = short.purify(&images).unwrap();
        for delay in [0, 1, 5, 20] {
            let cancel = Cancel::new();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(delay));
                    cancel.cancel();
                });
                let error = purifier
                    .run(&Request::new(&images).cancel(&cancel))
                    .unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Cancelled, "{backend}");
            });
            assert_eq!(short.purify(&images).unwrap(), expected, "{backend}");
        }
    }
}

#[test]
fn purifiers_share_one_prepared_model() {
    let images = ramps(GREY, 3);
    for backend in backends() {
        let prepared = Prepared::builder(&model("digits/step.onnx"))
            .backend(backend.clone())
            .threads(2)
            .build()
            .unwrap();
        let seeds: Vec<u64> = vec![1, 2, 3];
        let own = |seed: u64| builder(&backend, "digits").build(seed).unwrap();
        let shared: Vec<Purifier> = seeds
            .iter()
            .map(|&seed| Purifier::builder(&prepared).steps(12).build(seed).unwrap())
            .collect();
        std::thread::scope(|scope| {
            for (purifier, &seed) in shared.iter().zip(&seeds) {
                let (images, own) = (&images, &own);
                scope.spawn(move || {
                    let expected = own(seed).purify(images).unwrap();
                    assert_eq!(purifier.purify(images).unwrap(), expected);
                });
            }
        });
        for (name, builder) in [
            ("threads", Purifier::builder(&prepared).threads(2)),
            (
                "backend",
                Purifier::builder(&prepared).backend(Backend::native()),
            ),
        ] {
            let error = builder.build(3).unwrap_err().to_string();
            assert!(
                error.contains(&format!("`{name}`")) && error.contains("prepared"),
                "{error}"
            );
        }
    }
}

#[test]
fn a_chain_whose_energy_leaves_its_range_is_stopped_and_named() {
    // Image 1 is far from the minimum, so that its energy is above the limit at once.
    let mut values = vec![0.5; 2 * 64];
    values[64..].fill(-1.0);
    let images = Images::from_vec(GREY, values).unwrap();
    for backend in backends() {
        let builder = builder(&backend, "digits").energy_range(f32::NEG_INFINITY..=80.0);
        let purified = run(builder, Request::new(&images).measure_end());
        let failed: Vec<_> = purified
            .reports
            .iter()
            .map(|report| report.failed_step)
            .collect();
        assert_eq!(failed, [None, Some(0)], "{backend}");
        assert_eq!(purified.replicas[0].image(1), images.image(1));
        assert_ne!(purified.replicas[0].image(0), images.image(0));
        assert_eq!(purified.reports[1].end, purified.reports[1].start);
    }
    let backend = backends().remove(0);
    let error = builder(&backend, "digits")
        .energy_range(1.0..=0.0)
        .build(3)
        .unwrap_err();
    assert!(error.to_string().contains("`energy_range`"), "{error}");
}

/// Padding rows have no chains; a fixed batch of 2 with 5 images has one, on the way through all of the above.
#[test]
fn a_fixed_batch_has_the_same_traces_and_snapshots() {
    let shape = ImageShape {
        channels: 2,
        height: 4,
        width: 4,
    };
    let values = (0..5 * 32).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0);
    let images = Images::from_vec(shape, values.collect()).unwrap();
    for backend in backends() {
        let purify = |name| {
            let builder = Purifier::builder(&model(&format!("{name}/step.onnx")))
                .backend(backend.clone())
                .threads(2);
            run(builder, Request::new(&images).trace().snapshots([3]))
        };
        let (free, fixed) = (purify("quadratic"), purify("quadratic-batch2"));
        assert_eq!(free.reports, fixed.reports, "{backend}");
        assert_eq!(
            free.snapshots[0].replicas, fixed.snapshots[0].replicas,
            "{backend}"
        );
    }
}

#[test]
fn a_trajectory_gives_every_state_of_a_run() {
    let images = ramps(GREY, 3);
    for backend in backends() {
        for (name, steps_per_run) in [("digits", 1), ("digits-unrolled", 4)] {
            let purifier = builder(&backend, name).build(3).unwrap();
            let request = Request::new(&images).trace().snapshots(0..=12);
            let request = match steps_per_run {
                1 => request,
                _ => Request::new(&images).trace().snapshots([4, 8, 12]),
            };
            let wanted = purifier.run(&request).unwrap();
            let states: Vec<_> = purifier.trajectory(&images).unwrap().collect();
            assert_eq!(states.len(), 12 / steps_per_run);
            for state in states {
                let state = state.unwrap();
                let snapshots = wanted.snapshots.iter();
                let snapshot = snapshots.rev().find(|s| s.n_steps == state.n_steps);
                assert_eq!(
                    state.images,
                    snapshot.unwrap().replicas[0],
                    "{backend}, {name}"
                );
                let before = state.n_steps as usize - 1;
                let paths = wanted.reports.iter().map(|report| report.path[before]);
                assert_eq!(state.before, paths.collect::<Vec<_>>());
                assert_eq!(state.failed_steps, [None; 3]);
            }
        }
    }
}

#[test]
fn a_trajectory_that_is_left_leaves_the_model_ready_for_the_next() {
    let images = ramps(GREY, 2);
    for backend in backends() {
        let purifier = builder(&backend, "digits").threads(2).build(3).unwrap();
        let wanted = purifier.purify(&images).unwrap();
        let mut left = purifier.trajectory(&images).unwrap();
        assert_eq!(left.next().unwrap().unwrap().n_steps, 1);
        drop(left);
        let last = purifier.trajectory(&images).unwrap().last();
        assert_eq!(last.unwrap().unwrap().images, wanted, "{backend}");
    }
}

#[test]
fn a_trajectory_tells_of_chains_that_fail_and_refuses_what_does_not_fit() {
    for backend in backends() {
        let images = ramps(GREY, 2);
        let purifier = builder(&backend, "digits").energy_range(1e6..=2e6);
        let purifier = purifier.build(3).unwrap();
        for state in purifier.trajectory(&images).unwrap() {
            let state = state.unwrap();
            assert_eq!(state.failed_steps, [Some(0); 2]);
            assert_eq!(state.images, images);
        }
        let none = Images::from_vec(GREY, vec![]).unwrap();
        let error = purifier.trajectory(&none).unwrap_err().to_string();
        assert!(error.contains("from 1 image, got 0"), "{error}");
        let model = model("quadratic-batch2/step.onnx");
        let purifier = Purifier::builder(&model).backend(backend.clone());
        let purifier = purifier
            .steps(2)
            .step_size(0.1)
            .temperature(1.0)
            .build(3)
            .unwrap();
        let shape = model.contract().image;
        let states = |n| -> ebm_runtime::Result<()> {
            let images = ramps(shape, n);
            let last = purifier.trajectory(&images)?.last().unwrap()?;
            assert_eq!(last.images, purifier.purify(&images)?);
            Ok(())
        };
        states(1).unwrap();
        states(2).unwrap();
        let error = states(3).unwrap_err().to_string();
        assert!(error.contains("from 1 to 2 images"), "{error}");
    }
}

/// As few images as fit go through the model at once, with the same bits; what does not fit with one image is refused.
#[cfg(feature = "native")]
#[test]
fn memory_bounds_the_images_at_once() {
    let model = model("digits/step.onnx");
    let images = ramps(GREY, 5);
    let purify = |backend: Backend| {
        let builder = Purifier::builder(&model).backend(backend).threads(2);
        builder.steps(4).build(3)?.purify(&images)
    };
    let needed = |backend: Backend| {
        let prepared = Prepared::builder(&model).backend(backend).build()?;
        let footprint = prepared.footprint().unwrap();
        Ok::<_, ebm_runtime::Error>((footprint.weight_bytes + footprint.image_bytes, footprint))
    };
    let (usual, footprint) = needed(Backend::native()).unwrap();
    let whole = purify(Backend::native()).unwrap();
    for allowed in [usual, usual + 2 * footprint.image_bytes, usize::MAX] {
        let bounded = purify(Backend::native().with_memory(allowed));
        assert_eq!(bounded.unwrap(), whole, "{allowed}");
    }
    // Smaller tiles, until there are none.
    let mut least = usual;
    while let Ok((smaller, _)) = needed(Backend::native().with_memory(least - 1)) {
        assert!(smaller < least);
        least = smaller;
    }
    for (backend, allowed, part) in [
        (
            Backend::native(),
            least - 1,
            "for its weights and one image",
        ),
        (
            Backend::native(),
            100,
            "for its weights alone, got 0.0 MiB; allow more",
        ),
        (Backend::rten(), usize::MAX, "expected the backend `native`"),
    ] {
        if backend.check().is_ok() {
            let error = purify(backend.with_memory(allowed)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Argument);
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
