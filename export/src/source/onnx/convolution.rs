//! Convolutions and their transposes, over images and rows.
//!
//! ONNX operators: `Conv`, `ConvTranspose`; see [the specification](https://onnx.ai/onnx/operators/).

use super::node::{Node, Outputs, Rule};
use super::numbers::sizes_of;
use super::result::Result;
use super::window::{Layout, Padding, Windows, extents, groups};
use crate::graph::Value;
use crate::graph::op::{Conv, ConvTranspose};

pub(super) const RULES: &[(&str, Rule)] = &[("Conv", conv), ("ConvTranspose", conv_transpose)];

/// Image, weight and perhaps a bias of a node, all as those of images.
struct Operands {
    layout: Layout,
    values: Vec<Value>,
    /// Rows and columns of the image.
    image: [usize; 2],
    /// Rows and columns of the weight.
    kernel: [usize; 2],
}

impl Operands {
    fn read(node: &mut Node<'_, '_>) -> Result<Operands> {
        let (x, weight) = (node.value(0)?, node.value(1)?);
        let bias = node.optional_value(2)?;
        for (what, value) in [("weight", Some(weight)), ("bias", bias)] {
            if value.is_some_and(|value| node.shape(value).batch_axis().is_some()) {
                return Err(format!(
                    "its {what} is another one for each image; expected one for all of them, or a batch fixed to 1"
                ));
            }
        }
        let layout = Layout::of(node, x)?;
        let x = layout.image(node, x)?;
        let weight = layout
            .image(node, weight)
            .map_err(|problem| format!("its weight does not fit: {problem}"))?;
        let [image, kernel] = [extents(&node.shape(x))?, extents(&node.shape(weight))?];
        let values = [Some(x), Some(weight), bias].into_iter().flatten();
        Ok(Operands {
            layout,
            values: values.collect(),
            image,
            kernel,
        })
    }
}

fn conv(node: &mut Node<'_, '_>) -> Outputs {
    let operands = Operands::read(node)?;
    let windows = Windows::read(node, operands.layout, operands.image, Some(operands.kernel))?;
    let conv = Conv {
        strides: windows.strides,
        pads: windows.pads,
        dilations: windows.dilations,
        groups: groups(node)?,
    };
    operands.layout.result(node, conv, &operands.values)
}

fn conv_transpose(node: &mut Node<'_, '_>) -> Outputs {
    let operands = Operands::read(node)?;
    let layout = operands.layout;
    let mut transpose = ConvTranspose {
        strides: [1, 1],
        pads: [0; 4],
        output_pads: layout
            .per_axis(node, "output_padding", 0)?
            .unwrap_or([0, 0]),
        dilations: [1, 1],
        groups: groups(node)?,
    };
    let windows = Windows::read(node, layout, operands.image, Some(operands.kernel))?;
    transpose.strides = windows.strides;
    transpose.dilations = windows.dilations;
    let padding = Padding::read(node, layout)?;
    let wanted = output_shape(node, layout)?;
    if let (None, Padding::Given(pads)) = (wanted, padding) {
        transpose.pads = pads;
        return layout.result(node, transpose, &operands.values);
    }
    for axis in 0..2 {
        let (stride, extent) = (windows.strides[axis], operands.image[axis]);
        let full =
            stride * extent.saturating_sub(1) + windows.reach(axis) + transpose.output_pads[axis];
        // As many pixels as asked for; else `stride · extent`, or all if there are fewer.
        let wanted = match wanted {
            Some(wanted) => wanted[axis],
            None => full.min(stride * extent),
        };
        let [before, behind] = padding.divided(full.saturating_sub(wanted));
        transpose.pads[axis] = before;
        transpose.pads[axis + 2] = behind;
        transpose.output_pads[axis] += wanted.saturating_sub(full);
    }
    layout.result(node, transpose, &operands.values)
}

