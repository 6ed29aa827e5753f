//! Graphs made of other graphs: rebuilt with replacements, cut down to a part, appended.

use std::collections::{BTreeMap, HashMap};

use super::{Graph, Node, Source, Value};
use crate::error::Result;

/// Which value of a rebuilt graph stands for which of the old one.
pub struct Mapping(HashMap<Value, Value>);

impl Mapping {
    /// The new value that stands for `old`, which must precede the node being rebuilt.
    pub fn get(&self, old: Value) -> Value {
        self.0[&old]
    }
}

impl Graph {
    /// Copies the graph node by node into a new one and drops what no output needs (inputs stay).
    ///
    /// For each operator `replace` may build something else in the new graph and give its value;
    /// `None` copies the node. The mapping it gets knows the new value of every earlier old one.
    ///
    /// # Errors
    /// What `replace` returns, and operands that do not fit.
    pub fn rebuild(
        &self,
        mut replace: impl FnMut(&mut Graph, &Mapping, Value) -> Result<Option<Value>>,
    ) -> Result<Graph> {
        let mut rebuilt = Graph::new();
        let mut mapping = Mapping(HashMap::with_capacity(self.nodes.len()));
        for value in self.values() {
            let new = match replace(&mut rebuilt, &mapping, value)? {
                Some(new) => new,
                None => rebuilt.copy(self.node(value), &mapping)?,
            };
            mapping.0.insert(value, new);
        }
        for (name, value) in &self.outputs {
            rebuilt.set_output(name, mapping.get(*value));
        }
        let inputs = rebuilt.inputs().collect();
        Ok(rebuilt.without_dead_nodes(inputs))
    }

    /// The part of the graph that one output needs, which has `input` and no other input that it does not need.
    ///
    /// # Errors
    /// There is no such input or output.
    pub fn part(&self, output: &str, input: &str) -> Result<Graph> {
        let kept = vec![self.input_named(input)?];
        let value = self.output(output)?;
        let mut part = self.clone();
        part.outputs = vec![(output.to_string(), value)];
        Ok(part.without_dead_nodes(kept))
    }

    /// The same graph with another name for an input.
    ///
    /// # Errors
    /// Another input has that name.
    pub fn with_input_named(&self, name: &str, wanted: &str) -> Result<Graph> {
        self.rebuild(|target, _, value| {
            let node = self.node(value);
            match node.source {
                Source::Input if node.name == name => target
                    .input(wanted, node.value_type.shape.clone())
                    .map(Some),
                _ => Ok(None),
            }
        })
    }

    /// Adds all nodes of another graph, `prefix` before their names, and gives the values that stand for its outputs. Nodes for which `given`
    /// names a value here are not added but stand for that value.
    ///
    /// # Errors
    /// A name of an input or weight is taken; or a given value does not fit where it is used.
    pub fn append(
        &mut self,
        other: &Graph,
        prefix: &str,
        given: &BTreeMap<String, Value>,
    ) -> Result<BTreeMap<String, Value>> {
        let mut mapping = Mapping(HashMap::with_capacity(other.nodes.len()));
        for (index, node) in other.nodes.iter().enumerate() {
            let new = match given.get(&node.name) {
                Some(&value) => value,
                None => {
                    let name = format!("{prefix}{}", node.name);
                    let node = Node {
                        name,
                        ..node.clone()
                    };
                    self.copy(&node, &mapping)?
                }
            };
            mapping.0.insert(Value(index), new);
        }
        Ok(other
            .outputs
            .iter()
            .map(|(name, value)| (name.clone(), mapping.get(*value)))
            .collect())
    }

    /// Adds a node of another graph, its operands replaced by what stands for them here.
    pub(crate) fn copy(&mut self, node: &Node, mapping: &Mapping) -> Result<Value> {
        match &node.source {
            Source::Operator { op, inputs } => {
                let inputs: Vec<Value> = inputs.iter().map(|&input| mapping.get(input)).collect();
                self.apply(&node.name, op.clone(), &inputs)
            }
            Source::Constant(tensor) => {
                let dtype = node.value_type.dtype;
                Ok(self.constant_of_type(&node.name, tensor.clone(), dtype))
            }
            Source::Input | Source::Weight => {
                self.add_named(&node.name, node.source.clone(), node.value_type.clone())
            }
        }
    }

    /// Drops what neither an output nor a value of `kept` needs.
    fn without_dead_nodes(self, kept: Vec<Value>) -> Graph {
        let mut live = vec![false; self.nodes.len()];
        let outputs = self.outputs.iter().map(|(_, value)| *value);
        outputs.chain(kept).for_each(|value| live[value.0] = true);
        for index in (0..self.nodes.len()).rev() {
            if let Source::Operator { inputs, .. } = &self.nodes[index].source
                && live[index]
            {
                inputs.iter().for_each(|input| live[input.0] = true);
            }
        }
        let mut renumbered = BTreeMap::new();
        let mut kept = Graph::new();
        for (index, mut node) in self
            .nodes
            .into_iter()
            .enumerate()
            .filter(|(index, _)| live[*index])
        {
            if let Source::Operator { inputs, .. } = &mut node.source {
                inputs
                    .iter_mut()
                    .for_each(|input| *input = renumbered[input]);
            }
            renumbered.insert(
                Value(index),
                kept.push(node.name, node.source, node.value_type),
            );
        }
        kept.outputs = self
            .outputs
            .into_iter()
            .map(|(name, value)| (name, renumbered[&value]))
            .collect();
        kept
    }
}
