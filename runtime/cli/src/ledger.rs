//! A file of JSON lines that a command adds to while it works, so that an interrupted one goes on: the settings first, a summary when all is done.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ebm_runtime::Seed;
use serde_json::{Value, json};

/// The key of the seed in the settings. They hold null if none was given, and no such key if there is no noise.
pub const SEED: &str = "seed";
/// How every file begins.
const BEGINNING: &str = "{\"settings\":";

pub struct Ledger {
    path: PathBuf,
    file: File,
}

/// What a file holds.
pub enum Earlier {
    Nothing,
    Run {
        settings: Value,
        is_complete: bool,
    },
    /// Something else than settings at its beginning.
    Foreign,
}

impl Ledger {
    /// Opens the file, which is made if it is not there, and locks it. `in_use` is said if another process holds the lock.
    pub fn open(path: PathBuf, in_use: &str) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| unwritable(&path))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => bail!("{in_use}"),
            // A file system without locks is no reason to stop.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Self { path, file }),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file holds. A last line that is cut off is removed, unless the file is of another kind.
    pub fn earlier(&mut self) -> Result<Earlier> {
        if self.is_foreign()? {
            return Ok(Earlier::Foreign);
        }
        let (mut n_whole, mut settings, mut is_complete) = (0, None, false);
        self.each_line(|line| {
            n_whole += line.len() as u64;
            is_complete = line.starts_with("{\"summary\"");
            if settings.is_none() {
                let first: Value = serde_json::from_str(line).unwrap_or_default();
                settings = Some(first["settings"].clone());
            }
            Ok(())
        })?;
        self.file
            .set_len(n_whole)
            .with_context(|| unwritable(&self.path))?;
        Ok(match settings {
            None => Earlier::Nothing,
            Some(settings) => Earlier::Run {
                settings,
                is_complete,
            },
        })
    }

    /// Whether the file begins otherwise than [`Ledger::restart`] makes it begin.
    fn is_foreign(&mut self) -> Result<bool> {
        let mut start = Vec::new();
        self.file.rewind()?;
        (&self.file)
            .take(BEGINNING.len() as u64)
            .read_to_end(&mut start)
            .with_context(|| format!("`{}`: cannot be read", self.path.display()))?;
        Ok(!BEGINNING.as_bytes().starts_with(&start))
    }

    /// Forgets what the file holds, and begins with these settings.
    pub fn restart(&mut self, settings: &Value) -> Result<()> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.rewind())
            .with_context(|| unwritable(&self.path))?;
        self.append(&format!("{}\n", json!({ "settings": settings })))
    }

    /// Adds lines, all of them or, in an accident, some that the next run passes over.
    pub fn append(&mut self, lines: &str) -> Result<()> {
        self.file
            .seek(SeekFrom::End(0))
            .and_then(|_| self.file.write_all(lines.as_bytes()))
            .and_then(|()| self.file.sync_data())
            .with_context(|| unwritable(&self.path))
    }

    /// The whole lines of the file, with their ends.
    pub fn each_line(&mut self, mut visit: impl FnMut(&str) -> Result<()>) -> Result<()> {
        self.file.rewind()?;
        let mut reader = BufReader::new(&self.file);
        let mut line = Vec::new();
        loop {
            line.clear();
            reader
                .read_until(b'\n', &mut line)
                .with_context(|| format!("`{}`: cannot be read", self.path.display()))?;
            if line.last() != Some(&b'\n') {
                return Ok(());
            }
            visit(&String::from_utf8_lossy(&line))?;
        }
    }
}

/// Fills in a seed that was not given: that of an earlier run, if it goes on with these settings.
pub fn take_over_seed(settings: &mut Value, earlier: &Earlier) {
    if let (true, Earlier::Run { settings: old, .. }) = (lacks_seed(settings), earlier) {
        settings[SEED] = json!(old[SEED].as_u64());
    }
}

/// Whether the settings are of a run with noise whose seed was not given.
pub fn lacks_seed(settings: &Value) -> bool {
    settings.get(SEED).is_some_and(Value::is_null)
}

/// Draws a seed.
pub fn draw_seed(settings: &mut Value) -> Result<()> {
    settings[SEED] = json!(Seed::fresh()?.number());
    Ok(())
}

/// `seed was 1 and is 2, steps was 20 and is 30`.
pub fn differences(old: &Value, new: &Value) -> String {
    let keys = |value: &Value| -> Vec<String> {
        let object = value.as_object();
        object.map_or(Vec::new(), |object| object.keys().cloned().collect())
    };
    let mut all = keys(new);
    all.extend(keys(old));
    all.sort();
    all.dedup();
    let different = all.into_iter().filter(|key| old.get(key) != new.get(key));
    let absent = Value::Null;
    let described = different.map(|key| {
        let (was, is) = (
            old.get(&key).unwrap_or(&absent),
            new.get(&key).unwrap_or(&absent),
        );
        format!("{key} was {was} and is {is}")
    });
    described.collect::<Vec<_>>().join(", ")
}

pub fn unwritable(path: &Path) -> String {
    format!(
        "`{}`: the file cannot be written; check the folder's permissions and the free space",
        path.display()
    )
}
