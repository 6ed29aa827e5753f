//! Pictures that are not as the model wants them.

use ebm_runtime::{PictureEncoding, encode_picture, read_picture};
use predicates::prelude::*;
use predicates::str::contains;

use crate::workbench::{COLOUR, GREY, Workbench, fixture};

/// So small a step that no byte changes.
const STILL: [&str; 6] = ["--steps", "1", "--step-size", "1e-6", "--temperature", "1"];

/// Steps of 8 columns from dark to bright, 24 wide and 16 high.
fn wide(bench: &Workbench, name: &str) {
    let shape = ebm_runtime::ImageShape {
        channels: 1,
        height: 16,
        width: 24,
    };
    let bytes: Vec<u8> = (0..24 * 16).map(|i| [20, 120, 220][i % 24 / 8]).collect();
    let images = ebm_runtime::Images::from_bytes(shape, &bytes).unwrap();
    bench.file(
        name,
        &encode_picture(&images, 0, PictureEncoding::Png).unwrap(),
    );
}

/// The first row of what was written.
fn row(bench: &Workbench, name: &str, shape: ebm_runtime::ImageShape) -> Vec<u8> {
    let image = read_picture(bench.path(name), shape).unwrap().to_bytes(0);
    image[..8 * shape.channels].to_vec()
}

