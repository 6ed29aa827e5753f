//! What is learned: an energy, its generator, a classifier.

pub mod adversary;
pub mod borrowed;
pub mod classifier;
pub mod energy;
pub mod examples;
pub mod fit;
pub mod generator;
pub mod matching;
pub mod origin;
pub mod warm_start;
