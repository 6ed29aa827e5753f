//! The model as a file states it: decoded, checked, its nodes in an order in which they can be computed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use prost::Message;

use super::RULES;
use crate::error::Error;
use crate::onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, ValueInfoProto};

/// The oldest version of ONNX's operators that is read.
const OLDEST_OPSET: i64 = 11;
/// The newest version of ONNX's operators that is read.
const NEWEST_OPSET: i64 = 25;

/// A model whose graph can be read.
pub(super) struct Model {
    /// Everything but the graph.
    pub header: ModelProto,
    /// Its graph, the nodes in the file's order.
    pub graph: GraphProto,
    /// Version of the default domain's operators.
    pub opset: i64,
}

impl Model {
    /// Decodes a model.
    pub fn decode(bytes: &[u8]) -> Result<Model, Error> {
        let mut header = ModelProto::decode(bytes).map_err(|error| {
            Error::Onnx(format!(
                "this is not a whole ONNX model ({error}); it may be cut off or of another format"
            ))
        })?;
        let graph = header
            .graph
            .take()
            .ok_or_else(|| Error::Onnx("this is not an ONNX model: it has no graph".to_string()))?;
        let opset = opset(&header)?;
        let model = Model {
            header,
            graph,
            opset,
        };
        model.check_names()?;
        Ok(model)
    }

    /// Every value has one maker.
    fn check_names(&self) -> Result<(), Error> {
        let mut made = BTreeSet::new();
        let initializers = self.graph.initializer.iter().map(|tensor| tensor.name());
        let outputs = self.graph.node.iter().flat_map(|node| &node.output);
        let outputs = outputs.map(String::as_str).filter(|name| !name.is_empty());
        for name in initializers.chain(outputs) {
            if !made.insert(name) {
                return Err(twice(name));
            }
        }
        let mut inputs = BTreeSet::new();
        let of_nodes: BTreeSet<&str> = self
            .graph
            .node
            .iter()
            .flat_map(|node| node.output.iter().map(String::as_str))
            .collect();
        for name in self.graph.input.iter().map(ValueInfoProto::name) {
            if !inputs.insert(name) || of_nodes.contains(name) {
                return Err(twice(name));
            }
        }
        Ok(())
    }

    /// The inputs that have no value in the file.
    pub fn inputs(&self) -> Vec<&ValueInfoProto> {
        let valued: BTreeSet<&str> = self
            .graph
            .initializer
            .iter()
            .map(|tensor| tensor.name())
            .collect();
        let inputs = self.graph.input.iter();
        inputs
            .filter(|input| !valued.contains(input.name()))
            .collect()
    }

    /// Name of the output that is meant: the one that is asked for, the only one, or `energy`.
    pub fn output(&self, asked: Option<&str>) -> Result<String, Error> {
        let names: Vec<&str> = self.graph.output.iter().map(ValueInfoProto::name).collect();
        let found = match (asked, names.as_slice()) {
            (Some(asked), names) => names.contains(&asked).then_some(asked),
            (None, [only]) => Some(*only),
            (None, names) => names.contains(&"energy").then_some("energy"),
        };
        match (found, asked) {
            (Some(name), _) => Ok(name.to_string()),
            (None, Some(asked)) => Err(Error::UnknownValue {
                kind: "output",
                name: asked.to_string(),
                existing: names.iter().map(|name| name.to_string()).collect(),
            }),
            (None, None) => Err(Error::Onnx(format!(
                "the model has the outputs {names:?}; say which one is the energy with --output"
            ))),
        }
    }

