//! Picture files of one image: PNG, JPEG and WebP.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use ::image::{ColorType, DynamicImage, ExtendedColorType, ImageDecoder, ImageError};

use crate::contract::ImageShape;
use crate::error::{Error, ErrorKind, Result, out_of_range};
use crate::file::write_atomically;
use crate::images::Images;

/// A picture file is no longer than its pixels and this, which leaves room for notes and colour profiles.
const MAX_EXTRA_BYTES: u64 = 64 << 20;

/// A format of picture files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PictureFormat {
    /// PNG: without loss.
    Png,
    /// JPEG: with loss.
    Jpeg,
    /// WebP: read with and without loss, written without.
    WebP,
}

impl PictureFormat {
    /// The format that a file's first bytes tell.
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(b"\x89PNG") {
            Some(Self::Png)
        } else if bytes.starts_with(&[0xFF, 0xD8, 0xFF]) {
            Some(Self::Jpeg)
        } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
            Some(Self::WebP)
        } else {
            None
        }
    }

    /// The format that a file's name tells: `.png`, `.jpg`, `.jpeg`, `.webp`, in letters of any case.
    pub fn of_name(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "png" => Some(Self::Png),
            "jpg" | "jpeg" => Some(Self::Jpeg),
            "webp" => Some(Self::WebP),
            _ => None,
        }
    }
}

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

/// Reads one picture of exactly this shape: grey for one channel, RGB for three, 8 bits a channel (palettes and fewer bits are expanded).
/// The format is told by the first bytes.
///
/// An alpha channel is dropped where it is opaque everywhere. WebP knows no grey, so that a grey model takes one whose pixels are all grey.
///
/// # Errors
/// [`ErrorKind::Io`] and [`ErrorKind::Image`] where the file cannot be read or decoded, is of a format that is unknown or not compiled in,
/// or has transparent pixels; [`ErrorKind::Shape`] where it has another size, number or depth of channels.
pub fn read_picture(path: impl AsRef<Path>, shape: ImageShape) -> Result<Images> {
    let path = path.as_ref();
    read_bytes(path, shape)
        .and_then(|bytes| decode_picture(&bytes, shape))
        .map_err(|error| error.at_path(path))
}

/// Like [`read_picture`] for the bytes of a file.
///
/// # Errors
/// As [`read_picture`], without [`ErrorKind::Io`].
pub fn decode_picture(bytes: &[u8], shape: ImageShape) -> Result<Images> {
    match PictureFormat::of_bytes(bytes) {
        Some(format) => decode(bytes, format, shape),
        None => Err(Error::new(ErrorKind::Image, "the image cannot be decoded")
            .expected("a PNG, JPEG or WebP file")
            .but_got(match bytes {
                [] => "an empty file".into(),
                _ => format!(
                    "a file that begins with {:02x?}",
                    &bytes[..bytes.len().min(4)]
                ),
            })
            .advise("convert it to PNG or leave it out")),
    }
}

/// Like [`read_picture`], for PNG files only.
///
/// # Errors
/// As [`read_picture`].
#[cfg(feature = "png")]
pub fn read_png(path: impl AsRef<Path>, shape: ImageShape) -> Result<Images> {
    let path = path.as_ref();
    read_bytes(path, shape)
        .and_then(|bytes| decode(&bytes, PictureFormat::Png, shape))
        .map_err(|error| error.at_path(path))
}

/// Writes one image as an 8-bit PNG file, under a temporary name that becomes `path` when all is on the disk. An existing file is replaced.
///
/// # Errors
/// [`ErrorKind::Shape`] where the image has neither one nor three channels, [`ErrorKind::Io`] where the file cannot be written.
///
/// # Panics
/// Where `index` is not below [`Images::len`].
#[cfg(feature = "png")]
pub fn write_png(path: impl AsRef<Path>, images: &Images, index: usize) -> Result<()> {
    write_picture(path, images, index, PictureEncoding::Png)
}

