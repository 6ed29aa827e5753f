//! One page about runs, in a single file.

mod audit;
mod facts;
mod words;

use std::fs;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::distances;
use super::run::Run;
use crate::draw::panel::Panel;
use crate::draw::plot;
use crate::evaluate::frechet::Score;
use crate::run::folder::ATTACK;
use crate::run::record::WORK;
use crate::run::record::metrics::curve;
use crate::run::record::{diagnostics, quantity};

/// The largest number of sample sheets of a run that are shown.
const N_SHEETS: usize = 8;

/// The page about runs, as HTML. A life cycle has several.
///
/// # Errors
/// A picture cannot be read or drawn.
pub fn page(title: &str, runs: &[Run]) -> Result<String> {
    let bodies = runs.iter().map(body).collect::<Result<Vec<Markup>>>()?;
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(include_str!("page.css"))) }
            }
            body {
                header {
                    h1 { (title) }
                    p.subtitle { (subtitle(runs)) }
                }
                @if let [body] = bodies.as_slice() { (body) } @else {
                    (facts::overview(runs))
                    @for (run, body) in runs.iter().zip(&bodies) {
                        section id=(words::anchor(&run.name)) {
                            h2 { (run.name) }
                            p.subtitle { (words::kind(run)) ", " (words::state(run)) }
                            (body)
                        }
                    }
                }
                footer {
                    "Written by " code { "trainer report" } " (" (env!("CARGO_PKG_VERSION")) "), "
                    (words::date(words::now())) "."
                }
            }
        }
    };
    Ok(document.into_string())
}

fn subtitle(runs: &[Run]) -> String {
    match runs {
        [run] => format!("{}, {}", words::kind(run), words::state(run)),
        _ => {
            let done = runs.iter().filter(|run| run.is_complete()).count();
            format!("{} runs, {done} of them complete", runs.len())
        }
    }
}

/// All about one run.
fn body(run: &Run) -> Result<Markup> {
    let diagnostics = diagnostics::panels(&run.lines, &run.recent);
    let others = other_panels(run);
    Ok(html! {
        (facts::cards(run))
        (facts::incidents(run))
        h3 { "How to go on" }
        pre { (words::commands(run)) }
        @if !diagnostics.is_empty() {
            h3 { "Diagnostics" }
            (plots(&diagnostics)?)
            (explanation(run))
        }
        @if !run.sheets.is_empty() {
            h3 { "Samples" }
            (sheets(run)?)
        }
        @if !others.is_empty() {
            h3 { "Further curves" }
            (plots(&others)?)
        }
        @if let Some(sampled) = &run.sampled {
            h3 { "Long chains" }
            figure.chains role="img" aria-label="energy and saturation of long chains" { (PreEscaped(&sampled.plot)) }
            (facts::lines(&sampled.rows))
        }
        @if !run.distances.is_empty() {
            h3 { "Fréchet distance" }
            (distances_over_steps(run)?)
            (facts::distances(run))
        }
        @if let Some(attack) = &run.attack {
            h3 { "Attack" }
            (audit::table(attack))
            @if !attack.curves.is_empty() {
                (audit::legend(attack))
                (plots(&audit::curves(attack))?)
            }
            (audit::worst(attack, &run.path.join(ATTACK))?)
        }
        h3 { "Checkpoints" }
        (facts::checkpoints(run))
        h3 { "Machine" }
        (facts::sessions(run))
        h3 { "Configuration" }
        (facts::configuration(run))
    })
}

/// What to look for in the four diagnostics.
fn explanation(run: &Run) -> Markup {
    html! {
        @if run.measured().contains(&"energy_difference") {
            p.note {
                "Learning is stable if the energy difference oscillates around 0 without a trend and its auto-correlation turns negative "
                "within a few lags; a gradient strength that keeps growing or vanishes does not last."
            }
        }
    }
}

/// Everything measured that is not among the diagnostics, and the speed.
fn other_panels(run: &Run) -> Vec<Panel> {
    let is_shown = |name: &str| {
        ["update", "seconds"].contains(&name)
            || WORK.iter().any(|(work, _)| *work == name)
            || diagnostics::shows(name, &run.lines)
    };
    let names = run.measured().into_iter().filter(|name| !is_shown(name));
    let mut panels: Vec<Panel> = names
        .map(|name| quantity::panel(name, curve(&run.lines, name)))
        .collect();
    panels.extend(run.speed().map(|speed| {
        Panel::new(&format!("speed: {}", speed.unit), "update").line("", speed.points)
    }));
    panels
}

fn plots(panels: &[Panel]) -> Result<Markup> {
    let pictures = panels
        .iter()
        .map(|panel| Ok((panel.title(), plot::svg(std::slice::from_ref(panel), 1)?)))
        .collect::<Result<Vec<_>>>()?;
    Ok(html! {
        div.plots {
            @for (title, svg) in &pictures {
                figure role="img" aria-label=(title) { (PreEscaped(svg)) }
            }
        }
    })
}

