//! ONNX models of others as graphs: every operator becomes a composition of primitives.
//!
//! Each family of operators has a file with one rule per operator and a table of them; `RULES` lists the tables. A rule sees its
//! [`node::Node`] and gives the outputs.

#![allow(dead_code)]

mod activation;
mod arithmetic;
mod batch;
mod compose;
mod constant;
mod constants;
mod convolution;
mod einsum;
mod join;
mod known;
mod linear;
mod logic;
mod model;
mod node;
mod normalization;
mod pad;
mod pooling;
mod reduction;
mod reshape;
mod resize;
mod shape;
mod softmax;
mod space;
mod stretch;
mod tensor;
#[cfg(test)]
mod testing;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use constants::Constants;
use model::{Model, node_name, rule};
use node::{Node, Operand, Rule, check_size, size_of};
use tensor::Decoded;

use super::proto::tensor_proto::DataType;
use super::proto::tensor_shape_proto::dimension;
use super::proto::{TensorProto, ValueInfoProto, type_proto};
use super::write::Batch;
use crate::error::Error;
use crate::graph::{Dim, Graph, Shape, Value};
use crate::tensor::Tensors;

/// The rules of all families.
const RULES: &[&[(&str, Rule)]] = &[
    activation::RULES,
    arithmetic::RULES,
    constant::RULES,
    convolution::RULES,
    einsum::RULES,
    join::RULES,
    linear::RULES,
    logic::RULES,
    normalization::RULES,
    pad::RULES,
    pooling::RULES,
    reduction::RULES,
    resize::RULES,
    shape::RULES,
    softmax::RULES,
    space::RULES,
    stretch::RULES,
];

/// What is read of a model.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selection<'a> {
    /// The output to read, with all that it needs; the only one or `energy` where it is not given.
    pub output: Option<&'a str>,
    /// The input whose axis 0 is the batch and that `image` describes; the only one or `x` where it is not given.
    pub input: Option<&'a str>,
    /// Extents of that input behind the batch, for models that leave them open.
    pub image: Option<&'a [usize]>,
}

/// A model that was read.
#[derive(Clone, Debug)]
pub struct Foreign {
    /// Its graph, with one output.
    pub graph: Graph,
    /// Its weights by the names of their initialisers, as f32.
    pub weights: Tensors,
    /// The batch as the file has it. The graph leaves it open in any case.
    pub batch: Batch,
    /// Name of the input that was selected.
    pub input: String,
    /// Name of the output that was selected.
    pub output: String,
    /// Version of the operators of its default domain.
    pub opset: i64,
    /// Name and version of the program that wrote it.
    pub producer: String,
    /// Name of its graph.
    pub name: String,
    /// Its documentation.
    pub doc: String,
}

/// Reads a model from a file; weights that stand in files of their own are looked for in its folder and below.
///
/// # Errors
/// As [`read`]; or the file cannot be read.
pub fn read_file(path: &Path, selection: &Selection<'_>) -> Result<Foreign, Error> {
    let model = Model::decode(&std::fs::read(path).map_err(Error::io("read", path))?)?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    read_model(model, selection, Some(folder))
}

/// Reads a model from the bytes of its file.
///
/// # Errors
/// It is not a whole ONNX model; it has no such input or output; it needs an operator, an opset or a type that is not supported
/// (all such operators are named); its shapes contradict each other or are open; or a value mixes the images of a batch.
pub fn read(bytes: &[u8], selection: &Selection<'_>) -> Result<Foreign, Error> {
    read_model(Model::decode(bytes)?, selection, None)
}

