//! Operators that join values and take parts of them.
//!
//! ONNX operators: `Concat`, `Slice`, `Split`; see [the specification](https://onnx.ai/onnx/operators/).

use ndarray::Axis;

use super::known::{Known, Number};
use super::node::{Node, Operand, Outputs, Rule};
use super::numbers::{axis_of, size_of, sizes_of};
use super::own_image::ONLY_INDICES;
use super::result::Result;
use super::shape::shape_of_operand;
use crate::graph::op::{Concat, Reverse, Slice};
use crate::graph::{DType, Dim, Value};

pub(super) const RULES: &[(&str, Rule)] = &[("Concat", concat), ("Split", split), ("Slice", slice)];

fn concat(node: &mut Node<'_, '_>) -> Outputs {
    let axis = node
        .int("axis")?
        .ok_or("its attribute \"axis\" is missing")?;
    if let Some(known) = node.all_known() {
        return concat_known(&known, axis);
    }
    if node.names_images() {
        let axis = axis_of(axis, shape_of_operand(node, node.operand(0)?).rank())?;
        return Ok(vec![node.joined_of_images(axis)?]);
    }
    let values = (0..node.n_operands())
        .map(|position| node.value(position))
        .collect::<Result<Vec<Value>>>()?;
    let first = *values.first().ok_or("expected at least one operand")?;
    let axis = axis_of(axis, node.shape(first).rank())?;
    let values = node.alike_but(&values, axis)?;
    match values.as_slice() {
        [only] => Ok(vec![(*only).into()]),
        values => node.result(Concat { axis }, values),
    }
}

fn concat_known(known: &[Known], axis: i64) -> Outputs {
    let first = known.first().ok_or("expected at least one operand")?;
    let axis = axis_of(axis, first.shape.rank())?;
    let mut shape = first.shape.clone();
    let misfit = |other: &Known| {
        let (wanted, got) = (&first.shape, &other.shape);
        format!("shapes {wanted} and {got} do not fit along axis {axis}")
    };
    let mut extent = 0;
    for other in known {
        let size = other.shape.size(axis).ok_or_else(|| misfit(other))?;
        let mut beside = other.shape.clone();
        beside.0[axis] = first.shape.0[axis];
        if beside != first.shape {
            return Err(misfit(other));
        }
        extent += size;
    }
    shape.0[axis] = Dim::Size(extent);
    let views: Vec<_> = known.iter().map(|known| known.elements.view()).collect();
    let elements = ndarray::concatenate(Axis(axis), &views).map_err(|error| error.to_string())?;
    Ok(vec![first.moved(shape, elements).into()])
}

/// Into parts of the lengths that are given, or as many as there are outputs of the same length.
fn split(node: &mut Node<'_, '_>) -> Outputs {
    let operand = node.operand(0)?.clone();
    let current = shape_of_operand(node, &operand);
    let axis = axis_of(node.int("axis")?.unwrap_or(0), current.rank())?;
    let lengths = node.ints_or_known("split", 1)?;
    let n_outputs = node
        .int("num_outputs")?
        .map_or(Ok(node.n_outputs()), size_of)?;
    let Dim::Size(extent) = current.0[axis] else {
        return Err(format!("cannot split the batch of {current}"));
    };
    let lengths = match lengths {
        Some(lengths) => sizes_of(&lengths)?,
        None => equal_lengths(extent, n_outputs)?,
    };
    if lengths
        .iter()
        .try_fold(0_usize, |sum, &length| sum.checked_add(length))
        != Some(extent)
    {
        return Err(format!(
            "parts of {lengths:?} elements do not make up the {extent} of axis {axis}"
        ));
    }
    let mut start = 0;
    let mut parts = Vec::new();
    for length in lengths {
        parts.push(node.part(&operand, Slice::range(axis, start..start + length))?);
        start += length;
    }
    Ok(parts)
}

/// Equal parts; only the last may be shorter.
fn equal_lengths(extent: usize, count: usize) -> Result<Vec<usize>> {
    let each = match count {
        0 => 0,
        count => extent.div_ceil(count),
    };
    let before = each * count.saturating_sub(1);
    if each == 0 || before >= extent {
        return Err(format!("{extent} elements do not make {count} parts"));
    }
    let mut lengths = vec![each; count - 1];
    lengths.push(extent - before);
    Ok(lengths)
}

