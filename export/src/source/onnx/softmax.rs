//! Softmax and its logarithm, along an axis.
//!
//! ONNX operators: `LogSoftmax`, `Softmax`; see [the specification](https://onnx.ai/onnx/operators/).

use super::node::{Node, Outputs, Rule};
use super::numbers::axis_of;
use super::result::Result;
use crate::graph::op::{Binary, ReduceKind, Softmax, Unary};
use crate::graph::{Shape, Value};

pub(super) const RULES: &[(&str, Rule)] = &[("Softmax", softmax), ("LogSoftmax", log_softmax)];

/// The first opset whose softmax is along one axis.
const ALONG_ONE_AXIS: i64 = 13;

fn softmax(node: &mut Node<'_, '_>) -> Outputs {
    along_one_axis(node, |node, x, axis| {
        node.apply("shares", Softmax { axis }, &[x])
    })
}

fn log_softmax(node: &mut Node<'_, '_>) -> Outputs {
    along_one_axis(node, log_shares)
}

/// `x − max x − log Σ e^(x − max x)`. As for `ReduceLogSumExp`, the maximum adds nothing to any derivative.
pub(super) fn log_shares(node: &mut Node<'_, '_>, x: Value, axis: usize) -> Result<Value> {
    let greatest = node.along("greatest", ReduceKind::Max, x, &[axis])?;
    let below = node.apply("below", Binary::Sub, &[x, greatest])?;
    let exponentials = node.apply("exponentials", Unary::Exp, &[below])?;
    let sum = node.along("sum", ReduceKind::Sum, exponentials, &[axis])?;
    let log = node.apply("log", Unary::Log, &[sum])?;
    node.apply("shares", Binary::Sub, &[below, log])
}

/// Along `axis`; before opset 13 along that axis and all behind it as one.
fn along_one_axis(
    node: &mut Node<'_, '_>,
    shares: fn(&mut Node<'_, '_>, Value, usize) -> Result<Value>,
) -> Outputs {
    let axis = node.int("axis")?;
    let x = node.value(0)?;
    let shape = node.shape(x);
    let merged = node.opset() < ALONG_ONE_AXIS;
    let axis = axis_of(axis.unwrap_or(if merged { 1 } else { -1 }), shape.rank())?;
    let behind = match merged {
        true => axis..shape.rank(),
        false => axis..axis + 1,
    };
    if let Some(axis) = behind.clone().find(|&axis| shape.0[axis].is_batch()) {
        return Err(format!(
            "it takes shares along axis {axis} of {shape}, which mixes the images of a batch"
        ));
    }
    let part = Shape(shape.0[behind.clone()].to_vec());
    let mut rows = shape.clone();
    rows.0
        .splice(behind, [crate::graph::Dim::Size(part.elements_per_image())]);
    let rows = node.seen_as("rows", x, rows)?;
    let result = shares(node, rows, axis)?;
    Ok(vec![node.seen_as("unmerged", result, shape)?.into()])
}

#[cfg(test)]
mod tests {
    use crate::source::onnx::testing::Attribute::Int;
    use crate::source::onnx::testing::{Attribute, Model, array};

    fn model(opset: i64, op_type: &str, attributes: &[(&str, Attribute)]) -> Model {
        Model::of_opset(opset)
            .input("x", &[-1, 2, 3])
            .node(op_type, "x", "y", attributes)
            .output("y")
    }

    /// Extents along which shares add up to 1.
    #[test]
    fn old_opsets_merge_axes() {
        for (opset, attributes, along) in [
            (11, vec![], vec![1, 2]),
            (12, vec![("axis", Int(2))], vec![2]),
            (12, vec![("axis", Int(-2))], vec![1, 2]),
            (13, vec![], vec![2]),
            (17, vec![("axis", Int(1))], vec![1]),
        ] {
            let (x, shares) = model(opset, "Softmax", &attributes).evaluate_random(1);
            let exponentials = x.mapv(f64::exp);
            let mut sum = exponentials.clone();
            for &axis in &along {
                let axis = ndarray::Axis(axis);
                sum = sum.sum_axis(axis).insert_axis(axis);
            }
            let wanted = exponentials / sum;
            assert!((&shares - &wanted).iter().all(|error| error.abs() < 1e-9));
            let (_, logs) = model(opset, "LogSoftmax", &attributes).evaluate_random(1);
            let wanted = wanted.mapv(f64::ln);
            assert!((&logs - &wanted).iter().all(|error| error.abs() < 1e-9));
        }
    }

    #[test]
    fn derivatives_match_finite_differences() {
        for op_type in ["Softmax", "LogSoftmax"] {
            for opset in [11, 13] {
                for axis in [1, 2] {
                    println!("{op_type} of opset {opset} along {axis}");
                    model(opset, op_type, &[("axis", Int(axis))]).check_derivatives(2);
                }
            }
        }
    }

    #[test]
    fn logarithms_of_vanishing_shares_are_exact() {
        let model = Model::new()
            .input("x", &[-1, 2])
            .node("LogSoftmax", "x", "y", &[])
            .output("y");
        let y = model.evaluate(&array(&[1, 2], &[0.0, -1000.0]));
        assert_eq!(y, array(&[1, 2], &[0.0, -1000.0]));
    }

    #[test]
    fn the_batch_stays() {
        for opset in [11, 17] {
            let problem = model(opset, "Softmax", &[("axis", Int(0))]).problem();
            assert_eq!(
                problem,
                "node \"y\" (Softmax): it takes shares along axis 0 of [N, 2, 3], which mixes the images of a batch"
            );
        }
    }
}
