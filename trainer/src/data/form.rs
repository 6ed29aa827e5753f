//! The form of the network's images, and how a picture becomes one.

use ebm_common::contract::ImageShape;
use ebm_common::picture::{self, Colours, Fault, Fit, Image};

use super::order::View;
use crate::config::{Crop, RandomCrop};
use crate::machine::randomness::uniform;

/// The form of the images.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// Grey or R, G, B; without padding.
    pub(super) shape: ImageShape,
    /// What becomes of pictures of another size.
    pub(super) crop: Crop,
}

impl Form {
    /// The image that a picture becomes, with its pixels as bytes `[C, H, W]`. Grey pictures become coloured if three channels are wanted.
    pub(super) fn image(&self, bytes: &[u8], view: View) -> Result<Image, Fault> {
        let form = picture::Form {
            channels: self.shape.channels,
            size: (self.shape.width as u32, self.shape.height as u32),
            fit: Fit {
                crop: cut(self.crop, view),
                colours: Colours::FromGrey,
            },
        };
        let image = form.image(bytes)?;
        Ok(Image {
            pixels: planes(&image.pixels, self.shape.channels),
            ..image
        })
    }
}

fn cut(crop: Crop, view: View) -> picture::Crop {
    match (crop, view) {
        (Crop::Off, _) => picture::Crop::Off,
        (Crop::Random(RandomCrop { area, aspect }), View::Drawn(seed)) => picture::Crop::Drawn {
            area,
            aspect,
            draws: [0, 1, 2, 3].map(|number| uniform(seed, number)),
        },
        (Crop::Centre | Crop::Random(_), _) => picture::Crop::Centre,
    }
}

/// Pixels `[H, W, C]` as `[C, H, W]`.
fn planes(pixels: &[u8], channels: usize) -> Vec<u8> {
    (0..channels)
        .flat_map(|channel| pixels.iter().skip(channel).step_by(channels).copied())
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Cursor;

    use image::{DynamicImage, ImageFormat, Rgb, RgbImage};

    use super::*;

    /// A picture as a file of a format.
    pub(in crate::data) fn encoded(
        picture: impl Into<DynamicImage>,
        format: ImageFormat,
    ) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let picture: DynamicImage = picture.into();
        picture.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    /// A picture of one colour.
    pub(in crate::data) fn plain(width: u32, height: u32, colour: [u8; 3]) -> RgbImage {
        RgbImage::from_pixel(width, height, Rgb(colour))
    }

    #[test]
    fn planes_are_red_green_and_blue_and_rows_stay_rows() {
        let picture = RgbImage::from_fn(2, 2, |x, y| Rgb([x as u8, 10 + y as u8, 20]));
        let form = Form {
            shape: ImageShape {
                channels: 3,
                height: 2,
                width: 2,
            },
            crop: Crop::Off,
        };
        let bytes = encoded(picture, ImageFormat::Png);
        let image = form.image(&bytes, View::Centre).unwrap();
        assert_eq!(image.pixels, [0, 1, 0, 1, 10, 10, 11, 11, 20, 20, 20, 20]);
    }

    #[test]
    fn random_crops_follow_from_the_view_and_tests_see_the_centre() {
        let (area, aspect) = ([0.1, 1.0], [0.5, 2.0]);
        let random = Crop::Random(RandomCrop { area, aspect });
        assert_eq!(cut(random, View::Centre), picture::Crop::Centre);
        assert_eq!(cut(Crop::Centre, View::Drawn(3)), picture::Crop::Centre);
        let drawn = |seed| cut(random, View::Drawn(seed));
        assert_eq!(drawn(3), drawn(3));
        assert_ne!(drawn(3), drawn(4));
        let picture::Crop::Drawn { draws, .. } = drawn(5) else {
            panic!("{:?}", drawn(5));
        };
        assert!(
            draws.iter().all(|draw| (0.0..1.0).contains(draw)),
            "{draws:?}"
        );
    }
}
