//! Time of Langevin steps on the backends that can be used here, and of their noise.
//!
//! ```text
//! cargo bench -p ebm-runtime --features ort,tract                    every network, backend, batch and number of threads: about ten minutes
//! cargo bench -p ebm-runtime --features ort,tract -- sngan32-64/    one network
//! cargo bench -p ebm-runtime -- 'native/1 thread/batch 8'
//! ```
#![allow(clippy::unwrap_used)]

use std::cell::LazyCell;
use std::time::Duration;

use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use ebm_export::source::Energy;
use ebm_export::source::checkpoint::Header;
use ebm_export::source::networks::{Network, Sngan};
use ebm_export::transform::rewrite::Target;
use ebm_export::write::{Export, Form};
use ebm_runtime::noise::{fill_normal, fill_uniform};
use ebm_runtime::{Backend, Images, Model, Purifier};

/// Images that are purified together, and steps of a sample.
const BATCHES: [(usize, usize); 3] = [(1, 5), (8, 2), (64, 1)];
const THREADS: [usize; 2] = [1, 2];
const STEP_SIZE: f32 = 0.1;
const TEMPERATURE: f32 = 0.01;
/// Largest difference of the drifts of two backends, in parts of the largest drift of a pixel: ReLUs at which a value is zero but for rounding flip.
const AGREEMENT: f32 = 1e-2;

fn networks() -> [(&'static str, Network); 4] {
    [
        ("sngan32-32", Sngan::sngan32(32)),
        ("sngan32-64", Sngan::sngan32(64)),
        ("sngan32-256", Sngan::sngan32(256)),
        ("sngan64-64", Sngan::sngan64(64)),
    ]
    .map(|(name, network)| (name, Network::Sngan(network)))
}

/// The step of a network with random weights, in the form that is fast on a backend.
fn model(network: &Network, backend: &Backend) -> Model {
    let target = match backend.name() {
        "rten" | "tract" => Target::Tract,
        _ => Target::Cpu,
    };
    let export = Export {
        rewrites: target.rewrites(),
        ..Export::default()
    };
    let weights = network.initial_weights(0).unwrap();
    let energy = Energy::of_network(&Header::new(network.clone()), &weights).unwrap();
    let step = export.model(&energy, &Form::Steps(1)).unwrap();
    Model::from_bytes(step.to_bytes(), "step.onnx").unwrap()
}

fn purifier(model: &Model, backend: &Backend, threads: usize, n_steps: usize) -> Purifier {
    Purifier::builder(model)
        .backend(backend.clone())
        .threads(threads)
        .batch(64)
        .steps(n_steps)
        .step_size(f64::from(STEP_SIZE))
        .temperature(f64::from(TEMPERATURE))
        .build(0)
        .unwrap()
}

fn images(model: &Model, n_images: usize) -> Images {
    let shape = model.contract().image;
    let mut values = vec![0.0; n_images * shape.n_values()];
    fill_uniform(0, 0, 0, 0, &mut values);
    Images::from_vec(shape, values).unwrap()
}

/// What the energy alone moved the pixels of one image in one step.
fn drift(model: &Model, backend: &Backend) -> Vec<f32> {
    let images = images(model, 1);
    let after = purifier(model, backend, 1, 1).purify(&images).unwrap();
    let mut noise = vec![0.0; images.shape().n_values()];
    fill_normal(0, 0, 0, 0, &mut noise);
    let of_pixel = |((after, before), noise)| after - before - STEP_SIZE * noise;
    let pixels = after.image(0).iter().zip(images.image(0)).zip(&noise);
    pixels.map(of_pixel).collect()
}

fn largest(values: impl Iterator<Item = f32>) -> f32 {
    values.fold(0.0, |most, value| most.max(value.abs()))
}

/// Asserts that a backend computes what `native` does, before its times are looked at.
fn check(network: &Network, backend: &Backend) {
    let [wanted, got] = [&Backend::native(), backend].map(|at| drift(&model(network, at), at));
    let error = largest(wanted.iter().zip(&got).map(|(a, b)| a - b));
    let scale = largest(wanted.into_iter());
    assert!(
        error <= AGREEMENT * scale,
        "{backend}: off by {error} of {scale}"
    );
}

fn steps(criterion: &mut Criterion) {
    for (name, network) in networks() {
        for backend in [
            Backend::native(),
            Backend::rten(),
            Backend::tract(),
            Backend::ort(),
        ] {
            if let Err(error) = backend.check() {
                eprintln!("SKIPPED {name} on {backend}: {error}");
                continue;
            }
            let mut group = criterion.benchmark_group(format!("{name}/{backend}"));
            group
                .sampling_mode(SamplingMode::Flat)
                .sample_size(10)
                .warm_up_time(Duration::from_millis(500))
                .measurement_time(Duration::from_secs(3));
            // Made where the first case that is asked for needs it.
            let model = LazyCell::new(|| {
                check(&network, &backend);
                model(&network, &backend)
            });
            for threads in THREADS {
                for (batch, n_steps) in BATCHES {
                    group.throughput(Throughput::Elements((batch * n_steps) as u64));
                    let case = LazyCell::new(|| {
                        let purifier = purifier(&model, &backend, threads, n_steps);
                        (purifier, images(&model, batch))
                    });
                    let s = if threads == 1 { "" } else { "s" };
                    let id =
                        BenchmarkId::new(format!("{threads} thread{s}"), format!("batch {batch}"));
                    group.bench_function(id, |bencher| {
                        let (purifier, images) = &*case;
                        bencher.iter(|| purifier.purify(images).unwrap());
                    });
                }
            }
            group.finish();
        }
    }
}

fn noise(criterion: &mut Criterion) {
    let mut noise = vec![0.0; 3 * 32 * 32];
    let mut group = criterion.benchmark_group("noise");
    group.throughput(Throughput::Elements(noise.len() as u64));
    group.bench_function("3x32x32", |bencher| {
        bencher.iter(|| fill_normal(1, 2, 3, 4, &mut noise))
    });
    group.finish();
}

criterion_group!(benches, noise, steps);
criterion_main!(benches);
