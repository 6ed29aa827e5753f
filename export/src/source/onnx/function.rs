//! Functions that a model defines itself, put in place of the nodes that call them.

use std::collections::{BTreeMap, BTreeSet};

use super::names::node_name;
use crate::error::{Error, Result};
use crate::source::onnx::proto::{AttributeProto, FunctionProto, GraphProto, NodeProto};

/// Most functions within functions.
const MAX_DEPTH: usize = 64;
/// Most nodes that functions become: calls of calls multiply.
const MAX_NODES: usize = 1 << 16;

/// The nodes of a graph without calls. What a function makes inside is called after the node that calls it, by a name that nothing else has.
pub(crate) fn inlined(
    nodes: Vec<NodeProto>,
    graph: &GraphProto,
    functions: &[FunctionProto],
) -> Result<Vec<NodeProto>> {
    if functions.is_empty() {
        return Ok(nodes);
    }
    let mut names = Names::of(&nodes, graph);
    let by_name: BTreeMap<_, &FunctionProto> = functions
        .iter()
        .map(|function| {
            (
                (function.domain(), function.name(), function.overload()),
                function,
            )
        })
        .collect();
    let mut open: Vec<(NodeProto, usize)> = nodes.into_iter().map(|node| (node, 0)).rev().collect();
    let mut flat = Vec::new();
    while let Some((node, depth)) = open.pop() {
        let Some(function) = by_name.get(&(node.domain(), node.op_type(), node.overload())) else {
            flat.push(node);
            continue;
        };
        if depth == MAX_DEPTH || open.len() + flat.len() + function.node.len() > MAX_NODES {
            return Err(Error::Onnx(format!(
                "node {:?} calls function {:?}, which calls functions without end",
                node_name(&node),
                node.op_type()
            )));
        }
        let body = body(&node, function, &names.free_prefix(&node, function));
        names.take(&body);
        open.extend(body.into_iter().rev().map(|node| (node, depth + 1)));
    }
    Ok(flat)
}

/// The names of all values.
struct Names {
    taken: BTreeSet<String>,
    /// The last number that was put behind the name of a node.
    numbers: BTreeMap<String, usize>,
}

impl Names {
    fn of(nodes: &[NodeProto], graph: &GraphProto) -> Names {
        let inputs = graph.input.iter().map(|input| input.name().to_string());
        let fixed = graph.initializer.iter();
        let fixed = fixed.map(|tensor| tensor.name().to_string());
        let mut names = Names {
            taken: inputs.chain(fixed).collect(),
            numbers: BTreeMap::new(),
        };
        names.take(nodes);
        names
    }

    fn take(&mut self, nodes: &[NodeProto]) {
        let made = nodes.iter().flat_map(|node| &node.output);
        self.taken.extend(made.cloned());
    }

    /// What stands before the names of what a call makes inside: the name of its node, with a number behind it where that gives a name that is taken.
    fn free_prefix(&mut self, call: &NodeProto, function: &FunctionProto) -> String {
        let name = node_name(call);
        let numbered = |number: usize| match number {
            1 => name.clone(),
            number => format!("{name}_{number}"),
        };
        let is_taken = |number: usize| {
            let prefix = numbered(number);
            let mut inside = function.node.iter().flat_map(|node| &node.output);
            inside.any(|inner| self.taken.contains(&format!("{prefix}.{inner}")))
        };
        let mut number = self.numbers.get(&name).map_or(1, |last| last + 1);
        while is_taken(number) {
            number += 1;
        }
        let prefix = numbered(number);
        self.numbers.insert(name, number);
        prefix
    }
}

/// The nodes of a function with the attributes of a call, and the names that it gives.
fn body(call: &NodeProto, function: &FunctionProto, prefix: &str) -> Vec<NodeProto> {
    let actual = |formal: &[String], actual: &[String]| -> BTreeMap<String, String> {
        let given = actual
            .iter()
            .cloned()
            .chain(std::iter::repeat(String::new()));
        formal.iter().cloned().zip(given).collect()
    };
    let inputs = actual(&function.input, &call.input);
    let mut outputs = actual(&function.output, &call.output);
    outputs.retain(|_, name| !name.is_empty());
    let renamed = |name: &String| match (outputs.get(name), inputs.get(name)) {
        _ if name.is_empty() => String::new(),
        (_, Some(input)) => input.clone(),
        (Some(output), None) => output.clone(),
        (None, None) => format!("{prefix}.{name}"),
    };
    let inside = function.node.iter().map(|node| NodeProto {
        name: Some(format!("{prefix}.{}", node_name(node))),
        input: node.input.iter().map(renamed).collect(),
        output: node.output.iter().map(renamed).collect(),
        attribute: node
            .attribute
            .iter()
            .filter_map(|attribute| of_call(attribute, call, function))
            .collect(),
        ..node.clone()
    });
    // An output that is an input goes through.
    let passed = outputs.iter().filter_map(|(formal, output)| {
        Some(NodeProto {
            op_type: Some("Identity".to_string()),
            name: Some(format!("{prefix}.{formal}")),
            input: vec![inputs.get(formal)?.clone()],
            output: vec![output.clone()],
            ..NodeProto::default()
        })
    });
    inside.chain(passed).collect()
}

/// An attribute of a node of a function: where it refers to one of the function, that of the call or its default.
fn of_call(
    attribute: &AttributeProto,
    call: &NodeProto,
    function: &FunctionProto,
) -> Option<AttributeProto> {
    if attribute.ref_attr_name().is_empty() {
        return Some(attribute.clone());
    }
    let mut given = call.attribute.iter().chain(&function.attribute_proto);
    let value = given.find(|given| given.name() == attribute.ref_attr_name())?;
    Some(AttributeProto {
        name: attribute.name.clone(),
        ..value.clone()
    })
}

