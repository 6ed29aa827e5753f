//! What an ONNX file says and costs, from its own shape information.

use std::collections::BTreeMap;
use std::path::Path;

use prost::Message;
use serde::Serialize;

use super::proto::tensor_shape_proto::dimension;
use super::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, ValueInfoProto, type_proto};
use crate::contract::METADATA_KEY;
use crate::error::Error;

/// A summary of an ONNX file.
#[derive(Debug, PartialEq, Serialize)]
pub struct Inspection {
    /// The contract, where the file carries one.
    pub contract: Option<serde_json::Value>,
    /// Opset of the default domain.
    pub opset: Option<i64>,
    /// Inputs with their shapes.
    pub inputs: Vec<ValueSummary>,
    /// Outputs with their shapes.
    pub outputs: Vec<ValueSummary>,
    /// Operators by type.
    pub operators: BTreeMap<String, OperatorCount>,
    /// Number of elements of all f32 initialisers.
    pub parameters: usize,
    /// Multiplications of one image in convolutions and matrix products; `None` where the file does not state the shapes.
    pub multiplications_per_image: Option<usize>,
}

/// An input or output.
#[derive(Debug, PartialEq, Serialize)]
pub struct ValueSummary {
    /// Its name.
    pub name: String,
    /// Its extents; a symbolic one by name.
    pub shape: Vec<String>,
}

/// How often an operator occurs, and what it costs.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct OperatorCount {
    /// Number of nodes.
    pub nodes: usize,
    /// Multiplications of one image; `None` where the file does not state the shapes.
    pub multiplications_per_image: Option<usize>,
}

/// Reads and summarises an ONNX file.
///
/// # Errors
/// The file cannot be read or is not ONNX.
pub fn inspect(path: &Path) -> Result<Inspection, Error> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let not_onnx =
        |reason: &str| Error::Onnx(format!("{}: not an ONNX model: {reason}", path.display()));
    let model =
        ModelProto::decode(bytes.as_slice()).map_err(|error| not_onnx(&error.to_string()))?;
    let graph = model
        .graph
        .as_ref()
        .ok_or_else(|| not_onnx("it has no graph"))?;
    let operators = operators(graph);
    let multiplications = operators
        .values()
        .map(|operator| operator.multiplications_per_image)
        .sum::<Option<usize>>();
    Ok(Inspection {
        contract: contract(&model, path)?,
        opset: model
            .opset_import
            .iter()
            .find(|import| import.domain().is_empty())
            .map(|import| import.version()),
        inputs: graph
            .input
            .iter()
            .filter(|input| !is_initializer(graph, input.name()))
            .map(summary)
            .collect(),
        outputs: graph.output.iter().map(summary).collect(),
        operators,
        parameters: graph
            .initializer
            .iter()
            .filter(|tensor| tensor.data_type() == 1)
            .map(|tensor| elements(&tensor.dims))
            .sum(),
        multiplications_per_image: multiplications,
    })
}

fn contract(model: &ModelProto, path: &Path) -> Result<Option<serde_json::Value>, Error> {
    let Some(entry) = model
        .metadata_props
        .iter()
        .find(|entry| entry.key() == METADATA_KEY)
    else {
        return Ok(None);
    };
    let invalid = |error| {
        Error::Onnx(format!(
            "{}: metadata {METADATA_KEY} is not JSON: {error}",
            path.display()
        ))
    };
    serde_json::from_str(entry.value())
        .map(Some)
        .map_err(invalid)
}

fn is_initializer(graph: &GraphProto, name: &str) -> bool {
    graph.initializer.iter().any(|tensor| tensor.name() == name)
}

fn elements(dims: &[i64]) -> usize {
    dims.iter().map(|&dim| dim.max(0) as usize).product()
}

