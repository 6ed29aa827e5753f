//! What a rule sees of a node: its operands and attributes, and the graph to which it adds primitives.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::known::{Kind, Known, Number};
use super::own_image::{ONLY_INDICES, OfImages};
use super::reader::{Reader, Values};
use super::result::Result;
use super::tensor::Decoded;
use crate::error::Error;
use crate::graph::op::{Cast, Compare, Op};
use crate::graph::tensor::Tensor;
use crate::graph::{DType, Dim, Shape, Value};
use crate::source::onnx::proto::attribute_proto::AttributeType;
use crate::source::onnx::proto::{AttributeProto, GraphProto, NodeProto};

/// Most elements of one image in any value; more is a mistake or a trap.
const MAX_ELEMENTS: usize = 1 << 31;

/// A value of the model while it is read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operand {
    /// Floats (always f32 in the graph), integers that an input brings (f32 too) or booleans that stand in the graph.
    Value(Value),
    /// Integers that depend on an input: whole numbers in f32.
    Integers(Value),
    /// Integers that depend on an input and on the number of the image.
    OfImages(OfImages),
    /// Integers or booleans that are known.
    Known(Known),
}

impl From<Value> for Operand {
    fn from(value: Value) -> Operand {
        Operand::Value(value)
    }
}

impl From<Known> for Operand {
    fn from(known: Known) -> Operand {
        Operand::Known(known)
    }
}

/// What a rule gives: the outputs of the node in order, or the problem (what was expected and what came). Outputs that are left
/// out at the end are those that are not supported, which is an error only where the model uses them.
pub(super) type Outputs = Result<Vec<Operand>>;

/// How an ONNX operator becomes primitives.
pub(super) type Rule = fn(&mut Node<'_, '_>) -> Outputs;

/// One node of the model while its rule runs. Attributes and operands that the rule never asks for are an error afterwards.
pub(super) struct Node<'a, 'r> {
    pub(super) proto: &'a NodeProto,
    name: &'a str,
    pub(super) operands: Vec<Option<Operand>>,
    pub(super) reader: &'r mut Reader,
    /// What the names around the node stand for.
    pub(super) outer: &'a Values,
    asked: RefCell<(BTreeSet<usize>, BTreeSet<String>)>,
}

impl<'a, 'r> Node<'a, 'r> {
    pub(super) fn new(
        proto: &'a NodeProto,
        name: &'a str,
        operands: Vec<Option<Operand>>,
        outer: &'a Values,
        reader: &'r mut Reader,
    ) -> Node<'a, 'r> {
        Node {
            proto,
            name,
            operands,
            reader,
            outer,
            asked: RefCell::default(),
        }
    }

    /// Runs the rule and refuses what it did not look at.
    pub(super) fn read(mut self, rule: Rule) -> Outputs {
        let whole = self.see_integers(self.proto.op_type())?;
        let mut outputs = rule(&mut self)?;
        if whole {
            outputs = as_integers(&self, outputs);
        }
        let outputs = self.known_if_fixed(outputs)?;
        let (operands, attributes) = &*self.asked.borrow();
        if let Some(unused) = (0..self.operands.len())
            .find(|position| self.operands[*position].is_some() && !operands.contains(position))
        {
            return Err(format!("its input {unused} is not supported"));
        }
        let unused = self
            .proto
            .attribute
            .iter()
            .find(|attribute| !attributes.contains(attribute.name()));
        match unused {
            Some(attribute) => Err(format!(
                "its attribute {:?} is not supported",
                attribute.name()
            )),
            None => Ok(outputs),
        }
    }

    /// Version of the default domain's operators that the model imports.
    pub fn opset(&self) -> i64 {
        self.reader.opset
    }

    /// Number of outputs that the node names.
    pub fn n_outputs(&self) -> usize {
        self.proto.output.len()
    }
}

/// Operands.
impl Node<'_, '_> {
    /// Number of operands, those left out included.
    pub fn n_operands(&self) -> usize {
        self.operands.len()
    }

