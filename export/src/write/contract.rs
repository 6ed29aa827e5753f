//! What an exported file says about itself, so that a runtime needs nothing else.

pub use ebm_common::contract::FORMAT_VERSION;
use serde::{Deserialize, Serialize};

use crate::graph::tensor::Tensors;
use crate::source::checkpoint::tensors_sha256;
use crate::source::networks::Network;
use crate::source::{ImageShape, Kind, Langevin, Purification};
use crate::transform::potential::Potential;
use crate::transform::precision::Precision;

/// The network that a file computes, as contracts state it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Described {
    /// A network that this crate describes.
    Network(Network),
    /// An ONNX model.
    Model(ModelOrigin),
}

/// An ONNX model, as contracts state it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename = "onnx")]
pub struct ModelOrigin {
    /// Name and version of the program that wrote it.
    pub producer: String,
    /// SHA-256 of its file, hexadecimal.
    pub sha256: String,
    /// How its output became an energy, by the name of the reduction; absent if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reduction: Option<String>,
}

/// What a step descends beside E/T.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// An energy network that was learned before.
    pub prior: Option<PriorTerm>,
    /// τ of the Gaussian term.
    pub tau: Option<f64>,
}

impl Terms {
    /// What stands beside the energy in a potential.
    pub(super) fn of(potential: &Potential) -> Terms {
        let prior = potential.prior.as_ref().map(|prior| PriorTerm {
            network: prior.network.clone(),
            temperature: prior.temperature,
            n_parameters: n_elements(&prior.weights),
            weights_sha256: tensors_sha256(&prior.weights),
        });
        let tau = potential.tau;
        Terms { prior, tau }
    }
}

/// A further energy network in a potential.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PriorTerm {
    /// The network and its parameters.
    pub network: Network,
    /// Its own temperature, which is fixed.
    pub temperature: f64,
    /// Number of its parameters.
    pub n_parameters: usize,
    /// SHA-256 of its weights, hexadecimal.
    pub weights_sha256: String,
}

/// The contract: docs/formats.md states each key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contract {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// What the file computes.
    pub kind: Kind,
    /// The network and its parameters, or the model that it comes from.
    pub network: Described,
    /// Extents of an image; `None` if the input is not an image `[N, C, H, W]`.
    pub image: Option<ImageShape>,
    /// Lowest and highest pixel value.
    pub value_range: [f32; 2],
    /// The fixed batch, `None` if it is symbolic.
    pub batch: Option<usize>,
    /// As learned.
    pub langevin: Option<Langevin>,
    /// As recommended.
    pub purification: Option<Purification>,
    /// What stands beside the energy in the potential; absent where nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub potential: Option<Terms>,
    /// The L2 norm to which the drift of a step is shortened per image; absent if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    /// Steps of one run; absent if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_steps: Option<usize>,
    /// Classes that a classifier or a generator distinguishes.
    pub n_classes: Option<usize>,
    /// Opset of the default domain.
    pub opset: i64,
    /// Rewrites that were applied.
    pub rewrites: Vec<String>,
    /// The types that the file works in.
    #[serde(default)]
    pub precision: Precision,
    /// Number of the network's parameters: the elements of all weights.
    pub n_parameters: usize,
    /// SHA-256 of the weights, hexadecimal.
    pub weights_sha256: String,
    /// Resolved configuration of the run.
    pub config: Option<serde_json::Value>,
}

/// Elements of all weights.
pub(super) fn n_elements(weights: &Tensors) -> usize {
    weights.values().map(|weight| weight.data().len()).sum()
}
