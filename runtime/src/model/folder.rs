//! Folders of models.

use std::path::Path;

use super::{Model, Verification};
use crate::contract::Kind;
use crate::error::{Error, ErrorKind, Result};

const HOW_TO_WRITE: &str = "write one with `ebm-export onnx CHECKPOINT -o DIR`";

/// A folder as `ebm-export onnx` writes it: `step.onnx`, and `classifier.onnx` if the model has a classifier.
///
/// ```
/// # fn main() -> ebm_runtime::Result<()> {
/// let models = ebm_runtime::ModelFolder::open("tests/fixtures/digits")?;
/// assert_eq!(models.step.contract().image.to_string(), "[1, 8, 8]");
/// assert_eq!(models.require_classifier()?.contract().n_classes, Some(2));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ModelFolder {
    /// The Langevin step.
    pub step: Model,
    /// The classifier, if there is one in the folder.
    pub classifier: Option<Model>,
}

impl ModelFolder {
    /// Opens the models of a folder and checks their contracts and kinds.
    ///
    /// # Errors
    /// Those of [`Model::open`] and [`Model::expect_kind`], and [`ErrorKind::Shape`] if the two models are for images of different shapes.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(folder, Verification::Hash)
    }

    /// Like [`ModelFolder::open`], with a say in whether the files' hashes must be right.
    ///
    /// # Errors
    /// As [`ModelFolder::open`].
    pub fn open_with(folder: impl AsRef<Path>, verification: Verification) -> Result<Self> {
        let folder = folder.as_ref();
        let step_path = folder.join("step.onnx");
        if !step_path.is_file() {
            let parent = folder.parent().filter(|parent| *parent != Path::new(""));
            let parent = parent.unwrap_or(Path::new("."));
            let (got, advice) = match (folder.is_dir(), folder.exists()) {
                (true, _) => ("a folder without it", HOW_TO_WRITE.to_string()),
                (false, false) => ("no such folder", HOW_TO_WRITE.to_string()),
                (false, true) => (
                    "a file",
                    format!(
                        "give the folder of `step.onnx`, such as `{}`",
                        parent.display()
                    ),
                ),
            };
            return Err(Error::new(ErrorKind::Io, "the model folder is not usable")
                .at_path(folder)
                .expected("a folder that holds `step.onnx`")
                .but_got(got)
                .advise(advice));
        }
        let step = Model::open_with(step_path, verification)?;
        step.expect_kind(Kind::Step)?;
        let classifier_path = folder.join("classifier.onnx");
        let classifier = if classifier_path.exists() {
            let classifier = Model::open_with(classifier_path, verification)?;
            classifier.expect_kind(Kind::Classifier)?;
            expect_same_image(&step, &classifier)?;
            Some(classifier)
        } else {
            None
        };
        Ok(Self { step, classifier })
    }

    /// The classifier.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the folder has none.
    pub fn require_classifier(&self) -> Result<&Model> {
        self.classifier.as_ref().ok_or_else(|| {
            let folder = self.step.path().parent().unwrap_or(Path::new("."));
            Error::new(ErrorKind::Io, "the model folder has no classifier")
                .at_path(folder)
                .expected("a file `classifier.onnx`")
                .advise("export the classifier's checkpoint into the same folder")
        })
    }
}

pub(crate) fn expect_same_image(step: &Model, classifier: &Model) -> Result<()> {
    let (expected, got) = (step.contract().image, classifier.contract().image);
    if expected == got {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Shape,
        "the classifier is for images of another shape than the energy",
    )
    .at_path(classifier.path())
    .expected(expected)
    .but_got(got)
    .advise("export both for the same images"))
}
