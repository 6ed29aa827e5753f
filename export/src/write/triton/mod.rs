//! A model repository of Triton Inference Server: a purifier, and if there is a classifier, that and an ensemble of both.

mod classifier;
mod config;
mod readme;

pub use classifier::ServedClassifier;
pub use config::{Batching, EnsembleConfig, EnsembleStep, ModelConfig, TensorConfig};

use std::io::{self, Write};

use crate::error::{Choice, Error, Result};
use crate::graph::Batch;
use crate::source::checkpoint::Header;
use crate::source::{Energy, ImageShape, Kind, Purification};
use crate::write::model::Model;
use crate::write::{Export, Form};

/// Name of the model that purifies.
pub const PURIFIER: &str = "purifier";
/// Name of the model that classifies.
pub const CLASSIFIER: &str = "classifier";
/// Name of the ensemble that classifies what it has purified.
pub const ENSEMBLE: &str = "defended_classifier";
/// Name of the file for people.
const README: &str = "README.md";
/// The ensemble's name of the purified images.
pub const PURIFIED: &str = "purified";

/// What is served, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Served {
    /// ε, T and the number of steps of one call, which are fixed.
    pub dynamics: Purification,
    /// How the server batches.
    pub batching: Batching,
    /// What classifies the purified images, if anything does.
    pub classifier: Option<ServedClassifier>,
}

impl Served {
    /// Paths of the files that [`repository`] gives.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = vec![config_path(PURIFIER), model_path(PURIFIER)];
        if self.classifier.is_some() {
            paths.extend([config_path(CLASSIFIER), model_path(CLASSIFIER)]);
            paths.extend([config_path(ENSEMBLE), placeholder_path(ENSEMBLE)]);
        }
        paths.push(README.to_string());
        paths
    }

    /// Checks that it suits the checkpoint and the export.
    ///
    /// # Errors
    /// The checkpoint holds no energy; the batch is fixed; or ε, T, the number of steps or the largest batch make no sense.
    pub fn check(&self, header: &Header, batch: Batch, export: &Export) -> Result<()> {
        let kind = header.network.kind();
        if kind != Kind::Energy {
            return Err(Error::choice(
                Choice::Classifier,
                format!(
                    "expected the checkpoint of an energy, which is what purifies, got kind `{kind}`; give a classifier behind it"
                ),
            ));
        }
        if batch != Batch::Symbolic {
            return Err(Error::Onnx(
                "a server puts requests together to batches of any size; leave the batch open"
                    .to_string(),
            ));
        }
        Batch::fixed(self.batching.max_batch)?;
        export.check(&self.form())?;
        let served = Header {
            purification: Some(self.dynamics.clone()),
            ..Header::new(header.network.clone())
        };
        served.check().map_err(Error::Onnx)
    }

    fn form(&self) -> Form {
        Form::Purifier(self.dynamics.clone())
    }
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq)]
pub struct RepositoryFile {
    /// Its path within the repository, with `/` between folders.
    pub path: String,
    /// What it holds.
    pub content: Content,
}

/// What a file of a repository holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A model.
    Model(Box<Model>),
    /// Text, or a model that is served as it is.
    Bytes(Vec<u8>),
}

impl Content {
    /// Writes it.
    ///
    /// # Errors
    /// The system refused.
    pub fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Content::Model(model) => model.write_to(out),
            Content::Bytes(bytes) => out.write_all(bytes),
        }
    }
}

/// The repository of an energy, and of a classifier behind it.
///
/// # Errors
/// It is not the energy of a checkpoint; the potential does not suit it; ε, T, or the number of steps make no sense; or the batch is fixed.
pub fn repository(
    energy: &Energy,
    export: &Export,
    served: &Served,
) -> Result<Vec<RepositoryFile>> {
    let Some(header) = energy.header() else {
        let problem = "expected the checkpoint of an energy, got an ONNX model";
        return Err(Error::Onnx(problem.to_string()));
    };
    served.check(header, energy.batch, export)?;
    let model = export.model(energy, &served.form())?;
    let purifier = purifier_config(header.network.image(), served.dynamics.steps);
    let mut files = vec![
        text(config_path(PURIFIER), purifier.text(served.batching)),
        RepositoryFile {
            path: model_path(PURIFIER),
            content: Content::Model(Box::new(model)),
        },
    ];
    if let Some(classifier) = &served.classifier {
        let config = ModelConfig {
            name: CLASSIFIER.to_string(),
            inputs: vec![classifier.input.clone()],
            outputs: vec![classifier.output.clone()],
        };
        let ensemble = ensemble_config(&purifier, classifier);
        files.extend([
            text(config_path(CLASSIFIER), config.text(served.batching)),
            RepositoryFile {
                path: model_path(CLASSIFIER),
                content: Content::Bytes(classifier.bytes.clone()),
            },
            text(config_path(ENSEMBLE), ensemble.text(served.batching)),
            text(placeholder_path(ENSEMBLE), String::new()),
        ]);
    }
    files.push(text(README.to_string(), readme::text(header, served)));
    Ok(files)
}

fn config_path(model: &str) -> String {
    format!("{model}/config.pbtxt")
}

fn model_path(model: &str) -> String {
    format!("{model}/1/model.onnx")
}

/// An ensemble has a folder for its version too, with nothing in it; copies keep no folder that has no file.
fn placeholder_path(model: &str) -> String {
    format!("{model}/1/.gitkeep")
}

fn text(path: String, text: String) -> RepositoryFile {
    RepositoryFile {
        path,
        content: Content::Bytes(text.into_bytes()),
    }
}

fn purifier_config(image: ImageShape, steps: usize) -> ModelConfig {
    let pixels = [image.channels, image.height, image.width];
    let tensor = |name: &str, dims: &[usize]| TensorConfig {
        name: name.to_string(),
        dims: dims.to_vec(),
    };
    ModelConfig {
        name: PURIFIER.to_string(),
        inputs: vec![
            tensor("x", &pixels),
            tensor("noise", &[&[steps], &pixels[..]].concat()),
        ],
        outputs: vec![
            tensor("x_next", &pixels),
            tensor("energy", &[steps]),
            tensor("gradient_norm", &[steps]),
        ],
    }
}

/// The ensemble takes what the purifier takes, and gives what the classifier gives, and the purified images.
fn ensemble_config(purifier: &ModelConfig, classifier: &ServedClassifier) -> EnsembleConfig {
    let same = |tensor: &TensorConfig| (tensor.name.clone(), tensor.name.clone());
    let pair = |key: &str, value: &str| (key.to_string(), value.to_string());
    let logits = "logits";
    let output = |name: &str, dims: &[usize]| TensorConfig {
        name: name.to_string(),
        dims: dims.to_vec(),
    };
    EnsembleConfig {
        name: ENSEMBLE.to_string(),
        inputs: purifier.inputs.clone(),
        outputs: vec![
            output(logits, &classifier.output.dims),
            output(PURIFIED, &classifier.input.dims),
        ],
        steps: vec![
            EnsembleStep {
                model: PURIFIER.to_string(),
                inputs: purifier.inputs.iter().map(same).collect(),
                outputs: vec![pair("x_next", PURIFIED)],
            },
            EnsembleStep {
                model: CLASSIFIER.to_string(),
                inputs: vec![pair(&classifier.input.name, PURIFIED)],
                outputs: vec![pair(&classifier.output.name, logits)],
            },
        ],
    }
}
