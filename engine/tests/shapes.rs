//! Convolutions of any extents and channels, alone, pooled and backwards, against the f64 interpreter.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use ebm_engine::{Plan, Processor};
use ebm_export::graph::Batch;
use ebm_export::graph::op::{Activation, AveragePool, Binary, Conv, KeepDims, Reduce, ReduceKind};
use ebm_export::graph::reference;
use ebm_export::graph::{Graph, Shape};
use ebm_export::source::Kind;
use ebm_export::transform::gradient::gradient;
use ebm_export::transform::pipeline::bind;
use ebm_export::transform::rewrite::{Target, apply};
use ebm_export::write::onnx::Opset;
use proptest::prelude::*;

use common::{Numbers, difference, file, run};

const TOLERANCE: f64 = 1e-5;

/// What stands behind the convolution.
#[derive(Clone, Copy, Debug)]
enum Behind {
    Nothing,
    Pool,
    Activation,
    ActivationAndPool,
}

/// `Σ (w·y)²` of a convolution to `channels[1]` channels, and its gradient, as exports have them.
fn problem(channels: [usize; 2], extents: [usize; 2], kernel: usize, behind: Behind) -> Graph {
    let mut graph = Graph::new();
    let x = graph
        .input("x", Shape::batched(&[channels[0], extents[0], extents[1]]))
        .unwrap();
    let weight = graph
        .weight("weight", &[channels[1], channels[0], kernel, kernel])
        .unwrap();
    let bias = graph.weight("bias", &[channels[1]]).unwrap();
    let mut y = graph
        .apply("conv", Conv::padded(kernel / 2), &[x, weight, bias])
        .unwrap();
    if matches!(behind, Behind::Activation | Behind::ActivationAndPool) {
        y = graph.apply("act", Activation::Softplus, &[y]).unwrap();
    }
    if matches!(behind, Behind::Pool | Behind::ActivationAndPool) {
        y = graph.apply("pool", AveragePool::tiles(2), &[y]).unwrap();
    }
    let sizes = graph.shape(y).concrete(1);
    let fixed = graph.weight("fixed", &sizes).unwrap();
    y = graph.apply("weighted", Binary::Mul, &[y, fixed]).unwrap();
    let square = graph.apply("square", Binary::Mul, &[y, y]).unwrap();
    let sum = Reduce {
        kind: ReduceKind::Sum,
        axes: vec![1, 2, 3],
        keep_dims: KeepDims::No,
    };
    let energy = graph.apply("energy", sum, &[square]).unwrap();
    graph.set_output("energy", energy);
    let rewrites = Target::Tract.rewrites();
    let graph = apply(&graph, &rewrites).unwrap();
    apply(&gradient(&graph, "energy", "x").unwrap(), &rewrites).unwrap()
}

fn behind() -> impl Strategy<Value = Behind> {
    prop_oneof![
        Just(Behind::Nothing),
        Just(Behind::Pool),
        Just(Behind::Activation),
        Just(Behind::ActivationAndPool)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_extents_and_channels_are_right(
        inputs in 1usize..40, outputs in 1usize..70, rows in 2usize..20, columns in 2usize..20,
        kernel in prop_oneof![Just(1usize), Just(3), Just(3), Just(5)], behind in behind(), batch in 1usize..4, seed in 1u64..1000,
    ) {
        let graph = problem([inputs, outputs], [rows, columns], kernel, behind);
        let mut numbers = Numbers::new(seed);
        let weights = graph.weights().map(|value| {
            let shape = graph.shape(value).concrete(1);
            (graph.node(value).name.clone(), numbers.tensor(&shape, |unit| unit))
        });
        let weights = weights.collect();
        let x = numbers.tensor(&[batch, inputs, rows, columns], |unit| unit);
        let mut values = reference::bindings(&weights);
        values.insert("x".to_string(), reference::to_array(&x));
        let wanted = reference::evaluate(&graph, &values).unwrap();
        let bound = bind(&graph, &weights).unwrap();
        let bytes = file(&bound, Kind::Gradient, [inputs, rows, columns], Opset::DEFAULT, Batch::Symbolic);
        for processor in Processor::all() {
            let plan = Arc::new(Plan::on(processor, bytes.clone()).unwrap());
            for n_threads in [1, 2] {
                let got = run(&plan, n_threads, &[("x", &x)], batch);
                for output in ["energy", "gradient"] {
                    let wanted: Vec<f64> = wanted[output].iter().copied().collect();
                    let error = difference(&wanted, &got[output]);
                    prop_assert!(error <= TOLERANCE, "{processor}, {n_threads} threads: {output} off by {error}\n{}", plan.describe().join("\n"));
                }
            }
        }
    }
}
