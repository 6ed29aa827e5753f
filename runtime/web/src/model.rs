//! Models from bytes.

use std::cell::OnceCell;

use ebm_runtime::{Kind, Prepared};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::failure::Failure;
use crate::pixels;
use crate::purification::{Purification, Settings};

/// An ONNX file whose contract and hash have been checked. It is prepared for running once, by the first purification.
#[wasm_bindgen]
pub struct Model {
    model: ebm_runtime::Model,
    prepared: OnceCell<Prepared>,
}

#[wasm_bindgen]
impl Model {
    /// Reads the bytes of an ONNX file; `name` only names it in messages.
    ///
    /// # Errors
    /// Those of [`ebm_runtime::Model::from_bytes`], in the same words.
    #[wasm_bindgen(constructor)]
    pub fn new(bytes: Vec<u8>, name: String) -> Result<Model, Failure> {
        Ok(Self {
            model: ebm_runtime::Model::from_bytes(bytes, name)?,
            prepared: OnceCell::new(),
        })
    }

    /// What the model says about itself, as JSON: `kind`, `image` with `channels`, `height` and `width`, the recommended `purification`, and more.
    pub fn contract(&self) -> String {
        serde_json::json!(self.model.contract()).to_string()
    }

    /// Prepares the model, which the first purification does otherwise.
    ///
    /// # Errors
    /// If the model is not a step, or has operators that no backend in it knows.
    pub fn prepare(&self) -> Result<(), Failure> {
        self.prepared().map(|_| ())
    }

    /// Starts to purify an image of 8 bits a channel: `[H, W, C]` as in files, or `[H, W, 4]` as a canvas gives them, opaque, and grey if the model is for
    /// grey images.
    ///
    /// # Errors
    /// Where the image does not fit the model, a setting is out of its range, or the model cannot be prepared.
    pub fn start(&self, pixels: &[u8], settings: &Settings) -> Result<Purification, Failure> {
        let image = pixels::of_bytes(self.model.contract().image, pixels)?;
        Purification::start(self.prepared()?, image, settings)
    }

    /// Starts to purify an image of f32 values `[C, H, W]` in `[-1, 1]`.
    ///
    /// # Errors
    /// As [`Model::start`].
    #[wasm_bindgen(js_name = startValues)]
    pub fn start_values(
        &self,
        values: Vec<f32>,
        settings: &Settings,
    ) -> Result<Purification, Failure> {
        let image = pixels::of_values(self.model.contract().image, values)?;
        Purification::start(self.prepared()?, image, settings)
    }

    fn prepared(&self) -> Result<&Prepared, Failure> {
        if let Some(prepared) = self.prepared.get() {
            return Ok(prepared);
        }
        self.model.expect_kind(Kind::Step)?;
        let prepared = Prepared::builder(&self.model).threads(1).build()?;
        Ok(self.prepared.get_or_init(|| prepared))
    }
}
