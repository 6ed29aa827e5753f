//! Sheets of images.

use anyhow::{Result, anyhow};
use image::imageops::{replace, thumbnail};
use image::{Rgb, RgbImage};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use tch::{Device, Kind, Tensor};

use super::font;
use super::plot::{drawing, encode};

/// Columns of a block.
const COLUMNS: usize = 8;
/// Images are magnified to about this many pixels a side.
const SIDE: usize = 48;
const GAP: usize = 4;
/// The line of the caption above a block, and the size of its letters.
const CAPTION: usize = 28;
const LETTERS: u32 = 21;

/// A picture by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Under which name.
    pub tag: String,
    /// Pixels from left to right.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
    /// PNG bytes.
    pub png: Vec<u8>,
}

/// Images that belong together.
#[derive(Debug)]
pub struct Block {
    name: String,
    images: Tensor,
}

impl Block {
    /// Images f32 `[n, C, H, W]` in `[-1, 1]` under a caption.
    pub fn new(name: impl Into<String>, images: Tensor) -> Block {
        Block {
            name: name.into(),
            images,
        }
    }

    /// The images without caption, for TensorBoard.
    ///
    /// # Errors
    /// The tensors are not images.
    pub fn picture(&self) -> Result<Picture> {
        let tiles = tiles(&self.images)?;
        let (width, height) = extent(&tiles, tiles.len());
        let mut picture = white(width, height);
        place(&mut picture, &tiles, (0, 0));
        let (width, height) = picture.dimensions();
        Ok(Picture {
            tag: format!("samples/{}", self.name),
            width,
            height,
            png: encode(&picture)?,
        })
    }
}

/// Blocks side by side, each with its caption, as PNG bytes.
///
/// # Errors
/// The tensors are not images.
pub fn sheet(blocks: &[Block]) -> Result<Vec<u8>> {
    let tiles: Vec<Vec<RgbImage>> = blocks
        .iter()
        .map(|block| tiles(&block.images))
        .collect::<Result<_>>()?;
    let most = tiles.iter().map(Vec::len).max().unwrap_or_default();
    let widest = tiles.iter().max_by_key(|tiles| extent(tiles, most).0);
    let (width, height) = widest.map_or((GAP, GAP), |tiles| extent(tiles, most));
    let (pitch, gap) = (width + 2 * GAP, 2 * GAP);
    let full = (blocks.len() * pitch).saturating_sub(gap).max(1);
    let mut picture = white(full, CAPTION + height);
    for (number, tiles) in tiles.iter().enumerate() {
        place(&mut picture, tiles, (number * pitch, CAPTION));
    }
    replace(&mut picture, &captions(blocks, pitch, full)?, 0, 0);
    encode(&picture)
}

fn white(width: usize, height: usize) -> RgbImage {
    RgbImage::from_pixel(width as u32, height as u32, Rgb([u8::MAX; 3]))
}

/// The names of blocks, `pitch` pixels from one to the next.
fn captions(blocks: &[Block], pitch: usize, width: usize) -> Result<RgbImage> {
    // Letters begin at whole pixels, so that they are drawn larger than they are shown.
    const SCALE: usize = 3;
    font::register()?;
    let mut large = white(SCALE * width, SCALE * CAPTION);
    let size = large.dimensions();
    let area = BitMapBackend::with_buffer(&mut large, size).into_drawing_area();
    let style = ("sans-serif", SCALE as u32 * LETTERS).into_text_style(&area);
    let style = style.pos(Pos::new(HPos::Left, VPos::Center));
    for (number, block) in blocks.iter().enumerate() {
        let place = [number * pitch + GAP, CAPTION / 2].map(|at| (SCALE * at) as i32);
        let drawn = area.draw_text(&block.name, &style, place.into());
        drawn.map_err(drawing)?;
    }
    drop(area);
    Ok(thumbnail(&large, width as u32, CAPTION as u32))
}

/// How wide and high a block is that has room for `n` tiles like these.
fn extent(tiles: &[RgbImage], n: usize) -> (usize, usize) {
    let (width, height) = tile_size(tiles);
    (
        n.clamp(1, COLUMNS) * (width + GAP) + GAP,
        n.div_ceil(COLUMNS) * (height + GAP) + GAP,
    )
}

