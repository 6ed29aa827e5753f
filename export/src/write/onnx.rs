//! Graphs to ONNX.

use std::collections::{BTreeMap, BTreeSet};

use ebm_common::contract::CONTRACT_KEY;

use crate::error::{Error, Result};
use crate::graph::op::{OnnxAttribute, OnnxInput, Op};
use crate::graph::tensor::Tensor;
use crate::graph::{Batch, DType, Dim, Graph, Integer, Shape, Source, Value, ValueType};
use crate::source::onnx::proto::tensor_shape_proto::{Dimension, dimension};
use crate::source::onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto, tensor_proto,
    type_proto,
};
use crate::write::contract::Contract;
use crate::write::model::{Initializer, Model, hash_entry};

/// A version of ONNX's operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opset(i64);

impl Opset {
    /// The oldest that can be written.
    pub const OLDEST: Opset = Opset(13);
    /// The newest that can be written.
    pub const NEWEST: Opset = Opset(22);
    /// What is written unless asked otherwise: old enough for every runtime in use, new enough for every operator.
    pub const DEFAULT: Opset = Opset(17);
    /// The oldest whose convolutions, pools and activations take bf16.
    pub const OLDEST_WITH_BF16: Opset = Opset(22);

    /// An opset by number.
    ///
    /// # Errors
    /// It is not between [`Opset::OLDEST`] and [`Opset::NEWEST`].
    pub fn new(number: i64) -> Result<Opset> {
        if (Opset::OLDEST.0..=Opset::NEWEST.0).contains(&number) {
            return Ok(Opset(number));
        }
        let (oldest, newest) = (Opset::OLDEST.0, Opset::NEWEST.0);
        Err(Error::Onnx(format!(
            "expected an opset from {oldest} to {newest}, got {number}"
        )))
    }

    /// Its number.
    pub fn number(self) -> i64 {
        self.0
    }

    /// The version of the file format that came with it.
    fn ir_version(self) -> i64 {
        match self.0 {
            ..=14 => 7,
            15..=18 => 8,
            19..=20 => 9,
            _ => 10,
        }
    }

    /// Axes of means and maxima became an input in opset 18.
    fn takes_axes_as_attribute(self, op_type: &str) -> bool {
        matches!(op_type, "ReduceMean" | "ReduceMax") && self.0 < 18
    }
}

/// The bytes of an ONNX file: the same graph and contract give the same bytes.
///
/// # Errors
/// As [`model`].
pub fn model_bytes(
    graph: &Graph,
    contract: &Contract,
    opset: Opset,
    batch: Batch,
) -> Result<Vec<u8>> {
    model(graph, contract, opset, batch).map(|model| model.to_bytes())
}

/// The graph as an ONNX file that carries the contract.
///
/// # Errors
/// The graph holds weights that are not bound, an output has the name of another input, the opset has no operators of a type, or
/// the file would be larger than ONNX files can be.
pub fn model(graph: &Graph, contract: &Contract, opset: Opset, batch: Batch) -> Result<Model> {
    let contract_json = serde_json::to_string(contract).expect("a contract has string keys only");
    let contract = StringStringEntryProto {
        key: Some(CONTRACT_KEY.to_string()),
        value: Some(contract_json),
    };
    with_metadata(graph, vec![contract, hash_entry()], opset, batch)
}

/// The graph as an ONNX file and nothing else, for an engine that runs it at once.
///
/// # Errors
/// As [`model`].
pub fn bare_model(graph: &Graph, opset: Opset) -> Result<Model> {
    with_metadata(graph, Vec::new(), opset, Batch::Symbolic)
}

fn with_metadata(
    graph: &Graph,
    metadata_props: Vec<StringStringEntryProto>,
    opset: Opset,
    batch: Batch,
) -> Result<Model> {
    check_types(graph, opset)?;
    let (graph, initializers) = Writer::new(graph, opset, batch).graph()?;
    let frame = ModelProto {
        ir_version: Some(opset.ir_version()),
        producer_name: Some(env!("CARGO_PKG_NAME").to_string()),
        producer_version: Some(env!("CARGO_PKG_VERSION").to_string()),
        opset_import: vec![OperatorSetIdProto {
            domain: Some(String::new()),
            version: Some(opset.number()),
        }],
        metadata_props,
        graph: Some(graph),
        ..ModelProto::default()
    };
    Model::new(frame, initializers)
}

/// bf16 came to ONNX operator by operator, f16 with the first opset.
fn check_types(graph: &Graph, opset: Opset) -> Result<()> {
    let is_bf16 = |value| graph.value_type(value).dtype == DType::BF16;
    let (oldest, got) = (Opset::OLDEST_WITH_BF16.0, opset.0);
    match got < oldest && graph.values().any(is_bf16) {
        true => Err(Error::Onnx(format!(
            "bf16 needs opset {oldest} or newer, got {got}: older convolutions do not take it"
        ))),
        false => Ok(()),
    }
}

