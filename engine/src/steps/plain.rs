//! Steps without windows: elements in other places, sums over axes and products of matrices.

use super::{Place, Run, Step};
use crate::graph::Reduction;
use crate::kernels::product::Matrices;
use crate::kernels::softmax;
use crate::kernels::table::OUTSIDE;
use crate::lanes::{LANES, on_widest_vectors};
use crate::layout::Pictures;

/// From the layout of the file to blocks, or back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    ToBlocks,
    ToPlain,
}

/// Pictures in the other layout.
pub(crate) struct Reorder {
    pub order: Order,
    pub pictures: Pictures,
    pub from: Place,
    pub to: usize,
}

impl Reorder {
    pub fn run(&self, run: &Run<'_>) {
        let of = &self.pictures;
        let (n_pixels, n_blocks) = (of.pixels(), of.count * of.blocks());
        for item in run.share(run.n_images * n_blocks) {
            let (image, block) = (item / n_blocks, item % n_blocks);
            let (picture, channel) = (block / of.blocks(), block % of.blocks() * LANES);
            let n_channels = (of.channels - channel).min(LANES);
            let plain = (picture * of.channels + channel) * n_pixels;
            let (from, to) = (run.operand(self.from, image), run.slot(self.to, image));
            match self.order {
                Order::ToBlocks => {
                    let rows = from.read(plain, n_channels * n_pixels);
                    let block = to.write(block * n_pixels * LANES, n_pixels * LANES);
                    for (lane, row) in rows.chunks_exact(n_pixels).enumerate() {
                        let lanes = block[lane..].iter_mut().step_by(LANES);
                        lanes.zip(row).for_each(|(to, from)| *to = *from);
                    }
                }
                Order::ToPlain => {
                    let block = from.read(block * n_pixels * LANES, n_pixels * LANES);
                    let rows = to.write(plain, n_channels * n_pixels);
                    for (lane, row) in rows.chunks_exact_mut(n_pixels).enumerate() {
                        let lanes = block[lane..].iter().step_by(LANES);
                        row.iter_mut().zip(lanes).for_each(|(to, from)| *to = *from);
                    }
                }
            }
        }
    }
}

/// Elements in other places.
pub(crate) struct Gather {
    /// For each unit of the result the first float of the operand that it is made of, or [`OUTSIDE`].
    pub table: Vec<u32>,
    pub unit: Unit,
    pub fill: f32,
    pub from: Place,
    pub n_from: usize,
    pub to: usize,
}

/// Floats of a result that lie beside each other, and what they are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// So many floats that lie beside each other in the operand too.
    Copied(usize),
    /// So many times the same float.
    Repeated(usize),
}

impl Unit {
    fn length(self) -> usize {
        let (Self::Copied(length) | Self::Repeated(length)) = self;
        length
    }
}

/// Floats that a thread moves at least before another takes over.
const PIECE: usize = 4096;

impl Gather {
    pub fn run(&self, run: &Run<'_>) {
        let length = self.unit.length();
        let of_piece = PIECE.div_ceil(length);
        let n_pieces = self.table.len().div_ceil(of_piece);
        for item in run.share(run.n_images * n_pieces) {
            let (image, first) = (item / n_pieces, item % n_pieces * of_piece);
            let table = &self.table[first..self.table.len().min(first + of_piece)];
            let from = run.operand(self.from, image).read(0, self.n_from);
            let to = run.slot(self.to, image);
            let to = to.write(first * length, table.len() * length);
            let units = to.chunks_exact_mut(length).zip(table);
            match self.unit {
                Unit::Copied(1) => {
                    for (to, &place) in to.iter_mut().zip(table) {
                        *to = from.get(place as usize).copied().unwrap_or(self.fill);
                    }
                }
                Unit::Copied(_) => units.for_each(|(to, &place)| match place {
                    OUTSIDE => to.fill(self.fill),
                    place => to.copy_from_slice(&from[place as usize..][..length]),
                }),
                Unit::Repeated(_) => units.for_each(|(to, &place)| {
                    to.fill(from.get(place as usize).copied().unwrap_or(self.fill));
                }),
            }
        }
    }
}