/// `Slice(x, starts, ends, axes, steps)`, the first three of which old opsets have as attributes.
fn slice(node: &mut Node<'_, '_>) -> Outputs {
    let (starts, ends) = (bounds(node, "starts", 1)?, bounds(node, "ends", 2)?);
    let mut operand = node.operand(0)?.clone();
    let current = shape_of_operand(node, &operand);
    let axes = match node.ints_or_known("axes", 3)? {
        Some(axes) => axes,
        None => (0..starts.len() as i64).collect(),
    };
    let steps = match node.optional(4) {
        Some(_) => node.known(4)?.fixed_numbers()?,
        None => vec![1; starts.len()],
    };
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err("expected as many ends, axes and steps as starts".to_string());
    }
    for (index, &axis) in axes.iter().enumerate() {
        let axis = axis_of(axis, current.rank())?;
        let bounds = Bounds {
            start: starts[index],
            end: ends[index],
            step: steps[index],
        };
        operand = match current.0[axis] {
            Dim::Size(extent) => node.between(&operand, axis, extent, bounds)?,
            dim if bounds.is_whole(node, dim) => operand,
            dim => {
                return Err(format!(
                    "it takes some of {dim} along axis {axis}, which is the batch: this mixes its images"
                ));
            }
        };
    }
    Ok(vec![operand])
}

fn bounds(node: &Node<'_, '_>, name: &str, position: usize) -> Result<Vec<Number>> {
    match node.ints(name)? {
        Some(bounds) => Ok(bounds.into_iter().map(Number::Fixed).collect()),
        None => node.known(position)?.numbers(),
    }
}

/// A range as `Slice` states it.
#[derive(Clone, Copy)]
struct Bounds {
    start: Number,
    end: Number,
    step: i64,
}

impl Bounds {
    /// Does it take all of an axis that has the batch?
    fn is_whole(self, node: &Node<'_, '_>, dim: Dim) -> bool {
        let reaches = match (self.end, Number::from(dim)) {
            (Number::Fixed(i64::MAX), _) => true,
            (Number::Fixed(end), _) if end >= i64::from(i32::MAX) => true,
            (Number::Fixed(end), _) => node
                .fixed_batch()
                .is_some_and(|batch| end >= dim.concrete(batch) as i64),
            (end, extent) => end == extent,
        };
        self.step == 1 && self.start == Number::Fixed(0) && reaches
    }

    /// First element, number of elements and distance of a range within a number of elements.
    fn within(self, extent: usize) -> Result<(usize, usize, i64)> {
        let (Some(start), Some(end)) = (self.start.fixed(), self.end.fixed()) else {
            return Err(format!(
                "a range from {} to {} depends on the batch",
                self.start, self.end
            ));
        };
        let extent = extent as i64;
        let counted = |bound: i64| {
            if bound < 0 {
                bound.saturating_add(extent)
            } else {
                bound
            }
        };
        match self.step {
            0 => Err("its step must not be 0".to_string()),
            step @ 1.. => {
                let start = counted(start).clamp(0, extent);
                let end = counted(end).clamp(start, extent);
                Ok((
                    start as usize,
                    ((end - start) as u64).div_ceil(step as u64) as usize,
                    step,
                ))
            }
            step => {
                let start = counted(start).clamp(-1, extent - 1);
                let end = counted(end).clamp(-1, start.max(-1));
                let count = ((start - end) as u64).div_ceil(step.unsigned_abs());
                Ok((start.max(0) as usize, count as usize, step))
            }
        }
    }
}

