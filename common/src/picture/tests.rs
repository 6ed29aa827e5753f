#![allow(clippy::unwrap_used)]
use std::io::Cursor;
use std::path::PathBuf;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::{
    DynamicImage, GrayAlphaImage, GrayImage, ImageBuffer, ImageEncoder, ImageFormat, Luma, LumaA,
    Rgb, RgbImage, Rgba, RgbaImage, imageops,
};

use super::*;

const FORMATS: [(ImageFormat, &str); 3] = [
    (ImageFormat::Png, "png"),
    (ImageFormat::Jpeg, "jpg"),
    (ImageFormat::WebP, "webp"),
];

fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let picture: DynamicImage = picture.into();
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn png(picture: impl Into<DynamicImage>) -> Vec<u8> {
    encoded(picture, ImageFormat::Png)
}

fn fixture(name: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    PathBuf::from(folder).join(name)
}

fn form(channels: usize, side: u32, crop: Crop, colours: Colours) -> Form {
    Form {
        channels,
        size: (side, side),
        fit: Fit { crop, colours },
    }
}

fn reason<T: fmt::Debug>(result: Result<T, Fault>) -> String {
    result.unwrap_err().to_string()
}

/// A picture of 40 columns and 30 rows that is `4x` in column x.
fn ramp() -> Vec<u8> {
    png(GrayImage::from_fn(40, 30, |x, _| Luma([4 * x as u8])))
}

/// The left half of what the camera saw is white, and its upper half brighter; the values of Exif say how the file was stored.
#[test]
fn a_picture_is_turned_upright_in_every_format() {
    let seen = GrayImage::from_fn(16, 8, |x, y| {
        Luma([if x < 8 { 200 } else { 0 } + if y < 4 { 50 } else { 0 }])
    });
    for (value, stored) in [
        (1u8, seen.clone()),
        (2, imageops::flip_horizontal(&seen)),
        (3, imageops::rotate180(&seen)),
        (4, imageops::flip_vertical(&seen)),
        (5, imageops::rotate270(&imageops::flip_horizontal(&seen))),
        (6, imageops::rotate270(&seen)),
        (7, imageops::rotate90(&imageops::flip_horizontal(&seen))),
        (8, imageops::rotate90(&seen)),
    ] {
        // A header of TIFF, and a directory of one entry: 0x0112, one short.
        let mut exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
        exif.extend([value, 0, 0, 0, 0, 0, 0, 0]);
        for (format, name) in FORMATS {
            let mut bytes = Vec::new();
            let picture = DynamicImage::from(stored.clone()).into_rgb8();
            let picture = DynamicImage::from(picture);
            match format {
                ImageFormat::Png => {
                    let mut encoder = PngEncoder::new(&mut bytes);
                    encoder.set_exif_metadata(exif.clone()).unwrap();
                    picture.write_with_encoder(encoder).unwrap();
                }
                ImageFormat::Jpeg => {
                    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
                    encoder.set_exif_metadata(exif.clone()).unwrap();
                    picture.write_with_encoder(encoder).unwrap();
                }
                _ => {
                    let mut encoder = WebPEncoder::new_lossless(&mut bytes);
                    encoder.set_exif_metadata(exif.clone()).unwrap();
                    picture.write_with_encoder(encoder).unwrap();
                }
            }
            assert_eq!(decode::size(&bytes).unwrap(), (16, 8), "{name}, {value}");
            let upright = decode(&bytes).unwrap().pixels.into_luma8();
            for (x, y, wanted) in [(2, 1, 250), (2, 6, 200), (13, 1, 50), (13, 6, 0)] {
                let got = i32::from(upright.get_pixel(x, y).0[0]);
                assert!(
                    (got - wanted).abs() < 12,
                    "{name}, {value}: {got} at {x}, {y}"
                );
            }
        }
    }
}

