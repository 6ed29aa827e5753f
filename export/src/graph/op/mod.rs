//! The operators: per family one file with, in that order, shape rule, ONNX form, reference evaluation,
//! gradient rule and tests.
//!
//! All follow ONNX semantics. To add one, write its file after the pattern of the others and list it in the
//! `operators!` table below.

/// An enum of operators without parameters that knows all of them, so that tables of tests cannot miss one. ONNX calls them as their members,
/// behind a prefix.
macro_rules! members {
    ($prefix:literal; $(#[$about:meta])* pub enum $name:ident { $($(#[$of_member:meta])* $member:ident,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$of_member])* $member,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &[$name] = &[$($name::$member,)+];

            /// ONNX's name of the operator.
            fn onnx_name(self) -> &'static str {
                match self {
                    $($name::$member => concat!($prefix, stringify!($member)),)+
                }
            }
        }
    };
}

mod activation;
mod concat;
mod conv;
mod conv_weight;
mod elementwise;
mod linear;
mod max_pool;
mod pad;
mod pool;
mod power;
mod reduce;
mod resize;
mod select;
mod shape;
mod singular;
mod slice;
mod softmax;
#[cfg(test)]
pub(crate) mod testing;
mod windows;

use std::ops::Deref;

use ndarray::ArrayD;

pub use activation::Activation;
pub use concat::Concat;
pub use conv::{Conv, ConvTranspose};
pub use elementwise::{Binary, Cast, Compare, Unary};
pub use linear::MatMul;
pub use max_pool::MaxPool;
pub use pad::Pad;
pub use pool::AveragePool;
pub use reduce::{KeepDims, Reduce, ReduceKind};
pub use resize::Upsample;
pub use select::Where;
pub use shape::{Expand, Reshape, Reverse, Transpose};
pub use slice::Slice;
pub use softmax::Softmax;

use crate::error::{Error, Result};
use crate::graph::tensor::Tensor;
use crate::graph::{DType, Dim, Graph, Shape, Value, ValueType};

/// What every operator can do.
pub trait Operator {
    /// Name for people: the type of the ONNX node.
    fn name(&self) -> &'static str {
        self.to_onnx().op_type
    }

    /// Type of the result for operands of those types; `Err` says what was expected and what came.
    fn infer(&self, inputs: &[&ValueType]) -> Result<ValueType, String>;

    /// The ONNX node that computes it.
    fn to_onnx(&self) -> OnnxOperator;

    /// The result in f64 by the plainest loop there is. Booleans are 0 and 1. Shapes were checked by [`Operator::infer`].
    fn evaluate(&self, inputs: &[ArrayD<f64>]) -> ArrayD<f64>;

    /// Adds to `graph` what takes the cotangent of the result to those of the operands, one per operand:
    /// `None` if an operand has none, or if `step.wanted` says that nobody asks for it.
    ///
    /// # Errors
    /// There is no rule for an operand that is wanted.
    fn gradient(&self, step: &mut BackwardStep<'_>) -> Result<Vec<Option<Value>>>;

    /// How it works, for the choice of the type that it works in.
    fn arithmetic(&self) -> Arithmetic {
        Arithmetic::Elements
    }

    /// Multiplications of one image: those of convolutions and matrix products, 0 for all else.
    fn multiplications(&self, _inputs: &[&Shape], _output: &Shape) -> usize {
        0
    }
}

/// How an operator makes its result of its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// Sums of products of two operands. Engines have units for these that multiply numbers of low types and add up in f32.
    Products,
    /// Sums over many elements, which lose their small terms where they are held in a low type.
    Sums,
    /// Each element of the result is made of few elements.
    Elements,
}

/// One node on the way back from the output to the input.
pub struct BackwardStep<'a> {
    /// The graph to which it adds.
    pub graph: &'a mut Graph,
    /// Name of the node; those that its rule adds are named after it.
    pub name: &'a str,
    /// The operands.
    pub inputs: &'a [Value],
    /// Per operand: does anyone want its cotangent?
    pub wanted: &'a [bool],
    /// The result.
    pub output: Value,
    /// Cotangent of the result. Its shape broadcasts to that of the result (an extent that it is constant along may be 1).
    pub cotangent: Value,
}

