//! Values that depend on no input, computed while reading where a rule asks for them.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::ArrayD;

use super::known::check_count;
use super::result::Result;
use crate::graph::reference::{computed, to_array, to_tensor};
use crate::graph::tensor::{Tensor, Tensors};
use crate::graph::{Graph, Shape, Source, Value};

/// Most multiplications of one operator that is computed while reading.
const MAX_MULTIPLICATIONS: usize = 1 << 24;

/// Which values of a growing graph depend on an input, and those computed so far.
#[derive(Default)]
pub(super) struct Constants {
    dynamic: Vec<bool>,
    computed: BTreeMap<Value, ArrayD<f64>>,
}

impl Constants {
    /// The value as numbers. `Ok(None)` where it depends on an input.
    pub fn value(
        &mut self,
        graph: &Graph,
        weights: &Tensors,
        value: Value,
    ) -> Result<Option<Tensor>> {
        if self.is_dynamic(graph, value) {
            return Ok(None);
        }
        for ancestor in self.missing(graph, value) {
            let array = self.compute(graph, weights, ancestor)?;
            self.computed.insert(ancestor, array);
        }
        Ok(self.computed.get(&value).map(to_tensor))
    }

    /// Does it depend on an input?
    pub fn is_dynamic(&mut self, graph: &Graph, value: Value) -> bool {
        for value in graph.values().skip(self.dynamic.len()) {
            let dynamic = match &graph.node(value).source {
                Source::Input => true,
                Source::Operator { inputs, .. } => inputs.iter().any(|input| self.dynamic[input.0]),
                Source::Weight | Source::Constant(_) => false,
            };
            self.dynamic.push(dynamic);
        }
        self.dynamic[value.0]
    }

    /// What has to be computed for it, in order.
    fn missing(&self, graph: &Graph, value: Value) -> BTreeSet<Value> {
        let mut missing = BTreeSet::new();
        let mut open = vec![value];
        while let Some(value) = open.pop() {
            if self.computed.contains_key(&value) || !missing.insert(value) {
                continue;
            }
            if let Some((_, inputs)) = graph.operator(value) {
                open.extend(inputs);
            }
        }
        missing
    }

    fn compute(&self, graph: &Graph, weights: &Tensors, value: Value) -> Result<ArrayD<f64>> {
        let node = graph.node(value);
        check_count(&node.value_type.shape.concrete(1))?;
        if let Some((op, inputs)) = graph.operator(value) {
            let shapes: Vec<&Shape> = inputs.iter().map(|&input| graph.shape(input)).collect();
            if op.multiplications(&shapes, graph.shape(value)) > MAX_MULTIPLICATIONS {
                return Err("too large to be computed while reading".to_string());
            }
        }
        computed(node, |operand| self.computed[&operand].clone())
            .or_else(|| weights.get(&node.name).map(to_array))
            .ok_or_else(|| format!("{:?} has no value", node.name))
    }
}
