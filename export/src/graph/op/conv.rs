//! Convolution and its transpose over images `[N, C, H, W]`.

use ndarray::{ArrayD, Ix4};

use super::conv_weight::{by_bias, by_weight};
use super::windows::Windows;
use super::{Arithmetic, BackwardStep, OnnxAttribute, OnnxOperator, Operator, floats};
use crate::error::Result;
use crate::graph::{Dim, Shape, Value, ValueType};

/// `Conv`: x `[N, C, H, W]`, weight `[O, C/groups, kh, kw]`, optional bias `[O]` → `[N, O, H', W']` with
/// `H' = (H + top + bottom − dilation·(kh − 1) − 1) / stride + 1`. Where the kernel is one pixel high (or wide), without stride and pads, the
/// batch may stand on the rows (or columns) in place of axis 0, since nothing is summed along them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Step between outputs, vertical and horizontal.
    pub strides: [usize; 2],
    /// Zero padding: top, left, bottom, right.
    pub pads: [usize; 4],
    /// Distance between taps, vertical and horizontal.
    pub dilations: [usize; 2],
    /// Number of groups of channels that do not mix.
    pub groups: usize,
}

impl Conv {
    /// Stride 1 with that zero padding on all sides.
    pub fn padded(padding: usize) -> Conv {
        Conv {
            strides: [1, 1],
            pads: [padding; 4],
            dilations: [1, 1],
            groups: 1,
        }
    }

    /// That stride without padding.
    pub fn strided(stride: usize) -> Conv {
        Conv {
            strides: [stride; 2],
            ..Conv::padded(0)
        }
    }

    fn output_extent(&self, axis: usize, extent: usize, kernel: usize) -> Result<usize, String> {
        let padded = extent + self.pads[axis] + self.pads[axis + 2];
        let reach = self.dilations[axis] * (kernel - 1) + 1;
        if self.strides[axis] == 0 || self.dilations[axis] == 0 {
            return Err("strides and dilations must be at least 1".to_string());
        }
        if padded < reach {
            return Err(format!(
                "a kernel that reaches over {reach} pixels does not fit {padded} padded ones"
            ));
        }
        Ok((padded - reach) / self.strides[axis] + 1)
    }
}

/// The transpose of [`Conv`], ONNX's `ConvTranspose`: x `[N, C, H, W]`, weight `[C, O/groups, kh, kw]`, optional bias `[O]`
/// → `[N, O, H', W']` with `H' = stride·(H − 1) + dilation·(kh − 1) + 1 + output_pad − top − bottom`. The batch may stand where it may in [`Conv`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvTranspose {
    /// Step between outputs of the convolution that this transposes.
    pub strides: [usize; 2],
    /// Its zero padding: top, left, bottom, right.
    pub pads: [usize; 4],
    /// Rows and columns that its stride left over at the bottom and right.
    pub output_pads: [usize; 2],
    /// Its dilation.
    pub dilations: [usize; 2],
    /// Its groups.
    pub groups: usize,
}

impl ConvTranspose {
    fn output_extent(&self, axis: usize, extent: usize, kernel: usize) -> Result<usize, String> {
        if self.strides[axis] == 0 || self.dilations[axis] == 0 {
            return Err("strides and dilations must be at least 1".to_string());
        }
        let full = self.strides[axis] * (extent - 1)
            + self.dilations[axis] * (kernel - 1)
            + 1
            + self.output_pads[axis];
        full.checked_sub(self.pads[axis] + self.pads[axis + 2])
            .filter(|&extent| extent > 0)
            .ok_or_else(|| format!("pads {:?} leave nothing of {full} pixels", self.pads))
    }
}

/// Images and weight of a convolution whose operands fit each other.
struct Operands {
    /// Batch, channels, rows and columns.
    image: [Dim; 4],
    /// Rows and columns of the kernel.
    kernel: [usize; 2],
    /// Channels of the result.
    outputs: usize,
}

