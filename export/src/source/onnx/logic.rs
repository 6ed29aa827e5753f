//! Comparisons, booleans, and choices by them; of what is known while reading, and of floats in the graph.
//!
//! ONNX operators: `And`, `Equal`, `Greater`, `GreaterOrEqual`, `IsInf`, `IsNaN`, `Less`, `LessOrEqual`, `Not`, `Or`,
//! `Where`, `Xor`; see [the specification](https://onnx.ai/onnx/operators/).

use std::cmp::Ordering;

use ndarray::{ArrayD, IxDyn, Zip};

use super::known::{Kind, Known, Number, broadcast};
use super::node::{Node, Operand, Outputs, Rule};
use super::result::Result;
use crate::graph::op::{Binary, Compare, Unary, Where};
use crate::graph::{DType, Value};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Equal", equal),
    ("Greater", |node| {
        compared(node, Compare::Greater, [0, 1], Ordering::is_gt)
    }),
    ("GreaterOrEqual", |node| {
        compared(node, Compare::GreaterOrEqual, [0, 1], Ordering::is_ge)
    }),
    ("Less", |node| {
        compared(node, Compare::Greater, [1, 0], Ordering::is_gt)
    }),
    ("LessOrEqual", |node| {
        compared(node, Compare::GreaterOrEqual, [1, 0], Ordering::is_ge)
    }),
    ("IsNaN", is_nan),
    ("IsInf", is_inf),
    ("And", and),
    ("Or", or),
    ("Xor", xor),
    ("Not", not),
    ("Where", where_rule),
];

/// Of integers, floats and booleans.
fn equal(node: &mut Node<'_, '_>) -> Outputs {
    if node.all_known().is_some() || !is_truth(node, 0) {
        return compared(node, Compare::Equal, [0, 1], Ordering::is_eq);
    }
    let operands = numbers_of_truths(node)?;
    node.result(Compare::Equal, &operands)
}

/// Compares two operands, in the order of `positions`.
fn compared(
    node: &mut Node<'_, '_>,
    compare: Compare,
    positions: [usize; 2],
    holds: fn(Ordering) -> bool,
) -> Outputs {
    if let Some([left, right]) = node.all_known().as_deref() {
        let operands = [left, right];
        let [a, b] = positions.map(|position| operands[position]);
        let truths = a.combined(b, Kind::Truth, |a, b| a.holds(b, holds).map(truth))?;
        return Ok(vec![truths.into()]);
    }
    let operands = [node.value(positions[0])?, node.value(positions[1])?];
    let operands = node.broadcasting(&operands)?;
    node.result(compare, &operands)
}

fn truth(holds: bool) -> Number {
    Number::Fixed(i64::from(holds))
}

/// Only what is not a number differs from itself.
fn is_nan(node: &mut Node<'_, '_>) -> Outputs {
    let x = node.value(0)?;
    let is_number = node.apply("is_number", Compare::Equal, &[x, x])?;
    negated(node, is_number)
}

/// Above or below every number, as far as its attributes ask for that: what is not a number is neither.
fn is_inf(node: &mut Node<'_, '_>) -> Outputs {
    let sides = [
        node.flag("detect_positive")?.unwrap_or(true),
        node.flag("detect_negative")?.unwrap_or(true),
    ];
    let x = node.value(0)?;
    let looked_at = match sides {
        [true, true] => node.apply("size", Unary::Abs, &[x])?,
        [false, true] => node.apply("opposite", Unary::Neg, &[x])?,
        [true, false] => x,
        [false, false] => {
            // No number is below itself.
            return node.result(Compare::Greater, &[x, x]);
        }
    };
    let infinity = node.scalar("infinity", f32::INFINITY);
    node.result(Compare::Equal, &[looked_at, infinity])
}

/// Is an operand of booleans?
fn is_truth(node: &Node<'_, '_>, position: usize) -> bool {
    match node.optional(position) {
        Some(Operand::Value(value)) => node.dtype(*value) == DType::Bool,
        Some(Operand::Known(known)) => known.kind == Kind::Truth,
        Some(Operand::Integers(_) | Operand::OfImages(_)) | None => false,
    }
}

