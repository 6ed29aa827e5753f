//! What can go wrong, with where and what to do.

use std::path::{Path, PathBuf};

use ebm_common::files::FileError;

/// What a function of this crate gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operator refused its operands.
    #[error("node {node:?} ({op}): {problem}")]
    Operator {
        /// Name of the node.
        node: String,
        /// Name of the operator.
        op: &'static str,
        /// What was expected and what came.
        problem: String,
    },
    /// A node of a model that cannot be read.
    #[error("node {node:?} ({op}): {problem}")]
    Node {
        /// Name of the node.
        node: String,
        /// Its operator type.
        op: String,
        /// What was expected and what came.
        problem: String,
    },
    /// Two inputs or weights of one name.
    #[error(
        "the name {name:?} is used twice in one graph; give each input and weight a name of its own"
    )]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// An input or output that the graph does not have.
    #[error("the graph has no {kind} {name:?}; it has {existing:?}")]
    UnknownValue {
        /// `input` or `output`.
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// What there is.
        existing: Vec<String>,
    },
    /// A derivative that is not available.
    #[error("cannot differentiate node {node:?} ({op}): {problem}")]
    Gradient {
        /// Name of the node.
        node: String,
        /// Name of the operator.
        op: &'static str,
        /// Why.
        problem: String,
    },
    /// An output that cannot be differentiated because it is not one scalar per image.
    #[error("output {output:?} has shape {shape}, expected one scalar per image, [N]; reduce it")]
    NotScalarPerImage {
        /// Name of the output.
        output: String,
        /// Its shape.
        shape: String,
    },
    /// Something that has to be chosen, or chosen otherwise.
    #[error("{problem}")]
    Choice {
        /// What is to be chosen. A program says here with which option.
        choice: Choice,
        /// What was expected and what came.
        problem: String,
    },
    /// A network description that makes no sense.
    #[error("network {network}: {problem}")]
    Network {
        /// Name of the network.
        network: &'static str,
        /// What was expected and what came.
        problem: String,
    },
    /// Terms of a potential that do not suit its energy.
    #[error("{problem}")]
    Potential {
        /// What was expected and what came.
        problem: String,
    },
    /// Weights that do not fit the network.
    #[error("weight {name:?}: {problem}")]
    Weight {
        /// Name of the weight.
        name: String,
        /// What was expected and what came.
        problem: String,
    },
    /// A file of weights or a map of names that does not fit.
    #[error("{0}")]
    Import(String),
    /// A file or folder that is not a checkpoint, or a damaged one.
    #[error("{path}: {problem}")]
    Checkpoint {
        /// The file or folder.
        path: PathBuf,
        /// What was expected and what came.
        problem: String,
    },
    /// A checkpoint that another version of this program wrote.
    #[error(
        "{path}: expected format_version {expected}, got {got}; use the version of this program that wrote it"
    )]
    CheckpointVersion {
        /// Its header.
        path: PathBuf,
        /// That of this program.
        expected: u32,
        /// What the header says.
        got: String,
    },
    /// A file that is not ONNX, or a setting that ONNX does not have.
    #[error("{0}")]
    Onnx(String),
    /// The operating system refused.
    #[error(transparent)]
    Io(FileError),
}

/// What a caller chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Choice {
    /// The input of a model.
    Input,
    /// The output of a model.
    Output,
    /// The extents of a model's input that it leaves open.
    Shape,
    /// Where the channels of a model's images are.
    Layout,
    /// The name of a file's output or input: `energy`, `gradient`, `hvp` or `v`.
    Name(&'static str),
    /// A map of names of weights.
    Map,
    /// The classifier behind a purifier.
    Classifier,
    /// The model or checkpoint with which a file is compared.
    Comparison,
    /// The checkpoint of the prior.
    Prior,
    /// The images at which a file is evaluated.
    Images,
}

impl Error {
    pub(crate) fn operator(node: &str, op: &'static str, problem: String) -> Error {
        Error::Operator {
            node: node.to_string(),
            op,
            problem,
        }
    }

    pub(crate) fn choice(choice: Choice, problem: impl Into<String>) -> Error {
        Error::Choice {
            choice,
            problem: problem.into(),
        }
    }

    pub(crate) fn checkpoint(path: &Path, problem: impl Into<String>) -> Error {
        Error::Checkpoint {
            path: path.to_path_buf(),
            problem: problem.into(),
        }
    }

    pub(crate) fn io<'a>(
        action: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(std::io::Error) -> Error + use<'a> {
        move |source| Error::Io(FileError::on(action, path)(source))
    }
}
