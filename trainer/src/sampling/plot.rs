//! The energy path of chains and their saturation over the step, as a picture.

use std::ops::Range;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::chains::Observed;
use super::path::EnergyPath;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<LogCoord<f64>, RangedCoordf64>>;

/// A band of quantiles of the energy over chains, from dark to light.
const BANDS: [(f64, f64, f64); 2] = [(0.05, 0.95, 0.15), (0.25, 0.75, 0.3)];

/// Mean and quantiles of the energy, and saturation, over the logarithm of the step, as SVG text.
///
/// # Errors
/// The plot cannot be drawn.
pub fn plot(path: &EnergyPath) -> Result<String> {
    let points: Vec<(f64, &Observed)> = path
        .steps()
        .filter(|&(step, _)| step > 0)
        .map(|(step, observed)| (step as f64, observed))
        .collect();
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (900, 640)).into_drawing_area();
        area.fill(&WHITE).map_err(drawing)?;
        let (above, below) = area.split_vertically(360);
        draw_energy(&above, &points)?;
        draw_saturation(&below, &points)?;
        area.present().map_err(drawing)?;
    }
    Ok(text)
}

fn draw_energy(area: &Area<'_>, points: &[(f64, &Observed)]) -> Result<()> {
    let sorted: Vec<(f64, Vec<f32>)> = points
        .iter()
        .map(|(step, observed)| {
            let mut energies = observed.energies.clone();
            energies.sort_by(f32::total_cmp);
            (*step, energies)
        })
        .collect();
    let quantiles = |share: f64| {
        let sorted = sorted.iter();
        sorted.map(move |(step, energies)| (*step, quantile(energies, share)))
    };
    let means = || points.iter().map(|(step, one)| (*step, one.energy().0));
    let [lowest, highest] = [BANDS[0].0, BANDS[0].1];
    let lowest = quantiles(lowest).chain(means()).map(|point| point.1);
    let highest = quantiles(highest).chain(means()).map(|point| point.1);
    let range = (lowest.reduce(f64::min), highest.reduce(f64::max));
    let (low, high) = (range.0.unwrap_or(0.0), range.1.unwrap_or(1.0));
    let room = ((high - low) * 0.05).max(1e-6);
    let mut chart = axes(
        area,
        points,
        low - room..high + room,
        "energy T·U(x): mean, 25–75 %, 5–95 %",
    )?;
    for (low, high, opacity) in BANDS {
        let back: Vec<(f64, f64)> = quantiles(high).collect();
        let outline = quantiles(low).chain(back.into_iter().rev());
        let band = Polygon::new(outline.collect::<Vec<_>>(), BLUE.mix(opacity).filled());
        chart.draw_series(std::iter::once(band)).map_err(drawing)?;
    }
    chart
        .draw_series(LineSeries::new(means(), &BLUE))
        .map_err(drawing)?;
    Ok(())
}

fn draw_saturation(area: &Area<'_>, points: &[(f64, &Observed)]) -> Result<()> {
    let shares = || {
        points
            .iter()
            .map(|(step, one)| (*step, 100.0 * one.saturation))
    };
    let most = shares().map(|point| point.1).fold(1.0, f64::max);
    let mut chart = axes(
        area,
        points,
        0.0..most * 1.05,
        "saturation: values at or beyond ±1, %",
    )?;
    chart
        .draw_series(LineSeries::new(shares(), &BLUE))
        .map_err(drawing)?;
    Ok(())
}

/// Both axes with their labels; that of the steps is logarithmic.
fn axes<'a>(
    area: &Area<'a>,
    points: &[(f64, &Observed)],
    values: Range<f64>,
    label: &str,
) -> Result<Chart<'a>> {
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_right(28)
        .x_label_area_size(40)
        .y_label_area_size(80)
        .build_cartesian_2d(steps(points).log_scale(), values)
        .map_err(drawing)?;
    chart
        .configure_mesh()
        .x_desc("step")
        .y_max_light_lines(1)
        .y_desc(label)
        .x_label_formatter(&|step| format!("{step:.0}"))
        .label_style(("sans-serif", 14))
        .draw()
        .map_err(drawing)?;
    Ok(chart)
}

/// The axis of the steps.
fn steps(points: &[(f64, &Observed)]) -> Range<f64> {
    let last = points.last().map_or(1.0, |point| point.0);
    1.0..last.max(2.0)
}

/// The value below which a share of sorted values lies, between the two nearest.
fn quantile(sorted: &[f32], share: f64) -> f64 {
    let place = share * (sorted.len().saturating_sub(1)) as f64;
    let at = |place: f64| sorted.get(place as usize).copied().map_or(0.0, f64::from);
    let (low, high) = (at(place.floor()), at(place.ceil()));
    low + (high - low) * place.fract()
}

fn drawing(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw the energy path: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_the_nearest_values() {
        let sorted = [0.0, 1.0, 2.0, 4.0];
        for (share, wanted) in [(0.0, 0.0), (1.0, 4.0), (0.5, 1.5), (0.25, 0.75)] {
            assert_eq!(quantile(&sorted, share), wanted, "{share}");
        }
        assert_eq!(quantile(&[3.0], 0.95), 3.0);
    }

    #[test]
    fn a_plot_names_its_axes_and_shows_a_band() {
        let mut path = EnergyPath::default();
        for step in [0, 1, 2, 10, 100] {
            let observed = Observed {
                energies: vec![-1.0, 0.5, step as f32],
                gradient_strength: 1.0,
                saturation: 0.1,
            };
            path.add(step, observed);
        }
        let text = plot(&path).unwrap();
        for piece in ["saturation", "energy T·U(x)", "<polygon", "<polyline"] {
            assert!(text.contains(piece), "{piece}");
        }
        assert!(plot(&EnergyPath::default()).is_ok());
    }
}
