//! Pictures of a run: sample sheets and the diagnostics plot.

use anyhow::{Context, Result, anyhow};
use image::{ImageFormat, Rgb, RgbImage};
use plotters::prelude::*;
use tch::{Device, Kind, Tensor};

/// Columns of a block of a sheet.
const COLUMNS: usize = 8;
/// Images are magnified until they have this many pixels a side.
const SIDE: usize = 48;
const GAP: usize = 4;
const PAPER: Rgb<u8> = Rgb([255, 255, 255]);

/// Blocks of images side by side, each f32 `[n, C, H, W]` in `[-1, 1]`, as PNG bytes.
///
/// # Errors
/// They are no images.
pub fn sheet(blocks: &[Tensor]) -> Result<Vec<u8>> {
    let blocks: Vec<Vec<RgbImage>> = blocks.iter().map(tiles).collect::<Result<_>>()?;
    let tile = blocks.iter().flatten().next();
    let tile = tile.map_or((1, 1), RgbImage::dimensions);
    let (width, height) = (tile.0 as usize + GAP, tile.1 as usize + GAP);
    let most = blocks.iter().map(Vec::len).max().unwrap_or_default();
    let block_width = COLUMNS * width + 3 * GAP;
    let mut paper = RgbImage::from_pixel(
        (blocks.len() * block_width - 2 * GAP) as u32,
        (most.div_ceil(COLUMNS) * height + GAP) as u32,
        PAPER,
    );
    for (block, tiles) in blocks.iter().enumerate() {
        for (place, tile) in tiles.iter().enumerate() {
            let (x, y) = (
                GAP + block * block_width + place % COLUMNS * width,
                GAP + place / COLUMNS * height,
            );
            image::imageops::replace(&mut paper, tile, x as i64, y as i64);
        }
    }
    png(&paper)
}

fn png(picture: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, ImageFormat::Png)
        .context("cannot encode a picture")?;
    Ok(bytes.into_inner())
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

/// A curve of a diagnostics picture.
#[derive(Debug)]
pub struct Curve {
    /// What the vertical axis shows.
    pub label: &'static str,
    /// Pairs (update, value).
    pub points: Vec<(f64, f64)>,
}

/// Curves below each other over the update, as SVG text.
///
/// # Errors
/// The plot cannot be drawn.
pub fn diagnostics(curves: &[Curve]) -> Result<String> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (900, 320 * curves.len() as u32))
            .into_drawing_area();
        area.fill(&WHITE).map_err(drawing)?;
        for (part, curve) in area.split_evenly((curves.len(), 1)).iter().zip(curves) {
            draw(part, curve)?;
        }
        area.present().map_err(drawing)?;
    }
    Ok(text)
}

fn draw(area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>, curve: &Curve) -> Result<()> {
    let last = curve.points.last().map_or(1.0, |point| point.0).max(1.0);
    let values = || {
        curve
            .points
            .iter()
            .map(|point| point.1)
            .filter(|value| value.is_finite())
    };
    let (low, high) = (
        values().fold(0.0f64, f64::min),
        values().fold(0.0f64, f64::max),
    );
    let room = ((high - low) * 0.05).max(1e-6);
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(80)
        .build_cartesian_2d(0.0..last, low - room..high + room)
        .map_err(drawing)?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc("update")
        .y_desc(curve.label)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .label_style(("sans-serif", 14));
    mesh.draw().map_err(drawing)?;
    chart
        .draw_series(LineSeries::new(curve.points.iter().copied(), &BLUE))
        .map_err(drawing)?;
    Ok(())
}

fn drawing(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw the diagnostics: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_is_a_png_with_all_blocks() {
        let images = Tensor::ones([9, 1, 8, 8], (Kind::Float, Device::Cpu));
        let blocks = [images.shallow_clone(), images.narrow(0, 0, 3), images];
        let decoded = image::load_from_memory(&sheet(&blocks).unwrap()).unwrap();
        assert_eq!(decoded.height() as usize, 2 * (SIDE + GAP) + GAP);
        assert_eq!(
            decoded.width() as usize,
            3 * (COLUMNS * (SIDE + GAP)) + 7 * GAP
        );
    }

    #[test]
    fn diagnostics_name_their_axes() {
        let curve = Curve {
            label: "energy difference",
            points: vec![(1.0, 0.5), (2.0, -0.5)],
        };
        let text = diagnostics(&[curve]).unwrap();
        assert!(text.contains("energy difference") && text.contains("update"));
    }
}
