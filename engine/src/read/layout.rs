//! Operators that move elements and compute nothing.

use super::Ruled;
use super::node::NodeReader;
use crate::graph::{AxisSource, Op};
use crate::shape::{Batch, Shape, product};

pub(super) fn reshape(node: &NodeReader<'_>) -> Result<Ruled, String> {
    node.expect(&["allowzero"], 2)?;
    let operand = node.operand(0)?;
    let shape = node.shape(operand);
    let target = node.int_list(1)?.ok_or("it has no shape")?;
    if target.contains(&0) && node.int("allowzero", 0) != 0 {
        return Err("an extent of 0 is not supported".to_string());
    }
    let copied = |axis: usize| {
        shape
            .extents
            .get(axis)
            .copied()
            .ok_or("it copies an axis that is not there")
    };
    let mut extents = Vec::with_capacity(target.len());
    for (axis, &extent) in target.iter().enumerate() {
        extents.push(match extent {
            -1 => 1,
            0 => copied(axis)?,
            extent => usize::try_from(extent).map_err(|_| format!("an extent is {extent}"))?,
        });
    }
    let rest = target.iter().position(|&extent| extent == -1);
    if let Some(axis) = rest {
        extents[axis] = shape.n_elements() / product(&extents).max(1);
    }
    if product(&extents) != shape.n_elements() {
        return Err(format!("cannot reshape {:?} to {target:?}", shape.extents));
    }
    let batch = match shape.batch {
        None => None,
        Some(Batch { axis, before }) => {
            let copies = |axis: usize| {
                target.get(axis) == Some(&0)
                    && product(&extents[..axis]) == product(&shape.extents[..axis])
            };
            let axis = match copies(axis) {
                true => Some(axis),
                false => rest,
            };
            let fits = |&axis: &usize| {
                let outer = product(&extents[..axis]);
                before % outer == 0 && extents[axis] % (before / outer) == 0
            };
            let axis = axis.filter(fits).ok_or("it mixes the images of a batch")?;
            Some(Batch { axis, before })
        }
    };
    Ok((Op::Reshape, vec![operand], Shape { extents, batch }))
}

/// Axes before one as rows, the others as columns.
pub(super) fn flatten(node: &NodeReader<'_>) -> Result<Ruled, String> {
    node.expect(&["axis"], 1)?;
    let operand = node.operand(0)?;
    let shape = node.shape(operand);
    let axis = match node.int("axis", 1) {
        axis if axis == shape.rank() as i64 => shape.rank(),
        axis => node.axis(axis, shape.rank())?,
    };
    let (rows, columns) = shape.extents.split_at(axis);
    let extents = vec![product(rows), product(columns)];
    let batch = shape.batch.map(|batch| Batch {
        axis: usize::from(batch.axis >= axis),
        ..batch
    });
    Ok((Op::Reshape, vec![operand], Shape { extents, batch }))
}

/// The axes that an operator adds or takes away, in the result or in the operand.
fn listed_axes(node: &NodeReader<'_>, rank: usize) -> Result<Vec<usize>, String> {
    let listed = node.int_list(1)?.ok_or("it has no axes")?;
    let axes: Vec<usize> = listed
        .iter()
        .map(|&axis| node.axis(axis, rank))
        .collect::<Result<_, _>>()?;
    match (1..axes.len()).all(|place| !axes[..place].contains(&axes[place])) {
        true => Ok(axes),
        false => Err(format!("an axis stands twice in {listed:?}")),
    }
}

pub(super) fn unsqueeze(node: &NodeReader<'_>) -> Result<Ruled, String> {
    node.expect(&[], 2)?;
    let operand = node.operand(0)?;
    let shape = node.shape(operand);
    let n_listed = node.int_list(1)?.map_or(0, <[i64]>::len);
    let rank = shape.rank() + n_listed;
    let added = listed_axes(node, rank)?;
    let kept: Vec<usize> = (0..rank).filter(|axis| !added.contains(axis)).collect();
    let mut extents = vec![1; rank];
    kept.iter()
        .zip(&shape.extents)
        .for_each(|(&axis, &extent)| extents[axis] = extent);
    let result = shape.with_extents(extents, |axis| kept[axis]);
    Ok((Op::Reshape, vec![operand], result))
}

pub(super) fn squeeze(node: &NodeReader<'_>) -> Result<Ruled, String> {
    node.expect(&[], 2)?;
    let operand = node.operand(0)?;
    let taken = listed_axes(node, node.shape(operand).rank())?;
    let result = without_axes(node.shape(operand), &taken)?;
    Ok((Op::Reshape, vec![operand], result))
}