/// The distances over steps, if they are of chains of several lengths.
fn distances_over_steps(run: &Run) -> Result<Markup> {
    let moved = |score: &Score| score.step.is_some_and(|step| step > 0);
    let mut pairs = run.distances.windows(2);
    let several = pairs.any(|two| two[0].samples == two[1].samples && two.iter().all(moved));
    match distances::panel(&run.distances).filter(|_| several) {
        Some(panel) => plots(&[panel]),
        None => Ok(html! {}),
    }
}

/// The newest sheet, and earlier ones from the first on.
fn sheets(run: &Run) -> Result<Markup> {
    let n = run.sheets.len();
    let shown = (0..n.min(N_SHEETS)).map(|place| place * (n - 1) / (n.min(N_SHEETS) - 1).max(1));
    let sheets = shown
        .map(|place| {
            let (update, path) = &run.sheets[place];
            let png = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok((
                *update,
                format!("data:image/png;base64,{}", STANDARD.encode(png)),
            ))
        })
        .collect::<Result<Vec<_>>>()?;
    let (newest, earlier) = match sheets.split_last() {
        Some((newest, earlier)) => (Some(newest), earlier),
        None => (None, sheets.as_slice()),
    };
    let figure = |(update, source): &(u64, String)| {
        html! {
            figure {
                figcaption { "after update " (update) }
                div.wide { img src=(source) alt=(format!("sample sheet after update {update}")); }
            }
        }
    };
    Ok(html! {
        @if let Some(newest) = newest { (figure(newest)) }
        @if !earlier.is_empty() {
            details {
                summary { "Earlier sheets: after update " (words::list(earlier.iter().map(|(update, _)| update))) }
                @for sheet in earlier { (figure(sheet)) }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use tch::{Device, Kind, Tensor};

    use super::super::run::{runs, tests::write_run};
    use super::*;
    use crate::config::{Dynamics, Norm, Setting};
    use crate::evaluate::attack;
    use crate::evaluate::interval::Accuracy;
    use crate::run::folder::{ATTACK_RESULTS, DISTANCES};

    /// Tags that have no end.
    const VOID: [&str; 4] = ["!DOCTYPE", "meta", "img", "br"];

    /// The first tag that is not closed where it should be.
    fn unbalanced(html: &str) -> Option<String> {
        let mut open: Vec<String> = Vec::new();
        for part in html.split('<').skip(1) {
            let Some((tag, _)) = part.split_once('>') else {
                return Some(part.to_string());
            };
            let mut words = tag.split([' ', '\n', '/']);
            let name = words.find(|name| !name.is_empty()).unwrap().to_string();
            if tag.starts_with('/') {
                if open.pop().as_ref() != Some(&name) {
                    return Some(tag.to_string());
                }
            } else if !tag.ends_with('/') && !VOID.contains(&name.as_str()) {
                open.push(name);
            }
        }
        open.pop()
    }

    #[test]
    fn unbalanced_tags_are_found() {
        for (html, wanted) in [
            ("<p><b>x</b></p>", None),
            ("<p><b>x</p>", Some("/p")),
            ("<p><img src=x><rect/></p><div>", Some("div")),
            ("<p></p", Some("/p")),
        ] {
            assert_eq!(unbalanced(html).as_deref(), wanted, "{html}");
        }
    }

    /// What `trainer attack` and `trainer fid --json` write.
    fn write_results(run: &Path) {
        let accuracies = [20, 0, 19, 12].map(|n_right| Accuracy::new(n_right, 20));
        let [clean, attacked, defended_clean, defended_attacked] = accuracies;
        let right = |n_right: usize| (0..20).map(|image| image < n_right).collect::<Vec<_>>();
        let on_clean = attack::Verdict {
            single: right(18),
            votes: vec![(32, right(19))],
            worst: right(11),
        };
        let all: Vec<usize> = (0..20).collect();
        let results = attack::Results {
            parameters: attack::Parameters {
                protocol: attack::Protocol::Quick,
                ball: attack::Ball {
                    norm: Norm::Linf,
                    epsilon: "0.125".parse().unwrap(),
                },
                n_images: 20,
                n_in_all: 20,
                pgd_steps: 20,
                pgd_step_size: "0.025".parse().unwrap(),
                blind_factor: 1,
                replicas: 8,
                verify_replicas: 32,
                votes: vec![32],
                batch: 400,
                memory_bytes: 0,
                attack_seed: 1,
                verify_seed: 1001,
            },
            purification: Some(Dynamics {
                steps: 60,
                step_size: 0.04,
                temperature: 0.002,
                clip: Setting::OFF,
            }),
            piecewise_linear: true,
            n_images: 20,
            lines: vec![attack::TableLine::new("BPDA+EOT", 20, &all, &on_clean)],
            strongest: Some(attack::Attack::Bpda),
            baselines: Vec::new(),
            curves: vec![attack::Curve {
                axis: attack::Axis::Copies,
                attack: attack::Attack::Bpda,
                points: [(4.0, 12), (8.0, 9)]
                    .map(|(at, n_right)| attack::Point {
                        at,
                        accuracy: Accuracy::new(n_right, 20),
                    })
                    .to_vec(),
                complete: true,
            }],
            report: attack::Accuracies {
                clean,
                attacked,
                defended_clean,
                defended_attacked,
            },
            complete: true,
            health: None,
            on_clean,
            attacks: Vec::new(),
            seconds: 1.0,
            weights_sha256: BTreeMap::new(),
        };
        fs::create_dir_all(run.join(ATTACK)).unwrap();
        let bytes = serde_json::to_vec(&results).unwrap();
        fs::write(run.join(ATTACK).join(ATTACK_RESULTS), bytes).unwrap();
        write_attacked(&run.join(ATTACK).join(attack::IMAGES));
        let scores = [10, 1000].map(|step| Score {
            label: "FID-128".to_string(),
            value: 0.25 * step as f64,
            samples: "long".to_string(),
            step: Some(step),
            n: 128,
            n_reference: None,
            resize: Some(299),
            network: "classifier".to_string(),
            network_sha256: "0123456789".to_string(),
            output: "head".to_string(),
            n_features: 10,
        });
        fs::write(run.join(DISTANCES), serde_json::to_vec(&scores).unwrap()).unwrap();
    }

    /// Of 20 images the last three were broken, each clearer than the one before. The first was wrong without an attack.
    fn write_attacked(path: &Path) {
        let images = |value: f64| Tensor::full([20, 1, 8, 8], value, (Kind::Float, Device::Cpu));
        let of = |value: fn(i64) -> i64| {
            let values: Vec<i64> = (0..20).map(value).collect();
            Tensor::from_slice(&values)
        };
        let tensors = [
            ("clean", images(-1.0)),
            (
                "attacked",
                Tensor::cat(
                    &[images(-1.0).narrow(0, 0, 1), images(-0.75).narrow(0, 1, 19)],
                    0,
                ),
            ),
            ("purified", images(-1.0)),
            ("labels", of(|image| image % 10)),
            ("answers", of(|image| (image + 1) % 10)),
            ("margins", of(|image| image).to_kind(Kind::Float)),
            (
                "broken",
                of(|image| i64::from(image > 16 || image == 0)).to_kind(Kind::Uint8),
            ),
        ];
        Tensor::write_safetensors(&tensors, path).unwrap();
    }

    #[test]
    fn results_of_later_commands_are_shown() {
        let folder = tempfile::tempdir().unwrap();
        write_run(folder.path());
        let before = page("run", &runs(folder.path()).unwrap()).unwrap();
        write_results(folder.path());
        let after = page("run", &runs(folder.path()).unwrap()).unwrap();
        assert_eq!(unbalanced(&after), None);
        for wanted in [
            "<b>BPDA+EOT</b>",
            "ℓ∞ 0.125 of [0, 1] (0.25 of [-1, 1])",
            "60 steps of 0.04",
            "piecewise linear",
            "55.0 %",
            "75.1 % to 99.9 %",
            "FID-128",
            "250",
            "unknown",
            "classifier 01234567 head, 10",
            "steps of the chains",
            "purifications per gradient",
            "at least",
            "clearest wrong answers first",
        ] {
            assert!(after.contains(wanted), "{wanted}");
            assert!(!before.contains(wanted), "{wanted}");
        }
        // Four pictures of each image that was broken, and of no other.
        assert_eq!(after.matches("data:image/png;base64,").count(), 3 * 4);
        let row = |number: i64, label: i64, answer: i64| {
            let cells =
                [number, label, answer].map(|cell| format!("<td class=\"number\">{cell}</td>"));
            after
                .find(&cells.join(" "))
                .or_else(|| after.find(&cells.concat()))
        };
        let rows = [row(19, 9, 0), row(18, 8, 9), row(17, 7, 8)];
        assert!(rows[0].is_some() && rows.is_sorted(), "{rows:?}");
        // What a redirection leaves behind a command that failed.
        fs::write(folder.path().join(DISTANCES), "").unwrap();
        let without = page("run", &runs(folder.path()).unwrap()).unwrap();
        assert!(!without.contains("FID-128") && without.contains("BPDA+EOT"));
    }

    #[test]
    fn a_page_is_whole_and_loads_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["shortrun", "mid <run> & more"] {
            let run = folder.path().join(name);
            write_run(&run);
            fs::create_dir(run.join("samples")).unwrap();
            for update in 1..=20 {
                fs::write(run.join(format!("samples/{update:08}.png")), b"png").unwrap();
            }
        }
        let page = page("a \"title\"", &runs(folder.path()).unwrap()).unwrap();
        assert_eq!(unbalanced(&page), None);
        for outside in ["src=\"http", "href=\"http", "url(", "<script", "@import"] {
            assert!(!page.contains(outside), "{outside}");
        }
        for wanted in [
            "a &quot;title&quot;",
            "mid &lt;run&gt; &amp; more",
            "2 runs, 0 of them complete",
            "href=\"#shortrun\"",
            "trainer resume",
            "energy difference",
            "speed: images·steps/s",
            "after update 20",
            "update 1, 3, 6, 9, 11, 14 and 17",
        ] {
            assert!(page.contains(wanted), "{wanted}");
        }
        assert_eq!(page.matches("data:image/png;base64,").count(), 2 * N_SHEETS);
    }
}
