//! What becomes of an image does not depend on the batch, the order and the threads that it is purified with.

use ebm_export::source::networks::{Activation, Network, Sngan};
use ebm_export::write::Export;
use ebm_runtime::{Backend, ImageShape, Images, Purifier, Request};

use crate::agreement::{backends, models};
use crate::networks::images;

/// ONNX Runtime may sum in another order for another batch; the others do not.
fn tolerance(backend: &Backend) -> f32 {
    if backend.name() == "ort" { 1e-5 } else { 0.0 }
}

fn purified(
    backend: &Backend,
    images: &Images,
    indices: Vec<u32>,
    batch: usize,
    threads: usize,
) -> Vec<Vec<f32>> {
    let network = Network::Sngan(Sngan::small(
        8,
        2,
        &[8, 8],
        &[true, false],
        Activation::Relu,
    ));
    let models = models(&network, &Export::default());
    let (_, step) = models
        .iter()
        .find(|(name, _)| *name == "step.onnx")
        .unwrap();
    let purifier = Purifier::builder(step)
        .steps(10)
        .step_size(0.05)
        .temperature(0.01)
        .batch(batch)
        .threads(threads)
        .backend(backend.clone())
        .build(3)
        .unwrap();
    let purified = purifier
        .run(&Request::new(images).indices(indices))
        .unwrap();
    (0..images.len())
        .map(|index| purified.replicas[0].image(index).to_vec())
        .collect()
}

#[test]
fn depends_on_the_image_alone() {
    let shape = ImageShape {
        channels: 2,
        height: 8,
        width: 8,
    };
    let network = Network::Sngan(Sngan::small(
        8,
        2,
        &[8, 8],
        &[true, false],
        Activation::Relu,
    ));
    let pixels = images(&network, 7, 4).data().to_vec();
    let forward = Images::from_vec(shape, pixels.clone()).unwrap();
    let backward =
        Images::from_vec(shape, pixels.chunks(128).rev().flatten().copied().collect()).unwrap();
    let indices: Vec<u32> = (0..7).collect();
    for backend in backends() {
        let wanted = purified(&backend, &forward, indices.clone(), 7, 1);
        for (case, images, reversed, batch, threads) in [
            ("batch 1", &forward, false, 1, 1),
            ("batch 3", &forward, false, 3, 1),
            ("two threads", &forward, false, 7, 2),
            ("three threads, batch 2", &forward, false, 2, 3),
            ("reversed", &backward, true, 3, 2),
        ] {
            let order = if reversed {
                indices.iter().rev().copied().collect()
            } else {
                indices.clone()
            };
            let mut got = purified(&backend, images, order, batch, threads);
            if reversed {
                got.reverse();
            }
            for (wanted, got) in wanted.iter().flatten().zip(got.iter().flatten()) {
                assert!(
                    (wanted - got).abs() <= tolerance(&backend),
                    "{}, {case}: {wanted} against {got}",
                    backend.name()
                );
            }
        }
    }
}
