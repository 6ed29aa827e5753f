//! Fréchet distances over the steps of chains, as a plot.

use crate::draw::panel::Panel;
use crate::evaluate::frechet::Score;

/// A curve for each sample. Samples without steps are left out. `None` if distances are of different numbers of samples, which cannot be compared.
pub fn panel(scores: &[Score]) -> Option<Panel> {
    let first = scores.first()?;
    if scores.iter().any(|score| score.label != first.label) {
        return None;
    }
    let x_label = format!(
        "steps of the chains; features of {} {:?}",
        first.network, first.output
    );
    let mut names: Vec<&str> = scores.iter().map(|score| score.samples.as_str()).collect();
    names.dedup();
    let panel = names
        .iter()
        .fold(Panel::new(&first.label, &x_label), |panel, name| {
            let of_name = scores.iter().filter(|score| score.samples == *name);
            let points = of_name.filter_map(|score| Some((score.step? as f64, score.value)));
            panel.line(name, points.collect())
        });
    Some(panel.logarithmic().by_decades())
}
