//! Activations, element by element. Where they have a kink, their derivative there is PyTorch's.
//!
//! ONNX operators: `Celu`, `Elu`, `Gelu`, `HardSigmoid`, `HardSwish`, `LeakyRelu`, `Mish`, `PRelu`, `Relu`, `Selu`,
//! `Sigmoid`, `Softplus`, `Softsign`, `Swish`, `Tanh`, `ThresholdedRelu`; see [the
//! specification](https://onnx.ai/onnx/operators/).

use super::node::{Node, Outputs, Rule};
use super::result::Result;
use crate::graph::Value;
use crate::graph::op::{Activation, Binary, Cast, Compare, Unary, Where};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Relu", |node| one_primitive(node, Activation::Relu)),
    ("LeakyRelu", leaky_relu),
    ("PRelu", prelu),
    ("ThresholdedRelu", thresholded_relu),
    ("Elu", elu),
    ("Selu", selu),
    ("Celu", celu),
    ("Sigmoid", |node| one_primitive(node, Activation::Sigmoid)),
    ("HardSigmoid", hard_sigmoid),
    ("HardSwish", hard_swish),
    ("Tanh", |node| one_primitive(node, Activation::Tanh)),
    ("Softplus", |node| one_primitive(node, Activation::Softplus)),
    ("Softsign", softsign),
    ("Gelu", gelu),
    ("Mish", mish),
    ("Swish", swish),
];

fn one_primitive(node: &mut Node<'_, '_>, activation: Activation) -> Outputs {
    let x = node.value(0)?;
    node.result(activation, &[x])
}

fn leaky_relu(node: &mut Node<'_, '_>) -> Outputs {
    let slope = node.float("alpha")?.unwrap_or(0.01);
    one_primitive(node, Activation::LeakyRelu { slope })
}

/// `x · (1 where x > 0, else slope)`, which costs one product on the way back.
fn prelu(node: &mut Node<'_, '_>) -> Outputs {
    let operands = [node.value(0)?, node.value(1)?];
    let operands = node.broadcasting(&operands)?;
    let [x, slope] = [operands[0], operands[1]];
    let [zero, one] = [node.scalar("zero", 0.0), node.scalar("one", 1.0)];
    let positive = node.apply("positive", Compare::Greater, &[x, zero])?;
    let factor = node.apply("factor", Where, &[positive, one, slope])?;
    node.result(Binary::Mul, &[x, factor])
}

/// `x` where it is above alpha, else 0.
fn thresholded_relu(node: &mut Node<'_, '_>) -> Outputs {
    let threshold = node.float("alpha")?.unwrap_or(1.0);
    let x = node.value(0)?;
    let threshold = node.scalar("threshold", threshold);
    let above = node.apply("above", Compare::Greater, &[x, threshold])?;
    let mask = node.apply("mask", Cast::F32, &[above])?;
    node.result(Binary::Mul, &[x, mask])
}

/// `x` where it is positive, else `alpha · (eˣ − 1)`.
fn elu(node: &mut Node<'_, '_>) -> Outputs {
    let alpha = node.float("alpha")?.unwrap_or(1.0);
    let x = node.value(0)?;
    let below = exponential_below_zero(node, x, 1.0, alpha)?;
    let above = node.apply("above", Activation::Relu, &[x])?;
    node.result(Binary::Add, &[above, below])
}

/// `gamma · elu(x)`.
fn selu(node: &mut Node<'_, '_>) -> Outputs {
    let alpha = node.float("alpha")?.unwrap_or(1.673_263_2);
    let gamma = node.float("gamma")?.unwrap_or(1.050_701);
    let x = node.value(0)?;
    let below = exponential_below_zero(node, x, 1.0, alpha * gamma)?;
    let above = node.apply("above", Activation::Relu, &[x])?;
    let above = node.scaled("scaled", above, gamma)?;
    node.result(Binary::Add, &[above, below])
}

/// `x` where it is positive, else `alpha · (e^(x/alpha) − 1)`.
fn celu(node: &mut Node<'_, '_>) -> Outputs {
    let alpha = node.float("alpha")?.unwrap_or(1.0);
    if alpha == 0.0 {
        return Err("expected an alpha other than 0".to_string());
    }
    let x = node.value(0)?;
    let below = exponential_below_zero(node, x, 1.0 / alpha, alpha)?;
    let above = node.apply("above", Activation::Relu, &[x])?;
    node.result(Binary::Add, &[above, below])
}

