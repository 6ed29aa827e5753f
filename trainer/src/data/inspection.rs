//! What is in a data set, picture by picture.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ebm_common::name::{EXTENSIONS, has_extension};
use ebm_common::picture::{Change, Fault, Size, decode};
use ebm_export::source::ImageShape;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tch::Tensor;

use super::files::{Found, Problem, listed};
use super::form::Form;
use super::pictures::{Decoders, Pictures, Reading};
use super::stored::Stored;
use super::{Error, Opened, Pick, open};
use crate::config::{Crop, DataConfig, Source};

/// Pictures that are looked at before progress is shown again.
const CHUNK: usize = 512;
/// Images of each part on a contact sheet.
const N_SHOWN: usize = 64;
/// Side of the images on a contact sheet, at most.
const MOST_SIDE: u32 = 64;

/// What is in a data set.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// As `data.source` names it.
    pub source: &'static str,
    /// For training, and for testing where there is such a part.
    pub parts: Vec<Part>,
    /// Some images of each part, f32 `[n, C, H, W]` in `[-1, 1]`.
    #[serde(skip)]
    pub shown: Vec<Tensor>,
}

/// What is in a part of a data set.
#[derive(Debug, PartialEq, Serialize)]
pub struct Part {
    /// `train` or `test`.
    pub name: &'static str,
    /// Images, damaged ones too.
    pub n_images: usize,
    /// Images of each size, the most frequent first.
    pub sizes: Vec<SizeCount>,
    /// Images in colour; the others are grey.
    pub n_coloured: usize,
    /// Images of more than 8 bits a channel, of which 8 are kept.
    pub n_deep: usize,
    /// Images with transparent pixels, which show white.
    pub n_transparent: usize,
    /// Images of each class, in the order of their numbers.
    pub classes: Vec<ClassCount>,
    /// Images without a label.
    pub n_unlabelled: usize,
    /// Mean over all pixels, which go from 0 to 1, of each channel: one where all images are grey, else three.
    pub mean: Vec<f64>,
    /// Standard deviation likewise.
    pub deviation: Vec<f64>,
    /// Damaged images.
    pub damaged: Vec<Damage>,
    /// Names of images that are the same, byte for byte.
    pub duplicates: Vec<Vec<String>>,
}

/// Images of a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SizeCount {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// How many there are.
    pub n_images: usize,
}

/// Images of a class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClassCount {
    /// Its name, or its number where it has none.
    pub name: String,
    /// How many there are.
    pub n_images: usize,
}

/// A damaged image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Its place in the part.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// What is wrong with it, to be put behind the name.
    pub reason: String,
}

