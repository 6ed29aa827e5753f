//! From the bytes of a PNG, JPEG or WebP file to the pixels of an image.

use std::io::Cursor;

use ebm_export::contract::ImageShape;
use image::imageops::{self, FilterType};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::crop::{Rectangle, Size, rectangle};
use super::order::View;
use crate::config::Crop;

/// Endings of the files that are pictures.
pub(crate) const EXTENSIONS: &[&str] = &["png", "jpg", "jpeg", "webp"];

/// Memory that one picture may take while it is decoded.
const MOST_BYTES: u64 = 1 << 28;

/// The form in which images come out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// Grey or R, G, B; without padding.
    pub(super) shape: ImageShape,
    /// What becomes of pictures of another size.
    pub(super) crop: Crop,
}

/// What the header of a picture says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Looks {
    pub(super) size: Size,
    pub(super) is_coloured: bool,
}

impl Form {
    fn size(&self) -> Size {
        (self.shape.width as u32, self.shape.height as u32)
    }

    /// Says what makes a picture unfit, if something does.
    pub(super) fn check(&self, looks: Looks) -> Result<(), String> {
        let (width, height) = self.size();
        if looks.size.0 == 0 || looks.size.1 == 0 {
            return Err("has no pixels".to_string());
        }
        if self.crop == Crop::Off && looks.size != (width, height) {
            let (got_width, got_height) = looks.size;
            return Err(format!(
                "is {got_width}×{got_height} pixels, expected {width}×{height} where data.crop = \"off\""
            ));
        }
        if self.shape.channels == 1 && looks.is_coloured {
            return Err("is in colour, expected grey where network.channels = 1".to_string());
        }
        Ok(())
    }

    /// The pixels of the image that a picture becomes, bytes `[C, H, W]`, or what is wrong with the picture.
    ///
    /// Grey pictures become coloured ones where three channels are wanted; an alpha channel is dropped. Resizing is bilinear and averages
    /// over what it makes smaller.
    pub(super) fn pixels(&self, bytes: &[u8], view: View) -> Result<Vec<u8>, String> {
        let picture = decoded(bytes)?;
        self.check(Looks::of(&picture))?;
        let size = self.size();
        let part = rectangle(self.crop, (picture.width(), picture.height()), size, view);
        Ok(match self.shape.channels {
            1 => resized(&picture.into_luma8(), part, size).into_raw(),
            _ => planes(resized(&picture.into_rgb8(), part, size).as_raw(), 3),
        })
    }
}

impl Looks {
    /// Of a decoded picture.
    pub(super) fn of(picture: &DynamicImage) -> Looks {
        Looks {
            size: (picture.width(), picture.height()),
            is_coloured: picture.color().has_color(),
        }
    }

    /// By the header alone.
    pub(super) fn read(bytes: &[u8]) -> Result<Looks, String> {
        let mut decoder = reader(bytes)?.into_decoder().map_err(damage)?;
        let (width, height) = decoder.dimensions();
        Ok(Looks {
            size: match swaps_axes(upright(&mut decoder)) {
                true => (height, width),
                false => (width, height),
            },
            is_coloured: decoder.color_type().has_color(),
        })
    }
}

/// A whole picture, upright where its camera noted how it was held, or what is wrong with it.
pub(crate) fn decoded(bytes: &[u8]) -> Result<DynamicImage, String> {
    let reader = reader(bytes)?;
    if reader.format() == Some(ImageFormat::Jpeg) && !is_whole_jpeg(bytes) {
        return Err("is truncated: the end of its JPEG data is missing".to_string());
    }
    let mut decoder = reader.into_decoder().map_err(damage)?;
    let mut limits = limits();
    limits.reserve(decoder.total_bytes()).map_err(damage)?;
    decoder.set_limits(limits).map_err(damage)?;
    let upright = upright(&mut decoder);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(damage)?;
    picture.apply_orientation(upright);
    Ok(picture)
}

