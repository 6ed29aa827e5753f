//! `purify run -`: standard input and output.

use ebm_runtime::{PictureEncoding, PictureFormat, decode_picture, encode_picture, read_picture};
use ebm_runtime_cli::dataset::DataSetFormat;
use predicates::str::contains;

use crate::workbench::{GREY, Workbench, npy, pixels};

#[test]
fn a_picture_goes_through() {
    let bench = Workbench::new();
    let picture = bench.upper("a.png");
    let with_seed = |arguments: &[&str]| {
        let mut command = bench.run(arguments);
        command.args(["--seed", "2"]);
        command
    };
    with_seed(&["a.png", "-o", "out"]).assert().success();
    let expected = bench.read("out/a.png", GREY);
    let output = with_seed(&["-", "-o", "-"])
        .write_stdin(std::fs::read(&picture).unwrap())
        .output()
        .unwrap();
    assert!(output.status.success());
    assert_eq!(decode_picture(&output.stdout, GREY).unwrap(), expected);
    let output = with_seed(&["a.png", "-o", "-"]).output().unwrap();
    assert_eq!(decode_picture(&output.stdout, GREY).unwrap(), expected);
    let fresh = bench.run(&["a.png", "-o", "-"]).output().unwrap();
    assert_ne!(decode_picture(&fresh.stdout, GREY).unwrap(), expected);
}

#[test]
fn formats_are_told_by_their_bytes() {
    let bench = Workbench::new();
    let image = read_picture(bench.upper("a.png"), GREY).unwrap();
    for (encoding, arguments, format) in [
        (PictureEncoding::WebP, &[][..], PictureFormat::WebP),
        (
            PictureEncoding::Jpeg { quality: 90 },
            &[],
            PictureFormat::Png,
        ),
        (
            PictureEncoding::Jpeg { quality: 90 },
            &["--format", "same"],
            PictureFormat::Jpeg,
        ),
        (PictureEncoding::Png, &["--jpeg", "30"], PictureFormat::Png),
    ] {
        let output = bench
            .run(&["-", "-o", "-"])
            .args(arguments)
            .write_stdin(encode_picture(&image, 0, encoding).unwrap())
            .output()
            .unwrap();
        assert!(output.status.success(), "{encoding:?}");
        assert_eq!(
            PictureFormat::of_bytes(&output.stdout),
            Some(format),
            "{encoding:?}"
        );
    }
}

#[test]
fn an_array_goes_through() {
    let bench = Workbench::new();
    let array = npy("|u1", "(40, 8, 8)", &[77; 2560]);
    bench.file("x.npy", &array);
    bench
        .run(&["x.npy", "-o", "out", "--seed", "2"])
        .assert()
        .success();
    let output = bench
        .run(&["-", "-o", "-", "--seed", "2"])
        .write_stdin(array)
        .output()
        .unwrap();
    assert!(output.stdout == bench.bytes("out/x.npy"));
    assert_ne!(pixels(&output.stdout, DataSetFormat::Npy, GREY), [77; 2560]);
}

#[test]
fn what_cannot_go_through_is_refused() {
    let bench = Workbench::new();
    bench.image("a.png", GREY, 9);
    let refused = |arguments: &[&str], input: &[u8], part: &str| {
        let output = bench.run(arguments).write_stdin(input).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains(part), "{errors}");
        assert!(output.stdout.is_empty());
    };
    refused(
        &["-", "-o", "out"],
        b"",
        "write to standard output with -o -",
    );
    refused(
        &["-", "-o", "-"],
        b"",
        "failed: `-`: the image is an empty file",
    );
    refused(&["-", "-o", "-"], b"\x93NUM", "`-`: ");
    refused(
        &["a.png", "a.png", "-o", "-"],
        b"",
        "expected one input for standard output, got 2",
    );
    refused(&[".", "-o", "-"], b"", "got the folder `.`");
    refused(
        &["nowhere.png", "-o", "-"],
        b"",
        "`nowhere.png`: the file cannot be read",
    );
    for option in [
        ["--replicas", "2"],
        ["--filter-top", "5"],
        ["--sheet", "s.png"],
    ] {
        let arguments = ["a.png", "-o", "-", option[0], option[1]];
        refused(
            &arguments,
            b"",
            &format!("{} needs a folder for the output", option[0]),
        );
    }
}

/// Each write to this device fails as on a full disk.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_standard_output() {
    let bench = Workbench::new();
    bench.image("a.png", GREY, 9);
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_purify"));
    let output = command
        .args(["run", "a.png", "-o", "-", "--model"])
        .arg(crate::workbench::fixture("digits"))
        .current_dir(bench.path(""))
        .stdout(full)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        predicates::Predicate::eval(
            &contains("standard output cannot be written: No space left"),
            &errors
        ),
        "{errors}"
    );
}
