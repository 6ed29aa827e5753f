//! Picture files of one image: PNG, JPEG and WebP.

mod read;
mod write;

use image::{ExtendedColorType, GrayImage, RgbImage};

pub use ebm_common::PictureFormat;
#[cfg(feature = "png")]
pub use read::read_png;
pub use read::{
    FittedPicture, PictureChange, PictureColours, PictureCrop, PictureFit, decode_picture,
    decode_picture_fitted, read_picture, read_picture_fitted,
};
#[cfg(feature = "png")]
pub use write::write_png;
pub use write::{PictureEncoding, encode_picture, write_picture};

use crate::contract::ImageShape;
use crate::error::{Error, ErrorKind, Result};
use crate::images::Images;
use crate::purifier::Purifier;

/// One image `[1, 3, H, W]` of a decoded picture in colour.
impl From<RgbImage> for Images {
    fn from(picture: RgbImage) -> Self {
        of_picture(3, picture.dimensions(), picture.as_raw())
    }
}

/// One image `[1, 1, H, W]` of a decoded grey picture.
impl From<GrayImage> for Images {
    fn from(picture: GrayImage) -> Self {
        of_picture(1, picture.dimensions(), picture.as_raw())
    }
}

fn of_picture(channels: usize, (width, height): (u32, u32), bytes: &[u8]) -> Images {
    let shape = ImageShape::new(channels, height as usize, width as usize);
    Images::of_bytes(shape, 1, bytes)
}

impl Purifier {
    /// Purifies an encoded picture, such as the body of a request: the bytes of a PNG, JPEG or WebP file in, those of a file out.
    ///
    /// The picture must have the size and the colours of the model's images. PNG stays PNG; WebP becomes WebP without loss, and JPEG becomes PNG, since
    /// JPEG would blur what was purified. The image has index 0 in the noise: give each request a seed of its own with [`Purifier::with_seed`].
    ///
    /// # Errors
    /// As [`decode_picture`], [`Purifier::purify`] and [`encode_picture`].
    ///
    /// ```
    /// use ebm_runtime::{Model, Purifier, Seed};
    /// # use ebm_runtime::{Images, PictureEncoding, encode_picture};
    ///
    /// # fn main() -> ebm_runtime::Result<()> {
    /// let model = Model::open("tests/fixtures/digits/step.onnx")?;
    /// let purifier = Purifier::builder(&model).build(Seed::fresh()?)?;
    /// # let grey = Images::from_bytes(model.contract().image, &[128; 64])?;
    /// # let png = encode_picture(&grey, 0, PictureEncoding::Png)?;
    /// let purified: Vec<u8> = purifier.with_seed(Seed::fresh()?).purify_bytes(&png)?;
    /// # assert!(purified.starts_with(b"\x89PNG"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn purify_bytes(&self, picture: &[u8]) -> Result<Vec<u8>> {
        let image = decode_picture(picture, self.contract().image)?;
        let encoding = match PictureFormat::of_bytes(picture) {
            Some(PictureFormat::WebP) => PictureEncoding::WebP,
            _ => PictureEncoding::Png,
        };
        encode_picture(&self.purify(&image)?, 0, encoding)
    }
}

/// What a picture file of images of this shape holds: one channel or three.
fn colour_type(shape: ImageShape) -> Result<ExtendedColorType> {
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
    use crate::images::Images;
    use proptest::prelude::*;

    use image::{DynamicImage, GrayImage, Luma, Rgb, RgbImage, Rgba, RgbaImage};

    const GREY: ImageShape = ImageShape::new(1, 2, 3);
    const COLOUR: ImageShape = ImageShape::new(3, 2, 3);

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
                    "expected 3×2 (width×height), got 4×2; cut, resize or pad it (`PictureFit`, --crop, --resize or --padding)",
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
        let images = Images::from_vec(ImageShape::new(2, 2, 3), vec![0.0; 12]).unwrap();
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

    #[test]
    fn decoded_pictures_of_other_libraries_are_images_and_back() {
        let colour = RgbImage::from_fn(3, 2, |x, y| Rgb([x as u8, y as u8, 9]));
        let images = Images::from(colour.clone());
        assert_eq!(images.shape(), COLOUR);
        assert_eq!(images.to_bytes(0), colour.into_raw());
        let grey = GrayImage::from_fn(3, 2, |x, y| Luma([(10 * x + y) as u8]));
        let images = Images::from(grey.clone());
        assert_eq!(images.shape(), GREY);
        assert_eq!(images.to_bytes(0), grey.into_raw());
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
