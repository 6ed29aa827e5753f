//! A picture as an image of a given size and number of channels.

use std::fmt;

use image::DynamicImage;
use image::imageops::FilterType;

use super::crop::Rectangle;
use super::decode::{Picture, decode, size};
use super::{Fault, Size, Unfit};

/// What becomes of pictures of another size. Resizing is bilinear, and averages over what it makes smaller.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Crop {
    /// They are refused.
    #[default]
    Off,
    /// The whole picture is resized, whatever its aspect.
    Resize,
    /// The largest rectangle of the image's aspect in the middle is resized.
    Centre,
    /// A rectangle that follows from four numbers is resized: its aspect, its share of the largest one of that aspect, and its place.
    Drawn {
        /// Least and largest share of the area of the largest rectangle.
        area: [f64; 2],
        /// Least and largest aspect, as a factor of the image's.
        aspect: [f64; 2],
        /// Each from 0 and below 1.
        draws: [f64; 4],
    },
}

/// What becomes of pictures of other colours. WebP knows no grey: a picture of it whose pixels are all grey is a grey one, if that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Colours {
    /// They are refused.
    #[default]
    Kept,
    /// Grey ones become pictures in colour; those in colour are refused.
    FromGrey,
    /// Grey ones become pictures in colour, and those in colour grey ones.
    Converted,
}

/// What becomes of pictures that are not as they are wanted. By default they are refused.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Fit {
    /// Of another size.
    pub crop: Crop,
    /// Of other colours.
    pub colours: Colours,
}

/// The images that are wanted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Form {
    /// 1 for grey, 3 for red, green and blue.
    pub channels: usize,
    /// Width and height.
    pub size: Size,
    /// What becomes of other pictures.
    pub fit: Fit,
}

/// What was done to a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Of more than 8 bits a channel, 8 are kept.
    Depth,
    /// Transparent pixels show the white behind them.
    Transparency,
    /// It was cut or resized.
    Size,
    /// Grey became colour, or colour grey.
    Colours,
}

/// Stands behind the name of a file.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Depth => "has 16 bits a channel, of which 8 are kept",
            Self::Transparency => "has transparent pixels, which show white",
            Self::Size => "is resized",
            Self::Colours => "changes its colours",
        })
    }
}

/// An image that was wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Bytes `[height, width, channels]`.
    pub pixels: Vec<u8>,
    /// What was done to the picture.
    pub changes: Vec<Change>,
}

impl Form {
    /// The image that a file gives. Its size is looked at before it is decoded.
    ///
    /// # Errors
    /// [`Fault::Damaged`] and [`Fault::Unfit`].
    pub fn image(&self, bytes: &[u8]) -> Result<Image, Fault> {
        if self.fit.crop == Crop::Off {
            let (got, expected) = (size(bytes)?, self.size);
            if got != expected {
                return Err(Fault::Unfit(Unfit::Size { got, expected }));
            }
        }
        let picture = decode(bytes)?;
        let (mut changes, whole) = (picture.changes.clone(), picture.size());
        let (pixels, change) = self.in_colours(picture).map_err(Fault::Unfit)?;
        changes.extend(change);
        let Rectangle {
            left,
            top,
            width,
            height,
        } = self.fit.crop.rectangle(whole, self.size);
        if (width, height) != whole || whole != self.size {
            changes.push(Change::Size);
        }
        let part = pixels.crop_imm(left, top, width, height);
        let image = match (width, height) == self.size {
            true => part,
            false => part.resize_exact(self.size.0, self.size.1, FilterType::Triangle),
        };
        Ok(Image {
            pixels: image.into_bytes(),
            changes,
        })
    }

    /// The picture with the wanted number of channels, and the change if that changes what it shows.
    fn in_colours(&self, picture: Picture) -> Result<(DynamicImage, Option<Change>), Unfit> {
        let is_grey = picture.is_grey();
        let pixels = picture.pixels;
        match (pixels.color().has_color(), self.channels, self.fit.colours) {
            (false, 1, _) | (true, 3, _) => Ok((pixels, None)),
            (true, ..) if is_grey => Ok((pixels.into_luma8().into(), None)),
            (true, _, Colours::Converted) => {
                Ok((pixels.into_luma8().into(), Some(Change::Colours)))
            }
            (true, ..) => Err(Unfit::Coloured),
            (false, _, Colours::Kept) => Err(Unfit::Grey),
            (false, ..) => Ok((pixels.into_rgb8().into(), Some(Change::Colours))),
        }
    }
}
