//! 3×3 convolutions through points.

use super::{Panel, Place, Run, Step};
use crate::kernels::product::Rows;
use crate::kernels::winograd::{Enter, FormName, Geometry, Leave, MOST_POINTS, Points};
use crate::lanes::LANES;
use crate::layout::Pictures;

/// Floats of points that one pass makes, if it has more than a picture: what stays in the caches between the maps and the products.
const PASS: usize = 1 << 20;

pub(crate) struct Winograd {
    pub form: FormName,
    pub geometry: Geometry,
    pub points: Points,
    /// Weights of a panel: `[groups, depth, vectors, 16]`.
    pub panels: Vec<Panel>,
    pub from: Place,
    pub pictures: Pictures,
    pub result: Pictures,
}

impl Winograd {
    /// Rows and columns of tiles.
    fn tiles(&self) -> [usize; 2] {
        let step = self.geometry.step_out;
        let along = |extent: usize| match self.geometry.step_out < self.geometry.out {
            // A tile for each of the operand's, however far the transpose reaches.
            true => (extent / 2).div_ceil(self.geometry.step_in).max(1),
            false => extent.div_ceil(step),
        };
        [along(self.result.rows), along(self.result.columns)]
    }

    fn n_tiles(&self) -> usize {
        let [rows, columns] = self.tiles();
        rows * columns
    }

    /// Pictures of one pass.
    fn pass(&self, n_pictures: usize) -> usize {
        let floats = self.points.rows_per_tile() * self.n_tiles() * self.pictures.blocks() * LANES;
        (PASS / floats).clamp(1, n_pictures.max(1))
    }

    /// Where the points of each group begin: a group's rows lie beside each other, and a vector stands between groups so that they do not fall on the same
    /// lines of the cache. `width` is the number of floats of a row.
    fn group_start(&self, group: usize, n_tiles: usize, width: usize) -> usize {
        self.points.before[group] * n_tiles * width + group * LANES
    }

    fn floats_of_points(&self, n_tiles: usize, width: usize) -> usize {
        self.points.rows_per_tile() * n_tiles * width + self.points.rows.len() * LANES
    }

    /// Rows of tiles are mapped to this buffer before the program takes them: its columns.
    fn buffer_columns(&self) -> usize {
        self.tiles()[1] * self.geometry.step_out + (self.geometry.out - self.geometry.step_out)
    }

    pub fn scratch(&self, n_images: usize) -> (usize, usize) {
        let n_tiles = self.pass(n_images * self.pictures.count) * self.n_tiles();
        let widest = self
            .panels
            .iter()
            .map(|panel| panel.vectors)
            .max()
            .unwrap_or(0);
        let entered = self.floats_of_points(n_tiles, self.pictures.blocks() * LANES);
        let products = self.floats_of_points(n_tiles, widest * LANES);
        (
            entered,
            products + self.geometry.out * self.buffer_columns() * LANES,
        )
    }

    pub fn run(&self, step: &Step, run: &Run<'_>) {
        let n_pictures = run.n_images * self.pictures.count;
        let pass = self.pass(n_pictures);
        for first in (0..n_pictures).step_by(pass) {
            if first > 0 {
                // Others still read the points of the pass before.
                run.wait();
            }
            let pictures = first..(first + pass).min(n_pictures);
            self.enter(run, pictures.clone());
            run.wait();
            for panel in &self.panels[run.share(self.panels.len())] {
                self.multiply(step, run, pictures.len(), panel);
                self.leave(step, run, pictures.clone(), panel);
            }
        }
    }

    /// The blocks of the operand's pictures to points.
    fn enter(&self, run: &Run<'_>, pictures: std::ops::Range<usize>) {
        let (n_blocks, per_picture) = (self.pictures.blocks(), self.n_tiles());
        let n_tiles = pictures.len() * per_picture;
        let mut places = [(0, 0); MOST_POINTS];
        for item in run.share(pictures.len() * n_blocks) {
            // A block's pictures behind each other, so that the places stay.
            let (block, picture) = (item / pictures.len(), item % pictures.len());
            for (place, &(group, row)) in places.iter_mut().zip(&self.points.places) {
                let rows = self.points.rows[group];
                let start = self.group_start(group, n_tiles, n_blocks * LANES);
                let tile = block * rows * n_tiles + row + picture * per_picture * rows;
                *place = (start + tile * LANES, rows * LANES);
            }
            let number = pictures.start + picture;
            let x = run.operand(self.from, number / self.pictures.count);
            let length = self.pictures.pixels() * LANES;
            let x = x.from(number % self.pictures.count * self.pictures.floats());
            let enter = Enter {
                rows: self.pictures.rows,
                columns: self.pictures.columns,
                tiles: self.tiles(),
                x: x.at(block * length, length),
                places: &places,
                points: run
                    .shared
                    .at(0, self.floats_of_points(n_tiles, n_blocks * LANES)),
            };
            run.processor.run((self.form, enter));
        }
    }

