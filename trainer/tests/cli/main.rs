//! What the command `trainer` promises, on runs that take moments.
#![allow(clippy::unwrap_used)]

mod attack;
mod common;
mod configuration;
mod data;
mod fake_cuda;
mod guard;
mod kill;
mod learning;
mod matching;
mod memory;
mod pictures;
mod ranks;
mod regimes;
mod runs;
mod safety;
mod sampling;
mod seeing;
