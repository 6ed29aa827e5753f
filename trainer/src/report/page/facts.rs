//! Tables of a page.

use maud::{Markup, html};

use super::super::run::{Run, names};
use super::words;
use crate::run::record::metrics::MetricsLine;
use crate::run::record::quantity;

/// The number of checkpoints of a run that are shown, and of sessions: the newest.
const N_ROWS: usize = 12;

/// All runs of a page, a row each.
pub fn overview(runs: &[Run]) -> Markup {
    html! {
        div.wide {
            table {
                thead {
                    tr { th { "run" } th { "what" } th.number { "updates" } th.number { "time" } th { "at last" } }
                }
                tbody {
                    @for run in runs {
                        tr {
                            td { a href=(format!("#{}", words::anchor(&run.name))) { (run.name) } }
                            td { (words::kind(run)) }
                            td.number { (run.update()) " of " (run.n_updates()) }
                            td.number { (words::duration(run.seconds())) }
                            td { (at_last(run)) }
                        }
                    }
                }
            }
        }
    }
}

/// The first values of a run at its last log points.
fn at_last(run: &Run) -> String {
    let values = main_values(run).into_iter().take(2);
    let words =
        values.map(|(name, value)| format!("{} {}", name.replace('_', " "), words::number(value)));
    words.collect::<Vec<_>>().join(", ")
}

/// What a run measured that has a title, at its last log points.
fn main_values(run: &Run) -> Vec<(&'static str, f64)> {
    quantity::known()
        .filter_map(|name| Some((name, run.at_last(name)?)))
        .collect()
}

/// The most important numbers of a run.
pub fn cards(run: &Run) -> Markup {
    let mut cards = vec![(
        "updates".to_string(),
        format!("{} of {}", run.update(), run.n_updates()),
    )];
    cards.push(("time".to_string(), words::duration(run.seconds())));
    if let Some(speed) = run.speed() {
        cards.push((speed.unit.to_string(), format!("{:.0}", speed.mean)));
    }
    cards.extend(
        main_values(run)
            .into_iter()
            .map(|(name, value)| (name.replace('_', " "), words::number(value))),
    );
    html! {
        dl.cards {
            @for (name, value) in &cards { div { dt { (name) } dd { (value) } } }
        }
        p.note { "Speed is that of the whole run; measured values are means over the last tenth of its log points." }
    }
}

/// What went wrong, if anything did.
pub fn incidents(run: &Run) -> Markup {
    html! {
        @if !run.events.is_empty() {
            h3 { "Returns to earlier checkpoints" }
            (lines(&run.events))
        }
    }
}

/// Lines of a file of JSON lines, a row each.
pub fn lines(lines: &[MetricsLine]) -> Markup {
    let names = names(lines);
    html! {
        div.wide {
            table {
                thead { tr { @for name in &names { th { (name.replace('_', " ")) } } } }
                tbody {
                    @for line in lines {
                        tr { @for name in &names { td { (line.get(*name).map(value).unwrap_or_default()) } } }
                    }
                }
            }
        }
    }
}

