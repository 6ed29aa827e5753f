//! A sheet of pictures: before, after, difference.

use std::path::Path;

use anyhow::{Result, bail};
use ebm_runtime::{ImageShape, Images, read_picture_fitted, write_png};
use font8x8::legacy::BASIC_LEGACY;

use crate::arguments::RunArguments;
use crate::dataset::DataSet;
use crate::inputs::{Content, Input, Reading};
use crate::outputs::Outputs;

/// Small images are magnified by a whole number to about this many pixels.
const TILE_PIXELS: usize = 96;
const MARGIN: usize = 4;
/// Height of a line of text with its margin.
const TEXT_HEIGHT: usize = 8 + MARGIN;

/// Writes the sheet of the first images of a run that is complete, from the files before and after.
pub fn write(
    path: &Path,
    arguments: &RunArguments,
    inputs: &[Input],
    outputs: &Outputs,
    reading: Reading,
) -> Result<()> {
    let n_wanted = usize::from(arguments.sheet_images);
    let mut pairs = Vec::new();
    for input in inputs {
        if pairs.len() == n_wanted {
            break;
        }
        let n = n_wanted - pairs.len();
        pairs.extend(images(input, outputs, reading, n)?);
    }
    if pairs.is_empty() {
        bail!(
            "`{}`: no image could be purified, so that there is no sheet",
            path.display()
        );
    }
    let sheet = draw(&pairs, arguments.sheet_gain, reading.shape);
    write_png(path, &sheet, 0)?;
    Ok(())
}

/// The first images of an input, before and after. A picture that failed has none.
fn images(
    input: &Input,
    outputs: &Outputs,
    reading: Reading,
    n: usize,
) -> Result<Vec<(Images, Images)>> {
    let (before, after) = (input.path(), outputs.first(input));
    if !after.exists() {
        return Ok(Vec::new());
    }
    if let Content::Picture = input.content {
        let read = |path| read_picture_fitted(path, reading.shape, reading.fit);
        return Ok(vec![(read(before)?.image, read(after)?.image)]);
    }
    let before = DataSet::open(before, reading.shape, reading.range)?;
    let after = DataSet::open(after, reading.shape, reading.range)?;
    let mut pairs = Vec::new();
    for (before, after) in before.records(0)?.zip(after.records(0)?).take(n) {
        // An image that could not be read is the same bad one after the run.
        if let (Ok(before), Ok(after)) = (before?.image, after?.image) {
            pairs.push((before, after));
        }
    }
    Ok(pairs)
}

/// One row for each pair, in the colours of the images.
fn draw(pairs: &[(Images, Images)], gain: f32, shape: ImageShape) -> Images {
    let scale = (TILE_PIXELS / shape.height.max(shape.width)).max(1);
    let (tile_height, tile_width) = (shape.height * scale, shape.width * scale);
    let headings = [
        "before".into(),
        "after".into(),
        format!("after-before x{gain}"),
    ];
    let column = tile_width.max(
        headings
            .iter()
            .map(|text| text.len() * 8)
            .max()
            .unwrap_or(0),
    ) + MARGIN;
    let mut canvas = Canvas::new(ImageShape {
        channels: shape.channels,
        height: TEXT_HEIGHT + MARGIN + pairs.len() * (tile_height + MARGIN),
        width: MARGIN + headings.len() * column,
    });
    for (place, heading) in headings.iter().enumerate() {
        canvas.text(heading, MARGIN, MARGIN + place * column);
    }
    for (row, (before, after)) in pairs.iter().enumerate() {
        let top = TEXT_HEIGHT + MARGIN + row * (tile_height + MARGIN);
        let difference: Vec<f32> = after
            .image(0)
            .iter()
            .zip(before.image(0))
            .map(|(after, before)| (after - before) * gain)
            .collect();
        for (place, image) in [before.image(0), after.image(0), &difference]
            .into_iter()
            .enumerate()
        {
            canvas.tile(image, shape, scale, top, MARGIN + place * column);
        }
    }
    canvas.into_images()
}

/// Pixels `[C, H, W]`, white at first.
struct Canvas {
    shape: ImageShape,
    pixels: Vec<f32>,
}

impl Canvas {
    fn new(shape: ImageShape) -> Self {
        Self {
            shape,
            pixels: vec![1.0; shape.n_values()],
        }
    }

    fn set(&mut self, channel: usize, y: usize, x: usize, value: f32) {
        let at = (channel * self.shape.height + y) * self.shape.width + x;
        self.pixels[at] = value;
    }

    fn tile(&mut self, image: &[f32], shape: ImageShape, scale: usize, top: usize, left: usize) {
        for (at, &value) in image.iter().enumerate() {
            let (channel, at) = (
                at / (shape.height * shape.width),
                at % (shape.height * shape.width),
            );
            let (y, x) = (at / shape.width * scale, at % shape.width * scale);
            for (dy, dx) in (0..scale * scale).map(|i| (i / scale, i % scale)) {
                self.set(channel, top + y + dy, left + x + dx, value);
            }
        }
    }

    fn text(&mut self, text: &str, top: usize, left: usize) {
        for (place, character) in text.chars().enumerate() {
            let rows = BASIC_LEGACY
                .get(character as usize)
                .copied()
                .unwrap_or_default();
            for (y, bits) in rows.into_iter().enumerate() {
                for x in (0..8).filter(|x| bits >> x & 1 == 1) {
                    for channel in 0..self.shape.channels {
                        self.set(channel, top + y, left + 8 * place + x, -1.0);
                    }
                }
            }
        }
    }

    fn into_images(self) -> Images {
        Images::from_vec(self.shape, self.pixels).expect("there is a value for each pixel")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_row_holds_before_after_and_difference() {
        let shape = ImageShape {
            channels: 1,
            height: 48,
            width: 32,
        };
        let image = |value: f32| Images::from_vec(shape, vec![value; shape.n_values()]).unwrap();
        let sheet = draw(&[(image(-0.5), image(-0.25))], 2.0, shape);
        let sheet_shape = sheet.shape();
        // Each image is magnified twice; the column is as wide as its heading.
        assert_eq!(sheet_shape.height, TEXT_HEIGHT + MARGIN + 96 + MARGIN);
        let column = "after-before x2".len() * 8 + MARGIN;
        assert_eq!(sheet_shape.width, MARGIN + 3 * column);
        let at = |place: usize| {
            let (y, x) = (TEXT_HEIGHT + MARGIN + 95, MARGIN + place * column + 63);
            sheet.array()[[0, 0, y, x]]
        };
        assert_eq!([at(0), at(1), at(2)], [-0.5, -0.25, 0.5]);
        assert!(sheet.array().iter().any(|&x| x == -1.0), "there is text");
    }
}