    /// The nodes that an output needs, in an order in which they can be computed: the file's, where that is one.
    pub fn needed(&self, output: &str) -> Result<Vec<usize>, Error> {
        let makers: BTreeMap<&str, usize> = self
            .graph
            .node
            .iter()
            .enumerate()
            .flat_map(|(index, node)| node.output.iter().map(move |name| (name.as_str(), index)))
            .collect();
        let sources = |index: usize| {
            let inputs = self.graph.node[index].input.iter();
            inputs.filter_map(|name| makers.get(name.as_str()).copied())
        };
        let mut needed = BTreeSet::new();
        let mut open: Vec<usize> = makers.get(output).copied().into_iter().collect();
        while let Some(index) = open.pop() {
            if needed.insert(index) {
                open.extend(sources(index));
            }
        }
        let mut waiting: BTreeMap<usize, usize> = needed
            .iter()
            .map(|&index| (index, sources(index).count()))
            .collect();
        let mut users: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for &index in &needed {
            sources(index).for_each(|source| users.entry(source).or_default().push(index));
        }
        let free = waiting.iter().filter(|(_, count)| **count == 0);
        let mut ready: BinaryHeap<Reverse<usize>> =
            free.map(|(&index, _)| Reverse(index)).collect();
        let mut order = Vec::new();
        while let Some(Reverse(index)) = ready.pop() {
            order.push(index);
            for user in users.get(&index).into_iter().flatten() {
                if let Some(count) = waiting.get_mut(user) {
                    *count -= 1;
                    if *count == 0 {
                        ready.push(Reverse(*user));
                    }
                }
            }
        }
        if order.len() == needed.len() {
            return Ok(order);
        }
        let stuck = waiting.iter().filter(|(_, count)| **count > 0);
        let names: Vec<String> = stuck
            .map(|(&index, _)| node_name(&self.graph.node[index]))
            .collect();
        Err(Error::Onnx(format!(
            "the model has a cycle; nodes that wait for each other or for those: {}",
            listed(&names)
        )))
    }

    /// Refuses the nodes that no rule reads, all of them at once.
    pub fn check_operators(&self, needed: &[usize]) -> Result<(), Error> {
        let missing: Vec<String> = needed
            .iter()
            .map(|&index| &self.graph.node[index])
            .filter(|node| !is_default_domain(node.domain()) || rule(node.op_type()).is_none())
            .map(|node| match node.domain() {
                domain if is_default_domain(domain) => {
                    format!("{} ({})", node_name(node), node.op_type())
                }
                domain => format!("{} ({domain}.{})", node_name(node), node.op_type()),
            })
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let control_flow = needed
            .iter()
            .flat_map(|&index| &self.graph.node[index].attribute)
            .any(|attribute: &AttributeProto| {
                attribute.g.is_some() || !attribute.graphs.is_empty()
            });
        let advice = match control_flow {
            true => {
                "; control flow is not supported: export the model with what it decides on fixed"
            }
            false => "",
        };
        Err(Error::Onnx(format!(
            "the model has {} nodes of operators that are not supported: {}{advice}",
            missing.len(),
            missing.join(", ")
        )))
    }
}

fn twice(name: &str) -> Error {
    Error::DuplicateName {
        name: name.to_string(),
    }
}

/// At most ten of the names.
fn listed(names: &[String]) -> String {
    let shown = names[..names.len().min(10)].join(", ");
    match names.len() {
        0..=10 => shown,
        count => format!("{shown} and {} more", count - 10),
    }
}

/// The rule of an operator of the default domain.
pub(super) fn rule(op_type: &str) -> Option<super::node::Rule> {
    RULES
        .iter()
        .flat_map(|family| family.iter())
        .find(|(name, _)| *name == op_type)
        .map(|(_, rule)| *rule)
}

/// What a node is called: its name, or that of its first output.
pub(super) fn node_name(node: &NodeProto) -> String {
    match (node.name(), node.output.first()) {
        ("", Some(output)) => output.clone(),
        (name, _) => name.to_string(),
    }
}

fn is_default_domain(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

fn opset(header: &ModelProto) -> Result<i64, Error> {
    let default = header
        .opset_import
        .iter()
        .find(|import| is_default_domain(import.domain()));
    match default.map(|import| import.version()) {
        Some(version @ OLDEST_OPSET..=NEWEST_OPSET) => Ok(version),
        Some(version) => Err(Error::Onnx(format!(
            "the model is of opset {version}, expected one from {OLDEST_OPSET} to {NEWEST_OPSET}; export or convert it to one of these"
        ))),
        None => Err(Error::Onnx(
            "the model does not say which opset of the default domain its operators are of"
                .to_string(),
        )),
    }
}
