//! Slopes that are infinite at a point, such as that of a root at 0, count as 0 there: a cotangent of 0 stays 0, and the distance of a point
//! from itself has the slope that PyTorch gives norms. What such a slope is divided by is infinite in place of 0, which is spared where a
//! value cannot be 0.

use super::{Activation, BackwardStep, Binary, Compare, Op, ReduceKind, Unary, Where};
use crate::error::Result;
use crate::graph::{Graph, Source, Value};

/// Operators that are looked through for the sign of a value.
const DEPTH: usize = 12;

/// x where it is above 0, else infinity.
pub(super) fn above_zero(step: &mut BackwardStep<'_>, x: Value) -> Result<Value> {
    if sign(step.graph, x, DEPTH) == Sign::Positive {
        return Ok(x);
    }
    let zero = step.scalar("zero", 0.0);
    let infinity = step.scalar("infinity", f32::INFINITY);
    let above = step.apply("above", Compare::Greater, &[x, zero])?;
    step.apply("divisor", Where, &[above, x, infinity])
}

/// x where it is not 0, else infinity.
pub(super) fn not_zero(step: &mut BackwardStep<'_>, x: Value) -> Result<Value> {
    if is_never_zero(step.graph, x) {
        return Ok(x);
    }
    let zero = step.scalar("zero", 0.0);
    let infinity = step.scalar("infinity", f32::INFINITY);
    let none = step.apply("none", Compare::Equal, &[x, zero])?;
    step.apply("divisor", Where, &[none, infinity, x])
}

/// Is no element ever 0, whatever the inputs are?
pub(super) fn is_never_zero(graph: &Graph, x: Value) -> bool {
    if let Source::Constant(tensor) = &graph.node(x).source {
        return tensor.data().iter().all(|&value| value != 0.0);
    }
    match graph.operator(x) {
        Some((Op::Where(_), &[condition, a, b])) if equals_zero(graph, condition, b) => {
            is_never_zero(graph, a)
        }
        _ => sign(graph, x, DEPTH) == Sign::Positive,
    }
}

/// What is known of the sign of all elements.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Sign {
    Any,
    NotNegative,
    Positive,
}

fn sign(graph: &Graph, x: Value, depth: usize) -> Sign {
    let Some(depth) = depth.checked_sub(1) else {
        return Sign::Any;
    };
    let of = |value: Value| sign(graph, value, depth);
    if let Source::Constant(tensor) = &graph.node(x).source {
        let mut values = tensor.data().iter();
        return match values.clone().all(|&value| value > 0.0) {
            true => Sign::Positive,
            false if values.all(|&value| value >= 0.0) => Sign::NotNegative,
            false => Sign::Any,
        };
    }
    let Some((op, inputs)) = graph.operator(x) else {
        return Sign::Any;
    };
    match (op, inputs) {
        (Op::Unary(Unary::Exp), _) => Sign::Positive,
        (Op::Activation(Activation::Sigmoid | Activation::Softplus), _) => Sign::Positive,
        (Op::Activation(Activation::Relu | Activation::Positive), _) => Sign::NotNegative,
        (Op::Unary(Unary::Abs | Unary::Sqrt | Unary::Reciprocal), &[x]) => match (op, of(x)) {
            (_, Sign::Positive) => Sign::Positive,
            (Op::Unary(Unary::Reciprocal), sign) => sign,
            _ => Sign::NotNegative,
        },
        (Op::Binary(Binary::Mul), &[a, b]) if a == b => of(a).max(Sign::NotNegative),
        (Op::Binary(Binary::Add), &[a, b]) => match [of(a), of(b)] {
            [Sign::Any, _] | [_, Sign::Any] => Sign::Any,
            [a, b] => a.max(b),
        },
        (Op::Binary(Binary::Mul | Binary::Div | Binary::Min), &[a, b]) => of(a).min(of(b)),
        (Op::Binary(Binary::Max), &[a, b]) => of(a).max(of(b)),
        (Op::Where(_), &[condition, a, b]) => match is_above_zero(graph, condition, a) {
            true => of(b),
            false => of(a).min(of(b)),
        },
        (Op::Reduce(reduce), &[x]) if reduce.kind == ReduceKind::Max => of(x),
        (Op::Reduce(_), &[x]) => match graph.shape(x).elements_per_image() {
            0 => Sign::NotNegative,
            _ => of(x),
        },
        (Op::Cast(_), &[x]) if !graph.value_type(x).dtype.is_float() => Sign::NotNegative,
        (
            Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Expand(_)
            | Op::Slice(_)
            | Op::Reverse(_)
            | Op::Upsample(_)
            | Op::MaxPool(_)
            | Op::Cast(_),
            &[x],
        ) => of(x),
        (Op::Concat(_), parts) => parts
            .iter()
            .map(|&part| of(part))
            .min()
            .unwrap_or(Sign::Any),
        _ => Sign::Any,
    }
}

/// Is the condition `x > c` for a c that is not negative?
fn is_above_zero(graph: &Graph, condition: Value, x: Value) -> bool {
    match graph.operator(condition) {
        Some((Op::Compare(Compare::Greater), &[left, right])) => {
            left == x && sign(graph, right, 1) != Sign::Any
        }
        _ => false,
    }
}

