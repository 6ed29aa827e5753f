//! Panels of curves and bars, as SVG and as PNG.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::canvas::{Canvas, FONT_SIZES_PER_EM};
use super::lettering;

/// What is shown about one thing: curves or bars over an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    title: String,
    x_label: String,
    x_scale: Scale,
    scale: Scale,
    beginning: Beginning,
    series: Vec<Series>,
}

#[derive(Clone, Debug, PartialEq)]
struct Series {
    name: String,
    marks: Marks,
    points: Vec<(f64, f64)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Marks {
    Line,
    Bars,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Scale {
    Linear,
    Logarithmic,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Beginning {
    Shown,
    CutWhereWild,
}

impl Panel {
    /// A panel with nothing in it yet. The title says what the vertical axis shows, the label what the horizontal one does.
    pub fn new(title: &str, x_label: &str) -> Panel {
        Panel {
            title: title.to_string(),
            x_label: x_label.to_string(),
            x_scale: Scale::Linear,
            scale: Scale::Linear,
            beginning: Beginning::Shown,
            series: Vec::new(),
        }
    }

    /// Adds a curve through points (x, y), sorted by x; those that are not finite are left out. Several series have their names beside them.
    pub fn line(self, name: &str, points: Vec<(f64, f64)>) -> Panel {
        self.with(Marks::Line, name, points)
    }

    /// Adds bars from 0 to y, side by side with other ones at the same x; each x stands for itself and half of the way to its neighbours.
    pub fn bars(self, name: &str, points: Vec<(f64, f64)>) -> Panel {
        self.with(Marks::Bars, name, points)
    }

    /// Over the logarithm of y; what is not positive is left out.
    pub fn logarithmic(mut self) -> Panel {
        self.scale = Scale::Logarithmic;
        self.take_logarithms(|(_, y)| y);
        self
    }

    /// Over the logarithm of x; what is not positive is left out.
    pub fn by_decades(mut self) -> Panel {
        self.x_scale = Scale::Logarithmic;
        self.take_logarithms(|(x, _)| x);
        self
    }

    /// Of one coordinate of all points; those without a logarithm are left out.
    fn take_logarithms(&mut self, coordinate: fn(&mut (f64, f64)) -> &mut f64) {
        for series in &mut self.series {
            series.points.retain_mut(|point| {
                let value = coordinate(point);
                let is_positive = *value > 0.0;
                *value = value.log10();
                is_positive
            });
        }
    }

    /// Where the first tenth of the curves reaches far beyond the rest, the rest alone is in view, and the panel says so.
    pub fn cut_where_wild(self) -> Panel {
        Panel {
            beginning: Beginning::CutWhereWild,
            ..self
        }
    }

    fn with(mut self, marks: Marks, name: &str, mut points: Vec<(f64, f64)>) -> Panel {
        points.retain(|(x, y)| x.is_finite() && y.is_finite());
        self.series.push(Series {
            name: name.to_string(),
            marks,
            points: thinned(points),
        });
        self
    }

    /// The title.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The points of one of its series.
    #[cfg(test)]
    pub(crate) fn values(&self, series: usize) -> &[(f64, f64)] {
        &self.series[series].points
    }

    fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.series
            .iter()
            .flat_map(|series| series.points.iter().copied())
    }

    fn n_bars(&self) -> usize {
        let are_bars = |series: &&Series| series.marks == Marks::Bars;
        self.series.iter().filter(are_bars).count()
    }
}

/// Curves have so many points at most.
const N_POINTS: usize = 1600;

/// Of each stretch the lowest and the highest point, where there are too many.
fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    if points.len() <= N_POINTS {
        return points;
    }
    let stretch = (2 * points.len()).div_ceil(N_POINTS);
    let extremes = points.chunks(stretch).flat_map(|points| {
        let by_y = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let [low, high] = [points.iter().min_by(by_y), points.iter().max_by(by_y)];
        let mut ends: Vec<(f64, f64)> = low.into_iter().chain(high).copied().collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        ends.dedup();
        ends
    });
    extremes.collect()
}

/// The range of the vertical axis, and how far what is cut off at its edges reaches.
#[derive(Clone, Debug, PartialEq)]
struct View {
    range: Range<f64>,
    cut: Option<Range<f64>>,
}

/// Curves of so many points can be looked at apart from their beginning.
const MANY: usize = 50;
/// How many times as far as the rest a wild beginning reaches.
const WILD: f64 = 3.0;

/// All values that are in view, with room around them.
fn view(panel: &Panel) -> View {
    let all = extent(panel.points());
    let begins = extent_of_x(panel);
    let tenth = begins.start + (begins.end - begins.start) / 10.0;
    let later = extent(panel.points().filter(|(x, _)| *x >= tenth));
    let span = |range: &Range<f64>| range.end - range.start;
    let is_cut = panel.beginning == Beginning::CutWhereWild
        && panel.points().count() >= MANY
        && span(&all) > WILD * span(&later);
    let mut range = if is_cut { later } else { all.clone() };
    if panel.n_bars() > 0 {
        range = range.start.min(0.0)..range.end.max(0.0);
    }
    let room = match span(&range) > 0.0 {
        true => 0.06 * span(&range),
        false => 0.5 * range.end.abs().max(1e-3),
    };
    View {
        range: range.start - room..range.end + room,
        cut: is_cut.then_some(all),
    }
}

/// The lowest and the highest y, 0 to 1 where there is none.
fn extent(points: impl Iterator<Item = (f64, f64)>) -> Range<f64> {
    let widened = |range: Option<Range<f64>>, (_, y): (f64, f64)| match range {
        Some(range) => Some(range.start.min(y)..range.end.max(y)),
        None => Some(y..y),
    };
    points.fold(None, widened).unwrap_or(0.0..1.0)
}

fn extent_of_x(panel: &Panel) -> Range<f64> {
    extent(panel.points().map(|(x, _)| (0.0, x)))
}

/// The range of the horizontal axis.
fn width(panel: &Panel) -> Range<f64> {
    let range = extent_of_x(panel);
    match panel.n_bars() {
        0 if range.end > range.start => range,
        _ => range.start - 0.6..range.end + 0.6,
    }
}

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

/// Panels in rows of so many columns, as SVG text.
///
/// # Errors
/// They cannot be drawn.
pub fn svg(panels: &[Panel], columns: usize) -> Result<String> {
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, size(panels, columns)).into_drawing_area();
    draw(&area, panels, columns)?;
    drop(area);
    Ok(text)
}

