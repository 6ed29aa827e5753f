//! Pictures out.

use std::path::Path;

use ebm_common::files::write_atomically;
use image::ExtendedColorType;

#[cfg(not(all(feature = "png", feature = "jpeg", feature = "webp")))]
use super::PictureFormat;
use super::colour_type;
use crate::contract::ImageShape;
use crate::error::{Error, ErrorKind, Result};
use crate::images::Images;

/// How pixels become a picture file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PictureEncoding {
    /// PNG.
    Png,
    /// WebP without loss.
    WebP,
    /// JPEG with a quality from 1 to 100.
    Jpeg {
        /// From 1, the smallest file, to 100, the best picture.
        quality: u8,
    },
}

/// Writes one image as an 8-bit PNG file, under a temporary name that becomes `path` when all is on the disk. An existing file is replaced.
///
/// # Errors
/// [`ErrorKind::Shape`] if the image has neither one nor three channels, [`ErrorKind::Io`] if the file cannot be written.
///
/// # Panics
/// If `index` is not below [`Images::len`].
#[cfg(feature = "png")]
pub fn write_png(path: impl AsRef<Path>, images: &Images, index: usize) -> Result<()> {
    write_picture(path, images, index, PictureEncoding::Png)
}

/// Writes one image as a picture file of 8 bits a channel, under a temporary name that becomes `path` when all is on the disk. An existing
/// file is replaced.
///
/// # Errors
/// Those of [`encode_picture`], and [`ErrorKind::Io`] if the file cannot be written.
///
/// # Panics
/// If `index` is not below [`Images::len`].
pub fn write_picture(
    path: impl AsRef<Path>,
    images: &Images,
    index: usize,
    encoding: PictureEncoding,
) -> Result<()> {
    let path = path.as_ref();
    let encoded = encode_picture(images, index, encoding).map_err(|error| error.at_path(path))?;
    write_atomically(path, &encoded).map_err(|e| {
        Error::new(ErrorKind::Io, "the file cannot be written")
            .at_path(path)
            .advise("check the folder's permissions and the free space")
            .caused_by(e)
    })
}

/// The bytes of a picture file of 8 bits a channel that holds one image.
///
/// # Errors
/// [`ErrorKind::Shape`] if the image has neither one nor three channels, [`ErrorKind::Argument`] for a quality outside 1 to 100,
/// [`ErrorKind::Image`] if the image is too large for the format or the format is not compiled in.
///
/// # Panics
/// If `index` is not below [`Images::len`].
pub fn encode_picture(images: &Images, index: usize, encoding: PictureEncoding) -> Result<Vec<u8>> {
    let shape = images.shape();
    let color = colour_type(shape)?;
    if let PictureEncoding::Jpeg { quality } = encoding
        && !(1..=100).contains(&quality)
    {
        return Err(Error::out_of_range(
            "quality",
            "a number from 1 to 100",
            quality,
        ));
    }
    encode(&images.to_bytes(index), shape, color, encoding)
}

fn encode(
    bytes: &[u8],
    shape: ImageShape,
    color: ExtendedColorType,
    encoding: PictureEncoding,
) -> Result<Vec<u8>> {
    use image::ImageEncoder;
    let (width, height) = (shape.width as u32, shape.height as u32);
    let mut encoded = Vec::new();
    let result = match encoding {
        #[cfg(feature = "png")]
        PictureEncoding::Png => image::codecs::png::PngEncoder::new(&mut encoded)
            .write_image(bytes, width, height, color),
        #[cfg(feature = "webp")]
        PictureEncoding::WebP => image::codecs::webp::WebPEncoder::new_lossless(&mut encoded)
            .write_image(bytes, width, height, color),
        #[cfg(feature = "jpeg")]
        PictureEncoding::Jpeg { quality } => {
            image::codecs::jpeg::JpegEncoder::new_with_quality(&mut encoded, quality)
                .write_image(bytes, width, height, color)
        }
        #[cfg(not(feature = "png"))]
        PictureEncoding::Png => return Err(not_compiled_in(PictureFormat::Png)),
        #[cfg(not(feature = "webp"))]
        PictureEncoding::WebP => return Err(not_compiled_in(PictureFormat::WebP)),
        #[cfg(not(feature = "jpeg"))]
        PictureEncoding::Jpeg { .. } => return Err(not_compiled_in(PictureFormat::Jpeg)),
    };
    match result {
        Ok(()) => Ok(encoded),
        Err(e) => Err(Error::new(ErrorKind::Image, "the image cannot be encoded").caused_by(e)),
    }
}

#[cfg(not(all(feature = "png", feature = "jpeg", feature = "webp")))]
fn not_compiled_in(format: PictureFormat) -> Error {
    let feature = format!("{format:?}").to_lowercase();
    Error::new(
        ErrorKind::Image,
        format!("{format:?} files were not compiled in"),
    )
    .advise(format!("build with the cargo feature `{feature}`"))
}
