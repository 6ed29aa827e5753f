//! The model as a file states it: decoded, checked, its nodes in an order in which they can be computed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::path::{Path, PathBuf};

use prost::Message;

use super::function::inlined;
use super::names::{captured, node_name};
use super::rule;
use super::tensor;
use crate::error::{Choice, Error, Result};
use crate::source::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};

/// The oldest version of ONNX's operators that is read.
const OLDEST_OPSET: i64 = 9;
/// The newest version of ONNX's operators that is read.
const NEWEST_OPSET: i64 = 28;
/// Values within a model that are named where one of another name was asked for.
const MAX_WITHIN: usize = 20;
/// Most characters of the reason why a file cannot be decoded, which may name every level of a deep one.
const MAX_REASON: usize = 200;

/// A model whose graph can be read.
pub(super) struct Model {
    /// Everything but the graph.
    pub header: ModelProto,
    /// Its graph, the nodes in the file's order; what is an initialiser is not an input.
    pub graph: GraphProto,
    /// Version of the default domain's operators.
    pub opset: i64,
}

impl Model {
    /// Decodes a model.
    pub fn decode(bytes: &[u8]) -> Result<Model> {
        let mut header = ModelProto::decode(bytes).map_err(|error| {
            let reason: String = error.to_string().chars().take(MAX_REASON).collect();
            Error::Onnx(format!(
                "this is not a whole ONNX model ({reason}); it may be cut off or of another format"
            ))
        })?;
        let mut graph = header
            .graph
            .take()
            .ok_or_else(|| Error::Onnx("this is not an ONNX model: it has no graph".to_string()))?;
        let nodes = std::mem::take(&mut graph.node);
        graph.node = inlined(nodes, &graph, &header.functions)?;
        let opset = opset(&header)?;
        let mut model = Model {
            header,
            graph,
            opset,
        };
        model.check_names()?;
        let initializers = model.graph.initializer.iter();
        let names: BTreeSet<&str> = initializers.map(TensorProto::name).collect();
        let inputs = &mut model.graph.input;
        inputs.retain(|input| !names.contains(input.name()));
        Ok(model)
    }

    /// The files that hold elements of its tensors.
    pub fn external_files(&self, folder: Option<&Path>) -> BTreeSet<PathBuf> {
        let attributes = self.graph.node.iter().flat_map(|node| &node.attribute);
        let tensors = attributes.filter_map(|attribute| attribute.t.as_ref());
        let tensors = tensors.chain(&self.graph.initializer);
        let locations = tensors.filter_map(|tensor| tensor::entry(tensor, "location"));
        let files = locations.map(|location| tensor::beside(location, folder));
        files.flatten().collect()
    }

    /// Every value has one maker.
    fn check_names(&self) -> Result<()> {
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
        let mut outputs = BTreeSet::new();
        let mut names = self.graph.output.iter().map(ValueInfoProto::name);
        match names.find(|name| !outputs.insert(*name)) {
            Some(name) => Err(twice(name)),
            None => Ok(()),
        }
    }

    /// Name of the output that is meant: the one that is asked for, which may be any value that a node makes; the only one, or `energy`.
    pub fn output(&self, asked: Option<&str>) -> Result<String> {
        let names: Vec<&str> = self.graph.output.iter().map(ValueInfoProto::name).collect();
        if names.is_empty() {
            return Err(Error::Onnx("the model has no output".to_string()));
        }
        let found = match (asked, names.as_slice()) {
            (Some(asked), names) => {
                let named = names.contains(&asked) || self.made().any(|name| name == asked);
                named.then_some(asked)
            }
            (None, [only]) => Some(*only),
            (None, names) => names.contains(&"energy").then_some("energy"),
        };
        match (found, asked) {
            (Some(name), _) => Ok(name.to_string()),
            (None, Some(asked)) => Err(Error::UnknownValue {
                kind: "output",
                name: asked.to_string(),
                existing: self.selectable(&names),
            }),
            (None, None) => Err(Error::choice(
                Choice::Output,
                format!("the model has the outputs {names:?}; say which one to take"),
            )),
        }
    }

    /// The names of what its nodes make, the last first.
    fn made(&self) -> impl Iterator<Item = &str> {
        let outputs = self.graph.node.iter().rev().flat_map(|node| &node.output);
        outputs.map(String::as_str).filter(|name| !name.is_empty())
    }

