//! What the tests of all operators share: operands, and the check of first and second derivatives.

use std::collections::BTreeMap;

use ndarray::{ArrayD, IxDyn};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Binary, Compare, KeepDims, Op, Reduce, ReduceKind, Reshape};
use crate::graph::reference::{evaluate as evaluate_graph, to_tensor};
use crate::graph::{DType, Graph, Shape, Value, ValueType};
use crate::transform::gradient::{gradient, hessian_vector_product};

/// Bound on the relative error of a derivative against central differences in f64.
pub const DERIVATIVE_TOLERANCE: f64 = 1e-6;
const BATCH: usize = 2;

/// An operand of an operator under test.
#[derive(Clone)]
pub enum Operand {
    /// Depends on the input: `[N, sizes…]`, made from it by an offset.
    Input {
        sizes: Vec<usize>,
        values: Vec<f64>,
        shift: f32,
    },
    /// A fixed tensor.
    Fixed { sizes: Vec<usize>, values: Vec<f64> },
    /// A fixed tensor that stands in the graph.
    Constant { sizes: Vec<usize>, values: Vec<f64> },
    /// Fixed booleans, as zeros and ones.
    Truths { sizes: Vec<usize>, values: Vec<f64> },
}

fn random_values(count: usize, seed: u64) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// In random order, each at least 0.04 from all others, around zero; shifted by 0.025, at least 0.015 from zero and from all others
/// that are not shifted.
fn distinct_values(count: usize, seed: u64) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut ranks: Vec<usize> = (0..count).collect();
    ranks.shuffle(&mut rng);
    let centre = (count / 2) as f64;
    let value = |rank| 0.05 * (rank as f64 - centre) + rng.random_range(-0.005..0.005);
    ranks.into_iter().map(value).collect()
}

impl Operand {
    /// `[2, sizes…]`, uniform in `[-1, 1]`.
    pub fn random(sizes: &[usize], seed: u64) -> Operand {
        let values = random_values(BATCH * sizes.iter().product::<usize>(), seed);
        Operand::Input {
            sizes: sizes.to_vec(),
            values,
            shift: 0.0,
        }
    }

    /// A fixed tensor, uniform in `[-1, 1]`.
    pub fn random_fixed(sizes: &[usize], seed: u64) -> Operand {
        Operand::Fixed {
            sizes: sizes.to_vec(),
            values: random_values(sizes.iter().product(), seed),
        }
    }

    /// A fixed tensor of those values.
    pub fn fixed(sizes: &[usize], values: &[f64]) -> Operand {
        Operand::Fixed {
            sizes: sizes.to_vec(),
            values: values.to_vec(),
        }
    }

    /// `[2, sizes…]`, no two values close to each other.
    pub fn distinct(sizes: &[usize], seed: u64) -> Operand {
        Operand::Input {
            sizes: sizes.to_vec(),
            values: distinct_values(BATCH * sizes.iter().product::<usize>(), seed),
            shift: 0.0,
        }
    }

    /// A fixed tensor, no two values close to each other.
    pub fn distinct_fixed(sizes: &[usize], seed: u64) -> Operand {
        Operand::Fixed {
            sizes: sizes.to_vec(),
            values: distinct_values(sizes.iter().product(), seed),
        }
    }

    /// A fixed tensor of those values that stands in the graph.
    pub fn constant(sizes: &[usize], values: &[f64]) -> Operand {
        Operand::Constant {
            sizes: sizes.to_vec(),
            values: values.to_vec(),
        }
    }

    /// Fixed booleans.
    pub fn truths(sizes: &[usize], values: &[bool]) -> Operand {
        Operand::Truths {
            sizes: sizes.to_vec(),
            values: values.iter().map(|&value| f64::from(value)).collect(),
        }
    }

    /// Moves all values, away from where an operator is singular.
    pub fn shifted(mut self, by: f64) -> Operand {
        match &mut self {
            Operand::Input { shift, .. } => *shift = by as f32,
            Operand::Fixed { values, .. } | Operand::Constant { values, .. } => {
                values.iter_mut().for_each(|value| *value += by)
            }
            Operand::Truths { .. } => panic!("booleans cannot be moved"),
        }
        self
    }

