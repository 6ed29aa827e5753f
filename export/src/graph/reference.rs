//! The interpreter in f64 that the tests trust: each operator is the plainest loop there is, or what is tested against it.

use std::collections::BTreeMap;

use ndarray::{ArrayD, IxDyn};

use crate::error::{Error, Result};
use crate::graph::tensor::{Tensor, Tensors};
use crate::graph::{Graph, Node, Shape, Source, Value};

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

/// Which results are rounded to their types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Those of low types; what is f32 in the graph is reckoned in f64.
    Low,
    /// All of them, so that the result has the error of an engine that reckons in the graph's types.
    All,
}

/// All outputs of the graph in f64, given its inputs and weights by name. Results of low types are rounded to them.
///
/// # Errors
/// A value is missing or has another shape than the graph states.
pub fn evaluate(
    graph: &Graph,
    values: &BTreeMap<String, ArrayD<f64>>,
) -> Result<BTreeMap<String, ArrayD<f64>>> {
    evaluate_rounded(graph, values, Rounding::Low)
}

/// Like [`evaluate`], with a choice of what is rounded.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_rounded(
    graph: &Graph,
    values: &BTreeMap<String, ArrayD<f64>>,
    rounding: Rounding,
) -> Result<BTreeMap<String, ArrayD<f64>>> {
    let mut evaluation = Evaluation {
        graph,
        uses: graph.use_counts(),
        results: BTreeMap::new(),
    };
    for value in graph.values() {
        let node = graph.node(value);
        if evaluation.uses[value.0] == 0 {
            continue;
        }
        if let Source::Constant(_) = node.source {
            continue;
        }
        let result = match computed(node, |input| evaluation.take(input)) {
            Some(result) => result,
            None => held(node, given(graph, value, values)?.clone()),
        };
        let result = match rounding {
            Rounding::Low => result,
            Rounding::All => result.mapv_into(|number| node.value_type.dtype.rounded(number)),
        };
        evaluation.results.insert(value, result);
    }
    let outputs = graph.outputs().iter();
    Ok(outputs
        .map(|(name, value)| (name.clone(), evaluation.take(*value)))
        .collect())
}

/// What a constant holds, or what an operator makes of its operands; `None` of an input or a weight.
pub(crate) fn computed(
    node: &Node,
    operand: impl FnMut(Value) -> ArrayD<f64>,
) -> Option<ArrayD<f64>> {
    let array = match &node.source {
        Source::Input | Source::Weight => return None,
        Source::Constant(tensor) => to_array(tensor),
        Source::Operator { op, inputs } => {
            let operands: Vec<_> = inputs.iter().copied().map(operand).collect();
            op.evaluate(&operands)
        }
    };
    Some(held(node, array))
}

/// The numbers as a low type holds them; those of other types stay as they are.
fn held(node: &Node, array: ArrayD<f64>) -> ArrayD<f64> {
    let dtype = node.value_type.dtype;
    match dtype.is_low() {
        true => array.mapv_into(|number| dtype.rounded(number)),
        false => array,
    }
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

/// The results that are still to be used.
struct Evaluation<'a> {
    graph: &'a Graph,
    /// Per value: how often it has still to be taken.
    uses: Vec<usize>,
    results: BTreeMap<Value, ArrayD<f64>>,
}

impl Evaluation<'_> {
    /// An operand or output; who takes it last gets it without a copy.
    fn take(&mut self, value: Value) -> ArrayD<f64> {
        let node = self.graph.node(value);
        if let Source::Constant(tensor) = &node.source {
            return held(node, to_array(tensor));
        }
        self.uses[value.0] -= 1;
        let result = match self.uses[value.0] {
            0 => self.results.remove(&value),
            _ => self.results.get(&value).cloned(),
        };
        result.expect("operands come before those that use them")
    }
}

fn given<'a>(
    graph: &Graph,
    value: Value,
    values: &'a BTreeMap<String, ArrayD<f64>>,
) -> Result<&'a ArrayD<f64>> {
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

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::graph::op::{Binary, Cast};
    use crate::graph::{DType, Shape};

    /// `y = third · cast(x)` and `z = cast(y)` to f32, in a low type; `third` is a constant of it.
    fn graph(dtype: DType) -> Graph {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[])).unwrap();
        let low = graph.apply("low", Cast { to: dtype }, &[x]).unwrap();
        let third = graph.constant_of_type("third", Tensor::scalar(1.0 / 3.0), dtype);
        let y = graph.apply("y", Binary::Mul, &[low, third]).unwrap();
        let z = graph.apply("z", Cast::F32, &[y]).unwrap();
        graph.set_output("z", z);
        graph
    }

    fn evaluated(graph: &Graph, x: f64, rounding: Rounding) -> f64 {
        let values = BTreeMap::from([("x".to_string(), array![x].into_dyn())]);
        evaluate_rounded(graph, &values, rounding).unwrap()["z"][[0]]
    }

    /// bf16 has steps of 2⁻⁷ above 1 and of 2⁻⁹ above ¼, f16 of 2⁻¹⁰ and 2⁻¹²: a third is 171/2⁹ or 1365/2¹².
    #[test]
    fn results_and_constants_of_low_types_are_rounded() {
        let x: f64 = 1.1;
        for (dtype, x_steps, third) in [
            (DType::BF16, 128.0, 171.0 / 512.0),
            (DType::F16, 1024.0, 1365.0 / 4096.0),
        ] {
            let low = (x * x_steps).round() / x_steps;
            let wanted = dtype.rounded(low * third);
            assert_eq!(
                evaluated(&graph(dtype), x, Rounding::Low),
                wanted,
                "{dtype:?}"
            );
        }
    }

    #[test]
    fn f32_is_rounded_on_demand_only() {
        let (x, third) = (f64::from(1.1f32), f64::from(1.0f32 / 3.0));
        assert_eq!(evaluated(&graph(DType::F32), x, Rounding::Low), x * third);
        let single = f64::from(1.1f32 * (1.0f32 / 3.0));
        assert_eq!(evaluated(&graph(DType::F32), x, Rounding::All), single);
        assert_ne!(single, x * third);
    }
}
