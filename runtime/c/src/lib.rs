//! The C interface of `ebm-runtime`. What it does is documented in C terms, above each function; `cbindgen` copies it into
//! `include/ebm_runtime.h`; `README.md` has the rest.
//!
//! A function here takes the caller's arguments apart, calls the runtime, and puts the result where the caller wants it: `guard` around it turns errors and
//! panics into a status, `handle` gives names to objects, and `pointer` is the only place that reads or writes the caller's memory.
#![deny(missing_docs)]
// What a caller owes is the same for all functions, and stands once at the top of the header.
#![allow(clippy::missing_safety_doc)]
#![warn(clippy::undocumented_unsafe_blocks)]

mod backend;
mod classifier;
mod handle;
mod images;
mod model;
mod pointer;
mod purifier;
mod request;
mod sampler;
mod score;
mod seed;
mod settings;
mod smoothed;
mod status;

/// The version of this interface: it changes when a program that was compiled with an older header must be compiled again.
pub const ABI: u32 = 2;
