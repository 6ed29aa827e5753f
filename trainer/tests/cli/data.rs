//! Data files, and those that are refused.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{refused, trainer};

/// An IDX file.
fn idx(magic: u32, sizes: &[u32], data: &[u8]) -> Vec<u8> {
    let words = std::iter::once(&magic).chain(sizes);
    words
        .flat_map(|word| word.to_be_bytes())
        .chain(data.iter().copied())
        .collect()
}

/// A folder as MNIST's, with 12 images for training and 6 for testing.
fn mnist() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (part, n) in [("train", 12u32), ("t10k", 6)] {
        let pixels: Vec<u8> = (0..n * 28 * 28).map(|pixel| (pixel % 251) as u8).collect();
        let labels: Vec<u8> = (0..n).map(|label| (label % 10) as u8).collect();
        fs::write(
            folder.path().join(format!("{part}-images-idx3-ubyte")),
            idx(0x803, &[n, 28, 28], &pixels),
        )
        .unwrap();
        fs::write(
            folder.path().join(format!("{part}-labels-idx1-ubyte")),
            idx(0x801, &[n], &labels),
        )
        .unwrap();
    }
    folder
}

fn fit_mnist(folder: &Path, more: &str) -> assert_cmd::Command {
    trainer(&format!(
        "fit mnist-midrun --data {} --threads 1 --set learning.batch=4 --set chains.bank=6 --set langevin.steps=1 \
         --set network.widths=[2,2] --set network.pools=[true,true] --set learning.updates=2 {more} -o {}",
        folder.display(),
        folder.join("run").display()
    ))
}

fn train_images(folder: &Path) -> PathBuf {
    folder.join("train-images-idx3-ubyte")
}

#[test]
fn idx_files_are_read_plain_and_packed() {
    let folder = mnist();
    fit_mnist(folder.path(), "").assert().success();
    let status = std::process::Command::new("gzip")
        .arg(train_images(folder.path()))
        .status()
        .unwrap();
    assert!(status.success());
    fit_mnist(folder.path(), "--force").assert().success();
}

#[test]
fn a_classifier_learns_from_idx_files() {
    let folder = mnist();
    let (data, run) = (folder.path().display(), folder.path().join("run"));
    let tiny = "--set learning.updates=2 --set network.widths=[2,2,2] --threads 1";
    trainer(&format!(
        "classifier mnist-classifier --data {data} {tiny} -o {}",
        run.display()
    ))
    .assert()
    .success();
}

#[test]
fn a_truncated_file_is_refused() {
    let folder = mnist();
    let bytes = fs::read(train_images(folder.path())).unwrap();
    for length in [0, 3, 15, 16, 100, bytes.len() - 1] {
        fs::write(train_images(folder.path()), &bytes[..length]).unwrap();
        let expected = if length < 4 {
            "is not an IDX file"
        } else {
            "is truncated"
        };
        refused(
            &mut fit_mnist(folder.path(), ""),
            &["train-images-idx3-ubyte", expected, "got"],
        );
    }
}

#[test]
fn a_truncated_gzip_file_is_refused() {
    let folder = mnist();
    let images = train_images(folder.path());
    assert!(
        std::process::Command::new("gzip")
            .arg(&images)
            .status()
            .unwrap()
            .success()
    );
    let packed = images.with_file_name("train-images-idx3-ubyte.gz");
    let bytes = fs::read(&packed).unwrap();
    fs::write(&packed, &bytes[..bytes.len() / 2]).unwrap();
    refused(
        &mut fit_mnist(folder.path(), ""),
        &["train-images-idx3-ubyte.gz", "truncated or damaged"],
    );
}

#[test]
fn a_foreign_file_is_refused() {
    let folder = mnist();
    fs::write(train_images(folder.path()), b"\x89PNG and so on").unwrap();
    refused(
        &mut fit_mnist(folder.path(), ""),
        &[
            "is not an IDX file of images (magic 00000803)",
            "begins with 89504e47",
        ],
    );
}

#[test]
fn a_label_out_of_range_is_refused() {
    let folder = mnist();
    let labels = folder.path().join("t10k-labels-idx1-ubyte");
    fs::write(&labels, idx(0x801, &[6], &[0, 1, 2, 10, 4, 5])).unwrap();
    refused(
        &mut fit_mnist(folder.path(), ""),
        &["the label of image 3 is 10, expected 0 to 9"],
    );
}

#[test]
fn labels_of_another_number_than_images_are_refused() {
    let folder = mnist();
    fs::write(
        folder.path().join("t10k-labels-idx1-ubyte"),
        idx(0x801, &[5], &[0, 1, 2, 3, 4]),
    )
    .unwrap();
    refused(
        &mut fit_mnist(folder.path(), ""),
        &["holds 5 labels, expected 6"],
    );
}

#[test]
fn images_of_another_size_or_channel_count_are_refused() {
    let folder = mnist();
    refused(
        &mut fit_mnist(folder.path(), "--set data.padding=0"),
        &["[1, 28, 28]", "expects [1, 32, 32]", "data.padding"],
    );
    refused(
        &mut fit_mnist(folder.path(), "--set network.channels=3"),
        &["[1, 32, 32]", "expects [3, 32, 32]", "network.channels"],
    );
}

#[test]
fn a_folder_that_is_missing_or_not_named_is_refused() {
    refused(
        &mut trainer("fit mnist-midrun"),
        &["say which with --data DIR"],
    );
    refused(
        &mut trainer("fit mnist-midrun --data /nowhere"),
        &["no data in /nowhere", "train-images-idx3-ubyte"],
    );
    refused(
        &mut trainer("fit cifar10-midrun-data --data /nowhere"),
        &["no data in /nowhere", "data_batch_1.bin"],
    );
}

#[test]
fn a_truncated_cifar_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["data_batch_1.bin", "data_batch_2.bin"] {
        fs::write(folder.path().join(name), vec![0; 3073]).unwrap();
    }
    let arguments = format!("fit cifar10-midrun-data --data {}", folder.path().display());
    refused(
        &mut trainer(&arguments),
        &["data_batch_1.bin", "expected 30730000 bytes, got 3073"],
    );
}

#[test]
fn digits_of_another_form_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = format!("fit digits-midrun --data {}", folder.path().display());
    refused(&mut trainer(&arguments), &["digits.csv.gz, digits.csv"]);
    let line = |last: &str| format!("{}{last}\n", "0,".repeat(64));
    for (text, expected) in [
        (
            line("3") + "1,2,3\n",
            "digits.csv, line 2: expected 64 grey values from 0 to 16 and a label",
        ),
        (line("x"), "got \"x\""),
        (line("3").replacen('0', "17", 1), "got the grey value 17"),
        (line("11"), "the label of image 0 is 11, expected 0 to 9"),
        (String::new(), "got an empty file"),
    ] {
        fs::write(folder.path().join("digits.csv"), text).unwrap();
        refused(&mut trainer(&arguments), &[expected]);
    }
    fs::write(
        folder.path().join("digits.csv"),
        [0x89, b'P', b'N', b'G', 0xff],
    )
    .unwrap();
    refused(&mut trainer(&arguments), &["is not a text file of digits"]);
}
