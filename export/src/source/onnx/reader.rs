//! The graph of a model, as far as it is read: inputs, then weights, then node after node.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::constants::Constants;
use super::declared::{check_is_float, declared_extents, input_error, input_extents, input_type};
use super::finite::check_finite;
use super::model::Model;
use super::names::{captured, node_name};
use super::node::{Node, Operand, check_size};
use super::rule;
use super::tensor::Decoded;
use crate::error::{Error, Result};
use crate::graph::Batch;
use crate::graph::op::Cast;
use crate::graph::tensor::Tensors;
use crate::graph::{DType, Dim, Graph, Shape, Value, ValueType};
use crate::source::onnx::proto::tensor_proto::DataLocation;
use crate::source::onnx::proto::{NodeProto, TensorProto, ValueInfoProto};

/// The graph as far as it is read.
pub(super) struct Reader {
    pub(super) graph: Graph,
    pub(super) weights: Tensors,
    pub(super) opset: i64,
    /// The batch as the file has it.
    pub(super) batch: Batch,
    /// How the graph has it.
    images: Images,
    pub(super) constants: Constants,
    /// The selected input.
    pub(super) source: Option<Value>,
    /// Zeros `[1, N, 1]` made of it.
    pub(super) zeros: Option<Value>,
    /// Folder of the model's file.
    pub(super) folder: Option<PathBuf>,
}

/// The input with the batch, and what is asked of it.
pub(super) struct Selected<'a> {
    pub(super) name: &'a str,
    /// Its extents behind the batch.
    pub(super) image: Option<&'a [usize]>,
    /// The batch that is written.
    pub(super) batch: Option<Batch>,
}

/// The images of a graph.
#[derive(Clone, Copy, PartialEq)]
enum Images {
    /// N of them, which never mix.
    Many,
    /// The only one: its axis is one like any other, of extent 1.
    One,
}

impl Images {
    fn of(file: Batch, asked: Option<Batch>) -> Images {
        match (file, asked) {
            (Batch::Fixed(1), None | Some(Batch::Fixed(1)))
            | (Batch::Symbolic, Some(Batch::Fixed(1))) => Images::One,
            _ => Images::Many,
        }
    }
}

/// What the names of the model stand for.
pub(super) type Values = BTreeMap<String, Operand>;

impl Reader {
    pub(super) fn new(opset: i64, folder: Option<&Path>) -> Reader {
        Reader {
            graph: Graph::new(),
            weights: Tensors::new(),
            opset,
            batch: Batch::Symbolic,
            images: Images::Many,
            constants: Constants::default(),
            source: None,
            zeros: None,
            folder: folder.map(Path::to_path_buf),
        }
    }

    /// What the names of a model stand for, as far as some outputs need them. Inputs that they do not need are left out, but for the selected one.
    pub(super) fn values(
        &mut self,
        model: &Model,
        initializers: Vec<TensorProto>,
        outputs: &[&str],
        selected: &Selected<'_>,
    ) -> Result<Values> {
        let nodes = &model.graph.node;
        let needed = model.needed(outputs)?;
        model.check_operators(&needed)?;
        let used: BTreeSet<&str> = needed
            .iter()
            .flat_map(|&index| {
                let inputs = nodes[index].input.iter().map(String::as_str);
                inputs.chain(captured(&nodes[index]))
            })
            .chain(outputs.iter().copied())
            .collect();
        let mut values = Values::new();
        let is_needed = |name: &str| name == selected.name || used.contains(name);
        let inputs = model.graph.input.iter();
        let inputs: Vec<&ValueInfoProto> = inputs.filter(|input| is_needed(input.name())).collect();
        self.add_inputs(&inputs, selected, &mut values)?;
        let mut initializers = initializers;
        initializers.retain(|tensor| used.contains(tensor.name()));
        check_external(initializers.iter())?;
        for mut tensor in initializers {
            self.add_initializer(&mut tensor, &mut values)?;
        }
        for &index in &needed {
            self.add_node(&nodes[index], &mut values)?;
        }
        check_finite(&self.graph)?;
        Ok(values)
    }

    /// Adds the inputs in the file's order; the selected one says whether the batch is fixed. One that has a number of what the
    /// selected one has, `[k, N, …]`, has the batch behind that number, as the noise of k steps.
    fn add_inputs(
        &mut self,
        inputs: &[&ValueInfoProto],
        selected: &Selected<'_>,
        values: &mut Values,
    ) -> Result<()> {
        let is_selected = |input: &ValueInfoProto| input.name() == selected.name;
        let image_of = |input: &ValueInfoProto| selected.image.filter(|_| is_selected(input));
        let mut one = Vec::new();
        for input in inputs.iter().filter(|input| is_selected(input)) {
            check_is_float(input)?;
            let (batch, image) = input_extents(input, image_of(input))?;
            self.batch = batch.map_or(Ok(Batch::Symbolic), Batch::fixed)?;
            self.images = Images::of(self.batch, selected.batch);
            one.push(batch);
            one.extend(image.into_iter().map(Some));
        }
        for input in inputs {
            let dtype = input_type(input)?;
            let mut shape = match declared_extents(input)?.as_deref() {
                Some(&[Some(count), ref each @ ..]) if each == one => several(count, &one),
                _ => self.input_shape(input, image_of(input), is_selected(input))?,
            };
            if self.images == Images::One {
                shape = Shape::fixed(&shape.concrete(1));
            }
            check_size(&shape).map_err(|problem| input_error(input, &problem))?;
            let value_type = ValueType { dtype, shape };
            let mut value = self.graph.input_of_type(input.name(), value_type)?;
            if is_selected(input) {
                self.source = Some(value);
            }
            if let DType::Integer(_) = dtype {
                let name = format!("{}.numbers", input.name());
                value = self.graph.apply(&name, Cast::F32, &[value])?;
                values.insert(input.name().to_string(), Operand::Integers(value));
            } else {
                values.insert(input.name().to_string(), Operand::Value(value));
            }
        }
        Ok(())
    }

    /// Axis 0 is the batch if it is open, or as long as the fixed batch.
    fn input_shape(
        &self,
        input: &ValueInfoProto,
        image: Option<&[usize]>,
        selected: bool,
    ) -> Result<Shape> {
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

    fn add_initializer(&mut self, proto: &mut TensorProto, values: &mut Values) -> Result<()> {
        let name = proto.name().to_string();
        let decoded =
            Decoded::take(proto, self.folder.as_deref()).map_err(|problem| Error::Weight {
                name: name.clone(),
                problem,
            })?;
        let operand = match decoded {
            Decoded::Known(known) => Operand::Known(known),
            // Numbers, and masks and fillers that are not finite, are no weights: rewrites may look at them.
            Decoded::Floats(tensor)
                if tensor.data().len() <= 1
                    || tensor.data().iter().any(|value| !value.is_finite()) =>
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

    pub(super) fn add_node(&mut self, proto: &NodeProto, values: &mut Values) -> Result<()> {
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
            .collect::<Result<Vec<Option<Operand>>>>()?;
        let rule =
            rule(proto.op_type()).ok_or_else(|| problem("it is not supported".to_string()))?;
        let outputs = Node::new(proto, &name, operands, values, self)
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

/// Refuses weights in other files that do not fit one, which is what is written, before they are read.
fn check_external<'a>(tensors: impl Iterator<Item = &'a TensorProto>) -> Result<()> {
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
