//! What the crates of this workspace share: which files are pictures, where they lie, and what they show (`docs/pictures.md` states the rules for
//! those who use the commands); files of data sets; the contract of a model; and small things that each of them needs.
#![deny(missing_docs)]

pub mod cifar;
pub mod console;
pub mod contract;
pub mod files;
pub mod float_range;
#[cfg(feature = "folders")]
pub mod folder;
#[cfg(feature = "pictures")]
mod format;
pub mod idx;
#[cfg(feature = "intervals")]
pub mod interval;
pub mod name;
mod named;
#[cfg(feature = "pictures")]
pub mod picture;
pub mod pixel;
pub mod pixel_distance;
#[cfg(feature = "staged")]
pub mod staged;
pub mod target;
#[cfg(feature = "pictures")]
mod whole;

pub use float_range::FloatRange;
#[cfg(feature = "pictures")]
pub use format::PictureFormat;
pub use pixel_distance::PixelDistance;

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
