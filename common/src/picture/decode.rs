//! A whole picture, as a viewer shows it on a white page.

use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, ImageDecoder, ImageReader, Limits, RgbImage};

use super::fit::Change;
use super::{Fault, Size};
use crate::PictureFormat;

/// Memory that one picture may take, as a file and while it is decoded: some 90 million pixels in colour.
const MOST_BYTES: u64 = 256 << 20;

/// A picture: upright, 8 bits a channel, grey or red, green and blue.
#[derive(Debug, Clone)]
pub struct Picture {
    pub(super) pixels: DynamicImage,
    format: Option<PictureFormat>,
    pub(super) changes: Vec<Change>,
}

impl Picture {
    /// Width and height.
    pub fn size(&self) -> Size {
        (self.pixels.width(), self.pixels.height())
    }

    /// Whether the file says so, or is of WebP, which knows no grey, and all its pixels are.
    pub fn is_grey(&self) -> bool {
        match &self.pixels {
            DynamicImage::ImageRgb8(pixels) => {
                self.format == Some(PictureFormat::WebP)
                    && pixels.pixels().all(|p| p.0 == [p.0[0]; 3])
            }
            _ => true,
        }
    }

    /// What a viewer does to show the file: bits that are rounded, and transparent pixels.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Bytes `[height, width, 3]`.
    pub fn into_rgb(self) -> Vec<u8> {
        self.pixels.into_rgb8().into_raw()
    }
}

/// The bytes of a picture's file.
///
/// # Errors
/// [`Fault::Unreadable`], and [`Fault::Damaged`] if it is too long for a picture.
pub fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    let unreadable = |error| {
        Fault::Unreadable(match fs::read_link(path) {
            Ok(target) if !path.exists() => format!(
                "cannot be read: it is a link to `{}`, which is not there",
                target.display()
            ),
            _ => format!("cannot be read: {error}"),
        })
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MOST_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    match bytes.len() as u64 {
        0..=MOST_BYTES => Ok(bytes),
        _ => Err(Fault::Damaged(format!(
            "is too long for a picture: expected at most {MOST_BYTES} bytes"
        ))),
    }
}

/// The picture in the bytes of a file. Its format is told by its first bytes, whatever its name is.
///
/// # Errors
/// [`Fault::Damaged`]: it is not a PNG, JPEG or WebP file, not whole, an animation, or too large.
pub fn decode(bytes: &[u8]) -> Result<Picture, Fault> {
    guarded(|| decoded(bytes)).map_err(Fault::Damaged)
}

/// Width and height of the upright picture, by the header alone.
pub(super) fn size(bytes: &[u8]) -> Result<Size, Fault> {
    let size = || {
        let (mut decoder, note) = decoder(bytes)?;
        let (width, height) = decoder.dimensions();
        let mut corner = DynamicImage::new_luma8(2, 1);
        corner.apply_orientation(orientation(&mut decoder, note));
        Ok(match corner.width() {
            2 => (width, height),
            _ => (height, width),
        })
    };
    guarded(size).map_err(Fault::Damaged)
}

/// A decoder that panics has met a damaged file.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let done = catch_unwind(AssertUnwindSafe(work));
    done.unwrap_or_else(|_| Err("makes its decoder fail".into()))
}

fn decoded(bytes: &[u8]) -> Result<Picture, String> {
    let (mut decoder, note) = decoder(bytes)?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err("has no pixels".into());
    }
    if decoder.total_bytes() > MOST_BYTES {
        return Err(format!(
            "is too large: expected at most {MOST_BYTES} bytes of pixels, got {} for {width}×{height}",
            decoder.total_bytes()
        ));
    }
    decoder.set_limits(limits()).map_err(undecodable)?;
    let upright = orientation(&mut decoder, note);
    let pixels = DynamicImage::from_decoder(decoder).map_err(undecodable)?;
    let mut picture = shown(pixels, PictureFormat::of_bytes(bytes));
    picture.pixels.apply_orientation(upright);
    Ok(picture)
}

