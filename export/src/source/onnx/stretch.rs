//! Operators that repeat elements.
//!
//! ONNX operators: `Expand`, `Tile`; see [the specification](https://onnx.ai/onnx/operators/).

use super::known::Number;
use super::node::{Node, Operand, Outputs, Rule};
use super::numbers::size_of;
use super::own_image::ONLY_INDICES;
use super::result::Result;
use super::shape::shape_of_operand;
use crate::graph::op::Reshape;
use crate::graph::{DType, Dim, Shape};

pub(super) const RULES: &[(&str, Rule)] = &[("Expand", expand), ("Tile", tile)];

/// `Expand(x, shape)`: both broadcast to each other.
fn expand(node: &mut Node<'_, '_>) -> Outputs {
    let target = node.known(1)?.numbers()?;
    let operand = node.operand(0)?.clone();
    let current = shape_of_operand(node, &operand);
    let rank = current.rank().max(target.len());
    let dims = (0..rank).map(|axis| {
        let own = (axis + current.rank())
            .checked_sub(rank)
            .map_or(Dim::Size(1), |axis| current.0[axis]);
        let wanted = (axis + target.len())
            .checked_sub(rank)
            .map_or(Number::Fixed(1), |axis| target[axis]);
        expanded_extent(node, own, wanted)
    });
    let shape = Shape(dims.collect::<Result<_>>()?);
    match operand {
        Operand::Known(known) => Ok(vec![known.stretched(&shape)?.into()]),
        Operand::Value(value) | Operand::Integers(value) => node.stretched(value, &shape),
        Operand::OfImages(_) => Err(ONLY_INDICES.to_string()),
    }
}

fn expanded_extent(node: &Node<'_, '_>, own: Dim, wanted: Number) -> Result<Dim> {
    match (own, wanted) {
        (own, Number::Fixed(1)) => Ok(own),
        (own, wanted) if node.keeps(wanted, own) => Ok(own),
        (Dim::Size(1), Number::Fixed(size)) => size_of(size).map(Dim::Size),
        (Dim::Size(1), Number::Batch(inner)) => {
            size_of(inner).map(|inner| Dim::Batch { outer: 1, inner })
        }
        (own, wanted) => Err(format!("an extent of {own} does not stretch to {wanted}")),
    }
}