struct Writer<'a> {
    graph: &'a Graph,
    opset: Opset,
    batch: Batch,
    names: BTreeMap<Value, String>,
    written: GraphProto,
    initializers: Vec<Initializer>,
    lists: BTreeSet<String>,
}

impl<'a> Writer<'a> {
    fn new(graph: &'a Graph, opset: Opset, batch: Batch) -> Writer<'a> {
        let names = graph
            .values()
            .map(|value| (value, graph.node(value).name.clone()))
            .collect();
        Writer {
            graph,
            opset,
            batch,
            names,
            written: GraphProto::default(),
            initializers: Vec::new(),
            lists: BTreeSet::new(),
        }
    }

    fn graph(mut self) -> Result<(GraphProto, Vec<Initializer>)> {
        self.written.name = Some("graph".to_string());
        let aliases = self.name_outputs()?;
        for value in self.graph.values() {
            self.write(value)?;
        }
        for (name, value) in aliases {
            let identity = NodeProto {
                op_type: Some("Identity".to_string()),
                name: Some(format!("{name}.identity")),
                input: vec![self.names[&value].clone()],
                output: vec![name],
                ..NodeProto::default()
            };
            self.written.node.push(identity);
        }
        for (name, value) in self.graph.outputs() {
            let info = self.value_info(name, self.graph.value_type(*value));
            self.written.output.push(info);
        }
        Ok((self.written, self.initializers))
    }

    /// Values take the names of the outputs that they are; those that cannot (inputs, or a second name) are left to `Identity`.
    fn name_outputs(&mut self) -> Result<Vec<(String, Value)>> {
        let mut named = BTreeSet::new();
        let mut aliases = Vec::new();
        for (name, value) in self.graph.outputs() {
            self.make_room(name, *value)?;
            if self.graph.operator(*value).is_some() && named.insert(*value) {
                self.names.insert(*value, name.clone());
            } else {
                aliases.push((name.clone(), *value));
            }
        }
        Ok(aliases)
    }

    /// Gives another value that bears the name of an output another name.
    fn make_room(&mut self, output: &str, value: Value) -> Result<()> {
        let bearer = self
            .names
            .iter()
            .find(|(other, name)| **other != value && *name == output);
        let Some((&bearer, _)) = bearer else {
            return Ok(());
        };
        if self.graph.node(bearer).source == Source::Input {
            return Err(Error::Onnx(format!(
                "the name {output:?} is that of an input and of an output; rename one"
            )));
        }
        self.names.insert(bearer, format!("{output}.inner"));
        Ok(())
    }

    fn write(&mut self, value: Value) -> Result<()> {
        let node = self.graph.node(value);
        match &node.source {
            Source::Input => {
                let info = self.value_info(&node.name, &node.value_type);
                self.written.input.push(info);
            }
            Source::Constant(tensor) => {
                let dtype = node.value_type.dtype;
                let initializer = Initializer::shared(&self.names[&value], tensor, dtype);
                self.initializers.push(initializer);
            }
            Source::Weight => {
                let problem = "not bound; bind the weights before writing".to_string();
                return Err(Error::Weight {
                    name: node.name.clone(),
                    problem,
                });
            }
            Source::Operator { op, inputs } => {
                self.write_operator(&node.name, op, inputs, value);
                if !self
                    .graph
                    .outputs()
                    .iter()
                    .any(|(_, output)| *output == value)
                {
                    let info = self.value_info(&self.names[&value], &node.value_type);
                    self.written.value_info.push(info);
                }
            }
        }
        Ok(())
    }

    fn write_operator(&mut self, name: &str, op: &Op, inputs: &[Value], result: Value) {
        let onnx = op.to_onnx();
        let mut attributes: Vec<AttributeProto> = onnx
            .attributes
            .iter()
            .map(|(name, attribute)| attribute_proto(name, attribute))
            .collect();
        let mut input: Vec<String> = inputs
            .iter()
            .map(|input| self.names[input].clone())
            .collect();
        for extra in &onnx.extra_inputs {
            match extra {
                OnnxInput::Ints(axes) if self.opset.takes_axes_as_attribute(onnx.op_type) => {
                    attributes.push(attribute_proto("axes", &OnnxAttribute::Ints(axes.clone())));
                }
                OnnxInput::Missing => input.push(String::new()),
                OnnxInput::Ints(values) => input.push(self.int_list(values)),
                OnnxInput::Floats(values) => input.push(self.float_list(values)),
                OnnxInput::Scalar(value) => {
                    let dtype = self.graph.value_type(result).dtype;
                    input.push(self.scalar(*value, dtype))
                }
            }
        }
        self.written.node.push(NodeProto {
            op_type: Some(onnx.op_type.to_string()),
            name: Some(name.to_string()),
            input,
            output: vec![self.names[&result].clone()],
            attribute: attributes,
            ..NodeProto::default()
        });
    }

    /// A constant list; equal lists are written once.
    fn int_list(&mut self, values: &[i64]) -> String {
        let name = format!("ints{values:?}");
        if self.lists.insert(name.clone()) {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes());
            self.initializers.push(Initializer::whole(TensorProto {
                name: Some(name.clone()),
                data_type: Some(tensor_proto::DataType::Int64 as i32),
                dims: vec![values.len() as i64],
                raw_data: Some(bytes.collect()),
                ..TensorProto::default()
            }));
        }
        name
    }

