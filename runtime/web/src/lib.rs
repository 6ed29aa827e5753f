#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod failure;
mod model;
mod pixels;
mod purification;

pub use failure::Failure;
pub use model::Model;
pub use purification::{Purification, Settings};
