#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod error;
mod shape;
mod tiles;

mod graph;
mod onnx;
mod read;

mod arena;
mod constants;
mod fuse;
mod layout;
mod lower;
mod plan;
mod program;
mod weights;

mod crew;
mod kernels;
mod lanes;
mod memory;
mod session;
mod steps;

pub use error::{Error, Result};
pub use lanes::{Processor, on_widest_vectors};
pub use plan::{Limits, Plan};
pub use session::{Input, Output, Session};
pub use tiles::Tiles;
