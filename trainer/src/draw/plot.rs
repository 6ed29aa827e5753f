//! Panels as SVG and as PNG.

use std::io::Cursor;
use std::ops::Range;

use anyhow::{Context, Result, anyhow};
use image::imageops::{replace, thumbnail};
use image::{ImageFormat, Rgb, RgbImage};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::font;
use super::panel::{Marks, Panel, Scale, Series};
use super::ticks::{WHOLE, decade, number, power_of_ten};
use super::view::{View, view, width};

/// Pixels of a panel. Pages show it at half that size.
const SIZE: (u32, u32) = (900, 540);
const COLOURS: [RGBColor; 4] = [
    RGBColor(31, 98, 168),
    RGBColor(210, 105, 30),
    RGBColor(46, 139, 87),
    RGBColor(128, 62, 160),
];
const INK: RGBColor = RGBColor(40, 44, 52);
const AXIS: RGBColor = RGBColor(120, 126, 136);
const GRID: RGBColor = RGBColor(228, 231, 236);
const MARGIN: i32 = 24;
const TITLE: i32 = 34;
const LABEL: i32 = 30;

/// SVG text of panels in rows of `columns`.
///
/// # Errors
/// They cannot be drawn.
pub fn svg(panels: &[Panel], columns: usize) -> Result<String> {
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, size(panels, columns)).into_drawing_area();
    draw(area, 1, panels, columns)?;
    Ok(text)
}

/// PNG bytes of panels in rows of `columns`.
///
/// # Errors
/// They cannot be drawn.
pub fn png(panels: &[Panel], columns: usize) -> Result<Vec<u8>> {
    // Lines end at whole pixels, so that they are drawn larger than they are shown.
    const SCALE: u32 = 2;
    let (width, height) = size(panels, columns);
    let mut picture = RgbImage::from_pixel(width, height, Rgb([255; 3]));
    let large = (SCALE * SIZE.0, SCALE * SIZE.1);
    // One after the other, so that little memory is taken beside a run.
    for (number, panel) in panels.iter().enumerate() {
        let mut drawn = RgbImage::new(large.0, large.1);
        let area = BitMapBackend::with_buffer(&mut drawn, large).into_drawing_area();
        draw(area, SCALE, std::slice::from_ref(panel), 1)?;
        let [column, row] = [number % columns, number / columns].map(|place| place as i64);
        let place = (column * i64::from(SIZE.0), row * i64::from(SIZE.1));
        replace(
            &mut picture,
            &thumbnail(&drawn, SIZE.0, SIZE.1),
            place.0,
            place.1,
        );
    }
    encode(&picture)
}

/// PNG bytes of a picture.
pub(super) fn encode(picture: &RgbImage) -> Result<Vec<u8>> {
    let mut png = Vec::new();
    let written = picture.write_to(&mut Cursor::new(&mut png), ImageFormat::Png);
    written.context("cannot encode a picture")?;
    Ok(png)
}

fn size(panels: &[Panel], columns: usize) -> (u32, u32) {
    let rows = panels.len().div_ceil(columns).max(1);
    (SIZE.0 * columns as u32, SIZE.1 * rows as u32)
}

type Area<B> = DrawingArea<B, Shift>;
type Chart<'a, B> = ChartContext<'a, B, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

fn draw<B: DrawingBackend>(
    area: Area<B>,
    scale: u32,
    panels: &[Panel],
    columns: usize,
) -> Result<()> {
    font::register()?;
    area.fill(&WHITE).map_err(drawing)?;
    let areas = area.split_evenly((panels.len().div_ceil(columns).max(1), columns));
    for (area, panel) in areas.iter().zip(panels) {
        Sketch { area, panel, scale }.draw()?;
    }
    area.present().map_err(drawing)
}

/// A panel that is being drawn.
struct Sketch<'a, B: DrawingBackend> {
    area: &'a Area<B>,
    panel: &'a Panel,
    /// Pixels of the picture for each that is meant.
    scale: u32,
}

