//! What an ONNX file says and costs.

use std::collections::BTreeMap;
use std::path::Path;

use ebm_common::contract::CONTRACT_KEY;
use ebm_common::files::folder_of;
use prost::Message;
use serde::Serialize;

use crate::check::memory::{Memory, memory};
use crate::check::shapes::{Shapes, elements, extents, is_initializer, product, sum};
use crate::error::{Error, Result};
use crate::graph::{DType, Shape};
use crate::source::onnx;
use crate::source::onnx::proto::tensor_shape_proto::dimension;
use crate::source::onnx::proto::{GraphProto, ModelProto, NodeProto, ValueInfoProto};
use crate::write::model::Model;

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
    /// Elements of all initialisers of a float type, copies that rewrites made included; `None` if their shapes make no sense.
    pub stored_values: Option<usize>,
    /// Multiplications of one image in convolutions and matrix products; `None` if shapes are unknown.
    pub multiplications_per_image: Option<usize>,
    /// What a run holds in memory.
    pub memory: Memory,
}

/// Shapes and types of values by name, as reading gives them.
type ReadShapes = BTreeMap<String, (Shape, Option<DType>)>;

/// An input or output.
#[derive(Debug, PartialEq, Serialize)]
pub struct ValueSummary {
    /// Its name.
    pub name: String,
    /// Its extents; a symbolic one by name.
    pub shape: Vec<String>,
}

/// How often an operator occurs, and what it costs.
#[derive(Debug, PartialEq, Serialize)]
pub struct OperatorCount {
    /// Number of nodes.
    pub nodes: usize,
    /// Multiplications of one image; `None` if shapes are unknown.
    pub multiplications_per_image: Option<usize>,
}

impl OperatorCount {
    /// No nodes, which cost nothing.
    const NONE: OperatorCount = OperatorCount {
        nodes: 0,
        multiplications_per_image: Some(0),
    };
}

/// The numbers of ONNX's float types: f32, f16, f64 and bf16.
const FLOATS: [i32; 4] = [1, 10, 11, 16];

/// Reads and summarises an ONNX file.
///
/// # Errors
/// The file cannot be read or is not ONNX.
pub fn inspect(path: &Path) -> Result<Inspection> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    inspect_in(&bytes, Some(folder_of(path)))
        .map_err(|problem| Error::Onnx(format!("{}: {problem}", path.display())))
}

/// Summarises the bytes of an ONNX file.
///
/// # Errors
/// They are not ONNX; the error says why.
pub fn inspect_bytes(bytes: &[u8]) -> Result<Inspection, String> {
    inspect_in(bytes, None)
}

/// Files with a contract state all shapes. Those of others are read as far as they can be.
fn inspect_in(bytes: &[u8], folder: Option<&Path>) -> Result<Inspection, String> {
    let mut model = ModelProto::decode(bytes).map_err(|error| not_onnx(&error.to_string()))?;
    if contract(&model)?.is_some() {
        return stated(&model);
    }
    if let Some(graph) = &mut model.graph
        && let Ok(flat) = onnx::inlined(graph.node.clone(), graph, &model.functions)
    {
        graph.node = flat;
    }
    inspected(&model, onnx::shapes(bytes, folder).unwrap_or_default())
}

fn not_onnx(reason: &str) -> String {
    format!(
        "not an ONNX model: {reason}; expected a file that `ebm-export onnx` or another exporter wrote"
    )
}

/// What a file that is not written yet says and costs.
///
/// # Panics
/// Never: its contract was written as JSON.
pub fn inspect_model(model: &Model) -> Inspection {
    stated(&model.outline()).expect("its contract was written as JSON")
}

/// Summarises a model that states all shapes; the elements of its tensors are not looked at.
fn stated(model: &ModelProto) -> Result<Inspection, String> {
    inspected(model, BTreeMap::new())
}

