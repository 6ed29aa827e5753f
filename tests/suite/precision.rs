//! Files that work in low types: where they run they have the error that was measured without any engine.

use std::collections::BTreeMap;

use ebm_export::arch::{Activation, Network, Sngan};
use ebm_export::checkpoint::Header;
use ebm_export::exported::{Settings, comparison};
use ebm_export::onnx::Opset;
use ebm_export::precision::{Precision, random_images};
use ebm_export::reference::to_tensor;

use crate::agreement::{backends, energy_and_gradient, models, session};
use crate::networks::{differences, weights};

#[test]
fn probe() {
    for precision in [Precision::F16, Precision::Mixed, Precision::Bf16] {
        for activation in [Activation::Relu, Activation::Silu] {
            let network =
                Network::Sngan(Sngan::small(16, 3, &[16, 16], &[true, false], activation));
            let settings = Settings {
                precision,
                opset: if precision == Precision::Bf16 {
                    Opset::OLDEST_WITH_BF16
                } else {
                    Opset::DEFAULT
                },
                ..Settings::default()
            };
            let header = Header::new(network.clone());
            let comparison = comparison(&header, &weights(&network, 1), &settings).unwrap();
            let images = random_images(3, &[3, 16, 16], 5);
            let errors = comparison
                .relative_errors(&images, &BTreeMap::new())
                .unwrap();
            println!("{precision} {activation:?} measured {errors:?}");
            let exact = models(&network, &Settings::default());
            let low = models(&network, &settings);
            for backend in backends() {
                let mut one = session(&backend, &exact, "gradient.onnx");
                let (_, wanted) = energy_and_gradient(one.as_mut(), &to_tensor(&images));
                let (_, model) = low.iter().find(|(n, _)| *n == "gradient.onnx").unwrap();
                match backend.prepare(model, 1) {
                    Err(error) => println!("{}: {error:?}", backend.name()),
                    Ok(mut session) => {
                        let (_, got) = energy_and_gradient(session.as_mut(), &to_tensor(&images));
                        println!("{}: {:?}", backend.name(), differences(&wanted, &got, 3));
                    }
                }
            }
        }
    }
}