impl<B: DrawingBackend> Sketch<'_, B> {
    /// A length in the pixels of the picture.
    fn px(&self, length: i32) -> i32 {
        self.scale as i32 * length
    }

    fn stroke(&self, colour: RGBColor, width: u32) -> ShapeStyle {
        colour.filled().stroke_width(self.scale * width)
    }

    fn draw(&self) -> Result<()> {
        let view = view(self.panel);
        let margin = self.px(MARGIN);
        self.write(&self.panel.title, TITLE, (margin, margin), HPos::Left)?;
        let mut chart = ChartBuilder::on(self.area)
            .margin(margin)
            .margin_top(3 * margin)
            .margin_right(2 * margin)
            .x_label_area_size(self.px(80))
            .y_label_area_size(self.px(104))
            .build_cartesian_2d(width(self.panel), view.range.clone())
            .map_err(drawing)?;
        self.draw_axes(&mut chart, &view)?;
        let mut n_before = 0;
        for (series, colour) in self.panel.series.iter().zip(COLOURS.iter().cycle()) {
            match series.marks {
                Marks::Line => self.draw_line(&mut chart, series, *colour, &view.range)?,
                Marks::Bars => {
                    self.draw_bars(&mut chart, series, *colour, n_before)?;
                    n_before += 1;
                }
            }
        }
        self.draw_names()
    }

    /// The grid, the numbers at its lines, and the line at 0.
    fn draw_axes(&self, chart: &mut Chart<'_, B>, View { range, cut }: &View) -> Result<()> {
        let panel = self.panel;
        let span = range.end - range.start;
        let tick = |y: &f64| match panel.scale {
            Scale::Linear => number(*y, span),
            Scale::Logarithmic => power_of_ten(*y),
        };
        let ends = width(panel);
        let x_span = match ends.end - ends.start {
            // Counts: their axes have whole numbers however short they are.
            2.0.. => WHOLE,
            short => short,
        };
        let x_tick = |x: &f64| match panel.x_scale {
            Scale::Linear => number(*x, x_span),
            Scale::Logarithmic => decade(*x),
        };
        let label = match cut {
            Some(Range { start, end }) => {
                let [start, end] = [start, end].map(tick);
                let label = &panel.x_label;
                format!("{label} (the beginning, cut off, reaches from {start} to {end})")
            }
            None => panel.x_label.clone(),
        };
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(self.stroke(GRID, 2))
            .axis_style(self.stroke(AXIS, 2))
            .set_all_tick_mark_size(self.px(5))
            .x_labels(6)
            .y_labels(6)
            .x_desc(label)
            .x_label_formatter(&x_tick)
            .y_label_formatter(&tick)
            .label_style(self.letters(LABEL))
            .draw()
            .map_err(drawing)?;
        if panel.scale == Scale::Linear && range.contains(&0.0) {
            let zero = vec![(ends.start, 0.0), (ends.end, 0.0)];
            let line = PathElement::new(zero, self.stroke(AXIS, 2));
            chart.draw_series([line]).map_err(drawing)?;
        }
        Ok(())
    }

    fn draw_line(
        &self,
        chart: &mut Chart<'_, B>,
        series: &Series,
        colour: RGBColor,
        range: &Range<f64>,
    ) -> Result<()> {
        let points = series.points.iter();
        let inside = points.map(|(x, y)| (*x, y.clamp(range.start, range.end)));
        let dot = if series.points.len() <= FEW { 6 } else { 0 };
        let line = LineSeries::new(inside, self.stroke(colour, 3));
        let line = line.point_size(self.scale * dot);
        chart.draw_series(line).map_err(drawing)?;
        Ok(())
    }

    /// Draws the bars of one series, with the bars of `n_before` series on their left.
    fn draw_bars(
        &self,
        chart: &mut Chart<'_, B>,
        series: &Series,
        colour: RGBColor,
        n_before: usize,
    ) -> Result<()> {
        let n = self.panel.n_bars() as f64;
        let bars = series.points.iter().map(|(x, y)| {
            let [left, right] =
                [n_before, n_before + 1].map(|edge| x + 0.8 * (edge as f64 / n - 0.5));
            Rectangle::new([(left, 0.0), (right, *y)], colour.filled())
        });
        chart.draw_series(bars).map_err(drawing)?;
        Ok(())
    }

    /// The names of several series, at the right end of the line of the title.
    fn draw_names(&self) -> Result<()> {
        let Panel { series, .. } = self.panel;
        if series.len() < 2 {
            return Ok(());
        }
        let (top, side) = (self.px(MARGIN), self.px(22));
        let mut right = self.area.dim_in_pixel().0 as i32 - 2 * top;
        let coloured: Vec<_> = series.iter().zip(COLOURS.iter().cycle()).collect();
        for (Series { name, .. }, colour) in coloured.into_iter().rev() {
            self.write(name, LABEL, (right, top), HPos::Right)?;
            let size = self.area.estimate_text_size(name, &self.letters(LABEL));
            right -= size.map_err(drawing)?.0 as i32 + self.px(10);
            let corners = [(right - side, top), (right, top + side)];
            let square = Rectangle::new(corners, colour.filled());
            self.area.draw(&square).map_err(drawing)?;
            right -= side + top;
        }
        Ok(())
    }

    fn letters(&self, size: i32) -> TextStyle<'static> {
        let style = ("sans-serif", self.px(size)).into_text_style(self.area);
        style.color(&INK)
    }

    /// Writes text whose upper edge is at a place.
    fn write(&self, text: &str, size: i32, place: (i32, i32), anchor: HPos) -> Result<()> {
        let style = self.letters(size).pos(Pos::new(anchor, VPos::Top));
        self.area.draw_text(text, &style, place).map_err(drawing)
    }
}

