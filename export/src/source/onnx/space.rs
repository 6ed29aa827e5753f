//! Operators that exchange channels for pixels.
//!
//! ONNX operators: `DepthToSpace`, `SpaceToDepth`; see [the specification](https://onnx.ai/onnx/operators/).

use super::node::{Node, Outputs, Rule};
use super::numbers::size_of;
use super::result::Result;
use crate::graph::op::{Reshape, Transpose};
use crate::graph::{Dim, Shape};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("DepthToSpace", depth_to_space),
    ("SpaceToDepth", space_to_depth),
];

/// Batch, channels, rows and columns of an image tensor, and the size of the blocks.
fn extents(node: &Node<'_, '_>) -> Result<(Dim, [usize; 3], usize)> {
    let block = node
        .int("blocksize")?
        .ok_or("its attribute \"blocksize\" is missing")?;
    let block = size_of(block)?;
    let shape = node.shape(node.value(0)?);
    match shape.0.as_slice() {
        [batch, Dim::Size(c), Dim::Size(h), Dim::Size(w)] if block > 0 => {
            Ok((*batch, [*c, *h, *w], block))
        }
        _ => Err(format!(
            "expected [N, C, H, W] and blocks of at least 1, got {shape} and {block}"
        )),
    }
}

fn shape(batch: Dim, sizes: &[usize]) -> Shape {
    let mut shape = Shape::fixed(sizes);
    shape.0.insert(0, batch);
    shape
}

/// `[N, b·b·C, H, W] → [N, C, H·b, W·b]`; the channels of a block come first (`DCR`) or last (`CRD`).
fn depth_to_space(node: &mut Node<'_, '_>) -> Outputs {
    let (batch, [channels, height, width], block) = extents(node)?;
    let x = node.value(0)?;
    let Some(square) = block
        .checked_mul(block)
        .filter(|&square| channels.is_multiple_of(square))
    else {
        return Err(format!(
            "{channels} channels do not make blocks of {block}·{block}"
        ));
    };
    let left = channels / square;
    let (split, axes) = match node.text("mode")?.as_deref() {
        None | Some("DCR") => ([block, block, left], [0, 3, 4, 1, 5, 2]),
        Some("CRD") => ([left, block, block], [0, 1, 4, 2, 5, 3]),
        Some(mode) => return Err(format!("mode {mode:?} is not supported")),
    };
    let [a, b, c] = split;
    let split = shape(batch, &[a, b, c, height, width]);
    let split = node.apply("split", Reshape { shape: split }, &[x])?;
    let moved = node.apply(
        "moved",
        Transpose {
            axes: axes.to_vec(),
        },
        &[split],
    )?;
    node.result(
        Reshape {
            shape: shape(batch, &[left, height * block, width * block]),
        },
        &[moved],
    )
}

/// `[N, C, H·b, W·b] → [N, b·b·C, H, W]`.
fn space_to_depth(node: &mut Node<'_, '_>) -> Outputs {
    let (batch, [channels, height, width], block) = extents(node)?;
    let x = node.value(0)?;
    if !height.is_multiple_of(block) || !width.is_multiple_of(block) {
        return Err(format!(
            "{height}·{width} pixels do not make blocks of {block}·{block}"
        ));
    }
    let (rows, columns) = (height / block, width / block);
    let split = shape(batch, &[channels, rows, block, columns, block]);
    let split = node.apply("split", Reshape { shape: split }, &[x])?;
    let axes = vec![0, 3, 5, 1, 2, 4];
    let moved = node.apply("moved", Transpose { axes }, &[split])?;
    node.result(
        Reshape {
            shape: shape(batch, &[channels * block * block, rows, columns]),
        },
        &[moved],
    )
}

#[cfg(test)]
mod tests {
    use crate::source::onnx::testing::Attribute::{Int, Text};
    use crate::source::onnx::testing::{Model, array, random};

    fn blocks() -> (&'static str, crate::source::onnx::testing::Attribute) {
        ("blocksize", Int(2))
    }

    #[test]
    fn channels_become_pixels_in_the_order_of_the_mode() {
        let x = array(&[1, 8, 1, 1], &[0., 1., 2., 3., 4., 5., 6., 7.]);
        for (mode, wanted) in [
            ("DCR", [0., 2., 4., 6., 1., 3., 5., 7.]),
            ("CRD", [0., 1., 2., 3., 4., 5., 6., 7.]),
        ] {
            let model = Model::new().input("x", &[-1, 8, 1, 1]);
            let model = model
                .node("DepthToSpace", "x", "y", &[blocks(), ("mode", Text(mode))])
                .output("y");
            assert_eq!(model.evaluate(&x), array(&[1, 2, 2, 2], &wanted), "{mode}");
            model.check_derivatives(1);
        }
    }

    #[test]
    fn there_and_back_is_the_identity() {
        let model = Model::new()
            .input("x", &[-1, 2, 4, 6])
            .node("SpaceToDepth", "x", "deep", &[blocks()])
            .node("DepthToSpace", "deep", "y", &[blocks()])
            .output("y");
        let x = random(&[2, 2, 4, 6], 1);
        assert_eq!(model.evaluate(&x), x);
        model.check_derivatives(2);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        for (op_type, wanted) in [
            ("DepthToSpace", "6 channels do not make blocks of 2·2"),
            ("SpaceToDepth", "3·4 pixels do not make blocks of 2·2"),
        ] {
            let model =
                Model::new()
                    .input("x", &[-1, 6, 3, 4])
                    .node(op_type, "x", "y", &[blocks()]);
            let problem = model.output("y").problem();
            assert!(problem.contains(wanted), "{problem}");
        }
    }
}
