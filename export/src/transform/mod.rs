//! Graphs to graphs: gradients, exact rewrites, potentials, Langevin steps and low precision.

pub mod gradient;
pub mod langevin;
pub mod layout;
pub mod pipeline;
pub mod pixels;
pub mod potential;
pub mod precision;
pub mod purifier;
pub mod reduction;
pub mod rewrite;
