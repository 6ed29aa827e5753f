//! `metrics.jsonl`: a line of JSON per log point.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use ebm_common::staged::write_whole;
use serde_json::{Map, Value};

/// The name of the file.
pub const FILE: &str = "metrics.jsonl";

/// `metrics.jsonl`, while it grows.
#[derive(Debug)]
pub struct Metrics {
    file: File,
}

/// A line of it: values by name, `update` and `seconds` among them.
pub type MetricsLine = Map<String, Value>;

impl Metrics {
    /// Goes on behind the lines up to `update`; later ones, of a run that got further than its last checkpoint, are dropped.
    pub fn open(path: &Path, update: u64) -> Result<Metrics> {
        let writing = || format!("cannot write {}", path.display());
        let kept: String = match fs::read(path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes)
                .lines()
                .filter(|line| parse(line).is_some_and(|line| is_until(&line, update)))
                .flat_map(|line| [line, "\n"])
                .collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        write_whole(path, kept.as_bytes())?;
        let file = OpenOptions::new()
            .append(true)
            .open(path)
            .with_context(writing)?;
        Ok(Metrics { file })
    }

    /// Adds a line: the update, the means, the learning rate and the seconds of this process.
    pub fn write(
        &mut self,
        update: u64,
        means: &[(String, f64)],
        learning_rate: f64,
        seconds: f64,
    ) -> Result<()> {
        let mut line = MetricsLine::new();
        line.insert("update".to_string(), update.into());
        line.extend(
            means
                .iter()
                .map(|(name, mean)| (name.clone(), (*mean).into())),
        );
        line.insert("learning_rate".to_string(), learning_rate.into());
        line.insert("seconds".to_string(), seconds.into());
        writeln!(self.file, "{}", Value::Object(line)).context("cannot write metrics.jsonl")
    }
}

fn parse(line: &str) -> Option<MetricsLine> {
    serde_json::from_str(line).ok()
}

fn is_until(line: &MetricsLine, update: u64) -> bool {
    line.get("update")
        .and_then(Value::as_u64)
        .is_some_and(|of| of <= update)
}

/// The lines of a `metrics.jsonl`, without a last one that is half-written.
pub fn read(path: &Path) -> Result<Vec<MetricsLine>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().filter_map(parse).collect())
}

/// A curve of such lines: pairs (update, value). Values that are not finite are left out.
pub fn curve(lines: &[MetricsLine], name: &str) -> Vec<(f64, f64)> {
    let point = |line: &MetricsLine| {
        let value = line.get(name)?.as_f64()?;
        Some((line.get("update")?.as_f64()?, value))
    };
    lines.iter().filter_map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_line_costs_no_other_and_an_unreadable_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        fs::write(&path, b"{\"update\":1}\n{\"upd\xff\n{\"update\":3}\n").unwrap();
        drop(Metrics::open(&path, 3).unwrap());
        assert_eq!(read(&path).unwrap().len(), 2);
        let error = Metrics::open(folder.path(), 3).unwrap_err().to_string();
        assert!(error.contains("cannot read"), "{error}");
    }

    #[test]
    fn lines_behind_the_update_and_broken_ones_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut metrics = Metrics::open(&path, 0).unwrap();
        for update in [10, 20, 30] {
            let means = [("loss".to_string(), f64::from(update as u32) / 10.0)];
            metrics.write(update, &means, 0.1, 1.0).unwrap();
        }
        write!(metrics.file, "{{\"update\":4").unwrap();
        assert_eq!(curve(&read(&path).unwrap(), "loss").len(), 3);
        let mut metrics = Metrics::open(&path, 20).unwrap();
        metrics
            .write(30, &[("loss".to_string(), f64::NAN)], 0.1, 1.0)
            .unwrap();
        let lines = read(&path).unwrap();
        assert_eq!(curve(&lines, "loss"), [(10.0, 1.0), (20.0, 2.0)]);
        assert_eq!(curve(&lines, "learning_rate").len(), 3);
    }
}
