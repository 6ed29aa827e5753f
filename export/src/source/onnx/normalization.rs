//! Norms: values brought to mean 0 and variance 1, or to length 1.
//!
//! ONNX operators: `BatchNormalization`, `GroupNormalization`, `InstanceNormalization`, `LayerNormalization`,
//! `LpNormalization`, `RMSNormalization`; see [the specification](https://onnx.ai/onnx/operators/).

use super::node::{Node, Outputs, Rule};
use super::numbers::{axis_of, size_of};
use super::reduction::root_of_sum;
use super::result::Result;
use crate::graph::op::{Binary, Cast, Compare, ReduceKind, Unary};
use crate::graph::{Dim, Shape, Value};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("BatchNormalization", batch_normalization),
    ("InstanceNormalization", instance_normalization),
    ("GroupNormalization", group_normalization),
    ("LayerNormalization", layer_normalization),
    ("RMSNormalization", rms_normalization),
    ("LpNormalization", lp_normalization),
];

/// What is added to a variance if nothing else is said.
const EPSILON: f32 = 1e-5;
/// The first opset whose batch norm says by an attribute whether it learns.
const TRAINING_MODE: i64 = 14;
/// The first opset whose group norm has scale and offset of each channel instead of each group.
const SCALE_PER_CHANNEL: i64 = 21;

fn epsilon(node: &Node<'_, '_>) -> Result<f32> {
    Ok(node.float("epsilon")?.unwrap_or(EPSILON))
}

/// `x·a + c`, `a = scale / √(variance + epsilon)` and `c = offset − mean·a` per channel, both fixed, so that the rewrite
/// `fold_affine` moves them into a convolution before it.
fn batch_normalization(node: &mut Node<'_, '_>) -> Outputs {
    let learns = match node.flag("training_mode")? {
        Some(learns) => learns,
        None => node.opset() < TRAINING_MODE && node.n_outputs() > 1,
    };
    if learns {
        return Err(
            "it is in training mode, where it takes mean and variance over the images of a batch; export the model in evaluation mode"
                .to_string(),
        );
    }
    node.ignore("momentum");
    let epsilon = epsilon(node)?;
    let x = node.value(0)?;
    let [scale, offset, mean, variance] = [1, 2, 3, 4].map(|position| node.value(position));
    let (scale, offset, mean, variance) = (scale?, offset?, mean?, variance?);
    let shifted = node.shifted("shifted", variance, epsilon)?;
    let deviation = node.apply("deviation", Unary::Sqrt, &[shifted])?;
    let factor = node.apply("factor", Binary::Div, &[scale, deviation])?;
    let centre = node.apply("centre", Binary::Mul, &[mean, factor])?;
    let offset = node.apply("offset", Binary::Sub, &[offset, centre])?;
    let rank = node.shape(x).rank();
    let factor = node.on_axis("factors", factor, 1, rank)?;
    let offset = node.on_axis("offsets", offset, 1, rank)?;
    let scaled = node.apply("scaled", Binary::Mul, &[x, factor])?;
    node.result(Binary::Add, &[scaled, offset])
}

/// What a norm is made of.
struct Moments {
    /// The mean along some axes, which have extent 1.
    mean: Value,
    /// The value less its mean.
    centred: Value,
    /// `1 / √(variance + epsilon)`, shaped as the mean.
    inverse: Value,
}

fn moments(node: &mut Node<'_, '_>, x: Value, axes: &[usize], epsilon: f32) -> Result<Moments> {
    let mean = node.along("mean", ReduceKind::Mean, x, axes)?;
    let centred = node.apply("centred", Binary::Sub, &[x, mean])?;
    let inverse = inverse_deviation(node, centred, axes, epsilon)?;
    Ok(Moments {
        mean,
        centred,
        inverse,
    })
}

/// `1 / √(mean x² + epsilon)`.
fn inverse_deviation(
    node: &mut Node<'_, '_>,
    x: Value,
    axes: &[usize],
    epsilon: f32,
) -> Result<Value> {
    let square = node.squared("square", x)?;
    let variance = node.along("variance", ReduceKind::Mean, square, axes)?;
    let shifted = node.shifted("shifted", variance, epsilon)?;
    let deviation = node.apply("deviation", Unary::Sqrt, &[shifted])?;
    node.apply("inverse", Unary::Reciprocal, &[deviation])
}