impl Operands {
    /// `channels_of` gives the input and output channels of a weight.
    fn check(
        inputs: &[&ValueType],
        groups: usize,
        channels_of: impl Fn(&[usize]) -> (usize, usize),
    ) -> Result<Operands, String> {
        let (x, weight, bias) = match inputs.len() {
            2 => floats::<2>(inputs).map(|[x, weight]| (x, weight, None))?,
            _ => floats::<3>(inputs).map(|[x, weight, bias]| (x, weight, Some(bias)))?,
        };
        let image: [Dim; 4] =
            x.0.as_slice()
                .try_into()
                .map_err(|_| format!("expected [N, C, H, W], got {x}"))?;
        let Dim::Size(channels) = image[1] else {
            return Err(format!("expected [N, C, H, W], got {x}"));
        };
        if image[1..].contains(&Dim::Size(0)) {
            return Err(format!("expected an image with pixels, got {x}"));
        }
        let weight: Vec<usize> = (0..weight.rank())
            .filter_map(|axis| weight.size(axis))
            .collect();
        if weight.len() != 4 || groups == 0 || weight.contains(&0) {
            return Err(format!(
                "expected a weight of four positive fixed extents and groups ≥ 1, got {weight:?} and {groups}"
            ));
        }
        let (inputs_wanted, outputs) = channels_of(&weight);
        if channels != inputs_wanted || !weight[0].is_multiple_of(groups) {
            return Err(format!(
                "weight {weight:?} in {groups} groups takes {inputs_wanted} channels, got {channels}"
            ));
        }
        if bias.is_some_and(|bias| *bias != Shape::fixed(&[outputs])) {
            return Err(format!(
                "expected a bias [{outputs}], got {}",
                bias.map_or_else(String::new, Shape::to_string)
            ));
        }
        Ok(Operands {
            image,
            kernel: [weight[2], weight[3]],
            outputs,
        })
    }

    /// The type of the result, given its extent along an axis (0: rows, 1: columns) for that of the image and of the kernel.
    fn result(
        &self,
        strides: [usize; 2],
        pads: [usize; 4],
        extent: impl Fn(usize, usize, usize) -> Result<usize, String>,
    ) -> Result<ValueType, String> {
        let [batch, _, rows, columns] = self.image;
        let along = |axis: usize, dim: Dim| {
            let kernel = self.kernel[axis];
            // What is true of one pixel is true of each: that attributes make sense is checked on one, for the batch too.
            let one = extent(axis, 1, kernel);
            let alone = (kernel, strides[axis], pads[axis], pads[axis + 2]) == (1, 1, 0, 0);
            match dim {
                Dim::Size(size) => extent(axis, size, kernel).map(Dim::Size),
                Dim::Batch { .. } if alone => one.map(|_| dim),
                Dim::Batch { .. } => Err(format!(
                    "cannot convolve along the batch in [{batch}, .., {rows}, {columns}]: this mixes the images of a batch"
                )),
            }
        };
        let extents = vec![
            batch,
            Dim::Size(self.outputs),
            along(0, rows)?,
            along(1, columns)?,
        ];
        Ok(ValueType::f32(Shape(extents)))
    }
}

impl Operator for Conv {
    fn infer(&self, inputs: &[&ValueType]) -> Result<ValueType, String> {
        let channels_of = |weight: &[usize]| (weight[1] * self.groups, weight[0]);
        Operands::check(inputs, self.groups, channels_of)?.result(
            self.strides,
            self.pads,
            |axis, extent, kernel| self.output_extent(axis, extent, kernel),
        )
    }

    fn to_onnx(&self) -> OnnxOperator {
        OnnxOperator::plain("Conv")
            .with("strides", OnnxAttribute::sizes(&self.strides))
            .with("pads", OnnxAttribute::sizes(&self.pads))
            .with("dilations", OnnxAttribute::sizes(&self.dilations))
            .with("group", OnnxAttribute::Int(self.groups as i64))
    }

