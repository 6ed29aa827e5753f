//! Arithmetic element by element, with broadcasting; comparisons and their truth values as numbers.

use ndarray::{ArrayD, Zip};

use super::{BackwardStep, OnnxAttribute, OnnxOperator, Operator, floats};
use crate::error::Error;
use crate::graph::{DType, Graph, Shape, Value, ValueType};

/// Two operands of broadcastable shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `a + b`.
    Add,
    /// `a − b`.
    Sub,
    /// `a · b`.
    Mul,
    /// `a / b`.
    Div,
}

/// One operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    /// `−x`.
    Neg,
    /// `√x`, x ≥ 0.
    Sqrt,
    /// `eˣ`.
    Exp,
    /// The natural logarithm, x > 0.
    Log,
    /// `1/x`.
    Reciprocal,
    /// The error function, `2/√π ∫₀ˣ e^(−t²) dt`.
    Erf,
}

/// Two f32 operands of broadcastable shapes to truth values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// `a > b`.
    Greater,
}

/// To another float type; truth values become 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cast {
    /// A float type.
    pub to: DType,
}

impl Cast {
    /// To f32.
    pub const F32: Cast = Cast { to: DType::F32 };
}

fn broadcast(inputs: &[&ValueType]) -> Result<Shape, String> {
    let [left, right] = floats::<2>(inputs)?;
    left.broadcast(right)
        .ok_or_else(|| format!("shapes {left} and {right} do not broadcast"))
}

fn elementwise(inputs: &[ArrayD<f64>], function: impl Fn(f64, f64) -> f64) -> ArrayD<f64> {
    let rank = inputs[0].ndim().max(inputs[1].ndim());
    let extent = |array: &ArrayD<f64>, axis: usize| {
        (axis + array.ndim())
            .checked_sub(rank)
            .map_or(1, |axis| array.shape()[axis])
    };
    let shape: Vec<usize> = (0..rank)
        .map(
            |axis| match (extent(&inputs[0], axis), extent(&inputs[1], axis)) {
                (1, other) => other,
                (own, _) => own,
            },
        )
        .collect();
    let [left, right] = [&inputs[0], &inputs[1]]
        .map(|array| array.broadcast(shape.clone()).expect("checked by infer"));
    Zip::from(&left)
        .and(&right)
        .map_collect(|&a, &b| function(a, b))
}

impl Operator for Binary {
    fn name(&self) -> &'static str {
        match self {
            Binary::Add => "Add",
            Binary::Sub => "Sub",
            Binary::Mul => "Mul",
            Binary::Div => "Div",
        }
    }

    fn infer(&self, inputs: &[&ValueType]) -> Result<ValueType, String> {
        broadcast(inputs).map(ValueType::f32)
    }

    fn to_onnx(&self) -> OnnxOperator {
        OnnxOperator::plain(self.name())
    }

    fn evaluate(&self, inputs: &[ArrayD<f64>]) -> ArrayD<f64> {
        match self {
            Binary::Add => elementwise(inputs, |a, b| a + b),
            Binary::Sub => elementwise(inputs, |a, b| a - b),
            Binary::Mul => elementwise(inputs, |a, b| a * b),
            Binary::Div => elementwise(inputs, |a, b| a / b),
        }
    }

    fn gradient(
        &self,
        graph: &mut Graph,
        step: &BackwardStep<'_>,
    ) -> Result<Vec<Option<Value>>, Error> {
        let [left, right] = [step.inputs[0], step.inputs[1]];
        let mut gradients = vec![None, None];
        for operand in (0..2).filter(|&operand| step.wanted[operand]) {
            let g = if graph.shape(step.inputs[operand]) == graph.shape(step.output) {
                step.cotangent
            } else {
                step.full_cotangent(graph)?
            };
            let full = match (self, operand) {
                (Binary::Add, _) | (Binary::Sub, 0) => g,
                (Binary::Sub, _) => graph.apply(&step.named("neg"), Unary::Neg, &[g])?,
                (Binary::Mul, 0) => graph.apply(&step.named("left"), Binary::Mul, &[g, right])?,
                (Binary::Mul, _) => graph.apply(&step.named("right"), Binary::Mul, &[g, left])?,
                (Binary::Div, 0) => graph.apply(&step.named("left"), Binary::Div, &[g, right])?,
                (Binary::Div, _) => {
                    // ∂(a/b)/∂b = −(a/b)/b, with the quotient at hand.
                    let ratio =
                        graph.apply(&step.named("ratio"), Binary::Div, &[step.output, right])?;
                    let product = graph.apply(&step.named("product"), Binary::Mul, &[g, ratio])?;
                    graph.apply(&step.named("neg"), Unary::Neg, &[product])?
                }
            };
            gradients[operand] = Some(step.unbroadcast(graph, full, step.inputs[operand])?);
        }
        Ok(gradients)
    }
}

