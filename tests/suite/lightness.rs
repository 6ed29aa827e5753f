//! The runtime stays light: what an application links is counted, so that a change that makes it grow has to say so here.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Crates in the tree of the runtime, itself included, for each set of features that applications choose.
const MOST_CRATES: [(&[&str], usize); 2] = [
    (&["--no-default-features", "--features", "tract"], 96),
    (&["--no-default-features", "--features", "ort"], 37),
];

#[test]
fn no_more_crates_than_are_known_of() {
    for (features, most) in MOST_CRATES {
        let output = Command::new(env!("CARGO"))
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
            .args(["tree", "--locked", "-p", "ebm-runtime"])
            .args(["-e", "normal", "--prefix", "none", "--format", "{p}"])
            .args(features)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let tree = String::from_utf8(output.stdout).unwrap();
        let crates: BTreeSet<&str> = tree
            .lines()
            .filter_map(|line| line.split(" (").next())
            .collect();
        assert!(
            (2..=most).contains(&crates.len()),
            "{features:?}: expected at most {most} crates, got {}: {crates:?}",
            crates.len()
        );
    }
}
