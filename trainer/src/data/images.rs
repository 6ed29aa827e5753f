//! Images by their number, in memory or decoded on demand.

use std::ops::Range;
use std::sync::Arc;

use anyhow::Result;
use ebm_common::contract::ImageShape;
use tch::Tensor;

use super::fingerprint::Print;
use super::order::Pick;
use super::pictures::Pictures;
use super::stored::Stored;

/// Images with their labels.
#[derive(Debug)]
pub struct Images(pub(super) Held);

/// Where images are held.
#[derive(Debug)]
pub(super) enum Held {
    /// In memory.
    Stored(Stored),
    /// On disk.
    Pictures(Arc<Pictures>),
}

impl Images {
    /// Number of images.
    pub fn len(&self) -> usize {
        match &self.0 {
            Held::Stored(stored) => stored.len(),
            Held::Pictures(pictures) => pictures.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that are in memory: images and labels, or the list of pictures.
    pub fn bytes(&self) -> u64 {
        match &self.0 {
            Held::Stored(stored) => stored.bytes(),
            Held::Pictures(pictures) => pictures.bytes(),
        }
    }

    /// The fingerprint of the images.
    pub fn print(&self) -> Print {
        match &self.0 {
            Held::Stored(stored) => stored.print(),
            Held::Pictures(pictures) => pictures.print(),
        }
    }

    /// `n` images of random pixels, all of class 0.
    pub fn random(shape: ImageShape, n: usize) -> Images {
        Images(Held::Stored(Stored::random(shape, n)))
    }

    /// Channels, height and width.
    pub fn shape(&self) -> ImageShape {
        match &self.0 {
            Held::Stored(stored) => stored.shape(),
            Held::Pictures(pictures) => pictures.shape(),
        }
    }

    /// Some images and their labels: f32 `[n, C, H, W]` in `[-1, 1]` and int64 `[n]`, on the CPU.
    ///
    /// # Errors
    /// More pictures are damaged than may be, or they cannot be reached any more.
    pub fn batch(&self, picks: &[Pick]) -> Result<(Tensor, Tensor)> {
        match &self.0 {
            Held::Stored(stored) => Ok(stored.batch(picks)),
            Held::Pictures(pictures) => pictures.batch(picks),
        }
    }

    /// The images of a range, as they are tested and looked at, and their labels.
    ///
    /// # Errors
    /// As [`Images::batch`].
    pub fn range(&self, range: Range<usize>) -> Result<(Tensor, Tensor)> {
        self.batch(&range.map(Pick::centred).collect::<Vec<Pick>>())
    }

    /// The first `n` images, or all if there are fewer, and their labels.
    ///
    /// # Errors
    /// As [`Images::batch`].
    pub fn first(&self, n: usize) -> Result<(Tensor, Tensor)> {
        self.range(0..n.min(self.len()))
    }
}
