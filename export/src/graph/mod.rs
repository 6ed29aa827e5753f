//! Networks as graphs of ONNX-semantics operators over named weights.
//!
//! Shapes are static except for the batch N, which is symbolic and stands on at most one axis of a value: images never mix. A
//! [`Graph`] lists its nodes in topological order: a node can only use values that exist already, so a graph has no cycles by
//! construction.

pub(crate) mod batch;
pub(crate) mod fold;
pub mod op;
mod rebuild;
pub mod reference;
pub mod tensor;
mod value_type;
pub mod weights;

use std::collections::HashSet;

pub use self::batch::Batch;
pub use self::rebuild::Mapping;
pub use self::value_type::{DType, Dim, Integer, Shape, ValueType};
use crate::error::{Error, Result};
use crate::graph::op::{Op, Operator};
use crate::graph::tensor::Tensor;

/// A handle of one value of a [`Graph`]; only meaningful for the graph that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(pub(crate) usize);

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// An input of the graph.
    Input,
    /// A named weight, given when the graph is evaluated or written.
    Weight,
    /// A constant that stands in the graph; one of a low type holds what the elements round to.
    Constant(Tensor),
    /// The result of an operator.
    Operator {
        /// What is computed.
        op: Op,
        /// The operands, in the operator's order.
        inputs: Vec<Value>,
    },
}

/// One value of a graph: its unique name, its source and its type.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Unique within the graph.
    pub name: String,
    /// Where the value comes from.
    pub source: Source,
    /// Its element type and shape.
    pub value_type: ValueType,
}

/// A network: nodes in topological order and named outputs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    nodes: Vec<Node>,
    outputs: Vec<(String, Value)>,
    names: HashSet<String>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Graph {
        Graph::default()
    }

    /// Adds an f32 input.
    ///
    /// # Errors
    /// The name is taken.
    pub fn input(&mut self, name: &str, shape: Shape) -> Result<Value> {
        self.input_of_type(name, ValueType::f32(shape))
    }

    /// Adds an input of any type.
    ///
    /// # Errors
    /// The name is taken.
    pub fn input_of_type(&mut self, name: &str, value_type: ValueType) -> Result<Value> {
        self.add_named(name, Source::Input, value_type)
    }

    /// Adds a named f32 weight.
    ///
    /// # Errors
    /// The name is taken.
    pub fn weight(&mut self, name: &str, sizes: &[usize]) -> Result<Value> {
        self.add_named(name, Source::Weight, ValueType::f32(Shape::fixed(sizes)))
    }

    /// Adds an f32 constant; if the name is taken, a number is put behind it.
    pub fn constant(&mut self, name: &str, tensor: Tensor) -> Value {
        self.constant_of_type(name, tensor, DType::F32)
    }

    /// Adds a constant of a float type: the elements are what those of the tensor round to. Where the name is taken, a number is put
    /// behind it.
    pub fn constant_of_type(&mut self, name: &str, tensor: Tensor, dtype: DType) -> Value {
        let value_type = ValueType {
            dtype,
            shape: Shape::fixed(tensor.shape()),
        };
        let name = self.free_name(name);
        self.push(name, Source::Constant(tensor), value_type)
    }

    /// Adds a scalar constant.
    pub fn scalar(&mut self, name: &str, value: f32) -> Value {
        self.constant(name, Tensor::scalar(value))
    }

    /// Adds an operator; if the name is taken, a number is put behind it.
    ///
    /// # Errors
    /// The operands do not fit the operator: the error names the node, what it expects and what it got.
    pub fn apply(&mut self, name: &str, op: impl Into<Op>, inputs: &[Value]) -> Result<Value> {
        let op = op.into();
        let types: Vec<&ValueType> = inputs.iter().map(|&input| self.value_type(input)).collect();
        let value_type = inferred(&op, &types)
            .and_then(one_batch_axis)
            .map_err(|problem| Error::operator(name, op.name(), problem))?;
        let name = self.free_name(name);
        Ok(self.push(
            name,
            Source::Operator {
                op,
                inputs: inputs.to_vec(),
            },
            value_type,
        ))
    }

    /// Names a value as an output of the graph; a second output of the same name replaces the first.
    pub fn set_output(&mut self, name: &str, value: Value) {
        self.outputs.retain(|(existing, _)| existing != name);
        self.outputs.push((name.to_string(), value));
    }

    /// Removes the output of that name, if there is one.
    pub fn remove_output(&mut self, name: &str) {
        self.outputs.retain(|(existing, _)| existing != name);
    }

    /// The outputs in the order in which they were named.
    pub fn outputs(&self) -> &[(String, Value)] {
        &self.outputs
    }

    /// The output of that name.
    ///
    /// # Errors
    /// There is none; the error lists those that exist.
    pub fn output(&self, name: &str) -> Result<Value> {
        self.outputs
            .iter()
            .find(|(existing, _)| existing == name)
            .map(|(_, value)| *value)
            .ok_or_else(|| {
                let existing = self.outputs.iter().map(|(name, _)| name.clone()).collect();
                Error::UnknownValue {
                    kind: "output",
                    name: name.to_string(),
                    existing,
                }
            })
    }

    /// The input of that name.
    ///
    /// # Errors
    /// There is none; the error lists those that exist.
    pub fn input_named(&self, name: &str) -> Result<Value> {
        self.inputs()
            .find(|&input| self.node(input).name == name)
            .ok_or_else(|| {
                let existing = self
                    .inputs()
                    .map(|input| self.node(input).name.clone())
                    .collect();
                Error::UnknownValue {
                    kind: "input",
                    name: name.to_string(),
                    existing,
                }
            })
    }

    /// The node behind a value.
    pub fn node(&self, value: Value) -> &Node {
        &self.nodes[value.0]
    }

    /// Element type and shape of a value.
    pub fn value_type(&self, value: Value) -> &ValueType {
        &self.nodes[value.0].value_type
    }

    /// Shape of a value.
    pub fn shape(&self, value: Value) -> &Shape {
        &self.nodes[value.0].value_type.shape
    }

    /// All values in topological order.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = Value> + ExactSizeIterator + use<> {
        (0..self.nodes.len()).map(Value)
    }

    /// The inputs in the order in which they were added.
    pub fn inputs(&self) -> impl Iterator<Item = Value> + '_ {
        self.values()
            .filter(|&value| self.node(value).source == Source::Input)
    }

    /// The weights in the order in which they were added.
    pub fn weights(&self) -> impl Iterator<Item = Value> + '_ {
        self.values()
            .filter(|&value| self.node(value).source == Source::Weight)
    }

    /// Operator and operands of a value that an operator made.
    pub fn operator(&self, value: Value) -> Option<(&Op, &[Value])> {
        match &self.node(value).source {
            Source::Operator { op, inputs } => Some((op, inputs)),
            _ => None,
        }
    }

    /// Per value: does it depend on `input`?
    pub fn depends_on(&self, input: Value) -> Vec<bool> {
        self.propagate(|value, _| value == input)
    }

    /// Per value: does it depend on any input? Those that do not are fixed once the weights are.
    pub fn is_dynamic(&self) -> Vec<bool> {
        self.propagate(|_, node| node.source == Source::Input)
    }

    fn propagate(&self, starts: impl Fn(Value, &Node) -> bool) -> Vec<bool> {
        let mut marked = vec![false; self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            marked[index] = starts(Value(index), node)
                || matches!(&node.source, Source::Operator { inputs, .. } if inputs.iter().any(|input| marked[input.0]));
        }
        marked
    }

    /// Per value: how many operators use it, plus one for each output that it is.
    pub fn use_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.nodes.len()];
        for node in &self.nodes {
            if let Source::Operator { inputs, .. } = &node.source {
                inputs.iter().for_each(|input| counts[input.0] += 1);
            }
        }
        self.outputs
            .iter()
            .for_each(|(_, value)| counts[value.0] += 1);
        counts
    }

    fn add_named(&mut self, name: &str, source: Source, value_type: ValueType) -> Result<Value> {
        if self.names.contains(name) {
            return Err(Error::DuplicateName {
                name: name.to_string(),
            });
        }
        Ok(self.push(name.to_string(), source, value_type))
    }

    fn push(&mut self, name: String, source: Source, value_type: ValueType) -> Value {
        self.names.insert(name.clone());
        self.nodes.push(Node {
            name,
            source,
            value_type,
        });
        Value(self.nodes.len() - 1)
    }

    fn free_name(&self, wanted: &str) -> String {
        if !self.names.contains(wanted) {
            return wanted.to_string();
        }
        let numbered = |number: usize| format!("{wanted}_{number}");
        let is_taken = |number| self.names.contains(&numbered(number));
        // Numbers are given in order, so that there is a first free one behind those that are taken, however many these are.
        let mut free = 2;
        while is_taken(free) {
            free *= 2;
        }
        let mut taken = free / 2;
        while free - taken > 1 {
            let middle = taken + (free - taken) / 2;
            match is_taken(middle) {
                true => taken = middle,
                false => free = middle,
            }
        }
        numbered(free)
    }
}