    fn evaluate(&self, inputs: &[ArrayD<f64>]) -> ArrayD<f64> {
        let (x, weight) = (image_view(&inputs[0]), image_view(&inputs[1]));
        let ((_, _, height, width), (_, _, rows, columns)) = (x.dim(), weight.dim());
        let extent = |axis, extent, kernel| {
            self.output_extent(axis, extent, kernel)
                .expect("checked by infer")
        };
        let windows = Windows {
            strides: self.strides,
            pads: [self.pads[0], self.pads[1]],
            dilations: self.dilations,
            kernel: [rows, columns],
            count: [extent(0, height, rows), extent(1, width, columns)],
        };
        add_bias(windows.convolved(x, weight, self.groups), inputs.get(2))
    }

    fn gradient(&self, step: &mut BackwardStep<'_>) -> Result<Vec<Option<Value>>> {
        let cotangent = step.full_cotangent()?;
        let mut gradients = vec![None; step.inputs.len()];
        if step.wanted[1] {
            let operands = [step.inputs[0], cotangent];
            gradients[1] = Some(by_weight(step, self, operands)?);
        }
        if step.wanted.get(2) == Some(&true) {
            gradients[2] = Some(by_bias(step, cotangent)?);
        }
        if !step.wanted[0] {
            return Ok(gradients);
        }
        let [x, weight] = [0, 1].map(|operand| step.graph.shape(step.inputs[operand]).clone());
        let result = step.graph.shape(cotangent).clone();
        // Along an axis of the batch the convolution has neither kernel nor stride, and leaves nothing over.
        let left_over = |axis: usize| match [&x, &weight, &result].map(|shape| shape.size(axis + 2))
        {
            [Some(extent), Some(kernel), Some(outputs)] => {
                let covered =
                    self.strides[axis] * (outputs - 1) + self.dilations[axis] * (kernel - 1) + 1;
                extent + self.pads[axis] + self.pads[axis + 2] - covered
            }
            _ => 0,
        };
        let transpose = ConvTranspose {
            strides: self.strides,
            pads: self.pads,
            output_pads: [left_over(0), left_over(1)],
            dilations: self.dilations,
            groups: self.groups,
        };
        let gradient = step.apply("conv_transpose", transpose, &[cotangent, step.inputs[1]])?;
        gradients[0] = Some(gradient);
        Ok(gradients)
    }

    fn arithmetic(&self) -> Arithmetic {
        Arithmetic::Products
    }

    fn multiplications(&self, inputs: &[&Shape], output: &Shape) -> usize {
        output.elements_per_image() * inputs[1].elements_per_image()
            / inputs[1].size(0).unwrap_or(1)
    }
}

impl Operator for ConvTranspose {
    fn infer(&self, inputs: &[&ValueType]) -> Result<ValueType, String> {
        let channels_of = |weight: &[usize]| (weight[0], weight[1] * self.groups);
        let operands = Operands::check(inputs, self.groups, channels_of)?;
        if (0..2).any(|axis| self.output_pads[axis] >= self.strides[axis]) {
            return Err(format!(
                "output pads {:?} must be below the strides {:?}",
                self.output_pads, self.strides
            ));
        }
        operands.result(self.strides, self.pads, |axis, extent, kernel| {
            self.output_extent(axis, extent, kernel)
        })
    }

    fn to_onnx(&self) -> OnnxOperator {
        OnnxOperator::plain("ConvTranspose")
            .with("strides", OnnxAttribute::sizes(&self.strides))
            .with("pads", OnnxAttribute::sizes(&self.pads))
            .with("output_padding", OnnxAttribute::sizes(&self.output_pads))
            .with("dilations", OnnxAttribute::sizes(&self.dilations))
            .with("group", OnnxAttribute::Int(self.groups as i64))
    }

    fn evaluate(&self, inputs: &[ArrayD<f64>]) -> ArrayD<f64> {
        let (x, weight) = (image_view(&inputs[0]), image_view(&inputs[1]));
        let ((_, _, height, width), (_, _, rows, columns)) = (x.dim(), weight.dim());
        let extent = |axis, extent, kernel| {
            self.output_extent(axis, extent, kernel)
                .expect("checked by infer")
        };
        let windows = Windows {
            strides: self.strides,
            pads: [self.pads[0], self.pads[1]],
            dilations: self.dilations,
            kernel: [rows, columns],
            count: [height, width],
        };
        let extents = [extent(0, height, rows), extent(1, width, columns)];
        let images = windows.spread(x, weight, self.groups, extents);
        add_bias(images, inputs.get(2))
    }

