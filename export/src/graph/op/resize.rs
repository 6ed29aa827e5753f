//! Nearest-neighbour upsampling by whole factors.

use ndarray::{Array4, ArrayD, Ix4};

use super::{
    AveragePool, BackwardStep, Binary, OnnxAttribute, OnnxInput, OnnxOperator, Operator, floats,
    image_extents, image_type,
};
use crate::error::Result;
use crate::graph::{Value, ValueType};

/// Each pixel repeated `scales` times: `[N, C, H, W] → [N, C, s·H, t·W]`; ONNX's `Resize`, nearest, asymmetric, floor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upsample {
    /// Vertical and horizontal factor.
    pub scales: [usize; 2],
}

impl Operator for Upsample {
    fn infer(&self, inputs: &[&ValueType]) -> Result<ValueType, String> {
        let [x] = floats::<1>(inputs)?;
        let [channels, height, width] = image_extents(x)?;
        let [rows, columns] = self.scales;
        if rows == 0 || columns == 0 {
            return Err(format!("expected positive factors, got {:?}", self.scales));
        }
        Ok(image_type(
            x.0[0],
            [channels, height * rows, width * columns],
        ))
    }

    fn to_onnx(&self) -> OnnxOperator {
        OnnxOperator::plain("Resize")
            .with("mode", OnnxAttribute::Text("nearest"))
            .with(
                "coordinate_transformation_mode",
                OnnxAttribute::Text("asymmetric"),
            )
            .with("nearest_mode", OnnxAttribute::Text("floor"))
            .with_input(OnnxInput::Missing)
            .with_input(OnnxInput::Floats(vec![
                1.0,
                1.0,
                self.scales[0] as f32,
                self.scales[1] as f32,
            ]))
    }

    fn evaluate(&self, inputs: &[ArrayD<f64>]) -> ArrayD<f64> {
        let x = inputs[0]
            .view()
            .into_dimensionality::<Ix4>()
            .expect("checked by infer");
        let (batch, channels, height, width) = x.dim();
        let shape = [
            batch,
            channels,
            height * self.scales[0],
            width * self.scales[1],
        ];
        Array4::from_shape_fn(shape, |(n, c, i, j)| {
            x[[n, c, i / self.scales[0], j / self.scales[1]]]
        })
        .into_dyn()
    }

    /// The sum over the pixels that came from one, which is their mean times their number.
    fn gradient(&self, step: &mut BackwardStep<'_>) -> Result<Vec<Option<Value>>> {
        let cotangent = step.full_cotangent()?;
        let pool = AveragePool {
            kernel: self.scales,
            strides: self.scales,
            pads: [0; 4],
        };
        let mean = step.apply("mean", pool, &[cotangent])?;
        let count = step.scalar("count", (self.scales[0] * self.scales[1]) as f32);
        Ok(vec![Some(step.apply(
            "sum",
            Binary::Mul,
            &[mean, count],
        )?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::op::testing::{Operand, check_gradients, evaluate};

    #[test]
    fn repeats_pixels() {
        let x = Operand::fixed(&[1, 1, 1, 2], &[1.0, 2.0]);
        let result = evaluate(Upsample { scales: [2, 3] }, &[x]);
        assert_eq!(
            result.as_slice().unwrap(),
            [1., 1., 1., 2., 2., 2., 1., 1., 1., 2., 2., 2.]
        );
    }

    #[test]
    fn gradients_match_finite_differences() {
        for scales in [[1, 1], [2, 2], [3, 2]] {
            check_gradients(Upsample { scales }, &[Operand::random(&[2, 3, 4], 5)]);
        }
    }
}