/// Writes one image as a picture file of 8 bits a channel, under a temporary name that becomes `path` when all is on the disk. An existing
/// file is replaced.
///
/// # Errors
/// Those of [`encode_picture`], and [`ErrorKind::Io`] where the file cannot be written.
///
/// # Panics
/// Where `index` is not below [`Images::len`].
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
/// [`ErrorKind::Shape`] where the image has neither one nor three channels, [`ErrorKind::Argument`] for a quality outside 1 to 100,
/// [`ErrorKind::Image`] where the image is too large for the format or the format is not compiled in.
///
/// # Panics
/// Where `index` is not below [`Images::len`].
pub fn encode_picture(images: &Images, index: usize, encoding: PictureEncoding) -> Result<Vec<u8>> {
    let shape = images.shape();
    let color = color_of(shape)?;
    if let PictureEncoding::Jpeg { quality } = encoding
        && !(1..=100).contains(&quality)
    {
        return Err(out_of_range("quality", "a number from 1 to 100", quality));
    }
    encode(&images.to_bytes(index), shape, color, encoding)
}

fn read_bytes(path: &Path, shape: ImageShape) -> Result<Vec<u8>> {
    let unreadable =
        |e: std::io::Error| Error::new(ErrorKind::Io, "the image cannot be read").caused_by(e);
    let limit = MAX_EXTRA_BYTES + 8 * shape.n_values() as u64;
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > limit {
        return Err(Error::new(
            ErrorKind::Image,
            "the file is too long for a picture of this size",
        )
        .expected(format!("at most {limit} bytes for an image {shape}")));
    }
    Ok(bytes)
}

fn decode(bytes: &[u8], format: PictureFormat, shape: ImageShape) -> Result<Images> {
    use PictureFormat::{Jpeg, Png, WebP};
    let undecodable = |e: ImageError| {
        Error::new(ErrorKind::Image, "the image cannot be decoded")
            .expected(format!("a whole {format:?} file"))
            .advise("convert it to PNG or leave it out")
            .caused_by(e)
    };
    let file = Cursor::new(bytes);
    match format {
        #[cfg(feature = "png")]
        Png => {
            let decoder = ::image::codecs::png::PngDecoder::new(file).map_err(undecodable)?;
            pixels(decoder, format, shape, undecodable)
        }
        #[cfg(feature = "jpeg")]
        Jpeg => {
            let decoder = ::image::codecs::jpeg::JpegDecoder::new(file).map_err(undecodable)?;
            pixels(decoder, format, shape, undecodable)
        }
        #[cfg(feature = "webp")]
        WebP => {
            let decoder = ::image::codecs::webp::WebPDecoder::new(file).map_err(undecodable)?;
            pixels(decoder, format, shape, undecodable)
        }
        #[cfg(not(feature = "png"))]
        Png => Err(not_compiled_in(format)),
        #[cfg(not(feature = "jpeg"))]
        Jpeg => Err(not_compiled_in(format)),
        #[cfg(not(feature = "webp"))]
        WebP => Err(not_compiled_in(format)),
    }
}

/// The header is checked before the pixels are decoded, so that a huge image costs nothing.
fn pixels(
    decoder: impl ImageDecoder,
    format: PictureFormat,
    shape: ImageShape,
    undecodable: impl Fn(ImageError) -> Error,
) -> Result<Images> {
    let expected = color_of(shape)?;
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
    if format == PictureFormat::WebP && expected == ExtendedColorType::L8 {
        let image = DynamicImage::from_decoder(decoder).map_err(undecodable)?;
        return Images::from_bytes(shape, &grey_of_rgb(&drop_opaque_alpha(image)?)?);
    }
    check_channels(color, expected)?;
    let image = DynamicImage::from_decoder(decoder).map_err(undecodable)?;
    Images::from_bytes(shape, &drop_opaque_alpha(image)?)
}

