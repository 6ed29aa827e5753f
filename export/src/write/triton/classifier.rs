//! Classifiers that are served as they are.

use prost::Message;

use super::config::TensorConfig;
use crate::error::{Error, Result};
use crate::source::ImageShape;
use crate::source::onnx::proto::tensor_proto::{DataLocation, DataType};
use crate::source::onnx::proto::tensor_shape_proto::dimension;
use crate::source::onnx::proto::{GraphProto, ModelProto, TensorProto, ValueInfoProto, type_proto};

/// A classifier of any exporter, `[N, C, H, W] → [N, classes]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ServedClassifier {
    /// Its input.
    pub input: TensorConfig,
    /// Its output.
    pub output: TensorConfig,
    /// Its file.
    pub bytes: Vec<u8>,
}

impl ServedClassifier {
    /// Takes the bytes of an ONNX file, which are served unchanged.
    ///
    /// # Errors
    /// It is not a whole ONNX model in one file; or it does not take any batch of images of those extents in f32 and give one list of f32 numbers for each.
    pub fn new(bytes: Vec<u8>, image: ImageShape) -> Result<ServedClassifier> {
        let model = ModelProto::decode(bytes.as_slice())
            .map_err(|error| problem(&format!("it is not a whole ONNX model ({error})")))?;
        let graph = model.graph.ok_or_else(|| problem("it has no graph"))?;
        if graph.initializer.iter().any(is_external) {
            return Err(problem(
                "its weights stand in files of their own; export it as one file",
            ));
        }
        let input = only("input", own_inputs(&graph))?;
        let ImageShape {
            channels,
            height,
            width,
        } = image;
        let wanted = vec![channels, height, width];
        if input.dims != wanted {
            return Err(problem(&format!(
                "its input {:?} takes images {:?}, but the purifier gives {wanted:?}",
                input.name, input.dims
            )));
        }
        let output = only("output", graph.output.iter().collect())?;
        match output.dims.as_slice() {
            [_] => Ok(ServedClassifier {
                input,
                output,
                bytes,
            }),
            dims => Err(problem(&format!(
                "its output {:?} has {dims:?} for an image, expected one list of logits",
                output.name
            ))),
        }
    }
}

fn problem(problem: &str) -> Error {
    Error::Onnx(format!("the classifier cannot be served: {problem}"))
}

fn is_external(tensor: &TensorProto) -> bool {
    tensor.data_location() == DataLocation::External
}

/// The inputs that have no value in the file.
fn own_inputs(graph: &GraphProto) -> Vec<&ValueInfoProto> {
    let has_value = |name: &str| graph.initializer.iter().any(|tensor| tensor.name() == name);
    let inputs = graph.input.iter();
    inputs.filter(|input| !has_value(input.name())).collect()
}

fn only(kind: &str, values: Vec<&ValueInfoProto>) -> Result<TensorConfig> {
    match values.as_slice() {
        [value] => tensor(value)
            .map_err(|reason| problem(&format!("its {kind} {:?} {reason}", value.name()))),
        values => {
            let names: Vec<&str> = values.iter().map(|value| value.name()).collect();
            Err(problem(&format!(
                "it has the {kind}s {names:?}, expected one"
            )))
        }
    }
}

/// Name and extents behind an open batch.
fn tensor(value: &ValueInfoProto) -> Result<TensorConfig, String> {
    let kind = value.r#type.as_ref().and_then(|kind| kind.value.as_ref());
    let Some(type_proto::Value::TensorType(tensor)) = kind else {
        return Err("is not a tensor".to_string());
    };
    if tensor.elem_type() != DataType::Float as i32 {
        return Err("is not of f32 numbers".to_string());
    }
    let dims = tensor.shape.as_ref().map_or(&[][..], |shape| &shape.dim);
    let sizes: Vec<Option<usize>> = dims
        .iter()
        .map(|dim| match dim.value {
            Some(dimension::Value::DimValue(size)) => usize::try_from(size).ok(),
            _ => None,
        })
        .collect();
    let Some((batch, rest)) = sizes.split_first() else {
        return Err("has no shape".to_string());
    };
    if batch.is_some() {
        return Err("has a fixed batch; export it with an open one".to_string());
    }
    let dims: Option<Vec<usize>> = rest.iter().copied().collect();
    Ok(TensorConfig {
        name: value.name().to_string(),
        dims: dims.ok_or("is open behind the batch; export it with fixed extents")?,
    })
}
