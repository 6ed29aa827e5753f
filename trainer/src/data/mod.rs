//! Data sets: images as bytes, in memory or decoded on demand. A batch is converted to f32 in `[-1, 1]`.

mod augment;
mod cifar;
mod damage;
pub mod detection;
mod digits;
mod files;
mod fingerprint;
mod folder;
mod form;
mod idx;
mod images;
pub mod inspection;
mod one_size;
mod order;
mod parts;
mod pictures;
mod shards;
mod stored;
pub(crate) mod stream;
mod table;
mod tally;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use ebm_common::contract::ImageShape;
use flate2::read::MultiGzDecoder;
use tch::{Kind, Tensor};

pub use augment::augment;
pub use fingerprint::Fingerprint;
pub use images::Images;
pub(crate) use one_size::pictures_of_one_size;
pub use order::{Pick, View};
pub use stream::{Share, Stream, among_others};

use self::files::Found;
use self::form::Form;
use self::images::Held;
use self::parts::Parts;
use self::pictures::{Decoders, Pictures, Reading};
use self::stored::{Split, Stored};
use crate::config::{DataConfig, Source};
use crate::machine::randomness::{self, Purpose};
use crate::machine::ranks::Launch;

/// A data set, split for training and testing.
#[derive(Debug)]
pub struct Dataset {
    /// Images that are learned from.
    pub train: Images,
    /// Images that are never learned from. There are none if the files are all for training and `n_test` is 0.
    pub test: Images,
    /// Labels are below it.
    pub n_classes: usize,
}

impl Dataset {
    /// The fingerprint of the images of both parts.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint {
            train: self.train.print(),
            test: Some(self.test.print()),
        }
    }
}

/// A data set as its files have it, before it is fitted to a network.
#[derive(Debug)]
enum Opened {
    /// In memory.
    Stored(Split),
    /// On disk.
    Pictures(Parts<Found>),
}

/// Reads the configured data set, or finds what will be read, and checks that its images fit the network. Pictures are decoded on
/// `n_threads` threads.
///
/// # Errors
/// What is wrong with the data, where, and what to do.
pub fn load(
    config: &DataConfig,
    directory: Option<&Path>,
    network: ImageShape,
    n_threads: usize,
) -> Result<Dataset> {
    match open(config, directory)? {
        Opened::Stored(split) => stored(config, split, network),
        Opened::Pictures(parts) => pictures(config, &parts, network, n_threads),
    }
}

fn open(config: &DataConfig, directory: Option<&Path>) -> Result<Opened> {
    let required = || {
        directory.with_context(|| {
            format!(
                "data.source = \"{}\" is read from a folder: say which with --data DIR",
                config.source.name()
            )
        })
    };
    Ok(match config.source {
        Source::Digits => Opened::Stored(digits::load(config, directory)?),
        Source::Idx => Opened::Stored(idx::load(required()?, config.n_classes)?),
        Source::Cifar10 => Opened::Stored(cifar::load_10(required()?)?),
        Source::Cifar100 => Opened::Stored(cifar::load_100(required()?, config.n_classes)?),
        Source::Images => Opened::Pictures(folder::open(required()?)?),
        Source::Tar => Opened::Pictures(shards::open(required()?)?),
        Source::Parquet => Opened::Pictures(table::open(config, required()?)?),
        Source::Generator => bail!(
            "data.source = \"generator\": the images of a generator have no labels; a classifier learns from a data set"
        ),
    })
}

fn stored(config: &DataConfig, split: Split, network: ImageShape) -> Result<Dataset> {
    let fitting = |images: Stored| {
        let images = images.padded(config.padding);
        check_shape(images.shape(), network, config.padding)?;
        anyhow::Ok(Images(Held::Stored(images)))
    };
    Ok(Dataset {
        train: fitting(split.train)?,
        test: fitting(split.test)?,
        n_classes: match config.source {
            Source::Digits | Source::Cifar10 => 10,
            _ => config.n_classes,
        },
    })
}