    fn array(&self) -> ArrayD<f64> {
        let (shape, values) = match self {
            Operand::Input { sizes, values, .. } => ([&[BATCH], sizes.as_slice()].concat(), values),
            Operand::Fixed { sizes, values }
            | Operand::Constant { sizes, values }
            | Operand::Truths { sizes, values } => (sizes.clone(), values),
        };
        ArrayD::from_shape_vec(IxDyn(&shape), values.clone()).unwrap()
    }
}

/// The operator's value on fixed operands.
pub fn evaluate(op: impl Into<Op>, operands: &[Operand]) -> ArrayD<f64> {
    let op = op.into();
    let arrays: Vec<ArrayD<f64>> = operands.iter().map(Operand::array).collect();
    let types: Vec<ValueType> = arrays
        .iter()
        .zip(operands)
        .map(|(array, operand)| ValueType {
            dtype: match operand {
                Operand::Truths { .. } => DType::Bool,
                _ => DType::F32,
            },
            shape: Shape::fixed(array.shape()),
        })
        .collect();
    let inferred = op.infer(&types.iter().collect::<Vec<_>>()).unwrap();
    let result = op.evaluate(&arrays);
    assert_eq!(
        inferred.shape,
        Shape::fixed(result.shape()),
        "shape rule of {op:?}"
    );
    result
}

/// Checks the gradient and the Hessian-vector product of `E = Σ w·y² + 0.3·y`, `y = op(operands)`, against central differences.
pub fn check_gradients(op: impl Into<Op>, operands: &[Operand]) {
    let op = op.into();
    let (graph, y, values) = operator_graph(&op, operands);
    let values = values
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()));
    check_derivatives(graph, y, values);
}

/// An array of that shape, uniform in `[-1, 1]`.
pub fn random_array(shape: &[usize], seed: u64) -> ArrayD<f64> {
    let values = random_values(shape.iter().product(), seed);
    ArrayD::from_shape_vec(IxDyn(shape), values).unwrap()
}

/// The check of [`check_gradients`] for any `y`, `[N, …]`, that a graph makes of its input `x`.
pub fn check_derivatives<'a>(
    mut graph: Graph,
    y: Value,
    values: impl IntoIterator<Item = (&'a str, ArrayD<f64>)>,
) {
    let op = graph.operator(y).map(|(op, _)| op.clone());
    let values = values.into_iter();
    let mut values: BTreeMap<String, ArrayD<f64>> = values
        .map(|(name, value)| (name.to_string(), value))
        .collect();
    let energy = square_sum(&mut graph, y);
    graph.set_output("energy", energy);
    let with_gradient = gradient(&graph, "energy", "x").unwrap();
    let x = values["x"].clone();
    let direction = ArrayD::from_shape_vec(x.raw_dim(), random_values(x.len(), 77)).unwrap();
    let at =
        |graph: &Graph, output: &str, shift: f64, values: &mut BTreeMap<String, ArrayD<f64>>| {
            values.insert("x".to_string(), &x + &(&direction * shift));
            evaluate_graph(graph, values)
                .unwrap()
                .remove(output)
                .unwrap()
        };
    let step = 1e-5;
    let mut difference = |graph: &Graph, output: &str| {
        (at(graph, output, step, &mut values) - at(graph, output, -step, &mut values))
            / (2.0 * step)
    };
    let energy_slope = difference(&graph, "energy").sum();
    let gradient_slope = difference(&with_gradient, "gradient");
    values.insert("x".to_string(), x.clone());
    let value = evaluate_graph(&with_gradient, &values)
        .unwrap()
        .remove("gradient")
        .unwrap();
    assert_eq!(value.shape(), x.shape(), "shape of the gradient of {op:?}");
    let predicted = (&value * &direction).sum();
    assert!(
        (predicted - energy_slope).abs() <= DERIVATIVE_TOLERANCE * (1.0 + energy_slope.abs()),
        "{op:?}: gradient gives {predicted}, finite differences {energy_slope}"
    );
    let twice = hessian_vector_product(&graph, "energy", "x").unwrap();
    values.insert("v".to_string(), direction.clone());
    let product = evaluate_graph(&twice, &values)
        .unwrap()
        .remove("hvp")
        .unwrap();
    let error = (&product - &gradient_slope).mapv(|e| e * e).sum().sqrt();
    let size = gradient_slope.mapv(|e| e * e).sum().sqrt();
    assert!(
        error <= DERIVATIVE_TOLERANCE * (1.0 + size),
        "{op:?}: Hessian-vector product is off by {error} of {size}"
    );
}

