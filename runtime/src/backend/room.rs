//! The memory that a model may take.

use super::{Backend, Session};
use crate::error::{Error, Result};
use crate::model::Model;

impl Backend {
    /// Returns Ok if the file alone is not larger than the memory that is allowed: its weights are never smaller when they are prepared.
    pub(super) fn check_file(&self, model: &Model) -> Result<()> {
        match self.memory {
            Some(allowed) if model.n_bytes()? > allowed => Err(too_large(
                model,
                allowed,
                model.n_bytes()?,
                "for its weights alone",
            )),
            _ => Ok(()),
        }
    }

    /// How many images may go through the prepared model at once; any number if memory is not bounded.
    pub(super) fn most_images(
        &self,
        model: &Model,
        session: &dyn Session,
    ) -> Result<Option<usize>> {
        let Some(allowed) = self.memory else {
            return Ok(None);
        };
        let Some(footprint) = session.footprint() else {
            let expected = "the backend `native`, the only one that tells what a model takes";
            return Err(
                Error::out_of_range("memory", expected, format!("`{self}`")).at_path(model.path())
            );
        };
        // It was planned within what is allowed.
        Ok(Some(
            (allowed - footprint.weight_bytes) / footprint.image_bytes.max(1),
        ))
    }
}

pub(super) fn too_large(model: &Model, allowed: usize, needed: usize, what: &str) -> Error {
    let [needed, allowed] = [needed, allowed].map(|bytes| bytes as f64 / f64::from(1 << 20));
    let expected = format!("{needed:.1} MiB or more {what}");
    let error = Error::out_of_range("memory", &expected, format!("{allowed:.1} MiB"));
    error
        .at_path(model.path())
        .advise("allow more, or take a smaller model")
}
