//! How thoroughly an audit looks.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::curve::Axis;
use super::kind::Attack;

/// A set of defaults; every one of them can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Minutes: a look, no result.
    Quick,
    /// For two cores and a small network: every attack on the same 64 images; further images only until they are broken.
    Standard,
    /// Everything on every image, for a GPU or for days.
    Strict,
    /// What the reference evaluates itself with: BPDA+EOT alone.
    Reference,
}

/// The defaults of a protocol.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    /// Test images.
    pub n_images: usize,
    /// The number of these, from the first on, that meet every attack.
    pub n_in_all: usize,
    /// Steps of an attack.
    pub steps: usize,
    /// Purifications per question.
    pub copies: usize,
    /// Purifications that confirm a break.
    pub verify_copies: usize,
    /// The numbers of purifications whose votes are reported.
    pub votes: &'static [usize],
    /// Questions of attacks without gradients, in parts of those with.
    pub blind_factor: usize,
    /// The attacks.
    pub attacks: &'static [Attack],
    /// Whether the free baselines stand in the table.
    pub has_baselines: bool,
    /// The curves.
    pub curves: &'static [Axis],
}

impl Protocol {
    /// Its defaults.
    pub fn defaults(self) -> Defaults {
        match self {
            Protocol::Quick => Defaults {
                n_images: 32,
                n_in_all: 32,
                steps: 10,
                copies: 4,
                verify_copies: 32,
                votes: &[32],
                blind_factor: 4,
                attacks: &[
                    Attack::None,
                    Attack::Random,
                    Attack::Transfer,
                    Attack::Bpda,
                    Attack::Exact,
                    Attack::KnownNoise,
                ],
                has_baselines: true,
                curves: &[],
            },
            Protocol::Standard => Defaults {
                n_images: 256,
                n_in_all: 64,
                steps: 20,
                copies: 8,
                verify_copies: 32,
                votes: &[32],
                blind_factor: 10,
                attacks: Attack::all(),
                has_baselines: true,
                curves: Axis::all(),
            },
            Protocol::Strict => Defaults {
                n_images: 512,
                n_in_all: 512,
                steps: 100,
                copies: 32,
                verify_copies: 128,
                votes: &[32, 128],
                blind_factor: 50,
                attacks: Attack::all(),
                has_baselines: true,
                curves: Axis::all(),
            },
            Protocol::Reference => Defaults {
                n_images: 512,
                n_in_all: 512,
                steps: 50,
                copies: 48,
                verify_copies: 128,
                votes: &[128],
                blind_factor: 1,
                attacks: &[Attack::None, Attack::Bpda],
                has_baselines: false,
                curves: &[],
            },
        }
    }
}
