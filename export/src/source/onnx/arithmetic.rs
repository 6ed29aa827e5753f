//! Arithmetic element by element, of floats in the graph and of integers that are known.
//!
//! ONNX operators: `Abs`, `Acos`, `Acosh`, `Add`, `Asin`, `Asinh`, `Atan`, `Atanh`, `Ceil`, `Clip`, `Cos`, `Cosh`,
//! `Div`, `Erf`, `Erfc`, `Exp`, `Floor`, `Log`, `Max`, `Mean`, `Min`, `Mod`, `Mul`, `Neg`, `Pow`, `Reciprocal`,
//! `Round`, `Sign`, `Sin`, `Sinh`, `Sqrt`, `Sub`, `Sum`, `Tan`; see [the
//! specification](https://onnx.ai/onnx/operators/).

use super::known::{Kind, Known, Number};
use super::node::{Node, Operand, Outputs, Rule};
use super::own_image::ONLY_INDICES;
use super::result::Result;
use crate::graph::Value;
use crate::graph::op::{Activation, Binary, Unary};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Add", |node| binary(node, Binary::Add, Number::plus)),
    ("Sub", |node| binary(node, Binary::Sub, Number::minus)),
    ("Mul", |node| binary(node, Binary::Mul, Number::times)),
    ("Div", div),
    ("Mod", modulo),
    ("Pow", pow),
    ("Min", |node| many(node, Binary::Min, Number::lower)),
    ("Max", |node| many(node, Binary::Max, Number::higher)),
    ("Sum", |node| many(node, Binary::Add, Number::plus)),
    ("Mean", mean),
    ("Clip", clip),
    ("Neg", neg),
    ("Abs", |node| unary(node, Unary::Abs)),
    ("Sign", |node| unary(node, Unary::Sign)),
    ("Sqrt", |node| unary(node, Unary::Sqrt)),
    ("Exp", |node| unary(node, Unary::Exp)),
    ("Log", |node| unary(node, Unary::Log)),
    ("Reciprocal", |node| unary(node, Unary::Reciprocal)),
    ("Erf", |node| unary(node, Unary::Erf)),
    ("Erfc", erfc),
    ("Sin", |node| unary(node, Unary::Sin)),
    ("Cos", |node| unary(node, Unary::Cos)),
    ("Tan", tan),
    ("Asin", |node| unary(node, Unary::Asin)),
    ("Acos", acos),
    ("Atan", |node| unary(node, Unary::Atan)),
    ("Sinh", sinh),
    ("Cosh", cosh),
    ("Asinh", |node| unary(node, Unary::Asinh)),
    ("Acosh", |node| unary(node, Unary::Acosh)),
    ("Atanh", |node| unary(node, Unary::Atanh)),
    ("Floor", |node| unary(node, Unary::Floor)),
    ("Ceil", ceil),
    ("Round", |node| unary(node, Unary::Round)),
];

/// Integers that are known are reckoned with now; floats are left to the graph.
fn binary(
    node: &mut Node<'_, '_>,
    op: Binary,
    number: fn(Number, Number) -> Option<Number>,
) -> Outputs {
    if let Some([left, right]) = node.all_known().as_deref() {
        return Ok(vec![left.combined(right, Kind::Integer, number)?.into()]);
    }
    if op == Binary::Add && node.names_images() {
        return Ok(vec![node.sum_of_images()?]);
    }
    let operands = [node.value(0)?, node.value(1)?];
    let operands = node.broadcasting(&operands)?;
    node.result(op, &operands)
}

/// Of integers it is rounded towards zero.
fn div(node: &mut Node<'_, '_>) -> Outputs {
    if !node.has_integers() {
        return binary(node, Binary::Div, Number::over);
    }
    let operands = [node.whole_numbers(0)?, node.whole_numbers(1)?];
    let operands = node.broadcasting(&operands)?;
    let quotient = node.apply("quotient", Binary::Div, &operands)?;
    Ok(vec![Operand::Integers(node.truncated(quotient)?)])
}

