//! The way of a model through the exporter, which ends with a file or with an error, never otherwise.
//!
//! The tests of `ebm-export` include this file too.

use ebm_export::error::Error;
use ebm_export::source::onnx::{Selection, read};
use ebm_export::transform::langevin::Steps;
use ebm_export::transform::rewrite::Rewrite;
use ebm_export::write::derived::{Derivation, EnergyOutput, Names, Request, derived_file};
use ebm_export::write::exported::Settings;
use ebm_export::write::onnx::Opset;

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

    fn derivation(self) -> Derivation {
        match self {
            Derivative::Raw | Derivative::Rewritten => Derivation::Gradient,
            Derivative::HessianVectorProduct => Derivation::HessianVectorProduct,
            Derivative::Steps => Derivation::Steps(Steps {
                count: 2,
                clip: Some(1.0),
            }),
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
    let foreign = read(bytes, &Selection::default())?;
    let settings = Settings {
        opset: Opset::DEFAULT,
        batch: foreign.batch,
        rewrites: derivative.rewrites(),
        ..Settings::default()
    };
    let request = Request {
        derivation: derivative.derivation(),
        energy: EnergyOutput::Renamed,
        names: Names::default(),
    };
    Ok(derived_file(&foreign, &request, &settings)?.to_bytes())
}
