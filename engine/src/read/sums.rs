//! Operators that add up over axes.

use super::Ruled;
use super::node::NodeReader;
use crate::graph::{Op, Reduction};
use crate::shape::Shape;

pub(super) fn reduce(node: &NodeReader<'_>) -> Result<Ruled, String> {
    let (kind, axes_as_input) = match node.operator() {
        "ReduceSum" => (Reduction::Sum, true),
        "ReduceMean" => (Reduction::Mean, node.opset >= 18),
        _ => (Reduction::Max, node.opset >= 18),
    };
    let operand = node.operand(0)?;
    let listed = match axes_as_input {
        true => {
            node.expect(&["keepdims"], 2)?;
            node.int_list(1)?
        }
        false => {
            node.expect(&["keepdims", "axes"], 1)?;
            node.ints("axes")
        }
    };
    let shape = node.shape(operand);
    let mut axes = match listed {
        Some(listed) if !listed.is_empty() => listed
            .iter()
            .map(|&axis| node.axis(axis, shape.rank()))
            .collect::<Result<Vec<_>, _>>()?,
        _ => (0..shape.rank()).collect(),
    };
    axes.sort_unstable();
    axes.dedup();
    if shape.batch_axis().is_some_and(|axis| axes.contains(&axis)) {
        return Err("it mixes the images of a batch".to_string());
    }
    let mut extents = shape.extents.clone();
    axes.iter().for_each(|&axis| extents[axis] = 1);
    let kept = shape.with_extents(extents, |axis| axis);
    let result = match node.int("keepdims", 1) {
        0 => {
            let n_before = |end: usize| axes.iter().filter(|&&axis| axis < end).count();
            let places = (0..shape.rank()).filter(|axis| !axes.contains(axis));
            let extents = places.map(|axis| kept.extents[axis]).collect();
            kept.with_extents(extents, |axis| axis - n_before(axis))
        }
        _ => kept,
    };
    Ok((Op::Reduce { kind, axes }, vec![operand], result))
}

pub(super) fn softmax(node: &NodeReader<'_>) -> Result<Ruled, String> {
    node.expect(&["axis"], 1)?;
    let operand = node.operand(0)?;
    let shape = node.shape(operand).clone();
    let axis = node.axis(node.int("axis", -1), shape.rank())?;
    match shape.batch_axis() == Some(axis) {
        true => Err("it mixes the images of a batch".to_string()),
        false => Ok((Op::Softmax { axis }, vec![operand], shape)),
    }
}

/// `[.., M, K]` times `[.., K, P]`, the leading axes broadcast.
pub(super) fn product(node: &NodeReader<'_>) -> Result<Ruled, String> {
    node.expect(&[], 2)?;
    let operands = [node.operand(0)?, node.operand(1)?];
    let [left, right] = operands.map(|operand| node.shape(operand));
    let (m, n) = (left.rank(), right.rank());
    if m < 2 || n < 2 || left.extents[m - 1] != right.extents[n - 2] {
        return Err(format!(
            "expected [.., M, K] and [.., K, P], got {:?} and {:?}",
            left.extents, right.extents
        ));
    }
    if left.batch_axis() == Some(m - 1) || right.batch_axis() == Some(n - 2) {
        return Err("it mixes the images of a batch".to_string());
    }
    // As if the depth were one row or column, along which the other is stretched.
    let with = |shape: &Shape, axis: usize| {
        let mut extents = shape.extents.clone();
        extents[axis] = 1;
        shape.with_extents(extents, |axis| axis)
    };
    let (rows, columns) = (with(left, m - 1), with(right, n - 2));
    let shape = Shape::broadcast([&rows, &columns].into_iter())?;
    Ok((Op::MatMul, operands.to_vec(), shape))
}