/// Any number of operands, from the first to the last.
fn many(
    node: &mut Node<'_, '_>,
    op: Binary,
    number: fn(Number, Number) -> Option<Number>,
) -> Outputs {
    if let Some(known) = node.all_known() {
        let (first, rest) = known.split_first().ok_or("expected at least one operand")?;
        let result = rest.iter().try_fold(first.clone(), |sum, known| {
            sum.combined(known, Kind::Integer, number)
        })?;
        return Ok(vec![result.into()]);
    }
    let values = (0..node.n_operands())
        .map(|position| node.value(position))
        .collect::<Result<Vec<Value>>>()?;
    let values = node.broadcasting(&values)?;
    let (&first, rest) = values
        .split_first()
        .ok_or("expected at least one operand")?;
    let mut result = first;
    for &value in rest {
        result = node.apply("with", op, &[result, value])?;
    }
    Ok(vec![result.into()])
}

fn mean(node: &mut Node<'_, '_>) -> Outputs {
    let share = node.scalar("share", 1.0 / node.n_operands() as f32);
    let Some(Operand::Value(sum)) = many(node, Binary::Add, Number::plus)?.pop() else {
        return Err("expected floats, got integers".to_string());
    };
    node.result(Binary::Mul, &[sum, share])
}

/// The remainder, which has the sign of the divisor, or of what is divided as in C. Steps from one multiple to the next have no derivative.
fn modulo(node: &mut Node<'_, '_>) -> Outputs {
    let like_c = node.flag("fmod")?.unwrap_or(false);
    let remainder = |a: Number, b: Number| match (a, b) {
        (Number::Fixed(a), Number::Fixed(b)) if like_c => a.checked_rem(b).map(Number::Fixed),
        (Number::Fixed(a), Number::Fixed(b)) => {
            let rest = a.checked_rem(b)?;
            let wraps = rest != 0 && (rest < 0) != (b < 0);
            Some(Number::Fixed(if wraps { rest + b } else { rest }))
        }
        (Number::Batch(a), Number::Fixed(b)) if a.checked_rem(b) == Some(0) => {
            Some(Number::Fixed(0))
        }
        _ => None,
    };
    if let Some([left, right]) = node.all_known().as_deref() {
        return Ok(vec![left.combined(right, Kind::Integer, remainder)?.into()]);
    }
    let operands = match node.has_integers() {
        true => [node.whole_numbers(0)?, node.whole_numbers(1)?],
        false => [node.value(0)?, node.value(1)?],
    };
    let operands = node.broadcasting(&operands)?;
    let quotient = node.apply("quotient", Binary::Div, &operands)?;
    let whole = match like_c {
        true => node.truncated(quotient)?,
        false => node.apply("whole", Unary::Floor, &[quotient])?,
    };
    let multiple = node.apply("multiple", Binary::Mul, &[whole, operands[1]])?;
    let rest = node.apply("rest", Binary::Sub, &[operands[0], multiple])?;
    Ok(vec![match node.has_integers() {
        true => Operand::Integers(rest),
        false => rest.into(),
    }])
}

/// `xᵖ`; small whole powers are products, which have their derivatives everywhere.
fn pow(node: &mut Node<'_, '_>) -> Outputs {
    if let Some([base, exponent]) = node.all_known().as_deref() {
        let power = |base: Number, exponent: Number| {
            let exponent = u32::try_from(exponent.fixed()?).ok()?;
            base.fixed()?.checked_pow(exponent).map(Number::Fixed)
        };
        return Ok(vec![base.combined(exponent, Kind::Integer, power)?.into()]);
    }
    let x = node.value(0)?;
    let exponent = match node.operand(1)?.clone() {
        Operand::Value(_) => node.value(1)?,
        Operand::Integers(exponent) => exponent,
        Operand::OfImages(_) => return Err(ONLY_INDICES.to_string()),
        Operand::Known(known) => node.floats_of(&known)?,
    };
    let single = match node.constant_of(exponent) {
        Ok(Some(exponent))
            if exponent.data().len() == 1 && exponent.shape().len() <= node.shape(x).rank() =>
        {
            exponent.data().first().copied()
        }
        _ => None,
    };
    match single {
        Some(1.0) => Ok(vec![x.into()]),
        Some(2.0) => node.result(Binary::Mul, &[x, x]),
        Some(3.0) => {
            let square = node.apply("square", Binary::Mul, &[x, x])?;
            node.result(Binary::Mul, &[square, x])
        }
        Some(0.5) => node.result(Unary::Sqrt, &[x]),
        Some(-1.0) => node.result(Unary::Reciprocal, &[x]),
        Some(exponent) => {
            let exponent = node.scalar("exponent", exponent);
            node.result(Binary::Pow, &[x, exponent])
        }
        None => {
            let operands = node.broadcasting(&[x, exponent])?;
            node.result(Binary::Pow, &operands)
        }
    }
}

