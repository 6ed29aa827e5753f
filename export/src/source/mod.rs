//! Where energies come from: built-in networks, checkpoints, ONNX models and weights of other programs.

pub mod checkpoint;
mod dynamics;
mod energy;
pub mod import;
pub mod networks;
pub mod onnx;

pub use dynamics::{Langevin, Purification};
pub use ebm_common::contract::{ImageShape, Kind};
pub(crate) use energy::flows;
pub use energy::{Documentation, Energy, OnnxModel, Origin};