#[test]
fn a_note_behind_the_pixels_turns_a_picture_too() {
    let bytes = read(&fixture("note_behind.png")).unwrap();
    let upright = decode(&bytes).unwrap().pixels.into_luma8();
    let [left, right] = [2, 13].map(|x| upright.get_pixel(x, 8).0[0]);
    assert_eq!((left, right), (0, 255));
}

#[test]
fn every_kind_of_file_shows_its_colour() {
    let colour = [200, 100, 50];
    let rgb = RgbImage::from_pixel(16, 16, Rgb(colour));
    let mut files: Vec<(String, Vec<u8>)> = FORMATS
        .map(|(format, name)| (name.to_string(), encoded(rgb.clone(), format)))
        .to_vec();
    for name in [
        "palette.png",
        "cmyk.jpg",
        "progressive.jpg",
        "moving_photo.jpg",
        "named_wrongly.png",
    ] {
        files.push((name.to_string(), read(&fixture(name)).unwrap()));
    }
    let deep = ImageBuffer::from_pixel(16, 16, Rgb(colour.map(|value| u16::from(value) * 257)));
    files.push(("16 bits".to_string(), png(deep)));
    let opaque = RgbaImage::from_pixel(16, 16, Rgba([200, 100, 50, 255]));
    files.push(("opaque".to_string(), png(opaque)));
    for (name, bytes) in files {
        for crop in [Crop::Off, Crop::Centre] {
            let side = if crop == Crop::Off { 16 } else { 8 };
            let image = form(3, side, crop, Colours::Kept).image(&bytes).unwrap();
            assert_eq!(image.pixels.len(), (3 * side * side) as usize);
            for pixel in image.pixels.chunks(3) {
                for (got, wanted) in pixel.iter().zip(colour) {
                    assert!(got.abs_diff(wanted) <= 4, "{name}: {pixel:?}");
                }
            }
        }
    }
}

#[test]
fn what_a_viewer_changes_is_told() {
    let half = |alpha| RgbaImage::from_pixel(2, 2, Rgba([0, 100, 200, alpha]));
    let grey = |alpha| GrayAlphaImage::from_pixel(2, 2, LumaA([100, alpha]));
    let deep = ImageBuffer::from_pixel(2, 2, Luma([257u16 * 7 + 100]));
    let cases: [(DynamicImage, &[u8], &[Change]); 6] = [
        (half(255).into(), &[0, 100, 200], &[]),
        (half(51).into(), &[204, 224, 244], &[Change::Transparency]),
        (half(0).into(), &[255; 3], &[Change::Transparency]),
        (grey(255).into(), &[100; 3], &[]),
        (grey(51).into(), &[224; 3], &[Change::Transparency]),
        (deep.into(), &[7; 3], &[Change::Depth]),
    ];
    for (picture, pixel, changes) in cases {
        let picture = decode(&png(picture)).unwrap();
        assert_eq!(picture.changes(), changes, "{pixel:?}");
        assert_eq!(picture.into_rgb()[..3], *pixel);
    }
    let bytes = read(&fixture("palette_transparent.png")).unwrap();
    let picture = decode(&bytes).unwrap();
    assert_eq!(picture.changes(), [Change::Transparency]);
    assert_eq!(picture.into_rgb()[45..51], [200, 100, 50, 255, 255, 255]);
}

