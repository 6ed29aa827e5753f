//! Commands that run one after the other, each announced and timed.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::surroundings::Surroundings;

/// One command.
#[derive(Debug, Clone)]
pub struct Step {
    name: &'static str,
    program: String,
    arguments: Vec<String>,
    variables: Vec<(&'static str, String)>,
}

impl Step {
    /// `line` split at blanks, as arguments of `program`.
    pub fn new(name: &'static str, program: impl Into<String>, line: &str) -> Self {
        let arguments = line.split_whitespace().map(String::from).collect();
        Self {
            name,
            program: program.into(),
            arguments,
            variables: Vec::new(),
        }
    }

    /// A cargo command.
    pub fn cargo(name: &'static str, line: &str) -> Self {
        Self::new(name, CARGO, line)
    }

    /// The same command with one more argument, blanks and all.
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// The same command with a variable set.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// What a user types in the root of the clone to run it alone.
    pub fn typed(&self, workspace: &Path) -> String {
        let program = Path::new(&self.program);
        let program = program
            .strip_prefix(workspace)
            .unwrap_or(program)
            .display()
            .to_string();
        let variables = self
            .variables
            .iter()
            .map(|(name, value)| format!("{name}={}", quoted(value)));
        let words = self.arguments.iter().map(|argument| quoted(argument));
        variables
            .chain([quoted(&program)])
            .chain(words)
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn run(&self, surroundings: &Surroundings) -> Result<()> {
        let typed = self.typed(surroundings.workspace());
        let mut command = match self.program.as_str() {
            CARGO => surroundings.command(surroundings.cargo()),
            program => surroundings.command(program),
        };
        command
            .args(&self.arguments)
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        let status = command
            .status()
            .with_context(|| format!("could not start `{typed}`"))?;
        if !status.success() {
            bail!(
                "{} failed ({status}); its own words are above, and this repeats it:\n  {typed}",
                self.name
            );
        }
        Ok(())
    }
}

/// Stands for the cargo that runs this task.
const CARGO: &str = "cargo";

/// How long a step took.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    name: &'static str,
    duration: Duration,
    outcome: &'static str,
}

/// Runs the steps in order up to the first that fails, and ends with a table of their times.
pub fn run_all(surroundings: &Surroundings, steps: &[Step]) -> Result<()> {
    let mut timings = Vec::new();
    let mut result = Ok(());
    for (index, step) in steps.iter().enumerate() {
        println!(
            "\n[{}/{}] {}: {}",
            index + 1,
            steps.len(),
            step.name,
            step.typed(surroundings.workspace())
        );
        let started = Instant::now();
        result = step.run(surroundings);
        let duration = started.elapsed();
        let outcome = if result.is_ok() { "ok" } else { "failed" };
        println!(
            "[{}/{}] {}: {outcome} after {:.1} s",
            index + 1,
            steps.len(),
            step.name,
            duration.as_secs_f64()
        );
        timings.push(Timing {
            name: step.name,
            duration,
            outcome,
        });
        if result.is_err() {
            break;
        }
    }
    println!("\n{}", table(&timings, steps.len()));
    result
}

fn table(timings: &[Timing], n_steps: usize) -> String {
    let width = timings
        .iter()
        .map(|timing| timing.name.chars().count())
        .max()
        .unwrap_or(0);
    let row = |name: &str, duration: Duration, outcome: &str| {
        format!(
            "{name:<width$}  {:>8.1} s  {outcome}\n",
            duration.as_secs_f64()
        )
    };
    let rows: String = timings
        .iter()
        .map(|timing| row(timing.name, timing.duration, timing.outcome))
        .collect();
    let total = timings.iter().map(|timing| timing.duration).sum();
    rows + &row(
        "total",
        total,
        &format!("{} of {n_steps} steps", timings.len()),
    )
}

/// `word` as a POSIX shell reads it back.
pub fn quoted(word: &str) -> String {
    let is_plain =
        |character: char| character.is_ascii_alphanumeric() || "-_=./,:+@%".contains(character);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings() -> Surroundings {
        Surroundings::new(std::env::temp_dir(), std::env::vars_os())
    }

    #[test]
    fn a_step_is_shown_as_it_would_be_typed() {
        let step =
            Step::cargo("documentation", "doc --no-deps").with("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(
            step.typed(Path::new("/clone")),
            "RUSTDOCFLAGS='-D warnings' cargo doc --no-deps"
        );
        let step = Step::new("learning", "/clone/target/release/trainer", "fit it's");
        assert_eq!(
            step.typed(Path::new("/clone")),
            r"target/release/trainer fit 'it'\''s'"
        );
    }

    #[test]
    fn the_first_failure_ends_the_run_and_says_how_to_repeat_it() {
        let folder = tempfile::tempdir().unwrap();
        let touched = folder.path().join("touched");
        let steps = [
            Step::new("passes", "true", ""),
            Step::new("fails", "false", "--really").with("A", "1"),
            Step::new("never runs", "touch", touched.to_str().unwrap()),
        ];
        let error = run_all(&surroundings(), &steps).unwrap_err().to_string();
        assert!(
            error.starts_with("fails failed") && error.ends_with("A=1 false --really"),
            "{error}"
        );
        assert!(!touched.exists());
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = run_all(
            &surroundings(),
            &[Step::new("demo", "/nowhere/trainer", "fit")],
        )
        .unwrap_err();
        assert!(
            format!("{error:#}").contains("could not start `/nowhere/trainer fit`"),
            "{error:#}"
        );
    }

    #[test]
    fn the_table_has_a_row_for_each_step_and_a_total() {
        let timing = |name, seconds| Timing {
            name,
            duration: Duration::from_secs(seconds),
            outcome: "ok",
        };
        let table = table(&[timing("formatting", 1), timing("tests", 20)], 3);
        let rows: Vec<&str> = table.lines().collect();
        assert_eq!(rows.len(), 3);
        assert!(
            rows[2].starts_with("total") && rows[2].contains("21.0 s  2 of 3 steps"),
            "{table}"
        );
    }
}
