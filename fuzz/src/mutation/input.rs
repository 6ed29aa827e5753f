//! Changes of the model's inputs.

use arbitrary::Arbitrary;
use ebm_export::source::onnx::proto::tensor_shape_proto::{Dimension, dimension};
use ebm_export::source::onnx::proto::{ValueInfoProto, type_proto};

use super::number::Number;
use super::{Place, at_mut};

/// A change of an input.
#[derive(Arbitrary, Clone, Debug)]
pub enum OfInput {
    /// A fixed extent.
    Fixed(Place, Number),
    /// An open extent.
    Open(Place),
    /// One axis more.
    MoreAxes(Number),
    /// One axis less.
    FewerAxes,
    /// No shape at all.
    Shapeless,
    /// Another element type.
    Type(u8),
}

impl OfInput {
    pub fn apply(&self, input: &mut ValueInfoProto) {
        let kind = input.r#type.as_mut().and_then(|kind| kind.value.as_mut());
        let Some(type_proto::Value::TensorType(tensor)) = kind else {
            return;
        };
        let dims = &mut tensor.shape.get_or_insert_default().dim;
        match self {
            OfInput::Fixed(axis, Number(number)) => {
                if let Some(dim) = at_mut(dims, *axis) {
                    *dim = fixed(*number);
                }
            }
            OfInput::Open(axis) => {
                if let Some(dim) = at_mut(dims, *axis) {
                    *dim = Dimension::default();
                }
            }
            OfInput::MoreAxes(Number(number)) => dims.push(fixed(*number)),
            OfInput::FewerAxes => drop(dims.pop()),
            OfInput::Shapeless => tensor.shape = None,
            OfInput::Type(kind) => tensor.elem_type = Some(i32::from(kind % 24)),
        }
    }
}

fn fixed(number: i64) -> Dimension {
    Dimension {
        value: Some(dimension::Value::DimValue(number)),
        ..Dimension::default()
    }
}
