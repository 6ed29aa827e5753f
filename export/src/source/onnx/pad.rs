//! `Pad` in all its modes.
//!
//! ONNX operators: `Pad`; see [the specification](https://onnx.ai/onnx/operators/).

use super::known::{Known, Number, check_count};
use super::node::{Node, Operand, Outputs, Rule};
use super::numbers::{axis_of, size_of};
use super::own_image::ONLY_INDICES;
use super::result::Result;
use super::shape::shape_of_operand;
use crate::graph::op::{Concat, Expand, Pad, Reverse, Slice};
use crate::graph::{Dim, Shape, Value};

pub(super) const RULES: &[(&str, Rule)] = &[("Pad", pad)];

/// What a margin is made of.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Constant,
    Reflect,
    Edge,
    Wrap,
}

/// `Pad(x, pads, value, axes)`: pads before all axes, then behind them. Negative ones cut off.
fn pad(node: &mut Node<'_, '_>) -> Outputs {
    let mode = match node.text("mode")?.as_deref() {
        None | Some("constant") => Mode::Constant,
        Some("reflect") => Mode::Reflect,
        Some("edge") => Mode::Edge,
        Some("wrap") => Mode::Wrap,
        Some(mode) => return Err(format!("mode {mode:?} is not supported")),
    };
    let operand = node.operand(0)?.clone();
    let current = shape_of_operand(node, &operand);
    // Old opsets have pads and value as attributes.
    let pads = node
        .ints_or_known("pads", 1)?
        .ok_or("its pads are missing")?;
    let axes = match node.optional(3) {
        Some(_) => node.known(3)?.fixed_numbers()?,
        None => (0..current.rank() as i64).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(format!(
            "expected two pads for each of {} axes, got {pads:?}",
            axes.len()
        ));
    }
    let mut around = vec![[0_i64; 2]; current.rank()];
    for (index, &axis) in axes.iter().enumerate() {
        around[axis_of(axis, current.rank())?] = [pads[index], pads[index + axes.len()]];
    }
    match operand {
        Operand::Known(known) => pad_known(node, &known, &around, mode),
        Operand::OfImages(_) => Err(ONLY_INDICES.to_string()),
        Operand::Integers(x) | Operand::Value(x) => {
            let x = cut(node, x, &around)?;
            let margins: Vec<[usize; 2]> = around
                .iter()
                .map(|around| around.map(|pad| pad.max(0) as usize))
                .collect();
            let margins_fit = around
                .iter()
                .flatten()
                .all(|&pad| size_of(pad.max(0)).is_ok());
            if !margins_fit {
                return Err(format!("pads {pads:?} are too large"));
            }
            let value = filler(node)?;
            let padded = match mode {
                _ if margins.iter().all(|margin| *margin == [0, 0]) => x,
                Mode::Constant => node.apply(
                    "padded",
                    Pad {
                        pads: margins,
                        value,
                    },
                    &[x],
                )?,
                mode => mirrored(node, x, &margins, mode)?,
            };
            Ok(vec![padded.into()])
        }
    }
}

/// The number of a constant margin.
fn filler(node: &mut Node<'_, '_>) -> Result<f32> {
    if let Some(value) = node.float("value")? {
        return Ok(value);
    }
    let values = match node.optional(2).cloned() {
        None => return Ok(0.0),
        Some(Operand::Known(known)) => known.fixed_numbers()?.iter().map(|&n| n as f32).collect(),
        Some(_) => node.constant(2)?.data().to_vec(),
    };
    match values.as_slice() {
        [value] => Ok(*value),
        values => Err(format!(
            "expected one number to pad with, got {}",
            values.len()
        )),
    }
}

/// What negative pads leave.
fn cut(node: &mut Node<'_, '_>, mut x: Value, around: &[[i64; 2]]) -> Result<Value> {
    for (axis, [before, behind]) in around.iter().enumerate() {
        let [before, behind] = [before, behind].map(|pad| pad.min(&0).unsigned_abs() as usize);
        if [before, behind] == [0, 0] {
            continue;
        }
        let extent = node.shape(x).size(axis).ok_or("cannot cut the batch")?;
        let end = extent.checked_sub(behind).filter(|&end| end > before);
        let end = end.ok_or_else(|| {
            format!("pads of -{before} and -{behind} leave nothing of {extent} elements")
        })?;
        x = node.slice(x, Slice::range(axis, before..end))?;
    }
    Ok(x)
}

