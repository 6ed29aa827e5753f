//! What an ONNX file says and costs, from its own shape information.

use std::collections::BTreeMap;
use std::path::Path;

use prost::Message;
use serde::Serialize;

use super::proto::tensor_shape_proto::dimension;
use super::proto::{GraphProto, ModelProto, NodeProto, ValueInfoProto, type_proto};
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
    /// Parameters of the network as the contract states them; without one, as `stored_values`.
    pub parameters: Option<usize>,
    /// Elements of all f32 initialisers, copies that rewrites made included; `None` where their shapes make no sense.
    pub stored_values: Option<usize>,
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
    inspect_bytes(&bytes).map_err(|problem| Error::Onnx(format!("{}: {problem}", path.display())))
}

/// Summarises the bytes of an ONNX file.
///
/// # Errors
/// They are not ONNX; the error says why.
pub fn inspect_bytes(bytes: &[u8]) -> Result<Inspection, String> {
    ModelProto::decode(bytes)
        .map_err(|error| not_onnx(&error.to_string()))
        .and_then(|model| inspect_model(&model))
}

fn not_onnx(reason: &str) -> String {
    format!(
        "not an ONNX model: {reason}; expected a file that `export onnx` or another exporter wrote"
    )
}

/// Summarises a model; the elements of its tensors are not looked at.
pub(super) fn inspect_model(model: &ModelProto) -> Result<Inspection, String> {
    let graph = model
        .graph
        .as_ref()
        .ok_or_else(|| not_onnx("it has no graph"))?;
    let operators = operators(graph);
    let contract = contract(model)?;
    let floats = graph
        .initializer
        .iter()
        .filter(|tensor| tensor.data_type() == 1);
    let stored_values = sum(floats.map(|tensor| elements(&tensor.dims)));
    let stated = contract
        .as_ref()
        .and_then(|contract| contract.get("n_parameters")?.as_u64());
    Ok(Inspection {
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
        multiplications_per_image: sum(operators
            .values()
            .map(|operator| operator.multiplications_per_image)),
        operators,
        parameters: stated
            .and_then(|count| usize::try_from(count).ok())
            .or(stored_values),
        stored_values,
        contract,
    })
}

fn contract(model: &ModelProto) -> Result<Option<serde_json::Value>, String> {
    let Some(entry) = model
        .metadata_props
        .iter()
        .find(|entry| entry.key() == METADATA_KEY)
    else {
        return Ok(None);
    };
    serde_json::from_str(entry.value())
        .map(Some)
        .map_err(|error| {
            format!("metadata {METADATA_KEY} is not JSON: {error}; export the checkpoint again")
        })
}

fn is_initializer(graph: &GraphProto, name: &str) -> bool {
    graph.initializer.iter().any(|tensor| tensor.name() == name)
}

/// The product of extents; `None` where it makes no sense.
fn elements(dims: &[i64]) -> Option<usize> {
    product(dims.iter().map(|&dim| usize::try_from(dim).ok()))
}

fn product(mut factors: impl Iterator<Item = Option<usize>>) -> Option<usize> {
    factors.try_fold(1usize, |product, factor| product.checked_mul(factor?))
}

fn sum(mut terms: impl Iterator<Item = Option<usize>>) -> Option<usize> {
    terms.try_fold(0usize, |sum, term| sum.checked_add(term?))
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

/// Extents of values, and how many images they stand for.
struct Shapes<'a> {
    /// Extents by value; those that carry a symbolic batch are those of one image.
    sizes: BTreeMap<&'a str, Vec<usize>>,
    /// The images of a file with a fixed batch, 1 for any other.
    batch: usize,
}