    fn float_list(&mut self, values: &[f32]) -> String {
        let name = format!("floats{values:?}");
        if self.lists.insert(name.clone()) {
            let tensor = Tensor::new(&[values.len()], values.to_vec());
            self.initializers
                .push(Initializer::shared(&name, &tensor, DType::F32));
        }
        name
    }

    /// A constant of one element of that float type.
    fn scalar(&mut self, value: f32, dtype: DType) -> String {
        let name = match dtype {
            DType::F32 => format!("float{value:?}"),
            _ => format!("{dtype:?}{value:?}"),
        };
        if self.lists.insert(name.clone()) {
            self.initializers
                .push(Initializer::shared(&name, &Tensor::scalar(value), dtype));
        }
        name
    }

    fn value_info(&self, name: &str, value_type: &ValueType) -> ValueInfoProto {
        let tensor = type_proto::Tensor {
            elem_type: Some(element_type(value_type.dtype) as i32),
            shape: Some(self.shape(&value_type.shape)),
        };
        let value = Some(type_proto::Value::TensorType(tensor));
        ValueInfoProto {
            name: Some(name.to_string()),
            r#type: Some(TypeProto {
                value,
                ..TypeProto::default()
            }),
            ..ValueInfoProto::default()
        }
    }

    fn shape(&self, shape: &Shape) -> TensorShapeProto {
        let extent = |dim: &Dim| match (*dim, self.batch) {
            (Dim::Size(size), _) => dimension::Value::DimValue(size as i64),
            (dim, Batch::Fixed(batch)) => dimension::Value::DimValue(dim.concrete(batch) as i64),
            (dim, Batch::Symbolic) => dimension::Value::DimParam(dim.to_string()),
        };
        let dimension = |dim| Dimension {
            value: Some(extent(dim)),
            ..Dimension::default()
        };
        TensorShapeProto {
            dim: shape.0.iter().map(dimension).collect(),
        }
    }
}

pub(super) fn element_type(dtype: DType) -> tensor_proto::DataType {
    match dtype {
        DType::F32 => tensor_proto::DataType::Float,
        DType::F16 => tensor_proto::DataType::Float16,
        DType::BF16 => tensor_proto::DataType::Bfloat16,
        DType::Bool => tensor_proto::DataType::Bool,
        DType::Integer(Integer::I8) => tensor_proto::DataType::Int8,
        DType::Integer(Integer::I16) => tensor_proto::DataType::Int16,
        DType::Integer(Integer::I32) => tensor_proto::DataType::Int32,
        DType::Integer(Integer::I64) => tensor_proto::DataType::Int64,
        DType::Integer(Integer::U8) => tensor_proto::DataType::Uint8,
        DType::Integer(Integer::U16) => tensor_proto::DataType::Uint16,
        DType::Integer(Integer::U32) => tensor_proto::DataType::Uint32,
        DType::Integer(Integer::U64) => tensor_proto::DataType::Uint64,
    }
}

fn attribute_proto(name: &str, attribute: &OnnxAttribute) -> AttributeProto {
    use attribute_proto::AttributeType;
    let mut proto = AttributeProto {
        name: Some(name.to_string()),
        ..AttributeProto::default()
    };
    let kind = match attribute {
        OnnxAttribute::Int(value) => {
            proto.i = Some(*value);
            AttributeType::Int
        }
        OnnxAttribute::Float(value) => {
            proto.f = Some(*value);
            AttributeType::Float
        }
        OnnxAttribute::Type(dtype) => {
            proto.i = Some(i64::from(element_type(*dtype) as i32));
            AttributeType::Int
        }
        OnnxAttribute::Ints(values) => {
            proto.ints = values.clone();
            AttributeType::Ints
        }
        OnnxAttribute::Text(text) => {
            proto.s = Some(text.as_bytes().to_vec());
            AttributeType::String
        }
    };
    proto.r#type = Some(kind as i32);
    proto
}