/// Rows and columns that are asked for; some exporters put batch and channels before them.
fn output_shape(node: &Node<'_, '_>, layout: Layout) -> Result<Option<[usize; 2]>> {
    let Some(numbers) = node.ints("output_shape")? else {
        return Ok(None);
    };
    let sizes = sizes_of(&numbers)?;
    match (layout, sizes.as_slice()) {
        (Layout::Images, &[height, width] | &[_, _, height, width]) => Ok(Some([height, width])),
        (Layout::Rows, &[width] | &[_, _, width]) => Ok(Some([1, width])),
        _ => Err(format!(
            "expected an output_shape with an extent for each axis behind the channels, got {numbers:?}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use crate::source::onnx::testing::Attribute::{Int, Ints, Text};
    use crate::source::onnx::testing::{Attribute, Model, array, random};

    type Attributes = Vec<(&'static str, Attribute)>;

    /// An operator on images of those extents, with a random weight and a bias.
    fn model(op_type: &str, image: &[i64], weight: &[i64], attributes: &Attributes) -> Model {
        let sizes: Vec<usize> = weight.iter().map(|&size| size as usize).collect();
        let weights: Vec<f32> = random(&sizes, 5)
            .iter()
            .map(|&value| value as f32)
            .collect();
        let groups = attributes
            .iter()
            .find_map(|(name, attribute)| match attribute {
                Int(groups) if *name == "group" => Some(*groups),
                _ => None,
            });
        let channels = match op_type {
            "Conv" => weight[0],
            _ => weight[1] * groups.unwrap_or(1),
        };
        let bias: Vec<f32> = (0..channels).map(|channel| channel as f32 / 2.0).collect();
        Model::new()
            .input("x", &[&[-1], image].concat())
            .floats("weight", weight, &weights)
            .floats("bias", &[channels], &bias)
            .node(op_type, "x weight bias", "y", attributes)
            .output("y")
    }

    fn ints(name: &'static str, values: &[i64]) -> (&'static str, Attribute) {
        (name, Ints(values.to_vec()))
    }

    #[test]
    fn a_known_convolution_of_a_row() {
        let convolved = |op_type: &str, x: &[f64], attributes: &Attributes| {
            let model = Model::new()
                .input("x", &[-1, 1, x.len() as i64])
                .floats("weight", &[1, 1, 2], &[1.0, 10.0])
                .node(op_type, "x weight", "y", attributes)
                .output("y");
            let y = model.evaluate(&array(&[1, 1, x.len()], x));
            assert_eq!(y.shape()[..2], [1, 1]);
            y.iter().copied().collect::<Vec<f64>>()
        };
        let x = [1.0, 2.0, 3.0];
        for (attributes, wanted) in [
            (vec![], vec![21.0, 32.0]),
            (vec![ints("pads", &[1, 0])], vec![10.0, 21.0, 32.0]),
            (vec![ints("strides", &[2])], vec![21.0]),
            (vec![ints("dilations", &[2])], vec![31.0]),
            (vec![("auto_pad", Text("VALID"))], vec![21.0, 32.0]),
            (
                vec![("auto_pad", Text("SAME_UPPER"))],
                vec![21.0, 32.0, 3.0],
            ),
            (
                vec![("auto_pad", Text("SAME_LOWER"))],
                vec![10.0, 21.0, 32.0],
            ),
            (
                vec![("auto_pad", Text("SAME_UPPER")), ints("strides", &[2])],
                vec![21.0, 3.0],
            ),
        ] {
            assert_eq!(convolved("Conv", &x, &attributes), wanted);
        }
        let x = [1.0, 2.0];
        for (attributes, wanted) in [
            (vec![], vec![1.0, 12.0, 20.0]),
            (vec![ints("pads", &[1, 0])], vec![12.0, 20.0]),
            (vec![ints("strides", &[2])], vec![1.0, 10.0, 2.0, 20.0]),
            (
                vec![ints("strides", &[2]), ints("output_padding", &[1])],
                vec![1.0, 10.0, 2.0, 20.0, 0.0],
            ),
            (vec![ints("dilations", &[2])], vec![1.0, 2.0, 10.0, 20.0]),
            (vec![("auto_pad", Text("SAME_UPPER"))], vec![1.0, 12.0]),
            (vec![("auto_pad", Text("SAME_LOWER"))], vec![12.0, 20.0]),
            (
                vec![("auto_pad", Text("SAME_UPPER")), ints("strides", &[3])],
                vec![1.0, 10.0, 0.0, 2.0, 20.0],
            ),
            (vec![ints("output_shape", &[2])], vec![12.0, 20.0]),
            (
                vec![ints("output_shape", &[2]), ("auto_pad", Text("SAME_UPPER"))],
                vec![1.0, 12.0],
            ),
            (
                vec![ints("output_shape", &[1, 1, 5]), ints("strides", &[2])],
                vec![1.0, 10.0, 2.0, 20.0, 0.0],
            ),
        ] {
            assert_eq!(convolved("ConvTranspose", &x, &attributes), wanted);
        }
    }

    /// Each of them with each kind of attribute; weights as of a convolution.
    fn cases() -> Vec<(Vec<i64>, Vec<i64>, Attributes)> {
        vec![
            (vec![2, 5, 4], vec![2, 2, 3, 2], vec![]),
            (
                vec![2, 4, 4],
                vec![2, 2, 3, 2],
                vec![
                    ints("strides", &[2, 1]),
                    ints("pads", &[1, 0, 2, 1]),
                    ints("kernel_shape", &[3, 2]),
                ],
            ),
            (
                vec![4, 5, 5],
                vec![4, 2, 2, 2],
                vec![("group", Int(2)), ints("dilations", &[1, 2])],
            ),
            (vec![3, 5, 5], vec![3, 1, 3, 3], vec![("group", Int(3))]),
            (
                vec![2, 5, 4],
                vec![2, 2, 3, 2],
                vec![("auto_pad", Text("SAME_LOWER")), ints("strides", &[2, 3])],
            ),
            (
                vec![2, 7],
                vec![2, 2, 3],
                vec![ints("strides", &[2]), ints("pads", &[1, 1])],
            ),
        ]
    }

    #[test]
    fn derivatives_match_finite_differences() {
        for (image, weight, attributes) in cases() {
            for op_type in ["Conv", "ConvTranspose"] {
                println!("{op_type} of {image:?} by {weight:?}");
                model(op_type, &image, &weight, &attributes).check_derivatives(1);
            }
        }
    }

    /// `Σ y·conv(x)` is `Σ conv_transpose(y)·x`.
    #[test]
    fn the_transpose_is_one() {
        for (image, weight, attributes) in cases() {
            let mut names = attributes.iter().map(|(name, _)| *name);
            // There pads are those of another extent.
            if names.any(|name| name == "auto_pad") {
                continue;
            }
            let without_bias = |op_type: &str, image: &[i64]| {
                let mut model = model(op_type, image, &weight, &attributes);
                model.graph().node[0].input.truncate(2);
                model
            };
            let (x, of_x) = without_bias("Conv", &image).evaluate_random(1);
            let extents: Vec<i64> = of_x.shape()[1..].iter().map(|&size| size as i64).collect();
            let y = random(of_x.shape(), 2);
            let of_y = without_bias("ConvTranspose", &extents).evaluate(&y);
            assert_eq!(of_y.shape(), x.shape(), "the stride leaves nothing over");
            let [left, right] = [(&y * &of_x).sum(), (&of_y * &x).sum()];
            assert!((left - right).abs() < 1e-9, "{left} and {right}");
        }
    }

    /// A convolution of single pixels may have the batch for an axis of the image, as matrix products have that are written so.
    #[test]
    fn the_batch_may_be_an_axis_of_the_image() {
        let transpose = |perm: &[i64]| vec![ints("perm", perm)];
        let weights: Vec<f32> = random(&[3, 2], 4).iter().map(|&w| w as f32).collect();
        let columns = || {
            Model::new()
                .input("x", &[-1, 2, 5])
                .node("Transpose", "x", "columns", &transpose(&[1, 2, 0]))
                .ints("axes", &[0])
                .node("Unsqueeze", "columns axes", "image", &[])
                .node("Conv", "image weight", "convolved", &[])
        };
        let model = columns()
            .floats("weight", &[3, 2, 1, 1], &weights)
            .node("Squeeze", "convolved axes", "rows", &[])
            .node("Transpose", "rows", "y", &transpose(&[2, 0, 1]))
            .output("y");
        let plain = Model::new()
            .input("x", &[-1, 2, 5])
            .floats("weight", &[3, 2, 1], &weights)
            .node("Conv", "x weight", "y", &[])
            .output("y");
        let (x, y) = plain.evaluate_random(3);
        assert_eq!(model.evaluate(&x), y);
        model.check_derivatives(2);
        let wide = columns()
            .floats("weight", &[1, 2, 1, 3], &weights)
            .output("convolved");
        let problem = wide.problem();
        assert!(
            problem.contains("cannot convolve along the batch"),
            "{problem}"
        );
    }

    #[test]
    fn refuses_what_does_not_fit() {
        for (op_type, image, weight, attributes, wanted) in [
            (
                "Conv",
                vec![2, 5, 5],
                vec![3, 2, 3],
                vec![],
                "its weight does not fit: expected 4 axes, got [3, 2, 3]",
            ),
            (
                "Conv",
                vec![2, 5, 5, 5],
                vec![3, 2, 3, 3, 3],
                vec![],
                "other numbers of axes are not supported",
            ),
            (
                "Conv",
                vec![3, 5, 5],
                vec![3, 2, 3, 3],
                vec![],
                "takes 2 channels, got 3",
            ),
            (
                "Conv",
                vec![2, 5, 5],
                vec![3, 2, 3, 3],
                vec![ints("kernel_shape", &[3, 1])],
                "its kernel_shape is [3, 1], but that of its weight [3, 3]",
            ),
            (
                "Conv",
                vec![2, 5, 5],
                vec![3, 2, 3, 3],
                vec![ints("pads", &[1, 1])],
                "expected two pads for each axis behind the channels, got [1, 1]",
            ),
            (
                "Conv",
                vec![2, 5, 5],
                vec![3, 2, 3, 3],
                vec![ints("strides", &[0, 1])],
                "must be at least 1",
            ),
            (
                "Conv",
                vec![2, 5, 5],
                vec![3, 2, 3, 3],
                vec![("group", Int(0))],
                "groups ≥ 1",
            ),
            (
                "ConvTranspose",
                vec![2, 5, 5],
                vec![2, 2, 3, 3],
                vec![ints("output_padding", &[1, 1])],
                "must be below the strides",
            ),
            (
                "ConvTranspose",
                vec![2, 5, 5],
                vec![2, 2, 3, 3],
                vec![ints("output_shape", &[5])],
                "expected an output_shape",
            ),
        ] {
            let problem = model(op_type, &image, &weight, &attributes).problem();
            assert!(problem.contains(wanted), "{problem}");
        }
        let hyper = Model::new()
            .input("x", &[-1, 1, 2, 2])
            .node("Conv", "x x", "y", &[])
            .output("y");
        assert_eq!(
            hyper.problem(),
            "node \"y\" (Conv): its weight is another one for each image; expected one for all of them, or a batch fixed to 1"
        );
        let of_one_image = Model::new()
            .input("x", &[1, 1, 2, 2])
            .node("Conv", "x x", "y", &[("pads", Ints(vec![1; 4]))])
            .output("y");
        of_one_image.check_derivatives(1);
    }
}