/// What becomes of colours under each policy: the pixel, or why not.
#[test]
fn colours_are_changed_only_as_is_asked() {
    let grey = png(GrayImage::from_pixel(2, 2, Luma([7])));
    let grey_in_colour = encoded(RgbImage::from_pixel(2, 2, Rgb([7; 3])), ImageFormat::WebP);
    let stored_in_colour = png(RgbImage::from_pixel(2, 2, Rgb([7; 3])));
    let colour = png(RgbImage::from_pixel(2, 2, Rgb([0, 255, 0])));
    use Colours::{Converted, FromGrey, Kept};
    /// A picture, the channels that are wanted and what may be changed; then the first pixels, or why not.
    type Case<'a> = (&'a [u8], usize, Colours, Result<&'a [u8], Unfit>);
    let cases: [Case<'_>; 14] = [
        (&grey, 1, Kept, Ok(&[7])),
        (&grey, 3, Kept, Err(Unfit::Grey)),
        (&grey, 3, FromGrey, Ok(&[7; 3])),
        (&grey, 3, Converted, Ok(&[7; 3])),
        (&grey_in_colour, 1, Kept, Ok(&[7])),
        (&grey_in_colour, 1, FromGrey, Ok(&[7])),
        (&grey_in_colour, 3, Kept, Ok(&[7; 3])),
        (&stored_in_colour, 1, Kept, Err(Unfit::Coloured)),
        (&stored_in_colour, 1, Converted, Ok(&[7])),
        (&colour, 1, Kept, Err(Unfit::Coloured)),
        (&colour, 1, FromGrey, Err(Unfit::Coloured)),
        (&colour, 1, Converted, Ok(&[182])),
        (&colour, 3, Kept, Ok(&[0, 255, 0])),
        (&colour, 3, Converted, Ok(&[0, 255, 0])),
    ];
    for (number, (bytes, channels, colours, wanted)) in cases.into_iter().enumerate() {
        let image = form(channels, 2, Crop::Off, colours).image(bytes);
        match (image, wanted) {
            (Ok(image), Ok(pixel)) => assert_eq!(image.pixels[..channels], *pixel, "{number}"),
            (Err(fault), Err(unfit)) => assert_eq!(fault, Fault::Unfit(unfit), "{number}"),
            (got, wanted) => panic!("{number}: {got:?}, expected {wanted:?}"),
        }
    }
}

/// The square in the middle of the ramp holds the columns 5 to 34. Made half as wide, an inner column is the mean of four under the weights
/// 1, 3, 3, 1, which for a ramp is its value in the middle: column j has `4·(5 + 2j + 0.5)`.
#[test]
fn a_ramp_stays_a_ramp_in_the_middle() {
    let image = form(1, 15, Crop::Centre, Colours::Kept)
        .image(&ramp())
        .unwrap();
    assert_eq!(image.changes, [Change::Size]);
    for (place, value) in image.pixels.iter().enumerate() {
        let column = place % 15;
        if (1..14).contains(&column) {
            let wanted = 4 * (5 + 2 * column) + 2;
            let difference = i32::from(*value) - wanted as i32;
            assert!(
                difference.abs() <= 1,
                "column {column}: {value}, expected {wanted}"
            );
        }
    }
}

/// A rectangle from column `left` of width w becomes 8 columns whose middles are at `left + w·(j + 0.5)/8 − 0.5`; the whole ramp has left 0
/// and width 40.
#[test]
fn a_ramp_shows_what_was_cut_and_resized() {
    let (area, aspect) = ([0.1, 1.0], [0.5, 2.0]);
    let drawn = |n: u32| {
        let draw = |factor: u32| f64::from(n * factor % 50) / 50.0;
        Crop::Drawn {
            area,
            aspect,
            draws: [draw(7), draw(11), draw(13), draw(17)],
        }
    };
    for crop in (0..50).map(drawn).chain([Crop::Resize, Crop::Centre]) {
        let part = crop.rectangle((40, 30), (8, 8));
        let image = form(1, 8, crop, Colours::Kept).image(&ramp()).unwrap();
        for (column, value) in image.pixels.iter().enumerate().take(7).skip(1) {
            let middle = f64::from(part.width) * (column as f64 + 0.5) / 8.0 - 0.5;
            let wanted = 4.0 * (f64::from(part.left) + middle);
            let got = f64::from(*value);
            // Where a picture is magnified, columns beside the edge lean on it.
            let tolerance = if part.width < 16 { 4.0 } else { 1.5 };
            assert!(
                (got - wanted).abs() <= tolerance,
                "{crop:?}, column {column}: {got}, expected {wanted}"
            );
        }
    }
}

