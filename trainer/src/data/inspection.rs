//! What is in a data set, picture by picture.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use ebm_common::contract::ImageShape;
use serde::Serialize;
use tch::Tensor;

use super::damage::Damaged;
use super::files::{Found, Problem};
use super::form::Form;
use super::parts::Parts;
use super::pictures::{Decoders, Pictures, Reading};
use super::stored::Stored;
use super::tally::{Seen, Tally};
use super::{Opened, Pick, open};
use crate::config::{Crop, DataConfig};

/// Pictures that are looked at before progress is shown again.
const CHUNK: usize = 512;
/// Images of each part on a contact sheet.
const N_SHOWN: usize = 64;
/// The largest side of the images on a contact sheet.
const MOST_SIDE: u32 = 64;

/// What is in a data set.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// As `data.source` names it.
    pub source: &'static str,
    /// The part for training, then the part for testing if there is one.
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
    /// Mean of each channel over all pixels, which go from 0 to 1. There is one channel if all images are grey, else three.
    pub mean: Vec<f64>,
    /// Standard deviation of each channel.
    pub deviation: Vec<f64>,
    /// Damaged images.
    pub damaged: Vec<Damaged>,
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
    /// Its name, or its number if it has none.
    pub name: String,
    /// How many there are.
    pub n_images: usize,
}

impl Inspection {
    /// Looks at every image of the configured data set on `n_threads` threads. `progress` gets the number of images that are done, and of all.
    ///
    /// # Errors
    /// There is no such data set, or it cannot be reached any more.
    pub fn of(
        config: &DataConfig,
        directory: Option<&Path>,
        n_threads: usize,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Inspection> {
        let decoders = Decoders::new(n_threads)?;
        let (parts, shown) = match open(config, directory)? {
            Opened::Stored(split) => [("train", split.train), ("test", split.test)]
                .iter()
                .map(|(name, images)| (part_of_stored(name, images), shown_of_stored(images)))
                .unzip(),
            Opened::Pictures(found) => parts_of_pictures(found, &decoders, progress)?,
        };
        Ok(Inspection {
            source: config.source.name(),
            parts,
            shown,
        })
    }
}

impl Part {
    /// The share of images that are damaged.
    pub fn damaged_share(&self) -> f64 {
        self.damaged.len() as f64 / self.n_images.max(1) as f64
    }
}

/// What is in the parts of a data set of pictures, and some images of each.
fn parts_of_pictures(
    found: Parts<Found>,
    decoders: &Decoders,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(Vec<Part>, Vec<Tensor>)> {
    let test = found.test.map(|test| ("test", test));
    let found: Vec<(&str, Found)> = std::iter::once(("train", found.train))
        .chain(test)
        .collect();
    let total = found.iter().map(|(_, found)| found.files.len()).sum();
    let mut done = 0;
    let mut count = |n: usize| {
        done += n;
        progress(done, total);
    };
    let parts = found
        .iter()
        .map(|(name, found)| part_of_pictures(name, found, decoders, &mut count))
        .collect::<Result<Vec<Part>>>()?;
    let form = form_to_show(&parts);
    let shown = (found.iter().zip(&parts))
        .map(|((_, found), part)| shown_of_pictures(found, part, form, decoders))
        .collect::<Result<Vec<Tensor>>>()?;
    Ok((parts, shown))
}

fn part_of_stored(name: &'static str, images: &Stored) -> Part {
    let mut tally = Tally::default();
    for index in 0..images.len() {
        let (pixels, label) = images.raw(index);
        tally.add(&Seen::of_planes(&pixels, images.shape()));
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
) -> Result<Part> {
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

/// The numbers of the images that are shown, spread over all `n`.
fn spread(n: usize) -> impl Iterator<Item = usize> {
    let shown = n.min(N_SHOWN);
    (0..shown).map(move |place| place * n / shown)
}

fn shown_of_stored(images: &Stored) -> Tensor {
    let picks: Vec<Pick> = spread(images.len()).map(Pick::centred).collect();
    images.batch(&picks).0
}

/// Squares from the middle, up to the size of the most frequent pictures.
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
) -> Result<Tensor> {
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

#[cfg(test)]
mod tests {
    use std::fs;

    use image::ImageFormat;

    use super::*;
    use crate::data::detection::detected;
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
}
