//! Weights while they are learned.

pub mod adam;
pub mod ema;
pub mod gradients;
pub mod learned;
pub mod optimizer;
pub mod sgd;

/// An update came to a value that is not finite.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotFinite(pub String);