fn pictures(
    config: &DataConfig,
    parts: &Parts<Found>,
    network: ImageShape,
    n_threads: usize,
) -> Result<Dataset> {
    let reading = Reading {
        form: form(config, network)?,
        padding: config.padding,
        max_damaged: config.max_damaged,
        decoders: Decoders::new(n_threads)?,
    };
    let images = |found: &Found, rows: Vec<u32>| {
        let labels = labels(found, config.n_classes)?;
        let labels = rows.iter().map(|row| labels[*row as usize]).collect();
        let pictures = Pictures::new(found, rows, labels, &reading);
        pictures.probe()?;
        anyhow::Ok(Images(Held::Pictures(Arc::new(pictures))))
    };
    let all = |found: &Found| (0..found.files.len() as u32).collect();
    let (train, test) = match &parts.test {
        Some(test) => (
            images(&parts.train, all(&parts.train))?,
            images(test, all(test))?,
        ),
        None => {
            let (rows, test_rows) = split(config, parts.train.files.len())?;
            (
                images(&parts.train, rows)?,
                images(&parts.train, test_rows)?,
            )
        }
    };
    Ok(Dataset {
        train,
        test,
        n_classes: config.n_classes,
    })
}

/// The form of the pictures' images: with padding it is that of the network's images.
fn form(config: &DataConfig, network: ImageShape) -> Result<Form> {
    let [channels, height, width] = network.dimensions();
    ensure!(
        channels == 1 || channels == 3,
        "network.channels = {channels}: pictures are grey or red, green and blue: set 1 or 3"
    );
    let padding = config.padding;
    let inner = |length: usize| {
        let inner = length.checked_sub(2 * padding).filter(|inner| *inner > 0);
        inner.with_context(|| {
            format!("data.padding = {padding} leaves nothing of images of {length} pixels: set less than half of that")
        })
    };
    Ok(Form {
        shape: ImageShape {
            channels,
            height: inner(height)?,
            width: inner(width)?,
        },
        crop: config.crop,
    })
}

/// A label below `n_classes` for each picture. If there is only one class, all pictures belong to it.
fn labels(found: &Found, n_classes: usize) -> Result<Vec<u32>> {
    if n_classes == 1 {
        return Ok(vec![0; found.files.len()]);
    }
    if let Some(index) = found.labels.iter().position(Option::is_none) {
        bail!(
            "{} has no label: give every picture one, or none and set data.n_classes = 1",
            found.files.name(index)
        );
    }
    let labels: Vec<u32> = found.labels.iter().flatten().copied().collect();
    let got = labels.iter().max().map_or(0, |most| *most as usize + 1);
    let got = got.max(found.classes.len());
    ensure!(
        got <= n_classes,
        "the pictures in {} have {got} classes, data.n_classes is {n_classes}: set data.n_classes = {got} (and network.n_classes, \
         if a classifier learns them), or 1 if classes do not matter",
        found.place.display()
    );
    Ok(labels)
}

/// Which pictures are for training and which for testing, in their order, if the files do not say so.
fn split(config: &DataConfig, n_images: usize) -> Result<(Vec<u32>, Vec<u32>)> {
    check_split(config.n_test, n_images)?;
    let seed = randomness::derive(config.split_seed, 0, Purpose::Split);
    let order = randomness::permutation(n_images, seed);
    let (train, test) = order.split_at(n_images - config.n_test);
    let sorted = |rows: &[i64]| {
        let mut rows: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
        rows.sort_unstable();
        rows
    };
    Ok((sorted(train), sorted(test)))
}

fn check_shape(got: ImageShape, expected: ImageShape, padding: usize) -> Result<()> {
    ensure!(
        got == expected,
        "images have [channels, height, width] {:?} (data.padding = {padding} included), the network expects {:?}: \
         set data.padding, or network.image_size and network.channels",
        got.dimensions(),
        expected.dimensions()
    );
    Ok(())
}

/// Refuses a split without training images.
fn check_split(n_test: usize, n_images: usize) -> Result<()> {
    ensure!(
        n_test < n_images,
        "data.n_test = {n_test} of {n_images} images leaves none to learn from: choose a number below {n_images}"
    );
    Ok(())
}