fn encode(
    bytes: &[u8],
    shape: ImageShape,
    color: ExtendedColorType,
    encoding: PictureEncoding,
) -> Result<Vec<u8>> {
    use ::image::ImageEncoder;
    let (width, height) = (shape.width as u32, shape.height as u32);
    let mut encoded = Vec::new();
    let result = match encoding {
        #[cfg(feature = "png")]
        PictureEncoding::Png => ::image::codecs::png::PngEncoder::new(&mut encoded)
            .write_image(bytes, width, height, color),
        #[cfg(feature = "webp")]
        PictureEncoding::WebP => ::image::codecs::webp::WebPEncoder::new_lossless(&mut encoded)
            .write_image(bytes, width, height, color),
        #[cfg(feature = "jpeg")]
        PictureEncoding::Jpeg { quality } => {
            ::image::codecs::jpeg::JpegEncoder::new_with_quality(&mut encoded, quality)
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

fn color_of(shape: ImageShape) -> Result<ExtendedColorType> {
    match shape.channels {
        1 => Ok(ExtendedColorType::L8),
        3 => Ok(ExtendedColorType::Rgb8),
        n => Err(Error::new(
            ErrorKind::Shape,
            "a picture file cannot hold the model's images",
        )
        .expected("1 or 3 channels")
        .but_got(n)
        .advise("use npy files")),
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

/// The grey values of RGB pixels that are all grey.
fn grey_of_rgb(bytes: &[u8]) -> Result<Vec<u8>> {
    let grey = bytes.chunks_exact(3).map(|pixel| match *pixel {
        [r, g, b] if r == g && g == b => Ok(r),
        _ => Err(Error::new(
            ErrorKind::Shape,
            "the image has another colour format than the model's",
        )
        .expected("grey pixels")
        .but_got(format!("a pixel {pixel:?}"))
        .advise("the model is for grey images: convert the image to grey, or use a model for colour images")),
    });
    grey.collect()
}

#[cfg(all(test, feature = "png", feature = "jpeg", feature = "webp"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

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

    /// A smooth picture, which JPEG keeps nearly.
    fn smooth(shape: ImageShape) -> Images {
        let bytes: Vec<u8> = (0..shape.n_values()).map(|i| 100 + i as u8).collect();
        Images::from_bytes(shape, &bytes).unwrap()
    }

    #[test]
    fn formats_are_told_by_their_bytes_and_keep_what_they_can() {
        use PictureEncoding as Encoding;
        for shape in [GREY, COLOUR] {
            let images = match shape.channels {
                1 => smooth(shape),
                _ => Images::from_bytes(shape, &[100; 18]).unwrap(),
            };
            for (encoding, format, tolerance) in [
                (Encoding::Png, PictureFormat::Png, 0.0),
                (Encoding::WebP, PictureFormat::WebP, 0.0),
                (
                    Encoding::Jpeg { quality: 100 },
                    PictureFormat::Jpeg,
                    3.0 / 127.5,
                ),
            ] {
                let bytes = encode_picture(&images, 0, encoding).unwrap();
                assert_eq!(PictureFormat::of_bytes(&bytes), Some(format));
                let read = decode_picture(&bytes, shape).unwrap();
                let difference = read.array() - images.array();
                assert!(
                    difference.iter().all(|d| d.abs() <= tolerance),
                    "{format:?} {shape}: {difference}"
                );
            }
        }
    }

    #[test]
    fn a_colour_webp_is_none_for_a_grey_model() {
        let bytes: Vec<u8> = (0..18).collect();
        let colour = Images::from_bytes(COLOUR, &bytes).unwrap();
        let bytes = encode_picture(&colour, 0, PictureEncoding::WebP).unwrap();
        let error = decode_picture(&bytes, GREY).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Shape);
        assert!(
            error.to_string().contains("got a pixel [0, 1, 2]"),
            "{error}"
        );
    }

    #[test]
    fn foreign_bytes_and_qualities_out_of_range_are_refused() {
        for (bytes, part) in [
            (b"".as_slice(), "got an empty file"),
            (b"GIF89a", "begins with [47, 49, 46, 38]"),
            (b"\x89PNG", "expected a whole Png file"),
            (b"\xff\xd8\xff\xe0", "expected a whole Jpeg file"),
            (b"RIFF\0\0\0\0WEBP", "expected a whole WebP file"),
        ] {
            let error = decode_picture(bytes, GREY).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        for quality in [0, 101] {
            let encoding = PictureEncoding::Jpeg { quality };
            let error = encode_picture(&smooth(GREY), 0, encoding).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Argument);
        }
    }

    proptest! {
        /// Whatever happens to a file, its reader answers, and what it gives is one image.
        #[test]
        fn any_change_gives_an_answer(
            format in 0..3_usize,
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            cut in proptest::option::of(any::<prop::sample::Index>()),
        ) {
            use PictureEncoding::{Jpeg, Png, WebP};
            let encoding = [Png, WebP, Jpeg { quality: 90 }][format];
            let mut bytes = encode_picture(&smooth(COLOUR), 0, encoding).unwrap();
            for (place, byte) in changes {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            if let Ok(images) = decode_picture(&bytes, COLOUR) {
                prop_assert_eq!((images.len(), images.shape()), (1, COLOUR));
            }
        }
    }
}
