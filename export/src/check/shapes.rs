//! Extents and types of the values of an ONNX file: what it states, and what its nodes make of its inputs.

use std::collections::BTreeMap;

use crate::graph::{DType, Shape};
use crate::source::onnx::proto::tensor_proto::DataType;
use crate::source::onnx::proto::tensor_shape_proto::dimension;
use crate::source::onnx::proto::{GraphProto, ValueInfoProto, type_proto};

/// Extents of values, and how many images they stand for.
pub(super) struct Shapes {
    /// Extents by value; those that carry a symbolic batch are those of one image.
    sizes: BTreeMap<String, Vec<usize>>,
    /// Bytes of one element by value.
    element_bytes: BTreeMap<String, usize>,
    /// The images of a file with a fixed batch, 1 for any other.
    pub(super) batch: usize,
    /// Bytes of one element of the input.
    input_bytes: Option<usize>,
}

impl Shapes {
    /// What the file states.
    pub(super) fn stated(graph: &GraphProto) -> Shapes {
        let first = graph
            .input
            .iter()
            .find(|input| !is_initializer(graph, input.name()));
        let leading = first.and_then(|info| extents(info)?.into_iter().next());
        let (name, batch) = match leading {
            Some(dimension::Value::DimParam(name)) => (Some(name), 1),
            Some(dimension::Value::DimValue(size)) => {
                (None, usize::try_from(size).unwrap_or(1).max(1))
            }
            None => (None, 1),
        };
        let mut shapes = Shapes {
            sizes: BTreeMap::new(),
            element_bytes: BTreeMap::new(),
            batch,
            input_bytes: first.and_then(|info| element_bytes(element_type(info)?)),
        };
        let inner = graph.input.iter().chain(&graph.value_info);
        for info in inner.chain(&graph.output) {
            let sizes = extents(info).into_iter().flatten().enumerate();
            let sizes = sizes.map(|(axis, extent)| image_extent(axis, extent, name.as_deref()));
            let sizes = extents(info).and_then(|_| sizes.collect());
            shapes.add(info.name(), sizes, element_type(info));
        }
        for tensor in &graph.initializer {
            let dims = tensor.dims.iter().map(|&dim| usize::try_from(dim).ok());
            shapes.add(tensor.name(), dims.collect(), Some(tensor.data_type()));
        }
        shapes
    }

    fn add(&mut self, name: &str, sizes: Option<Vec<usize>>, elem_type: Option<i32>) {
        if let Some(sizes) = sizes {
            self.sizes.insert(name.to_string(), sizes);
        }
        if let Some(bytes) = elem_type.and_then(element_bytes) {
            self.element_bytes.insert(name.to_string(), bytes);
        }
    }

    /// Takes the extents that reading the file gave, which knows where the batch stands, and types that are not stated: those of floats
    /// are taken for that of the input, and those without a type are 64-bit integers.
    pub(super) fn learn(&mut self, read: BTreeMap<String, (Shape, Option<DType>)>) {
        for (name, (shape, dtype)) in read {
            let bytes = match dtype {
                None => size_of::<i64>(),
                Some(dtype) if dtype.is_float() => self.input_bytes.unwrap_or(dtype.size_bytes()),
                Some(dtype) => dtype.size_bytes(),
            };
            self.element_bytes.entry(name.clone()).or_insert(bytes);
            self.sizes.insert(name, shape.concrete(self.batch));
        }
    }

    pub(super) fn of(&self, name: &str) -> Option<&[usize]> {
        self.sizes.get(name).map(Vec::as_slice)
    }

    pub(super) fn elements(&self, name: &str) -> Option<usize> {
        product(self.of(name)?.iter().map(|&size| Some(size)))
    }

    /// Bytes of a value, for one image where the batch is symbolic and for all of a fixed one.
    pub(super) fn bytes(&self, name: &str) -> Option<usize> {
        let element = *self.element_bytes.get(name)?;
        self.elements(name)?.checked_mul(element)
    }
}

/// The number of the element type of a value.
fn element_type(info: &ValueInfoProto) -> Option<i32> {
    match info.r#type.as_ref()?.value.as_ref()? {
        type_proto::Value::TensorType(tensor) => Some(tensor.elem_type()),
        _ => None,
    }
}

/// Bytes of one element of a type, by ONNX's number for it.
fn element_bytes(number: i32) -> Option<usize> {
    match DataType::try_from(number).ok()? {
        DataType::Bool | DataType::Int8 | DataType::Uint8 => Some(1),
        DataType::Float16 | DataType::Bfloat16 | DataType::Int16 | DataType::Uint16 => Some(2),
        DataType::Float | DataType::Int32 | DataType::Uint32 => Some(4),
        DataType::Double | DataType::Int64 | DataType::Uint64 => Some(8),
        _ => None,
    }
}

/// An extent of one image: a symbolic one is that of the batch on the leading axis, whatever it is called, and elsewhere where its
/// name is that of the batch, with factors or without.
fn image_extent(axis: usize, extent: dimension::Value, batch: Option<&str>) -> Option<usize> {
    let text = match extent {
        dimension::Value::DimValue(size) => return usize::try_from(size).ok(),
        dimension::Value::DimParam(text) => text,
    };
    let mut factors = text.split('·').map(|factor| match Some(factor) == batch {
        true => Some(1),
        false => factor.parse().ok(),
    });
    product(&mut factors).or((axis == 0).then_some(1))
}

pub(super) fn is_initializer(graph: &GraphProto, name: &str) -> bool {
    graph.initializer.iter().any(|tensor| tensor.name() == name)
}

/// The product of extents; `None` if it makes no sense.
pub(super) fn elements(dims: &[i64]) -> Option<usize> {
    product(dims.iter().map(|&dim| usize::try_from(dim).ok()))
}

pub(super) fn product(mut factors: impl Iterator<Item = Option<usize>>) -> Option<usize> {
    factors.try_fold(1usize, |product, factor| product.checked_mul(factor?))
}

pub(super) fn sum(mut terms: impl Iterator<Item = Option<usize>>) -> Option<usize> {
    terms.try_fold(0usize, |sum, term| sum.checked_add(term?))
}

pub(super) fn extents(info: &ValueInfoProto) -> Option<Vec<dimension::Value>> {
    let Some(type_proto::Value::TensorType(tensor)) = info.r#type.as_ref()?.value.as_ref() else {
        return None;
    };
    tensor
        .shape
        .as_ref()?
        .dim
        .iter()
        .map(|dim| dim.value.clone())
        .collect()
}
