//! Operators that do nothing go, and neighbours that are one operator become it.
//!
//! Each rule is an identity of arithmetic or of moving elements: `1·x = x`, `x/1 = x`, `x¹ = x`, `x + 0 = x`, `−(−x) = x`,
//! the lesser of x and ∞ and the greater of x and −∞ is x, `c·(d·x) = (c·d)·x` for fixed c and d, two reshapes are the second one, two transposes are the composed permutation, reversing
//! twice is nothing, and an operator that moves elements to where they are is nothing.

use crate::error::Result;
use crate::graph::op::{Binary, Op, Transpose, Unary};
use crate::graph::{Graph, Shape, Source, Value};

pub(super) fn rewritten(graph: &Graph) -> Result<Graph> {
    graph.rebuild(|target, mapping, value| {
        let Some((op, inputs)) = graph.operator(value) else {
            return Ok(None);
        };
        let inputs: Vec<Value> = inputs.iter().map(|&input| mapping.get(input)).collect();
        let name = &graph.node(value).name;
        match nothing(target, op, &inputs, graph.shape(value)) {
            Some(same) => Ok(Some(same)),
            None => merged(target, name, op, &inputs, graph.shape(value)),
        }
    })
}

/// The operand that the operator leaves as it is, if there is one.
fn nothing(graph: &Graph, op: &Op, inputs: &[Value], result: &Shape) -> Option<Value> {
    let x = *inputs.first()?;
    let same_shape = |value: Value| graph.shape(value) == result;
    let neutral = |value: Value, number: f32| is_filled_with(graph, value, number);
    match op {
        Op::Reshape(_) | Op::Expand(_) => same_shape(x).then_some(x),
        Op::Transpose(transpose) => is_identity(&transpose.axes).then_some(x),
        Op::Cast(cast) => (graph.value_type(x).dtype == cast.to).then_some(x),
        Op::Unary(Unary::Neg) => match graph.operator(x)? {
            (Op::Unary(Unary::Neg), &[inner]) => Some(inner),
            _ => None,
        },
        Op::Reverse(reverse) => match graph.operator(x)? {
            (Op::Reverse(inner), &[original]) if inner == reverse => Some(original),
            _ => None,
        },
        Op::Binary(binary) => {
            let right = *inputs.get(1)?;
            let (kept, other, number) = match binary {
                Binary::Add if neutral(x, 0.0) => (right, x, 0.0),
                Binary::Mul if neutral(x, 1.0) => (right, x, 1.0),
                Binary::Min if neutral(x, f32::INFINITY) => (right, x, f32::INFINITY),
                Binary::Max if neutral(x, f32::NEG_INFINITY) => (right, x, f32::NEG_INFINITY),
                Binary::Add | Binary::Sub => (x, right, 0.0),
                Binary::Mul | Binary::Div | Binary::Pow => (x, right, 1.0),
                Binary::Min => (x, right, f32::INFINITY),
                Binary::Max => (x, right, f32::NEG_INFINITY),
            };
            (same_shape(kept) && neutral(other, number)).then_some(kept)
        }
        _ => None,
    }
}

fn is_filled_with(graph: &Graph, value: Value, number: f32) -> bool {
    matches!(&graph.node(value).source, Source::Constant(tensor)
        if tensor.data().iter().all(|&element| element == number))
}

fn is_identity(axes: &[usize]) -> bool {
    axes.iter().enumerate().all(|(to, &from)| to == from)
}