impl Inspection {
    /// Looks at every image of the configured data set on `n_threads` threads, and tells `progress` how many of how many are done.
    ///
    /// # Errors
    /// There is no such data set, or it cannot be reached any more.
    pub fn of(
        config: &DataConfig,
        directory: Option<&Path>,
        n_threads: usize,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Inspection, Error> {
        let decoders = Decoders::new(n_threads)?;
        let source = config.source.name();
        match open(config, directory)? {
            Opened::Stored(split) => {
                let parts = [("train", split.train), ("test", split.test)];
                let shown = parts
                    .iter()
                    .map(|(_, images)| shown_of_stored(images))
                    .collect();
                let parts = parts
                    .map(|(name, images)| part_of_stored(name, &images))
                    .into();
                Ok(Inspection {
                    source,
                    parts,
                    shown,
                })
            }
            Opened::Pictures(found) => {
                let found: Vec<(&str, Found)> = std::iter::once(("train", found.train))
                    .chain(found.test.map(|test| ("test", test)))
                    .collect();
                let total = found.iter().map(|(_, found)| found.files.len()).sum();
                let mut done = 0;
                let mut count = |n: usize| {
                    done += n;
                    progress(done, total);
                };
                let parts = found
                    .iter()
                    .map(|(name, found)| part_of_pictures(name, found, &decoders, &mut count))
                    .collect::<Result<Vec<Part>, Error>>()?;
                let form = form_to_show(&parts);
                let shown = (found.iter().zip(&parts))
                    .map(|((_, found), part)| shown_of_pictures(found, part, form, &decoders))
                    .collect::<Result<Vec<Tensor>, Error>>()?;
                Ok(Inspection {
                    source,
                    parts,
                    shown,
                })
            }
        }
    }
}

impl Part {
    /// The share of images that are damaged.
    pub fn damaged_share(&self) -> f64 {
        self.damaged.len() as f64 / self.n_images.max(1) as f64
    }
}

/// What an image is like.
#[derive(Clone, Debug)]
struct Looks {
    size: Size,
    is_coloured: bool,
    changes: Vec<Change>,
}

/// What a look at one image brings.
#[derive(Debug)]
struct Seen {
    looks: Looks,
    n_pixels: u64,
    /// Of the bytes of R, G and B.
    sums: [u64; 3],
    squares: [u64; 3],
    digest: u64,
}

impl Seen {
    fn new<'a, I: Iterator<Item = &'a u8>>(looks: Looks, channels: [I; 3], content: &[u8]) -> Seen {
        let (mut sums, mut squares) = ([0; 3], [0; 3]);
        for (channel, values) in channels.into_iter().enumerate() {
            for value in values {
                let value = u64::from(*value);
                sums[channel] += value;
                squares[channel] += value * value;
            }
        }
        let hash = Sha256::digest(content);
        let digest = hash
            .iter()
            .take(8)
            .fold(0, |digest, byte| digest << 8 | u64::from(*byte));
        Seen {
            n_pixels: u64::from(looks.size.0) * u64::from(looks.size.1),
            looks,
            sums,
            squares,
            digest,
        }
    }

    fn of_picture(bytes: &[u8]) -> Result<Seen, Fault> {
        let picture = decode(bytes)?;
        let looks = Looks {
            size: picture.size(),
            is_coloured: !picture.is_grey(),
            changes: picture.changes().to_vec(),
        };
        let pixels = picture.into_rgb();
        let channel = |channel| pixels.iter().skip(channel).step_by(3);
        Ok(Seen::new(looks, [0, 1, 2].map(channel), bytes))
    }
}

/// What many looks brought.
#[derive(Debug, Default)]
struct Tally {
    n_images: usize,
    sizes: BTreeMap<Size, usize>,
    n_coloured: usize,
    n_deep: usize,
    n_transparent: usize,
    n_pixels: u128,
    sums: [u128; 3],
    squares: [u128; 3],
    /// Each with the image's number.
    digests: Vec<(u64, usize)>,
    labels: BTreeMap<u32, usize>,
    n_unlabelled: usize,
    damaged: Vec<Damage>,
}

impl Tally {
    fn label(&mut self, label: Option<u32>) {
        match label {
            Some(label) => *self.labels.entry(label).or_default() += 1,
            None => self.n_unlabelled += 1,
        }
    }

    fn add(&mut self, seen: &Seen) {
        self.digests.push((seen.digest, self.n_images));
        self.n_images += 1;
        *self.sizes.entry(seen.looks.size).or_default() += 1;
        self.n_coloured += usize::from(seen.looks.is_coloured);
        let changes = &seen.looks.changes;
        self.n_deep += usize::from(changes.contains(&Change::Depth));
        self.n_transparent += usize::from(changes.contains(&Change::Transparency));
        self.n_pixels += u128::from(seen.n_pixels);
        for channel in 0..3 {
            self.sums[channel] += u128::from(seen.sums[channel]);
            self.squares[channel] += u128::from(seen.squares[channel]);
        }
    }

    fn add_damaged(&mut self, name: String, reason: String) {
        self.damaged.push(Damage {
            index: self.n_images,
            name,
            reason,
        });
        self.n_images += 1;
    }

