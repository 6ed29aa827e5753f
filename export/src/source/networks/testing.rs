//! What the tests of all networks share.

use std::collections::BTreeMap;

use ndarray::ArrayD;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::Result;
use crate::graph::op::testing::DERIVATIVE_TOLERANCE;
use crate::graph::op::{Binary, KeepDims, Reduce, ReduceKind};
use crate::graph::reference::evaluate;
use crate::graph::{Graph, Shape};
use crate::transform::gradient::gradient;

const BATCH: usize = 2;

/// Values of all inputs and weights: uniform in `[-1, 1]` divided by the square root of how many are summed, so that layers keep their
/// magnitude; variances are positive, and nothing is zero or one by chance.
pub fn random_values(graph: &Graph, seed: u64) -> BTreeMap<String, ArrayD<f64>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = |value| {
        let name = graph.node(value).name.clone();
        let shape = graph.shape(value).concrete(BATCH);
        let summed = match shape.as_slice() {
            [_, inputs, rows, columns] if !graph.shape(value).0[0].is_batch() => {
                inputs * rows * columns
            }
            [inputs, _] if !graph.shape(value).0[0].is_batch() => *inputs,
            _ => 1,
        };
        let bound = (3.0 / summed as f64).sqrt().min(1.0);
        let lowest = if name.ends_with(".variance") {
            bound / 2.0
        } else {
            -bound
        };
        let array = ArrayD::from_shape_fn(shape, |_| rng.random_range(lowest..bound));
        (name, array)
    };
    graph
        .inputs()
        .chain(graph.weights())
        .map(&mut draw)
        .collect()
}

/// Checks `∂/∂input Σ output²` along a random direction against central differences in f64.
pub fn check_slope(graph: &Graph, output: &str, input: &str) {
    let graph = sum_of_squares(graph, output);
    let mut values = random_values(&graph, 3);
    let derived = gradient(&graph, "energy", input).unwrap();
    let x = values[input].clone();
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let direction = x.mapv(|_| rng.random_range(-1.0..1.0));
    let slope = (&evaluate(&derived, &values).unwrap()["gradient"] * &direction).sum();
    let step = 1e-6;
    let mut at = |shift: f64| {
        values.insert(input.to_string(), &x + &(&direction * shift));
        evaluate(&graph, &values).unwrap()["energy"].sum()
    };
    let difference = (at(step) - at(-step)) / (2.0 * step);
    assert!(
        difference.abs() > 1e-6,
        "a slope of {difference} says nothing"
    );
    let error = (slope - difference).abs() / difference.abs();
    assert!(
        error <= DERIVATIVE_TOLERANCE,
        "{slope} against {difference}"
    );
}

/// The graph with one output, `energy [N]`: the sum of the squares of another output.
fn sum_of_squares(graph: &Graph, output: &str) -> Graph {
    let mut graph = graph.clone();
    let value = graph.output(output).unwrap();
    let square = graph.apply("square", Binary::Mul, &[value, value]).unwrap();
    let axes: Vec<usize> = (1..graph.shape(value).rank()).collect();
    let sum = Reduce {
        kind: ReduceKind::Sum,
        axes: axes.clone(),
        keep_dims: KeepDims::No,
    };
    let energy = match axes.is_empty() {
        true => square,
        false => graph.apply("sum", sum, &[square]).unwrap(),
    };
    assert_eq!(graph.shape(energy), &Shape::batched(&[]));
    graph.remove_output(output);
    graph.set_output("energy", energy);
    graph
}

/// The elements of all weights.
pub fn n_parameters(graph: &Graph) -> usize {
    graph
        .weights()
        .map(|weight| graph.shape(weight).elements_per_image())
        .sum()
}

/// Checks that each result is an error whose message contains the text beside it.
pub fn refusals<const COUNT: usize>(cases: [(Result<Graph>, &str); COUNT]) {
    for (result, wanted) in cases {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}: expected {wanted:?}");
    }
}
