//! Differentiation as a function from graphs to graphs (reverse mode).
//!
//! The backward pass is written out in ordinary operators, all of which have gradient rules themselves, so that applied
//! twice it gives Hessian-vector products.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::graph::batch::zero_per_image;
use crate::graph::op::{
    Activation, BackwardStep, Binary, Expand, KeepDims, Op, Reduce, ReduceKind, Reshape, Unary,
};
use crate::graph::tensor::Tensor;
use crate::graph::{Dim, Graph, Shape, Source, Value};

/// The graph with one more output `gradient`: the derivative of `Σ_n output[n]` with respect to `input`, which is per image
/// that of its own scalar, since images of a batch do not mix.
///
/// # Errors
/// There is no such output or input; the output is not `[N]`, or `[1]` of an input without the batch; or a node has no gradient rule.
pub fn gradient(graph: &Graph, output: &str, input: &str) -> Result<Graph> {
    let mut graph = graph.clone();
    let target = graph.output(output)?;
    let source = graph.input_named(input)?;
    let gradient = backward(&mut graph, target, source, output)?;
    graph.set_output("gradient", gradient);
    graph.rebuild(|_, _, _| Ok(None))
}

/// The graph with a further input `v`, shaped as `input`, and one output `hvp` behind `gradient`: the Hessian of `output`
/// with respect to `input`, times v.
///
/// # Errors
/// As [`gradient`]; or `v` is the name of an input or weight already.
pub fn hessian_vector_product(graph: &Graph, output: &str, input: &str) -> Result<Graph> {
    hessian_vector_product_along(graph, output, input, "v")
}

/// [`hessian_vector_product`] with another name than `v` for v.
///
/// # Errors
/// As [`hessian_vector_product`].
pub fn hessian_vector_product_along(
    graph: &Graph,
    output: &str,
    input: &str,
    v: &str,
) -> Result<Graph> {
    let mut graph = gradient(graph, output, input)?;
    let [source, slope] = [graph.input_named(input)?, graph.output("gradient")?];
    let shape = graph.shape(source).clone();
    let sum = Reduce {
        kind: ReduceKind::Sum,
        axes: (1..shape.rank()).collect(),
        keep_dims: KeepDims::No,
    };
    let v = graph.input(v, shape)?;
    let product = graph.apply("v.product", Binary::Mul, &[slope, v])?;
    let dot = match sum.axes.is_empty() {
        true => product,
        false => graph.apply("v.dot", sum, &[product])?,
    };
    let product = backward(&mut graph, dot, source, "gradient·v")?;
    graph.set_output("hvp", product);
    graph.rebuild(|_, _, _| Ok(None))
}

/// Adds the backward pass from `target` to `source`; what it names after `output` is for errors.
fn backward(graph: &mut Graph, target: Value, source: Value, output: &str) -> Result<Value> {
    if !is_scalar_per_image(graph, target, source) {
        let shape = graph.shape(target).to_string();
        return Err(Error::NotScalarPerImage {
            output: output.to_string(),
            shape,
        });
    }
    let dependent = differentiable(graph, source);
    let mut cotangents = BTreeMap::new();
    cotangents.insert(target, seed(graph, &dependent, source)?);
    for value in graph
        .values()
        .take(dependent.len())
        .rev()
        .filter(|value| dependent[value.0])
    {
        let (Source::Operator { op, inputs }, Some(&cotangent)) =
            (graph.node(value).source.clone(), cotangents.get(&value))
        else {
            continue;
        };
        let name = graph.node(value).name.clone();
        let wanted: Vec<bool> = inputs.iter().map(|input| dependent[input.0]).collect();
        let mut step = BackwardStep {
            graph,
            name: &name,
            inputs: &inputs,
            wanted: &wanted,
            output: value,
            cotangent,
        };
        let gradients = op.gradient(&mut step)?;
        for (operand, gradient) in inputs
            .iter()
            .zip(gradients)
            .filter(|(operand, _)| dependent[operand.0])
        {
            let Some(gradient) = gradient else { continue };
            let sum = match cotangents.get(operand) {
                Some(&sum) => {
                    graph.apply(&format!("{name}.grad.add"), Binary::Add, &[sum, gradient])?
                }
                None => gradient,
            };
            cotangents.insert(*operand, sum);
        }
    }
    let gradient = match cotangents.get(&source) {
        Some(&gradient) => gradient,
        None => graph.scalar("grad.zero", 0.0),
    };
    like_source(graph, gradient, source)
}