impl BackwardStep<'_> {
    /// A name for a node of the backward pass.
    fn named(&self, suffix: &str) -> String {
        format!("{}.grad.{suffix}", self.name)
    }

    /// Adds an operator of the backward pass.
    pub fn apply(&mut self, suffix: &str, op: impl Into<Op>, inputs: &[Value]) -> Result<Value> {
        self.graph.apply(&self.named(suffix), op, inputs)
    }

    /// Adds a number of the backward pass.
    pub fn scalar(&mut self, suffix: &str, value: f32) -> Value {
        self.graph.scalar(&self.named(suffix), value)
    }

    /// Adds a constant of the backward pass.
    pub fn constant(&mut self, suffix: &str, tensor: Tensor) -> Value {
        self.graph.constant(&self.named(suffix), tensor)
    }

    /// Why no rule applies.
    pub fn unsupported(&self, op: &'static str, problem: &str) -> Error {
        Error::Gradient {
            node: self.name.to_string(),
            op,
            problem: problem.to_string(),
        }
    }

    /// The cotangent with every extent as in the result, or as in that of a batch of one where it is the same for all images.
    pub fn full_cotangent(&mut self) -> Result<Value> {
        let result = self.graph.shape(self.output);
        let current = self.graph.shape(self.cotangent);
        let missing = result.rank() - current.rank();
        let own = |axis: usize| axis.checked_sub(missing).map(|axis| current.0[axis]);
        let extent = |(axis, &dim): (usize, &Dim)| match own(axis) {
            Some(own) if own.is_batch() => own,
            _ => Dim::Size(dim.concrete(1)),
        };
        let shape = Shape(result.0.iter().enumerate().map(extent).collect());
        if shape == *current {
            return Ok(self.cotangent);
        }
        self.apply("expand", Expand { shape }, &[self.cotangent])
    }

    /// Sums a cotangent over the extents along which an operand was stretched, to the operand's shape.
    pub fn unbroadcast(&mut self, cotangent: Value, operand: Value) -> Result<Value> {
        let target = self.graph.shape(operand).clone();
        let current = self.graph.shape(cotangent).clone();
        let missing = current.rank() - target.rank();
        let axes: Vec<usize> = (0..current.rank())
            .filter(|&axis| current.size(axis) != Some(1))
            .filter(|&axis| axis < missing || target.0[axis - missing] == Dim::Size(1))
            .collect();
        let mut sum = cotangent;
        if !axes.is_empty() {
            let reduce = Reduce {
                kind: ReduceKind::Sum,
                axes,
                keep_dims: KeepDims::Yes,
            };
            sum = self.apply("sum", reduce, &[sum])?;
        }
        if missing == 0 {
            return Ok(sum);
        }
        self.apply("reshape", Reshape { shape: target }, &[sum])
    }
}

/// How an operator reads in ONNX.
pub struct OnnxOperator {
    /// Operator type in the default domain.
    pub op_type: &'static str,
    /// Attributes.
    pub attributes: Vec<(&'static str, OnnxAttribute)>,
    /// Inputs that stand behind the operands.
    pub extra_inputs: Vec<OnnxInput>,
}

impl OnnxOperator {
    /// An operator with neither attributes nor further inputs.
    pub fn plain(op_type: &'static str) -> OnnxOperator {
        OnnxOperator {
            op_type,
            attributes: Vec::new(),
            extra_inputs: Vec::new(),
        }
    }

    /// Puts an attribute on it.
    pub fn with(mut self, name: &'static str, attribute: OnnxAttribute) -> OnnxOperator {
        self.attributes.push((name, attribute));
        self
    }

