//! Images with the channels last, `[N, H, W, C]`, as Keras and JAX have them, taken as `[N, C, H, W]`.

use ebm_common::named;

use crate::error::{Choice, Error, Result};
use crate::graph::op::{Arithmetic, Op, Transpose};
use crate::graph::{Dim, Graph, Shape, Value};
use crate::source::Energy;

/// Extents of rows and columns from which on 1, 3 or 4 of a last axis are taken for channels.
const SMALLEST_IMAGE: usize = 8;

named! {
    "image layout";
    /// Where the channels of images stand.
    pub enum ImageLayout {
        /// `[N, C, H, W]`.
        Nchw = "nchw",
        /// `[N, H, W, C]`.
        Nhwc = "nhwc",
    }
}

impl ImageLayout {
    /// That of a model's images, by what it does with them; `Nchw` of what are no images.
    ///
    /// # Errors
    /// The model does not tell, and its images look as if their channels were last.
    pub fn of(model: &Energy) -> Result<ImageLayout> {
        let input = model.graph.input_named(&model.input)?;
        let shape = model.graph.shape(input);
        let ask = |reason: &str| {
            Err(Error::choice(
                Choice::Layout,
                format!(
                    "input {:?} is {shape}, and {reason}; say whether the channels come first or last",
                    model.input
                ),
            ))
        };
        let votes = Votes::of(&model.graph, input);
        match (votes.nchw, votes.nhwc) {
            (true, true) => ask("the model uses it with the channels first and last"),
            (false, true) if looks_like_image(shape, [2, 3, 1]) => {
                ask("the model uses its last axis as the channels")
            }
            (false, true) => Ok(ImageLayout::Nhwc),
            (false, false) if looks_like_image(shape, [1, 2, 3]) => {
                ask("the model does not tell whether its last axis has the channels")
            }
            _ => Ok(ImageLayout::Nchw),
        }
    }
}

/// The model with an input `[N, C, H, W]` in place of one `[N, H, W, C]`: it is transposed inside.
///
/// # Errors
/// The input is not of four axes with the images along the first one.
pub fn with_channels_first(model: &Energy) -> Result<Energy> {
    let input = model.graph.input_named(&model.input)?;
    let shape = model.graph.shape(input);
    let &[images, rows, columns, channels] = shape.0.as_slice() else {
        return Err(Error::Onnx(format!(
            "input {:?} is {shape}; channels last are those of images [N, H, W, C]",
            model.input
        )));
    };
    let name = &model.input;
    let graph = model.graph.rebuild(|target, _, value| {
        if value != input {
            return Ok(None);
        }
        let shape = Shape(vec![images, channels, rows, columns]);
        let x = target.input(name, shape)?;
        let axes = vec![0, 2, 3, 1];
        let name = format!("{name}.channels_last");
        target.apply(&name, Transpose { axes }, &[x]).map(Some)
    })?;
    Ok(Energy {
        graph,
        ..model.clone()
    })
}

/// Are the extents of those axes rows, columns, and a number that only channels have?
fn looks_like_image(shape: &Shape, axes: [usize; 3]) -> bool {
    match axes.map(|axis| shape.size(axis)) {
        [Some(rows), Some(columns), Some(channels)] => {
            let is_image = shape.rank() == 4 && rows.min(columns) >= SMALLEST_IMAGE;
            is_image && [1, 3, 4].contains(&channels)
        }
        _ => false,
    }
}

/// What operators that tell channels from pixels do with an image.
#[derive(Default)]
struct Votes {
    nchw: bool,
    nhwc: bool,
}

impl Votes {
    fn of(graph: &Graph, input: Value) -> Votes {
        let mut votes = Votes::default();
        let image = graph.shape(input);
        let &[images, rows, columns, channels] = image.0.as_slice() else {
            return votes;
        };
        // Values whose axes are those of the image.
        let mut is_image = vec![false; graph.values().len()];
        is_image[input.0] = true;
        for value in graph.values() {
            let Some((op, inputs)) = graph.operator(value) else {
                continue;
            };
            if !inputs.iter().any(|input| is_image[input.0]) {
                continue;
            }
            match op {
                Op::Transpose(transpose) => {
                    votes.nhwc |= transpose.axes == [0, 3, 1, 2];
                    votes.nchw |= transpose.axes == [0, 2, 3, 1];
                }
                // An axis of one channel is moved without moving an element.
                Op::Reshape(reshape) => {
                    let one = Dim::Size(1);
                    votes.nhwc |= channels == one
                        && [rows, columns] != [one, one]
                        && reshape.shape.0 == [images, one, rows, columns];
                }
                Op::Conv(_) | Op::ConvTranspose(_) | Op::AveragePool(_) | Op::MaxPool(_) => {
                    votes.nchw |= is_image[inputs[0].0];
                }
                Op::Pad(_) => is_image[value.0] = true,
                _ => {
                    let keeps = op.arithmetic() == Arithmetic::Elements;
                    is_image[value.0] = keeps && graph.shape(value) == image;
                }
            }
        }
        votes
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, IxDyn};

