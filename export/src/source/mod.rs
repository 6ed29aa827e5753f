//! Where energies come from: built-in networks, checkpoints, ONNX models and weights of other programs.

pub mod checkpoint;
mod dynamics;
mod energy;
mod image_shape;
pub mod import;
mod kind;
pub mod networks;
pub mod onnx;

pub use dynamics::{Langevin, Purification};
pub(crate) use energy::flows;
pub use energy::{Energy, OnnxModel, Origin};
pub use image_shape::ImageShape;
pub use kind::Kind;