fn inspected(model: &ModelProto, read: ReadShapes) -> Result<Inspection, String> {
    let graph = model
        .graph
        .as_ref()
        .ok_or_else(|| not_onnx("it has no graph"))?;
    let contract = contract(model)?;
    let mut shapes = Shapes::stated(graph);
    shapes.learn(read);
    let operators = operators(graph, &shapes);
    let multiplications_per_image = sum(operators
        .values()
        .map(|operator| operator.multiplications_per_image));
    let floats = graph
        .initializer
        .iter()
        .filter(|tensor| FLOATS.contains(&tensor.data_type()));
    let stored_values = sum(floats.map(|tensor| elements(&tensor.dims)));
    let n_parameters = contract
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
        multiplications_per_image,
        memory: memory(graph, &shapes),
        operators,
        parameters: n_parameters
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
        .find(|entry| entry.key() == CONTRACT_KEY)
    else {
        return Ok(None);
    };
    serde_json::from_str(entry.value())
        .map(Some)
        .map_err(|error| {
            format!("metadata {CONTRACT_KEY} is not JSON: {error}; export the checkpoint again")
        })
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

fn operators(graph: &GraphProto, shapes: &Shapes) -> BTreeMap<String, OperatorCount> {
    let mut operators: BTreeMap<String, OperatorCount> = BTreeMap::new();
    for node in &graph.node {
        let none = || OperatorCount::NONE;
        let name = node.op_type().to_string();
        let operator = operators.entry(name).or_insert_with(none);
        operator.nodes += 1;
        let own = multiplications(node, shapes).map(|count| count / shapes.batch);
        operator.multiplications_per_image =
            sum([operator.multiplications_per_image, own].into_iter());
    }
    operators
}

/// Multiplications by a node; 0 for what is neither a convolution nor a matrix product, `None` if shapes are unknown and for
/// operators that nobody knows.
fn multiplications(node: &NodeProto, shapes: &Shapes) -> Option<usize> {
    let both = |left: Option<usize>, right: Option<usize>| left?.checked_mul(right?);
    let per_row =
        |name: &String| product(shapes.of(name)?.get(1..)?.iter().map(|&size| Some(size)));
    let (input, output) = (node.input.first(), node.output.first()?);
    match node.op_type() {
        "Conv" => both(shapes.elements(output), per_row(node.input.get(1)?)),
        "ConvTranspose" => both(shapes.elements(input?), per_row(node.input.get(1)?)),
        "MatMul" => both(shapes.elements(output), shapes.of(input?)?.last().copied()),
        "Gemm" => {
            let rows = product(shapes.of(output)?.get(..1)?.iter().map(|&size| Some(size)));
            both(rows, shapes.elements(node.input.get(1)?))
        }
        "Einsum" => {
            let operands = node.input.iter().map(|name| shapes.of(name));
            let mut attributes = node.attribute.iter();
            let equation = attributes.find(|given| given.name() == "equation")?;
            let equation = std::str::from_utf8(equation.s()).ok()?;
            onnx::einsum_multiplications(equation, &operands.collect::<Option<Vec<_>>>()?)
        }
        op_type => onnx::is_read(op_type).then_some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Batch;
    use crate::graph::tensor::Tensor;
    use crate::graph::{Dim, Graph, Shape};
    use crate::source::Kind;
    use crate::source::networks::{Network, Sngan};
    use crate::transform::pipeline::{bind, gradient_graph};
    use crate::transform::precision::Precision;
    use crate::write::contract::{Contract, Described, FORMAT_VERSION};
    use crate::write::onnx::{Opset, model_bytes};

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
            weights_sha256: String::new(),
            config: None,
            network: Described::Network(network.clone()),
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
        use crate::graph::op::{MatMul, Reshape, Transpose};
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

    /// x [2, 4, 4] → conv [8, 4, 4] → relu [8, 4, 4] → pooled [8, 1, 1] → y [3] of f32: most while `conv` and `relu` are alive beside x.
    #[test]
    fn memory_and_multiplications_of_a_small_file_by_hand() {
        use crate::graph::op::{self, Conv, KeepDims, MatMul, Reduce, ReduceKind};
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[2, 4, 4])).unwrap();
        let kernel = graph.constant("kernel", Tensor::filled(&[8, 2, 3, 3], 1.0));
        let head = graph.constant("head", Tensor::filled(&[8, 3], 1.0));
        let conv = graph.apply("conv", Conv::padded(1), &[x, kernel]).unwrap();
        let relu = graph.apply("relu", op::Activation::Relu, &[conv]).unwrap();
        let mean = Reduce {
            kind: ReduceKind::Mean,
            axes: vec![2, 3],
            keep_dims: KeepDims::No,
        };
        let pooled = graph.apply("pooled", mean, &[relu]).unwrap();
        let y = graph.apply("y", MatMul, &[pooled, head]).unwrap();
        graph.set_output("y", y);
        let folder = tempfile::tempdir().unwrap();
        let contract = written(&folder.path().join("any.onnx"));
        for batch in [Batch::Symbolic, Batch::Fixed(1), Batch::Fixed(3)] {
            let bytes = model_bytes(&graph, &contract, Opset::DEFAULT, batch).unwrap();
            let inspection = inspect_bytes(&bytes).unwrap();
            let memory = Memory {
                weight_bytes: Some(4 * (8 * 2 * 9 + 8 * 3)),
                peak_bytes_per_image: Some(4 * (32 + 128 + 128)),
                peak_node: Some("relu".to_string()),
            };
            assert_eq!(inspection.memory, memory, "{batch:?}");
            let counts: Vec<_> = inspection.operators.iter().collect();
            let counts = counts.into_iter().map(|(name, count)| {
                let multiplications = count.multiplications_per_image.unwrap();
                (name.as_str(), count.nodes, multiplications)
            });
            let wanted = [
                ("Conv", 1, 128 * 18),
                ("MatMul", 1, 24),
                ("ReduceMean", 1, 0),
                ("Relu", 1, 0),
            ];
            assert_eq!(counts.collect::<Vec<_>>(), wanted);
            assert_eq!(inspection.multiplications_per_image, Some(128 * 18 + 24));
        }
    }

    /// A model that states nothing but its input: a product over 5 with images and heads on one axis, and `Einsum` over both.
    #[test]
    fn files_that_state_no_shapes_are_read() {
        use crate::source::onnx::testing::{Attribute, Model};
        let model = Model::new()
            .input("x", &[-1, 2, 3, 5])
            .floats("w", &[5, 7], &[0.5; 35])
            .ints("rows", &[-1, 3, 5])
            .node("Reshape", "x rows", "flat", &[])
            .node("MatMul", "flat w", "wide", &[])
            .node(
                "Einsum",
                "x x",
                "scores",
                &[("equation", Attribute::Text("nhqd,nhkd->nhqk"))],
            )
            .node("Poem", "wide", "dead", &[])
            .output("wide")
            .output("scores");
        let inspection = inspect_bytes(&model.bytes()).unwrap();
        let count = |name: &str| inspection.operators[name].multiplications_per_image;
        assert_eq!(count("MatMul"), Some(2 * 3 * 5 * 7));
        assert_eq!(count("Einsum"), Some(2 * 3 * 3 * 5));
        assert_eq!(count("Poem"), None, "an operator that nobody knows");
        let memory = &inspection.memory;
        assert_eq!(memory.weight_bytes, Some(4 * 35 + 8 * 3));
        // x and the output `wide` are alive all the time, `flat` until `wide` is there, `scores` at the end.
        assert_eq!(memory.peak_bytes_per_image, Some(4 * (30 + 30 + 42)));
        assert_eq!(memory.peak_node.as_deref(), Some("wide"));
    }

    /// A convolution of that weight, as a hostile file may state it.
    fn convolution(dims: &[i64]) -> Vec<u8> {
        use crate::source::onnx::proto::TensorProto;
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
