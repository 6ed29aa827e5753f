//! Every operator with every kind of attributes, forward and backward, on every backend.
//!
//! Each case is `E(x) = Σ (w·y)²` per image, y being what the operator makes of x and w fixed. The gradient of it is that of
//! the graph; its values are those of the slow interpreter. Without w, operators that only move elements would cancel.

mod cases;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use ebm_export::graph::Batch;
use ebm_export::graph::op::{Activation, Binary, Compare, KeepDims, Op, Reduce, ReduceKind, Unary};
use ebm_export::graph::reference;
use ebm_export::graph::tensor::{Tensor, Tensors};
use ebm_export::graph::{Graph, Shape};
use ebm_export::source::Kind::Gradient;
use ebm_export::transform::gradient::gradient;
use ebm_export::transform::pipeline::bind;
use ebm_export::write::onnx::{Opset, model_bytes};
use ebm_runtime::{Backend, Model};
use ebm_trainer::network::{Program, from_host, to_device};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind};

use crate::agreement::{backends, elements, energy_and_gradient};
use crate::contracts::contract;
use crate::networks::worst_difference;
use cases::{Case, Range, all};

const TOLERANCE: f64 = 1e-4;
const BATCH: usize = 3;

/// What a backend cannot run: case, backend, why. A case that is listed has to fail, so that the list tells the truth.
const SKIPS: &[(&str, &str, &str)] = &[];

/// Energy and gradient, image after image.
type Values = (Vec<f64>, Vec<f64>);

/// A case as all backends get it.
struct Problem {
    graph: Graph,
    weights: Tensors,
    x: Tensor,
    image: [usize; 3],
}

/// Values between 0.5 and 1.5 of either sign: none so small that a quotient is off.
fn fixed_values(shape: &[usize], rng: &mut ChaCha8Rng) -> Tensor {
    let count = shape.iter().product();
    let value = |_| rng.random_range(0.5f32..1.5) * if rng.random::<bool>() { 1.0 } else { -1.0 };
    Tensor::new(shape, (0..count).map(value).collect())
}

/// Pixels. Those of either sign keep away from zero, where masks flip.
fn pixels(shape: &[usize], range: Range, rng: &mut ChaCha8Rng) -> Tensor {
    let count = shape.iter().product();
    let value = |_| match range {
        Range::Positive => rng.random_range(0.5f32..1.5),
        Range::Signed => {
            rng.random_range(0.05f32..1.0) * if rng.random::<bool>() { 1.0 } else { -1.0 }
        }
    };
    Tensor::new(shape, (0..count).map(value).collect())
}