/// Refuses axes that have the batch.
fn check_axes(shape: &Shape, axes: &[usize]) -> Result<()> {
    match axes.iter().find(|&&axis| shape.0[axis].is_batch()) {
        Some(axis) => Err(format!(
            "it normalizes over axis {axis} of {shape}, which mixes the images of a batch"
        )),
        None => Ok(()),
    }
}

/// `[N, C, ..]` over all axes behind the channels.
fn instance_normalization(node: &mut Node<'_, '_>) -> Outputs {
    let epsilon = epsilon(node)?;
    let (x, scale, offset) = (node.value(0)?, node.value(1)?, node.value(2)?);
    let shape = node.shape(x);
    let rank = shape.rank();
    if rank < 3 {
        return Err(format!("expected images [N, C, ..], got {shape}"));
    }
    let axes: Vec<usize> = (2..rank).collect();
    check_axes(&shape, &axes)?;
    let Moments {
        centred, inverse, ..
    } = moments(node, x, &axes, epsilon)?;
    let scale = node.on_axis("scale", scale, 1, rank)?;
    let offset = node.on_axis("offset", offset, 1, rank)?;
    let factor = node.apply("factor", Binary::Mul, &[inverse, scale])?;
    let scaled = node.apply("scaled", Binary::Mul, &[centred, factor])?;
    node.result(Binary::Add, &[scaled, offset])
}

/// `[N, G·C/G, ..]` seen as `[N, G, C/G, ..]`, over all axes behind the groups.
fn group_normalization(node: &mut Node<'_, '_>) -> Outputs {
    // In which type the mean is taken; all is f32 here.
    node.ignore("stash_type");
    let epsilon = epsilon(node)?;
    let groups = node.int("num_groups")?.ok_or("its num_groups is missing")?;
    let groups = size_of(groups)?;
    let (x, scale, offset) = (node.value(0)?, node.value(1)?, node.value(2)?);
    let shape = node.shape(x);
    let (batch, channels) = match shape.0.as_slice() {
        [batch, Dim::Size(channels), ..] if groups > 0 && channels.is_multiple_of(groups) => {
            (*batch, *channels)
        }
        _ => {
            return Err(format!(
                "expected images whose channels are a multiple of {groups} groups, got {shape}"
            ));
        }
    };
    let pixels = Shape(shape.0[2..].to_vec());
    let behind: Vec<usize> = (2..shape.rank()).collect();
    check_axes(&shape, &behind)?;
    let group = [groups, channels / groups];
    let mut apart = vec![batch];
    apart.extend(group.map(Dim::Size));
    apart.push(Dim::Size(pixels.elements_per_image()));
    let apart = node.seen_as("groups", x, Shape(apart))?;
    let Moments {
        centred, inverse, ..
    } = moments(node, apart, &[2, 3], epsilon)?;
    let sizes = match node.opset() < SCALE_PER_CHANNEL {
        true => [groups, 1, 1],
        false => [group[0], group[1], 1],
    };
    let [scale, offset] = [("scale", scale), ("offset", offset)].map(|(what, value)| {
        let current = node.shape(value);
        let wanted = sizes[0] * sizes[1];
        match current == Shape::fixed(&[wanted]) {
            true => node.seen_as(what, value, Shape::fixed(&sizes)),
            false => Err(format!("expected {what} [{wanted}], got {current}")),
        }
    });
    let factor = node.apply("factor", Binary::Mul, &[inverse, scale?])?;
    let scaled = node.apply("scaled", Binary::Mul, &[centred, factor])?;
    let normalized = node.apply("normalized", Binary::Add, &[scaled, offset?])?;
    Ok(vec![node.seen_as("joined", normalized, shape)?.into()])
}

/// The value, and its axes from `axis` on.
fn from_axis_on(node: &mut Node<'_, '_>) -> Result<(Value, Vec<usize>)> {
    node.ignore("stash_type");
    let axis = node.int("axis")?.unwrap_or(-1);
    let x = node.value(0)?;
    let shape = node.shape(x);
    let axes: Vec<usize> = (axis_of(axis, shape.rank())?..shape.rank()).collect();
    check_axes(&shape, &axes)?;
    Ok((x, axes))
}