/// From bytes to f32 in `[-1, 1]`; `brightest` is the grey value that means 1. This is the one place where bytes become pixel values.
pub(crate) fn values(pixels: &Tensor, brightest: u8) -> Tensor {
    pixels.to_kind(Kind::Float) * (2.0 / f64::from(brightest)) - 1.0
}

/// Prints how the data are understood. Of several processes only the first prints it.
fn say(line: &str) {
    let launch = Launch::from_environment().ok().flatten();
    if launch.is_none_or(|launch| launch.rank == 0) {
        note!("{line}");
    }
}

/// The first of the paths that exists.
fn find(directory: &Path, candidates: &[String]) -> Result<PathBuf> {
    candidates
        .iter()
        .map(|name| directory.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            missing(
                directory,
                &format!("a file named {}", candidates.join(", ")),
            )
        })
}

/// The error of a folder without what was looked for.
fn missing(directory: &Path, expected: &str) -> anyhow::Error {
    anyhow!(
        "no data in {}: expected {expected}; give the folder that holds it with --data DIR",
        directory.display()
    )
}

/// The message for a file that the system refuses to read.
fn unreadable(file: &Path) -> String {
    format!(
        "cannot read {}: check that it is a readable file",
        file.display()
    )
}

/// The bytes of a file.
fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| unreadable(path))
}

/// Refuses a file whose length is not what its header or its format says.
fn check_length(file: &Path, expected: u64, got: u64) -> Result<()> {
    ensure!(
        got == expected,
        "{} is truncated or has something behind its data: expected {expected} bytes, got {got}; fetch the file again",
        file.display()
    );
    Ok(())
}

/// Refuses a file of labels that does not have one for each image.
fn check_count(
    (images, n_images): (&Path, usize),
    (labels, n_labels): (&Path, usize),
) -> Result<()> {
    ensure!(
        n_images == n_labels,
        "{} holds {n_labels} labels, expected {n_images}, one for each image of {}; use a pair of files that belong together",
        labels.display(),
        images.display()
    );
    Ok(())
}

/// The content of a file, unpacked if it is gzip.
fn read_unpacked(path: &Path) -> Result<Vec<u8>> {
    let bytes = read(path)?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        unpack(path, &bytes)
    } else {
        Ok(bytes)
    }
}

fn unpack(path: &Path, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    MultiGzDecoder::new(bytes)
        .read_to_end(&mut unpacked)
        .with_context(|| {
            format!(
                "{} is truncated or damaged: its gzip stream does not unpack; fetch the file again",
                path.display()
            )
        })?;
    Ok(unpacked)
}

