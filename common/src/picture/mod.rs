//! From the bytes of a PNG, JPEG or WebP file to pixels.
//!
//! A picture is what a viewer shows of its file on a white page: upright, 8 bits a channel, grey or red, green and blue.

mod crop;
mod decode;
mod fit;

use std::fmt;

pub use crop::{Rectangle, Size};
pub use decode::{Picture, decode, read};
pub use fit::{Change, Colours, Crop, Fit, Form, Image};

/// Why a file does not give the picture that is asked for. Its text stands behind the file's name: `is an empty file`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The file cannot be read.
    Unreadable(String),
    /// The file is damaged, or not a picture.
    Damaged(String),
    /// The picture is whole, but other than asked for.
    Unfit(Unfit),
}

/// What is other than asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// Its size.
    Size {
        /// That of the picture.
        got: Size,
        /// That of the image.
        expected: Size,
    },
    /// It is grey, and an image in colour is wanted.
    Grey,
    /// It is in colour, and a grey image is wanted.
    Coloured,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(reason) | Self::Damaged(reason) => f.write_str(reason),
            Self::Unfit(Unfit::Size { got, expected }) => write!(
                f,
                "is {}×{} pixels, expected {}×{}",
                got.0, got.1, expected.0, expected.1
            ),
            Self::Unfit(Unfit::Grey) => f.write_str("is grey, expected a picture in colour"),
            Self::Unfit(Unfit::Coloured) => f.write_str("is in colour, expected a grey picture"),
        }
    }
}

#[cfg(all(test, feature = "png", feature = "jpeg", feature = "webp"))]
mod tests;
