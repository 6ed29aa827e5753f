//! Tensors of a model: floats of every width as f32, integers and truth values as they are.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use ndarray::{ArrayD, IxDyn};

use super::known::{Kind, Known, Number};
use crate::onnx::proto::TensorProto;
use crate::onnx::proto::tensor_proto::{DataLocation, DataType};
use crate::tensor::Tensor;

/// A tensor of a model.
pub(super) enum Decoded {
    /// Floats, as f32.
    Floats(Tensor),
    /// Integers or truth values.
    Known(Known),
}

impl Decoded {
    /// Reads a tensor; `folder` is that of the model's file, where it is a file.
    ///
    /// The elements are taken out of `proto`, so that they are not in memory twice.
    pub fn take(proto: &mut TensorProto, folder: Option<&Path>) -> Result<Decoded, String> {
        let sizes = sizes(proto)?;
        let kind = DataType::try_from(proto.data_type.unwrap_or(0)).map_err(|_| {
            format!(
                "its element type {} is unknown",
                proto.data_type.unwrap_or(0)
            )
        })?;
        if proto.segment.is_some() {
            return Err("it is stored in segments, which is not supported".to_string());
        }
        let count = count(&sizes)?;
        let raw = match proto.data_location() {
            DataLocation::External => Some(external(proto, folder, stored_bytes(kind, count)?)?),
            DataLocation::Default => proto.raw_data.take(),
        };
        match raw {
            Some(bytes) => from_bytes(kind, &sizes, count, &bytes),
            None => from_fields(kind, &sizes, count, proto),
        }
    }
}

fn sizes(proto: &TensorProto) -> Result<Vec<usize>, String> {
    proto
        .dims
        .iter()
        .map(|&size| {
            usize::try_from(size).map_err(|_| format!("its shape {:?} makes no sense", proto.dims))
        })
        .collect()
}

fn count(sizes: &[usize]) -> Result<usize, String> {
    sizes
        .iter()
        .try_fold(1_usize, |count, &size| count.checked_mul(size))
        .ok_or_else(|| format!("its shape {sizes:?} is too large"))
}

/// Bytes of an element, 0 where it is of a type that is not read.
fn width(kind: DataType) -> usize {
    match kind {
        DataType::Double | DataType::Int64 | DataType::Uint64 => 8,
        DataType::Float | DataType::Int32 | DataType::Uint32 => 4,
        DataType::Float16 | DataType::Bfloat16 | DataType::Int16 | DataType::Uint16 => 2,
        DataType::Int8 | DataType::Uint8 | DataType::Bool => 1,
        _ => 0,
    }
}

fn stored_bytes(kind: DataType, count: usize) -> Result<usize, String> {
    match width(kind) {
        0 => Err(unread(kind)),
        width => count
            .checked_mul(width)
            .ok_or_else(|| "it is too large".to_string()),
    }
}

fn unread(kind: DataType) -> String {
    format!("elements of type {} are not supported", kind.as_str_name())
}

fn from_bytes(
    kind: DataType,
    sizes: &[usize],
    count: usize,
    bytes: &[u8],
) -> Result<Decoded, String> {
    let wanted = stored_bytes(kind, count)?;
    if bytes.len() != wanted {
        return Err(format!(
            "its shape {sizes:?} takes {wanted} bytes, got {}",
            bytes.len()
        ));
    }
    let chunks = bytes.chunks_exact(width(kind));
    match kind {
        DataType::Float => floats(
            sizes,
            chunks.map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])),
        ),
        DataType::Double => floats(sizes, chunks.map(|c| f64::from_le_bytes(eight(c)) as f32)),
        DataType::Float16 => floats(
            sizes,
            chunks.map(|c| half::f16::from_le_bytes([c[0], c[1]]).to_f32()),
        ),
        DataType::Bfloat16 => floats(
            sizes,
            chunks.map(|c| half::bf16::from_le_bytes([c[0], c[1]]).to_f32()),
        ),
        DataType::Int64 => integers(
            kind,
            sizes,
            chunks.map(|c| Ok(i64::from_le_bytes(eight(c)))),
        ),
        DataType::Uint64 => integers(
            kind,
            sizes,
            chunks.map(|c| unsigned(u64::from_le_bytes(eight(c)))),
        ),
        DataType::Int32 => integers(
            kind,
            sizes,
            chunks.map(|c| Ok(i32::from_le_bytes([c[0], c[1], c[2], c[3]]).into())),
        ),
        DataType::Uint32 => integers(
            kind,
            sizes,
            chunks.map(|c| Ok(u32::from_le_bytes([c[0], c[1], c[2], c[3]]).into())),
        ),
        DataType::Int16 => integers(
            kind,
            sizes,
            chunks.map(|c| Ok(i16::from_le_bytes([c[0], c[1]]).into())),
        ),
        DataType::Uint16 => integers(
            kind,
            sizes,
            chunks.map(|c| Ok(u16::from_le_bytes([c[0], c[1]]).into())),
        ),
        DataType::Int8 => integers(kind, sizes, chunks.map(|c| Ok((c[0] as i8).into()))),
        DataType::Uint8 | DataType::Bool => integers(kind, sizes, chunks.map(|c| Ok(c[0].into()))),
        _ => Err(unread(kind)),
    }
}