/// A curve of up to this many points has dots too.
const FEW: usize = 30;

pub(super) fn drawing(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw a plot: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(points: impl IntoIterator<Item = (f64, f64)>) -> Panel {
        Panel::new("energy", "step").line("energy", points.into_iter().collect())
    }

    #[test]
    fn both_forms_have_all_panels() {
        let panels = [
            line([(1.0, 0.5), (2.0, -0.5)]),
            Panel::new("auto-correlation", "lag")
                .bars("one", vec![(0.0, 1.0), (1.0, -0.5)])
                .bars("other", vec![(0.0, 1.0), (1.0, 0.5)]),
            line([(1.0, 1e-4), (9.0, 1e-6)]).logarithmic(),
            line([(1.0, f64::NAN)]),
            line([(0.0, 3.0), (1.0, 3.0), (1000.0, 4.0)]).by_decades(),
            line([(0.05, 80.0), (0.45, 0.0)]),
        ];
        let text = svg(&panels, 2).unwrap();
        for wanted in [
            "energy",
            "step",
            "auto-correlation",
            "lag",
            "one",
            "other",
            "1e-5",
            "1000",
            "0.30",
        ] {
            assert!(text.contains(wanted), "{wanted}");
        }
        let picture = image::load_from_memory(&png(&panels, 2).unwrap()).unwrap();
        assert_eq!(
            (picture.width(), picture.height()),
            (2 * SIZE.0, 3 * SIZE.1)
        );
        let bars = |colour: RGBColor| {
            let rgb = picture.to_rgb8();
            let of_colour = rgb
                .pixels()
                .filter(|pixel| pixel.0 == [colour.0, colour.1, colour.2]);
            of_colour.count()
        };
        assert!(bars(COLOURS[0]) > 10_000 && bars(COLOURS[1]) > 10_000);
        assert!(png(&[], 2).is_ok());
    }
}