/// `min(max(x, lower), upper)`, either of which may be missing. A tie is x, whose derivative passes at the bounds.
fn clip(node: &mut Node<'_, '_>) -> Outputs {
    if let Operand::Known(known) = node.operand(0)?.clone() {
        let mut clipped = known;
        for (position, number) in [(1, Number::higher as fn(_, _) -> _), (2, Number::lower)] {
            if node.optional(position).is_some() {
                clipped = clipped.combined(node.known(position)?, Kind::Integer, number)?;
            }
        }
        return Ok(vec![clipped.into()]);
    }
    let mut clipped = node.value(0)?;
    for (name, position, op) in [("min", 1, Binary::Max), ("max", 2, Binary::Min)] {
        // Old opsets have bounds as attributes.
        let bound = match node.float(name)? {
            Some(bound) => Some(node.scalar(name, bound)),
            None => node.optional_value(position)?,
        };
        if let Some(bound) = bound {
            clipped = node.apply("clipped", op, &[clipped, bound])?;
        }
    }
    Ok(vec![clipped.into()])
}

fn neg(node: &mut Node<'_, '_>) -> Outputs {
    if let Some([known]) = node.all_known().as_deref() {
        let minus_one = Known::scalar(Number::Fixed(-1));
        return Ok(vec![
            known
                .combined(&minus_one, Kind::Integer, Number::times)?
                .into(),
        ]);
    }
    unary(node, Unary::Neg)
}

fn unary(node: &mut Node<'_, '_>, op: Unary) -> Outputs {
    let x = node.value(0)?;
    node.result(op, &[x])
}

/// `1 − erf x`. It is not an operator of ONNX, but tf2onnx writes it for Keras' GELU.
fn erfc(node: &mut Node<'_, '_>) -> Outputs {
    let x = node.value(0)?;
    let erf = node.apply("erf", Unary::Erf, &[x])?;
    let one = node.scalar("one", 1.0);
    node.result(Binary::Sub, &[one, erf])
}

/// `sin x / cos x`.
fn tan(node: &mut Node<'_, '_>) -> Outputs {
    let x = node.value(0)?;
    let sin = node.apply("sin", Unary::Sin, &[x])?;
    let cos = node.apply("cos", Unary::Cos, &[x])?;
    node.result(Binary::Div, &[sin, cos])
}

/// `π/2 − asin x`.
fn acos(node: &mut Node<'_, '_>) -> Outputs {
    let x = node.value(0)?;
    let asin = node.apply("asin", Unary::Asin, &[x])?;
    let right_angle = node.scalar("right_angle", std::f32::consts::FRAC_PI_2);
    node.result(Binary::Sub, &[right_angle, asin])
}

/// `(eˣ + e⁻ˣ)/2`.
fn cosh(node: &mut Node<'_, '_>) -> Outputs {
    let x = node.value(0)?;
    Ok(vec![half_sum_of_exponentials(node, x)?.into()])
}

/// `tanh x · cosh x`, which loses no digits near 0 as the difference of exponentials does.
fn sinh(node: &mut Node<'_, '_>) -> Outputs {
    let x = node.value(0)?;
    let tanh = node.apply("tanh", Activation::Tanh, &[x])?;
    let cosh = half_sum_of_exponentials(node, x)?;
    node.result(Binary::Mul, &[tanh, cosh])
}

