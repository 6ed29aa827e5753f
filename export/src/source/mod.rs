//! Where energies come from: built-in networks, checkpoints, ONNX models and weights of other programs.

pub mod checkpoint;
pub mod import;
pub mod networks;
pub mod onnx;
