//! The steps of a plan: what each needs, and how it runs on the images of a chunk.
//!
//! Several threads run a step together: each takes its share of the work, and where one needs what others made, all wait for each other.

mod conv;
mod plain;
mod winograd;

use std::ops::Range;

use crate::crew::Member;
use crate::kernels::elements::{Strip, Walk};
use crate::kernels::table::{Pool, Pooling, Table};
use crate::lanes::{LANES, Processor};
use crate::layout::Pictures;
use crate::memory::Floats;
use crate::program::{Program, STRIP, Source, Target};
use crate::tiles::Tiles;

pub(crate) use conv::{Columns, Direct, Panel};
pub(crate) use plain::{Concat, Factor, Gather, MatMul, Order, Reduce, Reorder, Softmax, Unit};
pub(crate) use winograd::Winograd;

/// Where an operand lies: in a slot of the arena, or at a place of the constants, which all images share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Slot(usize),
    Constant(usize),
}

/// What a program runs over: an image's part of the values in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Domain {
    /// Blocks of pictures.
    Blocked(Pictures),
    /// So many vectors.
    Plain(usize),
}

impl Domain {
    /// Blocks of an image, and vectors of each.
    pub fn blocks(self) -> (usize, usize) {
        match self {
            Self::Blocked(pictures) => (pictures.count * pictures.blocks(), pictures.pixels()),
            Self::Plain(n_vectors) => (1, n_vectors),
        }
    }
}

/// What a step does before its program.
pub(crate) enum Work {
    /// Nothing: the program is all.
    Map,
    Direct(Direct),
    Columns(Columns),
    Winograd(Winograd),
    Pool {
        pooling: Pooling,
        table: Table,
        from: Place,
        pictures: Pictures,
    },
    Reorder(Reorder),
    Gather(Gather),
    Concat(Concat),
    Reduce(Reduce),
    Softmax(Softmax),
    MatMul(MatMul),
}

/// One step of a plan.
pub(crate) struct Step {
    /// The value in the file that it computes.
    pub name: String,
    pub work: Work,
    pub program: Program,
    pub domain: Domain,
}

impl Step {
    /// Floats that all threads share while it runs, and floats that each needs for itself, for a number of images.
    pub fn scratch(&self, n_images: usize) -> (usize, usize) {
        let registers = self.program.n_registers * STRIP * LANES + SPLATS;
        let (shared, own) = match &self.work {
            Work::Direct(direct) => (0, direct.scratch()),
            Work::Columns(columns) => columns.scratch(n_images),
            Work::Winograd(winograd) => winograd.scratch(n_images),
            Work::Pool { .. } => (0, STRIP * LANES),
            Work::Softmax(softmax) => (0, softmax.scratch()),
            Work::MatMul(product) => (0, product.scratch()),
            _ => (0, 0),
        };
        (shared, registers + own)
    }

    /// A short name of how it computes, for people.
    pub fn form(&self) -> String {
        match &self.work {
            Work::Map => "elements".to_string(),
            Work::Direct(_) => "direct".to_string(),
            Work::Columns(_) => "columns".to_string(),
            Work::Winograd(winograd) => format!("winograd {:?}", winograd.form),
            Work::Pool { .. } => "pool".to_string(),
            Work::Reorder(_) => "reorder".to_string(),
            Work::Gather(_) => "gather".to_string(),
            Work::Concat(_) => "concat".to_string(),
            Work::Reduce(_) => "reduce".to_string(),
            Work::Softmax(_) => "softmax".to_string(),
            Work::MatMul(_) => "product".to_string(),
        }
    }

    /// The tiles that it computes through.
    pub fn tiles(&self) -> Tiles {
        match &self.work {
            Work::Winograd(winograd) => winograd.form.tiles(),
            _ => Tiles::One,
        }
    }

    pub fn run(&self, run: &Run<'_>) {
        match &self.work {
            Work::Map => self.map(run),
            Work::Direct(direct) => direct.run(self, run),
            Work::Columns(columns) => columns.run(self, run),
            Work::Winograd(winograd) => winograd.run(self, run),
            Work::Pool {
                pooling,
                table,
                from,
                pictures,
            } => self.pool(run, *pooling, table, *from, pictures),
            Work::Reorder(reorder) => reorder.run(run),
            Work::Gather(gather) => gather.run(run),
            Work::Concat(concat) => concat.run(run),
            Work::Reduce(reduce) => reduce.run(run),
            Work::Softmax(softmax) => softmax.run(self, run),
            Work::MatMul(product) => product.run(self, run),
        }
        run.wait();
    }

