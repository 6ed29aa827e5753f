//! What networks are worth that have been learned.

pub mod attack;
pub mod frechet;
pub mod interval;
pub mod npz;
pub mod sampling;
