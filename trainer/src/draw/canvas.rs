//! Pixels on which plots and captions are drawn.

use std::convert::Infallible;

use anyhow::{Context, Result};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{Rgb, RgbImage};
use plotters::prelude::DrawingBackend;
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingErrorKind,
};

use super::lettering;

/// A picture that is being drawn, white at first.
#[derive(Debug)]
pub struct Canvas {
    picture: RgbImage,
}

/// What plotters divides sizes of fonts by, where it writes SVG, to come to ems.
pub const FONT_SIZES_PER_EM: f64 = 1.24;
/// How far letters reach above the baseline and below it, in ems.
const ASCENT: f32 = 0.76;
const DESCENT: f32 = 0.24;

impl Canvas {
    /// So many pixels wide and high.
    pub fn new(width: u32, height: u32) -> Canvas {
        Canvas {
            picture: RgbImage::from_pixel(width, height, Rgb([255; 3])),
        }
    }

    /// Puts a picture with its upper left corner at a place.
    pub fn paste(&mut self, picture: &RgbImage, (x, y): (u32, u32)) {
        image::imageops::replace(&mut self.picture, picture, i64::from(x), i64::from(y));
    }

    /// Writes black text; the place is the left end of the baseline.
    pub fn write(&mut self, text: &str, em: f32, (x, y): (u32, u32)) {
        const BLACK: BackendColor = BackendColor {
            alpha: 1.0,
            rgb: (0, 0, 0),
        };
        lettering::draw(text, em, |dx, dy, coverage| {
            self.blend(
                (x as i32 + dx, y as i32 + dy),
                BLACK.mix(f64::from(coverage)),
            );
        });
    }

    /// As PNG bytes.
    ///
    /// # Errors
    /// The picture has no pixels.
    pub fn png(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let encoder = PngEncoder::new_with_quality(
            &mut bytes,
            CompressionType::Default,
            FilterType::Adaptive,
        );
        self.picture
            .write_with_encoder(encoder)
            .context("cannot encode a picture")?;
        Ok(bytes)
    }

    /// Pixels from left to right, and from top to bottom.
    pub fn size(&self) -> (u32, u32) {
        self.picture.dimensions()
    }

    fn blend(&mut self, (x, y): BackendCoord, BackendColor { alpha, rgb }: BackendColor) {
        let place = u32::try_from(x).ok().zip(u32::try_from(y).ok());
        let Some(pixel) = place.and_then(|(x, y)| self.picture.get_pixel_mut_checked(x, y)) else {
            return;
        };
        for (old, new) in pixel.0.iter_mut().zip([rgb.0, rgb.1, rgb.2]) {
            *old = (f64::from(*old) * (1.0 - alpha) + f64::from(new) * alpha).round() as u8;
        }
    }

    /// Draws a straight line with round ends: a pixel is covered by as much as its middle is within the line.
    fn stroke(&mut self, from: BackendCoord, to: BackendCoord, width: u32, colour: BackendColor) {
        let reach = f64::from(width) / 2.0;
        let margin = reach.ceil() as i32;
        for y in from.1.min(to.1) - margin..=from.1.max(to.1) + margin {
            for x in from.0.min(to.0) - margin..=from.0.max(to.0) + margin {
                let coverage = (reach + 0.5 - distance((x, y), from, to)).clamp(0.0, 1.0);
                if coverage > 0.0 {
                    self.blend((x, y), colour.mix(coverage));
                }
            }
        }
    }
}

/// From a point to a straight line between two points.
fn distance(point: BackendCoord, from: BackendCoord, to: BackendCoord) -> f64 {
    let vector = |a: BackendCoord, b: BackendCoord| (f64::from(b.0 - a.0), f64::from(b.1 - a.1));
    let ((px, py), (lx, ly)) = (vector(from, point), vector(from, to));
    let squared = lx * lx + ly * ly;
    let along = match squared > 0.0 {
        true => ((px * lx + py * ly) / squared).clamp(0.0, 1.0),
        false => 0.0,
    };
    (px - along * lx).hypot(py - along * ly)
}

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

impl DrawingBackend for Canvas {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.size()
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, point: BackendCoord, colour: BackendColor) -> Drawn {
        self.blend(point, colour);
        Ok(())
    }

    fn draw_line<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        style: &S,
    ) -> Drawn {
        self.stroke(from, to, style.stroke_width(), style.color());
        Ok(())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn {
        let points: Vec<BackendCoord> = path.into_iter().collect();
        for pair in points.windows(2) {
            self.stroke(pair[0], pair[1], style.stroke_width(), style.color());
        }
        Ok(())
    }

    /// Upright text only: nothing here is written in another direction.
    fn draw_text<S: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &S,
        (x, y): BackendCoord,
    ) -> Drawn {
        let em = (style.size() / FONT_SIZES_PER_EM) as f32;
        let left = match style.anchor().h_pos {
            HPos::Left => 0.0,
            HPos::Center => -lettering::width(text, em) / 2.0,
            HPos::Right => -lettering::width(text, em),
        };
        let baseline = match style.anchor().v_pos {
            VPos::Top => ASCENT * em,
            VPos::Center => (ASCENT - DESCENT) / 2.0 * em,
            VPos::Bottom => -DESCENT * em,
        };
        let (x, y) = (x + left.round() as i32, y + baseline.round() as i32);
        let colour = style.color();
        lettering::draw(text, em, |dx, dy, coverage| {
            self.blend((x + dx, y + dy), colour.mix(f64::from(coverage)));
        });
        Ok(())
    }

    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        text: &str,
        style: &S,
    ) -> Result<(u32, u32), DrawingErrorKind<Infallible>> {
        let em = (style.size() / FONT_SIZES_PER_EM) as f32;
        Ok((lettering::width(text, em).ceil() as u32, em.ceil() as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_covers_the_pixels_near_it() {
        let mut canvas = Canvas::new(12, 9);
        let red = BackendColor {
            alpha: 1.0,
            rgb: (255, 0, 0),
        };
        canvas.stroke((2, 4), (9, 4), 3, red);
        // Half a pixel is covered beyond the half width of 1.5, so that the middles 1 away are red and those 2 away are not.
        for (x, y, wanted) in [
            (5, 4, [255, 0, 0]),
            (5, 3, [255, 0, 0]),
            (5, 5, [255, 0, 0]),
            (5, 2, [255; 3]),
            (5, 6, [255; 3]),
            (0, 4, [255; 3]),
        ] {
            assert_eq!(canvas.picture.get_pixel(x, y).0, wanted, "{x} {y}");
        }
    }

    #[test]
    fn distances_are_to_the_nearest_point_of_a_line() {
        for (point, wanted) in [((5, 3), 3.0), ((-3, 4), 5.0), ((13, 4), 5.0), ((0, 0), 0.0)] {
            assert_eq!(distance(point, (0, 0), (10, 0)), wanted, "{point:?}");
        }
        assert_eq!(distance((3, 4), (0, 0), (0, 0)), 5.0);
    }

    #[test]
    fn what_is_beyond_the_edge_is_left_out() {
        let mut canvas = Canvas::new(4, 4);
        canvas.write("beyond the edge", 12.0, (3, 0));
        let colour = BackendColor {
            alpha: 0.5,
            rgb: (0, 0, 0),
        };
        canvas.stroke((-5, -5), (9, 9), 1, colour);
        assert_eq!(canvas.picture.get_pixel(1, 1).0, [128; 3]);
    }
}