/// The operator behind operands that are pieces of one input, its result and the values to evaluate it with.
fn operator_graph(op: &Op, operands: &[Operand]) -> (Graph, Value, BTreeMap<String, ArrayD<f64>>) {
    let mut graph = Graph::new();
    let count: usize = operands
        .iter()
        .map(|o| {
            if let Operand::Input { sizes, .. } = o {
                sizes.iter().product()
            } else {
                0
            }
        })
        .sum();
    let joined = graph.input("x", Shape::batched(&[count])).unwrap();
    let mut values = BTreeMap::new();
    let mut pieces: Vec<ArrayD<f64>> = Vec::new();
    let mut inputs = Vec::new();
    let mut offset = 0;
    for (position, operand) in operands.iter().enumerate() {
        let array = operand.array();
        match operand {
            Operand::Fixed { sizes, .. } => {
                let name = format!("w{position}");
                inputs.push(graph.weight(&name, sizes).unwrap());
                values.insert(name, array);
            }
            Operand::Constant { .. } => {
                inputs.push(graph.constant("constant", to_tensor(&array)));
            }
            Operand::Truths { .. } => {
                let truths = graph.constant("truths", to_tensor(&array));
                let half = graph.scalar("half", 0.5);
                let truths = graph.apply("truths", Compare::Greater, &[truths, half]);
                inputs.push(truths.unwrap());
            }
            Operand::Input { sizes, shift, .. } => {
                // A piece of the joined input, cut out by a matrix of zeros and ones.
                let length: usize = sizes.iter().product();
                let cut: Vec<f32> = (0..count * length)
                    .map(|i| f32::from(i / length == offset + i % length))
                    .collect();
                let cut = graph.constant(
                    "cut",
                    crate::graph::tensor::Tensor::new(&[count, length], cut),
                );
                let piece = graph.apply("piece", super::MatMul, &[joined, cut]).unwrap();
                let piece = graph
                    .apply(
                        "piece",
                        Reshape {
                            shape: Shape::batched(sizes),
                        },
                        &[piece],
                    )
                    .unwrap();
                let shift = graph.scalar("shift", *shift);
                inputs.push(
                    graph
                        .apply("operand", Binary::Add, &[piece, shift])
                        .unwrap(),
                );
                pieces.push(
                    array
                        .into_shape_with_order(IxDyn(&[BATCH, length]))
                        .unwrap(),
                );
                offset += length;
            }
        }
    }
    let views: Vec<_> = pieces.iter().map(|piece| piece.view()).collect();
    values.insert(
        "x".to_string(),
        ndarray::concatenate(ndarray::Axis(1), &views).unwrap(),
    );
    let y = graph.apply("y", op.clone(), &inputs).unwrap();
    (graph, y, values)
}

fn square_sum(graph: &mut Graph, y: Value) -> Value {
    let slope = graph.scalar("slope", 0.3);
    let square = graph.apply("square", Binary::Mul, &[y, y]).unwrap();
    let line = graph.apply("line", Binary::Mul, &[y, slope]).unwrap();
    let sum = graph.apply("bowl", Binary::Add, &[square, line]).unwrap();
    if graph.shape(sum).rank() == 1 {
        return sum;
    }
    let axes = (1..graph.shape(sum).rank()).collect();
    graph
        .apply(
            "sum",
            Reduce {
                kind: ReduceKind::Sum,
                axes,
                keep_dims: KeepDims::No,
            },
            &[sum],
        )
        .unwrap()
}