/// What turns a picture upright. Notes that cannot be read turn nothing.
fn upright(decoder: &mut impl ImageDecoder) -> Orientation {
    decoder.orientation().unwrap_or(Orientation::NoTransforms)
}

fn swaps_axes(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(
        orientation,
        Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH
    )
}

fn reader(bytes: &[u8]) -> Result<ImageReader<Cursor<&[u8]>>, String> {
    if bytes.is_empty() {
        return Err("is an empty file".to_string());
    }
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let mut reader = reader.map_err(|error| format!("cannot be read: {error}"))?;
    if !reader
        .format()
        .is_some_and(|format| format.reading_enabled())
    {
        return Err("is no PNG, JPEG or WebP picture".to_string());
    }
    reader.limits(limits());
    Ok(reader)
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MOST_BYTES);
    limits
}

fn damage(error: image::ImageError) -> String {
    let message = error.to_string();
    format!(
        "does not decode: {}",
        message.lines().next().unwrap_or_default()
    )
}

/// Whether the marker of the end stands behind the last scan. The decoder fills up what is missing with grey.
fn is_whole_jpeg(bytes: &[u8]) -> bool {
    let last = |marker: u8| bytes.windows(2).rposition(|pair| pair == [0xff, marker]);
    match (last(0xda), last(0xd9)) {
        (Some(scan), Some(end)) => end > scan,
        _ => false,
    }
}

/// Part of a picture, resized.
fn resized<P>(
    picture: &image::ImageBuffer<P, Vec<u8>>,
    part: Rectangle,
    (width, height): Size,
) -> image::ImageBuffer<P, Vec<u8>>
where
    P: image::Pixel<Subpixel = u8> + 'static,
{
    let Rectangle {
        left,
        top,
        width: across,
        height: down,
    } = part;
    let part = imageops::crop_imm(picture, left, top, across, down);
    if (across, down) == (width, height) {
        return part.to_image();
    }
    imageops::resize(&*part, width, height, FilterType::Triangle)
}