/// What two operators in a row are together.
fn merged(
    graph: &mut Graph,
    name: &str,
    op: &Op,
    inputs: &[Value],
    result: &Shape,
) -> Result<Option<Value>> {
    match (op, inputs) {
        (Op::Reshape(reshape), &[x]) => match graph.operator(x) {
            Some((Op::Reshape(_), &[original])) if graph.shape(original) == result => {
                Ok(Some(original))
            }
            Some((Op::Reshape(_), &[original])) => {
                graph.apply(name, reshape.clone(), &[original]).map(Some)
            }
            _ => Ok(None),
        },
        (Op::Transpose(outer), &[x]) => match graph.operator(x) {
            Some((Op::Transpose(inner), &[original])) => {
                let axes: Vec<usize> = outer.axes.iter().map(|&axis| inner.axes[axis]).collect();
                match is_identity(&axes) {
                    true => Ok(Some(original)),
                    false => graph.apply(name, Transpose { axes }, &[original]).map(Some),
                }
            }
            _ => Ok(None),
        },
        (Op::Binary(Binary::Mul), &[left, right]) => one_factor(graph, name, left, right),
        _ => Ok(None),
    }
}

/// `c·(d·x) = (c·d)·x` where c and d are single numbers that are known.
fn one_factor(graph: &mut Graph, name: &str, left: Value, right: Value) -> Result<Option<Value>> {
    let split = |graph: &Graph, product: Value, rest: Value| match is_number(graph, product) {
        true => Some((product, rest)),
        false => is_number(graph, rest).then_some((rest, product)),
    };
    let Some((outer, scaled)) = split(graph, left, right) else {
        return Ok(None);
    };
    let Some((Op::Binary(Binary::Mul), &[first, second])) = graph.operator(scaled) else {
        return Ok(None);
    };
    let Some((inner, x)) = split(graph, first, second) else {
        return Ok(None);
    };
    let factor = graph.apply(&format!("{name}.factor"), Binary::Mul, &[outer, inner])?;
    graph.apply(name, Binary::Mul, &[x, factor]).map(Some)
}

