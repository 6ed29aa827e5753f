//! `purify completions` and `purify man`.

use predicates::prelude::*;
use predicates::str::contains;

use crate::workbench::Workbench;

#[test]
fn completions_know_commands_and_options() {
    let bench = Workbench::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        bench
            .purify(&["completions", shell])
            .assert()
            .success()
            .stdout(contains("filter-top").and(contains("classify")));
    }
    bench
        .purify(&["completions", "cmd"])
        .assert()
        .code(2)
        .stderr(contains("possible values"));
}

#[test]
fn the_manual_has_every_option_of_every_command() {
    let bench = Workbench::new();
    bench.purify(&["man"]).assert().success().stdout(
        contains(".TH purify 1")
            .and(contains(".TH purify-run 1"))
            .and(contains("keep\\-originals"))
            .and(contains("Exit codes")),
    );
    bench
        .purify(&["man", "-o", "pages"])
        .assert()
        .success()
        .stdout("");
    let pages = bench.list("pages");
    assert!(
        ["purify.1", "purify-run.1", "purify-classify.1"]
            .iter()
            .all(|page| pages.contains(&page.to_string())),
        "{pages:?}"
    );
    bench.file("file", b"");
    bench
        .purify(&["man", "-o", "file"])
        .assert()
        .code(1)
        .stderr(contains("the pages cannot be written"));
}

#[test]
fn exit_codes_are_documented() {
    let bench = Workbench::new();
    bench
        .purify(&["--help"])
        .assert()
        .success()
        .stdout(contains("Exit codes:").and(contains("3  the work is done, but some")));
    for (command, ends) in [
        ("run", "3 done, but some images failed"),
        ("classify", "3 done, but some images failed"),
        ("certify", "3 done, but some images failed"),
        ("info", "2 wrong usage"),
        ("bench", "2 wrong usage"),
        ("man", "2 wrong usage"),
    ] {
        let assert = bench.purify(&[command, "--help"]).assert().success();
        let help = String::from_utf8(assert.get_output().stdout.clone()).unwrap();
        assert!(help.trim_end().ends_with(ends), "{command}: {help}");
    }
}