    fn gradient(&self, step: &mut BackwardStep<'_>) -> Result<Vec<Option<Value>>> {
        let cotangent = step.full_cotangent()?;
        let conv = Conv {
            strides: self.strides,
            pads: self.pads,
            dilations: self.dilations,
            groups: self.groups,
        };
        let mut gradients = vec![None; step.inputs.len()];
        if step.wanted[1] {
            // Of the convolution that this transposes the cotangent is the image, and the image the slope.
            let operands = [cotangent, step.inputs[0]];
            gradients[1] = Some(by_weight(step, &conv, operands)?);
        }
        if step.wanted.get(2) == Some(&true) {
            gradients[2] = Some(by_bias(step, cotangent)?);
        }
        if step.wanted[0] {
            let operands = [cotangent, step.inputs[1]];
            gradients[0] = Some(step.apply("conv", conv, &operands)?);
        }
        Ok(gradients)
    }

    fn arithmetic(&self) -> Arithmetic {
        Arithmetic::Products
    }

    fn multiplications(&self, inputs: &[&Shape], _output: &Shape) -> usize {
        inputs[0].elements_per_image() * inputs[1].elements_per_image()
            / inputs[1].size(0).unwrap_or(1)
    }
}

fn image_view(array: &ArrayD<f64>) -> ndarray::ArrayView4<'_, f64> {
    array
        .view()
        .into_dimensionality::<Ix4>()
        .expect("checked by infer")
}

