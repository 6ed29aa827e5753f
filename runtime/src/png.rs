//! PNG files in and out.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use ::image::codecs::png::{PngDecoder, PngEncoder};
use ::image::{ColorType, DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder};

use crate::contract::ImageShape;
use crate::error::{Error, ErrorKind, Result};
use crate::file::write_atomically;
use crate::images::Images;

/// Reads one PNG file of exactly this shape: grey for one channel, RGB for three, 8 bits a channel (palettes and fewer bits are expanded).
///
/// An alpha channel is dropped where it is opaque everywhere.
///
/// # Errors
/// [`ErrorKind::Io`] and [`ErrorKind::Image`] where the file cannot be read or decoded or has transparent pixels or 16 bits a channel,
/// [`ErrorKind::Shape`] where it has another size or number of channels.
pub fn read_png(path: impl AsRef<Path>, shape: ImageShape) -> Result<Images> {
    let path = path.as_ref();
    decode(path, shape).map_err(|error| error.at_path(path))
}

/// Writes one image as an 8-bit PNG file, under a temporary name that becomes `path` when all is on the disk. An existing file is replaced.
///
/// # Errors
/// [`ErrorKind::Shape`] where the image has neither one nor three channels, [`ErrorKind::Io`] where the file cannot be written.
///
/// # Panics
/// Where `index` is not below [`Images::len`].
pub fn write_png(path: impl AsRef<Path>, images: &Images, index: usize) -> Result<()> {
    let path = path.as_ref();
    let shape = images.shape();
    let color = color_of(shape).map_err(|error| error.at_path(path))?;
    let mut encoded = Vec::new();
    PngEncoder::new(&mut encoded)
        .write_image(
            &images.to_bytes(index),
            shape.width as u32,
            shape.height as u32,
            color,
        )
        .map_err(|e| {
            Error::new(ErrorKind::Image, "the image cannot be encoded")
                .at_path(path)
                .caused_by(e)
        })?;
    write_atomically(path, &encoded).map_err(|e| {
        Error::new(ErrorKind::Io, "the file cannot be written")
            .at_path(path)
            .advise("check the folder's permissions and the free space")
            .caused_by(e)
    })
}

fn decode(path: &Path, shape: ImageShape) -> Result<Images> {
    let expected = color_of(shape)?;
    let file = File::open(path)
        .map_err(|e| Error::new(ErrorKind::Io, "the image cannot be read").caused_by(e))?;
    let undecodable = |e: ::image::ImageError| {
        Error::new(ErrorKind::Image, "the image cannot be decoded")
            .expected("a whole PNG file")
            .advise("convert it to PNG or leave it out")
            .caused_by(e)
    };
    let decoder = PngDecoder::new(BufReader::new(file)).map_err(undecodable)?;
    // The header is checked before the pixels are decoded, so that a huge image costs nothing.
    let (width, height) = decoder.dimensions();
    if (width as usize, height as usize) != (shape.width, shape.height) {
        return Err(Error::new(
            ErrorKind::Shape,
            "the image has another size than the model's",
        )
        .expected(format!("{}×{} (width×height)", shape.width, shape.height))
        .but_got(format!("{width}×{height}"))
        .advise("resize it, or use a model for its size"));
    }
    let color = decoder.color_type();
    check_channels(color, expected)?;
    let image = DynamicImage::from_decoder(decoder).map_err(undecodable)?;
    Images::from_bytes(shape, &drop_opaque_alpha(image)?)
}

fn color_of(shape: ImageShape) -> Result<ExtendedColorType> {
    match shape.channels {
        1 => Ok(ExtendedColorType::L8),
        3 => Ok(ExtendedColorType::Rgb8),
        n => Err(Error::new(
            ErrorKind::Shape,
            "a PNG file cannot hold the model's images",
        )
        .expected("1 or 3 channels")
        .but_got(n)
        .advise("use the library and pass arrays")),
    }
}

fn check_channels(color: ColorType, expected: ExtendedColorType) -> Result<()> {
    let wrong = |advice: &str| {
        let (kind, problem) = (
            ErrorKind::Shape,
            "the image has another colour format than the model's",
        );
        let name = if expected == ExtendedColorType::L8 {
            "8-bit grey"
        } else {
            "8-bit RGB"
        };
        Err(Error::new(kind, problem)
            .expected(name)
            .but_got(format!("{color:?}"))
            .advise(advice))
    };
    match (color, expected) {
        (ColorType::L8 | ColorType::La8, ExtendedColorType::L8)
        | (ColorType::Rgb8 | ColorType::Rgba8, ExtendedColorType::Rgb8) => Ok(()),
        (ColorType::L8 | ColorType::La8, _) => wrong(
            "the model is for colour images: convert the image to RGB, or use a model for grey images",
        ),
        (ColorType::Rgb8 | ColorType::Rgba8, _) => wrong(
            "the model is for grey images: convert the image to grey, or use a model for colour images",
        ),
        _ => wrong("convert it to 8 bits a channel"),
    }
}

