//! A folder in which commands run, and what all of them do there.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use predicates::prelude::*;
use predicates::str::contains;

/// A folder of its own, gone at the end of the test.
pub struct Workplace(tempfile::TempDir);

impl Workplace {
    /// An empty one.
    pub fn empty() -> Workplace {
        Workplace(tempfile::tempdir().unwrap())
    }

    /// One with a checkpoint of random weights for each name and network; the options go to `ebm-export init`.
    pub fn with_checkpoints(checkpoints: &[(&str, &str)], options: &[&str]) -> Workplace {
        let workplace = Workplace::empty();
        for (name, network) in checkpoints {
            workplace
                .export(&[&["init", network, "-o", name], options].concat())
                .success();
        }
        workplace
    }

    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    pub fn export(&self, arguments: &[&str]) -> Assert {
        Command::new(env!("CARGO_BIN_EXE_ebm-export"))
            .current_dir(self.folder())
            .args(arguments)
            .assert()
    }

    /// What `ebm-export inspect` says of a file.
    pub fn inspection(&self, file: &str) -> serde_json::Value {
        let inspected = self.export(&["inspect", file, "--json"]).success();
        serde_json::from_slice(&inspected.get_output().stdout).unwrap()
    }

    /// The command ends with an error of one line that holds the reason.
    pub fn refuses(&self, arguments: &[&str], reason: &str) {
        self.export(arguments)
            .failure()
            .stderr(contains(reason).and(predicate::function(|text: &str| {
                text.starts_with("error: ") && text.trim_end().lines().count() == 1
            })));
    }
}

/// A model of `tests/cases`, as users brought it.
pub fn case(name: &str) -> String {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases");
    cases.join(name).display().to_string()
}

/// The names in a folder, in order.
pub fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