/// A shape without axes of one element.
fn without_axes(shape: &Shape, taken: &[usize]) -> Result<Shape, String> {
    if taken.iter().any(|&axis| shape.extents[axis] != 1) {
        return Err(format!(
            "the axes {taken:?} of {:?} have other extents than 1",
            shape.extents
        ));
    }
    if shape.batch_axis().is_some_and(|axis| taken.contains(&axis)) {
        return Err("it mixes the images of a batch".to_string());
    }
    let kept = (0..shape.rank()).filter(|axis| !taken.contains(axis));
    let extents = kept.map(|axis| shape.extents[axis]).collect();
    let before = |axis: usize| taken.iter().filter(|&&other| other < axis).count();
    Ok(shape.with_extents(extents, |axis| axis - before(axis)))
}

/// One place of an axis, without the axis: a slice, and the shape that it then has.
pub(super) fn gather(node: &NodeReader<'_>) -> Result<(Ruled, Shape), String> {
    node.expect(&["axis"], 2)?;
    let operand = node.operand(0)?;
    let shape = node.shape(operand);
    let axis = node.axis(node.int("axis", 0), shape.rank())?;
    let place = node.single_int(1)?;
    let place = node.axis(place, shape.extents[axis]).map_err(|_| {
        format!(
            "there is no place {place} on an axis of {}",
            shape.extents[axis]
        )
    })?;
    if shape.batch_axis() == Some(axis) {
        return Err("it mixes the images of a batch".to_string());
    }
    let mut extents = shape.extents.clone();
    extents[axis] = 1;
    let slice = shape.with_extents(extents, |axis| axis);
    let mut axes: Vec<AxisSource> = (0..shape.rank()).map(AxisSource::same).collect();
    axes[axis].start = place as isize;
    let reshaped = without_axes(&slice, &[axis])?;
    Ok((
        (Op::Move { axes, fill: 0.0 }, vec![operand], slice),
        reshaped,
    ))
}

pub(super) fn transpose(node: &NodeReader<'_>) -> Result<Ruled, String> {
    node.expect(&["perm"], 1)?;
    let operand = node.operand(0)?;
    let shape = node.shape(operand);
    let rank = shape.rank();
    let order: Vec<usize> = match node.ints("perm") {
        Some(order) => order
            .iter()
            .map(|&axis| node.axis(axis, rank))
            .collect::<Result<_, _>>()?,
        None => (0..rank).rev().collect(),
    };
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if sorted != (0..rank).collect::<Vec<_>>() {
        return Err(format!("{order:?} is not an order of {rank} axes"));
    }
    let extents = order.iter().map(|&axis| shape.extents[axis]).collect();
    let moved = |axis: usize| order.iter().position(|&from| from == axis).unwrap_or(0);
    let result = shape.with_extents(extents, moved);
    let axes = order.iter().map(|&axis| AxisSource::same(axis)).collect();
    Ok((Op::Move { axes, fill: 0.0 }, vec![operand], result))
}

pub(super) fn slice(node: &NodeReader<'_>) -> Result<Ruled, String> {
    node.expect(&[], 5)?;
    let operand = node.operand(0)?;
    let shape = node.shape(operand);
    let starts = node.int_list(1)?.ok_or("it has no starts")?;
    let ends = node.int_list(2)?.ok_or("it has no ends")?;
    let all: Vec<i64> = (0..starts.len() as i64).collect();
    let axes = node.int_list(3)?.unwrap_or(&all);
    let ones = vec![1; starts.len()];
    let steps = node.int_list(4)?.unwrap_or(&ones);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err("starts, ends, axes and steps differ in number".to_string());
    }
    let mut extents = shape.extents.clone();
    let mut sources: Vec<_> = (0..shape.rank()).map(AxisSource::same).collect();
    for (place, &axis) in axes.iter().enumerate() {
        let axis = node.axis(axis, shape.rank())?;
        let (extent, step) = (shape.extents[axis] as i64, steps[place]);
        if shape.batch_axis() == Some(axis) {
            return Err("it mixes the images of a batch".to_string());
        }
        let from_end = |bound: i64| {
            if bound < 0 {
                bound.saturating_add(extent)
            } else {
                bound
            }
        };
        let (start, end) = (from_end(starts[place]), from_end(ends[place]));
        // Backwards, the end stands before the first element.
        let (start, end) = match step {
            1.. => (start.clamp(0, extent), end.clamp(0, extent)),
            _ => (start.clamp(0, extent - 1), end.clamp(-1, extent - 1)),
        };
        if step == 0 || step == i64::MIN {
            return Err(format!("its step is {step}"));
        }
        let span = if step > 0 { end - start } else { start - end };
        let length = (span.max(0) as u64).div_ceil(step.unsigned_abs());
        extents[axis] = length as usize;
        sources[axis] = AxisSource {
            start: start as isize,
            step: step as isize,
            ..AxisSource::same(axis)
        };
    }
    let result = shape.with_extents(extents, |axis| axis);
    let moved = Op::Move {
        axes: sources,
        fill: 0.0,
    };
    Ok((moved, vec![operand], result))
}

