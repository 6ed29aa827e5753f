//! Operators that work element by element.

use super::Ruled;
use super::node::NodeReader;
use crate::graph::{Function, Op, Value};
use crate::onnx::Tensor;
use crate::shape::Shape;

/// The operand itself, of operators that change nothing. Truth values are 0 and 1 already.
pub(super) fn alias(node: &NodeReader<'_>) -> Result<Option<Value>, String> {
    match node.operator() {
        "Identity" => node.expect(&[], 1)?,
        "Cast" => {
            node.expect(&["to"], 1)?;
            let to = node.int("to", 0);
            if to != i64::from(Tensor::FLOAT) {
                return Err(format!("expected a cast to type 1 (f32), got {to}"));
            }
        }
        _ => return Ok(None),
    }
    node.operand(0).map(Some)
}

pub(super) fn map(node: &NodeReader<'_>) -> Result<Ruled, String> {
    use Function::*;
    let (function, count, attributes): (Function, usize, &[&str]) = match node.operator() {
        "Relu" => (Relu, 1, &[]),
        "LeakyRelu" => {
            let slope = node.float("alpha", 0.01);
            (LeakyRelu { slope }, 1, &["alpha"])
        }
        "HardSigmoid" => {
            let (alpha, beta) = (node.float("alpha", 0.2), node.float("beta", 0.5));
            (HardSigmoid { alpha, beta }, 1, &["alpha", "beta"])
        }
        "Sigmoid" => (Sigmoid, 1, &[]),
        "Tanh" => (Tanh, 1, &[]),
        "Softplus" => (Softplus, 1, &[]),
        "Neg" => (Neg, 1, &[]),
        "Sqrt" => (Sqrt, 1, &[]),
        "Exp" => (Exp, 1, &[]),
        "Log" => (Log, 1, &[]),
        "Reciprocal" => (Reciprocal, 1, &[]),
        "Erf" => (Erf, 1, &[]),
        "Abs" => (Abs, 1, &[]),
        "Sign" => (Sign, 1, &[]),
        "Sin" => (Sin, 1, &[]),
        "Cos" => (Cos, 1, &[]),
        "Asin" => (Asin, 1, &[]),
        "Atan" => (Atan, 1, &[]),
        "Asinh" => (Asinh, 1, &[]),
        "Acosh" => (Acosh, 1, &[]),
        "Atanh" => (Atanh, 1, &[]),
        "Floor" => (Floor, 1, &[]),
        "Round" => (Round, 1, &[]),
        "Add" => (Add, 2, &[]),
        "Sub" => (Sub, 2, &[]),
        "Mul" => (Mul, 2, &[]),
        "Div" => (Div, 2, &[]),
        "Min" => (Min, 2, &[]),
        "Max" => (Max, 2, &[]),
        "Pow" => (Pow, 2, &[]),
        "Greater" => (Greater, 2, &[]),
        "GreaterOrEqual" => (GreaterOrEqual, 2, &[]),
        "Equal" => (Equal, 2, &[]),
        "Where" => (Where, 3, &[]),
        _ => return Err("the engine does not have this operator".to_string()),
    };
    node.expect(attributes, count)?;
    let operands = (0..count)
        .map(|place| node.operand(place))
        .collect::<Result<Vec<_>, _>>()?;
    let shape = Shape::broadcast(operands.iter().map(|&operand| node.shape(operand)))?;
    Ok((Op::Map(function), operands, shape))
}