/// Margins that repeat elements of the value, axis by axis.
fn mirrored(
    node: &mut Node<'_, '_>,
    mut x: Value,
    margins: &[[usize; 2]],
    mode: Mode,
) -> Result<Value> {
    for (axis, &[before, behind]) in margins.iter().enumerate() {
        if [before, behind] == [0, 0] {
            continue;
        }
        let shape = node.shape(x);
        let extent = shape.size(axis).ok_or("cannot pad the batch")?;
        let limit = match mode {
            Mode::Reflect => extent.saturating_sub(1),
            Mode::Wrap => extent,
            Mode::Edge | Mode::Constant => usize::MAX,
        };
        if before.max(behind) > limit {
            return Err(format!(
                "a margin of {} is wider than what it repeats of {extent} elements",
                before.max(behind)
            ));
        }
        let mut parts = vec![x];
        if before > 0 {
            let range = match mode {
                Mode::Reflect => 1..before + 1,
                Mode::Wrap => extent - before..extent,
                Mode::Edge | Mode::Constant => 0..1,
            };
            parts.insert(0, margin(node, x, Slice::range(axis, range), before, mode)?);
        }
        if behind > 0 {
            let range = match mode {
                Mode::Reflect => extent - 1 - behind..extent - 1,
                Mode::Wrap => 0..behind,
                Mode::Edge | Mode::Constant => extent - 1..extent,
            };
            parts.push(margin(node, x, Slice::range(axis, range), behind, mode)?);
        }
        x = node.apply("padded", Concat { axis }, &parts)?;
    }
    Ok(x)
}

fn margin(
    node: &mut Node<'_, '_>,
    x: Value,
    slice: Slice,
    width: usize,
    mode: Mode,
) -> Result<Value> {
    let axis = slice.axis;
    let part = node.slice(x, slice)?;
    match mode {
        Mode::Reflect => node.apply("mirrored", Reverse { axes: vec![axis] }, &[part]),
        Mode::Edge => {
            let mut shape = node.shape(part);
            shape.0[axis] = Dim::Size(width);
            node.apply("edge", Expand { shape }, &[part])
        }
        Mode::Wrap | Mode::Constant => Ok(part),
    }
}

/// Integers with a constant margin.
fn pad_known(node: &mut Node<'_, '_>, known: &Known, around: &[[i64; 2]], mode: Mode) -> Outputs {
    if mode != Mode::Constant {
        return Err("integers are padded with a number only".to_string());
    }
    let filler = match node.optional(2) {
        Some(_) => node
            .known(2)?
            .numbers()?
            .first()
            .copied()
            .ok_or("there is not a number to pad with")?,
        None => Number::Fixed(0),
    };
    let mut sizes = Vec::new();
    for (axis, [before, behind]) in around.iter().enumerate() {
        let extent = known.elements.shape()[axis] as i64;
        if known.shape.0[axis].is_batch() && [*before, *behind] != [0, 0] {
            return Err(format!(
                "cannot pad the batch, axis {axis} of {}",
                known.shape
            ));
        }
        let size = extent
            .checked_add(*before)
            .and_then(|size| size.checked_add(*behind));
        sizes.push(size_of(size.unwrap_or(-1))?);
    }
    check_count(&sizes)?;
    let dims = known.shape.0.iter().zip(&sizes);
    let shape = dims.map(|(&dim, &size)| match dim.is_batch() {
        true => dim,
        false => Dim::Size(size),
    });
    let shape = Shape(shape.collect());
    let inside = |index: &ndarray::IxDyn| -> Option<Vec<usize>> {
        (0..around.len())
            .map(|axis| {
                let position = index[axis] as i64 - around[axis][0];
                usize::try_from(position)
                    .ok()
                    .filter(|&position| position < known.elements.shape()[axis])
            })
            .collect()
    };
    let elements = ndarray::ArrayD::from_shape_fn(sizes, |index| {
        inside(&index).map_or(filler, |index| known.elements[index.as_slice()])
    });
    Ok(vec![known.moved(shape, elements).into()])
}