/// The type of an operator's result. Operators reckon in f32; what they make of operands of another float type has that type.
fn inferred(op: &Op, operands: &[&ValueType]) -> Result<ValueType, String> {
    if let Op::Cast(cast) = op {
        return cast.infer(operands);
    }
    let mut floats = operands
        .iter()
        .map(|operand| operand.dtype)
        .filter(|dtype| dtype.is_float());
    let float = floats.next().unwrap_or(DType::F32);
    if let Some(other) = floats.find(|&other| other != float) {
        return Err(format!(
            "operands must be of one float type, got {float:?} and {other:?}"
        ));
    }
    let as_f32: Vec<ValueType> = operands
        .iter()
        .map(|operand| match operand.dtype.is_float() {
            true => ValueType::f32(operand.shape.clone()),
            false => (*operand).clone(),
        })
        .collect();
    let mut result = op.infer(&as_f32.iter().collect::<Vec<_>>())?;
    if result.dtype == DType::F32 {
        result.dtype = float;
    }
    Ok(result)
}

/// Refuses a value with the batch on two axes, which pairs every image with every other.
fn one_batch_axis(value_type: ValueType) -> Result<ValueType, String> {
    let n_axes = value_type
        .shape
        .0
        .iter()
        .filter(|dim| dim.is_batch())
        .count();
    match n_axes {
        0 | 1 => Ok(value_type),
        _ => Err(format!(
            "the batch must stand on one axis, got {}: this mixes the images of a batch",
            value_type.shape
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_name_gets_the_next_number() {
        let mut graph = Graph::new();
        let mut names = Vec::new();
        for _ in 0..40 {
            let value = graph.scalar("one", 1.0);
            names.push(graph.node(value).name.clone());
        }
        let numbered = (2..=40).map(|number| format!("one_{number}"));
        let wanted: Vec<String> = std::iter::once("one".to_string()).chain(numbered).collect();
        assert_eq!(names, wanted);
        graph.input("two", Shape::fixed(&[])).unwrap();
        graph.input("two_2", Shape::fixed(&[])).unwrap();
        let value = graph.scalar("two", 2.0);
        assert_eq!(graph.node(value).name, "two_3");
    }
}