fn eight(chunk: &[u8]) -> [u8; 8] {
    std::array::from_fn(|index| chunk[index])
}

fn unsigned(number: u64) -> Result<i64, String> {
    i64::try_from(number).map_err(|_| format!("its element {number} is too large"))
}

fn from_fields(
    kind: DataType,
    sizes: &[usize],
    count: usize,
    proto: &TensorProto,
) -> Result<Decoded, String> {
    let words = &proto.int32_data;
    let half_words = || words.iter().map(|&word| word as u16);
    let found = match kind {
        DataType::Float => proto.float_data.len(),
        DataType::Double => proto.double_data.len(),
        DataType::Int64 => proto.int64_data.len(),
        DataType::Uint32 | DataType::Uint64 => proto.uint64_data.len(),
        _ => words.len(),
    };
    stored_bytes(kind, count)?;
    if found != count {
        return Err(format!(
            "its shape {sizes:?} takes {count} elements, got {found}"
        ));
    }
    match kind {
        DataType::Float => floats(sizes, proto.float_data.iter().copied()),
        DataType::Double => floats(sizes, proto.double_data.iter().map(|&value| value as f32)),
        DataType::Float16 => floats(
            sizes,
            half_words().map(|bits| half::f16::from_bits(bits).to_f32()),
        ),
        DataType::Bfloat16 => floats(
            sizes,
            half_words().map(|bits| half::bf16::from_bits(bits).to_f32()),
        ),
        DataType::Int64 => integers(
            kind,
            sizes,
            proto.int64_data.iter().map(|&number| Ok(number)),
        ),
        DataType::Uint32 | DataType::Uint64 => integers(
            kind,
            sizes,
            proto.uint64_data.iter().map(|&number| unsigned(number)),
        ),
        _ => integers(kind, sizes, words.iter().map(|&word| Ok(word.into()))),
    }
}

/// As f32. Infinities are masks, but whatever is not a number would poison everything.
fn floats(sizes: &[usize], values: impl Iterator<Item = f32>) -> Result<Decoded, String> {
    let values: Vec<f32> = values.collect();
    match values.iter().position(|value| value.is_nan()) {
        Some(position) => Err(format!(
            "its element {position} is NaN; take an earlier model"
        )),
        None => Ok(Decoded::Floats(Tensor::new(sizes, values))),
    }
}

fn integers(
    kind: DataType,
    sizes: &[usize],
    numbers: impl Iterator<Item = Result<i64, String>>,
) -> Result<Decoded, String> {
    let truth = kind == DataType::Bool;
    let numbers = numbers.map(|number| {
        number.map(|number| {
            Number::Fixed(if truth {
                i64::from(number != 0)
            } else {
                number
            })
        })
    });
    let elements = ArrayD::from_shape_vec(IxDyn(sizes), numbers.collect::<Result<_, String>>()?)
        .map_err(|error| error.to_string())?;
    let kind = if truth { Kind::Truth } else { Kind::Integer };
    Ok(Decoded::Known(Known { kind, elements }))
}

/// The bytes of a tensor that stands in a file of its own beside the model.
fn external(proto: &TensorProto, folder: Option<&Path>, wanted: usize) -> Result<Vec<u8>, String> {
    let entry = |key: &str| {
        proto
            .external_data
            .iter()
            .find(|entry| entry.key() == key)
            .map(|entry| entry.value())
    };
    let number = |key: &str| match entry(key) {
        Some(text) => text
            .parse::<u64>()
            .map(Some)
            .map_err(|_| format!("its external {key} {text:?} is no number")),
        None => Ok(None),
    };
    let location = entry("location").ok_or("its external data has no location")?;
    let path = beside(location, folder)?;
    let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
    if length.is_some_and(|length| length != wanted as u64) {
        return Err(format!(
            "its shape takes {wanted} bytes, its external data has {}",
            length.unwrap_or(0)
        ));
    }
    let failed =
        |error: std::io::Error| format!("its data cannot be read from {}: {error}", path.display());
    let mut file = File::open(&path).map_err(failed)?;
    let available = file.metadata().map_err(failed)?.len();
    if offset
        .checked_add(wanted as u64)
        .is_none_or(|end| end > available)
    {
        return Err(format!(
            "its data ends behind the end of {}: {wanted} bytes from {offset} of {available}",
            path.display()
        ));
    }
    file.seek(SeekFrom::Start(offset)).map_err(failed)?;
    let mut bytes = vec![0; wanted];
    file.read_exact(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// A file in the model's folder or below it, never elsewhere.
fn beside(location: &str, folder: Option<&Path>) -> Result<PathBuf, String> {
    let folder =
        folder.ok_or("it stands in another file, but the model does not come from a file")?;
    let relative = Path::new(location);
    let inside = relative
        .components()
        .all(|component| matches!(component, Component::Normal(_) | Component::CurDir));
    if location.is_empty() || !inside {
        return Err(format!(
            "its external data {location:?} does not lie in the folder of the model"
        ));
    }
    Ok(folder.join(relative))
}