/// Over all axes from `axis` on; further outputs are the mean and the inverse of the deviation.
fn layer_normalization(node: &mut Node<'_, '_>) -> Outputs {
    let epsilon = epsilon(node)?;
    let (x, axes) = from_axis_on(node)?;
    let scale = node.value(1)?;
    let offset = node.optional_value(2)?;
    let Moments {
        mean,
        centred,
        inverse,
    } = moments(node, x, &axes, epsilon)?;
    let normalized = node.apply("normalized", Binary::Mul, &[centred, inverse])?;
    let mut outputs = match offset {
        None => node.result(Binary::Mul, &[normalized, scale])?,
        Some(offset) => {
            let scaled = node.apply("scaled", Binary::Mul, &[normalized, scale])?;
            node.result(Binary::Add, &[scaled, offset])?
        }
    };
    outputs.extend([mean.into(), inverse.into()]);
    Ok(outputs)
}

/// `x / √(mean x² + epsilon) · scale` over all axes from `axis` on.
fn rms_normalization(node: &mut Node<'_, '_>) -> Outputs {
    let epsilon = epsilon(node)?;
    let (x, axes) = from_axis_on(node)?;
    let scale = node.value(1)?;
    let inverse = inverse_deviation(node, x, &axes, epsilon)?;
    let normalized = node.apply("normalized", Binary::Mul, &[x, inverse])?;
    node.result(Binary::Mul, &[normalized, scale])
}

