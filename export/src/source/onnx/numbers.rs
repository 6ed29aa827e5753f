//! Axes, extents and other small numbers that a file states.

use super::result::Result;

/// An axis that may count from the end.
pub(super) fn axis_of(axis: i64, rank: usize) -> Result<usize> {
    let counted = match axis {
        0.. => usize::try_from(axis).ok(),
        _ => usize::try_from(axis.unsigned_abs())
            .ok()
            .and_then(|back| rank.checked_sub(back)),
    };
    counted
        .filter(|&axis| axis < rank)
        .ok_or_else(|| format!("there is no axis {axis} of {rank}"))
}

/// Axes that may count from the end.
pub(super) fn axes_of(axes: &[i64], rank: usize) -> Result<Vec<usize>> {
    axes.iter().map(|&axis| axis_of(axis, rank)).collect()
}

/// An extent, a stride or another small count.
pub(super) fn size_of(number: i64) -> Result<usize> {
    match number {
        0..=0x7fff_ffff => Ok(number as usize),
        _ => Err(format!(
            "expected a number from 0 to {}, got {number}",
            0x7fff_ffff
        )),
    }
}

/// Extents, strides or other small counts.
pub(super) fn sizes_of(numbers: &[i64]) -> Result<Vec<usize>> {
    numbers.iter().map(|&number| size_of(number)).collect()
}