/// Is the condition `x = 0`?
fn equals_zero(graph: &Graph, condition: Value, x: Value) -> bool {
    let is_zero = |value: Value| match &graph.node(value).source {
        Source::Constant(tensor) => tensor.data().iter().all(|&value| value == 0.0),
        _ => false,
    };
    match graph.operator(condition) {
        Some((Op::Compare(Compare::Equal), &[left, right])) => left == x && is_zero(right),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ndarray::{ArrayD, array};

    use super::*;
    use crate::graph::Shape;
    use crate::graph::reference::evaluate;
    use crate::transform::gradient::hessian_vector_product;

    /// Builds an operator of x; the numbers are points at which its slope is infinite, or it is not a number.
    type Case = (
        &'static str,
        fn(&mut Graph, Value) -> Result<Value>,
        &'static [f64],
    );

    fn power(graph: &mut Graph, x: Value, exponent: f32) -> Result<Value> {
        let exponent = graph.scalar("exponent", exponent);
        graph.apply("y", Binary::Pow, &[x, exponent])
    }

    const CASES: &[Case] = &[
        (
            "√x",
            |graph, x| graph.apply("y", Unary::Sqrt, &[x]),
            &[0.0, -1.0],
        ),
        (
            "ln x",
            |graph, x| graph.apply("y", Unary::Log, &[x]),
            &[0.0],
        ),
        (
            "1/x",
            |graph, x| graph.apply("y", Unary::Reciprocal, &[x]),
            &[0.0],
        ),
        ("x^0.3", |graph, x| power(graph, x, 0.3), &[0.0, -1.0]),
        ("x^1.5", |graph, x| power(graph, x, 1.5), &[0.0, -1.0]),
        ("x^-2", |graph, x| power(graph, x, -2.0), &[0.0]),
        ("x^-0.5", |graph, x| power(graph, x, -0.5), &[0.0, -1.0]),
        (
            "asin x",
            |graph, x| graph.apply("y", Unary::Asin, &[x]),
            &[1.0, -1.0, 2.0],
        ),
        (
            "acosh x",
            |graph, x| graph.apply("y", Unary::Acosh, &[x]),
            &[1.0, -1.0],
        ),
        (
            "atanh x",
            |graph, x| graph.apply("y", Unary::Atanh, &[x]),
            &[1.0, -1.0, 2.0],
        ),
        (
            "x/x",
            |graph, x| graph.apply("y", Binary::Div, &[x, x]),
            &[0.0],
        ),
        (
            "2/x",
            |graph, x| {
                let two = graph.scalar("two", 2.0);
                graph.apply("y", Binary::Div, &[two, x])
            },
            &[0.0],
        ),
        (
            "x^x",
            |graph, x| graph.apply("y", Binary::Pow, &[x, x]),
            &[0.0],
        ),
        (
            "x^w",
            |graph, x| {
                let exponent = graph.weight("w", &[])?;
                graph.apply("y", Binary::Pow, &[x, exponent])
            },
            &[0.0, -1.0],
        ),
    ];

    /// Gradient and second derivative of `E = Σ [x ≠ point]·y`, y chosen or multiplied away.
    fn derivatives(case: &Case, point: f64, chosen: bool) -> [f64; 2] {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[])).unwrap();
        let y = (case.1)(&mut graph, x).unwrap();
        let point_value = graph.scalar("point", point as f32);
        let there = graph
            .apply("there", Compare::Equal, &[x, point_value])
            .unwrap();
        let zero = graph.scalar("nothing", 0.0);
        let energy = match chosen {
            true => graph.apply("energy", Where, &[there, zero, y]).unwrap(),
            false => y,
        };
        graph.set_output("energy", energy);
        let graph = hessian_vector_product(&graph, "energy", "x").unwrap();
        let values = BTreeMap::from([
            ("x".to_string(), array![point].into_dyn()),
            ("v".to_string(), array![1.0].into_dyn()),
            ("w".to_string(), ArrayD::from_elem(vec![], 0.4)),
        ]);
        let outputs = evaluate(&graph, &values).unwrap();
        ["gradient", "hvp"].map(|output| outputs[output][[0]])
    }

    #[test]
    fn what_is_not_chosen_has_no_slope() {
        for case in CASES {
            for &point in case.2 {
                let found = derivatives(case, point, true);
                assert_eq!(found, [0.0, 0.0], "{} at {point}", case.0);
            }
        }
    }

    #[test]
    fn infinite_slopes_count_as_zero() {
        for name in ["√x", "x^0.3", "asin x"] {
            let case = CASES.iter().find(|case| case.0 == name).unwrap();
            let [slope, _] = derivatives(case, case.2[0], false);
            assert_eq!(slope, 0.0, "{name}");
        }
    }

    /// Norms as people write them have no comparisons behind them.
    #[test]
    fn what_cannot_be_zero_is_not_compared() {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[])).unwrap();
        let square = graph.apply("square", Binary::Mul, &[x, x]).unwrap();
        let epsilon = graph.scalar("epsilon", 1e-5);
        let variance = graph
            .apply("variance", Binary::Add, &[square, epsilon])
            .unwrap();
        let deviation = graph.apply("deviation", Unary::Sqrt, &[variance]).unwrap();
        let normed = graph.apply("normed", Binary::Div, &[x, deviation]).unwrap();
        let exp = graph.apply("exp", Unary::Exp, &[normed]).unwrap();
        let energy = graph.apply("energy", Unary::Log, &[exp]).unwrap();
        graph.set_output("energy", energy);
        let graph = hessian_vector_product(&graph, "energy", "x").unwrap();
        let compares = |value: &Value| matches!(graph.operator(*value), Some((Op::Compare(_), _)));
        assert_eq!(graph.values().filter(compares).count(), 0);
    }
}
