//! A quadratic energy through graph, ONNX, backend and purifier has the mean and variance that a formula gives.

use ebm_export::graph::Batch;
use ebm_export::graph::op::{Binary, KeepDims, Reduce, ReduceKind};
use ebm_export::graph::{Graph, Shape};
use ebm_export::source::Kind;
use ebm_export::transform::gradient::gradient;
use ebm_export::transform::langevin::step_graph;
use ebm_export::write::onnx::{Opset, model_bytes};
use ebm_runtime::{ImageShape, Images, Model, Purifier};

use crate::agreement::backends;
use crate::contracts::contract;

const STIFFNESS: f32 = 3.0;
const CENTRE: f32 = 0.25;

/// The step of `E(x) = a/2 Σ (x − m)²` as an ONNX file.
fn quadratic_step(shape: ImageShape) -> Model {
    let mut graph = Graph::new();
    let x = graph
        .input(
            "x",
            Shape::batched(&[shape.channels, shape.height, shape.width]),
        )
        .unwrap();
    let [centre, half] = [CENTRE, STIFFNESS / 2.0].map(|value| graph.scalar("constant", value));
    let distance = graph.apply("distance", Binary::Sub, &[x, centre]).unwrap();
    let square = graph
        .apply("square", Binary::Mul, &[distance, distance])
        .unwrap();
    let scaled = graph.apply("scaled", Binary::Mul, &[square, half]).unwrap();
    let sum = Reduce {
        kind: ReduceKind::Sum,
        axes: vec![1, 2, 3],
        keep_dims: KeepDims::No,
    };
    let energy = graph.apply("sum", sum, &[scaled]).unwrap();
    graph.set_output("energy", energy);
    let step = step_graph(&gradient(&graph, "energy", "x").unwrap()).unwrap();
    let image = [shape.channels, shape.height, shape.width];
    let contract = contract(Kind::Step, image, Opset::DEFAULT);
    Model::from_bytes(
        model_bytes(&step, &contract, Opset::DEFAULT, Batch::Symbolic).unwrap(),
        "quadratic",
    )
    .unwrap()
}

/// With `∇E = a (x − m)` and `q = 1 − a ε²/(2T)` a step is `x − m ← q (x − m) + ε z`, so that after K steps from x₀ the mean is
/// `m + q^K (x₀ − m)` and the variance `ε² (1 − q^(2K)) / (1 − q²)`.
#[test]
fn a_quadratic_energy_has_its_mean_and_variance() {
    let shape = ImageShape {
        channels: 1,
        height: 8,
        width: 8,
    };
    let (n_images, n_steps, step_size, temperature, start) = (2000, 15, 0.2, 0.5, -0.9f32);
    let images = Images::from_vec(shape, vec![start; n_images * shape.n_values()]).unwrap();
    let q: f64 = 1.0 - f64::from(STIFFNESS) * step_size * step_size / (2.0 * temperature);
    let centre = f64::from(CENTRE);
    let wanted_mean = centre + q.powi(n_steps) * (f64::from(start) - centre);
    let wanted_variance = step_size * step_size * (1.0 - q.powi(2 * n_steps)) / (1.0 - q * q);
    for backend in backends() {
        let purifier = Purifier::builder(&quadratic_step(shape))
            .steps(n_steps as usize)
            .step_size(step_size)
            .temperature(temperature)
            .backend(backend.clone())
            .build(11)
            .unwrap();
        let ends = purifier.purify(&images).unwrap();
        let n = ends.array().len() as f64;
        let mean = ends
            .array()
            .iter()
            .map(|&value| f64::from(value))
            .sum::<f64>()
            / n;
        let variance = ends
            .array()
            .iter()
            .map(|&value| (f64::from(value) - mean).powi(2))
            .sum::<f64>()
            / (n - 1.0);
        // Five standard errors of mean and variance over n independent pixels.
        let (mean_bound, variance_bound) = (
            5.0 * (wanted_variance / n).sqrt(),
            5.0 * wanted_variance * (2.0 / n).sqrt(),
        );
        assert!(
            (mean - wanted_mean).abs() < mean_bound,
            "{}: mean {mean}, expected {wanted_mean}",
            backend.name()
        );
        assert!(
            (variance - wanted_variance).abs() < variance_bound,
            "{}: variance {variance}, expected {wanted_variance}",
            backend.name()
        );
    }
}