impl Node<'_, '_> {
    /// A part of an operand.
    pub fn part(&mut self, operand: &Operand, slice: Slice) -> Result<Operand> {
        match operand {
            Operand::Known(known) => {
                let range = ndarray::Slice::new(
                    slice.start as isize,
                    Some(slice.end as isize),
                    slice.step as isize,
                );
                let elements = known
                    .elements
                    .slice_axis(Axis(slice.axis), range)
                    .to_owned();
                let mut shape = known.shape.clone();
                shape.0[slice.axis] = Dim::Size(elements.shape()[slice.axis]);
                Ok(known.moved(shape, elements).into())
            }
            Operand::Value(value) if self.dtype(*value) == DType::Bool => {
                let numbers = self.as_numbers(*value)?;
                let numbers = self.apply("part", slice, &[numbers])?;
                Ok(self.is_set(numbers)?.into())
            }
            Operand::Value(value) | Operand::Integers(value) => {
                Ok(self.slice(*value, slice)?.into())
            }
            Operand::OfImages(_) => Err(ONLY_INDICES.to_string()),
        }
    }

    /// Floats in a range; the whole of an axis is the value itself.
    pub fn slice(&mut self, value: Value, slice: Slice) -> Result<Value> {
        let whole = (slice.start, Some(slice.end), slice.step)
            == (0, self.shape(value).size(slice.axis), 1);
        match whole {
            true => Ok(value),
            false => self.apply("part", slice, &[value]),
        }
    }

