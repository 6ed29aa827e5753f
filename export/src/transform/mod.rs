//! Graphs to graphs: gradients, exact rewrites, potentials, Langevin steps and low precision.

pub mod gradient;
pub mod langevin;
pub mod layout;
pub mod pipeline;
pub mod potential;
pub mod precision;
pub mod reduction;
pub mod rewrite;
