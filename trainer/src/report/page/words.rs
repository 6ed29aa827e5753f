//! What a page says in words.

use std::fmt::Display;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indicatif::HumanBytes;
use time::OffsetDateTime;

use super::super::run::Run;

/// What a run learns, and how.
pub fn kind(run: &Run) -> String {
    let text = |keys: &[&str]| Some(run.setting(keys)?.as_str()?.to_string());
    let network = text(&["network", "name"]).unwrap_or_default();
    let mut words = vec![match is_classifier(run) {
        true => format!("classifier {network}"),
        false => format!("energy network {network}"),
    }];
    words.extend(text(&["objective", "kind"]).map(|kind| format!("by matching: {kind}")));
    words.extend(text(&["chains", "start"]).map(|start| format!("chains {start}")));
    words.extend(text(&["generator", "mode"]).map(|mode| format!("generator {mode}")));
    let sections = [
        ("adversarial", "against an adversary"),
        ("noise", "with noise"),
        ("prior", "beside a prior"),
        ("burn_in", "with burn-in"),
    ];
    let has = |section: &&(&str, &str)| run.setting(&[section.0]).is_some();
    words.extend(
        sections
            .iter()
            .filter(has)
            .map(|(_, word)| word.to_string()),
    );
    words.join(", ")
}

fn is_classifier(run: &Run) -> bool {
    run.setting(&["kind"]).and_then(toml::Value::as_str) == Some("classifier")
}

/// How far a run is.
pub fn state(run: &Run) -> String {
    match (run.update(), run.is_complete()) {
        (update, true) => format!("complete after {update} updates"),
        (update, false) => format!("{update} of {} updates", run.n_updates()),
    }
}

/// What a user types next.
pub fn commands(run: &Run) -> String {
    let path = run.path.display().to_string();
    let path = match path.contains(char::is_whitespace) {
        true => format!("'{path}'"),
        false => path,
    };
    let resume = (!run.is_complete()).then(|| format!("trainer resume {path}"));
    let use_it = match is_classifier(run) {
        true => format!(
            "ebm-export onnx {path} -o model\n\
             trainer attack --energy RUN --classifier {path} --epsilon 0.125 -o RUN/attack"
        ),
        false => format!(
            "trainer sample {path} -n 64\n\
             ebm-export onnx {path} -o model\n\
             purify run PICTURES --model model -o purified"
        ),
    };
    let look = format!("tensorboard --logdir {path}");
    let lines = resume.into_iter().chain([use_it, look]);
    lines.collect::<Vec<_>>().join("\n")
}

/// Hours, minutes and seconds.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds} s"),
        (0, _) => format!("{minutes} min {} s", seconds % 60),
        _ => format!("{hours} h {minutes} min"),
    }
}

/// A date and time of day in UTC, from seconds since 1970.
pub fn date(seconds: u64) -> String {
    match OffsetDateTime::from_unix_timestamp(seconds as i64) {
        Ok(date) => format!(
            "{:04}-{:02}-{:02} {:02}:{:02} UTC",
            date.year(),
            u8::from(date.month()),
            date.day(),
            date.hour(),
            date.minute()
        ),
        Err(_) => "at an unknown time".to_string(),
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or(Duration::ZERO).as_secs()
}

/// A size of files.
pub fn bytes(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// A number with four digits that count.
pub fn number(value: f64) -> String {
    let magnitude = value.abs();
    let text = match magnitude {
        0.0 => "0".to_string(),
        1e4.. => format!("{value:.0}"),
        1e-3.. => {
            let decimals = (3 - magnitude.log10().floor() as i32).max(0) as usize;
            format!("{value:.decimals$}")
        }
        _ => format!("{value:.3e}"),
    };
    text.replace('-', "−")
}

/// "1, 2 and 3".
pub fn list<T: Display>(items: impl Iterator<Item = T>) -> String {
    let items: Vec<String> = items.map(|item| item.to_string()).collect();
    match items.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

/// The name of a place in the page.
pub fn anchor(name: &str) -> String {
    name.chars()
        .map(|letter| {
            if letter.is_alphanumeric() {
                letter
            } else {
                '-'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_dates_and_lists_read_well() {
        for (seconds, wanted) in [(7.4, "7 s"), (67.0, "1 min 7 s"), (7_320.0, "2 h 2 min")] {
            assert_eq!(duration(seconds), wanted);
        }
        for (value, wanted) in [
            (0.0, "0"),
            (-0.50061, "−0.5006"),
            (1.0, "1.000"),
            (12_345.6, "12346"),
            (0.000_03, "3.000e−5"),
        ] {
            assert_eq!(number(value), wanted);
        }
        for (seconds, wanted) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_825_600, "2000-02-29 12:00 UTC"),
        ] {
            assert_eq!(date(seconds), wanted);
        }
        for (n, wanted) in [(0, ""), (1, "1"), (2, "1 and 2"), (3, "1, 2 and 3")] {
            assert_eq!(list(1..=n), wanted);
        }
        assert_eq!(anchor("a run/1"), "a-run-1");
    }
}