    /// The elements of a range, which may go backwards, along an axis of that extent.
    fn between(
        &mut self,
        operand: &Operand,
        axis: usize,
        extent: usize,
        bounds: Bounds,
    ) -> Result<Operand> {
        let (start, count, step) = bounds.within(extent)?;
        let distance = step.unsigned_abs() as usize;
        let Some(reach) = count.checked_sub(1).map(|gaps| gaps * distance) else {
            return match operand {
                Operand::Known(known) => {
                    let none = ndarray::Slice::new(0, Some(0), 1);
                    let mut shape = known.shape.clone();
                    shape.0[axis] = Dim::Size(0);
                    let elements = known.elements.slice_axis(Axis(axis), none).to_owned();
                    Ok(known.moved(shape, elements).into())
                }
                _ => Err(format!("it takes no elements of axis {axis}")),
            };
        };
        if step > 0 {
            let (end, step) = (start + reach + 1, distance.min(extent));
            return self.part(
                operand,
                Slice {
                    axis,
                    start,
                    end,
                    step,
                },
            );
        }
        let first = start - reach;
        let forward = Slice {
            axis,
            start: first,
            end: start + 1,
            step: distance.min(extent),
        };
        let part = self.part(operand, forward)?;
        match part {
            Operand::Known(known) => {
                let mut elements = known.elements.clone();
                elements.invert_axis(Axis(axis));
                Ok(known.moved(known.shape.clone(), elements).into())
            }
            Operand::Value(value) | Operand::Integers(value) => Ok(self
                .apply("reversed", Reverse { axes: vec![axis] }, &[value])?
                .into()),
            Operand::OfImages(_) => Err(ONLY_INDICES.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, Axis, Slice as Range};

    use crate::source::onnx::testing::Attribute::{Int, Ints};
    use crate::source::onnx::testing::{Model, int_tensor, random};

    fn part(
        x: &ArrayD<f64>,
        axis: usize,
        from: isize,
        to: Option<isize>,
        step: isize,
    ) -> ArrayD<f64> {
        x.slice_axis(Axis(axis), Range::new(from, to, step))
            .to_owned()
    }

    #[test]
    fn slices_are_those_of_ndarray() {
        let x = random(&[2, 5, 4], 1);
        for (start, end, step, from, to) in [
            (1, 4, 1, 1, Some(4)),
            (0, 5, 2, 0, Some(5)),
            (-2, i64::MAX, 1, 3, None),
            (0, -1, 3, 0, Some(4)),
            (-1, i64::MIN, -1, 0, None),
            (3, 0, -2, 1, Some(4)),
            (2, 100, 50, 2, Some(3)),
        ] {
            let model = Model::new()
                .input("x", &[-1, 5, 4])
                .ints("start", &[start])
                .ints("end", &[end])
                .ints("axis", &[1])
                .ints("step", &[step])
                .node("Slice", "x start end axis step", "y", &[])
                .output("y");
            assert_eq!(
                model.evaluate(&x),
                part(&x, 1, from, to, step as isize),
                "{start} {end} {step}"
            );
            model.check_derivatives(2);
        }
    }

    #[test]
    fn bounds_may_be_attributes() {
        let x = random(&[2, 5], 1);
        let attributes = [
            ("starts", Ints(vec![1])),
            ("ends", Ints(vec![-1])),
            ("axes", Ints(vec![1])),
        ];
        let model = Model::of_opset(9).input("x", &[-1, 5]);
        let model = model.node("Slice", "x", "y", &attributes).output("y");
        assert_eq!(model.evaluate(&x), part(&x, 1, 1, Some(4), 1));
    }

    #[test]
    fn a_slice_of_all_images_is_all_of_them() {
        for (extent, end, wanted) in [
            (-1, i64::MAX, None),
            (3, 3, None),
            (-1, 3, Some("mixes its images")),
        ] {
            let model = Model::new()
                .input("x", &[extent, 2])
                .ints("start", &[0])
                .ints("end", &[end]);
            let model = model.node("Slice", "x start end", "y", &[]).output("y");
            match wanted {
                None => assert_eq!(model.evaluate(&random(&[2, 2], 1)), random(&[2, 2], 1)),
                Some(wanted) => assert!(model.problem().contains(wanted), "{}", model.problem()),
            }
        }
    }

    #[test]
    fn splits_make_up_the_whole() {
        let x = random(&[2, 5], 1);
        for (opset, lengths, wanted) in [
            (17, vec![1, 4], part(&x, 1, 1, None, 1)),
            (11, vec![2, 3], part(&x, 1, 2, None, 1)),
            (18, vec![], part(&x, 1, 3, None, 1)),
        ] {
            let mut attributes = vec![("axis", Int(-1))];
            let mut model = Model::of_opset(opset).input("x", &[-1, 5]);
            let inputs = match opset {
                11 => {
                    attributes.push(("split", Ints(lengths)));
                    "x"
                }
                18 => {
                    attributes.push(("num_outputs", Int(2)));
                    "x"
                }
                _ => {
                    model = model.ints("lengths", &lengths);
                    "x lengths"
                }
            };
            let model = model
                .node("Split", inputs, "first y", &attributes)
                .output("y");
            assert_eq!(model.evaluate(&x), wanted, "{opset}");
        }
    }

    #[test]
    fn concatenation_gives_fixed_values_the_batch() {
        for extent in [2, 3] {
            let model = Model::new().input("x", &[extent, 2, 2]);
            let model = model.floats(
                "token",
                &[extent, 1, 2],
                &[5.0, 6.0].repeat(extent as usize),
            );
            let model = model
                .node("Concat", "token x", "y", &[("axis", Int(1))])
                .output("y");
            let x = random(&[2, 2, 2], 1);
            let y = model.evaluate(&x);
            assert_eq!(part(&y, 1, 1, None, 1), x);
            assert!(
                y.index_axis(Axis(1), 0)
                    .rows()
                    .into_iter()
                    .all(|row| row.to_vec() == [5.0, 6.0])
            );
            model.check_derivatives(4);
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let x = || {
            Model::new()
                .input("x", &[-1, 3])
                .ints("indices", &[0, 5])
                .ints("one", &[1])
        };
        let cases = [
            (
                x().node("Concat", "x x", "y", &[("axis", Int(0))]),
                "never the batch",
            ),
            (
                x().node("Concat", "x x", "y", &[("axis", Int(2))]),
                "there is no axis 2 of 2",
            ),
            (
                x().initializer(int_tensor("number", &[], &[8])).node(
                    "Concat",
                    "one number",
                    "y",
                    &[("axis", Int(0))],
                ),
                "shapes [1] and [] do not fit along axis 0",
            ),
            (
                x().node("Split", "x one", "y", &[("axis", Int(1))]),
                "do not make up the 3",
            ),
            (x().node("Split", "x", "y", &[]), "cannot split the batch"),
            (
                x().node("Slice", "x one one one", "y", &[]),
                "takes no elements",
            ),
            (
                x().node("Slice", "x one", "y", &[]),
                "its input 2 is missing",
            ),
            (
                x().node("Slice", "x one indices", "y", &[]),
                "as many ends, axes and steps",
            ),
        ];
        for (model, wanted) in cases {
            let problem = model.output("y").problem();
            assert!(problem.contains(wanted), "{problem}");
        }
    }
}
