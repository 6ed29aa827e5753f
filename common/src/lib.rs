//! What the crates of this workspace share: which files are pictures, where they lie, and what they show. `docs/pictures.md` states the
//! rules for those who use the commands.
#![deny(missing_docs)]

#[cfg(feature = "folders")]
pub mod folder;
pub mod name;
#[cfg(any(feature = "png", feature = "jpeg", feature = "webp"))]
pub mod picture;