fn read_model(
    mut model: Model,
    selection: &Selection<'_>,
    folder: Option<&Path>,
) -> Result<Foreign, Error> {
    let output = model.output(selection.output)?;
    let needed = model.needed(&output)?;
    model.check_operators(&needed)?;
    let initializers = std::mem::take(&mut model.graph.initializer);
    let names: BTreeSet<&str> = initializers.iter().map(TensorProto::name).collect();
    let inputs: Vec<&ValueInfoProto> = model
        .graph
        .input
        .iter()
        .filter(|input| !names.contains(input.name()))
        .collect();
    let input = selected_input(&inputs, selection.input)?;
    let mut reader = Reader::new(model.opset, folder);
    let mut values = BTreeMap::new();
    reader.add_inputs(&inputs, input, selection.image, &mut values)?;
    let used: BTreeSet<&str> = needed
        .iter()
        .flat_map(|&index| model.graph.node[index].input.iter().map(String::as_str))
        .chain([output.as_str()])
        .collect();
    for mut tensor in initializers {
        if used.contains(tensor.name()) {
            reader.add_initializer(&mut tensor, &mut values)?;
        }
    }
    for &index in &needed {
        reader.add_node(&model.graph.node[index], &mut values)?;
    }
    let Some(Operand::Value(value)) = values.get(&output) else {
        return Err(Error::Onnx(format!(
            "output {output:?} is not computed as floats from the model's input"
        )));
    };
    reader.graph.set_output(&output, *value);
    let header = &model.header;
    Ok(Foreign {
        weights: reader.weights,
        batch: reader.batch,
        input: input.to_string(),
        opset: model.opset,
        producer: [header.producer_name(), header.producer_version()]
            .join(" ")
            .trim()
            .to_string(),
        name: model.graph.name().to_string(),
        doc: [header.doc_string(), model.graph.doc_string()]
            .join("\n")
            .trim()
            .to_string(),
        graph: reader.graph,
        output,
    })
}

fn selected_input<'a>(
    inputs: &[&'a ValueInfoProto],
    asked: Option<&str>,
) -> Result<&'a str, Error> {
    let names: Vec<&str> = inputs.iter().map(|input| input.name()).collect();
    let wanted = asked.or(match names.as_slice() {
        [only] => Some(only),
        names => names.contains(&"x").then_some("x"),
    });
    let Some(wanted) = wanted else {
        return Err(Error::Onnx(format!(
            "the model has the inputs {names:?}; say with respect to which one to differentiate with --input"
        )));
    };
    names
        .iter()
        .find(|name| **name == wanted)
        .copied()
        .ok_or_else(|| Error::UnknownValue {
            kind: "input",
            name: wanted.to_string(),
            existing: names.iter().map(|name| name.to_string()).collect(),
        })
}

/// The graph as far as it is read.
struct Reader {
    graph: Graph,
    weights: Tensors,
    opset: i64,
    batch: Batch,
    constants: Constants,
    /// The selected input.
    source: Option<Value>,
    /// Zeros `[1, N, 1]` made of it.
    zeros: Option<Value>,
    /// Folder of the model's file.
    folder: Option<PathBuf>,
}

/// What the names of the model stand for.
type Values = BTreeMap<String, Operand>;

impl Reader {
    fn new(opset: i64, folder: Option<&Path>) -> Reader {
        Reader {
            graph: Graph::new(),
            weights: Tensors::new(),
            opset,
            batch: Batch::Symbolic,
            constants: Constants::default(),
            source: None,
            zeros: None,
            folder: folder.map(Path::to_path_buf),
        }
    }

    /// Adds the inputs in the file's order; the selected one says whether the batch is fixed.
    fn add_inputs(
        &mut self,
        inputs: &[&ValueInfoProto],
        selected: &str,
        image: Option<&[usize]>,
        values: &mut Values,
    ) -> Result<(), Error> {
        let image_of = |input: &ValueInfoProto| image.filter(|_| input.name() == selected);
        for input in inputs.iter().filter(|input| input.name() == selected) {
            let (batch, _) = input_extents(input, image_of(input))?;
            self.batch = batch.map_or(Ok(Batch::Symbolic), Batch::fixed)?;
        }
        for input in inputs {
            let shape = self.input_shape(input, image_of(input), input.name() == selected)?;
            check_size(&shape).map_err(|problem| input_error(input, &problem))?;
            let value = self.graph.input(input.name(), shape)?;
            if input.name() == selected {
                self.source = Some(value);
            }
            values.insert(input.name().to_string(), Operand::Value(value));
        }
        Ok(())
    }

    /// Axis 0 is the batch where it is open, or as long as the fixed batch.
    fn input_shape(
        &self,
        input: &ValueInfoProto,
        image: Option<&[usize]>,
        selected: bool,
    ) -> Result<Shape, Error> {
        let (first, rest) = input_extents(input, image)?;
        let mut shape = Shape::fixed(&rest);
        let declared = declared_extents(input)?;
        if declared.is_some_and(|extents| extents.is_empty()) && !selected {
            return Ok(shape);
        }
        let first = match first {
            Some(size) if !selected && self.batch.size() != Some(size) => Dim::Size(size),
            _ => Dim::BATCH,
        };
        shape.0.insert(0, first);
        Ok(shape)
    }

