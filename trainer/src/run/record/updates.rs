//! `updates.csv`: what each single update measured, from which correlations are computed.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result};

use super::Measured;

/// The name of the file.
pub const FILE: &str = "updates.csv";

const UPDATE: &str = "update";

/// `updates.csv`, while it grows: a header, then a row per update.
#[derive(Debug)]
pub struct Updates {
    file: BufWriter<File>,
    is_empty: bool,
}

impl Updates {
    /// Goes on behind the row of `update`; later ones, and what was not written to its end, are cut off.
    pub fn open(path: &Path, update: u64) -> Result<Updates> {
        Updates::cut(path, update).with_context(|| format!("cannot write {}", path.display()))
    }

    fn cut(path: &Path, update: u64) -> Result<Updates> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path)?;
        let kept = kept_bytes(&file, update)?;
        file.set_len(kept)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Updates {
            file: BufWriter::new(file),
            is_empty: kept == 0,
        })
    }

    /// Adds the row of an update.
    pub fn write(&mut self, update: u64, measured: &Measured) -> Result<()> {
        let mut text = String::new();
        if self.is_empty {
            let names = measured.iter().map(|(name, _)| format!(",{name}"));
            text += &format!("{UPDATE}{}\n", names.collect::<String>());
            self.is_empty = false;
        }
        let values = measured
            .iter()
            .map(|(_, value)| format!(",{}", *value as f32));
        text += &format!("{update}{}\n", values.collect::<String>());
        self.file
            .write_all(text.as_bytes())
            .context("cannot write updates.csv")
    }

    /// Hands the rows to the system, which keeps them if this process is killed.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().context("cannot write updates.csv")
    }
}

/// The bytes of the header and of the whole rows up to `update`.
fn kept_bytes(file: &File, update: u64) -> Result<u64> {
    let mut reader = BufReader::new(file);
    let (mut kept, mut bytes) = (0, Vec::new());
    while reader.read_until(b'\n', &mut bytes)? > 0 {
        let line = String::from_utf8_lossy(&bytes);
        let is_whole = line.ends_with('\n');
        let is_header = kept == 0 && line.starts_with(UPDATE);
        let number = line.split(',').next().and_then(|text| text.parse().ok());
        let is_until = number.is_some_and(|of: u64| of <= update && kept > 0);
        if !is_whole || !(is_header || is_until) {
            break;
        }
        kept += bytes.len() as u64;
        bytes.clear();
    }
    Ok(kept)
}

/// The newest rows of an `updates.csv`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recent {
    names: Vec<String>,
    rows: VecDeque<Vec<f64>>,
}

impl Recent {
    /// Of a file, at most `n` rows; none if there is no file.
    pub fn read(path: &Path, n: usize) -> Result<Recent> {
        let Ok(file) = File::open(path) else {
            return Ok(Recent::default());
        };
        let reading = || format!("cannot read {}", path.display());
        let mut lines = BufReader::new(file).lines();
        let Some(header) = lines.next() else {
            return Ok(Recent::default());
        };
        let names: Vec<String> = header
            .with_context(reading)?
            .split(',')
            .map(str::to_string)
            .collect();
        let mut rows = VecDeque::new();
        for line in lines {
            let line = line.with_context(reading)?;
            let row: Vec<f64> = line
                .split(',')
                .map_while(|text| text.parse().ok())
                .collect();
            if row.len() == names.len() {
                rows.push_back(row);
            }
            if rows.len() > n {
                rows.pop_front();
            }
        }
        Ok(Recent { names, rows })
    }

    /// The values of a name, oldest first.
    pub fn values(&self, name: &str) -> Option<Vec<f64>> {
        let column = self.names.iter().position(|known| known == name)?;
        Some(self.rows.iter().map(|row| row[column]).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn rows_go_on_behind_the_last_one_that_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("updates.csv");
        assert_eq!(Recent::read(&path, 9).unwrap(), Recent::default());
        let write = |after: u64, until: u64, value: f64| {
            let mut updates = Updates::open(&path, after).unwrap();
            for update in after + 1..=until {
                let measured = vec![("a", value), ("b", -0.5)];
                updates.write(update, &measured).unwrap();
            }
            updates.flush().unwrap();
        };
        write(0, 4, 1.0);
        let half_written = fs::read_to_string(&path).unwrap() + "5,1";
        fs::write(&path, half_written).unwrap();
        write(4, 5, 2.0);
        write(3, 5, 3.0);
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "update,a,b\n1,1,-0.5\n2,1,-0.5\n3,1,-0.5\n4,3,-0.5\n5,3,-0.5\n"
        );
        let recent = Recent::read(&path, 3).unwrap();
        assert_eq!(recent.values("a"), Some(vec![1.0, 3.0, 3.0]));
        assert_eq!(recent.values("update"), Some(vec![3.0, 4.0, 5.0]));
        assert_eq!(recent.values("c"), None);
    }

    #[test]
    fn a_file_of_something_else_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("updates.csv");
        fs::write(&path, b"something else\xff\n1,2\n").unwrap();
        let mut updates = Updates::open(&path, 7).unwrap();
        updates.write(8, &vec![("a", 1.0)]).unwrap();
        updates.flush().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "update,a\n8,1\n");
    }
}