/// Black and white columns in turn have no meaning but their mean once they are made four times narrower.
#[test]
fn making_smaller_averages() {
    let stripes = GrayImage::from_fn(64, 64, |x, _| Luma([255 * (x % 2) as u8]));
    let form = form(1, 16, Crop::Centre, Colours::Kept);
    let image = form.image(&png(stripes)).unwrap();
    let inner = image.pixels.chunks(16).flat_map(|row| &row[1..15]);
    for value in inner {
        assert!((126..=129).contains(value), "{value}");
    }
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let large = png(GrayImage::new(4, 2));
    let exact = form(1, 5, Crop::Off, Colours::Kept);
    assert_eq!(reason(exact.image(&large)), "is 4×2 pixels, expected 5×5");
    for (bytes, wanted) in [
        (b"".as_slice(), "is an empty file"),
        (
            b"hello",
            "is not a PNG, JPEG or WebP file: it begins with [68, 65, 6c, 6c]",
        ),
        (
            b"\x89PNG",
            "is truncated: the end of its PNG data is missing",
        ),
        (
            b"\xff\xd8\xff\xe0",
            "is truncated: the end of its JPEG data",
        ),
        (
            b"RIFF\0\0\0\0WEBP",
            "is truncated: the end of its WebP data",
        ),
    ] {
        let reason = reason(decode(bytes));
        assert!(reason.starts_with(wanted), "{reason}, expected {wanted}");
    }
    for (name, wanted) in [
        ("colour.gif", "is not a PNG, JPEG or WebP file"),
        (
            "animated.png",
            "is an animation: expected one picture, got 2",
        ),
        (
            "animated.webp",
            "is an animation: expected one picture, got 2",
        ),
        ("checksum.png", "cannot be decoded: "),
        ("bomb.png", "is too large: expected at most 268435456 bytes"),
        ("nowhere.png", "cannot be read: No such file"),
        ("", "cannot be read: Is a directory"),
    ] {
        let picture = read(&fixture(name)).and_then(|bytes| decode(&bytes));
        let reason = reason(picture);
        assert!(
            reason.starts_with(wanted),
            "{name}: {reason}, expected {wanted}"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_link_to_nothing_and_an_endless_file_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("a.png");
    std::os::unix::fs::symlink("there/b.png", &link).unwrap();
    assert_eq!(
        reason(read(&link)),
        "cannot be read: it is a link to `there/b.png`, which is not there"
    );
    let reason = reason(read(std::path::Path::new("/dev/zero")));
    assert!(reason.starts_with("is too long for a picture"), "{reason}");
}

#[test]
fn every_format_cut_short_is_damaged_wherever() {
    let noisy = RgbImage::from_fn(40, 30, |x, y| {
        Rgb([(x * 37 + y * 91) as u8, (x * y) as u8, (x ^ y) as u8])
    });
    for (format, name) in FORMATS {
        let bytes = encoded(noisy.clone(), format);
        let lengths = (0..bytes.len()).step_by(41);
        for length in lengths.chain([bytes.len() - 12, bytes.len() - 1]) {
            let picture = decode(&bytes[..length]);
            assert!(
                picture.is_err(),
                "{name} of {length} bytes of {}",
                bytes.len()
            );
        }
    }
}

proptest::proptest! {
    #[test]
    fn any_change_of_a_file_gives_an_image_or_a_fault(place in 0usize..2000, value: u8, which in 0usize..3) {
        let noisy = RgbImage::from_fn(16, 12, |x, y| Rgb([(x * 37 + y * 91) as u8, (x * y) as u8, 3]));
        let mut bytes = encoded(noisy, FORMATS[which].0);
        let place = place % bytes.len();
        bytes[place] = value;
        if let Ok(image) = form(3, 8, Crop::Centre, Colours::FromGrey).image(&bytes) {
            assert_eq!(image.pixels.len(), 3 * 64);
        }
    }
}
