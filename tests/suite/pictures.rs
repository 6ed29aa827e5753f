//! One table of files through all that reads pictures: each command takes, counts as damaged and passes over the same ones, and sees the same
//! pixels. `docs/pictures.md` states the rules.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ebm_runtime::{
    ImageShape, Images, PictureColours, PictureCrop, PictureEncoding, PictureFit, encode_picture,
    read_picture_fitted,
};
use serde_json::Value;

use crate::programs::program;

/// What is expected of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lot {
    Taken,
    Damaged,
    PassedOver,
}
use Lot::{Damaged, PassedOver, Taken};

/// Of the files in the table, all of which are in the folder `cat` or below it.
const SHAPE: ImageShape = ImageShape {
    channels: 3,
    height: 16,
    width: 16,
};

/// Files of the crate `ebm-common` by their names there and in the table.
const FIXTURES: &[(&str, &str, Lot)] = &[
    ("palette.png", "palette.png", Taken),
    ("palette_transparent.png", "transparent.png", Taken),
    ("deep.png", "deep.png", Taken),
    ("cmyk.jpg", "cmyk.jpg", Taken),
    ("progressive.jpg", "progressive.jpeg", Taken),
    ("moving_photo.jpg", "moving_photo.jpg", Taken),
    ("named_wrongly.png", "named_wrongly.png", Taken),
    ("note_behind.png", "note_behind.png", Taken),
    ("checksum.png", "checksum.png", Damaged),
    ("bomb.png", "bomb.png", Damaged),
    ("animated.png", "animated.png", Damaged),
    ("animated.webp", "animated.webp", Damaged),
    ("colour.gif", "colour.png", Damaged),
    ("colour.gif", "colour.gif", PassedOver),
    ("palette.png", "._palette.png", PassedOver),
    ("palette.png", ".ipynb_checkpoints/a.png", PassedOver),
    ("palette.png", "__MACOSX/a.png", PassedOver),
    ("palette.png", "@eaDir/a.png", PassedOver),
    ("palette.png", "Thumbs.db", PassedOver),
    ("palette.png", "palette", PassedOver),
];

fn image(channels: usize) -> Images {
    let shape = ImageShape { channels, ..SHAPE };
    let bytes = (0..shape.n_values()).map(|i| (i * 7 % 200) as u8);
    Images::from_bytes(shape, &bytes.collect::<Vec<u8>>()).unwrap()
}

/// A JPEG file whose camera was held in some way: the note stands behind the marker of the beginning.
fn turned(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let note = b"\xff\xe1\0\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".as_slice();
    let value = [orientation, 0, 0, 0, 0, 0, 0, 0];
    [&jpeg[..2], note, &value, &jpeg[2..]].concat()
}

/// The table as a folder of two classes, and what is expected of each file.
fn table(folder: &Path) -> Vec<(PathBuf, Lot)> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../common/tests/fixtures");
    let mut files: Vec<(String, Vec<u8>, Lot)> = FIXTURES
        .iter()
        .map(|(from, to, lot)| (to.to_string(), fs::read(fixtures.join(from)).unwrap(), *lot))
        .collect();
    let encoded = |channels, encoding| encode_picture(&image(channels), 0, encoding).unwrap();
    let jpeg = encoded(3, PictureEncoding::Jpeg { quality: 95 });
    let png = encoded(3, PictureEncoding::Png);
    let webp = encoded(3, PictureEncoding::WebP);
    for orientation in 1..=8 {
        let name = format!("turned_{orientation}.jpg");
        files.push((name, turned(&jpeg, orientation), Taken));
    }
    let mut file = |name: &str, bytes: &[u8], lot| {
        files.push((name.to_string(), bytes.to_vec(), lot));
    };
    file("grey.png", &encoded(1, PictureEncoding::Png), Taken);
    file("grey.webp", &encoded(1, PictureEncoding::WebP), Taken);
    file("deep/er/loud.PNG", &png, Taken);
    file("half.jpg", &jpeg[..jpeg.len() / 2], Damaged);
    file("half.png", &png[..png.len() / 2], Damaged);
    file("half.webp", &webp[..webp.len() / 2], Damaged);
    file("without_end.jpg", &jpeg[..jpeg.len() - 2], Damaged);
    file("without_end.png", &png[..png.len() - 12], Damaged);
    file("without_end.webp", &webp[..webp.len() - 1], Damaged);
    file("empty.png", b"", Damaged);
    file("words.jpg", b"404 not found", Damaged);
    file("notes.txt", b"cats", PassedOver);
    let mut expected = Vec::new();
    for (name, bytes, lot) in files {
        let path = folder.join("cat").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        expected.push((path, lot));
    }
    link(folder, &mut expected);
    expected
}

