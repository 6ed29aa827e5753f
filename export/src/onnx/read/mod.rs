//! ONNX models of others as graphs: every operator becomes a composition of primitives.
//!
//! Each family of operators has a file with one rule per operator and a table of them; `RULES` lists the tables. A rule sees its
//! `Node` (`node.rs`) and gives the outputs.

mod activation;
mod arithmetic;
mod batch;
mod compose;
mod constant;
mod constants;
mod convolution;
mod einsum;
mod function;
mod join;
mod known;
mod linear;
mod logic;
mod model;
mod node;
mod normalization;
mod pad;
mod pooling;
#[cfg(test)]
mod property;
mod reduction;
mod reshape;
mod resize;
mod shape;
mod shrink;
mod softmax;
mod space;
mod stretch;
mod tensor;
#[cfg(test)]
pub(crate) mod testing;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub(super) use einsum::multiplications as einsum_multiplications;
pub(super) use function::inlined;
pub(super) use model::node_name;

use constants::Constants;
use known::Kind;
use model::{Model, rule};
use node::{Node, Operand, Rule, check_size};
use tensor::Decoded;

use super::proto::tensor_proto::{DataLocation, DataType};
use super::proto::tensor_shape_proto::{Dimension, dimension};
use super::proto::{TensorProto, ValueInfoProto, type_proto};
use super::{Batch, Documentation};
use crate::checkpoint::sha256;
use crate::contract::{HASH_KEY, METADATA_KEY};
use crate::error::Error;
use crate::file::folder_of;
use crate::graph::{DType, Dim, Graph, Shape, Value};
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
    shrink::RULES,
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
    /// What it says for people.
    pub documentation: Documentation,
    /// Names of its outputs that were not selected.
    pub other_outputs: Vec<String>,
    /// SHA-256 of its file, hexadecimal.
    pub sha256: String,
}

/// Reads a model from a file; weights that stand in files of their own are looked for in its folder and below.
///
/// # Errors
/// As [`read`]; or the file cannot be read.
pub fn read_file(path: &Path, selection: &Selection<'_>) -> Result<Foreign, Error> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let (model, sha256) = (Model::decode(&bytes)?, sha256(&bytes));
    drop(bytes);
    read_model(model, selection, sha256, Some(folder_of(path)))
}

/// Reads a model from the bytes of its file.
///
/// # Errors
/// It is not a whole ONNX model; it has no such input or output; it needs an operator, an opset or a type that is not supported
/// (all such operators are named); its shapes contradict each other or are open; or a value mixes the images of a batch.
pub fn read(bytes: &[u8], selection: &Selection<'_>) -> Result<Foreign, Error> {
    read_model(Model::decode(bytes)?, selection, sha256(bytes), None)
}

fn read_model(
    mut model: Model,
    selection: &Selection<'_>,
    sha256: String,
    folder: Option<&Path>,
) -> Result<Foreign, Error> {
    let output = model.output(selection.output)?;
    let initializers = std::mem::take(&mut model.graph.initializer);
    let inputs: Vec<&ValueInfoProto> = model.graph.input.iter().collect();
    let input = selected_input(&inputs, selection.input)?;
    let mut reader = Reader::new(model.opset, folder);
    let values = reader.values(&model, initializers, &[&output], (input, selection.image))?;
    let Some(Operand::Value(value)) = values.get(&output) else {
        return Err(Error::Onnx(format!(
            "output {output:?} is not computed as floats from the model's input"
        )));
    };
    check_declared(&model, &output, reader.graph.shape(*value))?;
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
        documentation: documentation(&model, &inputs),
        other_outputs: other_outputs(&model, &output),
        sha256,
        graph: reader.graph,
        output,
    })
}

