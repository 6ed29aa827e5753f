//! What a plot shows of one thing.

/// What is shown about one thing: curves or bars over an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    pub(super) title: String,
    pub(super) x_label: String,
    pub(super) x_scale: Scale,
    pub(super) scale: Scale,
    pub(super) beginning: Beginning,
    pub(super) series: Vec<Series>,
}

/// A curve, or a row of bars.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) marks: Marks,
    pub(super) points: Vec<(f64, f64)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Marks {
    Line,
    Bars,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scale {
    Linear,
    Logarithmic,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Beginning {
    Shown,
    CutWhereWild,
}

impl Panel {
    /// An empty panel. The title names the vertical axis, `x_label` the horizontal one.
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

    /// Adds a curve through points (x, y), sorted by x. Points that are not finite are left out. Names are drawn if there are several series.
    pub fn line(self, name: &str, points: Vec<(f64, f64)>) -> Panel {
        self.with(Marks::Line, name, points)
    }

    /// Adds bars from 0 to y, beside those of other series at the same x.
    pub fn bars(self, name: &str, points: Vec<(f64, f64)>) -> Panel {
        self.with(Marks::Bars, name, points)
    }

    /// Shows the logarithm of y. Points that are not positive are left out.
    pub fn logarithmic(mut self) -> Panel {
        self.scale = Scale::Logarithmic;
        self.take_logarithms(|(_, y)| y);
        self
    }

    /// Shows the logarithm of x. Points that are not positive are left out.
    pub fn by_decades(mut self) -> Panel {
        self.x_scale = Scale::Logarithmic;
        self.take_logarithms(|(x, _)| x);
        self
    }

    /// Replaces a coordinate of all points by its logarithm. Points without one are left out.
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

    /// If the first tenth of the curves reaches far beyond the rest, only the rest is shown, and the panel says so.
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

    pub(super) fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.series
            .iter()
            .flat_map(|series| series.points.iter().copied())
    }

    pub(super) fn n_bars(&self) -> usize {
        let are_bars = |series: &&Series| series.marks == Marks::Bars;
        self.series.iter().filter(are_bars).count()
    }
}

/// The largest number of points of a curve.
const N_POINTS: usize = 1600;

/// Keeps the lowest and the highest point of each stretch if there are too many.
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
