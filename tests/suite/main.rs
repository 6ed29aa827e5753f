//! What crosses crates: the same graphs in libtorch and on every backend; noise; and the whole life cycle by its commands.
#![allow(clippy::unwrap_used)]

mod agreement;
mod classifiers;
mod contracts;
mod documents;
mod earlier;
mod exports;
mod gradients;
mod life_cycle;
mod lightness;
mod memory;
mod networks;
mod noise;
mod operators;
mod pictures;
mod precision;
mod programs;
mod serving;
mod statistics;
mod structure;
mod zoo;
