//! What fuzzing found goes the way of `ebm-export gradient` again, and ends with a file or an error.
#![allow(clippy::unwrap_used)]

#[path = "../../fuzz/src/way.rs"]
mod way;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use way::{Derivative, go};

/// Longer than this on the way is a hang.
const MAX_DURATION: Duration = Duration::from_secs(10);

fn files(folder: &str) -> Vec<PathBuf> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let entries = fs::read_dir(fuzz.join(folder)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Sends a file all ways, and says how many ended with a file.
fn n_written(path: &Path) -> usize {
    let bytes = fs::read(path).unwrap();
    let ways = Derivative::ALL.into_iter();
    let written = ways.filter(|&derivative| {
        let start = Instant::now();
        let result = go(&bytes, derivative);
        let duration = start.elapsed();
        assert!(
            duration < MAX_DURATION,
            "{}: {duration:?} for {derivative:?}",
            path.display()
        );
        match result {
            Ok(bytes) => !bytes.is_empty(),
            Err(error) => {
                let text = error.to_string();
                assert!(!text.contains('\n'), "{}: {text:?}", path.display());
                false
            }
        }
    });
    written.count()
}

#[test]
fn what_was_kept_ends_with_a_file_or_an_error() {
    let n_written: Vec<usize> = files("corpus/bytes")
        .iter()
        .map(|path| n_written(path))
        .collect();
    let n_whole = n_written.iter().filter(|&&count| count > 0).count();
    assert!(
        n_whole > 50 && n_whole + 50 < n_written.len(),
        "{n_whole} of {} become files; the corpus should hold many of both",
        n_written.len()
    );
}

/// Models that did harm once are refused now.
#[test]
fn what_did_harm_is_refused() {
    for path in files("regressions") {
        assert_eq!(n_written(&path), 0, "{}", path.display());
    }
}
