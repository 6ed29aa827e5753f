//! Classifiers of others, as `ebm-export classifier` writes them, give on every backend what they gave before.

use std::fs;
use std::io::Write;
use std::path::Path;

use ebm_export::graph::reference::{bindings, evaluate};
use ebm_export::source::Energy;
use ebm_export::source::checkpoint::Header;
use ebm_export::source::networks::{Activation, ConvClassifier, Network};
use ebm_export::source::onnx::{Selection, read};
use ebm_export::transform::pixels::{Pixels, classifier};
use ebm_export::write::{Export, Form};
use ebm_runtime::noise::fill_uniform;
use ebm_runtime::{Classifier, Images, Model};

use crate::agreement::backends;
use crate::networks::{differences, weights};

const TOLERANCE: f64 = 1e-4;
const N_IMAGES: usize = 2;

/// Asserts that the written classifier gives, for images in `[-1, 1]`, what the model gives in f64 for their pixels as it takes them: `[channel, value]` to value.
fn check(model: &[u8], pixels: &Pixels, taken: impl Fn(usize, f64) -> f64) {
    let model = read(model, &Selection::default()).unwrap();
    let defended = classifier(&model, pixels).unwrap();
    let file = Export::default().model(&defended, &Form::Forward).unwrap();
    let written = Model::from_bytes(file.to_bytes(), "classifier.onnx").unwrap();

    let shape = written.contract().image;
    let mut values = vec![0.0; N_IMAGES * shape.n_values()];
    fill_uniform(5, 0, 0, 0, &mut values);
    let images = Images::from_vec(shape, values).unwrap();
    let mut of_model = images.array().mapv(f64::from).into_dyn();
    for (place, value) in of_model.indexed_iter_mut() {
        *value = taken(place[1], *value);
    }

    let mut values = bindings(&model.weights);
    values.insert(model.input.clone(), of_model);
    let wanted = evaluate(&model.graph, &values).unwrap();
    let wanted: Vec<f64> = wanted[&model.output].iter().copied().collect();
    for backend in backends() {
        let classifier = Classifier::builder(&written)
            .backend(backend.clone())
            .threads(1)
            .build()
            .unwrap();
        let got = classifier.logits(&images).unwrap();
        let got: Vec<f64> = got.iter().copied().map(f64::from).collect();
        let errors = differences(&wanted, &got, N_IMAGES);
        assert!(
            errors.iter().all(|error| *error <= TOLERANCE),
            "{}: {errors:?}",
            backend.name()
        );
    }
}

#[test]
fn pixels_are_turned_into_those_that_a_model_was_trained_on() {
    let network = Network::ConvClassifier(ConvClassifier {
        image_size: 8,
        channels: 3,
        widths: vec![6],
        pools: vec![true],
        n_classes: 4,
        activation: Activation::Relu,
    });
    let header = Header::new(network.clone());
    let energy = Energy::of_network(&header, &weights(&network, 1)).unwrap();
    let model = Export::default().model(&energy, &Form::Forward).unwrap();
    let model = model.to_bytes();
    check(&model, &Pixels::default(), |_, value| value);
    let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    let pixels = Pixels {
        range: [0.0, 1.0],
        mean: mean.to_vec(),
        std: std.to_vec(),
    };
    check(&model, &pixels, |channel, value| {
        ((value + 1.0) / 2.0 - mean[channel]) / std[channel]
    });
}

/// The public networks lie beside the repository, if at all.
#[test]
fn a_public_network_classifies_as_before() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/models");
    let path = folder.join("cifar10_resnet20.onnx");
    match fs::read(&path) {
        Ok(model) => check(&model, &Pixels::default(), |_, value| value),
        // Written past the capture of a test that passes, so that it is seen.
        Err(error) => {
            let skipped = format!("SKIPPED: {}: {error}\n", path.display());
            std::io::stderr().write_all(skipped.as_bytes()).unwrap();
        }
    }
}