fn drop_opaque_alpha(image: DynamicImage) -> Result<Vec<u8>> {
    let (bytes, n_channels) = match image {
        DynamicImage::ImageLumaA8(image) => (image.into_raw(), 2),
        DynamicImage::ImageRgba8(image) => (image.into_raw(), 4),
        other => return Ok(other.into_bytes()),
    };
    if bytes
        .iter()
        .skip(n_channels - 1)
        .step_by(n_channels)
        .any(|&alpha| alpha != u8::MAX)
    {
        return Err(
            Error::new(ErrorKind::Image, "the image has transparent pixels")
                .expected("no alpha channel, or an opaque one")
                .advise("flatten it onto a background"),
        );
    }
    Ok(bytes
        .chunks_exact(n_channels)
        .flat_map(|pixel| &pixel[..n_channels - 1])
        .copied()
        .collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ::image::{
        GrayAlphaImage, GrayImage, ImageBuffer, Luma, LumaA, Rgb, RgbImage, Rgba, RgbaImage,
    };

    const GREY: ImageShape = ImageShape {
        channels: 1,
        height: 2,
        width: 3,
    };
    const COLOUR: ImageShape = ImageShape {
        channels: 3,
        ..GREY
    };

    #[test]
    fn written_files_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        for shape in [GREY, COLOUR] {
            let bytes: Vec<u8> = (0..shape.n_values()).map(|i| (i * 11) as u8).collect();
            let images = Images::from_bytes(shape, &bytes).unwrap();
            let path = folder.path().join("a.png");
            write_png(&path, &images, 0).unwrap();
            assert_eq!(read_png(&path, shape).unwrap(), images);
        }
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            1,
            "no temporary file stays"
        );
    }

    #[test]
    fn opaque_alpha_is_dropped_and_everything_else_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("picture.png");
        let grey: DynamicImage = GrayImage::from_pixel(3, 2, Luma([9])).into();
        let colour: DynamicImage = RgbImage::from_pixel(3, 2, Rgb([1, 2, 3])).into();
        let rgba = |alpha| RgbaImage::from_pixel(3, 2, Rgba([1, 2, 3, alpha])).into();
        let grey_alpha = |alpha| GrayAlphaImage::from_pixel(3, 2, LumaA([9, alpha])).into();
        let deep: DynamicImage = ImageBuffer::from_pixel(3, 2, Luma([7_u16])).into();
        let large: DynamicImage = GrayImage::new(4, 2).into();
        let cases: [(&str, DynamicImage, ImageShape, Option<&str>); 10] = [
            ("grey", grey.clone(), GREY, None),
            ("colour", colour.clone(), COLOUR, None),
            ("opaque RGBA", rgba(255), COLOUR, None),
            ("opaque grey and alpha", grey_alpha(255), GREY, None),
            ("transparent RGBA", rgba(254), COLOUR, Some("transparent")),
            ("transparent grey", grey_alpha(0), GREY, Some("transparent")),
            (
                "grey for a colour model",
                grey,
                COLOUR,
                Some("convert the image to RGB"),
            ),
            (
                "colour for a grey model",
                colour,
                GREY,
                Some("convert the image to grey"),
            ),
            ("16 bits", deep, GREY, Some("8 bits a channel")),
            (
                "another size",
                large,
                GREY,
                Some("expected 3×2 (width×height), got 4×2"),
            ),
        ];
        for (name, image, shape, problem) in cases {
            image.save(&path).unwrap();
            match (read_png(&path, shape), problem) {
                (Ok(images), None) => assert_eq!(images.len(), 1, "{name}"),
                (Err(error), Some(part)) => {
                    let message = error.to_string();
                    assert!(
                        message.contains(part) && message.contains("picture.png"),
                        "{name}: {message}"
                    );
                }
                (result, _) => panic!("{name}: {result:?}"),
            }
        }
    }

    #[test]
    fn files_that_are_no_png_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        assert_eq!(read_png(&path, GREY).unwrap_err().kind(), ErrorKind::Io);
        std::fs::write(&path, b"GIF89a").unwrap();
        assert_eq!(read_png(&path, GREY).unwrap_err().kind(), ErrorKind::Image);
        GrayImage::new(3, 2).save(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 20]).unwrap();
        assert_eq!(read_png(&path, GREY).unwrap_err().kind(), ErrorKind::Image);
        std::fs::write(&path, &whole[..20]).unwrap();
        assert_eq!(read_png(&path, GREY).unwrap_err().kind(), ErrorKind::Image);
    }

    #[test]
    fn images_of_two_channels_have_no_png() {
        let images = Images::from_vec(
            ImageShape {
                channels: 2,
                ..GREY
            },
            vec![0.0; 12],
        )
        .unwrap();
        let error = write_png("nowhere.png", &images, 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Shape);
    }
}