#[cfg(test)]
mod tests {
    use crate::source::onnx::testing::Attribute::{Float, Ints, Text};
    use crate::source::onnx::testing::{Model, array};

    fn padded(mode: &'static str, pads: &[i64]) -> Model {
        let model = Model::new().input("x", &[-1, 4]).ints("pads", pads);
        model
            .node("Pad", "x pads", "y", &[("mode", Text(mode))])
            .output("y")
    }

    #[test]
    fn margins_are_those_of_the_mode() {
        for (mode, pads, wanted) in [
            ("constant", [2, 1], vec![0., 0., 1., 2., 3., 4., 0.]),
            ("constant", [-1, 1], vec![2., 3., 4., 0.]),
            ("reflect", [2, 1], vec![3., 2., 1., 2., 3., 4., 3.]),
            ("edge", [2, 1], vec![1., 1., 1., 2., 3., 4., 4.]),
            ("wrap", [2, 1], vec![3., 4., 1., 2., 3., 4., 1.]),
        ] {
            let model = padded(mode, &[0, pads[0], 0, pads[1]]);
            let y = model.evaluate(&array(&[1, 4], &[1.0, 2.0, 3.0, 4.0]));
            assert_eq!(y.iter().copied().collect::<Vec<f64>>(), wanted, "{mode}");
            model.check_derivatives(1);
        }
    }

    #[test]
    fn pads_and_value_may_be_attributes() {
        let attributes = [("pads", Ints(vec![0, 1, 0, 0])), ("value", Float(7.0))];
        let model = Model::of_opset(9).input("x", &[-1, 2]);
        let model = model.node("Pad", "x", "y", &attributes).output("y");
        assert_eq!(
            model.evaluate(&array(&[1, 2], &[1.0, 2.0])),
            array(&[1, 3], &[7.0, 1.0, 2.0])
        );
    }

    #[test]
    fn takes_a_value_and_axes() {
        let model = Model::of_opset(18)
            .input("x", &[-1, 2])
            .ints("pads", &[0, 1])
            .ints("axes", &[-1]);
        let model = model
            .floats("seven", &[], &[7.0])
            .node("Pad", "x pads seven axes", "y", &[])
            .output("y");
        assert_eq!(
            model.evaluate(&array(&[1, 2], &[1.0, 2.0])),
            array(&[1, 3], &[1.0, 2.0, 7.0])
        );
    }

    /// As old exporters reckon pads: integers padded with zeros, reversed and brought into ONNX's order.
    #[test]
    fn integers_are_padded_too() {
        let model = Model::new()
            .input("x", &[-1, 2])
            .ints("ones", &[1, 0, 1])
            .ints("around", &[1, 0])
            .node("Pad", "ones around", "pads", &[])
            .node("Pad", "x pads", "y", &[])
            .output("y");
        assert_eq!(model.evaluate(&array(&[1, 2], &[1.0, 2.0])).shape(), [1, 4]);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        for (mode, pads, wanted) in [
            (
                "reflect",
                vec![0, 4, 0, 0],
                "wider than what it repeats of 4",
            ),
            ("constant", vec![1, 0, 0, 0], "batch"),
            ("edge", vec![1, 0, 0, 0], "batch"),
            ("constant", vec![0, -4, 0, 0], "leave nothing of 4"),
            (
                "constant",
                vec![0, 1],
                "expected two pads for each of 2 axes",
            ),
            ("poem", vec![0, 0, 0, 0], "mode \"poem\" is not supported"),
        ] {
            let problem = padded(mode, &pads).problem();
            assert!(problem.contains(wanted), "{problem}");
        }
        let model = Model::new().input("x", &[-1, 4]).node("Pad", "x", "y", &[]);
        let problem = model.output("y").problem();
        assert!(problem.contains("its pads are missing"), "{problem}");
    }
}