impl Operator for Unary {
    fn name(&self) -> &'static str {
        match self {
            Unary::Neg => "Neg",
            Unary::Sqrt => "Sqrt",
            Unary::Exp => "Exp",
            Unary::Log => "Log",
            Unary::Reciprocal => "Reciprocal",
            Unary::Erf => "Erf",
        }
    }

    fn infer(&self, inputs: &[&ValueType]) -> Result<ValueType, String> {
        floats::<1>(inputs).map(|[x]| ValueType::f32(x.clone()))
    }

    fn to_onnx(&self) -> OnnxOperator {
        OnnxOperator::plain(self.name())
    }

    fn evaluate(&self, inputs: &[ArrayD<f64>]) -> ArrayD<f64> {
        inputs[0].mapv(|x| match self {
            Unary::Neg => -x,
            Unary::Sqrt => x.sqrt(),
            Unary::Exp => x.exp(),
            Unary::Log => x.ln(),
            Unary::Reciprocal => 1.0 / x,
            Unary::Erf => libm::erf(x),
        })
    }

    fn gradient(
        &self,
        graph: &mut Graph,
        step: &BackwardStep<'_>,
    ) -> Result<Vec<Option<Value>>, Error> {
        let (x, y, g) = (step.inputs[0], step.output, step.cotangent);
        let gradient = match self {
            Unary::Neg => graph.apply(&step.named("neg"), Unary::Neg, &[g])?,
            Unary::Exp => graph.apply(&step.named("exp"), Binary::Mul, &[g, y])?,
            Unary::Log => graph.apply(&step.named("log"), Binary::Div, &[g, x])?,
            Unary::Sqrt => {
                // ½ g / √x.
                let half = graph.scalar(&step.named("half"), 0.5);
                let halved = graph.apply(&step.named("halved"), Binary::Mul, &[g, half])?;
                graph.apply(&step.named("sqrt"), Binary::Div, &[halved, y])?
            }
            Unary::Reciprocal => {
                // −g / x².
                let square = graph.apply(&step.named("square"), Binary::Mul, &[y, y])?;
                let product = graph.apply(&step.named("product"), Binary::Mul, &[g, square])?;
                graph.apply(&step.named("neg"), Unary::Neg, &[product])?
            }
            Unary::Erf => {
                // g · 2/√π · e^(−x²).
                let square = graph.apply(&step.named("square"), Binary::Mul, &[x, x])?;
                let exponent = graph.apply(&step.named("exponent"), Unary::Neg, &[square])?;
                let bell = graph.apply(&step.named("bell"), Unary::Exp, &[exponent])?;
                let factor = graph.scalar(&step.named("factor"), std::f32::consts::FRAC_2_SQRT_PI);
                let scaled = graph.apply(&step.named("scaled"), Binary::Mul, &[bell, factor])?;
                graph.apply(&step.named("erf"), Binary::Mul, &[g, scaled])?
            }
        };
        Ok(vec![Some(gradient)])
    }
}

