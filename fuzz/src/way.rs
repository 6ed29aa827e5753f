//! The way of a model through the exporter, which ends with a file or with an error, never otherwise.
//!
//! The tests of `ebm-export` include this file too.

use ebm_export::Error;
use ebm_export::source::onnx::{Selection, read};
use ebm_export::transform::rewrite::Rewrite;
use ebm_export::write::{Export, Form};

/// What is made of a model that can be read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Derivative {
    /// Its gradient, as differentiated.
    Raw,
    /// Its gradient, rewritten.
    Rewritten,
    /// Its Hessian-vector product, rewritten.
    HessianVectorProduct,
    /// Two steps of Langevin dynamics, rewritten.
    Steps,
}

impl Derivative {
    /// All of them.
    pub const ALL: [Derivative; 4] = [
        Derivative::Raw,
        Derivative::Rewritten,
        Derivative::HessianVectorProduct,
        Derivative::Steps,
    ];

    fn form(self) -> Form {
        match self {
            Derivative::Raw | Derivative::Rewritten => Form::Gradient,
            Derivative::HessianVectorProduct => Form::HessianVectorProduct,
            Derivative::Steps => Form::Steps(2),
        }
    }

    fn rewrites(self) -> Vec<Rewrite> {
        match self {
            Derivative::Raw => Vec::new(),
            _ => Rewrite::ALL.to_vec(),
        }
    }
}

/// Reads a model, differentiates it and writes what comes out.
///
/// # Errors
/// The model cannot be read, or has no such derivative.
pub fn go(bytes: &[u8], derivative: Derivative) -> Result<Vec<u8>, Error> {
    let model = read(bytes, &Selection::default())?;
    let export = Export {
        rewrites: derivative.rewrites(),
        clip: (derivative == Derivative::Steps).then_some(1.0),
        ..Export::default()
    };
    Ok(export.model(&model, &derivative.form())?.to_bytes())
}
