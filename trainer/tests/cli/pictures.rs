//! Pictures on disk: learning from them, damage, loss, and `trainer data check`.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use image::{Rgb, RgbImage};
use predicates::str::contains;

use crate::common::{assert_same_checkpoint, refused, trainer};

/// A picture that no other number gives.
fn picture(number: u32) -> RgbImage {
    RgbImage::from_fn(20 + number % 7, 18 + number % 5, |x, y| {
        let value = |factor: u32| ((x * factor + y * 7 + number * 31) % 256) as u8;
        Rgb([value(3), value(11), value(5)])
    })
}

/// A folder of pictures of all formats in two folders of classes.
pub fn folder(n: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..n {
        let class = folder.path().join(["cat", "dog"][number as usize % 2]);
        fs::create_dir_all(&class).unwrap();
        let format = ["png", "jpg", "webp"][number as usize % 3];
        let path = class.join(format!("{number}.{format}"));
        picture(number).save(path).unwrap();
    }
    folder
}

/// Learns from pictures under random crops.
pub const FROM_PICTURES: &str = "--set data.source=images --set data.n_classes=1 --set data.n_test=0 --set data.mirror=half --set data.buffer=5 \
    --set data.crop={random={area=[0.3,1.0],aspect=[0.75,1.33]}}";

/// Makes `fit cifar10-midrun-data` a matter of moments.
const TINY: &str = "--set network.image_size=8 --set network.widths=[2,2] --set network.pools=[true,true] --set learning.batch=6 \
    --set chains.bank=8 --set langevin.steps=1 --set output.log_every=1 --set output.checkpoint_every=20 --set output.sample_every=0";

fn fit(data: &Path, run: &Path, more: &str) -> assert_cmd::Command {
    let (data, run) = (data.display(), run.display());
    trainer(&format!(
        "fit cifar10-midrun-data --data {data} {FROM_PICTURES} {TINY} {more} -o {run}"
    ))
}