#[test]
fn sizes_and_colours_change_only_as_is_asked_and_refusals_name_the_option() {
    let bench = Workbench::new();
    wide(&bench, "wide.png");
    bench.image("grey.png", GREY, 90);
    bench.image("colour.png", COLOUR, 90);
    // A red pixel, so that it is not a grey picture in colour.
    let mut bytes = [90; 192];
    bytes[1] = 0;
    let red = ebm_runtime::Images::from_bytes(COLOUR, &bytes).unwrap();
    bench.file(
        "red.png",
        &encode_picture(&red, 0, PictureEncoding::Png).unwrap(),
    );
    /// Model, picture and options; then the first pixels, or what the refusal says.
    type Case<'a> = (&'a str, &'a str, &'a [&'a str], Result<&'a [u8], &'a str>);
    let cases: [Case<'_>; 11] = [
        (
            "digits",
            "wide.png",
            &[],
            Err("--crop, --resize or --padding"),
        ),
        (
            "digits",
            "wide.png",
            &["--colour"],
            Err("--crop, --resize or --padding"),
        ),
        // The square in the middle is of the columns 4 to 19.
        (
            "digits",
            "wide.png",
            &["--crop", "centre"],
            Ok(&[20, 33, 107, 120, 120, 133, 207, 220]),
        ),
        (
            "digits",
            "wide.png",
            &["--crop"],
            Ok(&[20, 33, 107, 120, 120, 133, 207, 220]),
        ),
        (
            "digits",
            "wide.png",
            &["--resize"],
            Ok(&[20, 20, 53, 120, 120, 187, 220, 220]),
        ),
        ("digits", "colour.png", &["--colour"], Ok(&[90; 8])),
        (
            "digits",
            "red.png",
            &[],
            Err("to grey (`PictureFit`, --colour)"),
        ),
        ("digits", "red.png", &["--color"], Ok(&[25, 90, 90])),
        (
            "colour",
            "grey.png",
            &[],
            Err("to RGB (`PictureFit`, --colour)"),
        ),
        ("colour", "grey.png", &["--colour"], Ok(&[90; 24])),
        (
            "colour",
            "wide.png",
            &["--resize", "--crop", "center"],
            Err("--colour"),
        ),
    ];
    for (model, name, arguments, wanted) in cases {
        let shape = if model == "digits" { GREY } else { COLOUR };
        let mut command = bench.purify(&["run", name, "-o", "out", "--force", "--model"]);
        command.arg(fixture(model)).args(STILL).args(arguments);
        match wanted {
            Err(part) => {
                command
                    .assert()
                    .code(1)
                    .stderr(contains(name).and(contains(part)));
            }
            Ok(wanted) => {
                command.assert().success();
                let row = row(&bench, &format!("out/{name}"), shape);
                for (got, wanted) in row.iter().zip(wanted) {
                    assert!(got.abs_diff(*wanted) <= 12, "{name} {arguments:?}: {row:?}");
                }
            }
        }
    }
}

#[test]
fn standard_input_is_fitted_too_and_can_be_classified() {
    let bench = Workbench::new();
    wide(&bench, "wide.png");
    let wide = bench.bytes("wide.png");
    let output = bench
        .run(&["-", "-o", "-", "--crop", "centre"])
        .write_stdin(wide.clone())
        .output()
        .unwrap();
    assert!(output.status.success());
    assert_eq!(
        ebm_runtime::decode_picture(&output.stdout, GREY)
            .unwrap()
            .len(),
        1
    );
    bench
        .run(&["-", "-o", "-"])
        .write_stdin(wide.clone())
        .assert()
        .code(1)
        .stderr(contains("`-`: the image has another size"));

    let upper = std::fs::read(bench.upper("up.png")).unwrap();
    let classify = |arguments: &[&str], input: &[u8]| {
        let mut command = bench.purify(&["classify"]);
        command
            .args(arguments)
            .arg("--model")
            .arg(fixture("digits"));
        command.write_stdin(input.to_vec()).assert()
    };
    classify(&["-"], &upper)
        .success()
        .stdout("-\t0\t0\t1.000\n");
    classify(&["up.png", "-"], &upper)
        .success()
        .stdout("up.png\t0\t0\t1.000\n-\t0\t0\t1.000\n");
    classify(&["-"], &wide)
        .code(1)
        .stderr(contains("left out: `-`: "));
    classify(&["-", "--resize"], &wide).success();
    classify(&["-"], b"")
        .code(1)
        .stderr(contains("`-`: the image is an empty file"));
    classify(&["-", "-"], &upper)
        .code(1)
        .stderr(contains("read only once"));
    let array = crate::workbench::npy("|u1", "(2, 8, 8)", &[9; 128]);
    classify(&["-"], &array)
        .success()
        .stdout(contains("-#0\t").and(contains("-#1\t")));
}

/// What is not selected is written as it was, but as large as the others.
#[test]
fn what_stays_unpurified_is_fitted_like_the_rest() {
    let bench = Workbench::new();
    wide(&bench, "in/0.png");
    wide(&bench, "in/1.png");
    bench.image("in/2.png", GREY, 200);
    bench
        .run(&["in", "-o", "out", "--filter-top", "1%", "--resize"])
        .assert()
        .success()
        .stderr(contains("purified 1 of 3 images into `out`, 2 unchanged"));
    for name in ["0.png", "1.png", "2.png"] {
        assert_eq!(bench.read(&format!("out/{name}"), GREY).len(), 1, "{name}");
    }
    assert_eq!(bench.bytes("out/2.png"), bench.bytes("in/2.png"));
    bench
        .run(&["in", "-o", "out", "--filter-top", "1%", "--crop"])
        .assert()
        .code(1)
        .stderr(contains("other settings: fit was "));
}

#[test]
fn hidden_files_are_left_out_and_links_followed() {
    let bench = Workbench::new();
    bench.image("in/a.png", GREY, 90);
    bench.file("in/._a.png", b"\0\x05\x16\x07");
    bench.image("in/.ipynb_checkpoints/a.png", GREY, 90);
    bench.image("in/@eaDir/a.png", GREY, 90);
    bench.file("in/b.gif", b"GIF89a");
    bench
        .run(&["in", "-o", "out"])
        .assert()
        .success()
        .stderr(contains("purified 1 of 1").and(contains("not read (1 *.gif)")));
    bench
        .run(&["in/*", "-o", "pattern", "--force"])
        .assert()
        .code(3)
        .stderr(contains("purified 1 of 2").and(contains("left out: `in/b.gif`")));
    // What is given by its name is read.
    bench
        .run(&["in/@eaDir", "-o", "named"])
        .assert()
        .success()
        .stderr(contains("purified 1 of 1"));
}
