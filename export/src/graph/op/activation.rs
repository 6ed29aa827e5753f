//! Activations that are one ONNX operator. Those made of several are built in [`crate::source::networks::Activation`].

use ndarray::ArrayD;

use super::{
    BackwardStep, Binary, Cast, Compare, OnnxAttribute, OnnxOperator, Operator, Unary, floats,
};
use crate::error::Result;
use crate::graph::{Graph, Value, ValueType};

/// An activation of one operand, element by element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `x` where positive, else `slope · x`.
    LeakyRelu {
        /// Factor of negative values.
        slope: f32,
    },
    /// `1 / (1 + e⁻ˣ)`.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// `log(1 + eˣ)`.
    Softplus,
    /// 1 where x > 0, else 0: the derivative of [`Activation::Relu`]. Written as a `HardSigmoid` that is exact for every f32 but positive
    /// subnormal ones, which give less than 1.
    Positive,
}

/// A slope so steep that every positive normal f32 is at least 1 behind it.
const STEEPEST: f32 = 3e38;

impl Operator for Activation {
    fn infer(&self, inputs: &[&ValueType]) -> Result<ValueType, String> {
        floats::<1>(inputs).map(|[x]| ValueType::f32(x.clone()))
    }

    fn to_onnx(&self) -> OnnxOperator {
        match self {
            Activation::Relu => OnnxOperator::plain("Relu"),
            Activation::Sigmoid => OnnxOperator::plain("Sigmoid"),
            Activation::Tanh => OnnxOperator::plain("Tanh"),
            Activation::Softplus => OnnxOperator::plain("Softplus"),
            Activation::LeakyRelu { slope } => {
                OnnxOperator::plain("LeakyRelu").with("alpha", OnnxAttribute::Float(*slope))
            }
            Activation::Positive => OnnxOperator::plain("HardSigmoid")
                .with("alpha", OnnxAttribute::Float(STEEPEST))
                .with("beta", OnnxAttribute::Float(0.0)),
        }
    }

    fn evaluate(&self, inputs: &[ArrayD<f64>]) -> ArrayD<f64> {
        inputs[0].mapv(|x| match self {
            Activation::Relu => x.max(0.0),
            Activation::LeakyRelu { slope } => {
                if x > 0.0 {
                    x
                } else {
                    f64::from(*slope) * x
                }
            }
            Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Activation::Tanh => x.tanh(),
            Activation::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
            Activation::Positive => f64::from(x > 0.0),
        })
    }

    /// Piecewise-linear ones multiply by a mask, which is cheaper than `Where` on every backend measured;
    /// smooth ones reuse the value of the forward pass.
    fn gradient(&self, step: &mut BackwardStep<'_>) -> Result<Vec<Option<Value>>> {
        let (x, y, g) = (step.inputs[0], step.output, step.cotangent);
        let derivative = match self {
            Activation::Relu => positive_mask(step, x)?,
            Activation::LeakyRelu { slope } => {
                // slope + (1 − slope) · [x > 0].
                let mask = positive_mask(step, x)?;
                let rise = step.scalar("rise", 1.0 - slope);
                let slope = step.scalar("slope", *slope);
                let scaled = step.apply("scaled", Binary::Mul, &[mask, rise])?;
                step.apply("derivative", Binary::Add, &[scaled, slope])?
            }
            Activation::Sigmoid => {
                // y (1 − y).
                let one = step.scalar("one", 1.0);
                let rest = step.apply("rest", Binary::Sub, &[one, y])?;
                step.apply("derivative", Binary::Mul, &[y, rest])?
            }
            Activation::Tanh => {
                // 1 − y².
                let one = step.scalar("one", 1.0);
                let square = step.apply("square", Binary::Mul, &[y, y])?;
                step.apply("derivative", Binary::Sub, &[one, square])?
            }
            Activation::Softplus => step.apply("derivative", Activation::Sigmoid, &[x])?,
            // Constant almost everywhere.
            Activation::Positive => return Ok(vec![None]),
        };
        Ok(vec![Some(step.apply(
            "product",
            Binary::Mul,
            &[g, derivative],
        )?)])
    }
}