/// Per value: does it depend on `source` in a way that has a derivative? Masks, places and steps do not.
fn differentiable(graph: &Graph, source: Value) -> Vec<bool> {
    let mut found = vec![false; graph.values().len()];
    for value in graph.values() {
        found[value.0] = value == source
            || graph.operator(value).is_some_and(|(op, inputs)| {
                !is_flat(op) && inputs.iter().any(|input| found[input.0])
            });
    }
    found
}

/// Is it constant between jumps?
fn is_flat(op: &Op) -> bool {
    matches!(
        op,
        Op::Compare(_)
            | Op::Unary(Unary::Sign | Unary::Floor | Unary::Round)
            | Op::Activation(Activation::Positive)
    )
}

/// Is it `[N]`, or `[1]` of the only image?
fn is_scalar_per_image(graph: &Graph, value: Value, source: Value) -> bool {
    let one = match graph.shape(source).batch_axis() {
        Some(_) => Dim::BATCH,
        None => Dim::Size(1),
    };
    graph.shape(value).0 == [one]
}

/// The derivative of an image's scalar with respect to itself, 1. It stays `[1]`, and with it whatever of the backward pass is
/// the same for all images, unless a value has images and something else along one axis, to which nothing of extent 1 broadcasts.
fn seed(graph: &mut Graph, dependent: &[bool], source: Value) -> Result<Value> {
    let one = graph.constant("grad.seed", Tensor::filled(&[1], 1.0));
    let shares_axis = |value: Value| {
        let dims = &graph.shape(value).0;
        dims.iter().any(|dim| dim.is_batch() && *dim != Dim::BATCH)
    };
    let mut values = graph.values().take(dependent.len());
    match values.any(|value| dependent[value.0] && shares_axis(value)) {
        true => over_batch(graph, one, &Shape(vec![Dim::BATCH]), source),
        false => Ok(one),
    }
}

/// A value that is the same for all images, in a shape that carries the batch of `source`.
fn over_batch(graph: &mut Graph, value: Value, shape: &Shape, source: Value) -> Result<Value> {
    let Some(Dim::Batch { outer, inner }) = shape.around_batch() else {
        return Ok(value);
    };
    let one_image = Expand {
        shape: Shape::fixed(&shape.concrete(1)),
    };
    let value = graph.apply("grad.image", one_image, &[value])?;
    let sandwich = Shape::fixed(&[outer, 1, inner]);
    let value = graph.apply("grad.image", Reshape { shape: sandwich }, &[value])?;
    let zeros = zero_per_image(graph, "grad", source)?;
    let value = graph.apply("grad.images", Binary::Add, &[value, zeros])?;
    let shape = shape.clone();
    graph.apply("grad.images", Reshape { shape }, &[value])
}

