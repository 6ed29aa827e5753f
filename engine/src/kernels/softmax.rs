//! The softmax of a row.

use crate::lanes::{Kernel, LANES, Lanes, exp};

/// `y = e^(x − max x) / Σ e^(x − max x)`, both of the same length.
pub(crate) struct Softmax<'a> {
    pub x: &'a [f32],
    pub y: &'a mut [f32],
}

impl Kernel for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let (whole, tail) = self.x.as_chunks::<LANES>();
        // What is behind the end counts as e^−∞.
        let mut last = [f32::NEG_INFINITY; LANES];
        last[..tail.len()].copy_from_slice(tail);
        let mut most = load::<V>(&last);
        for x in whole {
            most = most.max(load(x));
        }
        let most = V::splat(lanes(most).into_iter().fold(f32::NEG_INFINITY, f32::max));
        let (to, to_tail) = self.y.as_chunks_mut::<LANES>();
        let mut sums = exp(load::<V>(&last).sub(most));
        to_tail.copy_from_slice(&lanes(sums)[..tail.len()]);
        for (x, y) in whole.iter().zip(&mut *to) {
            let power = exp(load::<V>(x).sub(most));
            *y = lanes(power);
            sums = sums.add(power);
        }
        let sum: f64 = lanes(sums).into_iter().map(f64::from).sum();
        let share = (1.0 / sum) as f32;
        self.y.iter_mut().for_each(|y| *y *= share);
    }
}

#[inline(always)]
fn load<V: Lanes>(floats: &[f32; LANES]) -> V {
    // SAFETY: the array has the floats of a vector.
    unsafe { V::load(floats.as_ptr()) }
}

#[inline(always)]
fn lanes<V: Lanes>(vector: V) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    // SAFETY: the array has the floats of a vector.
    unsafe { vector.store(lanes.as_mut_ptr()) };
    lanes
}
