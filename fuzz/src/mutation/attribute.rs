//! Changes of attributes.

use arbitrary::Arbitrary;
use ebm_export::source::onnx::proto::{AttributeProto, GraphProto};

use super::number::{Number, Real};
use super::{Place, at, at_mut};

/// A change of an attribute.
#[derive(Arbitrary, Clone, Debug)]
pub enum OfAttribute {
    /// Another integer, or another element of a list.
    Int(Place, Number),
    /// An element more of a list.
    MoreInts(Number),
    /// An element less of a list.
    FewerInts,
    /// Another float.
    Float(Real),
    /// The attribute is not there.
    Gone,
    /// The node has some other node's attribute in its stead.
    Replaced,
    /// The node has some other node's attribute as well.
    Added,
}

impl OfAttribute {
    pub fn apply(
        &self,
        attributes: &mut Vec<AttributeProto>,
        place: Place,
        donor: Option<AttributeProto>,
    ) {
        if let OfAttribute::Added = self {
            return attributes.extend(donor);
        }
        let Some(position) = usize::from(place).checked_rem(attributes.len()) else {
            return;
        };
        let attribute = &mut attributes[position];
        match self {
            OfAttribute::Int(element, Number(number)) => {
                if let Some(element) = at_mut(&mut attribute.ints, *element) {
                    *element = *number;
                } else if attribute.i.is_some() {
                    attribute.i = Some(*number);
                }
            }
            OfAttribute::MoreInts(Number(number)) => attribute.ints.push(*number),
            OfAttribute::FewerInts => drop(attribute.ints.pop()),
            OfAttribute::Float(Real(value)) if attribute.f.is_some() => attribute.f = Some(*value),
            OfAttribute::Float(_) | OfAttribute::Added => {}
            OfAttribute::Gone => drop(attributes.remove(position)),
            OfAttribute::Replaced => attributes.splice(position..=position, donor).for_each(drop),
        }
    }
}

/// Some attribute of the model.
pub fn some(graph: &GraphProto, place: Place) -> Option<AttributeProto> {
    let attributes: Vec<&AttributeProto> =
        graph.node.iter().flat_map(|node| &node.attribute).collect();
    at(&attributes, place).map(|&attribute| attribute.clone())
}
