//! Picture files of one image: PNG, JPEG and WebP.

use std::path::Path;

use ::image::ExtendedColorType;
pub use ebm_common::name::PictureFormat;
pub use ebm_common::picture::{
    Change as PictureChange, Colours as PictureColours, Crop as PictureCrop, Fit as PictureFit,
};
use ebm_common::picture::{Fault, Form, Unfit, read};

use crate::contract::ImageShape;
use crate::error::{Error, ErrorKind, Result};
use crate::file::write_atomically;
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
/// [`ErrorKind::Io`] and [`ErrorKind::Image`] where the file cannot be read or decoded, or is of a format that is unknown or not compiled
/// in; [`ErrorKind::Shape`] where it has another size or other colours.
pub fn read_picture(path: impl AsRef<Path>, shape: ImageShape) -> Result<Images> {
    Ok(read_picture_fitted(path, shape, PictureFit::default())?.image)
}

/// Like [`read_picture`], with a say in what becomes of pictures of other sizes and colours.
///
/// # Errors
/// As [`read_picture`].
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
    color_of(shape)?;
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
        return Err(Error::out_of_range(
            "quality",
            "a number from 1 to 100",
            quality,
        ));
    }
    encode(&images.to_bytes(index), shape, color, encoding)
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
        .advise("cut or resize it (`PictureFit`, --crop or --resize), or use a model for its size"),
        Fault::Unfit(unfit) => {
            let (expected, got, advice) = match unfit {
                Unfit::Grey => (
                    "a picture in colour",
                    "a grey one",
                    "convert the image to RGB (`PictureFit`, --colour), or use a model for grey images",
                ),
                _ => (
                    "a grey picture",
                    "one in colour",
                    "convert the image to grey (`PictureFit`, --colour), or use a model for images in colour",
                ),
            };
            let problem = "the image has other colours than the model's";
            Error::new(ErrorKind::Shape, problem)
                .expected(expected)
                .but_got(got)
                .advise(advice)
        }
    }
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

#[cfg(all(test, feature = "png", feature = "jpeg", feature = "webp"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    use ::image::{DynamicImage, GrayImage, Luma, Rgb, RgbImage, Rgba, RgbaImage};

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
    fn other_sizes_and_colours_are_taken_only_if_that_is_asked_for() {
        let grey: DynamicImage = GrayImage::from_pixel(3, 2, Luma([9])).into();
        let colour: DynamicImage = RgbImage::from_pixel(3, 2, Rgb([1, 2, 3])).into();
        let clear: DynamicImage = RgbaImage::from_pixel(3, 2, Rgba([1, 2, 3, 0])).into();
        let large: DynamicImage = GrayImage::new(4, 2).into();
        let asked = PictureFit {
            crop: PictureCrop::Centre,
            colours: PictureColours::Converted,
        };
        let cases: [(&str, DynamicImage, ImageShape, Option<&str>); 6] = [
            ("grey", grey.clone(), GREY, None),
            ("colour", colour.clone(), COLOUR, None),
            ("transparent", clear, COLOUR, None),
            (
                "grey for a colour model",
                grey,
                COLOUR,
                Some(
                    "expected a picture in colour, got a grey one; convert the image to RGB (`PictureFit`, --colour)",
                ),
            ),
            (
                "colour for a grey model",
                colour,
                GREY,
                Some("expected a grey picture, got one in colour; convert the image to grey"),
            ),
            (
                "another size",
                large,
                GREY,
                Some(
                    "expected 3×2 (width×height), got 4×2; cut or resize it (`PictureFit`, --crop or --resize)",
                ),
            ),
        ];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("picture.png");
        for (name, image, shape, problem) in cases {
            image.save(&path).unwrap();
            let fitted = read_picture_fitted(&path, shape, asked).unwrap();
            assert_eq!(
                (fitted.image.len(), fitted.image.shape()),
                (1, shape),
                "{name}"
            );
            match (read_png(&path, shape), problem) {
                (Ok(image), None) => assert_eq!(image, fitted.image, "{name}"),
                (Err(error), Some(part)) => {
                    let message = error.to_string();
                    assert_eq!(error.kind(), ErrorKind::Shape, "{name}");
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
        assert!(error.to_string().contains("got one in colour"), "{error}");
    }

    #[test]
    fn foreign_bytes_and_qualities_out_of_range_are_refused() {
        for (bytes, part) in [
            (b"".as_slice(), "the image is an empty file"),
            (b"GIF89a", "begins with [47, 49, 46, 38]"),
            (
                b"\x89PNG",
                "the image is truncated: the end of its PNG data",
            ),
            (b"\xff\xd8\xff\xe0", "the end of its JPEG data"),
            (b"RIFF\0\0\0\0WEBP", "the end of its WebP data"),
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