fn add_bias(mut result: ndarray::Array4<f64>, bias: Option<&ArrayD<f64>>) -> ArrayD<f64> {
    if let Some(bias) = bias {
        for ((_, o, _, _), value) in result.indexed_iter_mut() {
            *value += bias[[o]];
        }
    }
    result.into_dyn()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::graph::Graph;
    use crate::graph::op::testing::{
        Operand, check_derivatives, check_gradients, evaluate, random_array,
    };
    use crate::graph::op::{Reshape, Transpose};

    #[test]
    fn a_known_convolution() {
        // A 2×2 kernel of ones over [[1,2],[3,4]] padded by one sums each window.
        let x = Operand::fixed(&[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let ones = Operand::fixed(&[1, 1, 2, 2], &[1.0; 4]);
        let bias = Operand::fixed(&[1], &[0.5]);
        let result = evaluate(Conv::padded(1), &[x, ones, bias]);
        assert_eq!(
            result.as_slice().unwrap(),
            [1.5, 3.5, 2.5, 4.5, 10.5, 6.5, 3.5, 7.5, 4.5]
        );
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let x = ValueType::f32(Shape::batched(&[3, 8, 8]));
        let weight = |sizes: &[usize]| ValueType::f32(Shape::fixed(sizes));
        for (case, weight, wanted) in [
            ("channels", weight(&[4, 2, 3, 3]), "takes 2 channels, got 3"),
            ("rank", weight(&[4, 3, 3]), "four positive fixed extents"),
            (
                "kernel",
                weight(&[4, 3, 9, 9]),
                "does not fit 8 padded ones",
            ),
        ] {
            let problem = Conv::padded(0).infer(&[&x, &weight]).unwrap_err();
            assert!(problem.contains(wanted), "{case}: {problem}");
        }
    }

    #[test]
    fn refuses_attributes_that_make_no_sense() {
        let x = ValueType::f32(Shape::batched(&[3, 8, 8]));
        let weight = ValueType::f32(Shape::fixed(&[3, 3, 3, 3]));
        let transpose = |strides, dilations, output_pads| ConvTranspose {
            strides,
            pads: [0; 4],
            output_pads,
            dilations,
            groups: 1,
        };
        let cases: [(&dyn Operator, &str); 5] = [
            (&Conv::strided(0), "at least 1"),
            (
                &Conv {
                    dilations: [0, 1],
                    ..Conv::padded(0)
                },
                "at least 1",
            ),
            (
                &transpose([0, 1], [1, 1], [0, 0]),
                "must be below the strides",
            ),
            (&transpose([1, 1], [1, 0], [0, 0]), "at least 1"),
            (
                &transpose([1, 1], [2, 2], [1, 0]),
                "must be below the strides",
            ),
        ];
        for (op, wanted) in cases {
            let problem = op.infer(&[&x, &weight]).unwrap_err();
            assert!(problem.contains(wanted), "{}: {problem}", op.name());
        }
    }

    #[test]
    fn the_batch_may_stand_where_nothing_is_summed() {
        let along = |rows: Dim, columns: Dim| {
            ValueType::f32(Shape(vec![Dim::Size(1), Dim::Size(4), rows, columns]))
        };
        let weight = |rows: usize| ValueType::f32(Shape::fixed(&[2, 4, rows, 1]));
        let (batch, four) = (Dim::Batch { outer: 3, inner: 1 }, Dim::Size(4));
        let result = |conv: Conv, x: &ValueType, rows| conv.infer(&[x, &weight(rows)]);
        let columns = along(four, batch);
        assert_eq!(
            result(Conv::padded(0), &columns, 3).unwrap().shape,
            Shape(vec![Dim::Size(1), Dim::Size(2), Dim::Size(2), batch])
        );
        for (case, conv, x, rows) in [
            ("kernel", Conv::padded(0), along(batch, four), 3),
            ("stride", Conv::strided(2), along(batch, four), 1),
            ("pads", Conv::padded(1), columns.clone(), 1),
        ] {
            let problem = result(conv, &x, rows).unwrap_err();
            assert!(
                problem.contains("mixes the images of a batch"),
                "{case}: {problem}"
            );
        }
    }

    /// `[N, 2, 3] → [1, 2, 3, N]`, a column of images, and back behind a convolution of three rows.
    #[test]
    fn gradients_match_where_the_batch_is_a_column() {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[2, 3])).unwrap();
        let columns = Transpose {
            axes: vec![1, 2, 0],
        };
        let x = graph.apply("columns", columns, &[x]).unwrap();
        let shape = Shape(vec![Dim::Size(1), Dim::Size(2), Dim::Size(3), Dim::BATCH]);
        let x = graph.apply("one", Reshape { shape }, &[x]).unwrap();
        let weight = graph.weight("weight", &[4, 2, 3, 1]).unwrap();
        let conv = Conv {
            pads: [1, 0, 1, 0],
            ..Conv::padded(0)
        };
        let y = graph.apply("y", conv, &[x, weight]).unwrap();
        let images = Transpose {
            axes: vec![3, 0, 1, 2],
        };
        let y = graph.apply("images", images, &[y]).unwrap();
        let values = [
            ("x", random_array(&[2, 2, 3], 2)),
            ("weight", random_array(&[4, 2, 3, 1], 3)),
        ];
        check_derivatives(graph, y, values);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn gradients_match_finite_differences(
            stride in 1usize..3, pad in 0usize..2, dilation in 1usize..3, groups in 1usize..3,
            kernel in 1usize..4, extent in 5usize..8, left_over in 0usize..2, seed in 0u64..1000,
        ) {
            let channels = 2 * groups;
            let weight = Operand::random_fixed(&[channels, 2, kernel, kernel], seed + 1);
            let conv = Conv { strides: [stride, 1], pads: [pad, 0, pad, pad], dilations: [1, dilation], groups };
            check_gradients(conv.clone(), &[Operand::random(&[channels, extent, extent], seed), weight.clone()]);
            let transpose = ConvTranspose {
                strides: [stride, 2],
                pads: [pad, 0, 0, pad],
                output_pads: [stride - 1, left_over],
                dilations: [dilation, 1],
                groups,
            };
            check_gradients(transpose, &[Operand::random(&[channels, extent, extent], seed), weight]);
        }
    }
}