/// Panels in rows of so many columns, as PNG bytes.
///
/// # Errors
/// They cannot be drawn.
pub fn png(panels: &[Panel], columns: usize) -> Result<Vec<u8>> {
    let (width, height) = size(panels, columns);
    let canvas = Rc::new(RefCell::new(Canvas::new(width, height)));
    draw(&DrawingArea::from(&canvas), panels, columns)?;
    canvas.borrow().png()
}

fn size(panels: &[Panel], columns: usize) -> (u32, u32) {
    let rows = panels.len().div_ceil(columns).max(1);
    (SIZE.0 * columns as u32, SIZE.1 * rows as u32)
}

fn draw<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    panels: &[Panel],
    columns: usize,
) -> Result<()> {
    area.fill(&WHITE).map_err(drawing)?;
    let places = area.split_evenly((panels.len().div_ceil(columns).max(1), columns));
    for (place, panel) in places.iter().zip(panels) {
        draw_panel(place, panel)?;
    }
    area.present().map_err(drawing)
}

fn draw_panel<B: DrawingBackend>(area: &DrawingArea<B, Shift>, panel: &Panel) -> Result<()> {
    let view = view(panel);
    write(area, &panel.title, TITLE, (MARGIN, MARGIN), HPos::Left)?;
    let mut chart = ChartBuilder::on(area)
        .margin(MARGIN)
        .margin_top(3 * MARGIN)
        .margin_right(2 * MARGIN)
        .x_label_area_size(80)
        .y_label_area_size(104)
        .build_cartesian_2d(width(panel), view.range.clone())
        .map_err(drawing)?;
    draw_axes(&mut chart, area, panel, &view)?;
    let mut n_before = 0;
    for (series, colour) in panel.series.iter().zip(COLOURS.iter().cycle()) {
        match series.marks {
            Marks::Line => draw_line(&mut chart, series, *colour, &view.range)?,
            Marks::Bars => {
                draw_bars(&mut chart, series, *colour, (n_before, panel.n_bars()))?;
                n_before += 1;
            }
        }
    }
    draw_names(area, panel)
}

