//! How a convolution is computed, and its weights as that form wants them.

use crate::constants::Constants;
use crate::graph::Windows;
use crate::kernels::table::{Direction, Table};
use crate::kernels::winograd::{FormName, Points};
use crate::lanes::{LANES, Processor, on_widest_vectors};
use crate::layout::Pictures;
use crate::steps::{Columns, Direct, Panel, Place, Winograd, Work};
use crate::tiles::Tiles;

/// What streaming a weight from memory costs, in products, for an image of a batch of a few. Weights outgrow the caches in wide networks, where a form
/// with fewer products has more of them.
const COST_OF_WEIGHT: usize = 8;
/// Fewest channels, on both sides, that pay for maps to points and back.
const FEWEST_CHANNELS: usize = 12;
/// Most channels of a result for which the products of all taps come first.
const FEW_CHANNELS: usize = 4;

/// A convolution or a transpose of one, on the way to a step.
#[derive(Clone, Copy)]
pub(crate) struct Convolution<'a> {
    pub windows: Windows,
    pub direction: Direction,
    /// `[O, I/groups, kh, kw]`, of a transpose `[I, O/groups, kh, kw]`.
    pub weight: &'a [f32],
    pub from: Place,
    pub pictures: Pictures,
    pub result: Pictures,
}

impl<'a> Convolution<'a> {
    fn n_taps(&self) -> usize {
        self.windows.kernel[0] * self.windows.kernel[1]
    }

    /// The weight from a channel to another at a tap; 0 between groups.
    fn weight(&self, output: usize, input: usize, tap: usize) -> f32 {
        let groups = self.windows.groups;
        let (outputs, inputs) = (
            self.result.channels / groups,
            self.pictures.channels / groups,
        );
        if output / outputs != input / inputs {
            return 0.0;
        }
        let row = match self.direction {
            Direction::Gather => output * inputs + input % inputs,
            Direction::Spread => input * outputs + output % outputs,
        };
        self.weight[row * self.n_taps() + tap]
    }

    /// The step of it alone.
    pub fn work(self, packer: &mut Packer<'_, 'a>) -> Work {
        let windows = self.windows;
        let few = self.result.channels <= FEW_CHANNELS && self.n_taps() > 1 && windows.groups == 1;
        if few {
            return self.columns(packer);
        }
        let keeps_size = windows.kernel == [3, 3]
            && windows.strides == [1, 1]
            && windows.dilations == [1, 1]
            && windows.pads == [1, 1]
            && windows.groups == 1
            && (self.result.rows, self.result.columns)
                == (self.pictures.rows, self.pictures.columns);
        let wide = self.pictures.channels.min(self.result.channels) >= FEWEST_CHANNELS;
        let direct = self.result.pixels() * self.n_taps() + COST_OF_WEIGHT * self.n_taps();
        let best = self.best(packer, [FormName::Four, FormName::Two]);
        match best.filter(|&form| keeps_size && wide && self.cost(form) < direct) {
            Some(form) => self.winograd(packer, form),
            None => self.direct(packer),
        }
    }

    /// The step of it together with its pool.
    pub fn pooled_work(self, packer: &mut Packer<'_, 'a>) -> Work {
        let forms = match self.direction {
            Direction::Gather => [FormName::PooledFour, FormName::PooledTwo],
            Direction::Spread => [
                FormName::PooledFourTransposed,
                FormName::PooledTwoTransposed,
            ],
        };
        let best = self.best(packer, forms);
        self.winograd(packer, best.expect("of single pixels, pools are apart"))
    }

    /// Of the forms whose tiles are allowed, the one that costs least.
    fn best(&self, packer: &Packer<'_, '_>, forms: [FormName; 2]) -> Option<FormName> {
        let allowed = forms
            .into_iter()
            .filter(|form| form.tiles() <= packer.tiles);
        allowed.min_by_key(|&form| self.cost(form))
    }

    /// Products and weights for a pair of channels.
    fn cost(&self, form: FormName) -> usize {
        let geometry = form.geometry();
        let points = Points::new(geometry.groups);
        let tiles = |extent: usize| match geometry.step_out < geometry.out {
            true => (extent / 2).div_ceil(geometry.step_in),
            false => extent.div_ceil(geometry.step_out),
        };
        let n_tiles = tiles(self.result.rows) * tiles(self.result.columns);
        n_tiles * points.rows_per_tile() + COST_OF_WEIGHT * points.rows.len()
    }

    fn direct(self, packer: &mut Packer<'_, 'a>) -> Work {
        let groups = self.windows.groups;
        let (outputs, inputs) = (
            self.result.channels / groups,
            self.pictures.channels / groups,
        );
        let mut panels = match groups {
            1 => packer.panels(self.result.blocks(), self.pictures.channels),
            // The channels of the groups that a block of outputs belongs to.
            _ => (0..self.result.blocks())
                .map(|block| {
                    let last = ((block + 1) * LANES).min(self.result.channels) - 1;
                    let (first_group, last_group) = (block * LANES / outputs, last / outputs);
                    let from_block = first_group * inputs / LANES;
                    let depth = (last_group + 1) * inputs - from_block * LANES;
                    Panel {
                        block,
                        vectors: 1,
                        from_block,
                        depth,
                        weights: 0,
                    }
                })
                .collect(),
        };
        for panel in &mut panels {
            let first = panel.from_block * LANES;
            packer.pack(
                panel,
                self.n_taps(),
                self.result.channels,
                move |output, input, tap| self.weight(output, first + input, tap),
            );
        }
        Work::Direct(Direct {
            table: Table::new(&self.windows, self.direction, &self.pictures, &self.result),
            panels,
            from: self.from,
            pictures: self.pictures,
            result: self.result,
        })
    }

