//! Files that work in low types: on each engine that runs them they are as far from f32 as was measured without an engine.
//!
//! Neither tract nor ONNX Runtime's CPU part takes bfloat16, so bf16 is held by the interpreter alone.

use ebm_export::graph::reference::to_tensor;
use ebm_export::source::Energy;
use ebm_export::source::checkpoint::Header;
use ebm_export::source::networks::{Activation, Network, Sngan};
use ebm_export::transform::precision::{Precision, random_images};
use ebm_export::transform::rewrite::Rewrite;
use ebm_export::write::Export;
use ebm_export::write::onnx::Opset;

use crate::agreement::{backends, energy_and_gradient, models, session};
use crate::networks::{energies, weights, worst_difference};

const N_IMAGES: usize = 3;
/// Bound on the relative error of gradients of a smooth network in f16; ReLUs have none, since their masks flip.
const F16_TOLERANCE: f64 = 5e-3;

#[test]
fn gradients_in_low_types_are_near_those_in_f32() {
    let network = Network::Sngan(Sngan::small(
        16,
        3,
        &[16, 16],
        &[true, false],
        Activation::Silu,
    ));
    let images = random_images(N_IMAGES, &[3, 16, 16], 5);
    for precision in [Precision::F16, Precision::Mixed] {
        let single = Export {
            rewrites: Rewrite::COMMON.to_vec(),
            ..Export::default()
        };
        let low = Export {
            precision,
            ..single.clone()
        };
        let header = Header::new(network.clone());
        let energy = Energy::of_network(&header, &weights(&network, 1)).unwrap();
        let measured = low.comparison(&energy).unwrap();
        let measured = measured.relative_errors(&images).unwrap();
        // Nothing is exact in f16, so that an error of zero means that nothing was lowered.
        assert!(
            measured
                .iter()
                .all(|error| (1e-6..F16_TOLERANCE).contains(error)),
            "{precision}: {measured:?}"
        );
        let (exact, low) = (models(&network, &single), models(&network, &low));
        // The engine works in f32 alone, and says so as the test below wants it.
        for backend in backends()
            .into_iter()
            .filter(|backend| backend.name() != "native")
        {
            let [(_, wanted), (_, got)] = [&exact, &low].map(|models| {
                let mut session = session(&backend, models, "gradient.onnx");
                energy_and_gradient(session.as_mut(), &to_tensor(&images))
            });
            let error = worst_difference(&wanted, &got, N_IMAGES);
            assert!(
                (1e-6..F16_TOLERANCE).contains(&error),
                "{precision} on {}: {error}",
                backend.name()
            );
        }
    }
}

/// Should an engine learn bfloat16, this test fails, and the one above takes it up.
#[test]
fn cpu_engines_refuse_bfloat16_with_a_reason() {
    let (_, network) = energies().pop().unwrap();
    let export = Export {
        precision: Precision::Bf16,
        opset: Opset::new(22).unwrap(),
        ..Export::default()
    };
    let models = models(&network, &export);
    for backend in backends() {
        for (name, model) in &models {
            let reason = match backend.prepare(model, 1) {
                Ok(_) => panic!("{}: {name} in bf16 opens", backend.name()),
                Err(error) => format!("{error:#}"),
            };
            assert!(
                reason.contains("it works in bf16") && reason.contains("`--precision f32`"),
                "{}, {name}: {reason}",
                backend.name()
            );
        }
    }
}