fn value(of: &serde_json::Value) -> String {
    match of {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => String::new(),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(whole) => whole.to_string(),
            None => words::number(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::Object(values) => {
            let pairs = values
                .iter()
                .map(|(name, inner)| (name.replace('_', " "), value(inner)));
            let pairs = pairs.map(|(name, value)| format!("{name} {value}"));
            pairs.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// Fréchet distances, each with the settings that it depends on.
pub fn distances(run: &Run) -> Markup {
    let or = |number: Option<u64>, none: &str| {
        number.map_or(none.to_string(), |number| number.to_string())
    };
    html! {
        div.wide {
            table {
                thead {
                    tr {
                        th { "samples" } th.number { "steps" } th.number { "distance" } th { "of" } th.number { "against" } th.number { "resize" }
                        th { "features" }
                    }
                }
                tbody {
                    @for score in &run.distances {
                        tr {
                            td { (score.samples) }
                            td.number { (or(score.step, "")) }
                            td.number { (words::number(score.value)) }
                            td { (score.label) }
                            td.number { (or(score.n_reference.map(|n| n as u64), "unknown")) }
                            td.number { (or(score.resize.map(|size| size as u64), "off")) }
                            td { (score.network) " " (score.network_sha256.get(..8).unwrap_or_default()) " " (score.output) ", " (score.n_features) }
                        }
                    }
                }
            }
        }
    }
}

/// The newest checkpoints.
pub fn checkpoints(run: &Run) -> Markup {
    html! {
        @if run.checkpoints.is_empty() { p { "None yet." } } @else {
            div.wide {
                table {
                    thead { tr { th.number { "update" } th { "written" } th.number { "size" } th { "what it holds" } } }
                    tbody {
                        @for checkpoint in run.checkpoints.iter().rev().take(N_ROWS) {
                            tr {
                                td.number { (checkpoint.update) }
                                td.whole { (words::date(checkpoint.written)) }
                                td.number { (words::bytes(checkpoint.bytes)) }
                                td { (checkpoint.groups.join(", ").replace('_', " ")) }
                            }
                        }
                    }
                }
            }
        }
        (best(run))
    }
}

/// Which checkpoint is the best.
fn best(run: &Run) -> Markup {
    html! {
        @if let Some(update) = run.best {
            p.note { "The best one, of update " (update) ", is in the folder " code { "best" } "." }
        }
    }
}

/// The newest processes that learned.
pub fn sessions(run: &Run) -> Markup {
    html! {
        @if run.sessions.is_empty() { p { "Not recorded." } } @else {
            div.wide {
                table {
                    thead {
                        tr {
                            th { "began" } th.number { "after update" } th { "device" } th.number { "threads" }
                            th { "processor" } th { "system" } th { "version" }
                        }
                    }
                    tbody {
                        @for session in run.sessions.iter().rev().take(N_ROWS) {
                            tr {
                                td.whole { (words::date(session.began)) }
                                td.number { (session.update) }
                                td { (session.device) }
                                td.number { (session.threads) " of " (session.cores) " cores" }
                                td.whole { (session.processor) }
                                td { (session.system) }
                                td { (session.version) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Every value, a table for each section; and the file as it is.
pub fn configuration(run: &Run) -> Markup {
    let (sections, values): (Vec<_>, Vec<_>) =
        run.config.iter().partition(|(_, value)| value.is_table());
    html! {
        div.settings {
            (settings("run", values.into_iter()))
            @for (name, section) in sections {
                @if let Some(table) = section.as_table() { (settings(name, table.iter())) }
            }
        }
        details {
            summary { "config.toml" }
            pre { (run.config_text) }
        }
    }
}

fn settings<'a>(name: &str, values: impl Iterator<Item = (&'a String, &'a toml::Value)>) -> Markup {
    html! {
        table {
            caption { (name) }
            tbody {
                @for (key, value) in values { tr { th { (key) } td { (setting(value)) } } }
            }
        }
    }
}

fn setting(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Float(number) => format!("{number:?}"),
        toml::Value::Array(items) => format!(
            "[{}]",
            items.iter().map(setting).collect::<Vec<_>>().join(", ")
        ),
        toml::Value::Table(table) => {
            let pairs = table
                .iter()
                .map(|(key, value)| format!("{key} {}", setting(value)));
            pairs.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_lines_read_as_words() {
        for (json, wanted) in [
            (serde_json::json!(250), "250"),
            (serde_json::json!(-0.5), "−0.5000"),
            (serde_json::json!(null), ""),
            (serde_json::json!("the loss is NaN"), "the loss is NaN"),
            (
                serde_json::json!({"ess": 40.0, "r_hat": 1.25}),
                "ess 40.00, r hat 1.250",
            ),
        ] {
            assert_eq!(value(&json), wanted);
        }
    }

    #[test]
    fn settings_read_as_in_the_file() {
        let table: toml::Table = "a = [[0, 1e-3], [800, 3e-4]]\nb = \"off\"\nc = { beta1 = 0.9, n = 2 }\nd = 1e-8\ne = true".parse().unwrap();
        for (key, wanted) in [
            ("a", "[[0, 0.001], [800, 0.0003]]"),
            ("b", "off"),
            ("c", "beta1 0.9, n 2"),
            ("d", "1e-8"),
            ("e", "true"),
        ] {
            assert_eq!(setting(&table[key]), wanted, "{key}");
        }
    }
}