/// Both operands, which are booleans, as 0 and 1.
fn numbers_of_truths(node: &mut Node<'_, '_>) -> Result<Vec<Value>> {
    let [left, right] = [node.truth(0)?, node.truth(1)?];
    let numbers = [node.as_numbers(left)?, node.as_numbers(right)?];
    node.broadcasting(&numbers)
}

/// Both are 1: their product is.
fn and(node: &mut Node<'_, '_>) -> Outputs {
    if let Some(known) = combined_truths(node, |a, b| a && b) {
        return known;
    }
    let operands = numbers_of_truths(node)?;
    let product = node.apply("product", Binary::Mul, &operands)?;
    let half = node.scalar("half", 0.5);
    node.result(Compare::Greater, &[product, half])
}

/// At least one is 1: their sum is.
fn or(node: &mut Node<'_, '_>) -> Outputs {
    if let Some(known) = combined_truths(node, |a, b| a || b) {
        return known;
    }
    let operands = numbers_of_truths(node)?;
    let sum = node.apply("sum", Binary::Add, &operands)?;
    let half = node.scalar("half", 0.5);
    node.result(Compare::Greater, &[sum, half])
}

/// One of them is 1: their sum is exactly that.
fn xor(node: &mut Node<'_, '_>) -> Outputs {
    if let Some(known) = combined_truths(node, |a, b| a != b) {
        return known;
    }
    let operands = numbers_of_truths(node)?;
    let sum = node.apply("sum", Binary::Add, &operands)?;
    let one = node.scalar("one", 1.0);
    node.result(Compare::Equal, &[sum, one])
}

fn not(node: &mut Node<'_, '_>) -> Outputs {
    if let Operand::Known(known) = node.operand(0)? {
        let opposite = known.mapped(Kind::Truth, |number| {
            Some(truth(number == Number::Fixed(0)))
        })?;
        return Ok(vec![opposite.into()]);
    }
    let operand = node.truth(0)?;
    negated(node, operand)
}

fn negated(node: &mut Node<'_, '_>, operand: Value) -> Outputs {
    let numbers = node.as_numbers(operand)?;
    let half = node.scalar("half", 0.5);
    node.result(Compare::Greater, &[half, numbers])
}

/// Two operands of booleans, where both are known.
fn combined_truths(node: &Node<'_, '_>, function: fn(bool, bool) -> bool) -> Option<Outputs> {
    let known = node.all_known()?;
    let [left, right] = known.as_slice() else {
        return Some(Err(format!("expected 2 inputs, got {}", known.len())));
    };
    let is_set = |number| number != Number::Fixed(0);
    let combined = left.combined(right, Kind::Truth, |a, b| {
        Some(truth(function(is_set(a), is_set(b))))
    });
    Some(combined.map(|known| vec![known.into()]))
}

/// `Where(condition, a, b)`: a where the condition holds, else b.
fn where_rule(node: &mut Node<'_, '_>) -> Outputs {
    if let Some([condition, a, b]) = node.all_known().as_deref() {
        return Ok(vec![chosen(condition, a, b)?.into()]);
    }
    let condition = node.truth(0)?;
    if is_truth(node, 1) && is_truth(node, 2) {
        let [a, b] = [node.truth(1)?, node.truth(2)?];
        let numbers = [node.as_numbers(a)?, node.as_numbers(b)?];
        let chosen = choice(node, condition, numbers)?;
        return Ok(vec![node.is_set(chosen)?.into()]);
    }
    let values = [node.value(1)?, node.value(2)?];
    Ok(vec![choice(node, condition, values)?.into()])
}

fn choice(node: &mut Node<'_, '_>, condition: Value, [a, b]: [Value; 2]) -> Result<Value> {
    let mut operands = node.broadcasting(&[condition, a, b])?;
    // One row of a fixed condition comes as numbers.
    if node.dtype(operands[0]) != DType::Bool {
        operands[0] = node.is_set(operands[0])?;
    }
    node.apply("chosen", Where, &operands)
}

