//! What the fuzz targets share: the way that a model goes, and models that are nearly right.

mod case;
mod mutation;
mod piece;
pub mod way;
mod zoo;

pub use case::Case;
