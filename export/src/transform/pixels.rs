//! Any classifier as the runtime takes it: `x [N, C, H, W]` with values in `[-1, 1]` to `logits [N, classes]`.

use crate::error::{Choice, Error, Result};
use crate::graph::op::{Binary, Reshape};
use crate::graph::tensor::Tensor;
use crate::graph::{Dim, Graph, Shape, Source, Value};
use crate::source::{Energy, Kind, flows};

/// Which numbers a classifier was trained on: pixels between those of black and white, less a mean and over a deviation of each channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Pixels {
    /// The values of a black and of a white pixel, before mean and deviation.
    pub range: [f64; 2],
    /// Of all channels or of each; 0 unless given.
    pub mean: Vec<f64>,
    /// Of all channels or of each, none 0; 1 unless given.
    pub std: Vec<f64>,
}

impl Default for Pixels {
    /// Those of the runtime: `[-1, 1]`.
    fn default() -> Pixels {
        Pixels {
            range: [-1.0, 1.0],
            mean: Vec::new(),
            std: Vec::new(),
        }
    }
}

impl Pixels {
    /// Factor and offset of each channel that turn values in `[-1, 1]` into the classifier's.
    ///
    /// # Errors
    /// There are neither one nor as many means or deviations as channels, or the numbers make no finite ones that differ.
    pub fn affine(&self, channels: usize) -> Result<Vec<(f64, f64)>> {
        let [low, high] = self.range;
        let of_channel =
            |name: &str, values: &[f64], unless_given: f64, channel: usize| match values {
                [] => Ok(unless_given),
                [value] => Ok(*value),
                values if values.len() == channels => Ok(values[channel]),
                values => Err(Error::Onnx(format!(
                    "expected one {name}, or one for each of the {channels} channels, got {}",
                    values.len()
                ))),
            };
        let affine = |channel| {
            let mean = of_channel("mean", &self.mean, 0.0, channel)?;
            let std = of_channel("deviation", &self.std, 1.0, channel)?;
            let factor = (high - low) / (2.0 * std);
            let offset = ((high + low) / 2.0 - mean) / std;
            match (factor as f32).is_normal() && (offset as f32).is_finite() {
                true => Ok((factor, offset)),
                false => Err(Error::Onnx(format!(
                    "pixels from {low} to {high} with mean {mean} and deviation {std} are no finite numbers that differ"
                ))),
            }
        };
        (0..channels).map(affine).collect()
    }
}

/// The classifier from an input `x` with these pixels to an output `logits [N, classes]`.
///
/// # Errors
/// The model has several inputs, its input is not images `[N, C, H, W]`, its output not numbers `[N, classes]` that depend on the input; or pixels make no
/// sense for its channels.
pub fn classifier(model: &Energy, pixels: &Pixels) -> Result<Energy> {
    let graph = &model.graph;
    let inputs = model.inputs();
    if inputs.len() > 1 {
        return Err(Error::Onnx(format!(
            "a classifier has images as its only input, but the model has {inputs:?}; fix the others in the model"
        )));
    }
    let input = graph.input_named(&model.input)?;
    let output = graph.output(&model.output)?;
    if !flows(graph, input)[output.0] {
        return Err(not_classes(model, graph));
    }
    let mut renamed = graph.rebuild(|target, _, value| {
        let node = graph.node(value);
        match node.source {
            Source::Input => images(target, &node.value_type.shape, pixels).map(Some),
            _ => Ok(None),
        }
    })?;
    let logits = two_axes(&mut renamed, model)?;
    renamed.remove_output(&model.output);
    renamed.set_output("logits", logits);
    Ok(Energy {
        graph: renamed.rebuild(|_, _, _| Ok(None))?,
        input: "x".to_string(),
        output: "logits".to_string(),
        kind: Kind::Classifier,
        ..model.clone()
    })
}

/// The input `x`, and of it what the model expects.
fn images(graph: &mut Graph, shape: &Shape, pixels: &Pixels) -> Result<Value> {
    let [_, Dim::Size(channels), Dim::Size(_), Dim::Size(_)] = shape.0[..] else {
        return Err(Error::choice(
            Choice::Shape,
            format!(
                "a classifier of images has an input [N, C, H, W], but that of the model is {shape}; give extents that it leaves open"
            ),
        ));
    };
    let affine = pixels.affine(channels)?;
    let mut value = graph.input("x", shape.clone())?;
    let of_channels = |numbers: Vec<f64>| {
        let numbers = numbers.into_iter().map(|number| number as f32).collect();
        Tensor::new(&[1, channels, 1, 1], numbers)
    };
    let (factors, offsets): (Vec<f64>, Vec<f64>) = affine.into_iter().unzip();
    if factors.iter().any(|&factor| factor != 1.0) {
        let factors = graph.constant("pixels.factor", of_channels(factors));
        value = graph.apply("pixels.scaled", Binary::Mul, &[value, factors])?;
    }
    if offsets.iter().any(|&offset| offset != 0.0) {
        let offsets = graph.constant("pixels.offset", of_channels(offsets));
        value = graph.apply("pixels.shifted", Binary::Add, &[value, offsets])?;
    }
    Ok(value)
}

