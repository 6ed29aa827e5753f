//! Every operator with every kind of attributes, forward and backward, against the slow f64 interpreter.
//!
//! The table is that of the suite which runs all backends; here each case runs on every kind of vectors of this machine and in several batches.
#![allow(clippy::unwrap_used)]

#[path = "../../tests/suite/operators/cases.rs"]
mod cases;
mod common;

use ebm_engine::Processor;
use ebm_export::graph::Batch;
use ebm_export::graph::op::{Binary, KeepDims, Reduce, ReduceKind};
use ebm_export::graph::reference;
use ebm_export::graph::tensor::{Tensor, Tensors};
use ebm_export::graph::{Graph, Shape};
use ebm_export::source::Kind;
use ebm_export::transform::gradient::gradient;
use ebm_export::transform::pipeline::bind;
use ebm_export::write::onnx::Opset;

use cases::{Case, Range, all};
use common::{Numbers, difference, file, run};

const TOLERANCE: f64 = 1e-5;
const BATCH: usize = 3;

/// `Σ (w·y)²` of each image and its gradient, y being what the operator makes of the image and w fixed.
fn problem(case: &Case) -> (Graph, Tensors, Tensor) {
    let mut graph = Graph::new();
    let x = graph.input("x", Shape::batched(&case.image)).unwrap();
    let mut y = (case.build)(&mut graph, x);
    let extents: Vec<usize> = graph.shape(y).concrete(1).split_off(1);
    if !extents.is_empty() {
        let sizes = [&[1], extents.as_slice()].concat();
        let fixed = graph.weight("energy.weight", &sizes).unwrap();
        y = graph.apply("weighted", Binary::Mul, &[y, fixed]).unwrap();
    }
    let mut energy = graph.apply("square", Binary::Mul, &[y, y]).unwrap();
    if !extents.is_empty() {
        let sum = Reduce {
            kind: ReduceKind::Sum,
            axes: (1..=extents.len()).collect(),
            keep_dims: KeepDims::No,
        };
        energy = graph.apply("energy", sum, &[energy]).unwrap();
    }
    graph.set_output("energy", energy);
    let graph = gradient(&graph, "energy", "x").unwrap();
    let mut numbers = Numbers::new(5);
    let weights = graph.weights().map(|value| {
        let shape = graph.shape(value).concrete(1);
        let values = numbers.tensor(&shape, |unit| unit.signum() * (0.5 + unit.abs()));
        (graph.node(value).name.clone(), values)
    });
    let weights = weights.collect();
    // Pixels of either sign keep away from zero, where masks flip.
    let x = numbers.tensor(
        &[&[BATCH], case.image.as_slice()].concat(),
        |unit| match case.range {
            Range::Positive => 0.5 + unit.abs(),
            Range::Signed => unit.signum() * (0.05 + 0.95 * unit.abs()),
        },
    );
    (graph, weights, x)
}

#[test]
fn agree_with_the_interpreter() {
    let mut faults = Vec::new();
    for case in all() {
        let (graph, weights, x) = problem(&case);
        let mut values = reference::bindings(&weights);
        values.insert("x".to_string(), reference::to_array(&x));
        let wanted = reference::evaluate(&graph, &values).unwrap();
        let bound = bind(&graph, &weights).unwrap();
        for opset in [Opset::OLDEST, Opset::DEFAULT, Opset::NEWEST] {
            for batch in [Batch::Symbolic, Batch::Fixed(BATCH)] {
                let bytes = file(&bound, Kind::Gradient, case.image, opset, batch);
                for processor in Processor::all() {
                    let name = format!(
                        "{} on {processor}, opset {}, {batch:?}",
                        case.name,
                        opset.number()
                    );
                    let plan = match ebm_engine::Plan::on(processor, bytes.clone()) {
                        Ok(plan) => std::sync::Arc::new(plan),
                        Err(error) => {
                            faults.push(format!("{name}: {error}"));
                            continue;
                        }
                    };
                    let got = run(&plan, 1, &[("x", &x)], BATCH);
                    for output in ["energy", "gradient"] {
                        let wanted: Vec<f64> = wanted[output].iter().copied().collect();
                        let error = difference(&wanted, &got[output]);
                        if error.is_nan() || error > TOLERANCE {
                            faults.push(format!("{name}: {output} off by {error}"));
                        }
                    }
                }
            }
        }
    }
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
}
