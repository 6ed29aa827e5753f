//! Preset, file and `--set` laid over each other, then read as one configuration.

use std::path::{Path, PathBuf};
use std::{fs, io};

use toml::{Table, Value};

use super::{Configuration, Task, preset};

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither a preset nor a file.
    #[error("{name:?} is neither a file nor a preset: the presets are {presets}")]
    UnknownPreset {
        /// As typed.
        name: String,
        /// Those that exist.
        presets: String,
    },
    /// The file cannot be read.
    #[error("cannot read the configuration {}", file.display())]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The text is not TOML.
    #[error("{place} is not valid TOML: {message}")]
    Syntax {
        /// File and line.
        place: String,
        /// What the parser says.
        message: String,
    },
    /// A key that no configuration has.
    #[error("{place}: unknown key `{key}`{section}; {suggestion}")]
    UnknownKey {
        /// File and line, or the option.
        place: String,
        /// The key.
        key: String,
        /// Where it stands, with a leading blank.
        section: String,
        /// The nearest key that exists, or all of them.
        suggestion: String,
    },
    /// A key is missing, or its value is of another type.
    #[error("{place}: {message}")]
    Content {
        /// File, and line if there is one.
        place: String,
        /// Which key, what was expected and what came.
        message: String,
    },
    /// A `--set` that is not `section.key=value`.
    #[error("--set {text}: expected section.key=value, for example --set langevin.steps=50")]
    Set {
        /// As typed.
        text: String,
    },
    /// A run is named that nothing is to be taken from.
    #[error(
        "{option} {run}: {place} has no section [{section}], so nothing is taken from another run; \
         leave {option} out, or use a preset that has one, such as {example}"
    )]
    NothingToTake {
        /// As typed.
        option: &'static str,
        /// As typed.
        run: String,
        /// The preset or the file.
        place: String,
        /// What is missing there.
        section: &'static str,
        /// A preset that has it.
        example: &'static str,
    },
    /// A run is named for a generator that is learned.
    #[error(
        "{option} {run}: {place} learns its generator itself; leave {option} out, or use a preset with a fixed one, such as {example}"
    )]
    LearnsItsOwn {
        /// As typed.
        option: &'static str,
        /// As typed.
        run: String,
        /// The preset or the file.
        place: String,
        /// A preset with a fixed one.
        example: &'static str,
    },
    /// The configuration describes something else.
    #[error(
        "this configuration describes {got}, but `{command}` expects {expected}: use another command or preset"
    )]
    Task {
        /// What the command takes.
        expected: Task,
        /// What stands in the configuration.
        got: Task,
        /// The command that was called.
        command: &'static str,
    },
    /// The network makes no sense.
    #[error("[{key}] describes no network")]
    Network {
        /// The section.
        key: String,
        /// What is wrong with it.
        source: Box<ebm_export::Error>,
    },
    /// A value is out of its range.
    #[error("{key} = {value}: expected {expected}")]
    Range {
        /// The key with its section.
        key: String,
        /// The value.
        value: String,
        /// What is possible.
        expected: &'static str,
    },
}

/// What the user typed: later layers override earlier ones key by key.
#[derive(Debug, Default)]
pub struct Layers {
    texts: Vec<(String, String)>,
    table: Table,
}

impl Layers {
    /// Adds a preset by name, or a file by path; a file wins over a preset of the same name.
    ///
    /// # Errors
    /// There is no such preset or file, or it is not TOML.
    pub fn preset_or_file(self, name: &str) -> Result<Layers, Error> {
        let path = Path::new(name);
        if path.is_file() {
            let text = fs::read_to_string(path).map_err(|source| Error::Unreadable {
                file: path.into(),
                source,
            })?;
            self.text(name, &text)
        } else {
            self.preset(name)
        }
    }

