//! Graphs to files: ONNX with its contract, and the folders that a server loads.

pub mod contract;
mod export;
mod form;
mod gradient;
pub mod model;
mod names;
pub mod onnx;
pub mod triton;

pub use export::{Export, ModelFile, file_names};
pub use form::Form;
pub use gradient::gradient;
pub use names::{Names, OwnEnergy};