/// `scale · (e^(sharpness·x) − 1)` where x is negative, else 0. Its derivative at 0 is that from below.
fn exponential_below_zero(
    node: &mut Node<'_, '_>,
    x: Value,
    sharpness: f32,
    scale: f32,
) -> Result<Value> {
    let zero = node.scalar("zero", 0.0);
    let negative = node.apply("negative", Binary::Min, &[x, zero])?;
    let exponent = node.scaled("exponent", negative, sharpness)?;
    let exponential = node.apply("exponential", Unary::Exp, &[exponent])?;
    let lowered = node.shifted("lowered", exponential, -1.0)?;
    node.scaled("below", lowered, scale)
}

/// `alpha·x + beta`, between 0 and 1.
fn hard_sigmoid(node: &mut Node<'_, '_>) -> Outputs {
    let alpha = node.float("alpha")?.unwrap_or(0.2);
    let beta = node.float("beta")?.unwrap_or(0.5);
    let x = node.value(0)?;
    let ramp = ramp(node, x, alpha, beta)?;
    node.result(Activation::Relu, &[ramp])
}

/// `x · (x/6 + ½ between 0 and 1)`.
fn hard_swish(node: &mut Node<'_, '_>) -> Outputs {
    let x = node.value(0)?;
    let ramp = ramp(node, x, 1.0 / 6.0, 0.5)?;
    let gate = node.apply("gate", Activation::Relu, &[ramp])?;
    node.result(Binary::Mul, &[x, gate])
}

/// `alpha·x + beta`, at most 1. The bound stands first, so that its derivative is 0 where it is met.
fn ramp(node: &mut Node<'_, '_>, x: Value, alpha: f32, beta: f32) -> Result<Value> {
    let rising = node.scaled("rising", x, alpha)?;
    let line = node.shifted("line", rising, beta)?;
    let one = node.scalar("one", 1.0);
    node.apply("ramp", Binary::Min, &[one, line])
}

/// `x / (1 + |x|)`.
fn softsign(node: &mut Node<'_, '_>) -> Outputs {
    let x = node.value(0)?;
    let size = node.apply("size", Unary::Abs, &[x])?;
    let divisor = node.shifted("divisor", size, 1.0)?;
    node.result(Binary::Div, &[x, divisor])
}

/// `x/2 · (1 + erf(x/√2))`, or with `approximate` tanh `x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³)))`.
fn gelu(node: &mut Node<'_, '_>) -> Outputs {
    let approximate = node.text("approximate")?;
    let x = node.value(0)?;
    let sigmoid = match approximate.as_deref() {
        None | Some("none") => {
            let scaled = node.scaled("scaled", x, std::f32::consts::FRAC_1_SQRT_2)?;
            node.apply("erf", Unary::Erf, &[scaled])?
        }
        Some("tanh") => {
            // √(2/π) = (2/√π) · (1/√2).
            let root = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2;
            let square = node.squared("square", x)?;
            let bend = node.scaled("bend", square, 0.044_715 * root)?;
            let slope = node.shifted("slope", bend, root)?;
            let argument = node.apply("argument", Binary::Mul, &[x, slope])?;
            node.apply("tanh", Activation::Tanh, &[argument])?
        }
        Some(other) => {
            return Err(format!(
                "expected an approximation none or tanh, got {other:?}"
            ));
        }
    };
    let gate = node.shifted("gate", sigmoid, 1.0)?;
    let half = node.scaled("half", x, 0.5)?;
    node.result(Binary::Mul, &[half, gate])
}

/// `x · tanh(log(1 + eˣ))`.
fn mish(node: &mut Node<'_, '_>) -> Outputs {
    let x = node.value(0)?;
    let soft = node.apply("soft", Activation::Softplus, &[x])?;
    let gate = node.apply("gate", Activation::Tanh, &[soft])?;
    node.result(Binary::Mul, &[x, gate])
}

/// `x · sigmoid(alpha·x)`.
fn swish(node: &mut Node<'_, '_>) -> Outputs {
    let alpha = node.float("alpha")?.unwrap_or(1.0);
    let x = node.value(0)?;
    let scaled = node.scaled("scaled", x, alpha)?;
    let gate = node.apply("gate", Activation::Sigmoid, &[scaled])?;
    node.result(Binary::Mul, &[x, gate])
}

