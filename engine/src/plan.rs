//! Plans: what is run, in which order, and where everything lies.

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::lanes::Processor;
use crate::lower::{self, Layouted, Port};
use crate::memory::Block;
use crate::read;
use crate::steps::Step;
use crate::tiles::Tiles;

/// A file that is ready to run: its steps in order, its weights transformed and packed for this machine's vectors.
///
/// Sessions share it; it does not change.
pub struct Plan {
    pub(crate) processor: Processor,
    pub(crate) layouted: Layouted,
    pub(crate) constants: Block,
}

/// What a plan keeps to.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// One of the kinds of vectors that this machine has, see [`Processor::all`].
    pub processor: Processor,
    /// The largest tiles, for fewer products ([`Tiles::Four`]) or a smaller error.
    pub tiles: Tiles,
    /// The most bytes that weights and one image may take. If they take more, the plan has smaller tiles.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            processor: Processor::best(),
            tiles: Tiles::default(),
            bytes: usize::MAX,
        }
    }
}

impl Plan {
    /// Reads an ONNX file and plans it for this machine's processor.
    ///
    /// # Errors
    /// The file is not a whole ONNX model, or has an operator that the engine does not take.
    pub fn new(file: impl Into<Bytes>) -> Result<Self> {
        Self::within(&Limits::default(), file)
    }

    /// Plans a file for one of the kinds of vectors that this machine has, see [`Processor::all`].
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn on(processor: Processor, file: impl Into<Bytes>) -> Result<Self> {
        let limits = Limits {
            processor,
            ..Limits::default()
        };
        Self::within(&limits, file)
    }

    /// Plans a file within limits.
    ///
    /// # Errors
    /// As [`Plan::new`], and [`Error::TooLarge`] before any weight is transformed.
    pub fn within(limits: &Limits, file: impl Into<Bytes>) -> Result<Self> {
        let graph = read::graph(file.into())?;
        let mut needed = usize::MAX;
        for tiles in limits.tiles.and_smaller() {
            let (layouted, constants) = lower::layouted(&graph, limits.processor, tiles)?;
            let n_floats = constants.n_floats() + layouted.n_floats;
            needed = needed.min(n_floats * size_of::<f32>());
            if needed <= limits.bytes {
                return Ok(Self {
                    processor: limits.processor,
                    layouted,
                    constants: constants.made(),
                });
            }
        }
        Err(Error::TooLarge { needed })
    }

    /// The kind of vectors that it computes with.
    pub fn processor(&self) -> Processor {
        self.processor
    }

    /// The largest tiles that a step computes through.
    pub fn tiles(&self) -> Tiles {
        let tiles = self.layouted.steps.iter().map(Step::tiles);
        tiles.max().unwrap_or(Tiles::One)
    }

    /// Names of the inputs, each with its extents for one image and the axis that the number of images is at, if it has one.
    pub fn inputs(&self) -> impl Iterator<Item = (&str, &[usize], Option<usize>)> {
        self.layouted.inputs.iter().map(described)
    }

    /// As [`Plan::inputs`], of the outputs.
    pub fn outputs(&self) -> impl Iterator<Item = (&str, &[usize], Option<usize>)> {
        self.layouted.outputs.iter().map(described)
    }

    /// Bytes of weights and other constants, as they lie in memory.
    pub fn constant_bytes(&self) -> usize {
        self.constants.len() * size_of::<f32>()
    }

    /// Bytes that a session needs for each image of a chunk, beside its scratch.
    pub fn image_bytes(&self) -> usize {
        self.layouted.n_floats * size_of::<f32>()
    }

    /// One line for each step: what computes it and the value's name, for people who ask where the time goes.
    pub fn describe(&self) -> Vec<String> {
        let line = |step: &Step| {
            let n_instructions = step.program.instructions.len();
            format!("{:28} +{n_instructions:<3} {}", step.form(), step.name)
        };
        self.layouted.steps.iter().map(line).collect()
    }
}

fn described(port: &Port) -> (&str, &[usize], Option<usize>) {
    (&port.name, &port.shape.extents, port.shape.batch_axis())
}