impl Operator for Compare {
    fn name(&self) -> &'static str {
        match self {
            Compare::Greater => "Greater",
        }
    }

    fn infer(&self, inputs: &[&ValueType]) -> Result<ValueType, String> {
        broadcast(inputs).map(|shape| ValueType {
            dtype: DType::Bool,
            shape,
        })
    }

    fn to_onnx(&self) -> OnnxOperator {
        OnnxOperator::plain(self.name())
    }

    fn evaluate(&self, inputs: &[ArrayD<f64>]) -> ArrayD<f64> {
        match self {
            Compare::Greater => elementwise(inputs, |a, b| f64::from(a > b)),
        }
    }

    /// Constant almost everywhere.
    fn gradient(
        &self,
        _graph: &mut Graph,
        _step: &BackwardStep<'_>,
    ) -> Result<Vec<Option<Value>>, Error> {
        Ok(vec![None, None])
    }
}

impl Operator for Cast {
    fn name(&self) -> &'static str {
        "Cast"
    }

    fn infer(&self, inputs: &[&ValueType]) -> Result<ValueType, String> {
        match inputs {
            [ValueType { shape, .. }] if self.to.is_float() => Ok(ValueType {
                dtype: self.to,
                shape: shape.clone(),
            }),
            _ => Err(format!(
                "expected one operand and a float type, got {} and {:?}",
                inputs.len(),
                self.to
            )),
        }
    }

    fn to_onnx(&self) -> OnnxOperator {
        OnnxOperator::plain("Cast").with("to", OnnxAttribute::Type(self.to))
    }

    fn evaluate(&self, inputs: &[ArrayD<f64>]) -> ArrayD<f64> {
        inputs[0].clone()
    }

    /// Back in the operand's type; truth values have no derivative.
    fn gradient(
        &self,
        graph: &mut Graph,
        step: &BackwardStep<'_>,
    ) -> Result<Vec<Option<Value>>, Error> {
        let to = graph.value_type(step.inputs[0]).dtype;
        if !to.is_float() {
            return Ok(vec![None]);
        }
        let gradient = graph.apply(&step.named("cast"), Cast { to }, &[step.cotangent])?;
        Ok(vec![Some(gradient)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{Operand, check_gradients, evaluate};

    #[test]
    fn binary_gradients_match_finite_differences() {
        let x = || Operand::random(&[2, 3, 3], 1).shifted(3.0);
        for op in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div] {
            for (case, other) in [
                ("same shape", Operand::random(&[2, 3, 3], 2).shifted(-3.0)),
                ("scalar", Operand::random_fixed(&[], 3).shifted(3.0)),
                (
                    "per channel",
                    Operand::random_fixed(&[2, 1, 1], 4).shifted(3.0),
                ),
                (
                    "stretched operand that depends on the input",
                    Operand::random(&[2, 1, 1], 5).shifted(3.0),
                ),
            ] {
                println!("{op:?}, {case}");
                check_gradients(op, &[x(), other.clone()]);
                check_gradients(op, &[other, x()]);
            }
        }
    }

    #[test]
    fn unary_gradients_match_finite_differences() {
        for op in [
            Unary::Neg,
            Unary::Sqrt,
            Unary::Exp,
            Unary::Log,
            Unary::Reciprocal,
            Unary::Erf,
        ] {
            println!("{op:?}");
            check_gradients(op, &[Operand::random(&[2, 3], 1).shifted(2.0)]);
        }
        check_gradients(Unary::Erf, &[Operand::random(&[2, 3], 7)]);
    }

    #[test]
    fn a_mask_is_zero_or_one() {
        let [x, zero] = [
            Operand::fixed(&[3], &[-1.0, 0.0, 2.0]),
            Operand::fixed(&[], &[0.0]),
        ];
        assert_eq!(
            evaluate(Compare::Greater, &[x, zero]).as_slice().unwrap(),
            [0.0, 0.0, 1.0]
        );
    }

    #[test]
    fn refuses_shapes_that_do_not_broadcast() {
        let [left, right] =
            [[2usize, 3], [2, 4]].map(|sizes| ValueType::f32(Shape::batched(&sizes)));
        let problem = Binary::Add.infer(&[&left, &right]).unwrap_err();
        assert_eq!(problem, "shapes [N, 2, 3] and [N, 2, 4] do not broadcast");
    }
}