    use super::*;
    use crate::graph::reference::{bindings, evaluate};
    use crate::source::onnx::testing::Attribute::{Int, Ints};
    use crate::source::onnx::testing::{Model, random};

    fn images(extents: [i64; 4]) -> Model {
        let half = [0.5];
        Model::new()
            .input("x", &extents)
            .floats("half", &[], &half)
            .node("Mul", "x half", "scaled", &[])
    }

    fn energy(model: Model) -> Model {
        model
            .ints("axes", &[1, 2, 3])
            .node("Mul", "last last", "squares", &[])
            .node("ReduceSum", "squares axes", "y", &[("keepdims", Int(0))])
            .output("y")
    }

    fn transposed(extents: [i64; 4], axes: [i64; 4]) -> Model {
        let perm = [("perm", Ints(axes.to_vec()))];
        energy(images(extents).node("Transpose", "scaled", "last", &perm))
    }

    fn convolved(extents: [i64; 4]) -> Model {
        let channels = extents[1];
        let kernel = vec![1.0; channels as usize];
        let model = images(extents).floats("kernel", &[1, channels, 1, 1], &kernel);
        energy(model.node("Conv", "scaled kernel", "last", &[]))
    }

    fn reshaped(extents: [i64; 4], target: [i64; 4]) -> Model {
        let model = images(extents).ints("target", &target);
        energy(model.node("Reshape", "scaled target", "last", &[]))
    }

    #[test]
    fn the_layout_is_what_the_model_does_with_its_images() {
        use ImageLayout::{Nchw, Nhwc};
        let squared = |extents| energy(images(extents).node("Neg", "scaled", "last", &[]));
        for (name, model, wanted) in [
            (
                "keras",
                transposed([-1, 16, 16, 3], [0, 3, 1, 2]),
                Some(Nhwc),
            ),
            (
                "one image",
                transposed([1, 16, 16, 3], [0, 3, 1, 2]),
                Some(Nhwc),
            ),
            ("cube", transposed([-1, 8, 8, 8], [0, 3, 1, 2]), Some(Nhwc)),
            (
                "back",
                transposed([-1, 3, 16, 16], [0, 2, 3, 1]),
                Some(Nchw),
            ),
            (
                "grey",
                reshaped([-1, 16, 16, 1], [-1, 1, 16, 16]),
                Some(Nhwc),
            ),
            (
                "flat",
                reshaped([-1, 1, 16, 16], [-1, 256, 1, 1]),
                Some(Nchw),
            ),
            ("16 channels", convolved([-1, 16, 16, 3]), Some(Nchw)),
            ("torch", convolved([-1, 3, 16, 16]), Some(Nchw)),
            ("squares", squared([-1, 3, 16, 16]), Some(Nchw)),
            ("tiny", squared([-1, 4, 4, 3]), Some(Nchw)),
            ("two", squared([-1, 16, 16, 2]), Some(Nchw)),
            ("who knows", squared([-1, 16, 16, 3]), None),
            ("odd", transposed([-1, 3, 16, 16], [0, 3, 1, 2]), None),
        ] {
            let layout = ImageLayout::of(&model.read());
            match (layout, wanted) {
                (Ok(layout), Some(wanted)) => assert_eq!(layout, wanted, "{name}"),
                (Err(error), None) => {
                    let error = error.to_string();
                    assert!(error.contains("first or last"), "{error}");
                }
                (layout, _) => panic!("{name}: {layout:?}"),
            }
        }
        let points = Model::new().input("x", &[-1, 9]);
        let points = points.node("Neg", "x", "y", &[]).output("y").read();
        assert_eq!(ImageLayout::of(&points).unwrap(), Nchw);
        let error = with_channels_first(&points).unwrap_err().to_string();
        assert!(error.contains("those of images [N, H, W, C]"), "{error}");
    }

    /// What is [N, C, H, W] outside is [N, H, W, C] inside.
    #[test]
    fn images_are_transposed_inside() {
        let model = Model::new()
            .input("x", &[-1, 4, 5, 3])
            .floats("w", &[3], &[1.0, 10.0, 100.0])
            .node("Mul", "x w", "y", &[])
            .output("y");
        let model = with_channels_first(&model.read()).unwrap();
        let input = model.graph.input_named("x").unwrap();
        assert_eq!(model.graph.shape(input).to_string(), "[N, 3, 4, 5]");
        let x: ArrayD<f64> = random(&[2, 3, 4, 5], 1);
        let mut values = bindings(&model.weights);
        values.insert("x".to_string(), x.clone());
        let got = evaluate(&model.graph, &values).unwrap()["y"].clone();
        let factors = ArrayD::from_shape_fn(IxDyn(&[3, 1, 1]), |i| 10f64.powi(i[0] as i32));
        let wanted = (x * factors).permuted_axes(IxDyn(&[0, 2, 3, 1]));
        assert_eq!(got, wanted);
    }
}