/// Shape and type of each value that the outputs of a model need, by the model's names; integers are of no [`DType`].
///
/// # Errors
/// As [`read`], for all outputs at once; of several inputs the first has the batch on axis 0.
pub(super) fn shapes(
    bytes: &[u8],
    folder: Option<&Path>,
) -> Result<BTreeMap<String, (Shape, Option<DType>)>, Error> {
    let mut model = Model::decode(bytes)?;
    let initializers = std::mem::take(&mut model.graph.initializer);
    let inputs: Vec<&ValueInfoProto> = model.graph.input.iter().collect();
    let input = match (selected_input(&inputs, None), inputs.first()) {
        (Err(_), Some(first)) => first.name(),
        (selected, _) => selected?,
    };
    let outputs = model.graph.output.iter().map(ValueInfoProto::name);
    let outputs: Vec<&str> = outputs.collect();
    let mut reader = Reader::new(model.opset, folder);
    let values = reader.values(&model, initializers, &outputs, (input, None))?;
    let shape = |operand: &Operand| match operand {
        Operand::Value(value) => {
            let value_type = reader.graph.value_type(*value).clone();
            (value_type.shape, Some(value_type.dtype))
        }
        Operand::Known(known) => {
            let dtype = (known.kind == Kind::Truth).then_some(DType::Bool);
            (Shape::fixed(known.elements.shape()), dtype)
        }
    };
    let values = values.iter();
    Ok(values
        .map(|(name, operand)| (name.clone(), shape(operand)))
        .collect())
}

/// Is there a rule for an operator of the default domain?
pub(super) fn is_read(op_type: &str) -> bool {
    rule(op_type).is_some()
}

/// Refuses weights in other files that do not fit one, which is what is written, before they are read.
fn check_external<'a>(tensors: impl Iterator<Item = &'a TensorProto>) -> Result<(), Error> {
    let n_bytes = tensors
        .filter(|tensor| tensor.data_location() == DataLocation::External)
        .map(|tensor| {
            let elements = tensor.dims.iter().map(|&size| size.max(0) as f64);
            elements.product::<f64>() * size_of::<f32>() as f64
        })
        .sum::<f64>();
    match n_bytes <= f64::from(i32::MAX) {
        true => Ok(()),
        false => Err(Error::Onnx(format!(
            "its weights in other files take {:.1} GB as f32, but an ONNX file without other files ends at 2 GiB",
            n_bytes / 1e9
        ))),
    }
}

