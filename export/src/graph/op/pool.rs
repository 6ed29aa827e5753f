//! Mean pooling over images `[N, C, H, W]`.

use ndarray::{Array4, ArrayD, Ix4};

use super::{
    BackwardStep, Binary, ConvTranspose, OnnxAttribute, OnnxOperator, Operator, Upsample, floats,
    image_extents, image_type,
};
use crate::error::Result;
use crate::graph::tensor::Tensor;
use crate::graph::{Value, ValueType};

/// `AveragePool`: the mean over windows of `kernel` pixels, padding counted as zeros:
/// `[N, C, H, W] → [N, C, H', W']` with `H' = (H + top + bottom − kernel) / stride + 1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AveragePool {
    /// Rows and columns of a window.
    pub kernel: [usize; 2],
    /// Step between windows.
    pub strides: [usize; 2],
    /// Zero padding: top, left, bottom, right.
    pub pads: [usize; 4],
}

impl AveragePool {
    /// Non-overlapping windows of `size × size`.
    pub fn tiles(size: usize) -> AveragePool {
        AveragePool {
            kernel: [size; 2],
            strides: [size; 2],
            pads: [0; 4],
        }
    }

    /// 1 over the number of pixels in a window.
    fn weight(&self) -> f32 {
        1.0 / (self.kernel[0] * self.kernel[1]) as f32
    }

    fn windows(&self) -> Windows {
        Windows {
            kernel: self.kernel,
            strides: self.strides,
            pads: self.pads,
        }
    }
}

/// Where the windows of any kind of pooling lie.
#[derive(Clone, Copy)]
pub(super) struct Windows {
    pub(super) kernel: [usize; 2],
    pub(super) strides: [usize; 2],
    pub(super) pads: [usize; 4],
}

impl Windows {
    /// How many there are along an axis of that many pixels.
    pub(super) fn count(&self, axis: usize, extent: usize) -> Result<usize, String> {
        (extent + self.pads[axis] + self.pads[axis + 2])
            .checked_sub(self.kernel[axis])
            .map(|room| room / self.strides[axis] + 1)
            .ok_or_else(|| {
                format!(
                    "a window of {} pixels does not fit {extent}",
                    self.kernel[axis]
                )
            })
    }

    /// The type of what has one pixel per window.
    pub(super) fn infer(&self, inputs: &[&ValueType]) -> Result<ValueType, String> {
        let [x] = floats::<1>(inputs)?;
        let [channels, height, width] = image_extents(x)?;
        if (0..4).any(|side| self.pads[side] >= self.kernel[side % 2])
            || self.kernel.contains(&0)
            || self.strides.contains(&0)
        {
            return Err(format!(
                "pads {:?} must be below the window {:?}, strides at least 1",
                self.pads, self.kernel
            ));
        }
        if height == 0 || width == 0 {
            return Err(format!("expected an image with pixels, got {x}"));
        }
        let height = self.count(0, height)?;
        let width = self.count(1, width)?;
        Ok(image_type(x.0[0], [channels, height, width]))
    }

    /// One pixel per window of images, made of the pixels of the image in the window from the top left on.
    pub(super) fn evaluate(
        &self,
        images: &ArrayD<f64>,
        of_window: impl Fn(&[f64]) -> f64,
    ) -> ArrayD<f64> {
        let x = images
            .view()
            .into_dimensionality::<Ix4>()
            .expect("checked by infer");
        let (batch, channels, height, width) = x.dim();
        let count = |axis, extent| self.count(axis, extent).expect("checked by infer");
        let shape = [batch, channels, count(0, height), count(1, width)];
        Array4::from_shape_fn(shape, |(n, c, i, j)| {
            let mut pixels = Vec::new();
            for r in 0..self.kernel[0] {
                for s in 0..self.kernel[1] {
                    let row = (i * self.strides[0] + r).wrapping_sub(self.pads[0]);
                    let column = (j * self.strides[1] + s).wrapping_sub(self.pads[1]);
                    if row < height && column < width {
                        pixels.push(x[[n, c, row, column]]);
                    }
                }
            }
            of_window(&pixels)
        })
        .into_dyn()
    }
}

