//! The energy path of chains and their saturation over the step, as a picture.

use anyhow::Result;

use super::chains::Observed;
use super::path::EnergyPath;
use crate::draw::panel::Panel;
use crate::draw::plot::svg;

/// Mean and quantiles of the energy, and saturation, over the logarithm of the step, as SVG text.
pub fn plot(path: &EnergyPath) -> Result<String> {
    let over_steps = |value: &dyn Fn(&Observed) -> f64| -> Vec<(f64, f64)> {
        let steps = path.steps();
        steps.map(|(step, at)| (step as f64, value(at))).collect()
    };
    let quantile = |share| over_steps(&move |at| quantile(&at.energies, share));
    let energy = Panel::new("energy T·U(x)", "step")
        .line("mean", over_steps(&|at| at.energy().0))
        .line("95 %", quantile(0.95))
        .line("5 %", quantile(0.05))
        .by_decades();
    let saturation = Panel::new("saturation: values at or beyond ±1, %", "step")
        .line("saturation", over_steps(&|at| 100.0 * at.saturation))
        .by_decades();
    svg(&[energy, saturation], 1)
}

/// The value below which a share of all lies, between the two nearest.
fn quantile(values: &[f32], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    let place = share * (sorted.len().saturating_sub(1)) as f64;
    let at = |place: f64| sorted.get(place as usize).copied().map_or(0.0, f64::from);
    let (low, high) = (at(place.floor()), at(place.ceil()));
    low + (high - low) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_the_nearest_values() {
        let values = [4.0, 0.0, 1.0, 2.0];
        for (share, wanted) in [(0.0, 0.0), (1.0, 4.0), (0.5, 1.5), (0.25, 0.75)] {
            assert_eq!(quantile(&values, share), wanted, "{share}");
        }
        assert_eq!(quantile(&[3.0], 0.95), 3.0);
    }

    #[test]
    fn a_plot_names_its_axes_and_curves() {
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
        for piece in ["saturation", "energy T·U(x)", "95 %", "mean", "<polyline"] {
            assert!(text.contains(piece), "{piece}");
        }
        assert!(plot(&EnergyPath::default()).is_ok());
    }
}
