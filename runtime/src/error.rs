//! The error of this crate.

use std::fmt;
use std::path::{Path, PathBuf};

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of thing went wrong, for programs that react to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file or folder could not be read or written.
    Io,
    /// The bytes are not an ONNX model.
    Model,
    /// The model carries no contract, or one that this crate does not understand.
    Contract,
    /// The contract has another format version.
    Version,
    /// The model's graph or contract is not what its hash was made of.
    Tampered,
    /// The model is of another kind than was wanted, a classifier instead of a step for example.
    WrongKind,
    /// A parameter lies outside its range.
    Argument,
    /// Images or tensors have another shape than the model.
    Shape,
    /// A value is NaN or infinite.
    NonFinite,
    /// The backend is unknown, not compiled in, or its library is missing.
    BackendMissing,
    /// The backend failed at preparing or running the model.
    Backend,
    /// The run was cancelled.
    Cancelled,
    /// An image file could not be decoded or encoded.
    Image,
}

/// What went wrong, where, what was expected, what came, and how to mend it.
///
/// The message is one sentence without the cause; that is in [`source`](std::error::Error::source).
#[derive(Debug)]
pub struct Error(Box<Details>);

#[derive(Debug)]
struct Details {
    kind: ErrorKind,
    problem: String,
    path: Option<PathBuf>,
    tensor: Option<String>,
    expected: Option<String>,
    got: Option<String>,
    advice: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of this kind. `problem` is a clause: "the file cannot be read".
    pub fn new(kind: ErrorKind, problem: impl Into<String>) -> Self {
        Self(Box::new(Details {
            kind,
            problem: problem.into(),
            path: None,
            tensor: None,
            expected: None,
            got: None,
            advice: None,
            source: None,
        }))
    }

    /// An error of [`ErrorKind::Argument`]: the parameter of this name is out of its range.
    pub fn out_of_range(name: &str, expected: &str, got: impl fmt::Display) -> Self {
        let problem = format!("the parameter `{name}` is out of range");
        let error = Self::new(ErrorKind::Argument, problem);
        error.expected(expected).but_got(got)
    }

    /// Names the file or folder concerned.
    pub fn at_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.0.path = Some(path.into());
        self
    }

    /// Only backends know of tensors.
    #[cfg_attr(
        not(any(
            feature = "native",
            feature = "rten",
            feature = "tract",
            feature = "ort"
        )),
        allow(dead_code)
    )]
    pub(crate) fn at_tensor(mut self, tensor: impl Into<String>) -> Self {
        self.0.tensor = Some(tensor.into());
        self
    }

    /// Says what was expected.
    pub fn expected(mut self, expected: impl fmt::Display) -> Self {
        self.0.expected = Some(expected.to_string());
        self
    }

    /// Says what came instead.
    pub fn but_got(mut self, got: impl fmt::Display) -> Self {
        self.0.got = Some(got.to_string());
        self
    }

    /// Says how to mend it.
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.0.advice = Some(advice.into());
        self
    }

    /// Names the cause.
    pub fn caused_by(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The message and those of its causes, one behind the other, for callers that have no place for a chain of errors.
    pub fn with_causes(&self) -> String {
        let causes = std::iter::successors(std::error::Error::source(self), |cause| cause.source());
        causes.fold(self.to_string(), |message, cause| {
            format!("{message}: {cause}")
        })
    }

    /// What sort of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file or folder concerned.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// How to mend it.
    pub fn advice(&self) -> Option<&str> {
        self.0.advice.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let details = &self.0;
        if let Some(path) = &details.path {
            write!(f, "`{}`: ", path.display())?;
        }
        if let Some(tensor) = &details.tensor {
            write!(f, "tensor `{tensor}`: ")?;
        }
        f.write_str(&details.problem)?;
        match (&details.expected, &details.got) {
            (Some(expected), Some(got)) => write!(f, ": expected {expected}, got {got}")?,
            (Some(expected), None) => write!(f, ": expected {expected}")?,
            (None, Some(got)) => write!(f, ": got {got}")?,
            (None, None) => {}
        }
        match &details.advice {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn message_says_where_what_and_how_to_mend() {
        let error = Error::new(ErrorKind::Shape, "wrong shape")
            .at_path("a.onnx")
            .at_tensor("x")
            .expected("[1, 2]")
            .but_got("[3]")
            .advise("resize it")
            .caused_by("inner");
        assert_eq!(
            error.to_string(),
            "`a.onnx`: tensor `x`: wrong shape: expected [1, 2], got [3]; resize it"
        );
        assert_eq!(error.with_causes(), format!("{error}: inner"));
        assert_eq!(error.kind(), ErrorKind::Shape);
        assert_eq!(
            error.source().map(ToString::to_string).as_deref(),
            Some("inner")
        );
    }
}