impl Operator for AveragePool {
    fn infer(&self, inputs: &[&ValueType]) -> Result<ValueType, String> {
        self.windows().infer(inputs)
    }

    fn to_onnx(&self) -> OnnxOperator {
        OnnxOperator::plain("AveragePool")
            .with("kernel_shape", OnnxAttribute::sizes(&self.kernel))
            .with("strides", OnnxAttribute::sizes(&self.strides))
            .with("pads", OnnxAttribute::sizes(&self.pads))
            .with("count_include_pad", OnnxAttribute::Int(1))
    }

    fn evaluate(&self, inputs: &[ArrayD<f64>]) -> ArrayD<f64> {
        let count = (self.kernel[0] * self.kernel[1]) as f64;
        self.windows()
            .evaluate(&inputs[0], |pixels| pixels.iter().sum::<f64>() / count)
    }

    /// Three forms, the plainest that is exact: overlapping windows of stride 1 are their own kind of transpose; windows that
    /// tile the image spread their cotangent evenly; anything else is a depthwise transposed convolution.
    fn gradient(&self, step: &mut BackwardStep<'_>) -> Result<Vec<Option<Value>>> {
        let cotangent = step.full_cotangent()?;
        let image = image_extents(step.graph.shape(step.inputs[0]))
            .map_err(|p| step.unsupported(self.name(), &p))?;
        let [channels, height, width] = image;
        let tiles = self.kernel == self.strides
            && self.pads == [0; 4]
            && height % self.kernel[0] == 0
            && width % self.kernel[1] == 0;
        let gradient = if self.strides == [1, 1] {
            let pads = std::array::from_fn(|side| self.kernel[side % 2] - 1 - self.pads[side]);
            step.apply(
                "pool",
                AveragePool {
                    pads,
                    ..self.clone()
                },
                &[cotangent],
            )?
        } else if tiles {
            let weight = step.scalar("weight", self.weight());
            let share = step.apply("share", Binary::Mul, &[cotangent, weight])?;
            step.apply(
                "upsample",
                Upsample {
                    scales: self.kernel,
                },
                &[share],
            )?
        } else {
            let [_, rows, columns] = image_extents(step.graph.shape(step.output))
                .map_err(|p| step.unsupported(self.name(), &p))?;
            let left_over = |axis: usize, extent: usize, outputs: usize| {
                extent + self.pads[axis] + self.pads[axis + 2]
                    - self.strides[axis] * (outputs - 1)
                    - self.kernel[axis]
            };
            let transpose = ConvTranspose {
                strides: self.strides,
                pads: self.pads,
                output_pads: [left_over(0, height, rows), left_over(1, width, columns)],
                dilations: [1, 1],
                groups: channels,
            };
            let window = Tensor::filled(
                &[channels, 1, self.kernel[0], self.kernel[1]],
                self.weight(),
            );
            let window = step.constant("window", window);
            step.apply("conv_transpose", transpose, &[cotangent, window])?
        };
        Ok(vec![Some(gradient)])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::graph::op::testing::{Operand, check_gradients, evaluate};

    #[test]
    fn padding_counts() {
        // The corner window of a padded 2×2 mean sees one pixel of four.
        let x = Operand::fixed(&[1, 1, 2, 2], &[4.0, 8.0, 12.0, 16.0]);
        let pool = AveragePool {
            kernel: [2, 2],
            strides: [1, 1],
            pads: [1, 1, 1, 1],
        };
        let result = evaluate(pool, &[x]);
        assert_eq!(
            result.as_slice().unwrap(),
            [1.0, 3.0, 2.0, 4.0, 10.0, 6.0, 3.0, 7.0, 4.0]
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn gradients_match_finite_differences(
            kernel in 1usize..4, stride in 1usize..4, padded in proptest::bool::ANY, extent in 6usize..9, seed in 0u64..1000,
        ) {
            let pad = if padded { kernel - 1 } else { 0 };
            let pool = AveragePool { kernel: [kernel, kernel], strides: [stride, stride], pads: [pad; 4] };
            check_gradients(pool, &[Operand::random(&[2, extent, extent], seed)]);
        }
    }
}
