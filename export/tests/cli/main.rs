//! The command `export`, as a user types it.
#![allow(clippy::unwrap_used)]

mod classifier;
mod gradient;
mod onnx;
mod triton;
mod verify;
mod workplace;