fn tile_size(tiles: &[RgbImage]) -> (usize, usize) {
    let (width, height) = tiles.first().map_or((1, 1), RgbImage::dimensions);
    (width as usize, height as usize)
}

/// Puts tiles into rows whose upper left corner is at a place.
fn place(picture: &mut RgbImage, tiles: &[RgbImage], (left, top): (usize, usize)) {
    let (width, height) = tile_size(tiles);
    for (number, tile) in tiles.iter().enumerate() {
        let (row, column) = (number / COLUMNS, number % COLUMNS);
        let x = left + GAP + column * (width + GAP);
        let y = top + GAP + row * (height + GAP);
        replace(picture, tile, x as i64, y as i64);
    }
}

/// One magnified picture per image.
fn tiles(images: &Tensor) -> Result<Vec<RgbImage>> {
    let size = images.size();
    let &[n, channels, height, width] = size.as_slice() else {
        return Err(anyhow!("images have shape {size:?}, expected [N, C, H, W]"));
    };
    let scale = (SIDE / width.max(1) as usize).max(1);
    let values = ((images.to_device(Device::Cpu).to_kind(Kind::Float) + 1.0) * 127.5)
        .clamp(0.0, 255.0)
        .round()
        .to_kind(Kind::Uint8);
    let bytes = Vec::<u8>::try_from(values.contiguous().view([-1]))?;
    let at = |image: usize, channel: usize, row: usize, column: usize| {
        let channel = channel.min(channels as usize - 1);
        bytes[((image * channels as usize + channel) * height as usize + row) * width as usize
            + column]
    };
    let tile = |image: usize| {
        RgbImage::from_fn(
            (width as usize * scale) as u32,
            (height as usize * scale) as u32,
            |x, y| {
                let (row, column) = (y as usize / scale, x as usize / scale);
                Rgb([0, 1, 2].map(|channel| at(image, channel, row, column)))
            },
        )
    };
    Ok((0..n as usize).map(tile).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(n: i64, value: f64) -> Tensor {
        Tensor::full([n, 1, 8, 8], value, (Kind::Float, Device::Cpu))
    }

    #[test]
    fn a_sheet_has_all_blocks_under_their_captions() {
        let blocks = [
            Block::new("data", grey(9, -1.0)),
            Block::new("bank", grey(3, 0.0)),
            Block::new("generator", grey(9, 1.0)),
        ];
        let picture = image::load_from_memory(&sheet(&blocks).unwrap()).unwrap();
        let picture = picture.to_rgb8();
        let block = COLUMNS * (SIDE + GAP) + GAP;
        assert_eq!(picture.height() as usize, CAPTION + 2 * (SIDE + GAP) + GAP);
        assert_eq!(picture.width() as usize, 3 * block + 4 * GAP);
        let at = |x: usize, y: usize| picture.get_pixel(x as u32, y as u32).0[0];
        let (first, second) = (CAPTION + GAP, CAPTION + GAP + SIDE + GAP);
        assert_eq!((at(GAP, first), at(GAP, second)), (0, 0));
        // Of the second block, the fourth image is not there.
        let left = block + 2 * GAP + GAP;
        assert_eq!(
            (at(left, first), at(left + 3 * (SIDE + GAP), first)),
            (128, 255)
        );
        let is_inked =
            |left: usize| (left..left + 40).any(|x| (0..CAPTION).any(|y| at(x, y) < 100));
        assert!(is_inked(0) && is_inked(block) && is_inked(2 * block));
        assert!(!is_inked(block - 60));
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let block = Block::new("data", Tensor::zeros([4, 8, 8], (Kind::Float, Device::Cpu)));
        let message = sheet(&[block]).unwrap_err().to_string();
        assert!(
            message.contains("[4, 8, 8]") && message.contains("[N, C, H, W]"),
            "{message}"
        );
    }

    #[test]
    fn a_block_alone_is_a_picture_without_caption() {
        let picture = Block::new("bank", grey(9, 0.0)).picture().unwrap();
        assert_eq!(picture.tag, "samples/bank");
        assert_eq!(picture.height as usize, 2 * (SIDE + GAP) + GAP);
        let decoded = image::load_from_memory(&picture.png).unwrap();
        assert_eq!(
            (decoded.width(), decoded.height()),
            (picture.width, picture.height)
        );
    }
}