/// The gradient in the full shape of the input, also where it is constant over the batch or over pixels.
fn like_source(graph: &mut Graph, gradient: Value, source: Value) -> Result<Value> {
    let shape = graph.shape(source).clone();
    if *graph.shape(gradient) == shape {
        return Ok(gradient);
    }
    if shape.batch_axis().is_some() && graph.shape(gradient).batch_axis().is_none() {
        return over_batch(graph, gradient, &shape, source);
    }
    graph.apply("grad.expand", Expand { shape }, &[gradient])
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, array};

    use super::*;
    use crate::graph::op::{Cast, Compare, MatMul};
    use crate::graph::reference::evaluate;

    fn evaluated(graph: &Graph, x: ArrayD<f64>, output: &str) -> ArrayD<f64> {
        let values = BTreeMap::from([("x".to_string(), x)]);
        evaluate(graph, &values).unwrap().remove(output).unwrap()
    }

    /// E(x) = Σ x·x has ∇E = 2x and ∇²E·v = 2v.
    #[test]
    fn a_quadratic_energy_has_its_closed_form() {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[2])).unwrap();
        let square = graph.apply("square", Binary::Mul, &[x, x]).unwrap();
        let sum = Reduce {
            kind: ReduceKind::Sum,
            axes: vec![1],
            keep_dims: KeepDims::No,
        };
        let energy = graph.apply("sum", sum, &[square]).unwrap();
        graph.set_output("energy", energy);
        let x = array![[1.0, -2.0], [0.5, 3.0]].into_dyn();
        let derived = gradient(&graph, "energy", "x").unwrap();
        assert_eq!(evaluated(&derived, x.clone(), "gradient"), &x * 2.0);
        let twice = hessian_vector_product(&graph, "energy", "x").unwrap();
        let v = array![[0.25, 1.0], [-1.0, 2.0]].into_dyn();
        let values = BTreeMap::from([("x".to_string(), x), ("v".to_string(), v.clone())]);
        assert_eq!(evaluate(&twice, &values).unwrap()["hvp"], v * 2.0);
    }

    /// E(x) = x² of single numbers has ∇²E·v = 2v.
    #[test]
    fn an_input_of_single_numbers_has_second_derivatives() {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[])).unwrap();
        let energy = graph.apply("energy", Binary::Mul, &[x, x]).unwrap();
        graph.set_output("energy", energy);
        let twice = hessian_vector_product(&graph, "energy", "x").unwrap();
        let [x, v] = [[1.0, -2.0], [0.5, 3.0]].map(|values| array![values[0], values[1]]);
        let values = BTreeMap::from([
            ("x".to_string(), x.into_dyn()),
            ("v".to_string(), v.clone().into_dyn()),
        ]);
        let product = &evaluate(&twice, &values).unwrap()["hvp"];
        assert_eq!(*product, (v * 2.0).into_dyn());
    }

    #[test]
    fn an_energy_that_is_linear_or_constant_has_a_full_gradient() {
        for (weights, wanted) in [
            (Some([3.0, -1.0]), [[3.0, -1.0], [3.0, -1.0]]),
            (None, [[0.0, 0.0], [0.0, 0.0]]),
        ] {
            let mut graph = Graph::new();
            let mut x = graph.input("x", Shape::batched(&[2])).unwrap();
            if weights.is_none() {
                let zero = graph.scalar("zero", 0.0);
                let positive = graph
                    .apply("positive", Compare::Greater, &[x, zero])
                    .unwrap();
                x = graph.apply("mask", Cast::F32, &[positive]).unwrap();
            }
            let weight = Tensor::new(&[2, 1], weights.unwrap_or([1.0, 1.0]).to_vec());
            let weight = graph.constant("weight", weight);
            let product = graph.apply("product", MatMul, &[x, weight]).unwrap();
            let energy = graph
                .apply(
                    "energy",
                    Reshape {
                        shape: Shape(vec![Dim::BATCH]),
                    },
                    &[product],
                )
                .unwrap();
            graph.set_output("energy", energy);
            let derived = gradient(&graph, "energy", "x").unwrap();
            let x = array![[1.0, -2.0], [0.5, 3.0]].into_dyn();
            let wanted = ArrayD::from_shape_vec(vec![2, 2], wanted.concat()).unwrap();
            assert_eq!(evaluated(&derived, x, "gradient"), wanted);
        }
    }

    /// E(x) = Σ_d a·y + y², y = x seen as 2N rows of two: one cotangent of y is the same for all images, the other is not.
    #[test]
    fn cotangents_add_up_where_images_and_rows_share_an_axis() {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[2, 2])).unwrap();
        let rows = Shape(vec![Dim::Batch { outer: 1, inner: 2 }, Dim::Size(2)]);
        let y = graph.apply("y", Reshape { shape: rows }, &[x]).unwrap();
        let slopes = graph.constant("slopes", Tensor::new(&[2, 1], vec![3.0, -1.0]));
        let line = graph.apply("line", MatMul, &[y, slopes]).unwrap();
        let square = graph.apply("square", Binary::Mul, &[y, y]).unwrap();
        let sum = |axes: &[usize]| Reduce {
            kind: ReduceKind::Sum,
            axes: axes.to_vec(),
            keep_dims: KeepDims::Yes,
        };
        let bowl = graph.apply("bowl", sum(&[1]), &[square]).unwrap();
        let both = graph.apply("both", Binary::Add, &[line, bowl]).unwrap();
        let shape = Shape::batched(&[2]);
        let both = graph.apply("rows", Reshape { shape }, &[both]).unwrap();
        let energy = graph.apply("energy", sum(&[1]), &[both]).unwrap();
        let shape = Shape::batched(&[]);
        let energy = graph.apply("energy", Reshape { shape }, &[energy]).unwrap();
        graph.set_output("energy", energy);
        let derived = gradient(&graph, "energy", "x").unwrap();
        let x = array![[[1.0, -2.0], [0.5, 3.0]], [[0.0, 4.0], [2.0, -1.0]]].into_dyn();
        let slopes = array![3.0, -1.0].into_dyn();
        assert_eq!(
            evaluated(&derived, x.clone(), "gradient"),
            &x * 2.0 + slopes
        );
    }

    #[test]
    fn refuses_what_is_not_one_scalar_per_image() {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[2])).unwrap();
        graph.set_output("energy", x);
        let error = gradient(&graph, "energy", "x").unwrap_err().to_string();
        assert_eq!(
            error,
            "output \"energy\" has shape [N, 2], expected one scalar per image, [N]; reduce it"
        );
        let error = gradient(&graph, "density", "x").unwrap_err().to_string();
        assert_eq!(
            error,
            "the graph has no output \"density\"; it has [\"energy\"]"
        );
    }

    /// `Σ x²` and `Σ x` of an input `[1, 2]`, whose axis 0 is one like any other.
    #[test]
    fn the_only_image_needs_no_batch() {
        for (is_linear, wanted) in [(false, [2.0, 4.0]), (true, [1.0, 1.0])] {
            let mut graph = Graph::new();
            let x = graph.input("x", Shape::fixed(&[1, 2])).unwrap();
            let term = match is_linear {
                true => x,
                false => graph.apply("square", Binary::Mul, &[x, x]).unwrap(),
            };
            let sum = Reduce {
                kind: ReduceKind::Sum,
                axes: vec![0, 1],
                keep_dims: KeepDims::No,
            };
            let sum = graph.apply("sum", sum, &[term]).unwrap();
            let one = Reshape {
                shape: Shape::fixed(&[1]),
            };
            let energy = graph.apply("energy", one, &[sum]).unwrap();
            graph.set_output("energy", energy);
            let product = hessian_vector_product(&graph, "energy", "x").unwrap();
            let point = array![[1.0, 2.0]].into_dyn();
            let values = BTreeMap::from([
                ("x".to_string(), point.clone()),
                ("v".to_string(), point.clone()),
            ]);
            let outputs = evaluate(&product, &values).unwrap();
            let wanted = ArrayD::from_shape_vec(vec![1, 2], wanted.to_vec()).unwrap();
            assert_eq!(outputs["gradient"], wanted);
            let curvature = if is_linear { 0.0 } else { 2.0 };
            assert_eq!(outputs["hvp"], point * curvature);
        }
    }
}
