//! Graphs to files: ONNX with its contract, and the folders that a server loads.

pub mod contract;
mod form;
pub mod model;
mod names;
pub mod onnx;
mod plan;
pub mod triton;

pub use form::Form;
pub use names::{Names, OwnEnergy};
pub use plan::{ModelFile, Plan, file_names};
