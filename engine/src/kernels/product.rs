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

/// Runs a block as a function of its own, with the numbers of rows, of vectors and of lines as constants: in one function with the others, sums would not
/// stay in registers.
macro_rules! with_sizes {
    ($block:expr, $rows:expr, $vectors:expr, $lines:expr) => {
        match ($vectors, $lines) {
            (1, _) => with_sizes!($block, $rows, 1, 1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
            (2, 1) => with_sizes!($block, $rows, 2, 1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
            (2, _) => with_sizes!($block, $rows, 2, 2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
            (_, 1) => with_sizes!($block, $rows, 4, 1: 1 2 3 4 5 6),
            (_, 2) => with_sizes!($block, $rows, 4, 2: 1 2 3 4 5 6),
            _ => with_sizes!($block, $rows, 4, 4: 1 2 3 4 5 6),
        }
    };
    ($block:expr, $rows:expr, $vectors:literal, $lines:literal: $($count:literal)*) => {
        match $rows {
            $($count if $count <= V::ROWS[$vectors / 2] => V::call(Sized::<_, $count, $vectors, $lines>($block)),)*
            _ => unreachable!("rows are cut into such blocks"),
        }
    };
}

/// A block with constant numbers of rows, of vectors, and of lines that are asked for with each element of the depth.
struct Sized<Block, const ROWS: usize, const VECTORS: usize, const LINES: usize>(Block);

/// Some rows with a slice of the depth.
struct RowBlock<'a> {
    rows: &'a Rows,
    row: usize,
    slice: Range<usize>,
    /// Weights that are asked for meanwhile, and how far the next are: nowhere, if all are on their way.
    ahead: *const f32,
    ahead_step: usize,
}

impl<const ROWS: usize, const VECTORS: usize, const LINES: usize> Kernel
    for Sized<RowBlock<'_>, ROWS, VECTORS, LINES>
{
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let RowBlock {
            rows,
            row,
            slice,
            mut ahead,
            ahead_step,
        } = self.0;
        // SAFETY: who made the rows says that the pointers reach as far as the numbers say.
        unsafe {
            let y = rows.y.add(row * rows.y_row);
            let mut sums = [[V::zero(); VECTORS]; ROWS];
            if slice.start > 0 {
                for row in 0..ROWS {
                    for vector in 0..VECTORS {
                        sums[row][vector] = V::load(y.add(row * rows.y_row + vector * LANES));
                    }
                }
            }
            let mut x = rows.x.add(slice.start / LANES * rows.x_block + row * LANES);
            let mut panel = rows.panel.add(slice.start * VECTORS * LANES);
            let mut left = slice.end - slice.start;
            while left > 0 {
                let here = left.min(LANES);
                for k in 0..here {
                    let panel = panel.add(k * VECTORS * LANES);
                    for line in 0..LINES {
                        V::prefetch(ahead.wrapping_add(line * LANES));
                    }
                    ahead = ahead.wrapping_add(ahead_step);
                    let mut weights = [V::zero(); VECTORS];
                    for vector in 0..VECTORS {
                        weights[vector] = V::load(panel.add(vector * LANES));
                    }
                    for row in 0..ROWS {
                        let x = V::splat(*x.add(row * LANES + k));
                        for vector in 0..VECTORS {
                            sums[row][vector] = x.mul_add(weights[vector], sums[row][vector]);
                        }
                    }
                }
                x = x.wrapping_add(rows.x_block);
                panel = panel.wrapping_add(LANES * VECTORS * LANES);
                left -= here;
            }
            for row in 0..ROWS {
                for vector in 0..VECTORS {
                    sums[row][vector].store(y.add(row * rows.y_row + vector * LANES));
                }
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
        let n_sixteens = self.depth.div_ceil(LANES);
        // While rows pass, the panel behind this one is on its way to the second cache, in equal parts, so that no block waits for it.
        let lines = self.vectors.div_ceil(n_blocks).next_power_of_two();
        for slice in 0..n_slices {
            let bound = |slice: usize| (slice * n_sixteens / n_slices * LANES).min(self.depth);
            let slice = bound(slice)..bound(slice + 1);
            let behind = self
                .panel
                .wrapping_add((self.depth + slice.start) * self.vectors * LANES);
            for block in 0..n_blocks {
                let bound = |block: usize| block * self.n_rows / n_blocks;
                let (row, end) = (bound(block), bound(block + 1));
                let (ahead, ahead_step) = match block * lines < self.vectors {
                    true => (block * lines * slice.len() * LANES, lines * LANES),
                    false => (0, 0),
                };
                let block = RowBlock {
                    rows: &self,
                    row,
                    slice: slice.clone(),
                    ahead: behind.wrapping_add(ahead),
                    ahead_step,
                };
                with_sizes!(block, end - row, self.vectors, lines)
            }
        }
    }
}

/// What pixels outside the picture hold.
static OUTSIDE: [f32; LANES] = [0.0; LANES];

/// Some pixels from a first one on.
struct PixelBlock<'a> {
    pixels: &'a Pixels<'a>,
    first: usize,
}

impl<const ROWS: usize, const VECTORS: usize, const LINES: usize> Kernel
    for Sized<PixelBlock<'_>, ROWS, VECTORS, LINES>
{
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let PixelBlock { pixels, first } = self.0;
        // SAFETY: who made the pixels says that the pointers reach as far as the numbers say, and that the table names pixels that are there.
        unsafe {
            let mut sums = [[V::zero(); VECTORS]; ROWS];
            let table = &pixels.table[first * pixels.n_taps..(first + ROWS) * pixels.n_taps];
            for tap in 0..pixels.n_taps {
                // The pixels of the rows, and how far the next sixteen channels are: nowhere, of pixels outside.
                let mut rows = [OUTSIDE.as_ptr(); ROWS];
                let mut steps = [0; ROWS];
                let mut is_inside = false;
                for row in 0..ROWS {
                    let place = table[row * pixels.n_taps + tap];
                    if place != super::table::OUTSIDE {
                        rows[row] = pixels.x.add(place as usize * LANES);
                        steps[row] = pixels.x_block;
                        is_inside = true;
                    }
                }
                if !is_inside {
                    continue;
                }
                let mut panel = pixels.panel.add(tap * pixels.depth * VECTORS * LANES);
                let mut left = pixels.depth;
                while left > 0 {
                    let here = left.min(LANES);
                    for k in 0..here {
                        let mut weights = [V::zero(); VECTORS];
                        for vector in 0..VECTORS {
                            weights[vector] = V::load(panel.add(vector * LANES));
                        }
                        for row in 0..ROWS {
                            let x = V::splat(*rows[row].add(k));
                            for vector in 0..VECTORS {
                                sums[row][vector] = x.mul_add(weights[vector], sums[row][vector]);
                            }
                        }
                        panel = panel.add(VECTORS * LANES);
                    }
                    for row in 0..ROWS {
                        rows[row] = rows[row].wrapping_add(steps[row]);
                    }
                    left -= here;
                }
            }
            for row in 0..ROWS {
                for vector in 0..VECTORS {
                    let y = pixels
                        .y
                        .add(vector * pixels.y_vector + (first + row) * LANES);
                    sums[row][vector].store(y);
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
            let (first, end) = (bound(block), bound(block + 1));
            let block = PixelBlock {
                pixels: &self,
                first,
            };
            with_sizes!(block, end - first, self.vectors, 1)
        }
    }
}

/// `y = left · panel`: rows of a plain matrix, or of a transposed one, with some vectors of columns of another.
pub(crate) struct Matrices {
    pub n_rows: usize,
    pub depth: usize,
    pub vectors: usize,
    pub left: *const f32,
    /// From a row to the next, and from an element of the depth to the next, in floats.
    pub left_steps: [usize; 2],
    /// `[depth, vectors, 16]`
    pub panel: *const f32,
    pub y: *mut f32,
    /// From a row of the result to the next, in floats; its vectors lie beside each other.
    pub y_row: usize,
}

/// Some rows of a plain matrix from a first one on, with a slice of the depth.
struct MatrixBlock<'a> {
    matrices: &'a Matrices,
    first: usize,
    slice: Range<usize>,
}

impl<const ROWS: usize, const VECTORS: usize, const LINES: usize> Kernel
    for Sized<MatrixBlock<'_>, ROWS, VECTORS, LINES>
{
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let MatrixBlock {
            matrices,
            first,
            slice,
        } = self.0;
        let [to_row, to_deeper] = matrices.left_steps;
        // SAFETY: who made the matrices says that the pointers reach as far as the numbers say.
        unsafe {
            let y = matrices.y.add(first * matrices.y_row);
            let mut sums = [[V::zero(); VECTORS]; ROWS];
            if slice.start > 0 {
                for row in 0..ROWS {
                    for vector in 0..VECTORS {
                        sums[row][vector] = V::load(y.add(row * matrices.y_row + vector * LANES));
                    }
                }
            }
            let mut left = matrices.left.add(first * to_row + slice.start * to_deeper);
            let mut panel = matrices.panel.add(slice.start * VECTORS * LANES);
            for _ in slice {
                let mut weights = [V::zero(); VECTORS];
                for vector in 0..VECTORS {
                    weights[vector] = V::load(panel.add(vector * LANES));
                }
                for row in 0..ROWS {
                    let x = V::splat(*left.add(row * to_row));
                    for vector in 0..VECTORS {
                        sums[row][vector] = x.mul_add(weights[vector], sums[row][vector]);
                    }
                }
                left = left.wrapping_add(to_deeper);
                panel = panel.add(VECTORS * LANES);
            }
            for row in 0..ROWS {
                for vector in 0..VECTORS {
                    sums[row][vector].store(y.add(row * matrices.y_row + vector * LANES));
                }
            }
        }
    }
}

impl Kernel for Matrices {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let n_blocks = self.n_rows.div_ceil(most_rows::<V>(self.vectors));
        let n_slices = (self.depth * self.vectors * LANES * size_of::<f32>()).div_ceil(SLICE_BYTES);
        for slice in 0..n_slices {
            let bound = |slice: usize| slice * self.depth / n_slices;
            let slice = bound(slice)..bound(slice + 1);
            for block in 0..n_blocks {
                let bound = |block: usize| block * self.n_rows / n_blocks;
                let (first, end) = (bound(block), bound(block + 1));
                let block = MatrixBlock {
                    matrices: &self,
                    first,
                    slice: slice.clone(),
                };
                with_sizes!(block, end - first, self.vectors, 1)
            }
        }
    }
}