type Chart<'a, B> = ChartContext<'a, B, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// The grid, the numbers at its lines, and the line at 0.
fn draw_axes<B: DrawingBackend>(
    chart: &mut Chart<'_, B>,
    area: &DrawingArea<B, Shift>,
    panel: &Panel,
    View { range, cut }: &View,
) -> Result<()> {
    let span = range.end - range.start;
    let tick = |y: &f64| match panel.scale {
        Scale::Linear => number(*y, span),
        Scale::Logarithmic => power_of_ten(*y),
    };
    let x_tick = |x: &f64| match panel.x_scale {
        Scale::Linear => number(*x, WHOLE),
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
        .bold_line_style(GRID.stroke_width(2))
        .axis_style(AXIS.stroke_width(2))
        .x_labels(6)
        .y_labels(6)
        .x_desc(label)
        .x_label_formatter(&x_tick)
        .y_label_formatter(&tick)
        .label_style(("sans-serif", LABEL).into_text_style(area).color(&INK))
        .draw()
        .map_err(drawing)?;
    if panel.scale == Scale::Linear && range.contains(&0.0) {
        let ends = width(panel);
        let zero = vec![(ends.start, 0.0), (ends.end, 0.0)];
        let line = PathElement::new(zero, AXIS.stroke_width(2));
        chart.draw_series([line]).map_err(drawing)?;
    }
    Ok(())
}

fn draw_line<B: DrawingBackend>(
    chart: &mut Chart<'_, B>,
    series: &Series,
    colour: RGBColor,
    range: &Range<f64>,
) -> Result<()> {
    let points = series.points.iter();
    let inside = points.map(|(x, y)| (*x, y.clamp(range.start, range.end)));
    let dot = if series.points.len() <= FEW { 6 } else { 0 };
    let line = LineSeries::new(inside, colour.filled().stroke_width(3)).point_size(dot);
    chart.draw_series(line).map_err(drawing)?;
    Ok(())
}

/// So few points of a curve are dots too.
const FEW: usize = 30;

/// Draws the bars of one series, of which so many of so many stand to the left.
fn draw_bars<B: DrawingBackend>(
    chart: &mut Chart<'_, B>,
    series: &Series,
    colour: RGBColor,
    (n_before, n): (usize, usize),
) -> Result<()> {
    let bars = series.points.iter().map(|(x, y)| {
        let [left, right] =
            [n_before, n_before + 1].map(|edge| x + 0.8 * (edge as f64 / n as f64 - 0.5));
        Rectangle::new([(left, 0.0), (right, *y)], colour.filled())
    });
    chart.draw_series(bars).map_err(drawing)?;
    Ok(())
}

/// The names of several series, at the right end of the line of the title.
fn draw_names<B: DrawingBackend>(area: &DrawingArea<B, Shift>, panel: &Panel) -> Result<()> {
    if panel.series.len() < 2 {
        return Ok(());
    }
    let mut right = area.dim_in_pixel().0 as i32 - 2 * MARGIN;
    let coloured: Vec<_> = panel.series.iter().zip(COLOURS.iter().cycle()).collect();
    for (Series { name, .. }, colour) in coloured.into_iter().rev() {
        write(area, name, LABEL, (right, MARGIN), HPos::Right)?;
        right -= lettering::width(name, LABEL as f32 / FONT_SIZES_PER_EM as f32) as i32 + 10;
        let square = Rectangle::new(
            [(right - 22, MARGIN), (right, MARGIN + 22)],
            colour.filled(),
        );
        area.draw(&square).map_err(drawing)?;
        right -= 22 + MARGIN;
    }
    Ok(())
}

/// Writes text whose upper edge is at a place.
fn write<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    text: &str,
    size: i32,
    place: (i32, i32),
    anchor: HPos,
) -> Result<()> {
    let style = ("sans-serif", size).into_text_style(area).color(&INK);
    let style = style.pos(Pos::new(anchor, VPos::Top));
    area.draw_text(text, &style, place).map_err(drawing)
}