/// Refuses an output whose shape the file states otherwise than its nodes make it.
fn check_declared(model: &Model, output: &str, shape: &Shape) -> Result<(), Error> {
    let declared = model.graph.output.iter().find(|info| info.name() == output);
    let Some(extents) = declared.and_then(stated_extents) else {
        return Ok(());
    };
    let agree = |(dim, extent): (&Dim, &Option<usize>)| match (dim, extent) {
        (Dim::Size(size), Some(extent)) => size == extent,
        _ => true,
    };
    if extents.len() == shape.rank() && shape.0.iter().zip(&extents).all(agree) {
        return Ok(());
    }
    let declared = match extents.split_first() {
        Some((first, rest)) => shown(*first, rest),
        None => "[]".to_string(),
    };
    Err(Error::Onnx(format!(
        "output {output:?} is declared as {declared}, but its nodes make it {shape}"
    )))
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

/// All but a contract, which would be that of another file.
fn documentation(model: &Model, inputs: &[&ValueInfoProto]) -> Documentation {
    let (header, graph) = (&model.header, &model.graph);
    let texts = [header.doc_string(), graph.doc_string()].map(str::trim);
    let texts: Vec<&str> = texts.into_iter().filter(|text| !text.is_empty()).collect();
    let documented = inputs.iter().filter(|input| !input.doc_string().is_empty());
    let entries = header.metadata_props.iter();
    Documentation {
        name: graph.name().to_string(),
        text: texts.join("\n"),
        inputs: documented
            .map(|input| (input.name().to_string(), input.doc_string().to_string()))
            .collect(),
        entries: entries
            .filter(|entry| ![METADATA_KEY, HASH_KEY].contains(&entry.key()))
            .map(|entry| (entry.key().to_string(), entry.value().to_string()))
            .collect(),
    }
}

fn other_outputs(model: &Model, selected: &str) -> Vec<String> {
    let names = model.graph.output.iter().map(ValueInfoProto::name);
    names
        .filter(|name| *name != selected)
        .map(str::to_string)
        .collect()
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

    /// What the names of a model stand for, as far as some outputs need them. `selected` is the name of the input with the batch, and
    /// its extents behind it.
    fn values(
        &mut self,
        model: &Model,
        initializers: Vec<TensorProto>,
        outputs: &[&str],
        selected: (&str, Option<&[usize]>),
    ) -> Result<Values, Error> {
        let nodes = &model.graph.node;
        let needed = model.needed(outputs)?;
        model.check_operators(&needed)?;
        let mut values = Values::new();
        let inputs: Vec<&ValueInfoProto> = model.graph.input.iter().collect();
        self.add_inputs(&inputs, selected.0, selected.1, &mut values)?;
        let used: BTreeSet<&str> = needed
            .iter()
            .flat_map(|&index| nodes[index].input.iter().map(String::as_str))
            .chain(outputs.iter().copied())
            .collect();
        let mut initializers = initializers;
        initializers.retain(|tensor| used.contains(tensor.name()));
        check_external(initializers.iter())?;
        for mut tensor in initializers {
            self.add_initializer(&mut tensor, &mut values)?;
        }
        for &index in &needed {
            self.add_node(&nodes[index], &mut values)?;
        }
        Ok(values)
    }

    /// Adds the inputs in the file's order; the selected one says whether the batch is fixed. One that has so many of what the
    /// selected one has, `[k, N, …]`, has the batch behind that number, as the noise of k steps.
    fn add_inputs(
        &mut self,
        inputs: &[&ValueInfoProto],
        selected: &str,
        image: Option<&[usize]>,
        values: &mut Values,
    ) -> Result<(), Error> {
        let image_of = |input: &ValueInfoProto| image.filter(|_| input.name() == selected);
        let mut one = Vec::new();
        for input in inputs.iter().filter(|input| input.name() == selected) {
            let (batch, image) = input_extents(input, image_of(input))?;
            self.batch = batch.map_or(Ok(Batch::Symbolic), Batch::fixed)?;
            one.push(batch);
            one.extend(image.into_iter().map(Some));
        }
        for input in inputs {
            let shape = match declared_extents(input)?.as_deref() {
                Some(&[Some(count), ref each @ ..]) if each == one => several(count, &one),
                _ => self.input_shape(input, image_of(input), input.name() == selected)?,
            };
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
        if let (true, Some(size), true) = (selected, first, rest.is_empty()) {
            let problem =
                format!("it is [{size}], expected a batch on axis 0, such as [N, {size}]");
            return Err(input_error(input, &problem));
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

/// `[count, N, …]` for as many of those extents, of which the first is the batch.
fn several(count: usize, one: &[Option<usize>]) -> Shape {
    let mut shape = Shape(vec![Dim::Size(count), Dim::BATCH]);
    let image = one.iter().skip(1).flatten();
    shape.0.extend(image.map(|&size| Dim::Size(size)));
    shape
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
    let Some(extents) = stated_extents(input) else {
        return Ok(None);
    };
    for size in extents.iter().flatten() {
        node::size_of(*size as i64).map_err(|problem| input_error(input, &problem))?;
    }
    Ok(Some(extents))
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

#[cfg(test)]
mod tests {
    use super::testing::Attribute::{Float, Int};
    use super::testing::{Model, float_tensor, int_tensor};
    use super::*;

    fn negated(model: Model) -> Model {
        model.node("Neg", "x", "y", &[]).output("y")
    }

    fn shape_of_input(model: &Model, selection: &Selection<'_>) -> Result<String, String> {
        let foreign = read(&model.bytes(), selection).map_err(|error| error.to_string())?;
        let input = foreign.graph.input_named(&foreign.input).unwrap();
        Ok(foreign.graph.shape(input).to_string())
    }

    #[test]
    fn several_of_the_selected_input_have_the_batch_behind_their_number() {
        for (batch, extents, wanted) in [
            (-1, [5, -1, 3], "[5, N, 3]"),
            (4, [5, 4, 3], "[5, N, 3]"),
            (4, [4, 4, 3], "[4, N, 3]"),
            (4, [4, 2, 3], "[N, 2, 3]"),
            (-1, [-1, 2, 3], "[N, 2, 3]"),
        ] {
            let model = Model::new().input("x", &[batch, 3]).input("more", &extents);
            let foreign = negated(model).read();
            let more = foreign.graph.input_named("more").unwrap();
            assert_eq!(foreign.graph.shape(more).to_string(), wanted, "{extents:?}");
        }
    }

    #[test]
    fn axis_0_is_the_batch() {
        for (extents, batch) in [
            ([-1, 3], Batch::Symbolic),
            ([0, 3], Batch::Symbolic),
            ([4, 3], Batch::Fixed(4)),
            ([1, 3], Batch::Fixed(1)),
        ] {
            let model = negated(Model::new().input("x", &extents));
            assert_eq!(
                shape_of_input(&model, &Selection::default()).unwrap(),
                "[N, 3]"
            );
            assert_eq!(model.read().batch, batch);
        }
    }

    #[test]
    fn open_extents_are_stated_by_the_user() {
        let open = || negated(Model::new().input("x", &[-1, 3, -1, -1]));
        let mut bare = negated(Model::new().input("x", &[-1]));
        if let Some(kind) = &mut bare.graph().input[0].r#type
            && let Some(type_proto::Value::TensorType(tensor)) = &mut kind.value
        {
            tensor.shape = None;
        }
        let stated = |image: &'static [usize]| Selection {
            image: Some(image),
            ..Selection::default()
        };
        for (model, selection, wanted) in [
            (open(), stated(&[3, 8, 9]), Ok("[N, 3, 8, 9]")),
            (
                open(),
                stated(&[2, 8, 9]),
                Err("its shape [?, 3, ?, ?] is not that of --shape, [2, 8, 9]"),
            ),
            (
                open(),
                stated(&[3, 8]),
                Err("is not that of --shape, [3, 8]"),
            ),
            (
                open(),
                Selection::default(),
                Err("its shape [?, 3, ?, ?] is open behind the batch; fix it with --shape"),
            ),
            (
                bare,
                Selection::default(),
                Err("its shape is open; state it with --shape"),
            ),
        ] {
            match (shape_of_input(&model, &selection), wanted) {
                (Ok(shape), Ok(wanted)) => assert_eq!(shape, wanted),
                (Err(problem), Err(wanted)) => assert!(problem.contains(wanted), "{problem}"),
                (got, wanted) => panic!("{got:?}, expected {wanted:?}"),
            }
        }
    }

    #[test]
    fn further_inputs_have_the_batch_where_the_selected_one_has_it() {
        let model = Model::new()
            .input("x", &[4, 3])
            .input("label", &[4, 3])
            .input("scale", &[3])
            .input("offset", &[])
            .node("Mul", "x scale", "scaled", &[])
            .node("Add", "scaled label", "sum", &[])
            .node("Add", "sum offset", "y", &[])
            .output("y");
        let graph = model.read().graph;
        let shapes: Vec<String> = graph
            .inputs()
            .map(|input| graph.shape(input).to_string())
            .collect();
        assert_eq!(shapes, ["[N, 3]", "[N, 3]", "[3]", "[]"]);
    }

    #[test]
    fn floats_of_every_width_are_read_as_f32() {
        for kind in [
            DataType::Float,
            DataType::Double,
            DataType::Float16,
            DataType::Bfloat16,
        ] {
            negated(Model::new().typed_input("x", kind, &[-1, 3])).read();
        }
    }

    #[test]
    fn refuses_inputs_and_outputs_that_do_not_fit() {
        let two = |inputs: [&str; 2]| {
            let model = Model::new()
                .input(inputs[0], &[-1, 2])
                .input(inputs[1], &[-1, 2]);
            model.node("Add", &inputs.join(" "), "y", &[]).output("y")
        };
        let mut declared = negated(Model::new().input("x", &[-1, 3]));
        declared.graph().output[0].r#type =
            negated(Model::new().input("x", &[-1, 4])).graph().input[0]
                .r#type
                .clone();
        for (model, wanted) in [
            (
                two(["a", "b"]),
                "the model has the inputs [\"a\", \"b\"]; say with respect to which one to differentiate with --input",
            ),
            (
                negated(Model::new().typed_input("x", DataType::Uint8, &[-1, 3])),
                "input \"x\": it holds UINT8; only float inputs",
            ),
            (
                negated(Model::new().typed_input("x", DataType::Int64, &[-1, 3])),
                "it holds INT64",
            ),
            (
                negated(Model::new().input("x", &[3])),
                "it is [3], expected a batch on axis 0",
            ),
            (
                negated(Model::new().input("x", &[-1, 1 << 40])),
                "expected a number from 0",
            ),
            (
                negated(Model::new().input("x", &[-1, 1 << 30, 1 << 30])),
                "is too large",
            ),
            (
                negated(Model::new().input("x", &[1 << 30, 3])),
                "expected a batch from 1",
            ),
            (
                declared,
                "output \"y\" is declared as [?, 4], but its nodes make it [N, 3]",
            ),
            (
                Model::new()
                    .input("x", &[-1, 3])
                    .node("Shape", "x", "y", &[])
                    .output("y"),
                "is not computed as floats",
            ),
            (
                Model::new().input("x", &[-1, 3]).output("y"),
                "is not computed as floats",
            ),
            (
                negated(Model::new().input("x", &[-1, 3])).output("z"),
                "the model has the outputs [\"y\", \"z\"]; say which one is the energy with --output",
            ),
        ] {
            let problem = model.problem();
            assert!(problem.contains(wanted), "{problem}");
        }
        let model = two(["x", "b"]);
        for (selection, wanted) in [
            (
                Selection {
                    input: Some("c"),
                    ..Selection::default()
                },
                "the graph has no input \"c\"; it has [\"x\", \"b\"]",
            ),
            (
                Selection {
                    output: Some("c"),
                    ..Selection::default()
                },
                "the graph has no output \"c\"; it has [\"y\"]",
            ),
        ] {
            let problem = read(&model.bytes(), &selection).unwrap_err().to_string();
            assert_eq!(problem, wanted);
        }
    }

    #[test]
    fn initialisers_keep_their_names_and_what_nothing_needs_is_not_looked_at() {
        let model = Model::new()
            .input("x", &[-1, 2])
            .floats("layer.bias", &[2], &[1.0, 2.0])
            .floats("unused", &[1], &[f32::NAN])
            .node("Add", "x layer.bias", "y", &[])
            .node(
                "Poem",
                "x",
                "z",
                &[("lines", Int(4)), ("metre", Float(0.5))],
            )
            .output("y");
        let foreign = model.read();
        assert_eq!(foreign.weights.keys().collect::<Vec<_>>(), ["layer.bias"]);
    }

    #[test]
    fn an_initialiser_that_is_an_input_too_is_no_input() {
        let model = Model::new()
            .input("x", &[-1, 2])
            .input("bias", &[2])
            .floats("bias", &[2], &[1.0, 2.0]);
        let foreign = model.node("Add", "x bias", "y", &[]).output("y").read();
        assert_eq!(foreign.graph.inputs().count(), 1);
    }

    #[test]
    fn documentation_is_kept() {
        let mut model = negated(Model::new().input("x", &[-1, 2]));
        model.0.producer_name = Some("somebody".to_string());
        model.0.producer_version = Some("1.2".to_string());
        model.0.doc_string = Some("An energy.".to_string());
        model.graph().name = Some("main".to_string());
        model.graph().input[0].doc_string = Some("Pictures.".to_string());
        model.0.metadata_props = [("author", "them"), (METADATA_KEY, "{}")]
            .map(|(key, value)| super::super::proto::StringStringEntryProto {
                key: Some(key.to_string()),
                value: Some(value.to_string()),
            })
            .to_vec();
        let foreign = model.read();
        assert_eq!(foreign.producer, "somebody 1.2");
        let documentation = foreign.documentation;
        assert_eq!(documentation.name, "main");
        assert_eq!(documentation.text, "An energy.");
        assert_eq!(documentation.inputs["x"], "Pictures.");
        assert_eq!(
            documentation.entries,
            [("author".to_string(), "them".to_string())]
        );
    }

    #[test]
    fn weights_that_one_file_cannot_hold_are_not_read() {
        let mut tensor = float_tensor("w", &[600_000_000], &[]);
        tensor.data_location = Some(DataLocation::External as i32);
        let model = Model::new().input("x", &[-1, 1]).initializer(tensor);
        let problem = model.node("Add", "x w", "y", &[]).output("y").problem();
        assert!(problem.contains("take 2.4 GB as f32"), "{problem}");
    }

    #[test]
    fn a_weight_that_is_wrong_is_named() {
        let model =
            Model::new()
                .input("x", &[-1, 2])
                .initializer(float_tensor("layer.bias", &[3], &[1.0]));
        let problem = model
            .node("Add", "x layer.bias", "y", &[])
            .output("y")
            .problem();
        assert_eq!(
            problem,
            "weight \"layer.bias\": its shape [3] takes 3 elements, got 1"
        );
        let model = Model::new()
            .input("x", &[-1, 2])
            .initializer(int_tensor("i", &[-2], &[1]));
        let problem = model.node("Add", "x i", "y", &[]).output("y").problem();
        assert!(
            problem.contains("weight \"i\": its shape [-2] makes no sense"),
            "{problem}"
        );
    }
}
