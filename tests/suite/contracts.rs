//! A contract for graphs that no exporter made.

use ebm_export::source::{ImageShape, Kind};
use ebm_export::transform::precision::Precision;
use ebm_export::write::contract::{Contract, Described, FORMAT_VERSION};
use ebm_export::write::onnx::Opset;

use crate::networks::energies;

/// What a file of that kind for such images says about itself. It names some network, which no runtime reads.
pub fn contract(kind: Kind, [channels, height, width]: [usize; 3], opset: Opset) -> Contract {
    let (_, network) = energies().remove(0);
    Contract {
        format_version: FORMAT_VERSION,
        kind,
        network: Described::Network(network),
        image: Some(ImageShape {
            channels,
            height,
            width,
        }),
        value_range: [-1.0, 1.0],
        batch: None,
        langevin: None,
        purification: None,
        potential: None,
        clip: None,
        n_steps: None,
        n_classes: None,
        n_parameters: 1,
        opset: opset.number(),
        rewrites: Vec::new(),
        precision: Precision::F32,
        weights_sha256: "0".repeat(64),
        config: None,
    }
}