/// Ticks of an axis that is so long have whole numbers.
const WHOLE: f64 = 10.0;

/// A number at a tick of an axis that is so long.
fn number(value: f64, span: f64) -> String {
    let decimals = (0.7 - span.log10()).ceil().clamp(0.0, 12.0) as usize;
    let text = match decimals {
        6.. if value != 0.0 => format!("{value:.1e}"),
        _ => format!("{value:.decimals$}"),
    };
    match text.strip_prefix('-') {
        Some(digits) if value.abs() < span / 1e6 => digits.to_string(),
        Some(digits) => format!("−{digits}"),
        None => text,
    }
}

/// Ten to the power of a number at a tick.
fn power_of_ten(exponent: f64) -> String {
    let value = 10f64.powf(exponent);
    match value {
        0.01..10.0 => number(value, value),
        10.0..1e4 => number(value, WHOLE),
        _ => format!("{value:.0e}"),
    }
}

/// Ten to the power of a whole number; ticks between decades have no number.
fn decade(exponent: f64) -> String {
    match (exponent - exponent.round()).abs() < 1e-6 {
        true => number(10f64.powf(exponent).round(), WHOLE),
        false => String::new(),
    }
}

fn drawing(error: impl std::fmt::Display) -> anyhow::Error {
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

    #[test]
    fn curves_of_many_points_keep_their_extremes() {
        let n = 100_000;
        let y = |i: i32| {
            if i == 4321 {
                9.0
            } else {
                f64::from(i % 7) / 7.0
            }
        };
        let points = thinned((0..n).map(|i| (f64::from(i), y(i))).collect());
        assert!(points.len() <= N_POINTS, "{}", points.len());
        assert!(points.contains(&(4321.0, 9.0)));
        assert!(points.is_sorted_by(|a, b| a.0 < b.0));
        let few = vec![(0.0, 1.0), (1.0, 5.0)];
        assert_eq!(thinned(few.clone()), few);
    }

    #[test]
    fn a_wild_beginning_is_cut_off_and_said_to_be() {
        let curve = |wild: f64| {
            let y = |x: i32| if x == 3 { wild } else { f64::from(x % 2) };
            line((0..100).map(|x| (f64::from(x), y(x))))
        };
        assert_eq!(view(&curve(80.0)).cut, None);
        assert_eq!(view(&curve(2.0).cut_where_wild()).cut, None);
        let wild = curve(80.0).cut_where_wild();
        let View { range, cut } = view(&wild);
        assert_eq!(cut, Some(0.0..80.0));
        assert!(range.start > -0.1 && range.end < 1.1, "{range:?}");
        let text = svg(&[wild], 1).unwrap();
        assert!(text.contains("reaches from 0.0 to 80.0"), "{text}");
    }

    #[test]
    fn powers_of_ten_have_as_many_digits_as_they_need() {
        for (exponent, wanted) in [
            (-5.0, "1e-5"),
            (-0.5, "0.32"),
            (0.5, "3.2"),
            (1.5, "32"),
            (3.0, "1000"),
        ] {
            assert_eq!(power_of_ten(exponent), wanted, "{exponent}");
        }
        for (exponent, wanted) in [(0.0, "1"), (5.0, "100000"), (0.5, "")] {
            assert_eq!(decade(exponent), wanted, "{exponent}");
        }
    }

    #[test]
    fn numbers_have_as_many_decimals_as_ticks_need() {
        for (value, span, wanted) in [
            (1500.0, WHOLE, "1500"),
            (-10.0, WHOLE, "−10"),
            (-20.0, 100.0, "−20"),
            (0.5, 1.0, "0.5"),
            (-0.0, 1.0, "0.0"),
            (-1e-17, 1.0, "0.0"),
            (0.015, 0.02, "0.015"),
            (3e-8, 1e-7, "3.0e-8"),
        ] {
            assert_eq!(number(value, span), wanted, "{value} over {span}");
        }
    }
}
