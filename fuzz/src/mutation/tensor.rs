//! Changes of fixed tensors.

use arbitrary::Arbitrary;
use ebm_export::source::onnx::proto::tensor_proto::DataType;
use ebm_export::source::onnx::proto::{GraphProto, TensorProto};

use super::number::{Number, Real};
use super::{Place, at_mut as element_mut};

/// A change of a tensor.
#[derive(Arbitrary, Clone, Debug)]
pub enum OfTensor {
    /// Another extent; the elements stay.
    Extent(Place, Number),
    /// One axis more; the elements stay.
    MoreAxes(Number),
    /// One axis less; the elements stay.
    FewerAxes,
    /// Another extent, and as many zeros as that takes.
    Resized(Place, u8),
    /// Another element type; the bytes stay.
    Type(u8),
    /// Another integer, in a tensor of integers.
    Int(Place, Number),
    /// Another float, in a tensor of floats.
    Float(Place, Real),
    /// The bytes end early.
    Cut,
}

impl OfTensor {
    pub fn apply(&self, tensor: &mut TensorProto) {
        match self {
            OfTensor::Extent(axis, Number(number)) => {
                if let Some(size) = element_mut(&mut tensor.dims, *axis) {
                    *size = *number;
                }
            }
            OfTensor::MoreAxes(Number(number)) => tensor.dims.push(*number),
            OfTensor::FewerAxes => drop(tensor.dims.pop()),
            OfTensor::Resized(axis, size) => resize(tensor, *axis, *size),
            OfTensor::Type(kind) => tensor.data_type = Some(i32::from(kind % 24)),
            OfTensor::Int(element, Number(number)) if is(tensor, DataType::Int64) => {
                match element_mut(&mut tensor.int64_data, *element) {
                    Some(element) => *element = *number,
                    None => overwrite(tensor, *element, &number.to_le_bytes()),
                }
            }
            OfTensor::Float(element, Real(value)) if is(tensor, DataType::Float) => {
                match element_mut(&mut tensor.float_data, *element) {
                    Some(element) => *element = *value,
                    None => overwrite(tensor, *element, &value.to_le_bytes()),
                }
            }
            OfTensor::Int(..) | OfTensor::Float(..) => {}
            OfTensor::Cut => {
                if let Some(bytes) = &mut tensor.raw_data {
                    bytes.pop();
                }
            }
        }
    }
}

/// An initialiser, or the tensor of an attribute.
pub fn at_mut(graph: &mut GraphProto, place: Place) -> Option<&mut TensorProto> {
    let attributes = graph.node.iter_mut().flat_map(|node| &mut node.attribute);
    let constants = attributes.filter_map(|attribute| attribute.t.as_mut());
    let mut tensors: Vec<&mut TensorProto> =
        graph.initializer.iter_mut().chain(constants).collect();
    let position = usize::from(place).checked_rem(tensors.len())?;
    Some(tensors.swap_remove(position))
}

fn is(tensor: &TensorProto, kind: DataType) -> bool {
    tensor.data_type() == kind as i32
}

fn resize(tensor: &mut TensorProto, axis: Place, size: u8) {
    let Some(extent) = element_mut(&mut tensor.dims, axis) else {
        return;
    };
    *extent = i64::from(size % 9);
    let count = tensor.dims.iter().try_fold(1_usize, |count, &size| {
        count.checked_mul(usize::try_from(size).ok()?)
    });
    let width = if is(tensor, DataType::Int64) { 8 } else { 4 };
    let Some(count) = count.filter(|count| *count <= 1 << 16) else {
        return;
    };
    tensor.float_data.clear();
    tensor.int64_data.clear();
    tensor.raw_data = Some(vec![0; count * width]);
}

/// Overwrites one element of the bytes.
fn overwrite(tensor: &mut TensorProto, element: Place, value: &[u8]) {
    let Some(bytes) = &mut tensor.raw_data else {
        return;
    };
    if let Some(count) = bytes
        .len()
        .checked_div(value.len())
        .filter(|&count| count > 0)
    {
        let start = usize::from(element) % count * value.len();
        bytes[start..start + value.len()].copy_from_slice(value);
    }
}