    fn map(&self, run: &Run<'_>) {
        let (n_blocks, n_vectors) = self.domain.blocks();
        let n_strips = n_vectors.div_ceil(STRIP);
        for item in run.share(run.n_images * n_blocks * n_strips) {
            let (block, strip) = (item / n_strips, item % n_strips);
            let vectors = strip * STRIP..((strip + 1) * STRIP).min(n_vectors);
            run.program(
                self,
                block / n_blocks,
                block % n_blocks,
                vectors,
                std::ptr::null(),
            );
        }
    }

    fn pool(&self, run: &Run<'_>, pooling: Pooling, table: &Table, from: Place, of: &Pictures) {
        let (n_blocks, n_vectors) = self.domain.blocks();
        let n_strips = n_vectors.div_ceil(STRIP);
        for item in run.share(run.n_images * n_blocks * n_strips) {
            let (block, strip) = (item / n_strips, item % n_strips);
            let (image, block) = (block / n_blocks, block % n_blocks);
            let vectors = strip * STRIP..((strip + 1) * STRIP).min(n_vectors);
            let length = of.pixels() * LANES;
            let result = run.own_scratch(self).at(0, STRIP * LANES);
            run.processor.run(Pool {
                pooling,
                table: table.of(vectors.clone()),
                n_taps: table.n_taps,
                x: run.operand(from, image).at(block * length, length),
                y: result,
            });
            run.program(self, image, block, vectors, result);
        }
    }
}

/// Room for operands of one element, made vectors.
const SPLATS: usize = 3 * LANES;

/// A run of a plan on the images of a chunk, as one of its threads sees it.
pub(crate) struct Run<'a> {
    pub processor: Processor,
    pub constants: Floats,
    /// First float of each slot in an image's part of the arena.
    pub slots: &'a [usize],
    pub arena: Floats,
    /// Floats of an image in the arena. Each has a part of its own, since another thread may be at another step with its images.
    pub floats_of_image: usize,
    /// The images of this run.
    pub first_image: usize,
    pub n_images: usize,
    /// What threads share, and this thread's own.
    pub shared: Floats,
    pub own: Floats,
    pub member: Member<'a>,
}

impl Run<'_> {
    /// The part of `n_items` items that this thread takes.
    pub fn share(&self, n_items: usize) -> Range<usize> {
        self.member.share(n_items)
    }

    /// Until all threads are here.
    pub fn wait(&self) {
        self.member.wait();
    }

    /// A slot's part for an image of this run.
    pub fn slot(&self, slot: usize, image: usize) -> Floats {
        let image = self.first_image + image;
        self.arena
            .from(image * self.floats_of_image + self.slots[slot])
    }

    pub fn operand(&self, place: Place, image: usize) -> Floats {
        match place {
            Place::Slot(slot) => self.slot(slot, image),
            Place::Constant(first) => self.constants.from(first),
        }
    }

    /// This thread's scratch behind that of the step's program.
    pub fn own_scratch(&self, step: &Step) -> Floats {
        self.own
            .from(step.program.n_registers * STRIP * LANES + SPLATS)
    }

    /// Runs the step's program on some vectors of a block of an image; `result` is what the kernel made of the first of them and the following.
    pub fn program(
        &self,
        step: &Step,
        image: usize,
        block: usize,
        vectors: Range<usize>,
        result: *const f32,
    ) {
        let (_, per_block) = step.domain.blocks();
        for first in vectors.clone().step_by(STRIP) {
            let n_vectors = (vectors.end - first).min(STRIP);
            let result = result.wrapping_add((first - vectors.start) * LANES);
            let (place, length) = ((block * per_block + first) * LANES, n_vectors * LANES);
            for instruction in &step.program.instructions {
                let mut splats = 0;
                let operands = instruction.operands.map(|operand| {
                    let walk = |start: *const f32| Walk { start, step: LANES };
                    let still = |start: *const f32| Walk { start, step: 0 };
                    match operand {
                        Source::Result => walk(result),
                        Source::Register(register) => {
                            walk(self.own.at(register * STRIP * LANES, length))
                        }
                        Source::Slot(slot) => walk(self.slot(slot, image).at(place, length)),
                        Source::Constant(first) => walk(self.constants.at(first + place, length)),
                        Source::Channels(first) => {
                            still(self.constants.at(first + block * LANES, LANES))
                        }
                        Source::Vector(first) => still(self.constants.at(first, LANES)),
                        Source::Element(slot) => {
                            let at = step.program.n_registers * STRIP * LANES + splats;
                            splats += LANES;
                            let number = self.slot(slot, image).read(0, 1)[0];
                            self.own.write(at, LANES).fill(number);
                            still(self.own.at(at, LANES))
                        }
                    }
                });
                let target = match instruction.target {
                    Target::Register(register) => self.own.at(register * STRIP * LANES, length),
                    Target::Slot(slot) => self.slot(slot, image).at(place, length),
                };
                self.processor.run(Strip {
                    function: instruction.function,
                    operands,
                    target,
                    n_vectors,
                });
            }
        }
    }
}
