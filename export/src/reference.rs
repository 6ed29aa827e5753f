//! The slow interpreter in f64 that the tests trust: each operator is the plainest loop there is.

use std::collections::BTreeMap;

use ndarray::{ArrayD, IxDyn};

use crate::error::Error;
use crate::graph::{Graph, Shape, Source, Value};
use crate::op::Operator;
use crate::tensor::{Tensor, Tensors};

/// A tensor in f64.
pub fn to_array(tensor: &Tensor) -> ArrayD<f64> {
    let data = tensor
        .data()
        .iter()
        .map(|&value| f64::from(value))
        .collect();
    ArrayD::from_shape_vec(IxDyn(tensor.shape()), data)
        .expect("a tensor has as many elements as its shape says")
}

/// An array rounded to f32.
pub fn to_tensor(array: &ArrayD<f64>) -> Tensor {
    Tensor::new(
        array.shape(),
        array.iter().map(|&value| value as f32).collect(),
    )
}

/// Inputs and weights by name, in f64.
pub fn bindings(weights: &Tensors) -> BTreeMap<String, ArrayD<f64>> {
    weights
        .iter()
        .map(|(name, tensor)| (name.clone(), to_array(tensor)))
        .collect()
}

/// All outputs of the graph in f64, given its inputs and weights by name.
///
/// # Errors
/// A value is missing or has another shape than the graph states.
pub fn evaluate(
    graph: &Graph,
    values: &BTreeMap<String, ArrayD<f64>>,
) -> Result<BTreeMap<String, ArrayD<f64>>, Error> {
    let mut results: Vec<ArrayD<f64>> = Vec::new();
    for value in graph.values() {
        let node = graph.node(value);
        let result = match &node.source {
            Source::Constant(tensor) => to_array(tensor),
            Source::Input | Source::Weight => given(graph, value, values)?.clone(),
            Source::Operator { op, inputs } => {
                let operands: Vec<ArrayD<f64>> = inputs
                    .iter()
                    .map(|input| results[input.0].clone())
                    .collect();
                op.evaluate(&operands)
            }
        };
        results.push(result);
    }
    Ok(graph
        .outputs()
        .iter()
        .map(|(name, value)| (name.clone(), results[value.0].clone()))
        .collect())
}

/// The size of the batch that an array has, if it is of that shape.
fn images_of(array: &ArrayD<f64>, shape: &Shape) -> usize {
    let axis = shape.batch_axis();
    let per_image = axis.map(|axis| shape.0[axis].concrete(1));
    match (axis.and_then(|axis| array.shape().get(axis)), per_image) {
        (Some(extent), Some(per_image)) if per_image > 0 => extent / per_image,
        _ => 1,
    }
}

fn given<'a>(
    graph: &Graph,
    value: Value,
    values: &'a BTreeMap<String, ArrayD<f64>>,
) -> Result<&'a ArrayD<f64>, Error> {
    let node = graph.node(value);
    let problem = |problem: String| Error::Weight {
        name: node.name.clone(),
        problem,
    };
    let array = values
        .get(&node.name)
        .ok_or_else(|| problem("no value was given".to_string()))?;
    let batch = images_of(array, &node.value_type.shape);
    if array.shape() != node.value_type.shape.concrete(batch) {
        return Err(problem(format!(
            "expected shape {}, got {:?}",
            node.value_type.shape,
            array.shape()
        )));
    }
    Ok(array)
}