fn chosen(condition: &Known, a: &Known, b: &Known) -> Result<Known> {
    let operands = [condition, a, b];
    let shape = broadcast(&operands)?;
    let sizes = IxDyn(&shape.concrete(1));
    let stretched = operands.map(|known| known.elements.broadcast(sizes.clone()));
    let [Some(condition), Some(first), Some(second)] = stretched else {
        return Err(format!("shapes do not broadcast to {shape}"));
    };
    let choose = |holds: &Number, first: &Number, second: &Number| match holds {
        Number::Fixed(0) => *second,
        _ => *first,
    };
    let elements: ArrayD<Number> = Zip::from(&condition)
        .and(&first)
        .and(&second)
        .map_collect(choose);
    Ok(a.moved(shape, elements))
}

#[cfg(test)]
mod tests {
    use crate::source::onnx::testing::{Model, array, bool_tensor};

    /// Whether `op_type` holds for x and c, as 1 and 2.
    fn holds(op_type: &str, x: &[f64], c: &[f32]) -> Vec<f64> {
        let model = Model::new()
            .input("x", &[-1, x.len() as i64])
            .floats("c", &[c.len() as i64], c)
            .floats("yes", &[], &[1.0])
            .floats("no", &[], &[0.0])
            .node(op_type, "x c", "holds", &[])
            .node("Where", "holds yes no", "y", &[])
            .output("y");
        let y = model.evaluate(&array(&[1, x.len()], x));
        y.iter().copied().collect()
    }

    #[test]
    fn floats_are_compared() {
        for (op_type, wanted) in [
            ("Equal", [0.0, 1.0, 0.0]),
            ("Greater", [0.0, 0.0, 1.0]),
            ("GreaterOrEqual", [0.0, 1.0, 1.0]),
            ("Less", [1.0, 0.0, 0.0]),
            ("LessOrEqual", [1.0, 1.0, 0.0]),
        ] {
            let got = holds(op_type, &[1.0, 2.0, 3.0], &[2.0; 3]);
            assert_eq!(got, wanted, "{op_type}");
        }
    }

    #[test]
    fn what_is_no_number_is_found() {
        let model = Model::new()
            .input("x", &[-1, 3])
            .floats("zero", &[], &[0.0])
            .node("IsNaN", "x", "none", &[])
            .node("Where", "none zero x", "y", &[])
            .output("y");
        let y = model.evaluate(&array(&[1, 3], &[1.0, f64::NAN, f64::INFINITY]));
        assert_eq!(y, array(&[1, 3], &[1.0, 0.0, f64::INFINITY]));
    }

    /// `a = x > 0`, `b` beside it known or of the graph; what is found is 1 where it holds.
    #[test]
    fn truth_values_are_combined() {
        for (op_type, wanted) in [
            ("And", [1.0, 0.0, 0.0, 0.0]),
            ("Or", [1.0, 1.0, 1.0, 0.0]),
            ("Xor", [0.0, 1.0, 1.0, 0.0]),
            ("Equal", [1.0, 0.0, 0.0, 1.0]),
        ] {
            let model = |second: &str| {
                Model::new()
                    .input("x", &[-1, 4])
                    .floats("zero", &[], &[0.0])
                    .floats("one", &[], &[1.0])
                    .floats("signs", &[4], &[1.0, -1.0, 1.0, -1.0])
                    .initializer(bool_tensor("known", &[4], &[true, false, true, false]))
                    .node("Greater", "x zero", "a", &[])
                    .node("Greater", "signs zero", "b", &[])
                    .node(op_type, second, "holds", &[])
                    .node("Where", "holds one zero", "y", &[])
                    .output("y")
            };
            let x = array(&[1, 4], &[1.0, 1.0, -1.0, -1.0]);
            for second in ["a b", "a known", "known a", "b a"] {
                let y = model(second).evaluate(&x);
                assert_eq!(y, array(&[1, 4], &wanted), "{op_type} of {second}");
            }
        }
    }

