//! Weights that a file stores as integers.
//!
//! ONNX operators: `DequantizeLinear`; see [the specification](https://onnx.ai/onnx/operators/).

use super::node::{Node, Outputs, Rule};
use super::numbers::{axis_of, size_of};
use crate::graph::tensor::Tensor;

pub(super) const RULES: &[(&str, Rule)] = &[("DequantizeLinear", dequantize)];

/// `(x − zero_point) · scale`, both for all of x, for each place along an axis, or for blocks of places along it.
fn dequantize(node: &mut Node<'_, '_>) -> Outputs {
    let axis = node.int("axis")?.unwrap_or(1);
    let block = size_of(node.int("block_size")?.unwrap_or(0))?;
    node.ignore("output_dtype");
    let known = node.known(0).map_err(|_| {
        "it makes floats of integers that are computed, which is not supported; export the model before its activations are quantized"
            .to_string()
    })?;
    let x = known.clone();
    let sizes = x.elements.shape().to_vec();
    let scale = node.constant(1)?;
    let zero_point = match node.optional(2) {
        Some(_) => Some(node.known(2)?.clone()),
        None => None,
    };
    // Where the scale of an element stands: strides along the axes of x.
    let shape = scale.shape();
    let mut strides = vec![0; sizes.len()];
    let mut divisors = vec![1; sizes.len()];
    match shape {
        [] | [1] if block == 0 => {}
        [count] if block == 0 => {
            let axis = axis_of(axis, sizes.len())?;
            if sizes[axis] != *count {
                return Err(format!(
                    "a scale of {count} elements does not fit axis {axis} of {sizes:?}"
                ));
            }
            strides[axis] = 1;
        }
        shape if block > 0 && shape.len() == sizes.len() => {
            let axis = axis_of(axis, sizes.len())?;
            let blocks: Vec<usize> = (0..sizes.len())
                .map(|other| {
                    if other == axis {
                        sizes[other].div_ceil(block)
                    } else {
                        sizes[other]
                    }
                })
                .collect();
            if blocks != shape {
                return Err(format!(
                    "a scale {shape:?} does not fit {sizes:?} in blocks of {block}"
                ));
            }
            divisors[axis] = block;
            for other in 0..sizes.len() {
                strides[other] = shape[other + 1..].iter().product();
            }
        }
        shape => return Err(format!("a scale {shape:?} does not fit {sizes:?}")),
    }
    if let Some(zero_point) = &zero_point
        && zero_point.elements.len() != scale.data().len()
    {
        return Err(format!(
            "expected as many zero points as scales, {}, got {}",
            scale.data().len(),
            zero_point.elements.len()
        ));
    }
    let zeros: Option<Vec<i64>> = match &zero_point {
        Some(known) => known.elements.iter().map(|number| number.fixed()).collect(),
        None => Some(vec![0; scale.data().len()]),
    };
    let zeros = zeros.ok_or("its zero points depend on the batch")?;
    let mut values = Vec::with_capacity(x.elements.len());
    for (place, number) in x.elements.indexed_iter() {
        let number = number
            .fixed()
            .ok_or("expected numbers, got multiples of the batch")?;
        let index: usize = (0..sizes.len())
            .map(|axis| place[axis] / divisors[axis] * strides[axis])
            .sum();
        values.push(number.saturating_sub(zeros[index]) as f32 * scale.data()[index]);
    }
    Ok(vec![
        node.named_constant(Tensor::new(&sizes, values)).into(),
    ])
}

#[cfg(test)]
mod tests {
    use crate::source::onnx::testing::Model;

    #[test]
    fn refuses_scales_that_do_not_fit() {
        for (scale, wanted) in [
            (vec![0.1; 4], "a scale of 4 elements does not fit axis 1"),
            (vec![], "does not fit"),
        ] {
            let model = Model::new()
                .input("x", &[-1, 3])
                .initializer(crate::source::onnx::testing::int_tensor(
                    "q",
                    &[1, 3],
                    &[1, 2, 3],
                ))
                .floats("scale", &[scale.len() as i64], &scale)
                .node("DequantizeLinear", "q scale", "w", &[])
                .node("Mul", "x w", "y", &[])
                .output("y");
            let problem = model.problem();
            assert!(problem.contains(wanted), "{problem}");
        }
    }
}
