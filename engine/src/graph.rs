//! A network as values in topological order, read from an ONNX file.

use crate::shape::Shape;

/// A handle of a value of a [`Graph`].
pub(crate) type Value = usize;

/// A function of elements at the same place of one, two or three operands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Function {
    Relu,
    LeakyRelu { slope: f32 },
    Sigmoid,
    Tanh,
    Softplus,
    HardSigmoid { alpha: f32, beta: f32 },
    Neg,
    Sqrt,
    Exp,
    Log,
    Reciprocal,
    Erf,
    Abs,
    Sign,
    Sin,
    Cos,
    Asin,
    Atan,
    Asinh,
    Acosh,
    Atanh,
    Floor,
    Round,
    Add,
    Sub,
    Mul,
    Div,
    Min,
    Max,
    Pow,
    Greater,
    GreaterOrEqual,
    Equal,
    Where,
}

impl Function {
    /// Whether it costs more to compute than to store and load.
    pub fn is_dear(self) -> bool {
        use Function::*;
        matches!(
            self,
            Sigmoid
                | Tanh
                | Softplus
                | Sqrt
                | Exp
                | Log
                | Erf
                | Sin
                | Cos
                | Asin
                | Atan
                | Asinh
                | Acosh
                | Atanh
                | Pow
                | Div
                | Reciprocal
        )
    }
}

/// How windows lie over pictures: those of convolutions, of their transposes and of pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Windows {
    pub kernel: [usize; 2],
    pub strides: [usize; 2],
    /// Above and to the left.
    pub pads: [usize; 2],
    pub dilations: [usize; 2],
    pub groups: usize,
}

/// How a reduction makes one element of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reduction {
    Sum,
    Mean,
    Max,
}

/// Where an axis of a result comes from: its element `i` is element `(start + step · i) / divisor`, rounded down, of the operand's axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AxisSource {
    /// The operand's axis; `None` for a new axis.
    pub axis: Option<usize>,
    pub start: isize,
    pub step: isize,
    pub divisor: isize,
}

impl AxisSource {
    /// An axis as it is.
    pub fn same(axis: usize) -> Self {
        Self {
            axis: Some(axis),
            start: 0,
            step: 1,
            divisor: 1,
        }
    }
}

/// What is computed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Op {
    /// Element by element, with broadcasting.
    Map(Function),
    /// Operands: picture, weight, and a bias if there is one.
    Conv(Windows),
    /// As [`Op::Conv`].
    ConvTranspose(Windows),
    /// Zeros around the picture count.
    AveragePool(Windows),
    MaxPool(Windows),
    /// Elements in other places; `fill` for those that come from outside the operand.
    Move {
        axes: Vec<AxisSource>,
        fill: f32,
    },
    /// The same elements in the same order.
    Reshape,
    Concat {
        axis: usize,
    },
    Reduce {
        kind: Reduction,
        axes: Vec<usize>,
    },
    Softmax {
        axis: usize,
    },
    MatMul,
}

/// Where a value comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Input,
    Constant(Vec<f32>),
    Node { op: Op, operands: Vec<Value> },
}

/// A value: its name in the file, its shape and its source.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub name: String,
    pub shape: Shape,
    pub source: Source,
}

/// A network.
#[derive(Clone, Debug, Default)]
pub(crate) struct Graph {
    /// Operands stand before what is made of them.
    pub nodes: Vec<Node>,
    pub inputs: Vec<Value>,
    /// By name; a value may have several.
    pub outputs: Vec<(String, Value)>,
}

impl Graph {
    pub fn shape(&self, value: Value) -> &Shape {
        &self.nodes[value].shape
    }

    /// The elements of a constant, which may have been given another shape.
    pub fn constant(&self, value: Value) -> Option<&[f32]> {
        match &self.nodes[value].source {
            Source::Constant(elements) => Some(elements),
            Source::Node { op, operands } if *op == Op::Reshape => self.constant(operands[0]),
            _ => None,
        }
    }

    /// The operator of a value and its operands, if it is the result of one.
    pub fn operator(&self, value: Value) -> Option<(&Op, &[Value])> {
        match &self.nodes[value].source {
            Source::Node { op, operands } => Some((op, operands)),
            _ => None,
        }
    }

    /// How often each value is an operand or an output.
    pub fn use_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.nodes.len()];
        let operands = (0..self.nodes.len()).filter_map(|value| self.operator(value));
        operands
            .flat_map(|(_, operands)| operands)
            .for_each(|&operand| counts[operand] += 1);
        self.outputs
            .iter()
            .for_each(|&(_, value)| counts[value] += 1);
        counts
    }
}
