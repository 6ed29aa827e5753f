//! Files that options name: what must not be written is refused before any work.

use predicates::prelude::*;
use predicates::str::contains;

use crate::workbench::{GREY, Workbench, fixture};

fn workbench() -> Workbench {
    let bench = Workbench::new();
    bench.image("in/0.png", GREY, 90);
    bench.image("in/1.png", GREY, 120);
    bench.file("old.png", b"precious");
    std::fs::create_dir(bench.path("folder.png")).unwrap();
    bench
}

#[test]
fn a_sheet_replaces_nothing() {
    let bench = workbench();
    for (sheet, more, code, wanted) in [
        ("old.png", &[][..], 1, "`old.png` exists; give --force"),
        ("in/0.png", &[], 1, "is read by the same command"),
        ("in/0.png", &["--force"], 1, "is read by the same command"),
        ("./in/../in/0.png", &["--force"], 1, "is read by the same"),
        (
            "out/0.png",
            &[],
            1,
            "a purified image is written under this name",
        ),
        (
            "./out/0.png",
            &["--force"],
            1,
            "a purified image is written",
        ),
        ("folder.png", &["--force"], 1, "got a folder"),
        ("nowhere/sheet.png", &[], 1, "cannot be written"),
        ("-", &[], 2, "ends in .png"),
        ("sheet.jpg", &[], 2, "ends in .png"),
    ] {
        bench
            .run(&["in", "-o", "out", "--sheet", sheet])
            .args(more)
            .assert()
            .code(code)
            .stderr(contains(wanted).and(contains("purified").not().or(contains("a purified"))));
        assert!(!bench.path("out").exists(), "{sheet}: nothing was done");
    }
    assert_eq!(bench.bytes("old.png"), b"precious");
    for sheet in ["out/sheet.png", "new.png"] {
        bench
            .run(&["in", "-o", "out", "--sheet", sheet])
            .assert()
            .success();
        assert!(bench.path(sheet).exists());
    }
    bench
        .run(&["in", "-o", "out", "--sheet", "old.png", "--force"])
        .assert()
        .success();
    assert_ne!(bench.bytes("old.png"), b"precious");
}

#[test]
fn no_purified_image_replaces_one_that_is_read() {
    let bench = workbench();
    let before = bench.bytes("in/0.png");
    for (inputs, output) in [
        (&["in"][..], "in"),
        (&["in/0.png"], "in"),
        (&["in/0.png"], "./in/../in"),
    ] {
        for more in [&[][..], &["--force"]] {
            bench
                .run(inputs)
                .args(["-o", output])
                .args(more)
                .assert()
                .code(1)
                .stderr(contains("is read and would be replaced by the same run"));
        }
    }
    assert_eq!(bench.bytes("in/0.png"), before);
    assert_eq!(bench.list("in"), ["0.png", "1.png"]);
}

#[cfg(unix)]
#[test]
fn a_link_is_seen_through() {
    let bench = workbench();
    std::fs::create_dir(bench.path("out")).unwrap();
    std::os::unix::fs::symlink("../in/0.png", bench.path("out/0.png")).unwrap();
    std::os::unix::fs::symlink("nowhere", bench.path("dangling.png")).unwrap();
    bench
        .run(&["in", "-o", "out", "--force"])
        .assert()
        .code(1)
        .stderr(contains("would be replaced by the same run"));
    bench
        .run(&["in", "-o", "other", "--sheet", "dangling.png"])
        .assert()
        .code(1)
        .stderr(contains("`dangling.png` exists"));
}

#[test]
fn a_file_of_answers_replaces_nothing() {
    let bench = workbench();
    let classify = |arguments: &[&str]| {
        let mut command = bench.purify(&["classify", "in", "--replicas", "1", "--model"]);
        command.arg(fixture("digits")).args(arguments).assert()
    };
    let step = fixture("digits/step.onnx");
    let step = step.to_str().unwrap();
    for (arguments, wanted) in [
        (&["-o", "old.png"][..], "`old.png` exists; give --force"),
        (
            &["-o", "in/0.png", "--force"],
            "is read by the same command",
        ),
        (&["-o", step, "--force"], "is read by the same command"),
        (&["-o", "folder.png"], "got a folder"),
        (&["-o", "nowhere/a.json"], "cannot be written"),
        (&["-o", "-"], "not written to standard output"),
    ] {
        classify(arguments)
            .code(1)
            .stdout("")
            .stderr(contains(wanted));
    }
    assert_eq!(bench.bytes("old.png"), b"precious");
    classify(&["-o", "old.png", "--force"]).success();
    assert!(bench.bytes("old.png").starts_with(b"{"));
    classify(&["--force"]).code(2);
}

#[test]
fn certificates_are_not_written_over_what_is_read() {
    let bench = workbench();
    let before = bench.bytes("in/0.png");
    for file in ["in/0.png", "folder.png", "nowhere/a.jsonl"] {
        let mut command = bench.purify(&["certify", "in", "--sigma", "0.25", "-o", file]);
        command.args(["--force", "--model"]).arg(fixture("digits"));
        command
            .assert()
            .code(1)
            .stdout("")
            .stderr(contains(format!("-o `{file}`: ")));
    }
    assert_eq!(bench.bytes("in/0.png"), before);
}

#[test]
fn manual_pages_replace_nothing() {
    let bench = Workbench::new();
    bench.file("pages/purify-run.1", b"precious");
    bench
        .purify(&["man", "-o", "pages"])
        .assert()
        .code(1)
        .stderr(contains("`pages/purify-run.1` exists; give --force"));
    assert_eq!(bench.list("pages"), ["purify-run.1"]);
    bench
        .purify(&["man", "-o", "pages", "--force"])
        .assert()
        .success();
    assert_ne!(bench.bytes("pages/purify-run.1"), b"precious");
}
