//! What people look at.

use std::fs;
use std::path::Path;
use std::process::Command;

use predicates::str::contains;
use serde_json::{Value, json};

use crate::common::{classifier, fit, metrics, refused, trainer};

#[test]
fn live_lines_say_values_speed_and_what_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    trainer(&format!(
        "fit digits-midrun {} -o {}",
        crate::common::TINY_FIT,
        run.display()
    ))
    .assert()
    .success()
    .stderr(contains("update 6/6 · "))
    .stderr(contains(" left · energy difference "))
    .stderr(contains(" · gradient strength "))
    .stderr(contains(" images·steps/s"));
    // 8 images, 2 steps.
    assert_eq!(metrics(&run)[0]["image_steps"], 16.0);
}

#[test]
fn a_run_has_plots_and_rows_of_each_update() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    fit(&run, "");
    let svg = fs::read_to_string(run.join("diagnostics.svg")).unwrap();
    for wanted in [
        "energy difference",
        "gradient strength",
        "cross-correlation",
        "auto-correlation",
    ] {
        assert!(svg.contains(wanted), "{wanted}");
    }
    let png = fs::read(run.join("diagnostics.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG"));
    let rows = fs::read_to_string(run.join("updates.csv")).unwrap();
    let rows: Vec<&str> = rows.lines().collect();
    assert_eq!(
        rows[0],
        "update,energy_difference,gradient_strength,saturation"
    );
    assert_eq!(rows.len(), 7);
    let sessions = fs::read_to_string(run.join("sessions.jsonl")).unwrap();
    let session: Value = serde_json::from_str(&sessions).unwrap();
    assert_eq!(
        (&session["device"], &session["threads"]),
        (&json!("cpu"), &json!(1))
    );
}

#[test]
fn a_report_is_one_page_about_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    fit(&run, "");
    let page = run.join("report.html");
    trainer(&format!("report {}", run.display()))
        .assert()
        .success()
        .stdout(format!("{}\n", page.display()));
    let page = fs::read_to_string(page).unwrap();
    for wanted in [
        "complete after 6 updates",
        "ebm-export onnx",
        "cross-correlation",
        "data:image/png;base64,",
        "data-persistent",
        "optimizer",
    ] {
        assert!(page.contains(wanted), "{wanted}");
    }
    assert!(!page.contains("trainer resume"));
}

#[test]
fn a_report_about_several_runs_is_still_one_page() {
    let folder = tempfile::tempdir().unwrap();
    fit(&folder.path().join("midrun"), "");
    classifier(&folder.path().join("classifier"));
    let page = folder.path().join("both.html");
    trainer(&format!(
        "report {} -o {}",
        folder.path().display(),
        page.display()
    ))
    .assert()
    .success();
    let page = fs::read_to_string(page).unwrap();
    for wanted in [
        "2 runs, 2 of them complete",
        "loss on training images",
        "energy difference",
    ] {
        assert!(page.contains(wanted), "{wanted}");
    }
}

#[test]
fn a_report_needs_a_run() {
    let folder = tempfile::tempdir().unwrap();
    refused(
        &mut trainer(&format!("report {}", folder.path().display())),
        &[
            "is not a run and has no folders of runs",
            "trainer life-cycle",
        ],
    );
}

/// Python with the package tensorboard, where there is one: `EBM_TENSORBOARD_PYTHON`, or python3.
fn python() -> Option<String> {
    let python = std::env::var("EBM_TENSORBOARD_PYTHON").unwrap_or_else(|_| "python3".to_string());
    let imported = Command::new(&python)
        .args(["-c", "import tensorboard"])
        .output();
    imported
        .is_ok_and(|output| output.status.success())
        .then_some(python)
}

fn read_by_tensorboard(python: &str, run: &Path) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tensorboard/read.py");
    let output = Command::new(python).arg(script).arg(run).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn tensorboard_reads_each_point_once_also_of_a_resumed_run() {
    let Some(python) = python() else {
        eprintln!(
            "SKIPPED: TensorBoard did not read the event files, since python3 has no package tensorboard: \
             `python3 -m venv board && board/bin/pip install tensorboard`, then set EBM_TENSORBOARD_PYTHON=board/bin/python"
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    fit(&run, "");
    // As if the process had been killed before its last checkpoint.
    fs::remove_dir_all(run.join("checkpoints/00000006")).unwrap();
    trainer(&format!("resume {} --threads 1", run.display()))
        .assert()
        .success();
    let read = read_by_tensorboard(&python, &run);
    let lines = metrics(&run);
    for tag in ["energy_difference", "gradient_strength", "learning_rate"] {
        let points = read["scalars"][tag].as_array().unwrap();
        let steps: Vec<u64> = points
            .iter()
            .map(|point| point[0].as_u64().unwrap())
            .collect();
        assert_eq!(steps, [2, 4, 6], "{tag}");
        for (point, line) in points.iter().zip(&lines) {
            let (point, line) = (point[1].as_f64().unwrap(), line[tag].as_f64().unwrap());
            assert_eq!(point, f64::from(line as f32), "{tag}");
        }
    }
    assert_eq!(
        read["scalars"]["image_steps_per_second"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    // 8 columns of 48 pixels, 4 between and around them; 8 images of data and of chain ends.
    for tag in ["samples/data", "samples/chain ends", "samples/bank"] {
        assert_eq!(
            read["images"][tag],
            json!([[6, 420, 56, "89504e47"]]),
            "{tag}"
        );
    }
}
