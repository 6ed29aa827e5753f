//! An audit on a page: its table, its curves, and the images that it broke worst.

use std::path::Path;

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{Markup, html};
use tch::Tensor;

use crate::config::Dynamics;
use crate::draw::panel::Panel;
use crate::draw::sheet::Block;
use crate::evaluate::attack::{Attack, Broken, Results, WORST_OF, worst_broken};
use crate::evaluate::interval::Accuracy;

/// The largest number of broken images that are shown.
const N_BROKEN: usize = 12;

/// A row for each attack, the strongest in bold.
pub fn table(attack: &Results) -> Markup {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let strongest = attack.strongest.map(Attack::title);
    html! {
        p.note {
            (attack.parameters)
            @if let Some(Dynamics { steps, step_size, temperature, .. }) = attack.purification {
                "; purified by " (steps) " steps of " (step_size) " at the temperature " (temperature)
            }
            "."
        }
        @if attack.piecewise_linear {
            p.note { (Results::PIECEWISE_LINEAR) }
        }
        @if let Some(health) = &attack.health {
            p.note { (health) }
        }
        div.wide {
            table {
                thead {
                    tr {
                        th { "" } th.number { "one purification" }
                        @for votes in &attack.parameters.votes { th.number { "vote of " (votes) } }
                        th.number { "worst of " (WORST_OF) } th.number { "images" } th { "95 % interval" } th.number { "at least (95 %)" }
                    }
                }
                tbody {
                    @for line in attack.all_lines() {
                        tr {
                            td { @if strongest == Some(line.title.as_str()) { b { (line.title) } } @else { (line.title) } }
                            td.number { (percent(line.single.accuracy)) }
                            @for votes in &attack.parameters.votes {
                                td.number { (line.vote(*votes).map_or("–".to_string(), |vote| percent(vote.accuracy))) }
                            }
                            td.number { (percent(line.worst.accuracy)) }
                            td.number { (line.last().n) }
                            td { (percent(line.last().interval[0])) " to " (percent(line.last().interval[1])) }
                            td.number { (percent(line.last().at_least)) }
                        }
                    }
                }
            }
        }
    }
}

/// Accuracies over what was changed, with their intervals; and how the loss grew under the strongest attack.
pub fn curves(attack: &Results) -> Vec<Panel> {
    let curves = attack.curves.iter().map(|curve| {
        let points = |of: fn(&Accuracy) -> f64| {
            let points = curve.points.iter();
            points
                .map(|point| (point.at, 100.0 * of(&point.accuracy)))
                .collect()
        };
        Panel::new("right, in %", curve.axis.title())
            .line("right", points(|accuracy| accuracy.accuracy))
            .line("at least", points(|accuracy| accuracy.interval[0]))
            .line("at most", points(|accuracy| accuracy.interval[1]))
    });
    let mut made = attack.attacks.iter();
    let strongest = made.find(|made| Some(made.row.attack) == attack.strongest);
    let loss = strongest.map(|made| {
        let losses = made.row.course.losses.iter().enumerate();
        let points = losses.map(|(question, loss)| (question as f64, *loss));
        Panel::new("mean loss of the images that stand", "steps of the attack")
            .line("loss", points.collect())
    });
    curves.chain(loss).collect()
}

/// What the curves are of.
pub fn legend(attack: &Results) -> Markup {
    html! {
        @if let Some(strongest) = attack.strongest {
            p.note {
                "Under " (strongest.title()) ", the strongest attack: accuracy of the largest vote with its two-sided 95 % interval, and the loss. "
                "An attack that is right reaches 0 % as ε grows, and gains nothing from more steps."
            }
        }
    }
}

/// The broken images of an audit whose results lie in a folder, those first whose wrong answer is the clearest.
///
/// # Errors
/// The images cannot be read or drawn.
pub fn worst(attack: &Results, folder: &Path) -> Result<Markup> {
    let broken = worst_broken(folder, N_BROKEN)?;
    let is_purified = attack.purification.is_some();
    let rows = broken.iter().map(|broken| row(broken, is_purified));
    let rows = rows.collect::<Result<Vec<_>>>()?;
    Ok(html! {
        @if !rows.is_empty() {
            p.note {
                "Broken images, the clearest wrong answers first. The difference is that of the attacked image to the original, grey where there is "
                "none, and scaled to its largest value."
            }
            div.wide {
                table.broken {
                    thead {
                        tr {
                            th.number { "image" } th.number { "class" } th.number { "answer" } th { "original" } th { "attacked" }
                            @if is_purified { th { "purified" } }
                            th { "difference" }
                        }
                    }
                    tbody { @for row in &rows { (row) } }
                }
            }
        }
    })
}

fn row(broken: &Broken, is_purified: bool) -> Result<Markup> {
    let difference = &broken.attacked - &broken.clean;
    let largest = difference.abs().max().clamp_min(1e-6);
    let purified = is_purified.then(|| broken.purified.shallow_clone());
    let images = [
        Some(broken.clean.shallow_clone()),
        Some(broken.attacked.shallow_clone()),
        purified,
        Some(difference / largest),
    ];
    let images = images.into_iter().flatten().map(picture);
    let images = images.collect::<Result<Vec<_>>>()?;
    Ok(html! {
        tr {
            td.number { (broken.number) } td.number { (broken.label) } td.number { (broken.answer) }
            @for image in &images { td { img src=(image) alt=""; } }
        }
    })
}

/// An image `[C, H, W]` as the source of a tag.
fn picture(image: Tensor) -> Result<String> {
    let picture = Block::new("", image.unsqueeze(0)).picture()?;
    Ok(format!(
        "data:image/png;base64,{}",
        STANDARD.encode(picture.png)
    ))
}