/// Links to a picture, to nothing, to a class elsewhere, and back.
#[cfg(unix)]
fn link(folder: &Path, expected: &mut Vec<(PathBuf, Lot)>) {
    use std::os::unix::fs::symlink;
    let store = folder.with_extension("store");
    fs::create_dir(&store).unwrap();
    fs::copy(folder.join("cat/grey.png"), store.join("blob")).unwrap();
    fs::copy(folder.join("cat/grey.png"), store.join("0.png")).unwrap();
    for (target, name, lot) in [
        (store.join("blob"), "cat/linked.png", Taken),
        (PathBuf::from("nowhere"), "cat/nowhere.png", Damaged),
        (PathBuf::from("nowhere"), "newt", PassedOver),
        (PathBuf::from(".."), "cat/back", PassedOver),
    ] {
        symlink(target, folder.join(name)).unwrap();
        expected.push((folder.join(name), lot));
    }
    symlink(&store, folder.join("dog")).unwrap();
    expected.push((folder.join("dog/0.png"), Taken));
}

#[cfg(not(unix))]
fn link(_: &Path, _: &mut Vec<(PathBuf, Lot)>) {}

fn of_lot(expected: &[(PathBuf, Lot)], wanted: Lot) -> BTreeSet<String> {
    let files = expected.iter().filter(|(_, lot)| *lot == wanted);
    files
        .map(|(path, _)| path.to_string_lossy().into_owned())
        .collect()
}

/// The files that lines of this beginning name, up to the next blank.
fn named(text: &str, beginning: &str) -> BTreeSet<String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(beginning));
    let names = lines.filter_map(|line| line.split(' ').next());
    names
        .map(|name| name.trim_matches(['`', ':']).to_string())
        .collect()
}

/// What a program says, on standard output and error, with its exit code.
fn said(folder: &Path, name: &str, arguments: &[&str]) -> (String, String, Option<i32>) {
    let mut command = program(name);
    command.current_dir(folder).args(arguments);
    let output = command
        .env("EBM_CACHE_DIR", folder.join("cache"))
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        text(&output.stdout),
        text(&output.stderr),
        output.status.code(),
    )
}

fn converted(crop: PictureCrop) -> PictureFit {
    PictureFit {
        crop,
        colours: PictureColours::Converted,
    }
}