    /// All of it; `brightest` is the byte that means 1.
    fn part(
        self,
        name: &'static str,
        brightest: u8,
        classes: &[String],
        name_of: impl Fn(usize) -> String,
    ) -> Part {
        let n_channels = if self.n_coloured > 0 { 3 } else { 1 };
        let (n_pixels, one) = (self.n_pixels.max(1) as f64, f64::from(brightest));
        let mean = |channel: usize| self.sums[channel] as f64 / n_pixels / one;
        let deviation = |channel: usize| {
            let square = self.squares[channel] as f64 / n_pixels / (one * one);
            (square - mean(channel).powi(2)).max(0.0).sqrt()
        };
        let n_classes = self
            .labels
            .keys()
            .last()
            .map_or(0, |last| *last as usize + 1);
        let class = |number: usize| ClassCount {
            name: classes.get(number).cloned().unwrap_or(number.to_string()),
            n_images: self.labels.get(&(number as u32)).copied().unwrap_or(0),
        };
        Part {
            name,
            n_images: self.n_images,
            sizes: sizes(&self.sizes),
            n_coloured: self.n_coloured,
            n_deep: self.n_deep,
            n_transparent: self.n_transparent,
            classes: (0..n_classes.max(classes.len())).map(class).collect(),
            n_unlabelled: self.n_unlabelled,
            mean: (0..n_channels).map(mean).collect(),
            deviation: (0..n_channels).map(deviation).collect(),
            duplicates: duplicates(self.digests, name_of),
            damaged: self.damaged,
        }
    }
}

fn sizes(counts: &BTreeMap<Size, usize>) -> Vec<SizeCount> {
    let count = |(size, n_images): (&Size, &usize)| SizeCount {
        width: size.0,
        height: size.1,
        n_images: *n_images,
    };
    let mut sizes: Vec<SizeCount> = counts.iter().map(count).collect();
    sizes.sort_by_key(|size| std::cmp::Reverse(size.n_images));
    sizes
}

/// Names of images with the same digest, in the order of the first of them.
fn duplicates(
    mut digests: Vec<(u64, usize)>,
    name_of: impl Fn(usize) -> String,
) -> Vec<Vec<String>> {
    digests.sort_unstable();
    let mut same: Vec<Vec<usize>> = digests
        .chunk_by(|one, other| one.0 == other.0)
        .filter(|same| same.len() > 1)
        .map(|same| same.iter().map(|(_, index)| *index).collect())
        .collect();
    same.sort_unstable();
    same.into_iter()
        .map(|same| same.into_iter().map(&name_of).collect())
        .collect()
}

fn part_of_stored(name: &'static str, images: &Stored) -> Part {
    let shape = images.shape();
    let looks = Looks {
        size: (shape.width as u32, shape.height as u32),
        is_coloured: shape.channels > 1,
        changes: Vec::new(),
    };
    let plane = shape.width * shape.height;
    let mut tally = Tally::default();
    for index in 0..images.len() {
        let (pixels, label) = images.raw(index);
        let channel = |channel: usize| {
            pixels
                .chunks(plane)
                .nth(channel.min(shape.channels - 1))
                .unwrap_or_default()
                .iter()
        };
        tally.add(&Seen::new(looks.clone(), [0, 1, 2].map(channel), &pixels));
        tally.label(u32::try_from(label).ok());
    }
    tally.part(name, images.brightest(), &[], |index| {
        format!("image {index}")
    })
}

fn part_of_pictures(
    name: &'static str,
    found: &Found,
    decoders: &Decoders,
    count: &mut dyn FnMut(usize),
) -> Result<Part, Error> {
    let n_images = found.files.len();
    let mut tally = Tally::default();
    for first in (0..n_images).step_by(CHUNK) {
        let indices = first..n_images.min(first + CHUNK);
        let seen = decoders.map(indices.clone().collect(), |index| {
            let seen = Seen::of_picture(&found.files.read(index)?);
            seen.map_err(|fault| Problem::Damage(fault.to_string()))
        });
        count(indices.len());
        for (index, seen) in indices.zip(seen) {
            match seen {
                Ok(seen) => tally.add(&seen),
                Err(Problem::Damage(reason)) => tally.add_damaged(found.files.name(index), reason),
                Err(Problem::Lost(error)) => return Err(error),
            }
            tally.label(found.labels[index]);
        }
    }
    Ok(tally.part(name, u8::MAX, &found.classes, |index| {
        found.files.name(index)
    }))
}

/// Of `n` things, so many as are shown, from the first to the last.
fn spread(n: usize) -> impl Iterator<Item = usize> {
    let shown = n.min(N_SHOWN);
    (0..shown).map(move |place| place * n / shown)
}

fn shown_of_stored(images: &Stored) -> Tensor {
    let picks: Vec<Pick> = spread(images.len()).map(Pick::centred).collect();
    images.batch(&picks).0
}

/// Squares from the middle, not larger than the smallest picture that is frequent.
fn form_to_show(parts: &[Part]) -> Form {
    let sizes = parts.iter().filter_map(|part| part.sizes.first());
    let side = sizes
        .map(|size| size.width.min(size.height).min(MOST_SIDE))
        .min();
    let side = side.unwrap_or(MOST_SIDE) as usize;
    let is_coloured = parts.iter().any(|part| part.n_coloured > 0);
    Form {
        shape: ImageShape {
            channels: if is_coloured { 3 } else { 1 },
            height: side,
            width: side,
        },
        crop: Crop::Centre,
    }
}

/// Pictures that are not damaged.
fn shown_of_pictures(
    found: &Found,
    part: &Part,
    form: Form,
    decoders: &Decoders,
) -> Result<Tensor, Error> {
    let damaged: BTreeSet<usize> = part.damaged.iter().map(|damage| damage.index).collect();
    let whole = (0..found.files.len()).filter(|index| !damaged.contains(index));
    let whole: Vec<u32> = whole.map(|index| index as u32).collect();
    let rows: Vec<u32> = spread(whole.len()).map(|place| whole[place]).collect();
    let n = rows.len();
    let reading = Reading {
        form,
        padding: 0,
        max_damaged: 0.0,
        decoders: decoders.clone(),
    };
    let pictures = Pictures::new(found, rows, vec![0; n], &reading);
    let picks: Vec<Pick> = (0..n).map(Pick::centred).collect();
    Ok(pictures.batch(&picks)?.0)
}

/// Which source a folder's files speak for.
///
/// # Errors
/// The folder cannot be read, or they speak for none.
pub fn detected(directory: &Path) -> Result<Source, Error> {
    let listing = listed(directory, |file| source_of(file).is_some())?;
    let sources: Vec<Source> = listing.files.iter().filter_map(|f| source_of(f)).collect();
    let order = [
        Source::Idx,
        Source::Cifar10,
        Source::Cifar100,
        Source::Parquet,
        Source::Tar,
        Source::Images,
    ];
    let source = order.into_iter().find(|source| sources.contains(source));
    source.ok_or_else(|| Error::Missing {
        directory: directory.to_path_buf(),
        candidates:
            "pictures (*.png, *.jpg, *.webp), *.tar, *.parquet, IDX files, or CIFAR's *.bin"
                .to_string(),
    })
}

fn source_of(file: &Path) -> Option<Source> {
    let name = file.file_name()?.to_string_lossy();
    match name.as_ref() {
        "data_batch_1.bin" => Some(Source::Cifar10),
        "train.bin" => Some(Source::Cifar100),
        _ if name.starts_with("train-images") => Some(Source::Idx),
        _ if has_extension(file, &["parquet"]) => Some(Source::Parquet),
        _ if has_extension(file, &["tar"]) => Some(Source::Tar),
        _ if has_extension(file, EXTENSIONS) => Some(Source::Images),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::ImageFormat;

    use super::*;
    use crate::data::form::tests::{encoded, plain};

    fn inspected(directory: &Path) -> Inspection {
        let config = DataConfig {
            source: detected(directory).unwrap(),
            ..DataConfig::digits_for_tests()
        };
        Inspection::of(&config, Some(directory), 2, &mut |_, _| {}).unwrap()
    }

    /// Two pictures of 2×2 pixels with 51 (0.2) and one of 4×1 with 255 (1) in R, none in G, and 0 in B; then a damaged one. R has the mean
    /// `(8·0.2 + 4·1)/12` and the mean square `(8·0.04 + 4·1)/12`.
    #[test]
    fn a_folder_is_described() {
        let folder = tempfile::tempdir().unwrap();
        for (name, width, height, red) in [
            ("cat/1.png", 2, 2, 51),
            ("cat/2.png", 2, 2, 51),
            ("dog/1.png", 4, 1, 255),
        ] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(
                path,
                encoded(plain(width, height, [red, 0, 0]), ImageFormat::Png),
            )
            .unwrap();
        }
        fs::write(folder.path().join("dog/2.jpg"), b"hello").unwrap();
        let inspection = inspected(folder.path());
        let [part] = &inspection.parts[..] else {
            panic!("{inspection:?}");
        };
        assert_eq!(
            (
                inspection.source,
                part.n_images,
                part.n_coloured,
                part.n_unlabelled
            ),
            ("images", 4, 3, 0)
        );
        let sizes: Vec<_> = part
            .sizes
            .iter()
            .map(|size| (size.width, size.height, size.n_images))
            .collect();
        assert_eq!(sizes, [(2, 2, 2), (4, 1, 1)]);
        let classes: Vec<_> = part
            .classes
            .iter()
            .map(|class| (class.name.as_str(), class.n_images))
            .collect();
        assert_eq!(classes, [("cat", 2), ("dog", 2)]);
        let mean = (8.0 * 0.2 + 4.0) / 12.0;
        let deviation = ((8.0 * 0.04 + 4.0) / 12.0f64 - mean * mean).sqrt();
        for (got, wanted) in [(&part.mean, mean), (&part.deviation, deviation)] {
            assert!(
                (got[0] - wanted).abs() < 1e-12 && got[1..] == [0.0, 0.0],
                "{got:?}, expected {wanted}"
            );
        }
        assert_eq!(part.damaged.len(), 1);
        assert!(
            part.damaged[0].name.ends_with("dog/2.jpg")
                && part.damaged[0].reason.contains("is not a PNG")
        );
        assert_eq!(part.damaged_share(), 0.25);
        let [same] = &part.duplicates[..] else {
            panic!("{part:?}");
        };
        assert!(same[0].ends_with("cat/1.png") && same[1].ends_with("cat/2.png"));
        assert_eq!(inspection.shown[0].size(), [3, 3, 2, 2]);
    }

    #[test]
    fn the_bundled_digits_are_described() {
        let inspection =
            Inspection::of(&DataConfig::digits_for_tests(), None, 1, &mut |_, _| {}).unwrap();
        let [train, test] = &inspection.parts[..] else {
            panic!("{inspection:?}");
        };
        assert_eq!((train.n_images, test.n_images), (1397, 400));
        let labelled: usize = train.classes.iter().map(|class| class.n_images).sum();
        assert_eq!((train.classes.len(), labelled), (10, 1397));
        assert_eq!(train.mean.len(), 1);
        let pixels = (inspection.shown[0].mean(tch::Kind::Float).double_value(&[]) + 1.0) / 2.0;
        assert!(
            (train.mean[0] - pixels).abs() < 0.05,
            "{} of all, {pixels} of some",
            train.mean[0]
        );
    }

    #[test]
    fn the_source_follows_from_the_names_of_files() {
        for (names, wanted) in [
            (&["a.png", "notes.txt"][..], Some(Source::Images)),
            (&["0.tar", "a.png"], Some(Source::Tar)),
            (
                &["deep/train-0.parquet", "README.md"],
                Some(Source::Parquet),
            ),
            (&["train-images-idx3-ubyte.gz"], Some(Source::Idx)),
            (&["data_batch_1.bin"], Some(Source::Cifar10)),
            (&["cifar-100-binary/train.bin"], Some(Source::Cifar100)),
            (&["notes.txt", ".hidden/a.png"], None),
        ] {
            let folder = tempfile::tempdir().unwrap();
            for name in names {
                let path = folder.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, b"").unwrap();
            }
            assert_eq!(detected(folder.path()).ok(), wanted, "{names:?}");
        }
    }
}