/// `[N, classes]` of `[N, classes]`, `[N, classes, 1, 1]` and the like.
fn two_axes(graph: &mut Graph, model: &Energy) -> Result<Value> {
    let output = graph.output(&model.output)?;
    let input = graph.input_named("x")?;
    let images = graph.shape(input).0[0];
    match graph.shape(output).0[..] {
        [batch, Dim::Size(_)] if batch == images => Ok(output),
        [batch, Dim::Size(classes), ref rest @ ..]
            if batch == images && rest.iter().all(|extent| *extent == Dim::Size(1)) =>
        {
            let shape = Shape::batched(&[classes]);
            graph.apply("logits.flat", Reshape { shape }, &[output])
        }
        _ => Err(not_classes(model, graph)),
    }
}

fn not_classes(model: &Energy, graph: &Graph) -> Error {
    let shape = match graph.output(&model.output) {
        Ok(output) => graph.shape(output).to_string(),
        Err(error) => return error,
    };
    Error::choice(
        Choice::Output,
        format!(
            "the output {:?} {shape} is not logits [N, classes] of the input {:?}; name another",
            model.output, model.input
        ),
    )
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, array};

    use super::*;
    use crate::check::inspect::inspect_bytes;
    use crate::graph::reference::{bindings, evaluate};
    use crate::source::onnx::testing::Attribute::Int;
    use crate::source::onnx::testing::{self};
    use crate::source::onnx::{Selection, read};
    use crate::write::{Export, Form};

    /// The sums of both channels of `pictures [N, 2, 1, 2]`, as `scores [N, 2, 1, 1]`, or `[N, 2]` without the axes.
    fn sums(keepdims: i64) -> testing::Model {
        testing::Model::new()
            .input("pictures", &[-1, 2, 1, 2])
            .ints("axes", &[2, 3])
            .node(
                "ReduceSum",
                "pictures axes",
                "scores",
                &[("keepdims", Int(keepdims))],
            )
            .output("scores")
    }

    fn file(model: &testing::Model, pixels: &Pixels) -> Result<Vec<u8>, String> {
        let file = classifier(&model.read(), pixels)
            .and_then(|classifier| Export::default().model(&classifier, &Form::Forward));
        file.map(|file| file.to_bytes())
            .map_err(|error| error.to_string())
    }

    fn logits(file: &[u8], x: ArrayD<f64>) -> ArrayD<f64> {
        let model = read(file, &Selection::default()).unwrap();
        let mut values = bindings(&model.weights);
        values.insert("x".to_string(), x);
        evaluate(&model.graph, &values)
            .unwrap()
            .remove("logits")
            .unwrap()
    }

    #[test]
    fn pixels_are_turned_into_those_of_the_model() {
        let x = array![[[[-1.0, 1.0]], [[0.0, 0.5]]]].into_dyn();
        for (pixels, wanted) in [
            (Pixels::default(), [0.0, 0.5]),
            // Black and white are 0 and 1.
            (
                Pixels {
                    range: [0.0, 1.0],
                    ..Pixels::default()
                },
                [1.0, 1.25],
            ),
            (
                Pixels {
                    range: [0.0, 255.0],
                    mean: vec![100.0],
                    std: vec![2.0],
                },
                [27.5, (127.5 + 191.25 - 200.0) / 2.0],
            ),
            (
                Pixels {
                    range: [0.0, 1.0],
                    mean: vec![0.5, 0.25],
                    std: vec![0.5, 0.25],
                },
                [0.0, 3.0],
            ),
        ] {
            for keepdims in [0, 1] {
                let file = file(&sums(keepdims), &pixels).unwrap();
                let inspection = inspect_bytes(&file).unwrap();
                assert_eq!(inspection.inputs[0].name, "x");
                let contract = inspection.contract.unwrap();
                assert_eq!(contract["kind"], "classifier");
                assert_eq!(contract["n_classes"], 2);
                assert_eq!(contract["image"]["width"], 2);
                let got = logits(&file, x.clone());
                assert_eq!(got, array![[wanted[0], wanted[1]]].into_dyn(), "{pixels:?}");
            }
        }
    }

    #[test]
    fn what_classifies_no_images_is_refused() {
        let flat = testing::Model::new()
            .input("x", &[-1, 2])
            .node("Relu", "x", "y", &[])
            .output("y");
        let pictures = testing::Model::new()
            .input("x", &[-1, 2, 1, 2])
            .node("Relu", "x", "y", &[])
            .output("y");
        let two = testing::Model::new()
            .input("x", &[-1, 2, 1, 1])
            .input("z", &[-1, 2, 1, 1])
            .node("Add", "x z", "y", &[])
            .output("y");
        for (model, reason) in [
            (
                flat,
                "an input [N, C, H, W], but that of the model is [N, 2]",
            ),
            (
                pictures,
                "\"y\" [N, 2, 1, 2] is not logits [N, classes] of the input \"x\"",
            ),
            (two, "images as its only input"),
        ] {
            let error = file(&model, &Pixels::default()).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        for (pixels, reason) in [
            (
                Pixels {
                    mean: vec![0.0; 3],
                    ..Pixels::default()
                },
                "one mean, or one for each of the 2 channels, got 3",
            ),
            (
                Pixels {
                    std: vec![0.0],
                    ..Pixels::default()
                },
                "no finite numbers that differ",
            ),
            (
                Pixels {
                    range: [1.0, 1.0],
                    ..Pixels::default()
                },
                "no finite numbers that differ",
            ),
            (
                Pixels {
                    mean: vec![f64::NAN],
                    ..Pixels::default()
                },
                "no finite numbers that differ",
            ),
        ] {
            let error = file(&sums(1), &pixels).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