#[test]
fn all_that_reads_pictures_reads_them_in_the_same_way() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let data = root.join("data");
    let expected = table(&data);
    let (taken, damaged) = (of_lot(&expected, Taken), of_lot(&expected, Damaged));
    let data = data.to_str().unwrap();

    let exact = converted(PictureCrop::Off);
    let mut sum = 0.0;
    for (path, lot) in &expected {
        let image = read_picture_fitted(path, SHAPE, exact);
        match lot {
            Taken => {
                let bytes = image.unwrap().image.to_bytes(0);
                sum += bytes.iter().map(|byte| f64::from(*byte)).sum::<f64>();
            }
            Damaged => assert!(image.is_err(), "{}", path.display()),
            PassedOver => {}
        }
    }
    let mean = sum / (255 * SHAPE.n_values() * taken.len()) as f64;

    let arguments = ["data", "check", data, "--json", "--max-damaged", "1"];
    let (out, errors, code) = said(&root, "trainer", &arguments);
    assert_eq!(code, Some(0), "{errors}");
    let part = &serde_json::from_str::<Value>(&out).unwrap()["parts"][0];
    assert_eq!(part["n_images"], taken.len() + damaged.len(), "{part}");
    let found = part["damaged"].as_array().unwrap().iter();
    let found: BTreeSet<String> = found.map(|d| d["name"].as_str().unwrap().into()).collect();
    assert_eq!(found, damaged, "trainer data check");
    assert_eq!(
        (&part["n_deep"], &part["n_transparent"]),
        (&1.into(), &1.into())
    );
    let means = part["mean"].as_array().unwrap();
    let got = means.iter().map(|mean| mean.as_f64().unwrap()).sum::<f64>() / 3.0;
    assert!((got - mean).abs() < 1e-9, "{got}, by the library {mean}");
    if cfg!(unix) {
        for part in [
            "data/newt`: it is a link to something",
            "cat/back`: it is a link to a folder",
        ] {
            assert!(errors.contains(part), "{errors}");
        }
        assert_eq!(part["classes"].as_array().unwrap().len(), 2, "{part}");
    }

    // One update meets every picture.
    let batch = format!("learning.batch={}", taken.len() + damaged.len());
    let run = root.join("run");
    let mut arguments = vec![
        "fit",
        "cifar10-midrun-data",
        "--data",
        data,
        "--threads",
        "1",
    ];
    arguments.extend(["-o", run.to_str().unwrap()]);
    for setting in [
        "data.source=images",
        "data.crop=centre",
        "data.n_classes=1",
        "data.n_test=0",
        "data.max_damaged=0.9",
        "network.image_size=8",
        "network.widths=[2,2]",
        "network.pools=[true,true]",
        "langevin.steps=1",
        "chains.bank=64",
        "learning.updates=1",
        "output.sample_every=0",
        &batch,
    ] {
        arguments.extend(["--set", setting]);
    }
    let (_, errors, code) = said(&root, "trainer", &arguments);
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(
        named(&errors, "warning: damaged: "),
        damaged,
        "trainer fit: {errors}"
    );
    assert!(
        errors.contains("deep.png has 16 bits a channel"),
        "{errors}"
    );

    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/tests/fixtures");
    let features = fixtures.join("colour/classifier.onnx");
    let mut arguments = vec![
        "fid",
        "--samples",
        data,
        "--reference",
        data,
        "--resize",
        "8",
    ];
    arguments.extend(["--threads", "1", "--features", features.to_str().unwrap()]);
    let (out, errors, code) = said(&root, "trainer", &arguments);
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(named(&errors, "warning: damaged: "), damaged, "trainer fid");
    assert!(
        out.contains(&format!("n {0} against {0}", taken.len())),
        "{out}"
    );

    let model = fixtures.join("colour");
    let mut arguments = vec!["run", data, "--model", model.to_str().unwrap(), "-o", "out"];
    arguments.extend(["--crop", "centre", "--colour", "--format", "same", "--json"]);
    arguments.extend(["--steps", "1", "--step-size", "1e-6", "--temperature", "1"]);
    let (out, errors, code) = said(&root, "purify", &arguments);
    assert_eq!(code, Some(3), "{errors}");
    let lines = out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let records: Vec<Value> = lines.filter(|line| line["status"].is_string()).collect();
    let of_status = |status: &str| -> BTreeSet<String> {
        let records = records.iter().filter(|record| record["status"] == status);
        let files = records.map(|record| record["file"].as_str().unwrap());
        files.map(str::to_string).collect()
    };
    assert_eq!(of_status("failed"), damaged, "purify");
    assert_eq!(of_status("purified"), taken, "purify");

    // A step of that size changes nothing that a byte shows.
    let small = ImageShape {
        height: 8,
        width: 8,
        ..SHAPE
    };
    for path in taken
        .iter()
        .filter(|path| !path.ends_with("jpg") && !path.ends_with("jpeg"))
    {
        let name = Path::new(path).strip_prefix(data).unwrap();
        let before = read_picture_fitted(path, small, converted(PictureCrop::Centre)).unwrap();
        let after = read_picture_fitted(root.join("out").join(name), small, exact).unwrap();
        let (before, after) = (before.image.to_bytes(0), after.image.to_bytes(0));
        assert!(before == after, "{path}: {before:?} became {after:?}");
    }
    let written = |name: &str| root.join("out/cat").join(name);
    let [upright, turned] = ["turned_1.jpg", "turned_6.jpg"].map(|name| {
        read_picture_fitted(written(name), small, exact)
            .unwrap()
            .image
    });
    for (x, y) in [(1, 1), (6, 1), (1, 6)] {
        // What lies at row y and column x of the file stands at row x of the eighth column from the right.
        let difference = upright.array()[[0, 0, y, x]] - turned.array()[[0, 0, x, 7 - y]];
        assert!(difference.abs() < 0.3, "{difference} at {x}, {y}");
    }
}