    /// The points of all pictures with a panel's weights.
    fn multiply(&self, step: &Step, run: &Run<'_>, n_pictures: usize, panel: &Panel) {
        let n_tiles = n_pictures * self.n_tiles();
        let n_blocks = self.pictures.blocks();
        let width = panel.vectors * LANES;
        let products = run
            .own_scratch(step)
            .at(0, self.floats_of_points(n_tiles, width));
        for (group, rows) in self.points.rows.iter().enumerate() {
            let n_rows = rows * n_tiles;
            let start = self.group_start(group, n_tiles, n_blocks * LANES);
            run.processor.run(Rows {
                n_rows,
                depth: panel.depth,
                vectors: panel.vectors,
                x: run.shared.at(start, n_blocks * n_rows * LANES),
                x_block: n_rows * LANES,
                panel: run.constants.at(
                    panel.weights + group * panel.depth * width,
                    panel.depth * width,
                ),
                y: products.wrapping_add(self.group_start(group, n_tiles, width)),
                y_row: width,
            });
        }
    }

    /// The products of a panel to pixels, and those through the step's program.
    fn leave(&self, step: &Step, run: &Run<'_>, pictures: std::ops::Range<usize>, panel: &Panel) {
        let (per_picture, [tile_rows, tile_columns]) = (self.n_tiles(), self.tiles());
        let n_tiles = pictures.len() * per_picture;
        let width = panel.vectors * LANES;
        let n_products = self.floats_of_points(n_tiles, width);
        let (out, step_out) = (self.geometry.out, self.geometry.step_out);
        let overlap = out - step_out;
        let row = self.buffer_columns() * LANES;
        let products = run.own_scratch(step);
        let buffer = products.from(n_products);
        let mut places = [(0, 0); MOST_POINTS];
        for (number, vector) in pictures
            .clone()
            .flat_map(|picture| (0..panel.vectors).map(move |vector| (picture, vector)))
        {
            let (image, picture) = (number / self.pictures.count, number % self.pictures.count);
            let block = picture * self.result.blocks() + panel.block + vector;
            if overlap > 0 {
                buffer.write(0, out * row).fill(0.0);
            }
            for tile_row in 0..tile_rows {
                for (place, &(group, row)) in places.iter_mut().zip(&self.points.places) {
                    let rows = self.points.rows[group];
                    let tile = ((number - pictures.start) * per_picture + tile_row * tile_columns)
                        * rows
                        + row;
                    *place = (
                        self.group_start(group, n_tiles, width) + tile * width + vector * LANES,
                        rows * width,
                    );
                }
                let leave = Leave {
                    n_tiles: tile_columns,
                    points: products.at(0, n_products),
                    places: &places,
                    y: buffer.at(0, out * row),
                    y_row: row,
                };
                run.processor.run((self.form, leave));
                // The last rows of a tile are finished by the next one, if there is one.
                let is_last = tile_row + 1 == tile_rows;
                let finished = if is_last { out } else { step_out };
                self.through_program(
                    step,
                    run,
                    (image, block),
                    tile_row * step_out,
                    finished,
                    buffer.at(0, out * row),
                );
                if overlap > 0 && !is_last {
                    let buffer = buffer.write(0, out * row);
                    buffer.copy_within(step_out * row.., 0);
                    buffer[overlap * row..].fill(0.0);
                }
            }
        }
    }

    /// Rows of the buffer, of which the first belongs to row `first - pad_out` of the result.
    fn through_program(
        &self,
        step: &Step,
        run: &Run<'_>,
        (image, block): (usize, usize),
        first: usize,
        n_rows: usize,
        buffer: *const f32,
    ) {
        let pad = self.geometry.pad_out;
        let (rows, columns) = (self.result.rows, self.result.columns);
        let begin = first.saturating_sub(pad);
        let end = (first + n_rows).saturating_sub(pad).min(rows);
        let skipped = begin + pad - first;
        let row = self.buffer_columns();
        if pad == 0 && row == columns {
            let result = buffer.wrapping_add(skipped * row * LANES);
            return run.program(step, image, block, begin * columns..end * columns, result);
        }
        for y in begin..end {
            let result = buffer.wrapping_add(((y + pad - first) * row + pad) * LANES);
            run.program(step, image, block, y * columns..(y + 1) * columns, result);
        }
    }
}
