//! Decisions that are made while reading: of the branches of an `If` the one that its condition names.
//!
//! ONNX operators: `If`; see [the specification](https://onnx.ai/onnx/operators/).

use super::known::Number;
use super::names::captured;
use super::node::{Node, Operand, Outputs, Rule};
use super::reader::{Reader, Values};
use super::tensor::Decoded;
use crate::error::{Error, Result};
use crate::graph::DType;
use crate::source::onnx::proto::GraphProto;

pub(super) const RULES: &[(&str, Rule)] = &[("If", if_rule)];

fn if_rule(node: &mut Node<'_, '_>) -> Outputs {
    let [chosen, other] = match condition(node)? {
        true => ["then_branch", "else_branch"],
        false => ["else_branch", "then_branch"],
    };
    node.ignore(other);
    let branch = node.graph_attribute(chosen)?;
    let outputs = node.reader.branch(branch, node.outer);
    outputs.map_err(|error| error.to_string())
}

/// What is known of the condition: it depends on no input.
fn condition(node: &mut Node<'_, '_>) -> Result<bool, String> {
    const ADVICE: &str =
        "its condition depends on the model's input; export the model with its decisions made";
    let numbers: Vec<bool> = match node.operand(0)?.clone() {
        Operand::Known(known) => {
            let numbers = known.elements.iter();
            numbers.map(|&number| number != Number::Fixed(0)).collect()
        }
        Operand::Value(value) if node.dtype(value) == DType::Bool => {
            let numbers = node.as_numbers(value)?;
            let numbers = node.constant_of(numbers)?.ok_or(ADVICE)?;
            numbers.data().iter().map(|&number| number != 0.0).collect()
        }
        _ => return Err(ADVICE.to_string()),
    };
    match numbers.as_slice() {
        [holds] => Ok(*holds),
        numbers => Err(format!("expected one condition, got {}", numbers.len())),
    }
}

impl Reader {
    /// The outputs of a graph that uses names of another one.
    pub(super) fn branch(&mut self, graph: &GraphProto, outer: &Values) -> Result<Vec<Operand>> {
        let mut values = Values::new();
        let used = graph.node.iter().flat_map(|node| {
            let inputs = node.input.iter().map(String::as_str);
            inputs.chain(captured(node))
        });
        let outputs: Vec<&str> = graph.output.iter().map(|output| output.name()).collect();
        for name in used.chain(outputs.iter().copied()) {
            if let Some(operand) = outer.get(name) {
                values.insert(name.to_string(), operand.clone());
            }
        }
        for proto in &graph.initializer {
            let name = proto.name().to_string();
            let decoded = Decoded::take(&mut proto.clone(), self.folder.as_deref());
            let operand = match decoded.map_err(|problem| Error::Weight {
                name: name.clone(),
                problem,
            })? {
                Decoded::Known(known) => Operand::Known(known),
                Decoded::Floats(tensor) => Operand::Value(self.graph.constant(&name, tensor)),
            };
            values.insert(name, operand);
        }
        for node in &graph.node {
            self.add_node(node, &mut values)?;
        }
        let output = |name: &&str| {
            values.get(*name).cloned().ok_or_else(|| {
                Error::Onnx(format!("output {name:?} of a branch is made by no node"))
            })
        };
        outputs.iter().map(output).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::source::onnx::testing::Attribute::Graph;
    use crate::source::onnx::testing::Model;

    #[test]
    fn what_the_input_decides_is_refused() {
        let body = || {
            let mut body = Model::new().node("Neg", "x", "out", &[]).output("out");
            Graph(Box::new(body.graph().clone()))
        };
        let model = Model::new()
            .input("x", &[-1])
            .floats("zero", &[], &[0.0])
            .node("Greater", "x zero", "holds", &[])
            .node(
                "If",
                "holds",
                "y",
                &[("then_branch", body()), ("else_branch", body())],
            )
            .output("y");
        let problem = model.problem();
        assert!(
            problem.contains("its condition depends on the model's input"),
            "{problem}"
        );
    }

    /// The branch that is not taken may hold what is not supported.
    #[test]
    fn only_the_branch_that_is_taken_is_read() {
        let body = |op_type: &str| {
            let mut body = Model::new().node(op_type, "x", "out", &[]).output("out");
            Graph(Box::new(body.graph().clone()))
        };
        let model = |taken: &str, other: &str| {
            Model::new()
                .input("x", &[-1, 3])
                .ints("three", &[3])
                .ints("one", &[1])
                .node("Shape", "x", "shape", &[])
                .node("Gather", "shape one", "extent", &[])
                .node("Equal", "extent three", "holds", &[])
                .node(
                    "If",
                    "holds",
                    "y",
                    &[("then_branch", body(taken)), ("else_branch", body(other))],
                )
                .output("y")
        };
        model("Sin", "Poem").check_derivatives(1);
        let problem = model("Poem", "Sin").problem();
        assert!(problem.contains("(Poem): it is not supported"), "{problem}");
    }
}