    /// An operand, `None` if it is left out.
    pub fn optional(&self, position: usize) -> Option<&Operand> {
        self.asked.borrow_mut().0.insert(position);
        self.operands.get(position)?.as_ref()
    }

    /// An operand.
    pub fn operand(&self, position: usize) -> Result<&Operand> {
        self.optional(position)
            .ok_or_else(|| format!("its input {position} is missing"))
    }

    /// A float operand as a value of the graph.
    pub fn value(&self, position: usize) -> Result<Value> {
        match self.operand(position)? {
            Operand::Value(value) if self.reader.graph.value_type(*value).dtype.is_float() => {
                Ok(*value)
            }
            Operand::Value(_) => Err(format!("its input {position} must be float, got booleans")),
            Operand::OfImages(_) => Err(ONLY_INDICES.to_string()),
            Operand::Integers(_) => Err(format!(
                "its input {position} must be float, got integers that depend on the model's input"
            )),
            Operand::Known(known) => Err(format!(
                "its input {position} must be float, got {}",
                match known.kind {
                    Kind::Integer => "integers",
                    Kind::Truth => "booleans",
                }
            )),
        }
    }

    /// A float operand, `None` if it is left out.
    pub fn optional_value(&self, position: usize) -> Result<Option<Value>> {
        match self.optional(position) {
            Some(_) => self.value(position).map(Some),
            None => Ok(None),
        }
    }

    /// An operand of booleans as a value of the graph.
    pub fn truth(&mut self, position: usize) -> Result<Value> {
        match self.operand(position)?.clone() {
            Operand::Value(value) if self.reader.graph.value_type(value).dtype == DType::Bool => {
                Ok(value)
            }
            Operand::Known(known) if known.kind == Kind::Truth => {
                let numbers = self.floats_of(&known)?;
                self.is_set(numbers)
            }
            _ => Err(format!("its input {position} must be booleans")),
        }
    }

    /// An operand of integers or booleans that are known while reading.
    pub fn known(&self, position: usize) -> Result<&Known> {
        match self.operand(position)? {
            Operand::Known(known) => Ok(known),
            Operand::Value(value) if self.reader.graph.value_type(*value).dtype.is_float() => {
                Err(format!("its input {position} must be integers, got floats"))
            }
            Operand::Value(_) | Operand::Integers(_) | Operand::OfImages(_) => Err(format!(
                "its input {position} must be known when the model is exported"
            )),
        }
    }

    /// All operands, where all of them are integers or booleans known while reading.
    pub fn all_known(&self) -> Option<Vec<Known>> {
        (0..self.operands.len())
            .map(|position| match self.optional(position) {
                Some(Operand::Known(known)) => Some(known.clone()),
                _ => None,
            })
            .collect()
    }

    /// A float operand that depends on no input, as numbers.
    pub fn constant(&mut self, position: usize) -> Result<Tensor> {
        let value = self.value(position)?;
        self.constant_of(value)?.ok_or_else(|| {
            format!("its input {position} must be fixed, but it depends on the model's input")
        })
    }

    /// A value as numbers, `None` if it depends on an input.
    pub fn constant_of(&mut self, value: Value) -> Result<Option<Tensor>> {
        let Reader {
            graph,
            weights,
            constants,
            ..
        } = &mut *self.reader;
        constants.value(graph, weights, value)
    }
}

