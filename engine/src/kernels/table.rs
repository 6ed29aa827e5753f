//! Which pixel of the operand each tap of a window sees, for windows of every kind; and pools, which need nothing more.

use crate::graph::Windows;
use crate::lanes::{Kernel, LANES, Lanes};
use crate::layout::Pictures;

/// A tap that sees nothing: a pad, or between the pixels of a stride.
pub(crate) const OUTSIDE: u32 = u32::MAX;

/// `[pixels of the result, taps]`: the pixel of the operand.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Table {
    pub n_taps: usize,
    pub pixels: Vec<u32>,
}

/// Which way windows are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Windows lie over the operand, each makes a pixel of the result.
    Gather,
    /// Each pixel of the operand spreads over a window of the result.
    Spread,
}

impl Table {
    pub fn new(windows: &Windows, direction: Direction, from: &Pictures, to: &Pictures) -> Self {
        let seen = |axis: usize, place: usize, tap: usize, extent: usize| {
            let (stride, pad) = (windows.strides[axis], windows.pads[axis]);
            let offset = windows.dilations[axis] * tap;
            let place = match direction {
                Direction::Gather => (place * stride + offset).checked_sub(pad)?,
                Direction::Spread => {
                    let scaled = (place + pad).checked_sub(offset)?;
                    (scaled % stride == 0).then_some(scaled / stride)?
                }
            };
            (place < extent).then_some(place)
        };
        let [rows, columns] = windows.kernel;
        let mut pixels = Vec::with_capacity(to.pixels() * rows * columns);
        for y in 0..to.rows {
            for x in 0..to.columns {
                for (row, column) in
                    (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)))
                {
                    let place = seen(0, y, row, from.rows).zip(seen(1, x, column, from.columns));
                    pixels.push(place.map_or(OUTSIDE, |(y, x)| (y * from.columns + x) as u32));
                }
            }
        }
        Self {
            n_taps: rows * columns,
            pixels,
        }
    }

    /// The rows of some pixels.
    pub fn of(&self, pixels: std::ops::Range<usize>) -> &[u32] {
        &self.pixels[pixels.start * self.n_taps..pixels.end * self.n_taps]
    }
}

/// How a pool makes one pixel of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// Zeros outside count.
    Average,
    Max,
}

/// Some pixels of a block of channels of a pool.
pub(crate) struct Pool<'a> {
    pub pooling: Pooling,
    pub table: &'a [u32],
    pub n_taps: usize,
    pub x: *const f32,
    pub y: *mut f32,
}

impl Kernel for Pool<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let share = V::splat(1.0 / self.n_taps as f32);
        for (pixel, taps) in self.table.chunks_exact(self.n_taps).enumerate() {
            let inside = taps.iter().filter(|&&place| place != OUTSIDE);
            // SAFETY: who made the kernel says that the table names pixels of x, and that y has as many as the table.
            unsafe {
                let load = |&place: &u32| V::load(self.x.add(place as usize * LANES));
                let result = match self.pooling {
                    Pooling::Average => inside
                        .map(load)
                        .fold(V::zero(), |sum, x| sum.add(x))
                        .mul(share),
                    Pooling::Max => inside
                        .map(load)
                        .fold(V::splat(f32::NEG_INFINITY), |most, x| {
                            x.if_equal(x, most.if_equal(most, most.max(x), most), x)
                        }),
                };
                result.store(self.y.add(pixel * LANES));
            }
        }
    }
}

/// Pixels of a convolution to few channels, made of the products of every pixel of the operand with every tap.
pub(crate) struct Columns<'a> {
    pub table: &'a [u32],
    pub n_taps: usize,
    /// Channels of the result, at most sixteen.
    pub n_channels: usize,
    /// `[pixels of the operand, width]`, of which element `tap · channels + channel` is the product.
    pub products: *const f32,
    pub width: usize,
    pub y: *mut f32,
}

impl Kernel for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        for (pixel, taps) in self.table.chunks_exact(self.n_taps).enumerate() {
            let mut sum = V::zero();
            for (tap, &place) in taps
                .iter()
                .enumerate()
                .filter(|&(_, &place)| place != OUTSIDE)
            {
                // SAFETY: who made the kernel says that products has the pixels of the table, and `width` room for a vector behind the last tap.
                sum = sum.add(unsafe {
                    V::load(
                        self.products
                            .add(place as usize * self.width + tap * self.n_channels),
                    )
                });
            }
            // SAFETY: and that y has as many pixels as the table.
            unsafe { sum.store(self.y.add(pixel * LANES)) }
        }
    }
}
