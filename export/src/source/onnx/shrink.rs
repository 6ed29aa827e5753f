//! Soft and hard thresholding.
//!
//! ONNX operators: `Shrink`; see [the specification](https://onnx.ai/onnx/operators/).

use super::node::{Node, Outputs, Rule};
use crate::graph::op::{Binary, Cast, Compare};

pub(super) const RULES: &[(&str, Rule)] = &[("Shrink", shrink)];

/// `x − bias` above lambd, `x + bias` below −lambd, else 0.
///
/// With masks of both sides this is `(above + below)·x − bias·(above − below)`.
fn shrink(node: &mut Node<'_, '_>) -> Outputs {
    let bias = node.float("bias")?.unwrap_or(0.0);
    let lambd = node.float("lambd")?.unwrap_or(0.5);
    let x = node.value(0)?;
    let upper = node.scalar("upper", lambd);
    let lower = node.scalar("lower", -lambd);
    let above = node.apply("is_above", Compare::Greater, &[x, upper])?;
    let above = node.apply("above", Cast::F32, &[above])?;
    let below = node.apply("is_below", Compare::Greater, &[lower, x])?;
    let below = node.apply("below", Cast::F32, &[below])?;
    let outside = node.apply("outside", Binary::Add, &[above, below])?;
    let kept = node.apply("kept", Binary::Mul, &[x, outside])?;
    let side = node.apply("side", Binary::Sub, &[above, below])?;
    let moved = node.scaled("moved", side, bias)?;
    node.result(Binary::Sub, &[kept, moved])
}

#[cfg(test)]
mod tests {
    use crate::source::onnx::testing::Attribute::Float;
    use crate::source::onnx::testing::{Attribute, Model, array};

    fn model(attributes: &[(&str, Attribute)]) -> Model {
        Model::new()
            .input("x", &[-1, 3])
            .node("Shrink", "x", "y", attributes)
            .output("y")
    }

    #[test]
    fn what_is_small_becomes_zero() {
        let soft = || vec![("bias", Float(0.25)), ("lambd", Float(0.25))];
        for (attributes, x, y, slope) in [
            (
                vec![],
                [-0.75, 0.5, 1.0],
                [-0.75, 0.0, 1.0],
                [1.0, 0.0, 1.0],
            ),
            (
                soft(),
                [-0.75, 0.25, 1.0],
                [-0.5, 0.0, 0.75],
                [1.0, 0.0, 1.0],
            ),
        ] {
            let [x, y, slope] = [x, y, slope].map(|values| array(&[1, 3], &values));
            let model = model(&attributes);
            assert_eq!(model.evaluate(&x), y);
            assert_eq!(model.slope(&x), slope);
            model.check_derivatives(1);
        }
    }
}