/// Attributes.
impl<'a> Node<'a, '_> {
    fn attribute(&self, name: &str, kind: AttributeType) -> Result<Option<&'a AttributeProto>> {
        self.asked.borrow_mut().1.insert(name.to_string());
        let Some(attribute) = self
            .proto
            .attribute
            .iter()
            .find(|attribute| attribute.name() == name)
        else {
            return Ok(None);
        };
        if !attribute.ref_attr_name().is_empty() {
            return Err(format!(
                "its attribute {name:?} refers to one of a function"
            ));
        }
        if attribute.r#type() == kind {
            return Ok(Some(attribute));
        }
        Err(format!(
            "its attribute {name:?} must be {}, got {}",
            kind.as_str_name(),
            attribute.r#type().as_str_name()
        ))
    }

    /// An integer attribute.
    pub fn int(&self, name: &str) -> Result<Option<i64>> {
        Ok(self
            .attribute(name, AttributeType::Int)?
            .map(AttributeProto::i))
    }

    /// An integer attribute that says yes or no.
    pub fn flag(&self, name: &str) -> Result<Option<bool>> {
        Ok(self.int(name)?.map(|flag| flag != 0))
    }

    /// A float attribute.
    pub fn float(&self, name: &str) -> Result<Option<f32>> {
        Ok(self
            .attribute(name, AttributeType::Float)?
            .map(AttributeProto::f))
    }

    /// A list of integers.
    pub fn ints(&self, name: &str) -> Result<Option<Vec<i64>>> {
        Ok(self
            .attribute(name, AttributeType::Ints)?
            .map(|attribute| attribute.ints.clone()))
    }

    /// A list of floats.
    pub fn floats(&self, name: &str) -> Result<Option<Vec<f32>>> {
        Ok(self
            .attribute(name, AttributeType::Floats)?
            .map(|attribute| attribute.floats.clone()))
    }

    /// A text attribute.
    pub fn text(&self, name: &str) -> Result<Option<String>> {
        let Some(attribute) = self.attribute(name, AttributeType::String)? else {
            return Ok(None);
        };
        String::from_utf8(attribute.s().to_vec())
            .map(Some)
            .map_err(|_| format!("its attribute {name:?} is not text"))
    }

    /// A tensor attribute as an operand.
    pub fn tensor_operand(&mut self, name: &str) -> Result<Option<Operand>> {
        let Some(attribute) = self.attribute(name, AttributeType::Tensor)? else {
            return Ok(None);
        };
        let mut proto = attribute.t.clone().unwrap_or_default();
        let decoded = Decoded::take(&mut proto, self.reader.folder.as_deref());
        match decoded.map_err(|problem| format!("its attribute {name:?}: {problem}"))? {
            Decoded::Known(known) => Ok(Some(known.into())),
            Decoded::Floats(tensor) => Ok(Some(self.named_constant(tensor).into())),
        }
    }

    /// A graph in an attribute.
    pub fn graph_attribute(&self, name: &str) -> Result<&'a GraphProto> {
        self.attribute(name, AttributeType::Graph)?
            .and_then(|attribute| attribute.g.as_ref())
            .ok_or_else(|| format!("its attribute {name:?} is missing"))
    }

    /// Says that an attribute does not matter.
    pub fn ignore(&self, name: &str) {
        self.asked.borrow_mut().1.insert(name.to_string());
    }

    /// A list of integers that stands in an attribute of old opsets and in an input of new ones.
    pub fn ints_or_known(&self, name: &str, position: usize) -> Result<Option<Vec<i64>>> {
        if let Some(ints) = self.ints(name)? {
            return Ok(Some(ints));
        }
        match self.optional(position) {
            Some(_) => self.known(position)?.fixed_numbers().map(Some),
            None => Ok(None),
        }
    }
}

/// The graph.
impl Node<'_, '_> {
    /// Shape of a value.
    pub fn shape(&self, value: Value) -> Shape {
        self.reader.graph.shape(value).clone()
    }

    /// Element type of a value.
    pub fn dtype(&self, value: Value) -> DType {
        self.reader.graph.value_type(value).dtype
    }

    /// The batch that the model's file fixes.
    pub fn fixed_batch(&self) -> Option<usize> {
        self.reader.batch.size()
    }

    /// Adds a primitive on the way, named after the node.
    pub fn apply(&mut self, suffix: &str, op: impl Into<Op>, inputs: &[Value]) -> Result<Value> {
        self.add(&format!("{}.{suffix}", self.name), op.into(), inputs)
    }

