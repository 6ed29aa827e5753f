//! Time of Langevin steps on the backends that can be used here, on a small convolutional energy of images [3, 8, 8].
#![allow(clippy::unwrap_used)]

use std::path::Path;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ebm_runtime::{Backend, Images, Model, Purifier, noise::fill_normal};

const N_STEPS: usize = 10;
/// Largest difference of a pixel between backends after [`N_STEPS`] steps.
const AGREEMENT: f32 = 1e-4;

fn steps(criterion: &mut Criterion) {
    let model =
        Model::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/colour/step.onnx"))
            .unwrap();
    let shape = model.contract().image;
    let mut group = criterion.benchmark_group("steps");
    for n_images in [1, 8, 64] {
        let images = Images::from_vec(shape, vec![0.25; n_images * shape.n_values()]).unwrap();
        let mut reference: Option<Images> = None;
        group.throughput(Throughput::Elements((n_images * N_STEPS) as u64));
        for backend in [Backend::tract(), Backend::ort()] {
            if let Err(error) = backend.check() {
                eprintln!("SKIPPED on {backend}: {error}");
                continue;
            }
            let purifier = Purifier::builder(&model)
                .steps(N_STEPS)
                .threads(1)
                .backend(backend)
                .build()
                .unwrap();
            let purified = purifier.purify(&images).unwrap();
            let difference = |other: &Images| {
                (other.array() - purified.array())
                    .iter()
                    .fold(0.0, |m: f32, d| m.max(d.abs()))
            };
            assert!(
                reference
                    .as_ref()
                    .is_none_or(|reference| difference(reference) < AGREEMENT)
            );
            reference.get_or_insert(purified);
            group.bench_with_input(
                BenchmarkId::new(purifier.backend().name(), n_images),
                &images,
                |bencher, images| {
                    bencher.iter(|| purifier.purify(images).unwrap());
                },
            );
        }
    }
    group.finish();
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

criterion_group!(benches, steps, noise);
criterion_main!(benches);
