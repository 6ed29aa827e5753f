//! What depends on no input is computed once, when the weights are known.
//!
//! The f64 interpreter computes each value, which is then rounded to f32. Most of them are moved or scaled weights, for which that is exact or
//! rounds once: f64 holds the product of two f32 values exactly, and their sum to more than twice the digits of f32.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::graph::reference::{computed, to_array, to_tensor};
use crate::graph::tensor::{Tensor, Tensors};
use crate::graph::weights::checked_weight;
use crate::graph::{DType, Graph, Shape, Value};

/// What a fixed value may cost for every element of the weights and constants of its graph.
const COST_PER_STORED: Cost = Cost {
    elements: 4,
    multiplications: 1024,
};
/// What all fixed values together may cost beyond that.
const COST_BEYOND: Cost = Cost {
    elements: 1 << 25,
    multiplications: 1 << 27,
};

/// What it takes to compute something.
#[derive(Clone, Copy)]
struct Cost {
    elements: usize,
    multiplications: usize,
}

/// Refuses a graph whose fixed values are out of proportion to what it stores: a few bytes can ask for more than a machine has.
///
/// # Errors
/// The node with which it is too much.
pub(crate) fn check_cost(graph: &Graph) -> Result<()> {
    let is_dynamic = graph.is_dynamic();
    let size = |value: Value| graph.shape(value).elements_per_image();
    let is_stored = |value: &Value| graph.operator(*value).is_none() && !is_dynamic[value.0];
    let n_stored: usize = graph.values().filter(is_stored).map(size).sum();
    let mut left = COST_BEYOND;
    for value in graph.values().filter(|value| !is_dynamic[value.0]) {
        let Some((op, inputs)) = graph.operator(value) else {
            continue;
        };
        let shapes: Vec<&Shape> = inputs.iter().map(|&input| graph.shape(input)).collect();
        let multiplications = op.multiplications(&shapes, graph.shape(value));
        let after = |left: usize, cost: usize, per_stored: usize| {
            left.checked_sub(cost.saturating_sub(n_stored.saturating_mul(per_stored)))
        };
        let elements = after(left.elements, size(value), COST_PER_STORED.elements);
        let multiplications = after(
            left.multiplications,
            multiplications,
            COST_PER_STORED.multiplications,
        );
        let (Some(elements), Some(multiplications)) = (elements, multiplications) else {
            let shape = graph.shape(value);
            let problem = format!(
                "its result {shape} depends on no input, but is too large to be computed when the weights are bound, of which there are {n_stored} numbers"
            );
            return Err(Error::operator(&graph.node(value).name, op.name(), problem));
        };
        left = Cost {
            elements,
            multiplications,
        };
    }
    Ok(())
}

/// Computes a graph's fixed values one after the other, and keeps each no longer than another one needs it.
pub(crate) struct Folding<'a> {
    graph: &'a Graph,
    is_dynamic: Vec<bool>,
    /// Per value: how many fixed operators have still to use it.
    pending: Vec<usize>,
    /// Per value: does an operator that stays in the graph, or an output, use it?
    is_kept: Vec<bool>,
    results: BTreeMap<Value, Tensor>,
}

impl<'a> Folding<'a> {
    pub(crate) fn new(graph: &'a Graph) -> Folding<'a> {
        let is_dynamic = graph.is_dynamic();
        let mut pending = vec![0; is_dynamic.len()];
        let mut is_kept = vec![false; is_dynamic.len()];
        for value in graph.values() {
            let Some((_, inputs)) = graph.operator(value) else {
                continue;
            };
            let stays = is_dynamic[value.0] || !is_single(graph, value);
            for input in inputs {
                is_kept[input.0] |= stays;
                pending[input.0] += usize::from(!is_dynamic[value.0]);
            }
        }
        for (_, value) in graph.outputs() {
            is_kept[value.0] = true;
        }
        Folding {
            graph,
            is_dynamic,
            pending,
            is_kept,
            results: BTreeMap::new(),
        }
    }

    /// Does the value depend on no input?
    pub(crate) fn is_fixed(&self, value: Value) -> bool {
        !self.is_dynamic[value.0]
    }

    /// What stands for a fixed value in the graph: its elements if something that stays uses them. `None` leaves the node
    /// as it is. Values have to come in the order of the graph.
    ///
    /// # Errors
    /// A weight is missing, has another shape, or holds a value that is not finite.
    pub(crate) fn constant(&mut self, value: Value, weights: &Tensors) -> Result<Option<Tensor>> {
        let node = self.graph.node(value);
        let tensor = match computed(node, |operand| to_array(&self.take(operand))) {
            Some(array) => to_tensor(&array),
            None => checked_weight(node, weights)?.clone(),
        };
        if self.pending[value.0] > 0 {
            self.results.insert(value, tensor.clone());
        }
        let constant = match self.is_kept[value.0] {
            true => tensor,
            false => stand_in(),
        };
        Ok(is_single(self.graph, value).then_some(constant))
    }

    /// An operand. It is dropped if no other fixed value needs it.
    fn take(&mut self, operand: Value) -> Tensor {
        self.pending[operand.0] -= 1;
        let result = match self.pending[operand.0] {
            0 => self.results.remove(&operand),
            _ => self.results.get(&operand).cloned(),
        };
        result.expect("operands come before those that use them")
    }
}

/// What nothing needs any more is dropped from the graph at the end; until then it takes no room.
fn stand_in() -> Tensor {
    Tensor::scalar(0.0)
}

/// Constants are f32: an operator whose result is of another type stays.
fn is_single(graph: &Graph, value: Value) -> bool {
    graph.value_type(value).dtype == DType::F32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::op::{Expand, MatMul};

    /// One number becomes many, or many products.
    #[test]
    fn what_is_out_of_proportion_is_refused_before_it_is_computed() {
        let expanded = |extent: usize| {
            let mut graph = Graph::new();
            let one = graph.scalar("one", 1.0);
            let shape = Shape::fixed(&[extent]);
            let many = graph.apply("many", Expand { shape }, &[one]).unwrap();
            graph.set_output("many", many);
            graph
        };
        check_cost(&expanded(1 << 25)).unwrap();
        let error = check_cost(&expanded(1 << 26)).unwrap_err().to_string();
        assert!(
            error.starts_with("node \"many\" (Expand): its result [67108864]"),
            "{error}"
        );
        let squared = |extent: usize| {
            let mut graph = Graph::new();
            let weight = graph.weight("w", &[extent]).unwrap();
            let shape = Shape::fixed(&[extent, extent]);
            let wide = graph.apply("wide", Expand { shape }, &[weight]).unwrap();
            let square = graph.apply("square", MatMul, &[wide, wide]).unwrap();
            graph.set_output("square", square);
            graph
        };
        check_cost(&squared(512)).unwrap();
        let error = check_cost(&squared(1024)).unwrap_err().to_string();
        assert!(error.starts_with("node \"square\" (MatMul)"), "{error}");
    }
}
