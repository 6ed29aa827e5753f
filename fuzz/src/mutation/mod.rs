//! Small changes of a model, most of which make it wrong.

mod attribute;
mod input;
mod node;
mod number;
mod tensor;

use arbitrary::Arbitrary;
use ebm_export::source::onnx::proto::{GraphProto, ModelProto};

use attribute::OfAttribute;
use input::OfInput;
use node::OfNode;
use tensor::OfTensor;

/// Where something changes, counted modulo what there is.
type Place = u8;

/// One change.
#[derive(Arbitrary, Clone, Debug)]
pub enum Mutation {
    /// Of a node.
    Node(Place, OfNode),
    /// Of an attribute of a node.
    Attribute(Place, Place, OfAttribute),
    /// Of an input of the model.
    Input(Place, OfInput),
    /// Of an initialiser or of the tensor in an attribute.
    Tensor(Place, OfTensor),
    /// Another value becomes the output of the model.
    Output(Place),
    /// Another version of the operators.
    Opset(u8),
}

impl Mutation {
    /// Changes the model, unless it has no such thing. `operators` are the types of operators to choose from.
    pub fn apply(&self, model: &mut ModelProto, operators: &[String]) {
        let graph = model.graph.get_or_insert_default();
        match self {
            Mutation::Node(place, change) => change.apply(graph, *place, operators),
            Mutation::Attribute(node, place, change) => {
                let donor = attribute::some(graph, place.wrapping_add(*node));
                let node = at_mut(&mut graph.node, *node);
                if let Some(node) = node {
                    change.apply(&mut node.attribute, *place, donor);
                }
            }
            Mutation::Input(place, change) => {
                if let Some(input) = at_mut(&mut graph.input, *place) {
                    change.apply(input);
                }
            }
            Mutation::Tensor(place, change) => {
                if let Some(tensor) = tensor::at_mut(graph, *place) {
                    change.apply(tensor);
                }
            }
            Mutation::Output(place) => {
                let name = at(&names(graph), *place).cloned();
                if let Some(output) = graph.output.first_mut() {
                    output.name = name;
                }
            }
            Mutation::Opset(version) => {
                if let Some(import) = model.opset_import.first_mut() {
                    import.version = Some(i64::from(version % 32));
                }
            }
        }
    }
}

/// Names of all values.
fn names(graph: &GraphProto) -> Vec<String> {
    let inputs = graph.input.iter().map(|input| input.name());
    let tensors = graph.initializer.iter().map(|tensor| tensor.name());
    let outputs = graph.node.iter().flat_map(|node| &node.output);
    let names = inputs.chain(tensors).chain(outputs.map(String::as_str));
    names.map(str::to_string).collect()
}

fn at<T>(list: &[T], place: Place) -> Option<&T> {
    list.get(usize::from(place).checked_rem(list.len())?)
}

fn at_mut<T>(list: &mut [T], place: Place) -> Option<&mut T> {
    let position = usize::from(place).checked_rem(list.len())?;
    list.get_mut(position)
}