/// A constant without axes, or a product of such.
fn is_number(graph: &Graph, value: Value) -> bool {
    let node = graph.node(value);
    match &node.source {
        Source::Constant(_) => node.value_type.shape.rank() == 0,
        Source::Operator { op, inputs } => {
            *op == Op::Binary(Binary::Mul) && inputs.iter().all(|&input| is_number(graph, input))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;
    use crate::graph::op::{Cast, Compare, Expand, Reshape, Reverse};
    use crate::transform::rewrite::Rewrite;
    use crate::transform::rewrite::testing::{check_rewrite, operators};

    /// What is left of a graph that is built behind `x [N, 2, 3]` and ends in an exponential.
    fn simplified(build: impl Fn(&mut Graph, Value) -> Value) -> Vec<&'static str> {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[2, 3])).unwrap();
        let y = build(&mut graph, x);
        let y = graph.apply("y", Unary::Exp, &[y]).unwrap();
        graph.set_output("y", y);
        operators(&check_rewrite(&graph, Rewrite::Simplify, 1))
    }

    fn chain(graph: &mut Graph, x: Value, ops: &[Op]) -> Value {
        ops.iter().fold(x, |value, op| {
            graph.apply("link", op.clone(), &[value]).unwrap()
        })
    }

    fn reshape(sizes: &[usize]) -> Op {
        let shape = Shape::batched(sizes);
        Reshape { shape }.into()
    }

    #[test]
    fn merges_and_drops_what_moves_elements() {
        let transpose = |axes: &[usize]| {
            Op::from(Transpose {
                axes: axes.to_vec(),
            })
        };
        let reverse = || Op::from(Reverse { axes: vec![1] });
        let expand = |sizes: &[usize]| {
            let shape = Shape::batched(sizes);
            Op::from(Expand { shape })
        };
        for (ops, wanted) in [
            (
                vec![reshape(&[6]), reshape(&[3, 2])],
                vec!["Reshape", "Exp"],
            ),
            (vec![reshape(&[6]), reshape(&[2, 3])], vec!["Exp"]),
            (vec![reshape(&[2, 3])], vec!["Exp"]),
            (
                vec![transpose(&[0, 2, 1]), transpose(&[0, 2, 1])],
                vec!["Exp"],
            ),
            (
                vec![transpose(&[1, 0, 2]), transpose(&[2, 1, 0])],
                vec!["Transpose", "Exp"],
            ),
            (vec![reverse(), reverse()], vec!["Exp"]),
            (vec![expand(&[2, 3])], vec!["Exp"]),
            (vec![Unary::Neg.into(), Unary::Neg.into()], vec!["Exp"]),
            (vec![Unary::Neg.into()], vec!["Neg", "Exp"]),
            (vec![Cast::F32.into()], vec!["Exp"]),
        ] {
            let left = simplified(|graph, x| chain(graph, x, &ops));
            assert_eq!(left, wanted, "{ops:?}");
        }
    }

    #[test]
    fn drops_neutral_constants_that_stretch_nothing() {
        for (binary, number, sizes, wanted) in [
            (Binary::Mul, 1.0, &[][..], vec!["Exp"]),
            (Binary::Div, 1.0, &[2, 1], vec!["Exp"]),
            (Binary::Add, 0.0, &[3], vec!["Exp"]),
            (Binary::Sub, 0.0, &[1, 1, 1], vec!["Exp"]),
            (Binary::Pow, 1.0, &[], vec!["Exp"]),
            (Binary::Min, f32::INFINITY, &[3], vec!["Exp"]),
            (Binary::Max, f32::NEG_INFINITY, &[], vec!["Exp"]),
            (Binary::Add, 1.0, &[], vec!["Add", "Exp"]),
            (Binary::Min, 1.0, &[], vec!["Min", "Exp"]),
            (Binary::Mul, 1.0, &[4, 1, 1, 1], vec!["Mul", "Exp"]),
        ] {
            let constant = Tensor::filled(sizes, number);
            let right = simplified(|graph, x| {
                let constant = graph.constant("constant", constant.clone());
                graph.apply("b", binary, &[x, constant]).unwrap()
            });
            assert_eq!(right, wanted, "{binary:?} {number} {sizes:?}");
            if let Binary::Add | Binary::Mul | Binary::Min | Binary::Max = binary {
                let left = simplified(|graph, x| {
                    let constant = graph.constant("constant", constant.clone());
                    graph.apply("b", binary, &[constant, x]).unwrap()
                });
                assert_eq!(left, wanted, "{binary:?} {number} {sizes:?}");
            }
        }
    }

    #[test]
    fn minus_x_and_one_over_x_and_powers_of_one_stay() {
        for (binary, number) in [(Binary::Sub, 0.0), (Binary::Div, 1.0), (Binary::Pow, 1.0)] {
            let left = simplified(|graph, x| {
                let constant = graph.scalar("constant", number);
                graph.apply("b", binary, &[constant, x]).unwrap()
            });
            assert_eq!(left.len(), 2, "{binary:?}");
        }
    }

    #[test]
    fn known_factors_become_one() {
        let left = simplified(|graph, x| {
            let [a, b, c] = [0.1, 0.7, 3.0].map(|value| graph.scalar("factor", value));
            let y = graph.apply("y1", Binary::Mul, &[x, a]).unwrap();
            let y = graph.apply("y2", Binary::Mul, &[b, y]).unwrap();
            graph.apply("y3", Binary::Mul, &[y, c]).unwrap()
        });
        // Two products of numbers, which are computed when weights are bound, and one of the input.
        assert_eq!(left, ["Mul", "Mul", "Mul", "Exp"]);
    }

    #[test]
    fn truth_values_are_still_cast() {
        let left = simplified(|graph, x| {
            let zero = graph.scalar("zero", 0.0);
            let positive = graph
                .apply("positive", Compare::Greater, &[x, zero])
                .unwrap();
            graph.apply("mask", Cast::F32, &[positive]).unwrap()
        });
        assert_eq!(left, ["Greater", "Cast", "Exp"]);
    }
}
