//! Weights while they are learned.

pub mod adam;
pub mod ema;
pub mod gradients;
pub mod learned;
pub mod optimizer;
pub mod sgd;