    /// Adds the primitive that gives the node's result, under the node's name.
    pub fn result(&mut self, op: impl Into<Op>, inputs: &[Value]) -> Outputs {
        Ok(vec![self.add(self.name, op.into(), inputs)?.into()])
    }

    fn add(&mut self, name: &str, op: Op, inputs: &[Value]) -> Result<Value> {
        let value = self
            .reader
            .graph
            .apply(name, op, inputs)
            .map_err(|error| match error {
                Error::Operator { problem, .. } => problem,
                error => error.to_string(),
            })?;
        check_size(self.reader.graph.shape(value))?;
        Ok(value)
    }

    /// Adds a number.
    pub fn scalar(&mut self, suffix: &str, number: f32) -> Value {
        self.reader
            .graph
            .scalar(&format!("{}.{suffix}", self.name), number)
    }

    /// Adds a constant tensor.
    pub fn add_constant(&mut self, suffix: &str, tensor: Tensor) -> Value {
        self.reader
            .graph
            .constant(&format!("{}.{suffix}", self.name), tensor)
    }

    /// Adds a constant tensor under the node's name.
    pub fn named_constant(&mut self, tensor: Tensor) -> Value {
        self.reader.graph.constant(self.name, tensor)
    }

    /// Known integers or booleans as floats.
    pub fn floats_of(&mut self, known: &Known) -> Result<Value> {
        let numbers = known.elements.iter().map(|number| match number {
            Number::Fixed(number) => Ok(*number as f32),
            Number::Batch(_) => Err(format!(
                "{number} is used as a float: what depends on the size of the batch mixes its images"
            )),
            Number::Image { .. } => Err(format!(
                "{number} is used as a float: what depends on the place in the batch mixes its images"
            )),
        });
        let numbers = numbers.collect::<Result<Vec<f32>>>()?;
        let tensor = Tensor::new(known.elements.shape(), numbers);
        let constant = self.add_constant("numbers", tensor);
        self.seen_per_image("numbers", constant, known.shape.clone())
    }

    /// 0 and 1 as booleans.
    pub fn is_set(&mut self, numbers: Value) -> Result<Value> {
        let half = self.scalar("half", 0.5);
        self.apply("truth", Compare::Greater, &[numbers, half])
    }

    /// Booleans as 0 and 1.
    pub fn as_numbers(&mut self, truth: Value) -> Result<Value> {
        self.apply("numbers", Cast::F32, &[truth])
    }

    /// Does a number, as a target extent, leave the extent as it is?
    pub fn keeps(&self, number: Number, dim: Dim) -> bool {
        Number::from(dim) == number
            || match (self.reader.batch.size(), number) {
                (Some(batch), Number::Fixed(number)) => number == dim.concrete(batch) as i64,
                _ => false,
            }
    }
}

/// What a rule makes of integers that it saw as floats is integers.
fn as_integers(node: &Node<'_, '_>, outputs: Vec<Operand>) -> Vec<Operand> {
    let of_output = |output| match output {
        Operand::Value(value) if node.dtype(value) != DType::Bool => Operand::Integers(value),
        output => output,
    };
    outputs.into_iter().map(of_output).collect()
}

/// Refuses values that no image has. An extent of 0 excuses no others.
pub(super) fn check_size(shape: &Shape) -> Result<()> {
    let times = |count: usize, extent: usize| count.checked_mul(extent.max(1));
    let count = shape.0.iter().try_fold(1_usize, |count, dim| match dim {
        Dim::Size(size) => times(count, *size),
        Dim::Batch { outer, inner } => times(times(count, *outer)?, *inner),
    });
    match count {
        Some(count) if count <= MAX_ELEMENTS => Ok(()),
        _ => Err(format!(
            "a value of shape {shape} is too large; at most {MAX_ELEMENTS} elements an image"
        )),
    }
}
