//! What keeps a file from being planned.

use std::fmt;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a file cannot be planned, or a run does not fit its plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The bytes are not an ONNX model, or not a whole one.
    NotOnnx(String),
    /// The model has an operator, or a form of one, that the engine does not take.
    Unsupported {
        /// The operator's type in ONNX, such as `LSTM`.
        operator: String,
        /// Name of the node.
        node: String,
        /// What was expected and what came.
        problem: String,
    },
    /// The weights and one image take more memory than is allowed, with the smallest tiles too.
    TooLarge {
        /// The bytes that they take at least.
        needed: usize,
    },
    /// An input or output has another name or shape than the model's.
    Misfit(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOnnx(problem) => write!(f, "the file is not a whole ONNX model: {problem}"),
            Self::Unsupported {
                operator,
                node,
                problem,
            } => write!(f, "operator {operator} of node `{node}`: {problem}"),
            Self::TooLarge { needed } => write!(
                f,
                "the weights and one image take {needed} bytes or more, which is more than is allowed"
            ),
            Self::Misfit(problem) => f.write_str(problem),
        }
    }
}

impl std::error::Error for Error {}