/// Operands behind each other along an axis.
pub(crate) struct Concat {
    /// Each operand, and its floats for each place before the axis.
    pub parts: Vec<(Place, usize)>,
    /// Places before the axis.
    pub n_outer: usize,
    pub to: usize,
}

impl Concat {
    pub fn run(&self, run: &Run<'_>) {
        let row: usize = self.parts.iter().map(|(_, floats)| floats).sum();
        for image in run.share(run.n_images) {
            let to = run.slot(self.to, image).write(0, self.n_outer * row);
            let mut first = 0;
            for &(place, floats) in &self.parts {
                let from = run.operand(place, image).read(0, self.n_outer * floats);
                for (to, from) in to.chunks_exact_mut(row).zip(from.chunks_exact(floats)) {
                    to[first..first + floats].copy_from_slice(from);
                }
                first += floats;
            }
        }
    }
}

/// Sums, means and maxima over axes. The element `(i, j)` that goes into result `i` lies at `first[i] + offset[j]`.
pub(crate) struct Reduce {
    pub kind: Reduction,
    pub first: Vec<u32>,
    pub offset: Vec<u32>,
    /// Whether `offset` counts from 0.
    pub lie_side_by_side: bool,
    pub from: Place,
    pub n_from: usize,
    pub to: usize,
}

impl Reduce {
    /// In f64, since energies are sums of thousands of terms: sixteen sums side by side, which do not wait for each other.
    pub fn run(&self, run: &Run<'_>) {
        let n_results = self.first.len();
        for item in run.share(run.n_images * n_results) {
            let (image, result) = (item / n_results, item % n_results);
            let from = run.operand(self.from, image).read(0, self.n_from);
            let of_result = &from[self.first[result] as usize..];
            run.slot(self.to, image).write(result, 1)[0] = match self.kind {
                Reduction::Sum => self.sum(of_result) as f32,
                Reduction::Mean => (self.sum(of_result) / self.offset.len() as f64) as f32,
                Reduction::Max => {
                    let elements = self.offset.iter();
                    let elements = elements.map(|&offset| of_result[offset as usize]);
                    elements.fold(f32::NEG_INFINITY, |most, x| {
                        if x > most || x.is_nan() { x } else { most }
                    })
                }
            };
        }
    }

    fn sum(&self, elements: &[f32]) -> f64 {
        match self.lie_side_by_side {
            true => on_widest_vectors(|| {
                let (whole, tail) = elements[..self.offset.len()].as_chunks::<LANES>();
                let mut sums = [0.0; LANES];
                for some in whole {
                    for lane in 0..LANES {
                        sums[lane] += f64::from(some[lane]);
                    }
                }
                for (sum, &x) in sums.iter_mut().zip(tail) {
                    *sum += f64::from(x);
                }
                sums.iter().sum()
            }),
            false => {
                let mut sums = [0.0; LANES];
                for offsets in self.offset.chunks(LANES) {
                    for (sum, &offset) in sums.iter_mut().zip(offsets) {
                        *sum += f64::from(elements[offset as usize]);
                    }
                }
                sums.iter().sum()
            }
        }
    }
}

/// `e^(x − max) / Σ e^(x − max)` along an axis; places as in [`Reduce`].
pub(crate) struct Softmax {
    pub first: Vec<u32>,
    pub offset: Vec<u32>,
    pub lie_side_by_side: bool,
    pub from: Place,
    pub to: usize,
}

impl Softmax {
    /// Floats of a row that does not lie side by side, once as they are and once as they become.
    pub fn scratch(&self) -> usize {
        match self.lie_side_by_side {
            true => 0,
            false => 2 * self.offset.len(),
        }
    }