/// Waits until a run has logged that many lines.
fn wait_for_lines(run: &Path, n_lines: usize) {
    let start = Instant::now();
    let n_logged =
        || fs::read_to_string(run.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
    while n_logged() < n_lines {
        assert!(
            start.elapsed() < Duration::from_secs(120),
            "the run does not get on"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn started(command: &assert_cmd::Command) -> Child {
    Command::new(command.get_program())
        .env("OMP_NUM_THREADS", "1")
        .args(command.get_args())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_run_that_loses_its_folder_goes_on_where_it_has_moved_with_the_same_result() {
    let (data, runs) = (folder(23), tempfile::tempdir().unwrap());
    let [whole, halves, moved] = ["whole", "halves", "moved"].map(|name| runs.path().join(name));
    let move_it = |from: &Path, to: &Path| fs::rename(from, to).unwrap();
    let updates = "--set learning.updates=120";
    move_it(data.path(), &moved);
    fit(&moved, &whole, &format!("{updates} --threads 1"))
        .assert()
        .success();

    move_it(&moved, data.path());
    let run = started(&fit(
        data.path(),
        &halves,
        &format!("{updates} --threads 3"),
    ));
    wait_for_lines(&halves, 45);
    move_it(data.path(), &moved);
    let output = run.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for piece in [
        "cannot be reached any more",
        "trainer resume",
        "its last checkpoint is as it was",
    ] {
        assert!(text.contains(piece), "expected {piece:?} in: {text}");
    }
    let (halves_path, moved) = (halves.display(), moved.display());
    trainer(&format!("resume {halves_path} --data {moved} --threads 2"))
        .assert()
        .success();
    assert_same_checkpoint(&whole, &halves, 120);
}

#[test]
fn damage_is_named_and_put_up_with_to_a_share() {
    let (data, runs) = (folder(12), tempfile::tempdir().unwrap());
    fs::write(data.path().join("cat/4.jpg"), b"").unwrap();
    let run = runs.path().join("run");
    let updates = "--threads 2 --set learning.updates=4";
    fit(
        data.path(),
        &run,
        &format!("{updates} --set data.max_damaged=0.1"),
    )
    .assert()
    .success()
    .stderr(contains(
        "cat/4.jpg is an empty file; another takes its place",
    ));
    refused(
        &mut fit(data.path(), &run, &format!("{updates} --force")),
        &[
            "1 of 12 pictures",
            "cat/4.jpg is an empty file",
            "data.max_damaged = 0.01",
        ],
    );
}

#[test]
fn a_classifier_learns_from_folders_of_classes() {
    let (data, runs) = (folder(16), tempfile::tempdir().unwrap());
    let classifier = |more: &str| {
        let (data, run) = (data.path().display(), runs.path().join("run"));
        trainer(&format!(
            "classifier cifar10-classifier-small --data {data} --threads 1 --set data.source=images --set data.crop=centre \
             --set network.image_size=8 --set network.widths=[2,2,2] --set learning.batch=4 --set learning.updates=3 {more} -o {}",
            run.display()
        ))
    };
    let two = "--set data.n_classes=2 --set network.n_classes=2";
    classifier(&format!("{two} --set data.n_test=6"))
        .assert()
        .success()
        .stdout(contains("n = 6"));
    refused(
        &mut classifier(&format!("{two} --force")),
        &["no images to test a classifier on", "data.n_test"],
    );
    fs::create_dir(data.path().join("newt")).unwrap();
    picture(1).save(data.path().join("newt/1.png")).unwrap();
    refused(
        &mut classifier(&format!("{two} --force")),
        &["have 3 classes, data.n_classes is 2"],
    );
}

#[test]
fn presets_of_pictures_say_what_they_miss() {
    refused(
        &mut trainer("fit celeba64-shortrun"),
        &["data.source = \"images\"", "--data DIR"],
    );
    refused(
        &mut trainer("fit celeba64-shortrun --data /nowhere"),
        &["cannot read /nowhere"],
    );
    let empty = tempfile::tempdir().unwrap();
    for (source, wanted) in [
        ("images", "*.png"),
        ("tar", "*.tar"),
        ("parquet", "*.parquet"),
    ] {
        let data = empty.path().display();
        refused(
            &mut trainer(&format!(
                "fit celeba64-shortrun --data {data} --set data.source={source}"
            )),
            &["no data in", wanted],
        );
    }
}

#[test]
fn data_check_says_what_is_there() {
    let data = folder(12);
    fs::copy(
        data.path().join("cat/0.png"),
        data.path().join("dog/13.png"),
    )
    .unwrap();
    let path = data.path().display();
    let sheet = data.path().with_extension("png");
    trainer(&format!("data check {path} -o {}", sheet.display()))
        .assert()
        .success()
        .stdout(contains("data.source = \"images\""))
        .stdout(contains("train: 13 images (13 in colour, 0 grey)"))
        .stdout(contains("classes (2): cat: 6; dog: 7"))
        .stdout(contains("cat/0.png = "));
    assert!(image::open(&sheet).unwrap().width() > 100);
    fs::write(&sheet, b"old").unwrap();
    trainer(&format!("data check {path} -o {} --force", sheet.display()))
        .assert()
        .success();
    assert!(image::open(&sheet).unwrap().width() > 100);
    fs::remove_file(sheet).unwrap();

    let output = trainer(&format!("data check {path} --json"))
        .output()
        .unwrap();
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["parts"][0]["n_images"], 13);
    assert_eq!(found["parts"][0]["classes"][1]["name"], "dog");
    assert_eq!(found["parts"][0]["mean"].as_array().unwrap().len(), 3);

    fs::write(data.path().join("dog/bad.webp"), b"RIFF").unwrap();
    let command = || trainer(&format!("data check {path}"));
    refused(&mut command(), &["1 of 14 images", "data.max_damaged"]);
    command()
        .assert()
        .failure()
        .stdout(contains("dog/bad.webp "));
    trainer(&format!("data check {path} --max-damaged 0.2"))
        .assert()
        .success();
}

#[test]
fn data_check_compares_with_a_preset() {
    trainer("data check digits-midrun")
        .assert()
        .success()
        .stdout(contains("train: 1397 images (0 in colour, 1397 grey)"))
        .stderr(contains("the data fit digits-midrun"));
    let data = folder(4);
    let path = data.path().display();
    trainer(&format!("data check celeba64-shortrun --data {path}"))
        .assert()
        .success()
        .stderr(contains("the data fit celeba64-shortrun"));
    refused(
        &mut trainer(&format!(
            "data check cifar10-midrun-data --source images --data {path}"
        )),
        &["pixels, expected 32×32", "data.crop = \"centre\""],
    );
    refused(
        &mut trainer("data check /nowhere"),
        &["/nowhere", "is not a folder either"],
    );
    refused(
        &mut trainer(&format!("data check {path} --data {path}")),
        &["give one of the two"],
    );
    let empty = tempfile::tempdir().unwrap();
    refused(
        &mut trainer(&format!("data check {}", empty.path().display())),
        &["no data in"],
    );
}
