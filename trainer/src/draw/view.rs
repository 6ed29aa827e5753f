//! Which part of the plane a panel shows.

use std::ops::Range;

use super::panel::{Beginning, Panel};

/// The range of the vertical axis, and the range of all values if some of them are cut off.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    pub(super) range: Range<f64>,
    pub(super) cut: Option<Range<f64>>,
}

/// Curves of at least this many points can be shown without their beginning.
const MANY: usize = 50;
/// A wild beginning reaches this many times as far as the rest.
const WILD: f64 = 3.0;

/// All values that are shown, with room around them.
pub(super) fn view(panel: &Panel) -> View {
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

/// The lowest and the highest y, 0 to 1 if there are no points.
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
pub(super) fn width(panel: &Panel) -> Range<f64> {
    let range = extent_of_x(panel);
    match panel.n_bars() {
        0 if range.end > range.start => range,
        _ => range.start - 0.6..range.end + 0.6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(points: impl IntoIterator<Item = (f64, f64)>) -> Panel {
        Panel::new("energy", "step").line("energy", points.into_iter().collect())
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
        let text = super::super::plot::svg(&[wild], 1).unwrap();
        assert!(text.contains("reaches from 0.0 to 80.0"), "{text}");
    }
}
