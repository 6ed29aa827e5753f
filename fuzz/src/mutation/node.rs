//! Changes of nodes.

use arbitrary::Arbitrary;
use ebm_export::source::onnx::proto::GraphProto;

use super::{Place, at, at_mut, names};

/// A change of a node.
#[derive(Arbitrary, Clone, Debug)]
pub enum OfNode {
    /// Another operator.
    Operator(Place),
    /// Another value as operand.
    Operand(Place, Place),
    /// One operand more.
    MoreOperands(Place),
    /// One operand less.
    FewerOperands,
    /// An operand left out.
    LeftOut(Place),
    /// One output more.
    MoreOutputs,
    /// One output less.
    FewerOutputs,
    /// The node is not there.
    Gone,
    /// The node and another one change places.
    Elsewhere(Place),
    /// A copy of it reads what it gives, and gives it to its users.
    Twice,
}

impl OfNode {
    pub fn apply(&self, graph: &mut GraphProto, place: Place, operators: &[String]) {
        let names = names(graph);
        let count = graph.node.len();
        let Some(position) = usize::from(place).checked_rem(count) else {
            return;
        };
        let node = &mut graph.node[position];
        match self {
            OfNode::Operator(operator) => node.op_type = at(operators, *operator).cloned(),
            OfNode::Operand(operand, name) => {
                if let (Some(input), Some(name)) =
                    (at_mut(&mut node.input, *operand), at(&names, *name))
                {
                    input.clone_from(name);
                }
            }
            OfNode::MoreOperands(name) => node.input.extend(at(&names, *name).cloned()),
            OfNode::FewerOperands => drop(node.input.pop()),
            OfNode::LeftOut(operand) => {
                if let Some(input) = at_mut(&mut node.input, *operand) {
                    input.clear();
                }
            }
            OfNode::MoreOutputs => node.output.push(format!("more{place}")),
            OfNode::FewerOutputs => drop(node.output.pop()),
            OfNode::Gone => drop(graph.node.remove(position)),
            OfNode::Elsewhere(other) => graph.node.swap(position, usize::from(*other) % count),
            OfNode::Twice => {
                let mut first = node.clone();
                let Some((output, input)) = first.output.first_mut().zip(node.input.first_mut())
                else {
                    return;
                };
                output.push_str(".once");
                input.clone_from(output);
                graph.node.insert(position, first);
            }
        }
    }
}
