//! Steps without windows: elements in other places, sums over axes and products of matrices. They are a small part of any network, and plain loops.

use super::{Place, Run};
use crate::graph::Reduction;
use crate::kernels::product::Matrices;
use crate::kernels::table::OUTSIDE;
use crate::lanes::LANES;
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
        let (plain, blocked) = (of.count * of.channels * of.pixels(), of.count * of.floats());
        let channels = of.count * of.channels;
        let (n_from, n_to) = match self.order {
            Order::ToBlocks => (plain, blocked),
            Order::ToPlain => (blocked, plain),
        };
        for image in run.share(run.n_images) {
            let from = run.operand(self.from, image).read(0, n_from);
            let to = run.slot(self.to, image).write(0, n_to);
            for channel in 0..channels {
                let row = channel * of.pixels()..(channel + 1) * of.pixels();
                let first = of.place(channel / of.channels, channel % of.channels, 0);
                match self.order {
                    Order::ToBlocks => {
                        let lanes = to[first..].iter_mut().step_by(LANES);
                        lanes.zip(&from[row]).for_each(|(to, from)| *to = *from);
                    }
                    Order::ToPlain => {
                        let lanes = from[first..].iter().step_by(LANES);
                        to[row]
                            .iter_mut()
                            .zip(lanes)
                            .for_each(|(to, from)| *to = *from);
                    }
                }
            }
        }
    }
}

/// Elements, or whole vectors, in other places.
pub(crate) struct Gather {
    /// For each unit of the result the unit of the operand, or [`OUTSIDE`].
    pub table: Vec<u32>,
    /// Floats of a unit.
    pub unit: usize,
    pub fill: f32,
    pub from: Place,
    pub n_from: usize,
    pub to: usize,
}

impl Gather {
    pub fn run(&self, run: &Run<'_>) {
        for image in run.share(run.n_images) {
            let from = run.operand(self.from, image).read(0, self.n_from);
            let to = run
                .slot(self.to, image)
                .write(0, self.table.len() * self.unit);
            for (to, &place) in to.chunks_exact_mut(self.unit).zip(&self.table) {
                match place {
                    OUTSIDE => to.fill(self.fill),
                    place => to.copy_from_slice(&from[place as usize * self.unit..][..self.unit]),
                }
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
    pub from: Place,
    pub n_from: usize,
    pub to: usize,
}

impl Reduce {
    /// In f64: energies are sums of thousands of terms, and this is a small part of the work.
    pub fn run(&self, run: &Run<'_>) {
        for image in run.share(run.n_images) {
            let from = run.operand(self.from, image).read(0, self.n_from);
            let to = run.slot(self.to, image).write(0, self.first.len());
            for (to, &first) in to.iter_mut().zip(&self.first) {
                let elements = self
                    .offset
                    .iter()
                    .map(|&offset| from[(first + offset) as usize]);
                *to = match self.kind {
                    Reduction::Sum => sum(elements) as f32,
                    Reduction::Mean => (sum(elements) / self.offset.len() as f64) as f32,
                    Reduction::Max => elements.fold(f32::NEG_INFINITY, |most, x| {
                        if x > most || x.is_nan() { x } else { most }
                    }),
                };
            }
        }
    }
}

/// Four sums side by side, which do not wait for each other.
fn sum(elements: impl ExactSizeIterator<Item = f32>) -> f64 {
    let mut sums = [0.0; 4];
    for (index, x) in elements.enumerate() {
        sums[index % 4] += f64::from(x);
    }
    sums.iter().sum()
}

/// `e^(x − max) / Σ e^(x − max)` along an axis; places as in [`Reduce`].
pub(crate) struct Softmax {
    pub first: Vec<u32>,
    pub offset: Vec<u32>,
    pub from: Place,
    pub to: usize,
}

impl Softmax {
    pub fn run(&self, run: &Run<'_>) {
        let length = self.first.len() * self.offset.len();
        for image in run.share(run.n_images) {
            let from = run.operand(self.from, image).read(0, length);
            let to = run.slot(self.to, image).write(0, length);
            for &first in &self.first {
                let place = |offset: &u32| (first + offset) as usize;
                let greatest = self
                    .offset
                    .iter()
                    .map(|offset| from[place(offset)])
                    .fold(f32::NEG_INFINITY, f32::max);
                let mut whole = 0.0;
                for offset in &self.offset {
                    let power = (from[place(offset)] - greatest).exp();
                    to[place(offset)] = power;
                    whole += f64::from(power);
                }
                let share = (1.0 / whole) as f32;
                self.offset
                    .iter()
                    .for_each(|offset| to[place(offset)] *= share);
            }
        }
    }
}

/// Products of matrices `[M, K]` and `[K, P]`.
pub(crate) struct MatMul {
    /// For each matrix of the result, the first floats of its factors.
    pub pairs: Vec<(usize, usize)>,
    pub sizes: [usize; 3],
    pub left: Place,
    pub right: Place,
    pub n_left: usize,
    pub n_right: usize,
    pub to: usize,
}

impl MatMul {
    pub fn run(&self, run: &Run<'_>) {
        let [m, k, p] = self.sizes;
        for image in run.share(run.n_images) {
            let left = run.operand(self.left, image).read(0, self.n_left);
            let right = run.operand(self.right, image).read(0, self.n_right);
            let to = run.slot(self.to, image).write(0, self.pairs.len() * m * p);
            for (to, &(left_at, right_at)) in to.chunks_exact_mut(m * p).zip(&self.pairs) {
                run.processor.run(Matrices {
                    left: &left[left_at..left_at + m * k],
                    right: &right[right_at..right_at + k * p],
                    y: to,
                    depth: k,
                    columns: p,
                });
            }
        }
    }
}
