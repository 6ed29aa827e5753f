//! The graph of a model, as far as it is read: inputs, then weights, then node after node.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::super::Batch;
use super::super::proto::tensor_proto::DataLocation;
use super::super::proto::{NodeProto, TensorProto, ValueInfoProto};
use super::branch::captured;
use super::constants::Constants;
use super::declared::{declared_extents, input_error, input_extents};
use super::model::{Model, node_name, rule};
use super::node::{Node, Operand, check_size};
use super::tensor::Decoded;
use crate::error::Error;
use crate::graph::{Dim, Graph, Shape, Value};
use crate::tensor::Tensors;

/// The graph as far as it is read.
pub(super) struct Reader {
    pub(super) graph: Graph,
    pub(super) weights: Tensors,
    pub(super) opset: i64,
    pub(super) batch: Batch,
    pub(super) constants: Constants,
    /// The selected input.
    pub(super) source: Option<Value>,
    /// Zeros `[1, N, 1]` made of it.
    pub(super) zeros: Option<Value>,
    /// Folder of the model's file.
    pub(super) folder: Option<PathBuf>,
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
            constants: Constants::default(),
            source: None,
            zeros: None,
            folder: folder.map(Path::to_path_buf),
        }
    }

    /// What the names of a model stand for, as far as some outputs need them. `selected` is the name of the input with the batch, and
    /// its extents behind it.
    pub(super) fn values(
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
            .flat_map(|&index| {
                let inputs = nodes[index].input.iter().map(String::as_str);
                inputs.chain(captured(&nodes[index]))
            })
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

    pub(super) fn add_node(&mut self, proto: &NodeProto, values: &mut Values) -> Result<(), Error> {
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
