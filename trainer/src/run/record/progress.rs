//! The live line for people.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{FormattedDuration, ProgressBar, ProgressStyle};

use crate::machine::console;

/// Live lines on a terminal; elsewhere plain lines, seconds apart.
#[derive(Debug)]
pub enum Progress {
    /// On a terminal.
    Bar(ProgressBar),
    /// In a file or pipe.
    Lines(Lines),
}

/// Plain lines.
#[derive(Debug)]
pub struct Lines {
    what: &'static str,
    total: u64,
    /// Where this process began, and when.
    first: u64,
    start: Instant,
    /// When the last line was written.
    last: Option<Instant>,
}

/// Time between plain lines.
const BETWEEN_LINES: Duration = Duration::from_secs(5);

impl Progress {
    /// Of `total` things, `position` of which are done.
    pub fn new(what: &'static str, position: u64, total: u64) -> Progress {
        if !std::io::stderr().is_terminal() {
            return Progress::Lines(Lines {
                what,
                total,
                first: position,
                start: Instant::now(),
                last: None,
            });
        }
        let bar = ProgressBar::new(total).with_position(position);
        let template = format!(
            "{{bar:24}} {what} {{pos}}/{{len}} · {{elapsed_precise}} · {{eta_precise}} left\n{{msg}}"
        );
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        bar.reset_eta();
        Progress::Bar(bar)
    }

    /// Shows how much is done, with a message.
    pub fn show(&mut self, done: u64, message: &str) {
        match self {
            Progress::Bar(bar) => {
                bar.set_message(message.to_string());
                bar.set_position(done);
            }
            Progress::Lines(lines) if lines.is_due(done) => {
                eprintln!("{}", lines.line(done, message));
                lines.last = Some(Instant::now());
            }
            Progress::Lines(_) => {}
        }
    }

    /// Prints a line of results on standard output, above the live lines if there are any.
    ///
    /// # Errors
    /// It cannot be written, and not because the reader has gone away.
    pub fn print(&self, line: &str) -> Result<()> {
        match self {
            Progress::Bar(bar) => bar.suspend(|| console::print(line)),
            Progress::Lines(_) => console::print(line),
        }
    }

    /// Leaves the terminal as it was.
    pub fn finish(&self) {
        if let Progress::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

impl Lines {
    fn is_due(&self, done: u64) -> bool {
        done >= self.total || self.last.is_none_or(|last| last.elapsed() >= BETWEEN_LINES)
    }

    fn line(&self, done: u64, message: &str) -> String {
        let Lines {
            what, total, start, ..
        } = self;
        let elapsed = start.elapsed();
        let left = left(
            elapsed,
            done - self.first.min(done),
            total.saturating_sub(done),
        );
        let [elapsed, left] = [elapsed, left].map(FormattedDuration);
        format!("{what} {done}/{total} · {elapsed} · {left} left · {message}")
    }
}

/// How long the rest takes, if `done` took the time elapsed.
fn left(elapsed: Duration, done: u64, left: u64) -> Duration {
    let seconds = elapsed.as_secs_f64() / done.max(1) as f64 * left as f64;
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_takes_as_long_as_what_was_done() {
        let seconds = Duration::from_secs;
        for (elapsed, done, todo, wanted) in [(10, 5, 20, 40), (10, 5, 0, 0), (10, 0, 3, 30)] {
            assert_eq!(left(seconds(elapsed), done, todo), seconds(wanted));
        }
    }

    #[test]
    fn plain_lines_say_what_is_done_and_what_is_left() {
        let lines = Lines {
            what: "update",
            total: 300,
            first: 100,
            start: Instant::now(),
            last: Some(Instant::now()),
        };
        assert_eq!(
            lines.line(300, "loss 0.5"),
            "update 300/300 · 00:00:00 · 00:00:00 left · loss 0.5"
        );
        assert!(!lines.is_due(299) && lines.is_due(300));
    }
}
