#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod error;

pub mod graph;

pub mod source;

pub mod transform;

pub mod write;

pub mod check;

pub use error::{Choice, Error, Result};
pub use graph::Graph;
pub use graph::tensor::{Tensor, Tensors};
pub use write::gradient;
