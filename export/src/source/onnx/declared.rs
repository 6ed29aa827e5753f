//! What a file states of shapes, which leaves some extents open.

use super::model::Model;
use super::numbers::size_of;
use crate::error::{Choice, Error, Result};
use crate::graph::{DType, Dim, Integer, Shape};
use crate::source::onnx::proto::tensor_proto::DataType;
use crate::source::onnx::proto::tensor_shape_proto::{Dimension, dimension};
use crate::source::onnx::proto::{ValueInfoProto, type_proto};

/// Refuses an output whose shape the file states otherwise than its nodes make it.
pub(super) fn check_declared(model: &Model, output: &str, shape: &Shape) -> Result<()> {
    let declared = model.graph.output.iter().find(|info| info.name() == output);
    // Exporters that do not know the shape of an energy declare it a scalar.
    let stated = declared.and_then(stated_extents);
    let Some(extents) = stated.filter(|extents| !extents.is_empty()) else {
        return Ok(());
    };
    let agree = |(dim, extent): (&Dim, &Option<usize>)| match (dim, extent) {
        (Dim::Size(size), Some(extent)) => size == extent,
        _ => true,
    };
    if extents.len() == shape.rank() && shape.0.iter().zip(&extents).all(agree) {
        return Ok(());
    }
    let declared = shown(extents[0], &extents[1..]);
    Err(Error::Onnx(format!(
        "output {output:?} is declared as {declared}, but its nodes make it {shape}"
    )))
}

pub(super) fn input_error(input: &ValueInfoProto, problem: &str) -> Error {
    Error::Onnx(format!("input {:?}: {problem}", input.name()))
}

/// The same of what is to be chosen otherwise.
fn input_choice(input: &ValueInfoProto, choice: Choice, problem: &str) -> Error {
    Error::choice(choice, format!("input {:?}: {problem}", input.name()))
}

/// The type that an input has in the graph, where all floats are f32.
pub(super) fn input_type(input: &ValueInfoProto) -> Result<DType> {
    let kind = element_type(input)?;
    match kind {
        DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16 => {
            Ok(DType::F32)
        }
        DataType::Bool => Ok(DType::Bool),
        kind => integer(kind).map(DType::Integer).ok_or_else(|| {
            let problem = format!(
                "it holds {}, expected floats, integers or booleans",
                kind.as_str_name()
            );
            input_error(input, &problem)
        }),
    }
}

/// The type of integers, if it is one.
pub(super) fn integer(kind: DataType) -> Option<Integer> {
    match kind {
        DataType::Int8 => Some(Integer::I8),
        DataType::Int16 => Some(Integer::I16),
        DataType::Int32 => Some(Integer::I32),
        DataType::Int64 => Some(Integer::I64),
        DataType::Uint8 => Some(Integer::U8),
        DataType::Uint16 => Some(Integer::U16),
        DataType::Uint32 => Some(Integer::U32),
        DataType::Uint64 => Some(Integer::U64),
        _ => None,
    }
}

/// Refuses an input of anything but floats: nothing can be differentiated by it, and images are not bytes here.
pub(super) fn check_is_float(input: &ValueInfoProto) -> Result<()> {
    let kind = element_type(input)?;
    match input_type(input)?.is_float() {
        true => Ok(()),
        false => {
            let problem = format!(
                "it holds {}, expected floats; export the model without the cast that makes floats of it, or name another input",
                kind.as_str_name()
            );
            Err(input_choice(input, Choice::Input, &problem))
        }
    }
}

fn element_type(input: &ValueInfoProto) -> Result<DataType> {
    match input.r#type.as_ref().and_then(|kind| kind.value.as_ref()) {
        Some(type_proto::Value::TensorType(tensor)) => {
            Ok(DataType::try_from(tensor.elem_type()).unwrap_or(DataType::Undefined))
        }
        _ => Err(input_error(input, "it is not a tensor")),
    }
}

/// The extents that the file states, `None` each where it leaves one open, and `None` if it states no shape.
pub(super) fn declared_extents(input: &ValueInfoProto) -> Result<Option<Vec<Option<usize>>>> {
    let Some(extents) = stated_extents(input) else {
        return Ok(None);
    };
    for size in extents.iter().flatten() {
        size_of(*size as i64).map_err(|problem| input_error(input, &problem))?;
    }
    Ok(Some(extents))
}

/// The extent of axis 0, where the file fixes it, and those behind it.
pub(super) fn input_extents(
    input: &ValueInfoProto,
    image: Option<&[usize]>,
) -> Result<(Option<usize>, Vec<usize>)> {
    let (first, declared) = match (declared_extents(input)?, image) {
        (Some(extents), _) => match extents.split_first() {
            Some((first, rest)) => (*first, rest.to_vec()),
            None => (None, Vec::new()),
        },
        (None, Some(image)) => (None, vec![None; image.len()]),
        (None, None) => {
            let problem = "its shape is open; state it";
            return Err(input_choice(input, Choice::Shape, problem));
        }
    };
    let Some(image) = image else {
        let sizes: Option<Vec<usize>> = declared.iter().copied().collect();
        return match sizes {
            Some(sizes) => Ok((first, sizes)),
            None => {
                let shape = shown(first, &declared);
                let problem = format!("its shape {shape} is open behind the batch; fix it");
                Err(input_choice(input, Choice::Shape, &problem))
            }
        };
    };
    let fits = image.len() == declared.len()
        && image
            .iter()
            .zip(&declared)
            .all(|(size, declared)| declared.is_none_or(|declared| declared == *size));
    if fits {
        return Ok((first, image.to_vec()));
    }
    let problem = format!(
        "its shape {} is not the one that was given, {image:?}",
        shown(first, &declared)
    );
    Err(input_error(input, &problem))
}

fn shown(first: Option<usize>, rest: &[Option<usize>]) -> String {
    let extents = std::iter::once(&first).chain(rest);
    let extents: Vec<String> = extents
        .map(|extent| extent.map_or("?".to_string(), |size| size.to_string()))
        .collect();
    format!("[{}]", extents.join(", "))
}

/// The extents that a file states of a tensor, `None` each where it leaves one open.
fn stated_extents(info: &ValueInfoProto) -> Option<Vec<Option<usize>>> {
    let Some(type_proto::Value::TensorType(tensor)) = info.r#type.as_ref()?.value.as_ref() else {
        return None;
    };
    let extent = |dim: &Dimension| match &dim.value {
        Some(dimension::Value::DimValue(size)) if *size > 0 => usize::try_from(*size).ok(),
        _ => None,
    };
    Some(tensor.shape.as_ref()?.dim.iter().map(extent).collect())
}