    fn columns(self, packer: &mut Packer<'_, 'a>) -> Work {
        let n_channels = self.result.channels;
        let n_products = self.n_taps() * n_channels;
        let mut panels = packer.panels(n_products.div_ceil(LANES), self.pictures.channels);
        for panel in &mut panels {
            packer.pack(panel, 1, n_products, move |product, input, _| {
                self.weight(product % n_channels, input, product / n_channels)
            });
        }
        Work::Columns(Columns {
            table: Table::new(&self.windows, self.direction, &self.pictures, &self.result),
            panels,
            n_channels,
            depth: self.pictures.channels,
            from: self.from,
            pictures: self.pictures,
            result: self.result,
        })
    }

    fn winograd(self, packer: &mut Packer<'_, 'a>, form: FormName) -> Work {
        let geometry = form.geometry();
        let rows = geometry.kernel;
        // A transpose with stride 1 reads its taps in reverse order.
        let is_reversed =
            self.direction == Direction::Spread && matches!(form, FormName::Four | FormName::Two);
        let mut panels = packer.panels(self.result.blocks(), self.pictures.channels);
        let (outputs, inputs) = (self.result.channels, self.pictures.channels);
        for panel in &mut panels {
            packer.pack_points(panel, rows, outputs, move |output, input| {
                let row = match self.direction {
                    Direction::Gather => output * inputs + input,
                    Direction::Spread => input * outputs + output,
                };
                let mut taps: [f32; 9] = std::array::from_fn(|tap| self.weight[row * 9 + tap]);
                if is_reversed {
                    taps.reverse();
                }
                taps
            });
        }
        Work::Winograd(Winograd {
            form,
            geometry,
            points: Points::new(geometry.groups),
            panels,
            from: self.from,
            pictures: self.pictures,
            result: self.result,
        })
    }
}

/// Where weights are packed, for a kind of vectors and tiles up to a size.
pub(crate) struct Packer<'p, 'a> {
    pub processor: Processor,
    pub tiles: Tiles,
    pub constants: &'p mut Constants<'a>,
}

impl<'a> Packer<'_, 'a> {
    /// Panels over all blocks of outputs that read all channels.
    fn panels(&self, n_blocks: usize, depth: usize) -> Vec<Panel> {
        let mut panels = Vec::new();
        let mut block = 0;
        while block < n_blocks {
            // At least two panels, if there are two blocks, are work for two threads.
            let most = (n_blocks / 2).clamp(1, n_blocks - block);
            let vectors = self.processor.most_vectors(most);
            panels.push(Panel {
                block,
                vectors,
                from_block: 0,
                depth,
                weights: 0,
            });
            block += vectors;
        }
        panels
    }

    /// A panel's weights, `[taps, depth, vectors, 16]`.
    fn pack(
        &mut self,
        panel: &mut Panel,
        n_taps: usize,
        n_outputs: usize,
        weight: impl Fn(usize, usize, usize) -> f32 + 'a,
    ) {
        let (width, depth, first) = (panel.vectors * LANES, panel.depth, panel.block * LANES);
        let fill = move |room: &mut [f32]| {
            for (row, weights) in room.chunks_exact_mut(width).enumerate() {
                for (output, to) in (first..n_outputs).zip(weights) {
                    *to = weight(output, row % depth, row / depth);
                }
            }
        };
        panel.weights = self.constants.add(n_taps * depth * width, fill);
    }

    /// `G g Gᵀ` of each kernel g, in f64: `[points, depth, vectors, 16]`.
    fn pack_points(
        &mut self,
        panel: &mut Panel,
        rows: &'static [[f64; 3]],
        n_outputs: usize,
        kernel: impl Fn(usize, usize) -> [f32; 9] + 'a,
    ) {
        let (width, depth, first) = (panel.vectors * LANES, panel.depth, panel.block * LANES);
        let n = rows.len();
        let fill = move |room: &mut [f32]| {
            for (input, vector) in
                (0..depth).flat_map(|input| (0..width / LANES).map(move |vector| (input, vector)))
            {
                let mut kernels = [[0.0; LANES]; 9];
                for (lane, output) in (first + vector * LANES..n_outputs).take(LANES).enumerate() {
                    for (to, tap) in kernels.iter_mut().zip(kernel(output, input)) {
                        to[lane] = f64::from(tap);
                    }
                }
                let behind = &mut room[input * width + vector * LANES..];
                on_widest_vectors(|| points(rows, &kernels, behind, depth * width));
            }
        };
        panel.weights = self.constants.add(n * n * depth * width, fill);
    }
}

/// The elements of `G g Gᵀ` of sixteen kernels, row by row, each `step` floats behind the one before.
#[inline(always)]
fn points(rows: &[[f64; 3]], g: &[[f64; LANES]; 9], to: &mut [f32], step: usize) {
    for (row, of_rows) in rows.iter().enumerate() {
        let half =
            [0, 1, 2].map(|column| combined(of_rows, [&g[column], &g[3 + column], &g[6 + column]]));
        for (column, of_columns) in rows.iter().enumerate() {
            let point = combined(of_columns, half.each_ref());
            let to = &mut to[(row * rows.len() + column) * step..][..LANES];
            to.iter_mut().zip(point).for_each(|(to, x)| *to = x as f32);
        }
    }
}

#[inline(always)]
fn combined(factors: &[f64; 3], of: [&[f64; LANES]; 3]) -> [f64; LANES] {
    let mut sums = [0.0; LANES];
    for (factor, values) in factors.iter().zip(of) {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += factor * value;
        }
    }
    sums
}
