//! Graphs to files: ONNX with its contract, and the folders that a server loads.

pub mod classifier;
pub mod contract;
pub mod derived;
pub mod exported;
pub mod model;
pub mod onnx;
pub mod triton;
