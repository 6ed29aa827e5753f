//! What was measured: rows with the machine, the versions and the date, as JSON and as a table.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A measured form in one case, as one benchmark spells it.
pub trait Row: Clone + Serialize + DeserializeOwned {
    /// What is measured, for titles.
    const TITLE: &'static str;
    /// The unit, for tables.
    const UNIT: &'static str;

    /// Network, width, batch and threads.
    fn case(&self) -> (&str, usize, usize, usize);
    /// What was timed.
    fn form(&self) -> &str;
    /// Median over the rounds, in the unit.
    fn time(&self) -> f64;
    /// How many times faster than PyTorch's autograd of the network as described, in the same rounds.
    fn ratio(&self) -> f64;
}

/// One form of the gradient.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GradientRow {
    pub network: String,
    /// Channels behind the stem.
    pub width: usize,
    pub batch: usize,
    pub threads: usize,
    /// Engine and form of the gradient.
    pub form: String,
    /// Median over the rounds, per image.
    pub milliseconds: f64,
    /// Lower and upper quartile of the same.
    pub quartiles: [f64; 2],
    pub ratio_to_pytorch_eager: f64,
    /// Relative L2 difference from the gradient in f64, the median over images.
    pub gradient_error: f64,
}

impl Row for GradientRow {
    const TITLE: &'static str = "One gradient";
    const UNIT: &'static str = "milliseconds per image";

    fn case(&self) -> (&str, usize, usize, usize) {
        (&self.network, self.width, self.batch, self.threads)
    }

    fn form(&self) -> &str {
        &self.form
    }

    fn time(&self) -> f64 {
        self.milliseconds
    }

    fn ratio(&self) -> f64 {
        self.ratio_to_pytorch_eager
    }
}

/// One way to take Langevin steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatencyRow {
    pub network: String,
    /// Channels behind the stem.
    pub width: usize,
    /// Engine and form of the step.
    pub backend: String,
    pub threads: usize,
    pub batch: usize,
    /// Median over the rounds.
    pub milliseconds_per_image_step: f64,
    /// Lower and upper quartile of the same.
    pub quartiles: [f64; 2],
    pub ratio_to_pytorch_eager: f64,
}

impl Row for LatencyRow {
    const TITLE: &'static str = "One Langevin step with noise and update";
    const UNIT: &'static str = "milliseconds per image and step";

    fn case(&self) -> (&str, usize, usize, usize) {
        (&self.network, self.width, self.batch, self.threads)
    }

    fn form(&self) -> &str {
        &self.backend
    }

    fn time(&self) -> f64 {
        self.milliseconds_per_image_step
    }

    fn ratio(&self) -> f64 {
        self.ratio_to_pytorch_eager
    }
}

/// One way to do an update of an energy network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearningRow {
    pub network: String,
    /// Channels behind the stem.
    pub width: usize,
    /// What does the update.
    pub form: String,
    pub threads: usize,
    /// Images of data, and as many chains.
    pub batch: usize,
    /// Median over the rounds.
    pub seconds_per_update: f64,
    /// Lower and upper quartile of the same.
    pub quartiles: [f64; 2],
    pub ratio_to_pytorch_eager: f64,
    /// Mean difference of the weights after the first update from the trainer's, as a part of the learning rate.
    pub weight_error: f64,
}

impl Row for LearningRow {
    const TITLE: &'static str = "One update";
    const UNIT: &'static str = "seconds per update";

    fn case(&self) -> (&str, usize, usize, usize) {
        (&self.network, self.width, self.batch, self.threads)
    }

    fn form(&self) -> &str {
        &self.form
    }

    fn time(&self) -> f64 {
        self.seconds_per_update
    }

    fn ratio(&self) -> f64 {
        self.ratio_to_pytorch_eager
    }
}

/// All rows of one measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report<R> {
    pub date: String,
    pub machine: String,
    /// Program or library → its version.
    pub versions: BTreeMap<String, String>,
    /// Samples behind each median.
    pub rounds: usize,
    pub rows: Vec<R>,
}

