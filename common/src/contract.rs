//! What the exporter writes about a model and the runtime reads (`ARCHITECTURE.md` lists all keys).

use std::fmt;

use serde::{Deserialize, Serialize};

/// The metadata key under which a model carries its contract.
pub const CONTRACT_KEY: &str = "ebm.contract";

/// The version of the contract's format.
pub const FORMAT_VERSION: u32 = 1;

/// What a model computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// `x → energy`.
    Energy,
    /// `x → energy, gradient`.
    Gradient,
    /// `x, noise, step_size, temperature → x_next, energy, gradient_norm`.
    Step,
    /// `x, noise → x_next, energy, gradient_norm`, for servers: several steps, step size and temperature fixed.
    Purifier,
    /// `x → logits`.
    Classifier,
    /// `z → image`.
    Generator,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Energy => "energy",
            Self::Gradient => "gradient",
            Self::Step => "step",
            Self::Purifier => "purifier",
            Self::Classifier => "classifier",
            Self::Generator => "generator",
        })
    }
}

/// The shape `[C, H, W]` of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageShape {
    /// C.
    pub channels: usize,
    /// H, in pixels.
    pub height: usize,
    /// W, in pixels.
    pub width: usize,
}

impl ImageShape {
    /// The shape `[channels, height, width]`.
    pub const fn new(channels: usize, height: usize, width: usize) -> Self {
        Self {
            channels,
            height,
            width,
        }
    }

    /// `[C, H, W]`.
    pub fn dimensions(&self) -> [usize; 3] {
        [self.channels, self.height, self.width]
    }

    /// The number of values of one image, C·H·W.
    pub fn n_values(&self) -> usize {
        self.channels * self.height * self.width
    }
}

impl fmt::Display for ImageShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {}, {}]", self.channels, self.height, self.width)
    }
}