#[cfg(test)]
mod tests {
    use crate::source::onnx::proto::attribute_proto::AttributeType;
    use crate::source::onnx::testing::Attribute::Int;
    use crate::source::onnx::testing::{Model, array, random};

    use super::*;

    /// A function of those nodes, which are taken from a model.
    fn function(name: &str, input: &[&str], output: &[&str], mut body: Model) -> FunctionProto {
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        FunctionProto {
            name: Some(name.to_string()),
            domain: Some("own".to_string()),
            input: names(input),
            output: names(output),
            node: std::mem::take(&mut body.graph().node),
            ..FunctionProto::default()
        }
    }

    fn call(mut model: Model) -> Model {
        let node = model.graph().node.last_mut().unwrap();
        node.domain = Some("own".to_string());
        model
    }

    /// `(x + c) · x`, called by a function that negates it, called twice.
    #[test]
    fn calls_of_calls_are_put_in_place() {
        let inner = Model::new()
            .node("Add", "a b", "sum", &[])
            .node("Mul", "sum a", "out", &[]);
        let outer = call(Model::new().node("Inner", "v w", "u", &[])).node("Neg", "u", "out", &[]);
        let model = Model::new()
            .input("x", &[-1, 2])
            .floats("c", &[2], &[1.0, 2.0]);
        let model = call(model.node("Outer", "x c", "sum", &[]));
        let mut model = call(model.node("Outer", "sum c", "y", &[])).output("y");
        model.0.functions = vec![
            function("Inner", &["a", "b"], &["out"], inner),
            function("Outer", &["v", "w"], &["out"], outer),
        ];
        let x = random(&[2, 2], 1);
        let c = array(&[2], &[1.0, 2.0]);
        let once = -(&x + &c) * &x;
        let wanted = -(&once + &c) * &once;
        assert!(
            (model.evaluate(&x) - wanted)
                .iter()
                .all(|error| error.abs() < 1e-12)
        );
        model.check_derivatives(2);
    }

    #[test]
    fn attributes_are_those_of_the_call_or_their_defaults() {
        for (axis, wanted) in [(Some(2), "[N·2, 3]"), (None, "[N, 6]")] {
            let mut flatten = Model::new().node("Flatten", "a", "out", &[("axis", Int(0))]);
            let attribute = &mut flatten.graph().node[0].attribute[0];
            attribute.i = None;
            attribute.ref_attr_name = Some("from".to_string());
            let mut flatten = function("Flat", &["a"], &["out"], flatten);
            flatten.attribute_proto = vec![AttributeProto {
                name: Some("from".to_string()),
                r#type: Some(AttributeType::Int as i32),
                i: Some(1),
                ..AttributeProto::default()
            }];
            let given: Vec<_> = axis.map(|axis| ("from", Int(axis))).into_iter().collect();
            let model = Model::new().input("x", &[-1, 2, 3]);
            let mut model = call(model.node("Flat", "x", "y", &given)).output("y");
            model.0.functions = vec![flatten];
            let foreign = model.read();
            let y = foreign.graph.output("y").unwrap();
            assert_eq!(foreign.graph.shape(y).to_string(), wanted);
        }
    }

    #[test]
    fn an_output_may_be_an_input_and_an_input_be_missing() {
        let through =
            Model::new()
                .node("Clip", "a b", "clipped", &[])
                .node("Neg", "clipped", "out", &[]);
        let model = Model::new().input("x", &[-1, 2]);
        let model = call(model.node("Through", "x", "n z", &[]));
        let mut model = model.node("Add", "n z", "y", &[]).output("y");
        model.0.functions = vec![function("Through", &["a", "b"], &["out", "a"], through)];
        let x = random(&[2, 2], 1);
        assert_eq!(model.evaluate(&x), &x * 0.0);
    }

    /// A value is called as what a call makes inside, before it and behind it; and two nodes have one name.
    #[test]
    fn names_inside_make_room_for_those_outside() {
        let doubled = || {
            let inside = Model::new().node("Add", "a a", "t", &[]);
            let inside = inside.node("Identity", "t", "out", &[]);
            function("Twice", &["a"], &["out"], inside)
        };
        for [first, second, third] in [
            ["p", "p.t", "y"],
            ["p.t", "p", "y"],
            ["p", "q", "y"],
            ["p.t", "p_2.t", "y"],
        ] {
            let model = Model::new().input("x", &[-1, 2]);
            let model = call(model.node("Twice", "x", first, &[]));
            let model = call(model.node("Twice", first, second, &[]));
            let mut model = call(model.node("Twice", second, third, &[])).output("y");
            let nodes = &mut model.graph().node;
            nodes
                .iter_mut()
                .for_each(|node| node.name = Some("p".to_string()));
            model.0.functions = vec![doubled()];
            let x = random(&[2, 2], 1);
            assert_eq!(model.evaluate(&x), &x * 8.0, "{first}, {second}");
        }
    }

    #[test]
    fn refuses_functions_that_call_themselves() {
        let again = call(Model::new().node("Again", "a", "out", &[]));
        let mut model = call(
            Model::new()
                .input("x", &[-1, 2])
                .node("Again", "x", "y", &[]),
        )
        .output("y");
        model.0.functions = vec![function("Again", &["a"], &["out"], again)];
        assert!(
            model.problem().contains("calls functions without end"),
            "{}",
            model.problem()
        );
    }
}
