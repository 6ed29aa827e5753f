//! What a caller in JavaScript is told when something cannot be done.

use std::fmt;

use wasm_bindgen::{JsError, JsValue};

/// Why something was refused or went wrong: an `Error` in JavaScript, with the words of the runtime.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl From<ebm_runtime::Error> for Failure {
    fn from(error: ebm_runtime::Error) -> Self {
        Self(error.with_causes())
    }
}

impl From<Failure> for JsValue {
    fn from(failure: Failure) -> Self {
        JsError::new(&failure.0).into()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