    pub fn run(&self, step: &Step, run: &Run<'_>) {
        let (n_rows, length) = (self.first.len(), self.offset.len());
        for item in run.share(run.n_images * n_rows) {
            let (image, row) = (item / n_rows, item % n_rows);
            let from = run.operand(self.from, image).from(self.first[row] as usize);
            let to = run.slot(self.to, image).from(self.first[row] as usize);
            if self.lie_side_by_side {
                let (x, y) = (from.read(0, length), to.write(0, length));
                run.processor.run(softmax::Softmax { x, y });
                continue;
            }
            let own = run.own_scratch(step);
            let (x, y) = (own.write(0, length), own.write(length, length));
            for (x, &offset) in x.iter_mut().zip(&self.offset) {
                *x = from.read(offset as usize, 1)[0];
            }
            run.processor.run(softmax::Softmax { x, y });
            for (y, &offset) in y.iter().zip(&self.offset) {
                to.write(offset as usize, 1)[0] = *y;
            }
        }
    }
}

/// Products of matrices `[M, K]` and `[K, P]`.
pub(crate) struct MatMul {
    /// For each matrix of the result, the first floats of its factors.
    pub pairs: Vec<(usize, usize)>,
    /// M, K and P.
    pub sizes: [usize; 3],
    pub left: Factor,
    pub right: Factor,
    pub to: usize,
    /// Vectors of a panel of columns.
    pub vectors: usize,
}

/// A factor of a product.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Factor {
    pub place: Place,
    pub n_floats: usize,
    /// From a row to the next, and from a column to the next, in floats: a matrix may lie transposed.
    pub steps: [usize; 2],
}

/// Rows of a product that a thread computes at once.
const ROWS: usize = 96;

impl MatMul {
    /// Floats of a panel of columns of the right factor, and of what some rows give with it.
    pub fn scratch(&self) -> usize {
        (self.sizes[1] + ROWS) * self.vectors * LANES
    }

    pub fn run(&self, step: &Step, run: &Run<'_>) {
        let [m, k, p] = self.sizes;
        let width = self.vectors * LANES;
        let (n_panels, n_pieces) = (p.div_ceil(width), m.div_ceil(ROWS));
        let panel = run.own_scratch(step);
        let products = panel.from(k * width);
        let mut packed = None;
        for item in run.share(run.n_images * self.pairs.len() * n_panels * n_pieces) {
            let (column, piece) = (item / n_pieces % n_panels * width, item % n_pieces);
            let matrix = item / n_pieces / n_panels;
            let (image, matrix) = (matrix / self.pairs.len(), matrix % self.pairs.len());
            let (left_at, right_at) = self.pairs[matrix];
            let n_columns = (p - column).min(width);
            if packed != Some(item / n_pieces) {
                packed = Some(item / n_pieces);
                let right = run.operand(self.right.place, image);
                let right = right.read(0, self.right.n_floats);
                let panel = panel.write(0, k * width);
                self.pack(&right[right_at..], column, n_columns, panel);
            }
            let (first, n_rows) = (piece * ROWS, (m - piece * ROWS).min(ROWS));
            let left = run.operand(self.left.place, image);
            let left = &left.read(0, self.left.n_floats)[left_at + first * self.left.steps[0]..];
            run.processor.run(Matrices {
                n_rows,
                depth: k,
                vectors: self.vectors,
                left: left.as_ptr(),
                left_steps: self.left.steps,
                panel: panel.at(0, k * width),
                y: products.at(0, n_rows * width),
                y_row: width,
            });
            let to = run.slot(self.to, image);
            let products = products.read(0, n_rows * width).chunks_exact(width);
            for (row, products) in (first..).zip(products) {
                let to = to.write((matrix * m + row) * p + column, n_columns);
                to.copy_from_slice(&products[..n_columns]);
            }
        }
    }

    /// Some columns of a right factor `[K, P]` as `[K, vectors, 16]`, zeros behind them.
    fn pack(&self, right: &[f32], column: usize, n_columns: usize, panel: &mut [f32]) {
        let [to_row, to_column] = self.right.steps;
        let width = self.vectors * LANES;
        for (row, panel) in panel.chunks_exact_mut(width).enumerate() {
            let from = right[row * to_row + column * to_column..].iter();
            let (columns, behind) = panel.split_at_mut(n_columns);
            let columns = columns.iter_mut().zip(from.step_by(to_column));
            columns.for_each(|(to, from)| *to = *from);
            behind.fill(0.0);
        }
    }
}
