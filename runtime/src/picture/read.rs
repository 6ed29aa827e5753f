//! Pictures in.

use std::path::Path;

pub use ebm_common::picture::{
    Change as PictureChange, Colours as PictureColours, Crop as PictureCrop, Fit as PictureFit,
};
use ebm_common::picture::{Fault, Form, Unfit, read};

#[cfg(feature = "png")]
use super::PictureFormat;
use super::colour_type;
use crate::contract::ImageShape;
use crate::error::{Error, ErrorKind, Result};
use crate::images::Images;

/// A picture as an image.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FittedPicture {
    /// One image.
    pub image: Images,
    /// What was done to the picture.
    pub changes: Vec<PictureChange>,
}

/// Reads one picture of exactly this shape: grey for one channel, RGB for three. The format is told by the first bytes.
///
/// A picture is what a viewer shows on a white page: turned upright as its Exif note says, 8 bits a channel. A file that is not whole is
/// refused, and so is an animation. WebP knows no grey, so that a grey model takes a picture in colour whose pixels are all grey.
///
/// # Errors
/// [`ErrorKind::Io`] and [`ErrorKind::Image`] if the file cannot be read or decoded, or is of a format that is unknown or not compiled in;
/// [`ErrorKind::Shape`] if it has another size or other colours.
pub fn read_picture(path: impl AsRef<Path>, shape: ImageShape) -> Result<Images> {
    Ok(read_picture_fitted(path, shape, PictureFit::default())?.image)
}

/// Like [`read_picture`], with a say in what becomes of pictures of other sizes and colours.
///
/// # Errors
/// As [`read_picture`].
///
/// ```no_run
/// use ebm_runtime::{ImageShape, PictureColours, PictureCrop, PictureFit, read_picture_fitted};
///
/// # fn main() -> ebm_runtime::Result<()> {
/// // The largest square in the middle, resized to 32×32, in colour even if the picture is grey.
/// let fit = PictureFit { crop: PictureCrop::Centre, colours: PictureColours::Converted };
/// let picture = read_picture_fitted("photo.jpg", ImageShape::new(3, 32, 32), fit)?;
/// println!("{} was changed: {:?}", picture.image.shape(), picture.changes);
/// # Ok(())
/// # }
/// ```
pub fn read_picture_fitted(
    path: impl AsRef<Path>,
    shape: ImageShape,
    fit: PictureFit,
) -> Result<FittedPicture> {
    let path = path.as_ref();
    let picture = read(path).map_err(refusal);
    let picture = picture.and_then(|bytes| decode_picture_fitted(&bytes, shape, fit));
    picture.map_err(|error| error.at_path(path))
}

/// Like [`read_picture`] for the bytes of a file.
///
/// # Errors
/// As [`read_picture`], without [`ErrorKind::Io`].
pub fn decode_picture(bytes: &[u8], shape: ImageShape) -> Result<Images> {
    Ok(decode_picture_fitted(bytes, shape, PictureFit::default())?.image)
}

/// Like [`read_picture_fitted`] for the bytes of a file.
///
/// # Errors
/// As [`read_picture`], without [`ErrorKind::Io`].
pub fn decode_picture_fitted(
    bytes: &[u8],
    shape: ImageShape,
    fit: PictureFit,
) -> Result<FittedPicture> {
    // A picture file holds images of one channel or three.
    colour_type(shape)?;
    let form = Form {
        channels: shape.channels,
        size: (shape.width as u32, shape.height as u32),
        fit,
    };
    let image = form.image(bytes).map_err(refusal)?;
    Ok(FittedPicture {
        image: Images::from_bytes(shape, &image.pixels)?,
        changes: image.changes,
    })
}

/// Like [`read_picture`], for PNG files only.
///
/// # Errors
/// As [`read_picture`].
#[cfg(feature = "png")]
pub fn read_png(path: impl AsRef<Path>, shape: ImageShape) -> Result<Images> {
    let path = path.as_ref();
    let image = || {
        let bytes = read(path).map_err(refusal)?;
        match PictureFormat::of_bytes(&bytes) {
            None | Some(PictureFormat::Png) => decode_picture(&bytes, shape),
            Some(format) => Err(
                Error::new(ErrorKind::Image, "the image is of another format")
                    .expected("a PNG file")
                    .but_got(format)
                    .advise("read it with `read_picture`"),
            ),
        }
    };
    image().map_err(|error| error.at_path(path))
}

/// The error of a picture that is not as it is wanted.
fn refusal(fault: Fault) -> Error {
    match fault {
        Fault::Unreadable(reason) => Error::new(ErrorKind::Io, format!("the image {reason}")),
        Fault::Damaged(reason) => Error::new(ErrorKind::Image, format!("the image {reason}"))
            .advise("fetch or convert it again, or leave it out"),
        Fault::Unfit(Unfit::Size { got, expected }) => Error::new(
            ErrorKind::Shape,
            "the image has another size than the model's",
        )
        .expected(format!("{}×{} (width×height)", expected.0, expected.1))
        .but_got(format!("{}×{}", got.0, got.1))
        .advise("cut, resize or pad it (`PictureFit`, --crop, --resize or --padding), or use a model for its size"),
        Fault::Unfit(unfit) => {
            let (expected, got, into) = match unfit {
                Unfit::Grey => ("a picture in colour", "a grey one", ["RGB", "grey images"]),
                _ => (
                    "a grey picture",
                    "one in colour",
                    ["grey", "images in colour"],
                ),
            };
            let [colours, model] = into;
            let problem = "the image has other colours than the model's";
            Error::new(ErrorKind::Shape, problem)
                .expected(expected)
                .but_got(got)
                .advise(format!(
                    "convert the image to {colours} (`PictureFit`, --colour), or use a model for {model}"
                ))
        }
    }
}
