#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

pub mod error;
pub mod graph;
pub mod op;
pub mod tensor;
mod value_type;

pub mod arch;
mod fold;
pub mod gradient;
pub mod langevin;
pub mod layout;
pub mod pipeline;
pub mod potential;
pub mod precision;
pub mod reduction;
pub mod reference;
pub mod rewrite;

pub mod checkpoint;
pub mod classifier;
pub mod contract;
pub mod derived;
pub mod exported;
pub mod file;
pub mod images;
pub mod import;
pub mod onnx;
pub mod triton;
pub mod verify;

pub mod cli;

pub use error::Error;
pub use graph::Graph;
pub use tensor::{Tensor, Tensors};