/// From pixels with their channels beside each other to one plane per channel.
pub(super) fn planes(pixels: &[u8], channels: usize) -> Vec<u8> {
    (0..channels)
        .flat_map(|channel| pixels.iter().skip(channel).step_by(channels).copied())
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use image::codecs::jpeg::JpegEncoder;
    use image::{GrayImage, ImageEncoder, Luma, Rgb, RgbImage};

    use super::*;
    use crate::config::RandomCrop;

    pub(in crate::data) const FORMATS: [(ImageFormat, &str); 3] = [
        (ImageFormat::Png, "png"),
        (ImageFormat::Jpeg, "jpg"),
        (ImageFormat::WebP, "webp"),
    ];

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

    fn form(channels: usize, side: usize, crop: Crop) -> Form {
        let shape = ImageShape {
            channels,
            height: side,
            width: side,
        };
        Form { shape, crop }
    }

    const ANY: Crop = Crop::Random(RandomCrop {
        area: [0.1, 1.0],
        aspect: [0.5, 2.0],
    });

    /// The left half of what the camera saw is white; the values of Exif say where the first row and column were.
    #[test]
    fn a_picture_is_turned_upright() {
        let seen = GrayImage::from_fn(16, 8, |x, _| Luma([if x < 8 { 255 } else { 0 }]));
        for (value, stored) in [
            (1u8, seen.clone()),
            (3, imageops::rotate180(&seen)),
            (6, imageops::rotate270(&seen)),
            (8, imageops::rotate90(&seen)),
        ] {
            // A header of TIFF, and a directory of one entry: 0x0112, one short.
            let mut exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
            exif.extend([value, 0, 0, 0, 0, 0, 0, 0]);
            let mut bytes = Vec::new();
            let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
            encoder.set_exif_metadata(exif).unwrap();
            let picture = DynamicImage::from(stored);
            picture.write_with_encoder(encoder).unwrap();
            let looks = Looks::read(&bytes).unwrap();
            assert_eq!(looks.size, (16, 8), "{value}");
            let upright = decoded(&bytes).unwrap().into_luma8();
            assert_eq!(upright.dimensions(), (16, 8), "{value}");
            let [left, right] = [2, 13].map(|x| upright.get_pixel(x, 4).0[0]);
            assert!(left > 230 && right < 25, "{value}: {left} {right}");
        }
    }

    #[test]
    fn a_picture_of_one_colour_stays_so_under_every_crop_and_format() {
        let colour = [200, 100, 50];
        for (format, name) in FORMATS {
            let bytes = encoded(plain(40, 30, colour), format);
            for crop in [Crop::Centre, ANY] {
                for side in [8, 30, 64] {
                    let pixels = form(3, side, crop).pixels(&bytes, View::Drawn(5)).unwrap();
                    let plane = side * side;
                    for (place, value) in pixels.iter().enumerate() {
                        let wanted = i32::from(colour[place / plane]);
                        assert!(
                            (i32::from(*value) - wanted).abs() <= 3,
                            "{name}, {crop:?}, {side}"
                        );
                    }
                }
            }
        }
    }

    /// Columns `4·x` of a picture that is 40 wide and 30 high: the square in the middle holds the columns 5 to 34. Made half as wide, an
    /// inner column is the mean of four under the weights 1, 3, 3, 1, which for a ramp is its value in the middle: column j has
    /// `4·(5 + 2j + 0.5)`.
    #[test]
    fn a_ramp_stays_a_ramp_in_the_middle() {
        let ramp = GrayImage::from_fn(40, 30, |x, _| Luma([4 * x as u8]));
        let bytes = encoded(ramp, ImageFormat::Png);
        let pixels = form(1, 15, Crop::Centre)
            .pixels(&bytes, View::Centre)
            .unwrap();
        for (place, value) in pixels.iter().enumerate() {
            let column = place % 15;
            if (1..14).contains(&column) {
                let wanted = 4 * (5 + 2 * column) + 2;
                assert!(
                    (i32::from(*value) - wanted as i32).abs() <= 1,
                    "column {column}: {value}, expected {wanted}"
                );
            }
        }
    }

    /// The same ramp under random crops: a rectangle from column `left` of width w becomes 8 columns whose middles are at
    /// `left + w·(j + 0.5)/8 − 0.5`.
    #[test]
    fn a_ramp_shows_where_a_random_crop_was_cut() {
        let ramp = GrayImage::from_fn(40, 30, |x, _| Luma([4 * x as u8]));
        let bytes = encoded(ramp, ImageFormat::Png);
        for seed in 0..50 {
            let part = rectangle(ANY, (40, 30), (8, 8), View::Drawn(seed));
            let pixels = form(1, 8, ANY).pixels(&bytes, View::Drawn(seed)).unwrap();
            for (column, value) in pixels.iter().enumerate().take(7).skip(1) {
                let middle = f64::from(part.width) * (column as f64 + 0.5) / 8.0 - 0.5;
                let wanted = 4.0 * (f64::from(part.left) + middle);
                let got = f64::from(*value);
                // Where a picture is magnified, columns beside the edge lean on it.
                let tolerance = if part.width < 16 { 4.0 } else { 1.5 };
                assert!(
                    (got - wanted).abs() <= tolerance,
                    "seed {seed}, column {column}: {got}, expected {wanted}"
                );
            }
        }
    }

    /// Black and white columns in turn have no meaning but their mean once they are made four times narrower.
    #[test]
    fn making_smaller_averages() {
        let stripes = GrayImage::from_fn(64, 64, |x, _| Luma([255 * (x % 2) as u8]));
        let bytes = encoded(stripes, ImageFormat::Png);
        let pixels = form(1, 16, Crop::Centre)
            .pixels(&bytes, View::Centre)
            .unwrap();
        let inner = pixels.chunks(16).flat_map(|row| &row[1..15]);
        for value in inner {
            assert!((126..=129).contains(value), "{value}");
        }
    }

    #[test]
    fn planes_are_red_green_and_blue_and_rows_stay_rows() {
        let picture = RgbImage::from_fn(2, 2, |x, y| Rgb([x as u8, 10 + y as u8, 20]));
        let bytes = encoded(picture, ImageFormat::Png);
        let pixels = form(3, 2, Crop::Off).pixels(&bytes, View::Centre).unwrap();
        assert_eq!(pixels, [0, 1, 0, 1, 10, 10, 11, 11, 20, 20, 20, 20]);
    }

    #[test]
    fn grey_becomes_coloured_where_it_must_and_alpha_is_dropped() {
        let grey = GrayImage::from_pixel(2, 2, Luma([7]));
        let clear = image::RgbaImage::from_pixel(2, 2, image::Rgba([7, 7, 7, 0]));
        for bytes in [
            encoded(grey, ImageFormat::Png),
            encoded(clear, ImageFormat::Png),
        ] {
            let pixels = form(3, 2, Crop::Off).pixels(&bytes, View::Centre).unwrap();
            assert_eq!(pixels, [7; 12]);
        }
    }

    #[test]
    fn what_is_wrong_with_a_picture_is_said() {
        let png = encoded(plain(4, 4, [1, 2, 3]), ImageFormat::Png);
        let centre = form(3, 4, Crop::Centre);
        for (form, bytes, wanted) in [
            (centre, Vec::new(), "is an empty file"),
            (centre, b"hello".to_vec(), "is no PNG, JPEG or WebP picture"),
            (
                centre,
                b"GIF89a and so on".to_vec(),
                "is no PNG, JPEG or WebP picture",
            ),
            (
                form(3, 5, Crop::Off),
                png.clone(),
                "is 4×4 pixels, expected 5×5",
            ),
            (form(1, 4, Crop::Off), png, "is in colour, expected grey"),
        ] {
            let reason = form.pixels(&bytes, View::Centre).unwrap_err();
            assert!(reason.contains(wanted), "{reason}, expected {wanted}");
        }
    }

    #[test]
    fn a_picture_without_pixels_is_damaged() {
        for size in [(0, 4), (4, 0)] {
            let looks = Looks {
                size,
                is_coloured: false,
            };
            let reason = form(1, 4, Crop::Centre).check(looks).unwrap_err();
            assert_eq!(reason, "has no pixels");
        }
    }

    #[test]
    fn every_format_cut_short_is_damaged() {
        let noisy = RgbImage::from_fn(40, 30, |x, y| {
            Rgb([(x * 37 + y * 91) as u8, (x * y) as u8, (x ^ y) as u8])
        });
        for (format, name) in FORMATS {
            let bytes = encoded(noisy.clone(), format);
            for length in [4, 20, bytes.len() / 2, bytes.len() * 9 / 10] {
                let reason = form(3, 8, Crop::Centre).pixels(&bytes[..length], View::Centre);
                assert!(
                    reason.is_err(),
                    "{name} of {length} bytes of {}",
                    bytes.len()
                );
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_change_of_a_file_is_decoded_or_damage(place in 0usize..2000, value: u8, which in 0usize..3) {
            let noisy = RgbImage::from_fn(16, 12, |x, y| Rgb([(x * 37 + y * 91) as u8, (x * y) as u8, 3]));
            let mut bytes = encoded(noisy, FORMATS[which].0);
            let place = place % bytes.len();
            bytes[place] = value;
            if let Ok(pixels) = form(3, 8, Crop::Centre).pixels(&bytes, View::Centre) {
                assert_eq!(pixels.len(), 3 * 64);
            }
        }
    }
}
