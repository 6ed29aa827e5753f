//! What was measured: rows with the machine, the versions and the date, as JSON and as a table.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// One form of the gradient in one case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
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
    /// How many times faster than PyTorch's autograd of the network as described, in the same rounds.
    pub ratio_to_pytorch_eager: f64,
    /// Relative L2 difference from the gradient in f64, the median over images.
    pub gradient_error: f64,
}

/// All rows of one measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    pub date: String,
    pub machine: String,
    /// Program or library → its version.
    pub versions: BTreeMap<String, String>,
    /// Samples behind each median.
    pub rounds: usize,
    pub rows: Vec<Row>,
}

impl Report {
    /// The report of one case.
    pub fn read(path: &Path) -> Result<Report> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("could not read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no report", path.display()))
    }

    /// The rows of all under the head of the first.
    pub fn merged(reports: Vec<Report>) -> Result<Report> {
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
    pub fn cases(&self) -> impl Iterator<Item = &[Row]> {
        self.rows.chunk_by(|a, b| {
            (&a.network, a.width, a.batch, a.threads) == (&b.network, b.width, b.batch, b.threads)
        })
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
        let forms: Vec<&str> = self
            .cases()
            .next()
            .into_iter()
            .flatten()
            .map(|row| row.form.as_str())
            .collect();
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let head = ["network", "width", "batch", "threads"]
            .into_iter()
            .chain(forms)
            .chain(["largest gradient error"])
            .map(String::from)
            .collect::<Vec<_>>();
        let rule = vec!["---".to_string(); head.len()];
        let cases: String = self.cases().map(|rows| line(cells(rows))).collect();
        format!(
            "One gradient in milliseconds per image, medians of {} interleaved rounds; in brackets how many times faster than PyTorch eager.\n\
             {}\n\n{}{}{cases}",
            self.rounds,
            self.surroundings(),
            line(head),
            line(rule)
        )
    }
}

fn cells(rows: &[Row]) -> Vec<String> {
    let case = &rows[0];
    let error = rows
        .iter()
        .map(|row| row.gradient_error)
        .fold(0.0, f64::max);
    let numbers = [case.width, case.batch, case.threads].map(|number| number.to_string());
    let forms = rows.iter().map(|row| {
        format!(
            "{:.2} ({:.2})",
            row.milliseconds, row.ratio_to_pytorch_eager
        )
    });
    std::iter::once(case.network.clone())
        .chain(numbers)
        .chain(forms)
        .chain([format!("{error:.1e}")])
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn measured() -> Report {
        let row = |batch, form: &str, milliseconds| Row {
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
            ],
        }
    }

    #[test]
    fn a_report_reads_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.json");
        measured().write(&path).unwrap();
        assert_eq!(Report::read(&path).unwrap(), measured());
        fs::write(&path, "{}").unwrap();
        let error = Report::read(&path).unwrap_err().to_string();
        assert!(error.contains("rows.json is no report"), "{error}");
    }

    #[test]
    fn the_table_has_a_line_per_case() {
        let table = measured().table();
        let lines: Vec<&str> = table.lines().skip(3).collect();
        assert_eq!(
            lines,
            [
                "| network | width | batch | threads | pytorch eager | onnxruntime | largest gradient error |",
                "| --- | --- | --- | --- | --- | --- | --- |",
                "| sngan32 | 256 | 1 | 1 | 40.00 (1.00) | 16.00 (2.50) | 1.0e-6 |",
                "| sngan32 | 256 | 8 | 1 | 40.00 (1.00) | 20.00 (2.00) | 1.0e-6 |",
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
        assert_eq!(Report::merged(vec![part(0..2), part(2..4)]).unwrap(), whole);
        assert!(Report::merged(vec![]).is_err());
    }
}