/// `x / ‖x‖` along one axis; where all is 0 it stays.
fn lp_normalization(node: &mut Node<'_, '_>) -> Outputs {
    let power = node.int("p")?.unwrap_or(2);
    let axis = node.int("axis")?.unwrap_or(-1);
    let x = node.value(0)?;
    let shape = node.shape(x);
    let axes = [axis_of(axis, shape.rank())?];
    check_axes(&shape, &axes)?;
    let norm = match power {
        1 => {
            let sizes = node.apply("sizes", Unary::Abs, &[x])?;
            node.along("norm", ReduceKind::Sum, sizes, &axes)?
        }
        2 => {
            let squares = node.squared("squares", x)?;
            let sum = node.along("sum", ReduceKind::Sum, squares, &axes)?;
            root_of_sum(node, sum)?
        }
        power => return Err(format!("expected a p of 1 or 2, got {power}")),
    };
    let zero = node.scalar("zero", 0.0);
    let none = node.apply("none", Compare::Equal, &[norm, zero])?;
    let none = node.apply("one", Cast::F32, &[none])?;
    let divisor = node.apply("divisor", Binary::Add, &[norm, none])?;
    node.result(Binary::Div, &[x, divisor])
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, Axis};

    use crate::source::onnx::testing::Attribute::{Float, Int};
    use crate::source::onnx::testing::{Attribute, Model, array, random};

    const SCALE: [f32; 4] = [1.0, -2.0, 0.5, 3.0];
    const OFFSET: [f32; 4] = [0.0, 1.0, -1.0, 2.0];

    /// A norm of `[N, 4, 2, 4]` with scale and offset of `[count]`. Numbers of elements are powers of two, so that their inverses,
    /// by which means are taken on the way back, are exact.
    fn model(opset: i64, op_type: &str, count: usize, attributes: &[(&str, Attribute)]) -> Model {
        Model::of_opset(opset)
            .input("x", &[-1, 4, 2, 4])
            .floats("scale", &[count as i64], &SCALE[..count])
            .floats("offset", &[count as i64], &OFFSET[..count])
            .node(op_type, "x scale offset", "y", attributes)
            .output("y")
    }

    #[test]
    fn mean_and_inverse_deviation_of_a_layer_norm_are_outputs() {
        let model = Model::new()
            .input("x", &[-1, 2, 2])
            .floats("scale", &[2], &[1.0, 1.0])
            .node("LayerNormalization", "x scale", "norm mean inverse", &[])
            .node("Add", "mean inverse", "y", &[])
            .output("y");
        let y = model.evaluate(&array(&[1, 2, 2], &[1.0, 3.0, 0.0, 4.0]));
        let inverse = |variance: f64| 1.0 / (variance + f64::from(super::EPSILON)).sqrt();
        assert_eq!(y.shape(), [1, 2, 1]);
        check(&y, &[2.0 + inverse(1.0), 2.0 + inverse(4.0)]);
    }

    /// Elements less their mean over the root of their variance.
    fn normalized(elements: &[f64], epsilon: f64) -> Vec<f64> {
        let mean = elements.iter().sum::<f64>() / elements.len() as f64;
        let square = elements.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
        let deviation = (square / elements.len() as f64 + epsilon).sqrt();
        elements.iter().map(|x| (x - mean) / deviation).collect()
    }

    fn check(got: &ArrayD<f64>, wanted: &[f64]) {
        assert_eq!(got.len(), wanted.len());
        for (got, wanted) in got.iter().zip(wanted) {
            assert!((got - wanted).abs() < 1e-9, "{got}, not {wanted}");
        }
    }

    /// The norm of runs of a number of elements, scaled and shifted by what stands for each of them.
    fn reference(x: &ArrayD<f64>, run: usize, epsilon: f64, index: fn(usize) -> usize) -> Vec<f64> {
        let elements: Vec<f64> = x.iter().copied().collect();
        let normalized = elements
            .chunks(run)
            .flat_map(|run| normalized(run, epsilon));
        normalized
            .enumerate()
            .map(|(place, value)| {
                let index = index(place);
                value * f64::from(SCALE[index]) + f64::from(OFFSET[index])
            })
            .collect()
    }

    #[test]
    fn instances_and_groups() {
        let epsilon = ("epsilon", Float(0.125));
        let (x, y) = model(17, "InstanceNormalization", 4, &[epsilon]).evaluate_random(1);
        check(&y, &reference(&x, 8, 0.125, |place| place / 8 % 4));
        let groups = || [("num_groups", Int(2)), ("epsilon", Float(0.125))];
        let (x, y) = model(18, "GroupNormalization", 2, &groups()).evaluate_random(2);
        check(&y, &reference(&x, 16, 0.125, |place| place / 16 % 2));
        let (x, y) = model(21, "GroupNormalization", 4, &groups()).evaluate_random(3);
        check(&y, &reference(&x, 16, 0.125, |place| place / 8 % 4));
        let one = [("num_groups", Int(1)), ("stash_type", Int(1))];
        let (x, y) = model(21, "GroupNormalization", 4, &one).evaluate_random(4);
        check(&y, &reference(&x, 32, 1e-5, |place| place / 8 % 4));
    }

    /// Of `[N, 2, 4]` from an axis on.
    fn layer(op_type: &str, inputs: &str, axis: i64) -> Model {
        let model = match axis {
            -1 => Model::of_opset(23)
                .floats("scale", &[4], &SCALE)
                .floats("offset", &[4], &OFFSET),
            _ => Model::of_opset(23)
                .floats("scale", &[2, 4], &[SCALE, OFFSET].concat())
                .floats("offset", &[2, 4], &[0.5; 8]),
        };
        let attributes = [("axis", Int(axis)), ("epsilon", Float(0.125))];
        model
            .input("x", &[-1, 2, 4])
            .node(op_type, inputs, "y", &attributes)
            .output("y")
    }

    #[test]
    fn layers() {
        let (x, y) = layer("LayerNormalization", "x scale offset", -1).evaluate_random(1);
        check(&y, &reference(&x, 4, 0.125, |place| place % 4));
        let (x, y) = layer("LayerNormalization", "x scale", -2).evaluate_random(2);
        let scale = [SCALE, OFFSET].concat();
        let elements: Vec<f64> = x.iter().copied().collect();
        let wanted = elements.chunks(8).flat_map(|x| normalized(x, 0.125));
        let wanted = wanted
            .enumerate()
            .map(|(place, x)| x * f64::from(scale[place % 8]));
        check(&y, &wanted.collect::<Vec<f64>>());
        let (x, y) = layer("RMSNormalization", "x scale", -1).evaluate_random(3);
        let square = x.mapv(|x| x * x).mean_axis(Axis(2)).unwrap();
        let root = square.mapv(|square| (square + 0.125).sqrt());
        let wanted = &x / &root.insert_axis(Axis(2));
        let wanted: Vec<f64> = wanted
            .iter()
            .enumerate()
            .map(|(place, x)| x * f64::from(SCALE[place % 4]))
            .collect();
        check(&y, &wanted);
    }

    fn batch(opset: i64, sizes: &[i64], outputs: &str, attributes: &[(&str, Attribute)]) -> Model {
        Model::of_opset(opset)
            .input("x", &[&[-1], sizes].concat())
            .floats("scale", &[2], &[3.0, -1.0])
            .floats("offset", &[2], &[0.5, 1.0])
            .floats("mean", &[2], &[1.0, 2.0])
            .floats("variance", &[2], &[3.75, 0.75])
            .node(
                "BatchNormalization",
                "x scale offset mean variance",
                outputs,
                attributes,
            )
            .output("y")
    }

    /// `(x − 1)/2·3 + ½` and `1 − (x − 2)/1`.
    #[test]
    fn batches_of_inference() {
        let attributes = [("epsilon", Float(0.25)), ("momentum", Float(0.5))];
        for sizes in [vec![2], vec![2, 1], vec![2, 1, 1], vec![2, 1, 1, 1]] {
            let model = batch(15, &sizes, "y", &attributes);
            let sizes: Vec<usize> = sizes.iter().map(|&size| size as usize).collect();
            let sizes = [&[1], sizes.as_slice()].concat();
            let y = model.evaluate(&array(&sizes, &[5.0, 5.0]));
            assert_eq!(y, array(&sizes, &[6.5, -2.0]));
            model.check_derivatives(5);
        }
    }

    #[test]
    fn learning_batches_are_refused() {
        let learning = [("training_mode", Int(1))];
        for model in [
            batch(15, &[2], "y", &learning),
            batch(11, &[2], "y m v", &[]),
        ] {
            let problem = model.problem();
            assert!(
                problem.contains("mean and variance over the images"),
                "{problem}"
            );
        }
        let resting = [("training_mode", Int(0))];
        batch(15, &[2], "y", &resting).read();
        batch(11, &[2], "y", &[]).read();
    }

    #[test]
    fn lengths() {
        for (attributes, wanted) in [
            (vec![], [0.6, -0.8]),
            (
                vec![("axis", Int(1)), ("p", Int(1))],
                [3.0 / 7.0, -4.0 / 7.0],
            ),
        ] {
            let model = Model::new()
                .input("x", &[-1, 2])
                .node("LpNormalization", "x", "y", &attributes)
                .output("y");
            check(&model.evaluate(&array(&[1, 2], &[3.0, -4.0])), &wanted);
            let zero = array(&[1, 2], &[0.0; 2]);
            assert_eq!(model.evaluate(&zero), zero);
            assert!(model.slope(&zero).iter().all(|slope| slope.is_finite()));
            model.check_derivatives(6);
        }
    }

    #[test]
    fn derivatives_match_finite_differences() {
        model(17, "InstanceNormalization", 4, &[]).check_derivatives(1);
        for (opset, count) in [(18, 2), (21, 4)] {
            let groups = [("num_groups", Int(2))];
            model(opset, "GroupNormalization", count, &groups).check_derivatives(2);
        }
        for axis in [-1, -2] {
            layer("LayerNormalization", "x scale offset", axis).check_derivatives(3);
            layer("LayerNormalization", "x scale", axis).check_derivatives(4);
            layer("RMSNormalization", "x scale", axis).check_derivatives(5);
        }
    }

    #[test]
    fn instances_of_rows() {
        let x = random(&[2, 2, 5], 3);
        let model = Model::new()
            .input("x", &[-1, 2, 5])
            .floats("scale", &[2], &SCALE[..2])
            .floats("offset", &[2], &OFFSET[..2])
            .node("InstanceNormalization", "x scale offset", "y", &[])
            .output("y");
        check(
            &model.evaluate(&x),
            &reference(&x, 5, 1e-5, |place| place / 5 % 2),
        );
    }

    #[test]
    fn refuses_what_does_not_fit() {
        for (model, wanted) in [
            (
                model(21, "GroupNormalization", 4, &[("num_groups", Int(3))]),
                "a multiple of 3 groups, got [N, 4, 2, 4]",
            ),
            (
                model(21, "GroupNormalization", 4, &[]),
                "num_groups is missing",
            ),
            (
                model(21, "GroupNormalization", 2, &[("num_groups", Int(2))]),
                "expected scale [4], got [2]",
            ),
            (
                layer("LayerNormalization", "x scale", 0),
                "normalizes over axis 0 of [N, 2, 4], which mixes the images of a batch",
            ),
            (
                layer("LpNormalization", "x", 0),
                "normalizes over axis 0 of [N, 2, 4]",
            ),
        ] {
            let problem = model.problem();
            assert!(problem.contains(wanted), "{problem}");
        }
        let lengths = Model::new().input("x", &[-1, 2]);
        let lengths = lengths.node("LpNormalization", "x", "y", &[("p", Int(3))]);
        assert!(
            lengths
                .output("y")
                .problem()
                .contains("a p of 1 or 2, got 3")
        );
    }
}
