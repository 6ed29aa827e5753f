//! What the crates of this workspace share: which files are pictures, where they lie, and what they show (`docs/pictures.md` states the rules for
//! those who use the commands); and distances of pixels with their scale.
#![deny(missing_docs)]

pub mod files;
#[cfg(feature = "folders")]
pub mod folder;
pub mod name;
#[cfg(any(feature = "png", feature = "jpeg", feature = "webp"))]
pub mod picture;
pub mod pixel;
pub mod pixel_distance;

pub use pixel_distance::PixelDistance;