type Note<'a> = Option<&'a [u8]>;

/// The decoder of a whole file of one picture, and the note of the camera if the decoder may overlook it.
fn decoder(bytes: &[u8]) -> Result<(impl ImageDecoder, Note<'_>), String> {
    let Some(format) = PictureFormat::of_bytes(bytes) else {
        return Err(match bytes {
            [] => "is an empty file".into(),
            _ => format!(
                "is not a {} file: it begins with {:02x?}",
                PictureFormat::names(),
                &bytes[..bytes.len().min(4)]
            ),
        });
    };
    let structure = format
        .structure(bytes)
        .ok_or_else(|| format!("is truncated: the end of its {format} data is missing"))?;
    if structure.n_frames > 1 {
        return Err(format!(
            "is an animation: expected one picture, got {}",
            structure.n_frames
        ));
    }
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let mut reader = reader.map_err(|error| format!("cannot be read: {error}"))?;
    if !reader.format().is_some_and(|f| f.reading_enabled()) {
        return Err(format!(
            "is a {format} file, for which this program was not built: build it with the cargo feature `{}`",
            format.to_string().to_lowercase()
        ));
    }
    reader.limits(limits());
    Ok((reader.into_decoder().map_err(undecodable)?, structure.exif))
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MOST_BYTES);
    limits
}

fn undecodable(error: image::ImageError) -> String {
    let message = error.to_string();
    let first = message.lines().next().unwrap_or_default();
    format!("cannot be decoded: {first}")
}

/// What turns a picture upright. Notes that cannot be read turn nothing.
fn orientation(decoder: &mut impl ImageDecoder, note: Note<'_>) -> Orientation {
    let noted = || Orientation::from_exif_chunk(note?);
    match decoder.orientation() {
        Ok(Orientation::NoTransforms) | Err(_) => noted().unwrap_or(Orientation::NoTransforms),
        Ok(orientation) => orientation,
    }
}

/// 8 bits a channel, on white.
fn shown(pixels: DynamicImage, format: Option<PictureFormat>) -> Picture {
    let color = pixels.color();
    let mut changes = Vec::new();
    if color.bits_per_pixel() > 8 * u16::from(color.channel_count()) {
        changes.push(Change::Depth);
    }
    let (width, height) = (pixels.width(), pixels.height());
    let mut on_white = |bytes, n_channels| {
        let (bytes, is_opaque) = on_white(bytes, n_channels);
        if !is_opaque {
            changes.push(Change::Transparency);
        }
        bytes
    };
    // There is a byte for each pixel and channel, so that no buffer is too short.
    let shown = match (color.has_color(), color.has_alpha()) {
        (false, false) => Some(pixels.into_luma8().into()),
        (true, false) => Some(pixels.into_rgb8().into()),
        (false, true) => {
            let bytes = on_white(pixels.into_luma_alpha8().into_raw(), 1);
            GrayImage::from_raw(width, height, bytes).map(DynamicImage::from)
        }
        (true, true) => {
            let bytes = on_white(pixels.into_rgba8().into_raw(), 3);
            RgbImage::from_raw(width, height, bytes).map(DynamicImage::from)
        }
    };
    Picture {
        pixels: shown.expect("there is a byte for each pixel and channel"),
        format,
        changes,
    }
}

/// Pixels without their alpha channel, which stands last, and whether all of them were opaque.
fn on_white(bytes: Vec<u8>, n_channels: usize) -> (Vec<u8>, bool) {
    let mut is_opaque = true;
    let pixels = bytes.chunks_exact(n_channels + 1).flat_map(|pixel| {
        let (values, alpha) = pixel.split_at(n_channels);
        let alpha = u32::from(alpha[0]);
        is_opaque &= alpha == 255;
        let shown =
            move |value: &u8| ((u32::from(*value) * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
        values.iter().map(shown)
    });
    (pixels.collect(), is_opaque)
}
