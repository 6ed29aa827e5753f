//! The files that `purify run` reads and writes.

use ebm_runtime::{
    ImageShape, Images, PictureEncoding, PictureFormat, read_picture, write_picture,
};
use ebm_runtime_cli::dataset::{DataSet, FloatRange};
use predicates::prelude::*;
use predicates::str::contains;

use crate::workbench::{COLOUR, GREY, Workbench, fixture, npy};

/// Three images that differ.
fn values() -> Vec<u8> {
    (0..192).map(|i| (i * 5 % 251) as u8).collect()
}

fn idx() -> Vec<u8> {
    [
        &[0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 8, 0, 0, 0, 8],
        values().as_slice(),
    ]
    .concat()
}

/// What the same images become as pictures, which are purified under the same indices.
fn as_pictures(bench: &Workbench) -> Vec<u8> {
    for (i, image) in values().chunks(64).enumerate() {
        let image = Images::from_bytes(GREY, image).unwrap();
        let path = bench.path(&format!("pictures/{i}.png"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_picture(path, &image, 0, PictureEncoding::Png).unwrap();
    }
    bench
        .run(&["pictures", "-o", "as-pictures", "--seed", "2"])
        .assert()
        .success();
    let read = |i| {
        bench
            .read(&format!("as-pictures/{i}.png"), GREY)
            .to_bytes(0)
    };
    (0..3).flat_map(read).collect()
}

#[test]
fn files_of_many_images_become_files_of_their_kind_with_the_same_images_as_pictures() {
    let bench = Workbench::new();
    let expected = as_pictures(&bench);
    let floats: Vec<u8> = values()
        .iter()
        .flat_map(|&v| (f32::from(v) / 127.5 - 1.0).to_le_bytes())
        .collect();
    let unit: Vec<u8> = values()
        .iter()
        .flat_map(|&v| (f32::from(v) / 255.0).to_le_bytes())
        .collect();
    let cases: [(&str, Vec<u8>, &[&str]); 5] = [
        ("bytes.npy", npy("|u1", "(3, 8, 8)", &values()), &[]),
        ("floats.npy", npy("<f4", "(3, 1, 8, 8)", &floats), &[]),
        (
            "unit.npy",
            npy("<f4", "(3, 8, 8, 1)", &unit),
            &["--range", "0,1"],
        ),
        ("t10k-images-idx3-ubyte", idx(), &[]),
        ("images.idx", idx(), &[]),
    ];
    for (name, bytes, arguments) in cases {
        bench.file(name, &bytes);
        let mut command = bench.run(&[name, "-o", "out", "--force", "--seed", "2"]);
        command
            .args(arguments)
            .assert()
            .success()
            .stderr(contains("purified 3 of 3"));
        let written = bench.bytes(&format!("out/{name}"));
        assert_eq!(written.len(), bytes.len(), "{name}");
        let n_header = bytes.len() % 192;
        assert_eq!(written[..n_header], bytes[..n_header], "{name}: the header");
        let range = match arguments {
            [] => FloatRange::default(),
            _ => FloatRange::new(0.0, 1.0).unwrap(),
        };
        let data_set = DataSet::open(bench.path(&format!("out/{name}")), GREY, range).unwrap();
        let images = data_set
            .records(0)
            .unwrap()
            .map(|record| record.unwrap().image.unwrap());
        let got: Vec<u8> = images.flat_map(|image| image.to_bytes(0)).collect();
        assert_eq!(got, expected, "{name}");
    }
    assert!(
        bench.list("out").iter().all(|name| !name.starts_with('.')),
        "no spool stays"
    );
}

/// A model of 8×8 that learned images of 6×6 with a black border, as those of MNIST do.
#[test]
fn padded_images_are_purified_within_their_border_and_written_without_it() {
    let bench = Workbench::new();
    let inner: Vec<u8> = (0..108).map(|i| (i * 7 % 251) as u8).collect();
    let header = |extent| [0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, extent, 0, 0, 0, extent];
    bench.file("small-idx3-ubyte", &[&header(6), inner.as_slice()].concat());
    let small = Images::from_bytes(ImageShape::new(1, 6, 6), &inner).unwrap();
    let padded = small.padded(1);
    let bordered: Vec<u8> = (0..3).flat_map(|i| padded.to_bytes(i)).collect();
    bench.file(
        "large-idx3-ubyte",
        &[&header(8), bordered.as_slice()].concat(),
    );
    let picture = Images::from_bytes(ImageShape::new(1, 6, 6), &inner[..36]).unwrap();
    write_picture(bench.path("small.png"), &picture, 0, PictureEncoding::Png).unwrap();
    let options = ["-o", "out", "--seed", "2", "--force"];
    for (name, padding) in [
        ("large-idx3-ubyte", "0"),
        ("small-idx3-ubyte", "1"),
        ("small.png", "1"),
    ] {
        let mut command = bench.run(&[name, "--padding", padding]);
        command.args(options).assert().success();
    }
    let large = Images::from_bytes(GREY, &bench.bytes("out/large-idx3-ubyte")[16..]).unwrap();
    let within: Vec<u8> = (0..3).flat_map(|i| large.unpadded(1).to_bytes(i)).collect();
    assert_eq!(bench.bytes("out/small-idx3-ubyte")[16..], within);
    let picture = bench.read("out/small.png", ImageShape::new(1, 6, 6));
    assert_eq!(picture.to_bytes(0), within[..36]);
    for (command, rest) in [
        ("classify", ["--seed", "2", "--replicas", "2"].as_slice()),
        (
            "certify",
            &["--seed", "2", "--sigma", "0.1", "--n0", "10", "--n", "20"],
        ),
    ] {
        let answers = |name: &str, padding: &str| {
            let mut process = bench.purify(&[command, name, "--padding", padding, "--model"]);
            let output = process.arg(fixture("digits")).args(rest).assert().success();
            let output = String::from_utf8(output.get_output().stdout.clone()).unwrap();
            // Without the last column of certificates: an ℓ∞ radius depends on the number of pixels that may change.
            let lines = output.lines();
            let fields = lines.flat_map(|line| line.split('\t').skip(1).take(3));
            fields.map(str::to_owned).collect::<Vec<_>>()
        };
        let (small, large) = (
            answers("small-idx3-ubyte", "1"),
            answers("large-idx3-ubyte", "0"),
        );
        assert_eq!(small, large, "{command}");
        assert_eq!(small.len(), 9, "{command}");
    }
    bench
        .run(&["small-idx3-ubyte", "-o", "none"])
        .assert()
        .code(1)
        .stderr(contains("give --padding 1"));
    bench
        .run(&["small-idx3-ubyte", "-o", "none", "--padding", "4"])
        .assert()
        .code(1)
        .stderr(contains("--padding 4: the model's images are [1, 8, 8]"));
}

/// Written by numpy's rules here, and read by numpy itself where there is one.
#[test]
fn npz_files_keep_their_other_arrays() {
    let bench = Workbench::new();
    let script = "import numpy as np\n\
        x = (np.arange(192).reshape(3, 8, 8) * 5 % 251).astype('u1')\n\
        np.savez_compressed('x.npz', x_train=x, y_train=np.arange(3), x_test=x[:2, :, :, None].astype('f4') / 127.5 - 1)\n";
    let python = |script: &str| {
        std::process::Command::new("python3")
            .args(["-c", script])
            .current_dir(bench.path(""))
            .output()
    };
    if !python("import numpy").is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: python3 has no numpy");
        return;
    }
    assert!(python(script).unwrap().status.success());
    bench
        .run(&["x.npz", "-o", "out"])
        .assert()
        .success()
        .stderr(contains("purified 5 of 5"));
    let check = "import numpy as np\n\
        a, b = np.load('x.npz'), np.load('out/x.npz')\n\
        assert a.files == b.files, b.files\n\
        for k in a.files: assert a[k].dtype == b[k].dtype and a[k].shape == b[k].shape, k\n\
        assert (a['y_train'] == b['y_train']).all()\n\
        assert (a['x_train'] != b['x_train']).mean() > 0.9\n\
        assert (a['x_test'] != b['x_test']).mean() > 0.9\n\
        assert abs(b['x_test']).max() <= 1\n";
    let output = python(check).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn jpeg_pictures_become_png_and_webp_stays() {
    let bench = Workbench::new();
    let image = Images::from_bytes(COLOUR, &[90; 192]).unwrap();
    std::fs::create_dir(bench.path("in")).unwrap();
    for (name, encoding) in [
        ("a.jpg", PictureEncoding::Jpeg { quality: 95 }),
        ("b.webp", PictureEncoding::WebP),
        ("c.PNG", PictureEncoding::Png),
    ] {
        write_picture(bench.path("in").join(name), &image, 0, encoding).unwrap();
    }
    let run = |output: &str, arguments: &[&str]| {
        let mut command = bench.purify(&["run", "in", "-o", output, "--model"]);
        command
            .arg(fixture("colour"))
            .args(arguments)
            .assert()
            .success();
    };
    let format = |name: &str| PictureFormat::of_bytes(&bench.bytes(name)).unwrap();
    run("out", &["--seed", "2"]);
    assert_eq!(bench.list("out"), ["a.png", "b.webp", "c.PNG"]);
    assert_eq!(format("out/a.png"), PictureFormat::Png);
    assert_eq!(format("out/b.webp"), PictureFormat::WebP);
    run("same", &["--format", "same", "--seed", "2"]);
    assert_eq!(bench.list("same"), ["a.jpg", "b.webp", "c.PNG"]);
    assert_eq!(format("same/a.jpg"), PictureFormat::Jpeg);
    // Without loss: the same pixels, whatever the format.
    let read = |name: &str| read_picture(bench.path(name), COLOUR).unwrap();
    assert_eq!(read("out/b.webp"), read("same/b.webp"));
    assert_ne!(read("out/b.webp"), image);
}

#[test]
fn a_grey_model_takes_a_grey_webp() {
    let bench = Workbench::new();
    let image = Images::from_bytes(GREY, &[90; 64]).unwrap();
    write_picture(bench.path("a.webp"), &image, 0, PictureEncoding::WebP).unwrap();
    bench.run(&["a.webp", "-o", "out"]).assert().success();
    let after = read_picture(bench.path("out/a.webp"), GREY).unwrap();
    assert_ne!(after, image);
}

#[test]
fn two_pictures_that_differ_in_their_format_only_are_told_apart() {
    let bench = Workbench::new();
    let image = Images::from_bytes(GREY, &[90; 64]).unwrap();
    bench.image("in/a.png", GREY, 3);
    write_picture(
        bench.path("in/a.jpg"),
        &image,
        0,
        PictureEncoding::Jpeg { quality: 90 },
    )
    .unwrap();
    bench
        .run(&["in", "-o", "out"])
        .assert()
        .code(1)
        .stderr(contains(
            "`in/a.jpg` and `in/a.png` would both be written to `out/a.png`",
        ));
    bench
        .run(&["in", "-o", "out", "--format", "same"])
        .assert()
        .success();
    assert_eq!(bench.list("out"), ["a.jpg", "a.png"]);
}

#[test]
fn bad_images_within_arrays_stay_as_they_were() {
    let bench = Workbench::new();
    let mut floats = vec![0.25_f32; 192];
    (floats[70], floats[130]) = (f32::NAN, 255.0);
    let bytes: Vec<u8> = floats.iter().flat_map(|v| v.to_le_bytes()).collect();
    bench.file("x.npy", &npy("<f4", "(3, 8, 8)", &bytes));
    bench.run(&["x.npy", "-o", "out"]).assert().code(3).stderr(
        contains(
            "left as it was: `x.npy#1`: the image has a bad pixel: expected finite values, got NaN",
        )
        .and(contains(
            "`x.npy#2`: a pixel lies outside the range: expected values from -1 to 1, got 255",
        ))
        .and(contains("purified 1 of 3 images into `out`, 2 failed")),
    );
    let written = bench.bytes("out/x.npy");
    let start = written.len() - bytes.len();
    assert_eq!(written[start + 256..], bytes[256..]);
    assert_ne!(written[start..start + 256], bytes[..256]);
}

#[test]
fn arrays_that_are_no_images_are_refused_with_the_way_out() {
    let bench = Workbench::new();
    let cases: [(&str, Vec<u8>, &str); 7] = [
        (
            "a.npy",
            npy("<f8", "(1, 8, 8)", &[0; 512]),
            "convert it with numpy's `astype`",
        ),
        (
            "b.npy",
            npy("|u1", "(1, 9, 9)", &[0; 81]),
            "expected [N, 8, 8], [N, 1, 8, 8] or [N, 8, 8, 1], got [1, 9, 9]",
        ),
        (
            "c.npy",
            npy("|u1", "(3, 8, 8)", &[0; 100]),
            "expected 265 bytes for 3 images",
        ),
        (
            "d.npz",
            b"PK\x03\x04".to_vec(),
            "not a whole npz (zip) file",
        ),
        (
            "e-idx3-ubyte",
            idx()[..50].to_vec(),
            "another length than its header says",
        ),
        (
            "data_batch_1.bin",
            vec![0; 3073],
            "CIFAR's images have another shape than the model's: expected [1, 8, 8], got [3, 32, 32]",
        ),
        (
            "labels-idx1-ubyte",
            vec![0, 0, 8, 1, 0, 0, 0, 1, 7],
            "got an IDX file of labels",
        ),
    ];
    for (name, bytes, message) in cases {
        bench.file(name, &bytes);
        bench
            .run(&[name, "-o", "out"])
            .assert()
            .code(1)
            .stderr(contains(format!("left out: `{name}`: ")).and(contains(message)));
    }
    assert!(bench.list("out").is_empty());
}

#[test]
fn cifar_batches_keep_their_labels() {
    let bench = Workbench::new();
    let record = |labels: &[u8]| [labels, &[100; 3072]].concat();
    for (name, labels) in [
        ("data_batch_1.bin", [7].as_slice()),
        ("train.bin", &[19, 99]),
    ] {
        let bytes = record(labels).repeat(3);
        bench.file(&format!("in/{name}"), &bytes);
        let mut command = bench.purify(&["run", "in", "-o", "out", "--force", "--model"]);
        command.arg(fixture("cifar")).assert().success();
        let written = bench.bytes(&format!("out/{name}"));
        assert_eq!(written.len(), bytes.len());
        for record in written.chunks(bytes.len() / 3) {
            assert_eq!(&record[..labels.len()], labels, "{name}");
            // The minimum of the energy is brighter than the images.
            let mean = record[labels.len()..]
                .iter()
                .map(|&v| u64::from(v))
                .sum::<u64>()
                / 3072;
            assert!((110..192).contains(&mean), "{name}: {mean}");
        }
    }
}

#[test]
fn patterns_are_expanded_where_the_shell_did_not() {
    let bench = Workbench::new();
    for name in ["in/x/a.png", "in/y/b.png", "in/c.png"] {
        bench.image(name, GREY, 90);
    }
    bench.run(&["in/*/*.png", "-o", "out"]).assert().success();
    assert_eq!(bench.list("out"), ["x/a.png", "y/b.png"]);
    bench
        .run(&["in/*.jpeg", "-o", "out2"])
        .assert()
        .code(1)
        .stderr(contains("`in/*.jpeg`: expected images, got none"));
    bench
        .run(&["in/[.png", "-o", "out2"])
        .assert()
        .code(1)
        .stderr(contains("the pattern is not understood"));
}

/// Of floating-point arrays the range that is taken is said, and another one that is likely.
#[test]
fn the_range_of_floating_point_arrays_is_said() {
    let bench = Workbench::new();
    let floats = |value: &dyn Fn(u32) -> f32| -> Vec<u8> {
        (0..192).flat_map(|i| value(i).to_le_bytes()).collect()
    };
    let unit = npy("<f4", "(3, 1, 8, 8)", &floats(&|i| i as f32 / 191.0));
    let centred = npy("<f4", "(3, 1, 8, 8)", &floats(&|i| i as f32 / 95.5 - 1.0));
    let last_below = npy(
        "<f4",
        "(3, 1, 8, 8)",
        &floats(&|i| if i == 191 { -0.01 } else { 0.5 }),
    );
    let warning = "all values lie from 0 to 1";
    for (name, bytes, arguments, said, warned) in [
        ("unit.npy", &unit, &[][..], "from -1,1 (--range)", true),
        (
            "unit.npy",
            &unit,
            &["--range", "0,1"],
            "from 0,1 (--range)",
            false,
        ),
        (
            "unit.npy",
            &unit,
            &["--range=-1,1"],
            "from -1,1 (--range)",
            false,
        ),
        ("centred.npy", &centred, &[], "from -1,1 (--range)", false),
        ("last.npy", &last_below, &[], "from -1,1 (--range)", false),
        ("images.idx", &idx(), &[], "", false),
    ] {
        bench.file(name, bytes);
        for command in [&[name, "-o", "out", "--force"][..], &[name, "-o", "-"]] {
            let output = bench
                .run(command)
                .args(["--steps", "1"])
                .args(arguments)
                .output();
            let output = output.unwrap();
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{text}");
            assert_eq!(
                text.contains(warning),
                warned,
                "{name} {arguments:?}: {text}"
            );
            let is_said = text.contains("floating-point numbers");
            assert_eq!(is_said, !said.is_empty(), "{name} {arguments:?}: {text}");
            assert!(text.contains(said), "expected {said:?} in: {text}");
        }
    }
}
