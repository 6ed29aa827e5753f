//! The programs in `docs/adding-an-operator.md` are parts of the source.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

/// Each block of Rust belongs to the file that was named last before it.
#[test]
fn programs_of_the_document_stand_in_the_source() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let document = fs::read_to_string(root.join("docs/adding-an-operator.md")).unwrap();
    let parts: Vec<&str> = document.split("```").collect();
    let mut n_programs = 0;
    for (text, program) in parts.iter().zip(&parts[1..]).step_by(2) {
        let Some(program) = program.strip_prefix("rust\n") else {
            continue;
        };
        let named = text.split('`').rfind(|word| word.ends_with(".rs")).unwrap();
        let source = fs::read_to_string(root.join(named)).unwrap();
        assert!(
            source.contains(program),
            "the program in docs/adding-an-operator.md is not that of {named}; copy it again"
        );
        n_programs += 1;
    }
    assert_eq!(n_programs, 1);
}

/// Files that the document names exist.
#[test]
fn files_of_the_document_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let document = fs::read_to_string(root.join("docs/adding-an-operator.md")).unwrap();
    let words = document.split('`');
    let paths: Vec<&str> = words
        .filter(|word| word.contains('/') && !word.contains(char::is_whitespace))
        .collect();
    assert!(paths.len() >= 8, "{paths:?}");
    for path in paths {
        assert!(root.join(path).exists(), "there is no {path}");
    }
}
