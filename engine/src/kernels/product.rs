//! Products of rows of channels with a panel of weights, the heart of every convolution.
//!
//! A panel has the weights of up to four vectors of outputs, `[depth, vectors, 16]`. Each output of each row is the sum of its products in the order of the
//! depth, whatever the number of rows that are computed together and of slices that the depth is cut into: an image's result does not depend on its company.

use std::ops::Range;

use crate::lanes::{Kernel, LANES, Lanes};

/// Bytes of a panel that stay in the first cache while rows pass.
const SLICE_BYTES: usize = 32 << 10;

/// Rows that lie beside each other: `y[row] = Σ x[row] · panel`, x as `[depth/16, rows, 16]`.
pub(crate) struct Rows {
    pub n_rows: usize,
    pub depth: usize,
    pub vectors: usize,
    pub x: *const f32,
    /// From a block of sixteen of the depth to the next, in floats.
    pub x_block: usize,
    pub panel: *const f32,
    pub y: *mut f32,
    /// From a row of the result to the next, in floats; its vectors lie beside each other.
    pub y_row: usize,
}

/// Pixels at any places: `y[pixel] = Σ over taps x[table[pixel][tap]] · panel[tap]`.
pub(crate) struct Pixels<'a> {
    /// `[pixels, taps]`, see [`super::table`].
    pub table: &'a [u32],
    pub n_taps: usize,
    pub depth: usize,
    pub vectors: usize,
    pub x: *const f32,
    pub x_block: usize,
    /// `[taps, depth, vectors, 16]`
    pub panel: *const f32,
    /// `[vectors, pixels, 16]`
    pub y: *mut f32,
    /// From a vector of the result to the next, in floats.
    pub y_vector: usize,
}

/// Calls a method with the numbers of rows and of vectors as constants.
macro_rules! with_sizes {
    ($self:ident.$method:ident($argument:expr), $rows:expr) => {
        match $self.vectors {
            1 => with_sizes!($self.$method($argument), $rows, 1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
            2 => with_sizes!($self.$method($argument), $rows, 2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
            _ => with_sizes!($self.$method($argument), $rows, 4: 1 2 3 4 5 6),
        }
    };
    ($self:ident.$method:ident($argument:expr), $rows:expr, $vectors:literal: $($count:literal)*) => {
        match $rows {
            $($count if $count <= V::ROWS[$vectors / 2] => $self.$method::<V, $count, $vectors>($argument),)*
            _ => unreachable!("rows are cut into such blocks"),
        }
    };
}

impl Rows {
    /// # Safety
    /// The pointers reach as far as the numbers say.
    #[inline(always)]
    unsafe fn block<V: Lanes, const ROWS: usize, const VECTORS: usize>(
        &self,
        (row, slice): (usize, Range<usize>),
    ) {
        // SAFETY: the caller's.
        unsafe {
            let y = self.y.add(row * self.y_row);
            let mut sums = [[V::zero(); VECTORS]; ROWS];
            if slice.start > 0 {
                for (row, sums) in sums.iter_mut().enumerate() {
                    for (vector, sum) in sums.iter_mut().enumerate() {
                        *sum = V::load(y.add(row * self.y_row + vector * LANES));
                    }
                }
            }
            let mut x = self.x.add(slice.start / LANES * self.x_block + row * LANES);
            let mut panel = self.panel.add(slice.start * VECTORS * LANES);
            // While the first rows read the panel, the one behind it is on its way to the second cache.
            let ahead = match row {
                0 => self.depth * VECTORS * LANES,
                _ => 0,
            };
            let mut left = slice.end - slice.start;
            while left > 0 {
                let here = left.min(LANES);
                if here == LANES {
                    for k in 0..LANES {
                        accumulate::<V, ROWS, VECTORS>(
                            &mut sums,
                            x.add(k),
                            panel.add(k * VECTORS * LANES),
                            ahead,
                        );
                    }
                } else {
                    for k in 0..here {
                        accumulate::<V, ROWS, VECTORS>(
                            &mut sums,
                            x.add(k),
                            panel.add(k * VECTORS * LANES),
                            ahead,
                        );
                    }
                }
                x = x.add(self.x_block);
                panel = panel.add(LANES * VECTORS * LANES);
                left -= here;
            }
            for (row, sums) in sums.iter().enumerate() {
                for (vector, sum) in sums.iter().enumerate() {
                    sum.store(y.add(row * self.y_row + vector * LANES));
                }
            }
        }
    }
}

/// Adds one element of the depth.
///
/// # Safety
/// The pointers reach as far as the numbers say.
#[inline(always)]
unsafe fn accumulate<V: Lanes, const ROWS: usize, const VECTORS: usize>(
    sums: &mut [[V; VECTORS]; ROWS],
    x: *const f32,
    panel: *const f32,
    ahead: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut weights = [V::zero(); VECTORS];
        for (vector, weight) in weights.iter_mut().enumerate() {
            V::prefetch(panel.wrapping_add(ahead + vector * LANES));
            *weight = V::load(panel.add(vector * LANES));
        }
        for (row, sums) in sums.iter_mut().enumerate() {
            let x = V::splat(*x.add(row * LANES));
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum = x.mul_add(weight, *sum);
            }
        }
    }
}

/// Most rows at once with that many vectors.
#[inline(always)]
fn most_rows<V: Lanes>(vectors: usize) -> usize {
    V::ROWS[vectors.trailing_zeros() as usize]
}