fn problem(case: &Case) -> Problem {
    let mut graph = Graph::new();
    let x = graph.input("x", Shape::batched(&case.image)).unwrap();
    let mut y = (case.build)(&mut graph, x);
    let extents: Vec<usize> = graph.shape(y).concrete(1).split_off(1);
    if !extents.is_empty() {
        let fixed = graph
            .weight("energy.weight", &[&[1], extents.as_slice()].concat())
            .unwrap();
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
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let weights = graph
        .weights()
        .map(|value| {
            let values = fixed_values(&graph.shape(value).concrete(1), &mut rng);
            (graph.node(value).name.clone(), values)
        })
        .collect();
    let shape = [&[BATCH], case.image.as_slice()].concat();
    Problem {
        weights,
        x: pixels(&shape, case.range, &mut rng),
        image: case.image,
        graph,
    }
}

fn by_reference(problem: &Problem) -> Values {
    let mut values = reference::bindings(&problem.weights);
    values.insert("x".to_string(), reference::to_array(&problem.x));
    let outputs: BTreeMap<_, _> = reference::evaluate(&problem.graph, &values).unwrap();
    let [energy, gradient] =
        ["energy", "gradient"].map(|output| outputs[output].iter().copied().collect());
    (energy, gradient)
}

fn by_libtorch(problem: &Problem) -> Values {
    let program = Program::new(&problem.graph, Kind::Float, Device::Cpu);
    let weights = to_device(&problem.weights, Kind::Float, Device::Cpu);
    let bound = program.bind(&weights).unwrap();
    let x = from_host(&problem.x, Kind::Float, Device::Cpu);
    let [energy, gradient] =
        ["energy", "gradient"].map(|output| elements(&bound.output(output, &x).unwrap()));
    (energy, gradient)
}

fn by_backend(problem: &Problem, backend: &Backend, opset: Opset) -> Values {
    let bound = bind(&problem.graph, &problem.weights).unwrap();
    let contract = contract(Gradient, problem.image, opset);
    let bytes = model_bytes(&bound, &contract, opset, Batch::Symbolic).unwrap();
    let model = Model::from_bytes(bytes, "case").unwrap();
    let mut session = backend.prepare(&model, 1).unwrap();
    energy_and_gradient(session.as_mut(), &problem.x)
}

/// What is wrong with the values that come, panics included.
fn fault(wanted: &Values, compute: impl FnOnce() -> Values) -> Option<String> {
    let (energy, gradient) = match catch_unwind(AssertUnwindSafe(compute)) {
        Ok(values) => values,
        Err(panic) => {
            let message = panic.downcast_ref::<String>().cloned();
            return Some(message.unwrap_or_else(|| "it panicked".to_string()));
        }
    };
    [
        ("energy", &wanted.0, energy),
        ("gradient", &wanted.1, gradient),
    ]
    .into_iter()
    .find_map(|(name, wanted, got)| {
        if got.iter().any(|value| !value.is_finite()) {
            return Some(format!("its {name} is not finite"));
        }
        let error = worst_difference(wanted, &got, BATCH);
        (error > TOLERANCE).then(|| format!("its {name} is off by {error}"))
    })
}

#[test]
fn agree_on_every_backend() {
    let backends = backends();
    let opsets: Vec<Opset> = (Opset::OLDEST.number()..=Opset::NEWEST.number())
        .map(|number| Opset::new(number).unwrap())
        .collect();
    let mut faults = Vec::new();
    let mut note = |case: &str, backend: &str, opset: &str, fault: Option<String>| {
        let skip = SKIPS
            .iter()
            .find(|(skipped, on, _)| (*skipped, *on) == (case, backend));
        match (fault, skip) {
            (Some(fault), None) => faults.push(format!("{case} on {backend}{opset}: {fault}")),
            (None, Some((_, _, reason))) => faults.push(format!(
                "{case} on {backend}{opset}: passes by now, strike it off the list of skips ({reason})"
            )),
            _ => {}
        }
    };
    for case in all() {
        let problem = problem(&case);
        let wanted = by_reference(&problem);
        assert!(
            wanted.1.iter().any(|&value| value != 0.0),
            "{}: the gradient vanishes and tests nothing",
            case.name
        );
        let fault_of_libtorch = fault(&wanted, || by_libtorch(&problem));
        note(&case.name, "libtorch", "", fault_of_libtorch);
        for backend in &backends {
            for &opset in &opsets {
                let fault = fault(&wanted, || by_backend(&problem, backend, opset));
                let opset = format!(", opset {}", opset.number());
                note(&case.name, backend.name(), &opset, fault);
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What an operator is, as far as that needs a case of its own. A new operator does not compile here until it is named.
fn kind_of(op: &Op) -> String {
    match op {
        Op::Activation(activation) => kind_of_activation(activation).to_string(),
        Op::AveragePool(_) => "AveragePool".to_string(),
        Op::Binary(binary) => format!("{binary:?}"),
        Op::Cast(_) => "Cast".to_string(),
        Op::Compare(compare) => format!("{compare:?}"),
        Op::Concat(_) => "Concat".to_string(),
        Op::Conv(_) => "Conv".to_string(),
        Op::ConvTranspose(_) => "ConvTranspose".to_string(),
        Op::Expand(_) => "Expand".to_string(),
        Op::MatMul(_) => "MatMul".to_string(),
        Op::MaxPool(_) => "MaxPool".to_string(),
        Op::Pad(_) => "Pad".to_string(),
        Op::Reduce(reduce) => format!("Reduce{:?}", reduce.kind),
        Op::Reshape(_) => "Reshape".to_string(),
        Op::Reverse(_) => "Reverse".to_string(),
        Op::Slice(_) => "Slice".to_string(),
        Op::Softmax(_) => "Softmax".to_string(),
        Op::Transpose(_) => "Transpose".to_string(),
        Op::Unary(unary) => format!("{unary:?}"),
        Op::Upsample(_) => "Upsample".to_string(),
        Op::Where(_) => "Where".to_string(),
    }
}

fn kind_of_activation(activation: &Activation) -> &'static str {
    match activation {
        Activation::Relu => "Relu",
        Activation::LeakyRelu { .. } => "LeakyRelu",
        Activation::Sigmoid => "Sigmoid",
        Activation::Tanh => "Tanh",
        Activation::Softplus => "Softplus",
        Activation::Positive => "Positive",
    }
}

/// Operators without members, and activations. Those with members list these themselves.
const KINDS: [&str; 22] = [
    "AveragePool",
    "Cast",
    "Concat",
    "Conv",
    "ConvTranspose",
    "Expand",
    "LeakyRelu",
    "MatMul",
    "MaxPool",
    "Pad",
    "Positive",
    "Relu",
    "Reshape",
    "Reverse",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Softplus",
    "Tanh",
    "Transpose",
    "Upsample",
    "Where",
];

#[test]
fn every_operator_and_every_member_has_a_case() {
    let mut kinds = BTreeSet::new();
    for case in all() {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&case.image)).unwrap();
        (case.build)(&mut graph, x);
        let operators = graph.values().filter_map(|value| graph.operator(value));
        kinds.extend(operators.map(|(op, _)| kind_of(op)));
    }
    let members = (Binary::ALL.iter().map(|op| format!("{op:?}")))
        .chain(Compare::ALL.iter().map(|op| format!("{op:?}")))
        .chain(Unary::ALL.iter().map(|op| format!("{op:?}")))
        .chain(ReduceKind::ALL.iter().map(|kind| format!("Reduce{kind:?}")));
    let wanted: BTreeSet<String> = KINDS
        .iter()
        .map(|kind| kind.to_string())
        .chain(members)
        .collect();
    assert_eq!(kinds, wanted);
}

/// Every skip names a case and a backend that there are.
#[test]
fn skips_name_what_exists() {
    let names: Vec<String> = all().into_iter().map(|case| case.name).collect();
    for (case, backend, reason) in SKIPS {
        assert!(names.iter().any(|name| name == case), "{case}: {reason}");
        assert!(
            ["libtorch", "native", "rten", "tract", "ort"].contains(backend),
            "{backend}"
        );
    }
}