impl<R: Row> Report<R> {
    /// The report of one case.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("could not read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not a report", path.display()))
    }

    /// The rows of all under the head of the first.
    pub fn merged(reports: Vec<Self>) -> Result<Self> {
        reports
            .into_iter()
            .reduce(|mut merged, report| {
                merged.rows.extend(report.rows);
                merged
            })
            .context("nothing was measured")
    }

    /// Writes the rows as JSON.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("a report is always JSON")?;
        fs::write(path, text + "\n").with_context(|| format!("could not write {}", path.display()))
    }

    /// The rows of each case in turn.
    pub fn cases(&self) -> impl Iterator<Item = &[R]> {
        self.rows.chunk_by(|a, b| a.case() == b.case())
    }

    /// Date, machine and versions in one line.
    pub fn surroundings(&self) -> String {
        let versions: Vec<String> = self
            .versions
            .iter()
            .map(|(name, version)| format!("{name} {version}"))
            .collect();
        format!("{}, {}, {}", self.date, self.machine, versions.join(", "))
    }

    /// A Markdown table with a line per case and a column per form.
    pub fn table(&self) -> String {
        let mut forms: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !forms.contains(&row.form()) {
                forms.push(row.form());
            }
        }
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let head = ["network", "width", "batch", "threads"]
            .into_iter()
            .chain(forms.iter().copied())
            .map(String::from)
            .collect::<Vec<_>>();
        let rule = vec!["---".to_string(); head.len()];
        let cases: String = self.cases().map(|rows| line(cells(rows, &forms))).collect();
        format!(
            "{} in {}, medians of {} interleaved rounds; in brackets how many times faster than PyTorch eager.\n\
             {}\n\n{}{}{cases}",
            R::TITLE,
            R::UNIT,
            self.rounds,
            self.surroundings(),
            line(head),
            line(rule)
        )
    }
}

/// What the case is, and a cell for each form, also those that were not timed in it.
fn cells<R: Row>(rows: &[R], forms: &[&str]) -> Vec<String> {
    let (network, width, batch, threads) = rows[0].case();
    let numbers = [width, batch, threads].map(|number| number.to_string());
    let forms = forms.iter().map(|form| {
        let row = rows.iter().find(|row| row.form() == *form);
        row.map_or("–".to_string(), |row| {
            format!("{:.3} ({:.2})", row.time(), row.ratio())
        })
    });
    std::iter::once(network.to_string())
        .chain(numbers)
        .chain(forms)
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn measured() -> Report<GradientRow> {
        let row = |batch, form: &str, milliseconds| GradientRow {
            network: "sngan32".to_string(),
            width: 256,
            batch,
            threads: 1,
            form: form.to_string(),
            milliseconds,
            quartiles: [milliseconds, milliseconds],
            ratio_to_pytorch_eager: 40.0 / milliseconds,
            gradient_error: 1e-6,
        };
        Report {
            date: "2026-01-31".to_string(),
            machine: "a <fast> machine".to_string(),
            versions: BTreeMap::from([("torch".to_string(), "2.11.0".to_string())]),
            rounds: 40,
            rows: vec![
                row(1, "pytorch eager", 40.0),
                row(1, "onnxruntime", 16.0),
                row(8, "pytorch eager", 40.0),
                row(8, "onnxruntime", 20.0),
                row(8, "fixed batch", 10.0),
            ],
        }
    }

    #[test]
    fn a_report_reads_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.json");
        measured().write(&path).unwrap();
        assert_eq!(Report::<GradientRow>::read(&path).unwrap(), measured());
        fs::write(&path, "{}").unwrap();
        let error = Report::<GradientRow>::read(&path).unwrap_err().to_string();
        assert!(error.contains("rows.json is not a report"), "{error}");
    }

    #[test]
    fn the_table_has_a_line_per_case() {
        let table = measured().table();
        let lines: Vec<&str> = table.lines().skip(3).collect();
        assert_eq!(
            lines,
            [
                "| network | width | batch | threads | pytorch eager | onnxruntime | fixed batch |",
                "| --- | --- | --- | --- | --- | --- | --- |",
                "| sngan32 | 256 | 1 | 1 | 40.000 (1.00) | 16.000 (2.50) | – |",
                "| sngan32 | 256 | 8 | 1 | 40.000 (1.00) | 20.000 (2.00) | 10.000 (4.00) |",
            ]
        );
    }

    #[test]
    fn reports_of_cases_become_one() {
        let whole = measured();
        let part = |range: std::ops::Range<usize>| Report {
            rows: whole.rows[range].to_vec(),
            ..whole.clone()
        };
        assert_eq!(Report::merged(vec![part(0..2), part(2..5)]).unwrap(), whole);
        assert!(Report::<GradientRow>::merged(vec![]).is_err());
    }
}