impl<'a> Shapes<'a> {
    fn new(graph: &'a GraphProto) -> Shapes<'a> {
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
        let infos = graph.input.iter().chain(&graph.value_info);
        let sizes = infos.chain(&graph.output).filter_map(|info| {
            let sizes = extents(info)?.into_iter().enumerate();
            let sizes = sizes.map(|(axis, extent)| image_extent(axis, extent, name.as_deref()));
            Some((info.name(), sizes.collect::<Option<Vec<usize>>>()?))
        });
        let mut sizes: BTreeMap<&str, Vec<usize>> = sizes.collect();
        for tensor in &graph.initializer {
            let dims = tensor.dims.iter().map(|&dim| usize::try_from(dim).ok());
            if let Some(dims) = dims.collect() {
                sizes.insert(tensor.name(), dims);
            }
        }
        Shapes { sizes, batch }
    }

    fn of(&self, name: &str) -> Option<&[usize]> {
        self.sizes.get(name).map(Vec::as_slice)
    }

    fn elements(&self, name: &str) -> Option<usize> {
        product(self.of(name)?.iter().map(|&size| Some(size)))
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

fn operators(graph: &GraphProto) -> BTreeMap<String, OperatorCount> {
    let shapes = Shapes::new(graph);
    let mut operators: BTreeMap<String, OperatorCount> = BTreeMap::new();
    for node in &graph.node {
        let start = OperatorCount {
            nodes: 0,
            multiplications_per_image: Some(0),
        };
        let operator = operators.entry(node.op_type().to_string()).or_insert(start);
        operator.nodes += 1;
        let own = multiplications(node, &shapes).map(|count| count / shapes.batch);
        operator.multiplications_per_image =
            sum([operator.multiplications_per_image, own].into_iter());
    }
    operators
}

/// Multiplications by a node for the extents that the file states; 0 for what is neither a convolution nor a matrix product, `None`
/// where shapes are unknown.
fn multiplications(node: &NodeProto, shapes: &Shapes<'_>) -> Option<usize> {
    let both = |left: Option<usize>, right: Option<usize>| left?.checked_mul(right?);
    let per_row =
        |name: &String| product(shapes.of(name)?.get(1..)?.iter().map(|&size| Some(size)));
    let (input, output) = (node.input.first()?, node.output.first()?);
    match node.op_type() {
        "Conv" => both(shapes.elements(output), per_row(node.input.get(1)?)),
        "ConvTranspose" => both(shapes.elements(input), per_row(node.input.get(1)?)),
        "MatMul" => both(shapes.elements(output), shapes.of(input)?.last().copied()),
        "Gemm" => {
            let rows = product(shapes.of(output)?.get(..1)?.iter().map(|&size| Some(size)));
            both(rows, shapes.elements(node.input.get(1)?))
        }
        "Einsum" => None,
        _ => Some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::{Network, Sngan};
    use crate::contract::{Contract, FORMAT_VERSION, Kind, Origin};
    use crate::graph::{Dim, Graph, Shape};
    use crate::onnx::{Batch, Opset, model_bytes};
    use crate::op::Operator;
    use crate::pipeline::{bind, gradient_graph};
    use crate::precision::Precision;
    use crate::tensor::Tensor;

    fn written(path: &Path) -> Contract {
        let network = Network::Sngan(Sngan::sngan32(4));
        let weights = network.initial_weights(1).unwrap();
        let contract = Contract {
            format_version: FORMAT_VERSION,
            kind: Kind::Gradient,
            image: Some(network.image()),
            value_range: [-1.0, 1.0],
            batch: None,
            langevin: None,
            purification: None,
            potential: None,
            clip: None,
            n_steps: None,
            n_classes: None,
            opset: Opset::DEFAULT.number(),
            n_parameters: weights.values().map(|weight| weight.data().len()).sum(),
            rewrites: Vec::new(),
            precision: Precision::F32,
            raw_multiplications: BTreeMap::new(),
            weights_sha256: String::new(),
            config: None,
            network: Origin::Network(network.clone()),
        };
        let graph = gradient_graph(&network.graph().unwrap(), &[]).unwrap();
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

    /// Attention, `[N, 2, 3, 4] · [N, 2, 4, 5]`, a product with the batch on the columns, and one with images and rows on one axis.
    #[test]
    fn products_count_once_for_each_image() {
        use crate::op::{MatMul, Reshape, Transpose};
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[2, 3, 4])).unwrap();
        let y = graph.input("y", Shape::batched(&[2, 4, 5])).unwrap();
        let attention = graph.apply("attention", MatMul, &[x, y]).unwrap();
        let shape = Shape::batched(&[30]);
        let rows = graph
            .apply("rows", Reshape { shape }, &[attention])
            .unwrap();
        let axes = vec![1, 0];
        let columns = graph.apply("columns", Transpose { axes }, &[rows]).unwrap();
        let weight = graph.constant("weight", Tensor::filled(&[7, 30], 1.0));
        let columns = graph.apply("left", MatMul, &[weight, columns]).unwrap();
        let shared = Shape(vec![Dim::Batch { outer: 1, inner: 6 }, Dim::Size(5)]);
        let shared = graph
            .apply("shared", Reshape { shape: shared }, &[attention])
            .unwrap();
        let weight = graph.constant("weight", Tensor::filled(&[5, 11], 1.0));
        let shared = graph.apply("right", MatMul, &[shared, weight]).unwrap();
        graph.set_output("columns", columns);
        graph.set_output("shared", shared);
        let counted: usize = graph
            .values()
            .filter_map(|value| {
                let (op, inputs) = graph.operator(value)?;
                let inputs: Vec<&Shape> = inputs.iter().map(|&input| graph.shape(input)).collect();
                Some(op.multiplications(&inputs, graph.shape(value)))
            })
            .sum();
        let wanted = 2 * 3 * 4 * 5 + 7 * 30 + 6 * 5 * 11;
        assert_eq!(counted, wanted);
        let folder = tempfile::tempdir().unwrap();
        let contract = written(&folder.path().join("any.onnx"));
        for batch in [Batch::Symbolic, Batch::Fixed(1), Batch::Fixed(3)] {
            let bytes = model_bytes(&graph, &contract, Opset::DEFAULT, batch).unwrap();
            let inspection = inspect_bytes(&bytes).unwrap();
            assert_eq!(
                inspection.multiplications_per_image,
                Some(wanted),
                "{batch:?}"
            );
        }
    }

    /// A convolution of that weight, as a hostile file may state it.
    fn convolution(dims: &[i64]) -> Vec<u8> {
        use super::super::proto::TensorProto;
        let node = NodeProto {
            op_type: Some("Conv".to_string()),
            input: vec!["x".to_string(), "w".to_string()],
            output: vec!["y".to_string()],
            ..NodeProto::default()
        };
        let weight = TensorProto {
            name: Some("w".to_string()),
            data_type: Some(1),
            dims: dims.to_vec(),
            ..TensorProto::default()
        };
        let graph = GraphProto {
            node: vec![node],
            initializer: vec![weight],
            ..GraphProto::default()
        };
        ModelProto {
            graph: Some(graph),
            ..ModelProto::default()
        }
        .encode_to_vec()
    }

    #[test]
    fn shapes_that_make_no_sense_are_unknown_counts() {
        for (dims, stored) in [
            (&[][..], Some(1)),
            (&[4, 1 << 62, 1 << 62, 3], None),
            (&[4, -1, 3, 3], None),
        ] {
            let inspection = inspect_bytes(&convolution(dims)).unwrap();
            assert_eq!(
                (
                    inspection.stored_values,
                    inspection.multiplications_per_image
                ),
                (stored, None),
                "{dims:?}"
            );
        }
    }

    proptest::proptest! {
        /// Any bytes, and any damage to a whole file, give a summary or an error.
        #[test]
        fn no_bytes_panic(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
            position in 0usize..4000, byte in proptest::num::u8::ANY,
        ) {
            let _ = inspect_bytes(&bytes);
            let mut damaged = convolution(&[4, 3, 3, 3]);
            let position = position % damaged.len();
            damaged[position] = byte;
            let _ = inspect_bytes(&damaged);
        }
    }
}