fn half_sum_of_exponentials(node: &mut Node<'_, '_>, x: Value) -> Result<Value> {
    let opposite = node.apply("opposite", Unary::Neg, &[x])?;
    let rising = node.apply("rising", Unary::Exp, &[x])?;
    let falling = node.apply("falling", Unary::Exp, &[opposite])?;
    let sum = node.apply("sum", Binary::Add, &[rising, falling])?;
    node.scaled("cosh", sum, 0.5)
}

/// `−⌊−x⌋`.
fn ceil(node: &mut Node<'_, '_>) -> Outputs {
    let x = node.value(0)?;
    let opposite = node.apply("opposite", Unary::Neg, &[x])?;
    let floor = node.apply("floor", Unary::Floor, &[opposite])?;
    node.result(Unary::Neg, &[floor])
}

#[cfg(test)]
mod tests {
    use crate::source::onnx::testing::Attribute::Float;
    use crate::source::onnx::testing::{Model, array};

    fn two_operands(op_type: &str) -> Model {
        Model::new()
            .input("x", &[-1, 2])
            .floats("c", &[2], &[2.0, -4.0])
            .node(op_type, "x c", "y", &[])
            .output("y")
    }

    #[test]
    fn known_values() {
        for (op_type, wanted) in [
            ("Add", [3.0, 4.0]),
            ("Sub", [-1.0, 12.0]),
            ("Mul", [2.0, -32.0]),
            ("Div", [0.5, -2.0]),
            ("Sum", [3.0, 4.0]),
        ] {
            let y = two_operands(op_type).evaluate(&array(&[1, 2], &[1.0, 8.0]));
            assert_eq!(y, array(&[1, 2], &wanted), "{op_type}");
        }
    }

    #[test]
    fn derivatives_match_finite_differences() {
        for op_type in ["Add", "Sub", "Mul", "Div", "Sum"] {
            println!("{op_type}");
            two_operands(op_type).check_derivatives(1);
        }
        for op_type in ["Neg", "Exp", "Erf", "Sin", "Cos", "Abs"] {
            println!("{op_type}");
            let model = Model::new()
                .input("x", &[-1, 2])
                .node(op_type, "x", "y", &[]);
            model.output("y").check_derivatives(2);
        }
        for op_type in ["Sinh", "Cosh", "Tan", "Asinh", "Atan", "Erfc"] {
            println!("{op_type}");
            let model = Model::new()
                .input("x", &[-1, 2])
                .node(op_type, "x", "y", &[]);
            model.output("y").check_derivatives(2);
        }
        for op_type in ["Sqrt", "Log", "Reciprocal", "Acosh"] {
            println!("{op_type}");
            let model = Model::new().input("x", &[-1, 2]).floats("two", &[], &[2.0]);
            let model = model.node("Add", "x two", "away", &[]);
            model
                .node(op_type, "away", "y", &[])
                .output("y")
                .check_derivatives(3);
        }
    }

    #[test]
    fn bounds_of_clip_are_operands_or_attributes() {
        let x = array(&[1, 3], &[-2.0, 0.5, 3.0]);
        let wanted = array(&[1, 3], &[-1.0, 0.5, 2.0]);
        let model = Model::new()
            .input("x", &[-1, 3])
            .floats("low", &[], &[-1.0])
            .floats("high", &[], &[2.0]);
        let model = model.node("Clip", "x low high", "y", &[]).output("y");
        assert_eq!(model.evaluate(&x), wanted);
        model.check_derivatives(1);
        let attributes = [("min", Float(-1.0)), ("max", Float(2.0))];
        let model = Model::of_opset(9)
            .input("x", &[-1, 3])
            .node("Clip", "x", "y", &attributes);
        assert_eq!(model.output("y").evaluate(&x), wanted);
    }