    /// Its outputs, and the last of the values within.
    fn selectable(&self, outputs: &[&str]) -> Vec<String> {
        let within = self.made().filter(|name| !outputs.contains(name));
        let names = outputs.iter().copied().chain(within.take(MAX_WITHIN));
        names.map(str::to_string).collect()
    }

    /// The nodes that outputs need, in an order in which they can be computed: the file's, where that is one.
    pub fn needed(&self, outputs: &[&str]) -> Result<Vec<usize>> {
        let makers: BTreeMap<&str, usize> = self
            .graph
            .node
            .iter()
            .enumerate()
            .flat_map(|(index, node)| node.output.iter().map(move |name| (name.as_str(), index)))
            .collect();
        let sources = |index: usize| {
            let node = &self.graph.node[index];
            let inputs = node.input.iter().map(String::as_str).chain(captured(node));
            inputs.filter_map(|name| makers.get(name).copied())
        };
        let mut needed = BTreeSet::new();
        let mut open: Vec<usize> = outputs
            .iter()
            .filter_map(|output| makers.get(output).copied())
            .collect();
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
            .map(|(&index, _)| printable(&node_name(&self.graph.node[index])))
            .collect();
        Err(Error::Onnx(format!(
            "the model has a cycle; nodes that wait for each other or for those: {}",
            listed(&names)
        )))
    }

    /// Refuses a model of which a needed node has no rule. The error lists all of the model's that have none.
    pub fn check_operators(&self, needed: &[usize]) -> Result<()> {
        let is_missing =
            |node: &&NodeProto| !is_default_domain(node.domain()) || rule(node.op_type()).is_none();
        let mut needed = needed.iter().map(|&index| &self.graph.node[index]);
        if !needed.any(|node| is_missing(&node)) {
            return Ok(());
        }
        let mut missing: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for node in self.graph.node.iter().filter(is_missing) {
            let op_type = match node.domain() {
                domain if is_default_domain(domain) => node.op_type().to_string(),
                domain => format!("{domain}.{}", node.op_type()),
            };
            missing
                .entry(printable(&op_type))
                .or_default()
                .push(printable(&node_name(node)));
        }
        let advice = advice(&missing);
        let missing: Vec<String> = missing
            .iter()
            .map(|(op_type, nodes)| format!("{op_type} ({})", nodes.join(", ")))
            .collect();
        Err(Error::Onnx(format!(
            "operators that are not supported, with their nodes: {}{advice}",
            missing.join("; ")
        )))
    }
}