    #[test]
    fn truth_values_are_negated_and_chosen() {
        let model = Model::new()
            .input("x", &[-1, 2])
            .floats("zero", &[], &[0.0])
            .floats("one", &[], &[1.0])
            .initializer(bool_tensor("first", &[2], &[true, false]))
            .node("Greater", "x zero", "positive", &[])
            .node("Not", "positive", "not", &[])
            .node("Where", "first positive not", "chosen", &[])
            .node("Where", "chosen one zero", "y", &[])
            .output("y");
        let y = model.evaluate(&array(&[2, 2], &[1.0, 1.0, -1.0, -1.0]));
        assert_eq!(y, array(&[2, 2], &[1.0, 0.0, 0.0, 1.0]));
    }

    /// As exporters write `expand`: where the target says −1, the extent of the shape stays.
    #[test]
    fn shapes_are_decided_while_reading() {
        let model = Model::new()
            .input("x", &[-1, 6])
            .ints("asked", &[-1, 3])
            .ints("minus", &[-1, -1])
            .ints("other", &[2, 7])
            .node("Shape", "x", "shape", &[])
            .node("Equal", "asked minus", "open", &[])
            .node("Where", "open shape asked", "kept", &[])
            .node("Less", "kept other", "never", &[])
            .node("Not", "never", "always", &[])
            .node("Reshape", "x kept", "y", &[]);
        // N and 2 cannot be compared for every batch.
        assert_eq!(
            model.output("always").problem(),
            "node \"never\" (Less): 2 and N give no number that is known"
        );
        let model = Model::new()
            .input("x", &[-1, 6])
            .ints("asked", &[-1, 2, 3])
            .ints("minus", &[-1])
            .ints("zero", &[0])
            .node("Shape", "x", "shape", &[])
            .node("Greater", "shape zero", "whole", &[])
            .node("Not", "whole", "empty", &[])
            .node("Xor", "whole empty", "both", &[])
            .node("And", "both whole", "all", &[])
            .node("Or", "all empty", "any", &[])
            .node("Where", "any shape minus", "same", &[])
            .node("Reshape", "x same", "whole_x", &[])
            .node("GreaterOrEqual", "asked minus", "given", &[])
            .node("LessOrEqual", "asked minus", "open", &[])
            .node("And", "given open", "rest", &[])
            .node("Where", "rest minus asked", "target", &[])
            .node("Reshape", "whole_x target", "y", &[])
            .output("y");
        let foreign = model.read();
        let y = foreign.graph.output("y").unwrap();
        assert_eq!(foreign.graph.shape(y).to_string(), "[N, 2, 3]");
    }

    #[test]
    fn choices_have_the_derivatives_of_what_is_chosen() {
        let model = Model::new()
            .input("x", &[-1, 4])
            .floats("zero", &[], &[0.0])
            .node("Greater", "x zero", "positive", &[])
            .node("Exp", "x", "a", &[])
            .node("Mul", "x x", "b", &[])
            .node("Where", "positive a b", "y", &[])
            .output("y");
        model.check_derivatives(1);
        let model = Model::new()
            .input("x", &[-1, 4])
            .initializer(bool_tensor("mask", &[4], &[true, false, true, false]))
            .floats("low", &[], &[f32::NEG_INFINITY])
            .node("Where", "mask x low", "masked", &[])
            .node("Exp", "masked", "y", &[])
            .output("y");
        model.check_derivatives(2);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        for (op_type, wanted) in [
            ("And", "its input 0 must be booleans"),
            ("Not", "its input 1 is not supported"),
            ("Less", "shapes [3] and [N, 2] do not broadcast"),
        ] {
            let model = Model::new()
                .input("x", &[-1, 2])
                .floats("c", &[3], &[1.0; 3])
                .initializer(bool_tensor("known", &[2], &[true, false]));
            let inputs = match op_type {
                "Not" => "known known",
                _ => "x c",
            };
            let problem = model.node(op_type, inputs, "y", &[]).output("y").problem();
            assert!(problem.contains(wanted), "{op_type}: {problem}");
        }
    }
}
