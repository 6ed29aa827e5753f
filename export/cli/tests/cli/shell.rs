//! Completions, manual pages and exit codes.

use std::fs;

use predicates::str::contains;

use crate::workplace::Workplace;

#[test]
fn completions_know_the_commands_and_pages_their_exit_codes() {
    let workplace = Workplace::empty();
    for shell in ["bash", "zsh", "fish"] {
        let completions = workplace.export(&["completions", shell]).success();
        completions.stdout(contains("verify"));
    }
    let pages = workplace.export(&["man"]).success();
    pages.stdout(contains("wrong usage"));
    workplace
        .export(&["--help"])
        .success()
        .stdout(contains("Exit codes:"));
    workplace.export(&["gradient"]).code(2);
}

#[test]
fn pages_are_replaced_only_if_that_is_asked_for() {
    let workplace = Workplace::empty();
    workplace.export(&["man", "-o", "pages"]).success();
    let page = workplace.path("pages/ebm-export-gradient.1");
    let text = fs::read_to_string(&page).unwrap();
    assert!(text.contains("logsumexp"), "{text}");
    fs::write(&page, "mine").unwrap();
    workplace.refuses(&["man", "-o", "pages"], "exists already");
    assert_eq!(fs::read_to_string(&page).unwrap(), "mine");
    workplace
        .export(&["man", "-o", "pages", "--force"])
        .success();
    assert_eq!(fs::read_to_string(&page).unwrap(), text);
}