    /// Adds a preset.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn preset(self, name: &str) -> Result<Layers, Error> {
        let preset = preset(name)?;
        self.text(&format!("preset {name}"), preset.text)
    }

    /// Adds a text that came from `place`.
    ///
    /// # Errors
    /// It is not TOML.
    pub fn text(mut self, place: &str, text: &str) -> Result<Layers, Error> {
        let table: Table = text
            .parse()
            .map_err(|error: toml::de::Error| Error::Syntax {
                place: error
                    .span()
                    .map_or(place.to_string(), |span| at_line(place, text, span.start)),
                message: one_line(error.message()),
            })?;
        self.texts.push((place.to_string(), text.to_string()));
        merge(&mut self.table, table);
        Ok(self)
    }

    /// Adds several of [`Layers::set`], one over the other.
    ///
    /// # Errors
    /// As [`Layers::set`].
    pub fn set_all(self, texts: &[String]) -> Result<Layers, Error> {
        texts.iter().try_fold(self, |layers, text| layers.set(text))
    }

    /// Adds one `section.key=value`; a value that is not TOML is a string.
    ///
    /// # Errors
    /// It has no such form.
    pub fn set(mut self, text: &str) -> Result<Layers, Error> {
        let form = || Error::Set {
            text: text.to_string(),
        };
        let (path, value) = text.split_once('=').ok_or_else(form)?;
        insert(&mut self.table, path, parse_value(value.trim())).ok_or_else(form)?;
        self.texts.push((format!("--set {text}"), String::new()));
        Ok(self)
    }

    /// Names the runs that a generator and a prior are taken from, if they are given.
    ///
    /// # Errors
    /// The layers so far have no section for it, or a path is not UTF-8.
    pub fn borrowing(
        self,
        generator: Option<&Path>,
        prior: Option<&Path>,
    ) -> Result<Layers, Error> {
        self.taking(
            generator,
            "--generator",
            "generator",
            "mnist-midrun-cooperative",
        )?
        .taking(prior, "--prior", "prior", "mnist-longrun")
    }

    fn taking(
        mut self,
        run: Option<&Path>,
        option: &'static str,
        section: &'static str,
        example: &'static str,
    ) -> Result<Layers, Error> {
        let Some(run) = run else { return Ok(self) };
        if !self.table.contains_key(section) {
            return Err(Error::NothingToTake {
                option,
                run: run.display().to_string(),
                place: self.last_place(),
                section,
                example,
            });
        }
        let mode = self.table[section].get("mode").and_then(Value::as_str);
        if mode == Some("learned") {
            return Err(Error::LearnsItsOwn {
                option,
                run: run.display().to_string(),
                place: self.last_place(),
                example,
            });
        }
        let key = format!("{section}.checkpoint");
        let form = || Error::Set {
            text: format!("{key}={}", run.display()),
        };
        let path = run.to_str().ok_or_else(form)?.to_string();
        insert(&mut self.table, &key, Value::String(path)).ok_or_else(form)?;
        Ok(self)
    }

    /// Reads all layers as one configuration and checks its values.
    ///
    /// # Errors
    /// An unknown or missing key, a value of another type or out of its range, another kind of configuration.
    pub fn resolve<C: Configuration>(&self) -> Result<C, Error> {
        self.check_kind(C::KIND, C::COMMAND)?;
        let config: C = self
            .table
            .clone()
            .try_into()
            .map_err(|error| self.explain(&error))?;
        config.check()?;
        Ok(config)
    }

    fn check_kind(&self, expected: Task, command: &'static str) -> Result<(), Error> {
        let kind = self
            .table
            .get("kind")
            .cloned()
            .and_then(|kind| kind.try_into::<Task>().ok());
        match kind {
            Some(got) if got != expected => Err(Error::Task {
                expected,
                got,
                command,
            }),
            _ => Ok(()),
        }
    }

    fn explain(&self, error: &toml::de::Error) -> Error {
        let message = error.message();
        let section = section_of(&error.to_string());
        let Some((key, known)) = unknown_key(message) else {
            let section = if section.is_empty() {
                section
            } else {
                format!(" (in [{section}])")
            };
            return Error::Content {
                place: self.last_place(),
                message: format!("{}{section}", one_line(message)),
            };
        };
        let place = self.place_of(&key).unwrap_or_else(|| self.last_place());
        let section = if section.is_empty() {
            section
        } else {
            format!(" in [{section}]")
        };
        Error::UnknownKey {
            place,
            suggestion: suggest(&key, &known),
            key,
            section,
        }
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