    fn add_initializer(
        &mut self,
        proto: &mut TensorProto,
        values: &mut Values,
    ) -> Result<(), Error> {
        let name = proto.name().to_string();
        let decoded =
            Decoded::take(proto, self.folder.as_deref()).map_err(|problem| Error::Weight {
                name: name.clone(),
                problem,
            })?;
        let operand = match decoded {
            Decoded::Known(known) => Operand::Known(known),
            // Numbers, and masks of infinities, are no weights: rewrites may look at them.
            Decoded::Floats(tensor)
                if tensor.data().len() <= 1
                    || tensor.data().iter().any(|value| value.is_infinite()) =>
            {
                Operand::Value(self.graph.constant(&name, tensor))
            }
            Decoded::Floats(tensor) => {
                let value = self.graph.weight(&name, tensor.shape())?;
                self.weights.insert(name.clone(), tensor);
                Operand::Value(value)
            }
        };
        values.insert(name, operand);
        Ok(())
    }

    fn add_node(
        &mut self,
        proto: &super::proto::NodeProto,
        values: &mut Values,
    ) -> Result<(), Error> {
        let name = node_name(proto);
        let problem = |problem: String| Error::Node {
            node: name.clone(),
            op: proto.op_type().to_string(),
            problem,
        };
        let operands = proto
            .input
            .iter()
            .map(|input| match (input.as_str(), values.get(input)) {
                ("", _) => Ok(None),
                (_, Some(operand)) => Ok(Some(operand.clone())),
                (_, None) => Err(problem(format!(
                    "its input {input:?} is made by no node, or is an output that is not supported"
                ))),
            })
            .collect::<Result<Vec<Option<Operand>>, Error>>()?;
        let rule =
            rule(proto.op_type()).ok_or_else(|| problem("it is not supported".to_string()))?;
        let outputs = Node::new(proto, &name, operands, self)
            .read(rule)
            .map_err(problem)?;
        for (name, output) in proto.output.iter().zip(outputs) {
            values.insert(name.clone(), output);
        }
        Ok(())
    }
}

fn input_error(input: &ValueInfoProto, problem: &str) -> Error {
    Error::Onnx(format!("input {:?}: {problem}", input.name()))
}

/// The extents that the file states, `None` each where it leaves one open, and `None` where it states no shape.
fn declared_extents(input: &ValueInfoProto) -> Result<Option<Vec<Option<usize>>>, Error> {
    let Some(type_proto::Value::TensorType(tensor)) =
        input.r#type.as_ref().and_then(|kind| kind.value.as_ref())
    else {
        return Err(input_error(input, "it is not a tensor"));
    };
    let kind = DataType::try_from(tensor.elem_type()).unwrap_or(DataType::Undefined);
    if !matches!(
        kind,
        DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16
    ) {
        let problem = format!(
            "it holds {}; only float inputs are supported, so give it a fixed value in the model",
            kind.as_str_name()
        );
        return Err(input_error(input, &problem));
    }
    let Some(shape) = &tensor.shape else {
        return Ok(None);
    };
    let extents = shape.dim.iter().map(|dim| match &dim.value {
        Some(dimension::Value::DimValue(size)) if *size > 0 => size_of(*size)
            .map(Some)
            .map_err(|problem| input_error(input, &problem)),
        _ => Ok(None),
    });
    extents.collect::<Result<_, Error>>().map(Some)
}

/// The extent of axis 0, where the file fixes it, and those behind it.
fn input_extents(
    input: &ValueInfoProto,
    image: Option<&[usize]>,
) -> Result<(Option<usize>, Vec<usize>), Error> {
    let (first, declared) = match (declared_extents(input)?, image) {
        (Some(extents), _) => match extents.split_first() {
            Some((first, rest)) => (*first, rest.to_vec()),
            None => (None, Vec::new()),
        },
        (None, Some(image)) => (None, vec![None; image.len()]),
        (None, None) => {
            return Err(input_error(
                input,
                "its shape is open; state it with --shape, such as --shape 3,32,32",
            ));
        }
    };
    let Some(image) = image else {
        let sizes: Option<Vec<usize>> = declared.iter().copied().collect();
        return match sizes {
            Some(sizes) => Ok((first, sizes)),
            None => Err(input_error(
                input,
                &format!(
                    "its shape {} is open behind the batch; fix it with --shape, such as --shape 3,32,32",
                    shown(first, &declared)
                ),
            )),
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
        "its shape {} is not that of --shape, {image:?}",
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