/// What to do about operators that are not supported.
fn advice(missing: &BTreeMap<String, Vec<String>>) -> &'static str {
    let is_among = |names: &[&str]| missing.keys().any(|name| names.contains(&name.as_str()));
    match () {
        () if is_among(&["RNN", "LSTM", "GRU"]) => {
            "; recurrent layers are not supported, so write their steps as a loop over products and activations and export it unrolled"
        }
        () if is_among(&["Loop", "Scan"]) => {
            "; loops are not supported, so export the model with its loops unrolled"
        }
        () if is_among(&[
            "QuantizeLinear",
            "DynamicQuantizeLinear",
            "QLinearConv",
            "QLinearMatMul",
            "ConvInteger",
            "MatMulInteger",
        ]) =>
        {
            "; activations that are quantized have no derivative, so export the model before it is quantized"
        }
        () => "",
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

/// A name of the file as it can stand in an error: without line breaks and the like.
fn printable(name: &str) -> String {
    name.chars()
        .map(|character| match character.is_control() {
            true => character.escape_default().to_string(),
            false => character.to_string(),
        })
        .collect()
}

fn is_default_domain(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

fn opset(header: &ModelProto) -> Result<i64> {
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

#[cfg(test)]
mod tests {
    use crate::source::onnx::proto::OperatorSetIdProto;
    use crate::source::onnx::testing;
    use crate::source::onnx::{Selection, read};

    fn model() -> testing::Model {
        testing::Model::new().input("x", &[-1, 2])
    }

    #[test]
    fn nodes_are_read_in_any_order() {
        let model = model()
            .node("Add", "a x", "y", &[])
            .node("Neg", "b", "a", &[])
            .node("Exp", "x", "b", &[]);
        let y = model
            .output("y")
            .evaluate(&testing::array(&[1, 2], &[0.0, 1.0]));
        assert!((y[[0, 0]] + 1.0).abs() < 1e-12);
    }

    #[test]
    fn refuses_cycles_and_names_that_are_used_twice() {
        let cases = [
            (
                model()
                    .node("Add", "x b", "a", &[])
                    .node("Neg", "a", "b", &[])
                    .node("Exp", "a", "y", &[])
                    .output("y"),
                "the model has a cycle; nodes that wait for each other or for those: a, b, y",
            ),
            (
                model()
                    .node("Neg", "x", "y", &[])
                    .node("Exp", "x", "y", &[])
                    .output("y"),
                "the name \"y\" is used twice",
            ),
            (
                model().node("Neg", "x", "x", &[]).output("x"),
                "the name \"x\" is used twice",
            ),
            (
                model()
                    .floats("y", &[1], &[0.0])
                    .node("Neg", "x", "y", &[])
                    .output("y"),
                "the name \"y\" is used twice",
            ),
            (
                model()
                    .floats("w", &[1], &[0.0])
                    .floats("w", &[1], &[0.0])
                    .node("Neg", "x", "y", &[])
                    .output("y"),
                "\"w\" is used twice",
            ),
            (
                model().node("Neg", "x", "y", &[]).output("y").output("y"),
                "the name \"y\" is used twice",
            ),
            (
                model().node("Neg", "nowhere", "y", &[]).output("y"),
                "its input \"nowhere\" is made by no node",
            ),
            (
                model().node("Neg", "x", "y", &[]),
                "the model has no output",
            ),
        ];
        for (model, wanted) in cases {
            let problem = model.problem();
            assert!(problem.contains(wanted), "{problem}");
        }
    }

    #[test]
    fn an_error_is_one_line_whatever_names_hold() {
        let mut model = model().node("Poem\n1", "x", "y", &[]).output("y");
        model.graph().node[0].name = Some("a\tb".to_string());
        assert_eq!(
            model.problem(),
            "operators that are not supported, with their nodes: Poem\\n1 (a\\tb)"
        );
    }

    #[test]
    fn all_operators_that_are_missing_are_named_at_once() {
        let mut model = model()
            .node("Poem", "x", "a", &[])
            .node("Neg", "a", "b", &[])
            .node("Poem", "b", "c", &[])
            .node("Rhyme", "c", "y", &[])
            .output("y");
        model.graph().node[3].domain = Some("com.example".to_string());
        model.graph().node[3].name = Some("last".to_string());
        assert_eq!(
            model.problem(),
            "operators that are not supported, with their nodes: Poem (a, c); com.example.Rhyme (last)"
        );
        for (op_type, advice) in [
            (
                "Loop",
                "loops are not supported, so export the model with its loops unrolled",
            ),
            (
                "LSTM",
                "recurrent layers are not supported, so write their steps as a loop",
            ),
            ("GRU", "recurrent layers are not supported"),
            ("RNN", "recurrent layers are not supported"),
            ("QuantizeLinear", "export the model before it is quantized"),
        ] {
            model.graph().node[0].op_type = Some(op_type.to_string());
            let problem = model.problem();
            assert!(
                problem.contains(op_type) && problem.contains(advice),
                "{problem}"
            );
        }
    }

    #[test]
    fn refuses_what_is_no_model_or_of_an_unknown_opset() {
        let good = model().node("Neg", "x", "y", &[]).output("y");
        let problem = |bytes: &[u8]| read(bytes, &Selection::default()).unwrap_err().to_string();
        let bytes = good.bytes();
        for (bytes, wanted) in [
            (&b"text"[..], "this is not a whole ONNX model"),
            (&[][..], "it has no graph"),
            (&bytes[..bytes.len() - 3], "it may be cut off"),
        ] {
            let problem = problem(bytes);
            assert!(problem.contains(wanted), "{problem}");
        }
        for (opset, wanted) in [
            (8, "is of opset 8, expected one from 9 to"),
            (99, "is of opset 99, expected one from 9 to"),
        ] {
            let model = testing::Model::of_opset(opset).input("x", &[-1, 2]);
            let problem = model.node("Neg", "x", "y", &[]).output("y").problem();
            assert!(problem.contains(wanted), "{problem}");
        }
        let mut other = model().node("Neg", "x", "y", &[]).output("y");
        other.0.opset_import = vec![OperatorSetIdProto {
            domain: Some("com.example".to_string()),
            version: Some(1),
        }];
        assert!(
            other.problem().contains("does not say which opset"),
            "{}",
            other.problem()
        );
    }
}