fn extents(info: &ValueInfoProto) -> Option<Vec<dimension::Value>> {
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

fn summary(info: &ValueInfoProto) -> ValueSummary {
    let text = |value| match value {
        dimension::Value::DimValue(size) => size.to_string(),
        dimension::Value::DimParam(name) => name,
    };
    let shape = extents(info).map_or_else(
        || vec!["?".to_string()],
        |extents| extents.into_iter().map(text).collect(),
    );
    ValueSummary {
        name: info.name().to_string(),
        shape,
    }
}

/// Extents of one image: those behind the leading one, which is the batch.
fn image_shapes(graph: &GraphProto) -> BTreeMap<&str, Vec<usize>> {
    let infos = graph
        .input
        .iter()
        .chain(&graph.value_info)
        .chain(&graph.output);
    infos
        .filter_map(|info| {
            let sizes = extents(info)?
                .into_iter()
                .skip(1)
                .map(|extent| match extent {
                    dimension::Value::DimValue(size) => usize::try_from(size).ok(),
                    dimension::Value::DimParam(_) => None,
                });
            Some((info.name(), sizes.collect::<Option<Vec<usize>>>()?))
        })
        .collect()
}

fn operators(graph: &GraphProto) -> BTreeMap<String, OperatorCount> {
    let shapes = image_shapes(graph);
    let weights: BTreeMap<&str, &[i64]> = graph
        .initializer
        .iter()
        .map(|tensor| (tensor.name(), tensor.dims.as_slice()))
        .collect();
    let mut operators: BTreeMap<String, OperatorCount> = BTreeMap::new();
    for node in &graph.node {
        let start = OperatorCount {
            nodes: 0,
            multiplications_per_image: Some(0),
        };
        let operator = operators.entry(node.op_type().to_string()).or_insert(start);
        operator.nodes += 1;
        let total = operator
            .multiplications_per_image
            .zip(multiplications(node, &shapes, &weights));
        operator.multiplications_per_image = total.map(|(sum, own)| sum + own);
    }
    operators
}

/// Multiplications of one image by a node; 0 for what is neither a convolution nor a matrix product, `None` where shapes are unknown.
fn multiplications(
    node: &NodeProto,
    shapes: &BTreeMap<&str, Vec<usize>>,
    weights: &BTreeMap<&str, &[i64]>,
) -> Option<usize> {
    let pixels = |name: &String| {
        shapes
            .get(name.as_str())
            .map(|shape| shape.iter().product::<usize>())
    };
    let per_row = |name: &String| weights.get(name.as_str()).map(|dims| elements(&dims[1..]));
    match node.op_type() {
        "Conv" => Some(pixels(node.output.first()?)? * per_row(node.input.get(1)?)?),
        "ConvTranspose" => Some(pixels(node.input.first()?)? * per_row(node.input.get(1)?)?),
        "MatMul" => {
            let inner = shapes.get(node.input.first()?.as_str())?.last()?;
            Some(pixels(node.output.first()?)? * inner)
        }
        "Gemm" => {
            let columns = elements(&weights.get(node.input.get(1)?.as_str())?[..]);
            let transposed = node.attribute.iter().any(|attribute: &AttributeProto| {
                attribute.name() == "transA" && attribute.i() != 0
            });
            (!transposed).then_some(columns)
        }
        "Einsum" => None,
        _ => Some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::{Network, Sngan};
    use crate::contract::{Contract, FORMAT_VERSION, Kind};
    use crate::onnx::{Batch, Opset, model_bytes};
    use crate::pipeline::{bind, gradient_graph};

    fn written(path: &Path) -> Contract {
        let network = Network::Sngan(Sngan::sngan32(4));
        let weights = network.initial_weights(1).unwrap();
        let contract = Contract {
            format_version: FORMAT_VERSION,
            kind: Kind::Gradient,
            image: network.image(),
            value_range: [-1.0, 1.0],
            batch: None,
            langevin: None,
            purification: None,
            n_classes: None,
            opset: Opset::DEFAULT.number(),
            rewrites: Vec::new(),
            weights_sha256: String::new(),
            config: None,
            network,
        };
        let graph = gradient_graph(&contract.network.graph().unwrap(), &[]).unwrap();
        let bound = bind(&graph, &weights).unwrap();
        std::fs::write(
            path,
            model_bytes(&bound, &contract, Opset::DEFAULT, Batch::Symbolic).unwrap(),
        )
        .unwrap();
        contract
    }

    #[test]
    fn a_file_states_its_contract_and_costs_what_its_graph_costs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gradient.onnx");
        let contract = written(&path);
        let inspection = inspect(&path).unwrap();
        assert_eq!(
            inspection.contract,
            Some(serde_json::to_value(&contract).unwrap())
        );
        assert_eq!(inspection.opset, Some(17));
        assert_eq!(inspection.inputs[0].shape, ["N", "3", "32", "32"]);
        // Width 4: per image 27·4·1024 + 36·4·1024 + 3·4·256 forward in the stem, 2·36·4·256 + 16·256 in block 1, 4·36·4·64
        // in blocks 2 and 3, the same backward, and 4 + 4 in the head.
        let forward = 27 * 4 * 1024
            + 36 * 4 * 1024
            + 3 * 4 * 256
            + 2 * 36 * 4 * 256
            + 16 * 256
            + 4 * 36 * 4 * 64;
        assert_eq!(inspection.multiplications_per_image, Some(2 * forward + 4));
    }

    #[test]
    fn what_is_not_onnx_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        written(&path);
        let whole = std::fs::read(&path).unwrap();
        for (case, bytes) in [
            ("text", b"not a model".to_vec()),
            ("truncated", whole[..whole.len() / 2].to_vec()),
            ("empty", Vec::new()),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let error = inspect(&path).unwrap_err().to_string();
            assert!(error.contains("not an ONNX model"), "{case}: {error}");
        }
    }
}