fn check_labels(path: &Path, labels: &[u8], n_classes: usize) -> Result<()> {
    let is_outside = |label: &u8| usize::from(*label) >= n_classes;
    match labels.iter().position(is_outside) {
        Some(row) => bail!(
            "{}: the label of image {row} is {}, expected 0 to {}; the file is damaged or data.n_classes is too small",
            path.display(),
            labels[row],
            n_classes - 1
        ),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use image::ImageFormat;

    use super::*;
    use crate::config::Crop;
    use crate::data::form::tests::{encoded, plain};

    #[test]
    fn bytes_become_values_between_minus_one_and_one_and_padding_is_background() {
        let shape = ImageShape {
            channels: 1,
            height: 1,
            width: 2,
        };
        let images = Images(Held::Stored(
            Stored::new(vec![0, 16], shape, &[7], 16).padded(1),
        ));
        let (batch, labels) = images.first(5).unwrap();
        assert_eq!(batch.size(), [1, 1, 3, 4]);
        let values = Vec::<f32>::try_from(batch.flatten(0, -1)).unwrap();
        assert_eq!(values[5..7], [-1.0, 1.0]);
        assert_eq!(values[0], -1.0);
        assert_eq!(Vec::<i64>::try_from(labels).unwrap(), [7]);
    }

    /// Pictures of a side with their names.
    fn folder(pictures: &[(&str, u32)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, side) in pictures {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(
                path,
                encoded(plain(*side, *side, [255, 0, 51]), ImageFormat::Png),
            )
            .unwrap();
        }
        folder
    }

    fn config() -> DataConfig {
        DataConfig {
            source: Source::Images,
            n_classes: 1,
            crop: Crop::Centre,
            n_test: 0,
            ..DataConfig::digits_for_tests()
        }
    }

    const NETWORK: ImageShape = ImageShape {
        channels: 3,
        height: 8,
        width: 8,
    };

    #[test]
    fn pictures_become_images_of_the_network() {
        let folder = folder(&[("cat/1.png", 9), ("cat/2.png", 20), ("dog/1.png", 6)]);
        let config = DataConfig {
            n_classes: 2,
            n_test: 1,
            padding: 1,
            ..config()
        };
        let dataset = load(&config, Some(folder.path()), NETWORK, 2).unwrap();
        assert_eq!((dataset.train.len(), dataset.test.len()), (2, 1));
        let (train, labels) = dataset.train.first(2).unwrap();
        let (test, test_label) = dataset.test.first(1).unwrap();
        assert_eq!(
            (train.size(), test.size()),
            (vec![2, 3, 8, 8], vec![1, 3, 8, 8])
        );
        let labels = Vec::<i64>::try_from(Tensor::cat(&[labels, test_label], 0)).unwrap();
        assert_eq!(labels.iter().sum::<i64>(), 1);
        for (channel, value) in [1.0, -1.0, -0.6].into_iter().enumerate() {
            let middle = train.double_value(&[0, channel as i64, 4, 4]);
            assert!((middle - value).abs() < 1e-6, "channel {channel}: {middle}");
            assert_eq!(train.double_value(&[0, channel as i64, 0, 4]), -1.0);
        }
    }

    #[test]
    fn sets_that_do_not_fit_are_refused_before_a_run_begins() {
        let same = [("a/1.png", 8), ("b/1.png", 8)];
        let mixed = [("1.png", 8), ("2.png", 9)];
        let off = DataConfig {
            crop: Crop::Off,
            ..config()
        };
        let classes = |n_classes| DataConfig {
            n_classes,
            ..config()
        };
        let network = |channels, side| ImageShape {
            channels,
            height: side,
            width: side,
        };
        let (padded, tested) = (
            DataConfig {
                padding: 4,
                ..config()
            },
            DataConfig {
                n_test: 2,
                ..config()
            },
        );
        for (pictures, config, network, wanted) in [
            (
                &mixed[..],
                off.clone(),
                NETWORK,
                "2.png is 9×9 pixels, expected 8×8",
            ),
            (
                &same,
                off,
                network(3, 16),
                "1.png is 8×8 pixels, expected 16×16",
            ),
            (
                &same,
                config(),
                network(1, 8),
                "is in colour, expected a grey picture",
            ),
            (&same, config(), network(2, 8), "network.channels = 2"),
            (&same, padded, NETWORK, "data.padding = 4 leaves nothing"),
            (&same, tested, NETWORK, "data.n_test = 2 of 2 images"),
            (&mixed, classes(2), NETWORK, "1.png has no label"),
            (
                &[("a/1.png", 8), ("b/1.png", 8), ("c/1.png", 8)],
                classes(2),
                NETWORK,
                "have 3 classes, data.n_classes is 2",
            ),
        ] {
            let folder = folder(pictures);
            let error = load(&config, Some(folder.path()), network, 1)
                .unwrap_err()
                .to_string();
            assert!(error.contains(wanted), "expected {wanted:?} in: {error}");
        }
    }

    #[test]
    fn a_folder_that_is_lost_on_the_way_says_what_to_do() {
        let folder = folder(&[("1.png", 8), ("2.png", 8)]);
        let dataset = load(&config(), Some(folder.path()), NETWORK, 1).unwrap();
        let mut stream = Stream::new(dataset.train, 1, 1);
        drop(stream.batch(0, &Share::whole(2)).unwrap());
        fs::remove_dir_all(folder.path()).unwrap();
        let error = (1..4)
            .find_map(|update| stream.batch(update, &Share::whole(2)).err())
            .unwrap()
            .to_string();
        for piece in ["cannot be reached any more", "trainer resume", "--data DIR"] {
            assert!(error.contains(piece), "expected {piece:?} in: {error}");
        }
    }
}
