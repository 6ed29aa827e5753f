//! Graphs to files: ONNX with its contract, and the folders that a server loads.

pub mod contract;
mod form;
mod gradient;
pub mod model;
mod names;
pub mod onnx;
mod plan;
pub mod triton;

pub use form::Form;
pub use gradient::gradient;
pub use names::{Names, OwnEnergy};
pub use plan::{ModelFile, Plan, file_names};