pub(super) fn expand(node: &NodeReader<'_>) -> Result<Ruled, String> {
    node.expect(&[], 2)?;
    let operand = node.operand(0)?;
    let shape = node.shape(operand);
    let target = super::extents(node.int_list(1)?.ok_or("it has no shape")?)?;
    let result = Shape::broadcast([shape, &Shape::shared(target)].into_iter())?;
    let missing = result.rank() - shape.rank();
    if shape
        .batch_axis()
        .is_some_and(|axis| result.extents[axis + missing] != shape.extents[axis])
    {
        return Err("it mixes the images of a batch".to_string());
    }
    let axes = (0..result.rank()).map(|axis| {
        let own = axis.checked_sub(missing);
        match own.filter(|&own| shape.extents[own] == result.extents[axis]) {
            Some(own) => AxisSource::same(own),
            None => AxisSource {
                step: 0,
                axis: own,
                ..AxisSource::same(0)
            },
        }
    });
    let axes = axes.collect();
    Ok((Op::Move { axes, fill: 0.0 }, vec![operand], result))
}

pub(super) fn pad(node: &NodeReader<'_>) -> Result<Ruled, String> {
    node.expect(&["mode"], 3)?;
    node.expect_text("mode", "constant", &["constant"])?;
    let operand = node.operand(0)?;
    let shape = node.shape(operand);
    let pads = super::extents(node.int_list(1)?.ok_or("it has no pads")?)?;
    let fill = match node.float_list(2)? {
        None => 0.0,
        Some(&[fill]) => fill,
        Some(other) => return Err(format!("expected one value, got {other:?}")),
    };
    let rank = shape.rank();
    if pads.len() != 2 * rank {
        return Err(format!("expected {} pads, got {pads:?}", 2 * rank));
    }
    if shape
        .batch_axis()
        .is_some_and(|axis| pads[axis] + pads[axis + rank] > 0)
    {
        return Err("it mixes the images of a batch".to_string());
    }
    let extents = (0..rank).map(|axis| pads[axis] + shape.extents[axis] + pads[axis + rank]);
    let result = shape.with_extents(extents.collect(), |axis| axis);
    let axes = (0..rank).map(|axis| AxisSource {
        start: -(pads[axis] as isize),
        ..AxisSource::same(axis)
    });
    let axes = axes.collect();
    Ok((Op::Move { axes, fill }, vec![operand], result))
}

pub(super) fn concat(node: &NodeReader<'_>) -> Result<Ruled, String> {
    let count = node.node.inputs.len();
    node.expect(&["axis"], usize::MAX)?;
    let operands = (0..count)
        .map(|place| node.operand(place))
        .collect::<Result<Vec<_>, _>>()?;
    let first = node.shape(*operands.first().ok_or("it has no operands")?);
    let axis = node.axis(node.int("axis", 0), first.rank())?;
    let mut extents = first.extents.clone();
    extents[axis] = 0;
    let mut batch_axis = None;
    for &operand in &operands {
        let shape = node.shape(operand);
        let fits = shape.rank() == first.rank()
            && (0..shape.rank())
                .all(|other| other == axis || shape.extents[other] == first.extents[other]);
        if !fits {
            return Err(format!(
                "{:?} does not fit {:?}",
                shape.extents, first.extents
            ));
        }
        extents[axis] += shape.extents[axis];
        match (batch_axis, shape.batch_axis()) {
            (None, own) => batch_axis = own,
            (Some(_), None) => {}
            (Some(one), Some(own)) if one == own => {}
            _ => return Err("it mixes the images of a batch".to_string()),
        }
    }
    if batch_axis == Some(axis) {
        return Err("it mixes the images of a batch".to_string());
    }
    let with_batch = operands
        .iter()
        .map(|&operand| node.shape(operand))
        .find(|shape| shape.batch.is_some());
    let result = with_batch
        .unwrap_or(first)
        .with_extents(extents, |axis| axis);
    Ok((Op::Concat { axis }, operands, result))
}
