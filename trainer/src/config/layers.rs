//! Preset, file and `--set` laid over each other, then read as one configuration.

use std::fs;
use std::path::Path;

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use toml::{Table, Value};

use super::objective::{Named, ObjectiveName};
use super::{Configuration, Fit, Task, preset};

/// What the user typed: later layers override earlier ones key by key.
#[derive(Debug, Default)]
pub struct Layers {
    texts: Vec<(String, String)>,
    table: Table,
}

impl Layers {
    /// Adds a preset by name, or a file by path; a file wins over a preset of the same name.
    pub fn preset_or_file(self, name: &str) -> Result<Layers> {
        let path = Path::new(name);
        if path.is_file() {
            let text = fs::read_to_string(path)
                .with_context(|| format!("cannot read the configuration {name}"))?;
            self.text(name, &text)
        } else {
            self.preset(name)
        }
    }

    /// Adds a preset.
    pub fn preset(self, name: &str) -> Result<Layers> {
        let preset = preset(name)?;
        self.text(&format!("preset {name}"), preset.text)
    }

    /// Adds a text that came from `place`.
    pub fn text(mut self, place: &str, text: &str) -> Result<Layers> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map(|span| at_line(place, text, span.start));
            let place = line.unwrap_or_else(|| place.to_string());
            anyhow!("{place} is not valid TOML: {}", one_line(error.message()))
        })?;
        self.texts.push((place.to_string(), text.to_string()));
        merge(&mut self.table, table);
        Ok(self)
    }

    /// Adds several of [`Layers::set`], one over the other.
    pub fn set_all(self, texts: &[String]) -> Result<Layers> {
        texts.iter().try_fold(self, |layers, text| layers.set(text))
    }

    /// Adds one `section.key=value`; a value that is not TOML is a string.
    pub fn set(mut self, text: &str) -> Result<Layers> {
        let (path, value) = text.split_once('=').with_context(|| form(text))?;
        insert(&mut self.table, path, parse_value(value.trim())).with_context(|| form(text))?;
        self.texts.push((format!("--set {text}"), String::new()));
        Ok(self)
    }

    /// Names the runs that a generator and a prior are taken from, if they are given.
    ///
    /// # Errors
    /// The layers so far have no section for it, or a path is not UTF-8.
    pub fn borrowing(self, generator: Option<&Path>, prior: Option<&Path>) -> Result<Layers> {
        self.taking(
            generator,
            "--generator",
            "generator",
            "mnist-midrun-cooperative",
        )?
        .taking(prior, "--prior", "prior", "mnist-longrun")
    }

    /// Names the run whose weights learning begins with, if one is given.
    ///
    /// # Errors
    /// The path is not UTF-8.
    pub fn starting_from(self, run: Option<&Path>) -> Result<Layers> {
        match run {
            Some(run) => self.with_checkpoint("from", run),
            None => Ok(self),
        }
    }

    fn taking(
        self,
        run: Option<&Path>,
        option: &'static str,
        section: &'static str,
        example: &'static str,
    ) -> Result<Layers> {
        let Some(run) = run else { return Ok(self) };
        let (shown, place) = (run.display(), self.last_place());
        ensure!(
            self.table.contains_key(section),
            "{option} {shown}: {place} has no section [{section}], so nothing is taken from another run; \
             leave {option} out, or use a preset that has one, such as {example}"
        );
        let mode = self.table[section].get("mode").and_then(Value::as_str);
        ensure!(
            mode != Some("learned"),
            "{option} {shown}: {place} learns its generator itself; leave {option} out, or use a preset with a fixed one, such as {example}"
        );
        self.with_checkpoint(section, run)
    }

    fn with_checkpoint(mut self, section: &str, run: &Path) -> Result<Layers> {
        let key = format!("{section}.checkpoint");
        let path = run.to_str().map(|path| Value::String(path.to_string()));
        path.and_then(|path| insert(&mut self.table, &key, path))
            .with_context(|| form(&format!("{key}={}", run.display())))?;
        Ok(self)
    }

    /// Reads all layers as one configuration and checks its values.
    ///
    /// # Errors
    /// An unknown or missing key, a value of another type or out of its range, another kind of configuration.
    pub fn resolve<C: Configuration>(&self) -> Result<C> {
        let (expected, command) = (C::KIND, C::COMMAND);
        if let Some(got) = self.task().filter(|got| *got != expected) {
            bail!(
                "this configuration describes {got}, but `{command}` expects {expected}: use another command or preset"
            );
        }
        let config: C = self
            .table
            .clone()
            .try_into()
            .map_err(|error| self.explain(&error))?;
        config.check()?;
        Ok(config)
    }

    /// As [`Layers::resolve`], a configuration of an energy network by what `objective.name` says that it learns by.
    ///
    /// # Errors
    /// As [`Layers::resolve`]; or there is no such objective.
    pub fn resolve_fit(&self) -> Result<Fit> {
        let named: Named = self
            .table
            .clone()
            .try_into()
            .map_err(|error| self.explain(&error))?;
        Ok(match named.objective.name {
            ObjectiveName::MaximumLikelihood => Fit::Likelihood(Box::new(self.resolve()?)),
            ObjectiveName::Matching => Fit::Matching(Box::new(self.resolve()?)),
        })
    }

    /// What the configuration describes, if it says so.
    pub fn task(&self) -> Option<Task> {
        self.table.get("kind")?.clone().try_into().ok()
    }

    fn explain(&self, error: &toml::de::Error) -> Error {
        let message = error.message();
        let section = section_of(&error.to_string());
        let within = |before: &str, after: &str| match section.as_str() {
            "" => String::new(),
            section => format!("{before}[{section}]{after}"),
        };
        let Some((key, known)) = unknown_key(message) else {
            let message = one_line(message);
            return anyhow!("{}: {message}{}", self.last_place(), within(" (in ", ")"));
        };
        let place = self.place_of(&key).unwrap_or_else(|| self.last_place());
        let suggestion = suggest(&key, &known);
        anyhow!(
            "{place}: unknown key `{key}`{}; {suggestion}",
            within(" in ", "")
        )
    }

    /// File and line of a key, or the `--set` that brought it.
    fn place_of(&self, key: &str) -> Option<String> {
        self.texts.iter().rev().find_map(|(place, text)| {
            if text.is_empty() {
                let typed = place
                    .trim_start_matches("--set ")
                    .split('=')
                    .next()
                    .unwrap_or_default();
                return typed
                    .split('.')
                    .any(|part| part.trim() == key)
                    .then(|| place.clone());
            }
            line_of_key(text, key).map(|line| format!("{place}, line {line}"))
        })
    }

    fn last_place(&self) -> String {
        let files: Vec<&str> = self.texts.iter().map(|(place, _)| place.as_str()).collect();
        files.join(" + ")
    }
}