#[cfg(test)]
mod tests {
    use crate::source::onnx::testing::Attribute::{Float, Text};
    use crate::source::onnx::testing::{Attribute, Model, array};

    /// Operator, attributes, a formula, and the derivative at 0 as PyTorch has it.
    type Case = (
        &'static str,
        Vec<(&'static str, Attribute)>,
        fn(f64) -> f64,
        f64,
    );

    const NO_ATTRIBUTES: Vec<(&str, Attribute)> = Vec::new();
    const SELU: [f64; 2] = [1.673_263_242_354_377_2, 1.050_700_987_355_480_5];

    fn sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    fn softplus(x: f64) -> f64 {
        x.exp().ln_1p()
    }

    fn elu(x: f64, sharpness: f64, scale: f64) -> f64 {
        match x > 0.0 {
            true => x,
            false => scale * ((sharpness * x).exp() - 1.0),
        }
    }

    fn cases() -> Vec<Case> {
        vec![
            ("Relu", NO_ATTRIBUTES, |x| x.max(0.0), 0.0),
            ("LeakyRelu", NO_ATTRIBUTES, |x| x.max(0.01 * x), 0.01),
            (
                "LeakyRelu",
                vec![("alpha", Float(0.25))],
                |x| x.max(0.25 * x),
                0.25,
            ),
            (
                "ThresholdedRelu",
                NO_ATTRIBUTES,
                |x| if x > 1.0 { x } else { 0.0 },
                0.0,
            ),
            (
                "ThresholdedRelu",
                vec![("alpha", Float(-0.25))],
                |x| if x > -0.25 { x } else { 0.0 },
                1.0,
            ),
            ("Elu", NO_ATTRIBUTES, |x| elu(x, 1.0, 1.0), 1.0),
            (
                "Elu",
                vec![("alpha", Float(0.5))],
                |x| elu(x, 1.0, 0.5),
                0.5,
            ),
            (
                "Selu",
                NO_ATTRIBUTES,
                |x| SELU[1] * elu(x, 1.0, SELU[0]),
                SELU[0] * SELU[1],
            ),
            (
                "Selu",
                vec![("alpha", Float(1.5)), ("gamma", Float(2.0))],
                |x| 2.0 * elu(x, 1.0, 1.5),
                3.0,
            ),
            ("Celu", NO_ATTRIBUTES, |x| elu(x, 1.0, 1.0), 1.0),
            (
                "Celu",
                vec![("alpha", Float(0.5))],
                |x| elu(x, 2.0, 0.5),
                1.0,
            ),
            ("Sigmoid", NO_ATTRIBUTES, sigmoid, 0.25),
            (
                "HardSigmoid",
                NO_ATTRIBUTES,
                |x| (0.2 * x + 0.5).clamp(0.0, 1.0),
                0.2,
            ),
            (
                "HardSigmoid",
                vec![("alpha", Float(0.75)), ("beta", Float(1.0))],
                |x| (0.75 * x + 1.0).clamp(0.0, 1.0),
                0.0,
            ),
            (
                "HardSigmoid",
                vec![("alpha", Float(0.75)), ("beta", Float(0.0))],
                |x| (0.75 * x).clamp(0.0, 1.0),
                0.0,
            ),
            (
                "HardSwish",
                NO_ATTRIBUTES,
                |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
                0.5,
            ),
            ("Tanh", NO_ATTRIBUTES, f64::tanh, 1.0),
            ("Softplus", NO_ATTRIBUTES, softplus, 0.5),
            ("Softsign", NO_ATTRIBUTES, |x| x / (1.0 + x.abs()), 1.0),
            ("Gelu", NO_ATTRIBUTES, exact_gelu, 0.5),
            ("Gelu", vec![("approximate", Text("none"))], exact_gelu, 0.5),
            (
                "Gelu",
                vec![("approximate", Text("tanh"))],
                |x| {
                    let argument = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                    0.5 * x * (1.0 + argument.tanh())
                },
                0.5,
            ),
            ("Mish", NO_ATTRIBUTES, |x| x * softplus(x).tanh(), 0.6),
            ("Swish", NO_ATTRIBUTES, |x| x * sigmoid(x), 0.5),
            (
                "Swish",
                vec![("alpha", Float(1.5))],
                |x| x * sigmoid(1.5 * x),
                0.5,
            ),
        ]
    }

    fn exact_gelu(x: f64) -> f64 {
        0.5 * x * (1.0 + libm::erf(x / 2f64.sqrt()))
    }

    fn model(op_type: &str, attributes: &[(&str, Attribute)]) -> Model {
        Model::of_opset(24)
            .input("x", &[-1, 3])
            .node(op_type, "x", "y", attributes)
            .output("y")
    }

    #[test]
    fn values_are_those_of_the_formulas() {
        for (op_type, attributes, formula, _) in cases() {
            println!("{op_type}");
            let x = array(&[2, 3], &[-4.0, -0.7, -0.2, 0.0, 0.3, 3.5]);
            let y = model(op_type, &attributes).evaluate(&x);
            for (x, y) in x.iter().zip(&y) {
                let wanted = formula(*x);
                assert!((y - wanted).abs() < 1e-6, "at {x}: {y}, not {wanted}");
            }
        }
    }

    #[test]
    fn derivatives_match_finite_differences() {
        for (op_type, attributes, _, _) in cases() {
            println!("{op_type}");
            model(op_type, &attributes).check_derivatives(1);
        }
    }

    #[test]
    fn derivatives_at_zero_are_those_of_pytorch() {
        for (op_type, attributes, _, wanted) in cases() {
            let slope = model(op_type, &attributes).slope(&array(&[1, 3], &[0.0; 3]));
            for slope in &slope {
                assert!(
                    (slope - wanted).abs() < 1e-6,
                    "{op_type}: {slope}, not {wanted}"
                );
            }
        }
    }

    /// Bounds that are met are flat, as PyTorch has them.
    #[test]
    fn derivatives_at_bounds_are_those_of_pytorch() {
        let x = array(&[1, 3], &[-3.0, 3.0, 2.5]);
        let slope = model("HardSwish", &NO_ATTRIBUTES).slope(&x);
        assert_eq!(slope.as_slice().unwrap()[..2], [0.0, 1.0]);
        let slope = model("HardSigmoid", &NO_ATTRIBUTES).slope(&array(&[1, 3], &[-2.5, 2.5, 0.0]));
        assert_eq!(slope.as_slice().unwrap()[..2], [0.0, 0.0]);
        let slope = model("ThresholdedRelu", &NO_ATTRIBUTES).slope(&array(&[1, 3], &[1.0; 3]));
        assert_eq!(slope, array(&[1, 3], &[0.0; 3]));
    }

    #[test]
    fn slopes_of_prelu_are_per_channel() {
        let model = Model::new()
            .input("x", &[-1, 2, 2])
            .floats("slope", &[2, 1], &[0.25, -1.0])
            .node("PRelu", "x slope", "y", &[])
            .output("y");
        let x = array(&[1, 2, 2], &[-2.0, 3.0, -4.0, 0.0]);
        let y = array(&[1, 2, 2], &[-0.5, 3.0, 4.0, 0.0]);
        assert_eq!(model.evaluate(&x), y);
        let slope = array(&[1, 2, 2], &[0.25, 1.0, -1.0, -1.0]);
        assert_eq!(model.slope(&x), slope);
        model.check_derivatives(2);
    }

    /// Also where the slopes depend on the input themselves.
    #[test]
    fn slopes_of_prelu_have_derivatives() {
        let model = Model::new().input("x", &[-1, 3]);
        let model = model.node("Tanh", "x", "slope", &[]);
        let model = model.node("PRelu", "x slope", "y", &[]);
        model.output("y").check_derivatives(3);
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        for (op_type, attributes, wanted) in [
            ("Celu", vec![("alpha", Float(0.0))], "other than 0"),
            (
                "Gelu",
                vec![("approximate", Text("poem"))],
                "expected an approximation none or tanh, got \"poem\"",
            ),
            (
                "Relu",
                vec![("alpha", Float(0.0))],
                "\"alpha\" is not supported",
            ),
        ] {
            let problem = model(op_type, &attributes).problem();
            assert!(problem.contains(wanted), "{problem}");
        }
    }
}
