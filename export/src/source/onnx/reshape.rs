//! The target of a `Reshape`, with the batch where the elements of each image stay at their places.
//!
//! Elements keep their order, and each image has to keep its elements. So `[N, 6]` may become `[N, 2, 3]`, and `[2, N, 3]` may become `[2, 3N]`. But
//! `[N, 6]` may not become `[3, 2N]`, whose first row would hold elements of several images.
//!
//! ONNX operators: `Reshape`; see [the specification](https://onnx.ai/onnx/operators/).

use super::known::Number;
use super::numbers::size_of;
use super::result::Result;
use crate::graph::{Dim, Shape};

/// What an extent of 0 in a target means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Zero {
    /// The operand's extent on that axis.
    Keeps,
    /// No elements.
    Itself,
}

/// An extent of a target.
#[derive(Clone, Copy)]
enum Extent {
    Size(usize),
    /// So many times N.
    Images(usize),
    Rest,
}

/// The shape that `current` gets. `fixed_batch` is the batch that the model's file fixes, which then may stand in the target as a number.
pub(super) fn target(
    current: &Shape,
    numbers: &[Number],
    zero: Zero,
    fixed_batch: Option<usize>,
) -> Result<Shape> {
    let shown: Vec<String> = numbers.iter().map(Number::to_string).collect();
    let shown = format!("cannot reshape {current} to [{}]", shown.join(", "));
    let extents = numbers
        .iter()
        .enumerate()
        .map(|(axis, &number)| extent(current, axis, number, zero))
        .collect::<Result<Vec<Extent>>>()
        .map_err(|problem| format!("{shown}: {problem}"))?;
    let around = match current.around_batch() {
        Some(Dim::Batch { outer, inner }) => Some((outer, inner)),
        _ => None,
    };
    let shape = match around {
        None => without_batch(current, &extents),
        Some(around) => with_batch(around, &extents, fixed_batch),
    };
    shape.map_err(|problem| format!("{shown}: {problem}"))
}

fn extent(current: &Shape, axis: usize, number: Number, zero: Zero) -> Result<Extent> {
    match number {
        Number::Fixed(-1) => Ok(Extent::Rest),
        Number::Fixed(0) if zero == Zero::Keeps => match current.0.get(axis) {
            Some(Dim::Size(size)) => Ok(Extent::Size(*size)),
            Some(Dim::Batch { outer, inner }) => Ok(Extent::Images(outer * inner)),
            None => Err(format!("there is no axis {axis} to keep")),
        },
        Number::Fixed(size) => size_of(size).map(Extent::Size),
        Number::Batch(factor) => size_of(factor).map(Extent::Images),
        Number::Image { .. } => Err(format!("expected an extent, got {number}")),
    }
}

const DIFFERS: &str = "the number of elements differs";
const MIXES: &str = "this mixes the images of a batch";

fn without_batch(current: &Shape, extents: &[Extent]) -> Result<Shape> {
    if extents
        .iter()
        .any(|extent| matches!(extent, Extent::Images(_)))
    {
        return Err(
            "the operand is the same for all images, but the target has the batch".to_string(),
        );
    }
    let sizes = resolved(extents, current.elements_per_image())?;
    Ok(Shape::fixed(&sizes))
}

/// The extents as numbers, for one image, where the rest is what `count` elements leave.
fn resolved(extents: &[Extent], count: usize) -> Result<Vec<usize>> {
    let given = extents
        .iter()
        .try_fold(1_usize, |product, extent| match extent {
            Extent::Size(size) | Extent::Images(size) => product.checked_mul(*size),
            Extent::Rest => Some(product),
        });
    let given = given.ok_or(DIFFERS)?;
    let n_rests = extents
        .iter()
        .filter(|extent| matches!(extent, Extent::Rest))
        .count();
    let rest = match n_rests {
        0 if given == count => 1,
        1 if given > 0 && count.is_multiple_of(given) => count / given,
        0 | 1 => return Err(DIFFERS.to_string()),
        _ => return Err("only one extent can be −1".to_string()),
    };
    let size = |extent: &Extent| match extent {
        Extent::Size(size) | Extent::Images(size) => *size,
        Extent::Rest => rest,
    };
    Ok(extents.iter().map(size).collect())
}

fn with_batch(
    around: (usize, usize),
    extents: &[Extent],
    fixed_batch: Option<usize>,
) -> Result<Shape> {
    let images: Vec<usize> = (0..extents.len())
        .filter(|&axis| matches!(extents[axis], Extent::Images(_)))
        .collect();
    let rest = extents
        .iter()
        .position(|extent| matches!(extent, Extent::Rest));
    let count = around.0 * around.1;
    match (images.as_slice(), fixed_batch, rest) {
        (&[axis], _, _) => {
            let sizes = resolved(extents, count)?;
            batch_on(around, &sizes, axis, 1).ok_or_else(|| MIXES.to_string())
        }
        (&[], Some(batch), _) => {
            let count = count.checked_mul(batch).ok_or(DIFFERS)?;
            let sizes = resolved(extents, count)?;
            found(around, &sizes, batch)
        }
        (&[], None, Some(axis)) => {
            let sizes = resolved(extents, count)?;
            batch_on(around, &sizes, axis, 1).ok_or_else(|| MIXES.to_string())
        }
        (&[], None, None) => Err(
            "the target has no batch; the model's file fixes its batch in some places and leaves it open in others"
                .to_string(),
        ),
        _ => Err("the batch can stand on one axis only".to_string()),
    }
}

/// The shape with the batch on the axis of fewest elements per image on which it can stand, the first of several.
fn found(around: (usize, usize), sizes: &[usize], batch: usize) -> Result<Shape> {
    let factor = |shape: &Shape| {
        shape
            .0
            .iter()
            .find(|dim| dim.is_batch())
            .map(|dim| dim.concrete(1))
    };
    (0..sizes.len())
        .filter_map(|axis| batch_on(around, sizes, axis, batch))
        .min_by_key(factor)
        .ok_or_else(|| MIXES.to_string())
}

/// The shape with `batch` images on that axis, if the elements of each image stay at their places.
fn batch_on(
    (outer, inner): (usize, usize),
    sizes: &[usize],
    axis: usize,
    batch: usize,
) -> Option<Shape> {
    let before: usize = sizes[..axis].iter().product();
    let after: usize = sizes[axis + 1..].iter().product();
    let exactly =
        |count: usize, part: usize| (part > 0 && count.is_multiple_of(part)).then(|| count / part);
    let dim = Dim::Batch {
        outer: exactly(outer, before)?,
        inner: exactly(inner, after)?,
    };
    if dim.concrete(batch) != sizes[axis] {
        return None;
    }
    let mut shape = Shape::fixed(sizes);
    shape.0[axis] = dim;
    Some(shape)
}