/// `Tile(x, repeats)`: the whole of each axis again and again.
fn tile(node: &mut Node<'_, '_>) -> Outputs {
    let repeats = node.known(1)?.numbers()?;
    let operand = node.operand(0)?.clone();
    let current = shape_of_operand(node, &operand);
    if repeats.len() != current.rank() {
        return Err(format!(
            "expected a number for each axis of {current}, got {}",
            repeats.len()
        ));
    }
    // Each axis gets one before it, which is stretched and then joined with it.
    let (mut apart, mut stretched, mut joined) = (Vec::new(), Vec::new(), Vec::new());
    for (&dim, &repeat) in current.0.iter().zip(&repeats) {
        let (many, whole) = match (repeat, dim) {
            (Number::Fixed(1), dim) => {
                apart.push(dim);
                stretched.push(dim);
                joined.push(dim);
                continue;
            }
            (Number::Fixed(repeat), Dim::Size(size)) => {
                let repeat = size_of(repeat)?;
                (Dim::Size(repeat), Dim::Size(repeat * size))
            }
            (Number::Fixed(repeat), Dim::Batch { outer, inner }) => {
                let repeat = size_of(repeat)?;
                let outer = repeat * outer;
                (Dim::Size(repeat), Dim::Batch { outer, inner })
            }
            (Number::Batch(factor), Dim::Size(size)) => {
                let inner = size_of(factor)?;
                let whole = Dim::Batch {
                    outer: 1,
                    inner: inner * size,
                };
                (Dim::Batch { outer: 1, inner }, whole)
            }
            (Number::Image { .. }, _) => return Err(format!("expected a number, got {repeat}")),
            (Number::Batch(_), dim @ Dim::Batch { .. }) => {
                return Err(format!(
                    "{dim} repeated {repeat} times pairs every image with every other"
                ));
            }
        };
        apart.extend([Dim::Size(1), dim]);
        stretched.extend([many, dim]);
        joined.push(whole);
    }
    let (apart, stretched, joined) = (Shape(apart), Shape(stretched), Shape(joined));
    match operand {
        Operand::Known(known) => {
            let many = known.reshaped(apart)?.stretched(&stretched)?;
            Ok(vec![many.reshaped(joined)?.into()])
        }
        Operand::OfImages(_) => Err(ONLY_INDICES.to_string()),
        Operand::Value(value) | Operand::Integers(value) => {
            let truth = node.dtype(value) == DType::Bool;
            let value = if truth {
                node.as_numbers(value)?
            } else {
                value
            };
            let value = node.apply("apart", Reshape { shape: apart }, &[value])?;
            let value = node.stretch(value, &stretched)?;
            let value = node.apply("joined", Reshape { shape: joined }, &[value])?;
            let value = if truth { node.is_set(value)? } else { value };
            Ok(vec![value.into()])
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Axis, concatenate};

    use crate::source::onnx::testing::{Model, int_tensor, random};

    /// What is repeated never still may not be repeated too often elsewhere, where the product of the extents is not a number.
    #[test]
    fn repetition_out_of_all_proportion_is_refused() {
        const MANY: i64 = 1 << 30;
        for repeats in [
            [1, 0, MANY, MANY],
            [1, MANY, MANY, 0],
            [1, MANY, MANY, MANY],
        ] {
            let problem = Model::new()
                .input("x", &[-1, 1 << 10, 1 << 10, 1 << 10])
                .initializer(int_tensor("repeats", &[4], &repeats))
                .node("Tile", "x repeats", "y", &[])
                .output("y")
                .problem();
            assert!(problem.contains("too large"), "{repeats:?}: {problem}");
        }
    }

    #[test]
    fn expansion_broadcasts_both_ways() {
        for (extents, target, wanted) in [
            ([-1, 3, 1], vec![1, 3, 4], vec![2, 3, 4]),
            ([-1, 3, 1], vec![1, 4], vec![2, 3, 4]),
            ([2, 3, 1], vec![2, 1, 5], vec![2, 3, 5]),
            ([-1, 3, 1], vec![5, 1, 1, 1], vec![5, 2, 3, 1]),
        ] {
            let model = Model::new().input("x", &extents).ints("target", &target);
            let model = model.node("Expand", "x target", "y", &[]).output("y");
            let x = random(&[2, 3, 1], 1);
            let y = model.evaluate(&x);
            assert_eq!(y, x.broadcast(wanted).unwrap(), "{target:?}");
            model.check_derivatives(2);
        }
    }

    /// A token that is the same for all images, expanded to `[N, 1, 2]`, put before them.
    #[test]
    fn a_fixed_value_expands_to_the_batch() {
        let model = Model::new()
            .input("x", &[-1, 3, 2])
            .floats("token", &[1, 1, 2], &[5.0, 6.0])
            .ints("zero", &[0])
            .ints("rest", &[1, 2])
            .node("Shape", "x", "shape", &[])
            .node("Gather", "shape zero", "batch", &[])
            .node(
                "Concat",
                "batch rest",
                "target",
                &[("axis", crate::source::onnx::testing::Attribute::Int(0))],
            )
            .node("Expand", "token target", "tokens", &[])
            .node(
                "Concat",
                "tokens x",
                "y",
                &[("axis", crate::source::onnx::testing::Attribute::Int(1))],
            )
            .output("y");
        let x = random(&[2, 3, 2], 1);
        let y = model.evaluate(&x);
        assert_eq!(y.shape(), [2, 4, 2]);
        assert_eq!(y[[1, 0, 1]], 6.0);
        model.check_derivatives(3);
    }

    #[test]
    fn tiles_repeat_the_whole_axis() {
        let x = random(&[2, 3, 2], 1);
        let model = Model::new()
            .input("x", &[-1, 3, 2])
            .ints("repeats", &[1, 2, 3]);
        let model = model.node("Tile", "x repeats", "y", &[]).output("y");
        let twice = concatenate(Axis(1), &[x.view(), x.view()]).unwrap();
        let whole = concatenate(Axis(2), &[twice.view(), twice.view(), twice.view()]).unwrap();
        assert_eq!(model.evaluate(&x), whole);
        model.check_derivatives(4);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        for (op_type, target, wanted) in [
            ("Expand", vec![1, 4], "an extent of 3 does not stretch to 4"),
            ("Expand", vec![2, 3], "an extent of N does not stretch to 2"),
            ("Tile", vec![1], "expected a number for each axis of [N, 3]"),
        ] {
            let model = Model::new().input("x", &[-1, 3]).ints("target", &target);
            let problem = model
                .node(op_type, "x target", "y", &[])
                .output("y")
                .problem();
            assert!(problem.contains(wanted), "{problem}");
        }
    }
}