/// 1 where `x > 0`, else 0.
fn positive_mask(step: &mut BackwardStep<'_>, x: Value) -> Result<Value> {
    let zero = step.scalar("zero", 0.0);
    let positive = step.apply("positive", Compare::Greater, &[x, zero])?;
    step.apply("mask", Cast::F32, &[positive])
}

impl Activation {
    /// `x · sigmoid(x)`.
    pub(crate) fn silu(graph: &mut Graph, name: &str, x: Value) -> Result<Value> {
        let gate = graph.apply(&format!("{name}.gate"), Activation::Sigmoid, &[x])?;
        graph.apply(name, Binary::Mul, &[x, gate])
    }

    /// `x/2 · (1 + erf(x/√2))`.
    pub(crate) fn gelu(graph: &mut Graph, name: &str, x: Value) -> Result<Value> {
        let root = graph.scalar(&format!("{name}.root"), std::f32::consts::FRAC_1_SQRT_2);
        let [one, half] = [1.0, 0.5].map(|value| graph.scalar(&format!("{name}.constant"), value));
        let scaled = graph.apply(&format!("{name}.scaled"), Binary::Mul, &[x, root])?;
        let erf = graph.apply(&format!("{name}.erf"), Unary::Erf, &[scaled])?;
        let gate = graph.apply(&format!("{name}.gate"), Binary::Add, &[erf, one])?;
        let halved = graph.apply(&format!("{name}.half"), Binary::Mul, &[x, half])?;
        graph.apply(name, Binary::Mul, &[halved, gate])
    }

    /// `log(1 + e^(βx)) / β`.
    pub(crate) fn softplus(graph: &mut Graph, name: &str, x: Value, beta: f32) -> Result<Value> {
        let [sharpness, inverse] =
            [beta, 1.0 / beta].map(|value| graph.scalar(&format!("{name}.constant"), value));
        let scaled = graph.apply(&format!("{name}.scaled"), Binary::Mul, &[x, sharpness])?;
        let soft = graph.apply(&format!("{name}.soft"), Activation::Softplus, &[scaled])?;
        graph.apply(name, Binary::Mul, &[soft, inverse])
    }

    /// `(1 − a) x + a √(x² + e²) − a e`.
    pub(crate) fn soft_leaky_relu(
        graph: &mut Graph,
        name: &str,
        x: Value,
        a: f32,
        e: f32,
    ) -> Result<Value> {
        let mut constant = |value| graph.scalar(&format!("{name}.constant"), value);
        let [linear, bend, square_width, offset] = [
            constant(1.0 - a),
            constant(a),
            constant(e * e),
            constant(a * e),
        ];
        let square = graph.apply(&format!("{name}.square"), Binary::Mul, &[x, x])?;
        let widened = graph.apply(
            &format!("{name}.widened"),
            Binary::Add,
            &[square, square_width],
        )?;
        let root = graph.apply(&format!("{name}.root"), Unary::Sqrt, &[widened])?;
        let bent = graph.apply(&format!("{name}.bent"), Binary::Mul, &[root, bend])?;
        let straight = graph.apply(&format!("{name}.straight"), Binary::Mul, &[x, linear])?;
        let sum = graph.apply(&format!("{name}.sum"), Binary::Add, &[straight, bent])?;
        graph.apply(name, Binary::Sub, &[sum, offset])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::op::testing::{Operand, check_gradients, evaluate};

    const ALL: [Activation; 6] = [
        Activation::Relu,
        Activation::LeakyRelu { slope: 0.2 },
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Softplus,
        Activation::Positive,
    ];

    #[test]
    fn known_values() {
        let wanted = [
            [0.0, 2.0],
            [-0.2, 2.0],
            [0.268941, 0.880797],
            [-0.761594, 0.964028],
            [0.313262, 2.126928],
            [0.0, 1.0],
        ];
        for (op, wanted) in ALL.into_iter().zip(wanted) {
            let result = evaluate(op, &[Operand::fixed(&[2], &[-1.0, 2.0])]);
            for (got, wanted) in result.iter().zip(wanted) {
                assert!(
                    (got - wanted).abs() < 1e-6,
                    "{op:?}: {got}, expected {wanted}"
                );
            }
        }
    }

    #[test]
    fn gradients_match_finite_differences() {
        for op in ALL {
            println!("{op:?}");
            check_gradients(op, &[Operand::random(&[2, 3, 3], 3)]);
        }
    }
}
