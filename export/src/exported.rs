//! The files that a checkpoint becomes.

use crate::arch::Network;
use crate::checkpoint::{Header, tensors_sha256};
use crate::contract::{Contract, FORMAT_VERSION, Kind};
use crate::error::Error;
use crate::graph::Graph;
use crate::langevin::step_graph;
use crate::onnx::{Batch, Model, Opset, model};
use crate::pipeline::{bind, check_weights, gradient_graph};
use crate::rewrite::{Rewrite, apply};
use crate::tensor::Tensors;

/// How files are written.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Version of ONNX's operators.
    pub opset: Opset,
    /// Any batch or one.
    pub batch: Batch,
    /// Rewrites to apply, in order; none for the networks as they are described.
    pub rewrites: Vec<Rewrite>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            opset: Opset::DEFAULT,
            batch: Batch::Symbolic,
            rewrites: Rewrite::ALL.to_vec(),
        }
    }
}

/// One file of an exported model.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportedFile {
    /// `energy.onnx`, `gradient.onnx`, `step.onnx` or `classifier.onnx`.
    pub name: &'static str,
    /// Its content.
    pub model: Model,
}

/// Names of the files that a network becomes.
pub fn file_names(network: &Network) -> &'static [&'static str] {
    match network.kind() {
        Kind::Classifier => &["classifier.onnx"],
        Kind::Generator => &["generator.onnx"],
        _ => &["energy.onnx", "gradient.onnx", "step.onnx"],
    }
}

/// The ONNX files of a checkpoint: energy, gradient and step of an energy network, or the classifier of a classifier.
///
/// # Errors
/// The weights are not those of the network, or not finite.
pub fn exported_files(
    header: &Header,
    weights: &Tensors,
    settings: &Settings,
) -> Result<Vec<ExportedFile>, Error> {
    let network = header.network.graph()?;
    check_weights(&network, weights)?;
    let contract = contract(header, settings, weights);
    let written = |name, kind, graph: &Graph| {
        let contract = Contract {
            kind,
            ..contract.clone()
        };
        let model = model(graph, &contract, settings.opset, settings.batch)?;
        Ok(ExportedFile { name, model })
    };
    let forward = bind(&apply(&network, &settings.rewrites)?, weights)?;
    if let [name] = file_names(&header.network) {
        return Ok(vec![written(name, header.network.kind(), &forward)?]);
    }
    let gradient = bind(&gradient_graph(&network, &settings.rewrites)?, weights)?;
    let step = step_graph(&gradient)?;
    Ok(vec![
        written("energy.onnx", Kind::Energy, &forward)?,
        written("gradient.onnx", Kind::Gradient, &gradient)?,
        written("step.onnx", Kind::Step, &step)?,
    ])
}

/// What all files of a checkpoint say of themselves, the kind left as the network's.
fn contract(header: &Header, settings: &Settings, weights: &Tensors) -> Contract {
    Contract {
        format_version: FORMAT_VERSION,
        kind: header.network.kind(),
        network: header.network.clone(),
        image: header.network.image(),
        value_range: [-1.0, 1.0],
        batch: settings.batch.size(),
        langevin: header.langevin.clone(),
        purification: header.purification.clone(),
        n_classes: header.network.n_classes(),
        opset: settings.opset.number(),
        rewrites: settings
            .rewrites
            .iter()
            .map(|rewrite| rewrite.name().to_string())
            .collect(),
        n_parameters: weights.values().map(|weight| weight.data().len()).sum(),
        weights_sha256: tensors_sha256(weights),
        config: (!header.config.is_null()).then(|| header.config.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::{Activation, ConvClassifier, Sngan};

    fn energy() -> Network {
        Network::Sngan(Sngan::small(
            8,
            1,
            &[4, 6],
            &[true, false],
            Activation::Silu,
        ))
    }

    #[test]
    fn the_same_checkpoint_gives_the_same_bytes() {
        let header = Header::new(energy());
        let weights = header.network.initial_weights(1).unwrap();
        let files = || exported_files(&header, &weights, &Settings::default()).unwrap();
        assert_eq!(files(), files());
        assert_eq!(
            files().iter().map(|file| file.name).collect::<Vec<_>>(),
            file_names(&header.network)
        );
    }

    #[test]
    fn a_classifier_is_one_file() {
        let header = Header::new(Network::ConvClassifier(ConvClassifier {
            image_size: 8,
            channels: 1,
            widths: vec![4],
            pools: vec![true],
            n_classes: 10,
            activation: Activation::Relu,
        }));
        let weights = header.network.initial_weights(1).unwrap();
        let files = exported_files(&header, &weights, &Settings::default()).unwrap();
        assert_eq!(
            files.iter().map(|file| file.name).collect::<Vec<_>>(),
            ["classifier.onnx"]
        );
    }

    #[test]
    fn weights_that_do_not_belong_are_refused() {
        let header = Header::new(energy());
        let weights = header.network.initial_weights(1).unwrap();
        let changed = |change: &dyn Fn(&mut Tensors)| {
            let mut weights = weights.clone();
            change(&mut weights);
            exported_files(&header, &weights, &Settings::default())
                .unwrap_err()
                .to_string()
        };
        let bias = "stem.conv1.bias";
        for (change, wanted) in [
            (
                &|weights: &mut Tensors| drop(weights.remove(bias)) as (),
                "weight \"stem.conv1.bias\": missing",
            ),
            (
                &|weights: &mut Tensors| {
                    drop(weights.insert(bias.into(), crate::Tensor::filled(&[5], 0.0)))
                },
                "expected shape [4], got [5]",
            ),
            (
                &|weights: &mut Tensors| {
                    drop(weights.insert(bias.into(), crate::Tensor::filled(&[4], f32::NAN)))
                },
                "element 0 is NaN",
            ),
            (
                &|weights: &mut Tensors| {
                    drop(weights.insert("more".into(), crate::Tensor::scalar(0.0)))
                },
                "no weight of this name",
            ),
        ] as [(&dyn Fn(&mut Tensors), &str); 4]
        {
            let error = changed(change);
            assert!(error.contains(wanted), "{error}");
        }
    }
}
