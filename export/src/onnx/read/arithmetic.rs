//! Arithmetic element by element, of floats in the graph and of integers that are known.

use super::known::{Kind, Known, Number};
use super::node::{Node, Outputs, Rule};
use crate::op::{Binary, Unary};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Add", add),
    ("Sub", sub),
    ("Mul", mul),
    ("Div", div),
    ("Neg", neg),
    ("Sqrt", |node| unary(node, Unary::Sqrt)),
    ("Exp", |node| unary(node, Unary::Exp)),
    ("Log", |node| unary(node, Unary::Log)),
    ("Reciprocal", |node| unary(node, Unary::Reciprocal)),
    ("Erf", |node| unary(node, Unary::Erf)),
    ("Sum", sum),
];

fn add(node: &mut Node<'_, '_>) -> Outputs {
    binary(node, Binary::Add, Number::plus)
}

fn sub(node: &mut Node<'_, '_>) -> Outputs {
    binary(node, Binary::Sub, Number::minus)
}

fn mul(node: &mut Node<'_, '_>) -> Outputs {
    binary(node, Binary::Mul, Number::times)
}

fn div(node: &mut Node<'_, '_>) -> Outputs {
    binary(node, Binary::Div, Number::over)
}

/// Integers that are known are reckoned with now; floats are left to the graph.
fn binary(
    node: &mut Node<'_, '_>,
    op: Binary,
    number: fn(Number, Number) -> Option<Number>,
) -> Outputs {
    if let Some([left, right]) = node.all_known().as_deref() {
        return Ok(vec![left.combined(right, Kind::Integer, number)?.into()]);
    }
    let operands = [node.value(0)?, node.value(1)?];
    node.result(op, &operands)
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

/// Any number of operands, added from the first to the last.
fn sum(node: &mut Node<'_, '_>) -> Outputs {
    let mut sum = node.value(0)?;
    for position in 1..node.n_operands() {
        let operand = node.value(position)?;
        sum = node.apply("add", Binary::Add, &[sum, operand])?;
    }
    Ok(vec![sum.into()])
}

#[cfg(test)]
mod tests {
    use crate::onnx::read::testing::{Model, array};

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
        for op_type in ["Neg", "Exp", "Erf"] {
            println!("{op_type}");
            let model = Model::new()
                .input("x", &[-1, 2])
                .node(op_type, "x", "y", &[]);
            model.output("y").check_derivatives(2);
        }
        for op_type in ["Sqrt", "Log", "Reciprocal"] {
            println!("{op_type}");
            let model = Model::new().input("x", &[-1, 2]).floats("two", &[], &[2.0]);
            let model = model.node("Add", "x two", "away", &[]);
            model
                .node(op_type, "away", "y", &[])
                .output("y")
                .check_derivatives(3);
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