/// What a `--set` has to look like.
fn form(text: &str) -> String {
    format!("--set {text}: expected section.key=value, for example --set langevin.steps=50")
}

fn merge(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

/// Puts a value under a key with dots; sections that are missing are made. None where the key has no such form.
fn insert(table: &mut Table, key: &str, value: Value) -> Option<()> {
    let keys: Vec<&str> = key.trim().split('.').collect();
    if keys.iter().any(|key| key.is_empty()) {
        return None;
    }
    let (last, sections) = keys.split_last()?;
    let mut table = table;
    for section in sections {
        let entry = table
            .entry(*section)
            .or_insert_with(|| Value::Table(Table::new()));
        table = entry.as_table_mut()?;
    }
    table.insert((*last).to_string(), value);
    Some(())
}

fn parse_value(text: &str) -> Value {
    let parsed = format!("value = {text}")
        .parse::<Table>()
        .ok()
        .and_then(|mut table| table.remove("value"));
    parsed.unwrap_or_else(|| Value::String(text.to_string()))
}

/// The unknown key and the known ones, from a message of serde: "unknown field `a`, expected `b` or `c`".
fn unknown_key(message: &str) -> Option<(String, Vec<String>)> {
    let rest = message.split_once("unknown field `")?.1;
    let (key, rest) = rest.split_once('`')?;
    let known = rest
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_string)
        .collect();
    Some((key.to_string(), known))
}

/// The section, from the line "in `section`" of an error.
fn section_of(error: &str) -> String {
    let line = error
        .lines()
        .find_map(|line| line.trim().strip_prefix("in `")?.strip_suffix('`'));
    line.unwrap_or_default().to_string()
}

fn suggest(key: &str, known: &[String]) -> String {
    let nearest = known
        .iter()
        .min_by_key(|candidate| strsim::damerau_levenshtein(key, candidate));
    match nearest {
        Some(nearest) if strsim::jaro_winkler(key, nearest) > 0.7 => {
            format!("did you mean `{nearest}`?")
        }
        _ if known.is_empty() => "no key is possible there".to_string(),
        _ => format!("possible are {}", known.join(", ")),
    }
}

fn line_of_key(text: &str, key: &str) -> Option<usize> {
    let is_key = |line: &str| {
        let line = line.trim();
        let header = line
            .strip_prefix('[')
            .and_then(|rest| rest.split(']').next());
        let name = header
            .or_else(|| line.split_once('=').map(|(name, _)| name))
            .unwrap_or_default();
        name.split('.')
            .any(|part| part.trim().trim_matches('"') == key)
    };
    text.lines().position(is_key).map(|line| line + 1)
}

fn at_line(place: &str, text: &str, offset: usize) -> String {
    let line = text
        .get(..offset)
        .map_or(1, |before| before.matches('\n').count() + 1);
    format!("{place}, line {line}")
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EnergyConfig;

    proptest::proptest! {
        #[test]
        fn any_text_over_a_preset_is_read_or_refused(text in "[a-z_.=\\[\\]\"0-9 \\n-]{0,200}") {
            let layers = Layers::default().preset("digits-midrun").unwrap();
            let _ = layers.text("a", &text).and_then(|layers| layers.resolve::<EnergyConfig>());
        }

        #[test]
        fn any_set_is_read_or_refused(text: String) {
            let layers = Layers::default().preset("digits-midrun").unwrap();
            let _ = layers.set(&text).and_then(|layers| layers.resolve::<EnergyConfig>());
        }
    }

    #[test]
    fn the_nearest_key_is_named_and_a_far_one_is_not() {
        let known = ["steps".to_string(), "step_size".to_string()];
        assert_eq!(suggest("step_sise", &known), "did you mean `step_size`?");
        assert_eq!(suggest("qqq", &known), "possible are steps, step_size");
    }
}
