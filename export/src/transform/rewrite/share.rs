//! Common subexpressions are computed once.
//!
//! Operators have no state: two nodes of the same operator with the same operands have the same value, so the second can be
//! the first. Constants of the same shape and bits are one. Walking in topological order with the operands already replaced
//! finds whole common subgraphs, such as the sigmoid that a SiLU computes forward and its derivative computes again.

use std::collections::HashMap;

use crate::error::Error;
use crate::graph::{Graph, Mapping, Node, Source, Value};

/// Larger constants are weights, which nobody writes out twice.
const COMPARED_ELEMENTS: usize = 1024;

pub(super) fn rewritten(graph: &Graph) -> Result<Graph, Error> {
    let mut seen: HashMap<String, Value> = HashMap::new();
    graph.rebuild(|target, mapping, value| {
        let node = graph.node(value);
        let Some(key) = key(node, mapping) else {
            return Ok(None);
        };
        if let Some(&same) = seen.get(&key) {
            return Ok(Some(same));
        }
        let new = target.copy(node, mapping)?;
        seen.insert(key, new);
        Ok(Some(new))
    })
}

/// What two nodes have in common exactly where they have the same value.
fn key(node: &Node, mapping: &Mapping) -> Option<String> {
    match &node.source {
        Source::Operator { op, inputs } => {
            let inputs: Vec<Value> = inputs.iter().map(|&input| mapping.get(input)).collect();
            Some(format!("{op:?} {inputs:?}"))
        }
        Source::Constant(tensor) if tensor.data().len() <= COMPARED_ELEMENTS => {
            let bits: Vec<u32> = tensor.data().iter().map(|value| value.to_bits()).collect();
            Some(format!("{:?} {bits:?}", node.value_type))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Shape;
    use crate::graph::op::{Binary, Unary};
    use crate::source::networks::{Activation, Network, Sngan};
    use crate::transform::gradient::gradient;
    use crate::transform::rewrite::Rewrite;
    use crate::transform::rewrite::testing::{check_rewrite, operators};

    #[test]
    fn computes_once_what_is_written_twice() {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[3])).unwrap();
        let mut branch = || {
            let half = graph.scalar("half", 0.5);
            let scaled = graph.apply("scaled", Binary::Mul, &[x, half]).unwrap();
            graph.apply("wave", Unary::Exp, &[scaled]).unwrap()
        };
        let (left, right) = (branch(), branch());
        let y = graph.apply("y", Binary::Sub, &[left, right]).unwrap();
        graph.set_output("y", y);
        assert_eq!(
            operators(&check_rewrite(&graph, Rewrite::Share, 1)),
            ["Mul", "Exp", "Sub"]
        );
    }

    #[test]
    fn operands_in_another_order_are_another_value() {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[3])).unwrap();
        let exp = graph.apply("exp", Unary::Exp, &[x]).unwrap();
        let left = graph.apply("left", Binary::Sub, &[x, exp]).unwrap();
        let right = graph.apply("right", Binary::Sub, &[exp, x]).unwrap();
        let y = graph.apply("y", Binary::Mul, &[left, right]).unwrap();
        graph.set_output("y", y);
        assert_eq!(
            operators(&check_rewrite(&graph, Rewrite::Share, 2)),
            ["Exp", "Sub", "Sub", "Mul"]
        );
    }

    #[test]
    fn activations_and_their_derivatives_share_one_evaluation() {
        let energy = Network::Sngan(Sngan::small(
            8,
            1,
            &[3, 3],
            &[true, false],
            Activation::SoftLeakyRelu { a: 0.49, e: 0.01 },
        ));
        let derived = gradient(&energy.graph().unwrap(), "energy", "x").unwrap();
        let shared = check_rewrite(&derived, Rewrite::Share, 3);
        let roots = |graph: &Graph| {
            let all = operators(graph);
            all.into_iter().filter(|&name| name == "Sqrt").count()
        };
        assert_eq!(roots(&shared), roots(&energy.graph().unwrap()));
    }
}