    #[test]
    fn powers_and_extremes() {
        let x = array(&[1, 3], &[-2.0, 0.5, 3.0]);
        let of = |op_type: &str, c: [f32; 3]| {
            let model = Model::new().input("x", &[-1, 3]).floats("c", &[3], &c);
            model.node(op_type, "x c", "y", &[]).output("y")
        };
        for (op_type, c, wanted) in [
            ("Pow", [2.0, 3.0, 1.0], [4.0, 0.125, 3.0]),
            ("Min", [0.0; 3], [-2.0, 0.0, 0.0]),
            ("Max", [0.0; 3], [0.0, 0.5, 3.0]),
            ("Mean", [2.0; 3], [0.0, 1.25, 2.5]),
        ] {
            assert_eq!(
                of(op_type, c).evaluate(&x),
                array(&[1, 3], &wanted),
                "{op_type}"
            );
        }
        for (power, wanted) in [
            (1.0, [-2.0, 0.5, 3.0]),
            (2.0, [4.0, 0.25, 9.0]),
            (3.0, [-8.0, 0.125, 27.0]),
            (4.0, [16.0, 0.0625, 81.0]),
            (-1.0, [-0.5, 2.0, 1.0 / 3.0]),
        ] {
            let model = Model::new().input("x", &[-1, 3]).floats("p", &[], &[power]);
            let model = model.node("Pow", "x p", "y", &[]).output("y");
            let error = (model.evaluate(&x) - array(&[1, 3], &wanted))
                .mapv(f64::abs)
                .sum();
            assert!(error < 1e-12, "{power}: {error}");
        }
        let model = Model::new()
            .input("x", &[-1, 3])
            .ints("p", &[2])
            .node("Pow", "x p", "y", &[]);
        assert_eq!(
            model.output("y").evaluate(&x),
            array(&[1, 3], &[4.0, 0.25, 9.0])
        );
    }

    #[test]
    fn steps_have_no_derivative() {
        for (op_type, wanted) in [
            ("Floor", [1.0, -2.0]),
            ("Ceil", [2.0, -1.0]),
            ("Round", [2.0, -2.0]),
        ] {
            let model = Model::new()
                .input("x", &[-1, 2])
                .floats("c", &[2], &[1.5, -1.5]);
            let model = model
                .node(op_type, "c", "d", &[])
                .node("Add", "x d", "y", &[])
                .output("y");
            assert_eq!(
                model.evaluate(&array(&[1, 2], &[0.0; 2])),
                array(&[1, 2], &wanted),
                "{op_type}"
            );
            let model = Model::new()
                .input("x", &[-1, 2])
                .node(op_type, "x", "y", &[])
                .output("y");
            let x = array(&[1, 2], &[1.5, -1.5]);
            assert_eq!(model.evaluate(&x), array(&[1, 2], &wanted), "{op_type}");
            assert_eq!(model.slope(&x), array(&[1, 2], &[0.0; 2]), "{op_type}");
        }
    }

    /// `[N, 6]` seen as `[N·2, 3]`, the extents reckoned from those of x.
    #[test]
    fn integers_are_reckoned_while_reading() {
        let model = Model::new()
            .input("x", &[-1, 6])
            .ints("two", &[2, 1])
            .ints("minus", &[0, -3])
            .ints("half", &[1, 1])
            .node("Shape", "x", "shape", &[])
            .node("Mul", "shape two", "doubled", &[])
            .node("Add", "doubled minus", "less", &[])
            .node("Div", "less half", "target", &[])
            .node("Reshape", "x target", "y", &[])
            .output("y");
        let foreign = model.read();
        let y = foreign.graph.output("y").unwrap();
        assert_eq!(foreign.graph.shape(y).to_string(), "[N·2, 3]");
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let model = Model::new()
            .input("x", &[-1, 2])
            .floats("c", &[3], &[1.0; 3]);
        assert_eq!(
            model.node("Add", "x c", "y", &[]).output("y").problem(),
            "node \"y\" (Add): shapes [N, 2] and [3] do not broadcast"
        );
        let model = Model::new().input("x", &[-1, 2]).ints("c", &[1, 2]);
        assert_eq!(
            model.node("Add", "x c", "y", &[]).output("y").problem(),
            "node \"y\" (Add): its input 1 must be float, got integers"
        );
        let model = Model::new().input("x", &[-1, 2]).ints("one", &[1, 1]);
        let model = model
            .node("Shape", "x", "shape", &[])
            .node("Add", "shape one", "target", &[]);
        assert_eq!(
            model
                .node("Reshape", "x target", "y", &[])
                .output("y")
                .problem(),
            "node \"target\" (Add): N and 1 give no number that is known"
        );
    }
}