    /// Puts a further input behind the operands.
    pub fn with_input(mut self, input: OnnxInput) -> OnnxOperator {
        self.extra_inputs.push(input);
        self
    }
}

/// A value of an ONNX attribute.
pub enum OnnxAttribute {
    /// An integer.
    Int(i64),
    /// A float.
    Float(f32),
    /// Integers.
    Ints(Vec<i64>),
    /// A string.
    Text(&'static str),
    /// An element type, by ONNX's number for it.
    Type(DType),
}

impl OnnxAttribute {
    /// Integers from sizes.
    pub fn sizes(sizes: &[usize]) -> OnnxAttribute {
        OnnxAttribute::Ints(as_i64(sizes))
    }
}

/// A constant input of an ONNX node.
pub enum OnnxInput {
    /// An input that is left out.
    Missing,
    /// Integers, as a tensor of one axis.
    Ints(Vec<i64>),
    /// Floats, as a tensor of one axis.
    Floats(Vec<f32>),
    /// A number of the operands' float type, as a tensor without axes.
    Scalar(f32),
}

pub(crate) fn as_i64(sizes: &[usize]) -> Vec<i64> {
    sizes.iter().map(|&size| size as i64).collect()
}

macro_rules! operators {
    ($($name:ident),+ $(,)?) => {
        /// An operator with its attributes.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Op {
            $(#[doc = concat!("See [`", stringify!($name), "`].")] $name($name),)+
        }

        $(impl From<$name> for Op {
            fn from(op: $name) -> Op {
                Op::$name(op)
            }
        })+

        impl Deref for Op {
            type Target = dyn Operator;

            fn deref(&self) -> &(dyn Operator + 'static) {
                match self {
                    $(Op::$name(op) => op,)+
                }
            }
        }
    };
}

operators!(
    Activation,
    AveragePool,
    Binary,
    Cast,
    Compare,
    Concat,
    Conv,
    ConvTranspose,
    Expand,
    MatMul,
    MaxPool,
    Pad,
    Reduce,
    Reshape,
    Reverse,
    Slice,
    Softmax,
    Transpose,
    Unary,
    Upsample,
    Where,
);

/// The operands as a fixed number of f32 values.
pub(crate) fn floats<'a, const COUNT: usize>(
    inputs: &[&'a ValueType],
) -> Result<[&'a Shape; COUNT], String> {
    let shapes = all_floats(inputs)?;
    let count = shapes.len();
    shapes
        .try_into()
        .map_err(|_| format!("expected {COUNT} operands, got {count}"))
}

/// The operands as any number of f32 values.
pub(crate) fn all_floats<'a>(inputs: &[&'a ValueType]) -> Result<Vec<&'a Shape>, String> {
    if let Some(position) = inputs.iter().position(|input| input.dtype != DType::F32) {
        return Err(format!(
            "operand {position} must be f32, got {:?}",
            inputs[position].dtype
        ));
    }
    Ok(inputs.iter().map(|input| &input.shape).collect())
}

/// Checks axes to work along: at least one, each once, of fixed extent.
pub(crate) fn check_axes(action: &str, axes: &[usize], shape: &Shape) -> Result<(), String> {
    if axes.is_empty() || (1..axes.len()).any(|index| axes[..index].contains(&axes[index])) {
        return Err(format!(
            "expected at least one axis and each once, got {axes:?}"
        ));
    }
    match axes.iter().find(|&&axis| shape.size(axis).is_none()) {
        Some(axis) => Err(format!(
            "cannot {action} axis {axis} of {shape}: only fixed extents, never the batch"
        )),
        None => Ok(()),
    }
}

/// The type of an image tensor with those extents behind the batch.
pub(crate) fn image_type(batch: Dim, extents: [usize; 3]) -> ValueType {
    let extents = extents.map(Dim::Size);
    ValueType::f32(Shape(std::iter::once(batch).chain(extents).collect()))
}

/// The extents of an image tensor `[batch, channels, height, width]`: everything behind the batch.
pub(crate) fn image_extents(shape: &Shape) -> Result<[usize; 3], String> {
    match shape.0.as_slice() {
        [_, Dim::Size(channels), Dim::Size(height), Dim::Size(width)] => {
            Ok([*channels, *height, *width])
        }
        _ => Err(format!("expected [N, C, H, W], got {shape}")),
    }
}
