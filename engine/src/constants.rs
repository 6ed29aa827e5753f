//! The constants of a plan before there is memory for them.

use std::ops::Range;

use crate::lanes::LANES;
use crate::memory::Block;

/// Where each constant lies and what makes it, so that their size is known before any of them is made.
#[derive(Default)]
pub(crate) struct Constants<'a> {
    n_floats: usize,
    parts: Vec<(Range<usize>, Fill<'a>)>,
}

type Fill<'a> = Box<dyn FnOnce(&mut [f32]) + 'a>;

impl<'a> Constants<'a> {
    /// The first float of a new constant; what makes it is given that many zeros.
    pub fn add(&mut self, length: usize, fill: impl FnOnce(&mut [f32]) + 'a) -> usize {
        let first = self.n_floats;
        self.n_floats += length.next_multiple_of(LANES);
        self.parts.push((first..first + length, Box::new(fill)));
        first
    }

    /// Floats of all.
    pub fn n_floats(&self) -> usize {
        self.n_floats
    }

    /// Makes them.
    pub fn made(self) -> Block {
        let mut block = Block::new(self.n_floats);
        let floats = block.as_mut_slice();
        for (place, fill) in self.parts {
            fill(&mut floats[place]);
        }
        block
    }
}
