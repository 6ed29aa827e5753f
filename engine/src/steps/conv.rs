//! Convolutions through a table of pixels, and those to few channels.

use super::{Place, Run, Step};
use crate::kernels::product::{Pixels, Rows};
use crate::kernels::table::{self, Table};
use crate::lanes::LANES;
use crate::layout::Pictures;
use crate::program::STRIP;

/// Weights of some blocks of outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panel {
    /// Its first block of outputs, and how many.
    pub block: usize,
    pub vectors: usize,
    /// The first block of the operand that it reads, and how many channels from there.
    pub from_block: usize,
    pub depth: usize,
    /// Its first weight among the constants.
    pub weights: usize,
}

/// Any convolution, or transpose of one.
pub(crate) struct Direct {
    pub table: Table,
    pub panels: Vec<Panel>,
    pub from: Place,
    pub pictures: Pictures,
    pub result: Pictures,
}

impl Direct {
    pub fn scratch(&self) -> usize {
        let vectors = self.panels.iter().map(|panel| panel.vectors).max();
        vectors.unwrap_or(0) * STRIP * LANES
    }

    pub fn run(&self, step: &Step, run: &Run<'_>) {
        let n_pixels = self.result.pixels();
        let (n_panels, n_strips) = (self.panels.len(), n_pixels.div_ceil(STRIP));
        let n_pictures = run.n_images * self.pictures.count;
        for item in run.share(n_pictures * n_panels * n_strips) {
            let (picture, panel, strip) = (
                item / n_strips / n_panels,
                &self.panels[item / n_strips % n_panels],
                item % n_strips,
            );
            let (image, picture) = (picture / self.pictures.count, picture % self.pictures.count);
            let pixels = strip * STRIP..((strip + 1) * STRIP).min(n_pixels);
            let block = self.pictures.pixels() * LANES;
            let n_blocks = panel.depth.div_ceil(LANES);
            let x = run.operand(self.from, image);
            let result = run.own_scratch(step).at(0, panel.vectors * STRIP * LANES);
            let n_weights = self.table.n_taps * panel.depth * panel.vectors * LANES;
            run.processor.run(Pixels {
                table: self.table.of(pixels.clone()),
                n_taps: self.table.n_taps,
                depth: panel.depth,
                vectors: panel.vectors,
                x: x.at(
                    picture * self.pictures.floats() + panel.from_block * block,
                    n_blocks * block,
                ),
                x_block: block,
                panel: run.constants.at(panel.weights, n_weights),
                y: result,
                y_vector: STRIP * LANES,
            });
            for vector in 0..panel.vectors {
                let block = picture * self.result.blocks() + panel.block + vector;
                let result = result.wrapping_add(vector * STRIP * LANES);
                run.program(step, image, block, pixels.clone(), result);
            }
        }
    }
}

/// A convolution to few channels: the products of every pixel with every tap first, then the sums.
pub(crate) struct Columns {
    pub table: Table,
    /// Vectors of products of a pixel, the last one room for reading behind.
    pub panels: Vec<Panel>,
    pub n_channels: usize,
    pub depth: usize,
    pub from: Place,
    pub pictures: Pictures,
    pub result: Pictures,
}

impl Columns {
    /// Products of a pixel, and room for a vector that begins at the last tap.
    fn width(&self) -> usize {
        let products: usize = self.panels.iter().map(|panel| panel.vectors * LANES).sum();
        products + LANES
    }

    pub fn scratch(&self, n_images: usize) -> (usize, usize) {
        let products = self.pictures.pixels() * self.width();
        (n_images * self.pictures.count * products, STRIP * LANES)
    }

    pub fn run(&self, step: &Step, run: &Run<'_>) {
        let (n_pixels, n_results) = (self.pictures.pixels(), self.result.pixels());
        let (count, width) = (self.pictures.count, self.width());
        let n_pictures = run.n_images * count;
        let pieces = n_pixels.div_ceil(STRIP);
        for item in run.share(n_pictures * pieces) {
            let (picture, piece) = (item / pieces, item % pieces);
            let first = piece * STRIP;
            let n_rows = (n_pixels - first).min(STRIP);
            let x = run.operand(self.from, picture / count);
            let x = x.from(picture % count * self.pictures.floats());
            let block = n_pixels * LANES;
            for panel in &self.panels {
                run.processor.run(Rows {
                    n_rows,
                    depth: self.depth,
                    vectors: panel.vectors,
                    x: x.at(
                        first * LANES,
                        (self.depth.div_ceil(LANES) - 1) * block + n_rows * LANES,
                    ),
                    x_block: block,
                    panel: run
                        .constants
                        .at(panel.weights, self.depth * panel.vectors * LANES),
                    y: run.shared.at(
                        (picture * n_pixels + first) * width + panel.block * LANES,
                        (n_rows - 1) * width + panel.vectors * LANES,
                    ),
                    y_row: width,
                });
            }
        }
        run.wait();
        let pieces = n_results.div_ceil(STRIP);
        for item in run.share(n_pictures * pieces) {
            let (picture, piece) = (item / pieces, item % pieces);
            let pixels = piece * STRIP..((piece + 1) * STRIP).min(n_results);
            let result = run.own_scratch(step).at(0, STRIP * LANES);
            run.processor.run(table::Columns {
                table: self.table.of(pixels.clone()),
                n_taps: self.table.n_taps,
                n_channels: self.n_channels,
                products: run.shared.at(picture * n_pixels * width, n_pixels * width),
                width,
                y: result,
            });
            run.program(step, picture / count, picture % count, pixels, result);
        }
    }
}