impl Kernel for Rows {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let n_blocks = self.n_rows.div_ceil(most_rows::<V>(self.vectors));
        let n_slices = match n_blocks {
            1 => 1,
            _ => (self.depth * self.vectors * LANES * size_of::<f32>()).div_ceil(SLICE_BYTES),
        };
        let n_lines = self.depth.div_ceil(LANES);
        for slice in 0..n_slices {
            let bound = |slice: usize| (slice * n_lines / n_slices * LANES).min(self.depth);
            let slice = bound(slice)..bound(slice + 1);
            for block in 0..n_blocks {
                let bound = |block: usize| block * self.n_rows / n_blocks;
                let (row, end) = (bound(block), bound(block + 1));
                // SAFETY: who made the kernel says that the pointers reach as far as the numbers say.
                unsafe { with_sizes!(self.block((row, slice.clone())), end - row) }
            }
        }
    }
}

/// What pixels outside the picture hold.
static OUTSIDE: [f32; LANES] = [0.0; LANES];

impl Pixels<'_> {
    /// # Safety
    /// The pointers reach as far as the numbers say, and the table names pixels that are there.
    #[inline(always)]
    unsafe fn block<V: Lanes, const ROWS: usize, const VECTORS: usize>(&self, pixel: usize) {
        // SAFETY: the caller's.
        unsafe {
            let mut sums = [[V::zero(); VECTORS]; ROWS];
            let table = &self.table[pixel * self.n_taps..(pixel + ROWS) * self.n_taps];
            for tap in 0..self.n_taps {
                // The pixels of the rows, and how far the next sixteen channels are: nowhere, of pixels outside.
                let mut rows = [OUTSIDE.as_ptr(); ROWS];
                let mut steps = [0; ROWS];
                let mut is_inside = false;
                for row in 0..ROWS {
                    let place = table[row * self.n_taps + tap];
                    if place != super::table::OUTSIDE {
                        rows[row] = self.x.add(place as usize * LANES);
                        steps[row] = self.x_block;
                        is_inside = true;
                    }
                }
                if !is_inside {
                    continue;
                }
                let mut panel = self.panel.add(tap * self.depth * VECTORS * LANES);
                for first in (0..self.depth).step_by(LANES) {
                    for k in 0..(self.depth - first).min(LANES) {
                        let mut weights = [V::zero(); VECTORS];
                        for (vector, weight) in weights.iter_mut().enumerate() {
                            *weight = V::load(panel.add(vector * LANES));
                        }
                        for (row, sums) in sums.iter_mut().enumerate() {
                            let x = V::splat(*rows[row].add(k));
                            for (sum, weight) in sums.iter_mut().zip(weights) {
                                *sum = x.mul_add(weight, *sum);
                            }
                        }
                        panel = panel.add(VECTORS * LANES);
                    }
                    for row in 0..ROWS {
                        rows[row] = rows[row].wrapping_add(steps[row]);
                    }
                }
            }
            for (row, sums) in sums.iter().enumerate() {
                for (vector, sum) in sums.iter().enumerate() {
                    sum.store(self.y.add(vector * self.y_vector + (pixel + row) * LANES));
                }
            }
        }
    }
}

/// Pixels that are computed at once: each has an address of its own, and more of these than registers are slow.
const MOST_PIXELS: usize = 8;

impl Kernel for Pixels<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let n_pixels = self.table.len() / self.n_taps;
        let n_blocks = n_pixels.div_ceil(most_rows::<V>(self.vectors).min(MOST_PIXELS));
        for block in 0..n_blocks {
            let bound = |block: usize| block * n_pixels / n_blocks;
            let (pixel, end) = (bound(block), bound(block + 1));
            // SAFETY: who made the kernel says that the pointers reach as far as the numbers say.
            unsafe { with_sizes!(self.block(pixel), end - pixel) }
        }
    }
}

/// `y = left · right`, plain matrices `[rows, depth]` and `[depth, columns]`.
pub(crate) struct Matrices<'a> {
    pub left: &'a [f32],
    pub right: &'a [f32],
    pub y: &'a mut [f32],
    pub depth: usize,
    pub columns: usize,
}

/// Rows of plain matrices that are computed together.
const MATRIX_ROWS: usize = 4;

impl Matrices<'_> {
    /// A vector of columns of some rows.
    #[inline(always)]
    fn block<V: Lanes, const ROWS: usize>(&mut self, row: usize, column: usize) {
        let mut sums = [V::zero(); ROWS];
        for k in 0..self.depth {
            // SAFETY: the columns of a vector from here on lie in the row.
            let right = unsafe { V::load(self.right[k * self.columns + column..].as_ptr()) };
            for of in 0..ROWS {
                let left = V::splat(self.left[(row + of) * self.depth + k]);
                sums[of] = left.mul_add(right, sums[of]);
            }
        }
        for of in 0..ROWS {
            // SAFETY: as above.
            unsafe { sums[of].store(self.y[(row + of) * self.columns + column..].as_mut_ptr()) };
        }
    }
}

impl Kernel for Matrices<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(mut self) {
        let n_rows = self.y.len() / self.columns;
        let whole = self.columns / LANES * LANES;
        for column in (0..whole).step_by(LANES) {
            let of_four = n_rows / MATRIX_ROWS * MATRIX_ROWS;
            for row in (0..of_four).step_by(MATRIX_ROWS) {
                self.block::<V, MATRIX_ROWS>(row, column);
            }
            for row in of_four..n_rows {
                self.block::<V, 1>(row, column);
            }
        }
        for row in 0..n_rows {
            for column in whole..self.columns {
                let left = &self.left[row * self.depth..(row + 1) * self.depth];
                let right = self.right[column..].iter().step_by(self.columns);
                let products = left.iter().zip(right).map(|(a, b)| a * b);
                self.y[row * self.columns + column] = products.map(f64::from).sum::<f64>() as f32;
            }
        }
    }
}
