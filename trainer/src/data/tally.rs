//! Counts and sums over the images of a part.

use std::collections::BTreeMap;

use ebm_common::contract::ImageShape;
use ebm_common::picture::{Change, Fault, Size, decode};
use sha2::{Digest, Sha256};

use super::damage::Damaged;
use super::inspection::{ClassCount, Part, SizeCount};

/// What is counted of one image.
#[derive(Debug)]
pub(super) struct Seen {
    size: Size,
    is_coloured: bool,
    changes: Vec<Change>,
    /// Of the bytes of R, G and B.
    sums: [u64; 3],
    squares: [u64; 3],
    digest: u64,
}

impl Seen {
    fn new<'a, I: Iterator<Item = &'a u8>>(size: Size, channels: [I; 3], content: &[u8]) -> Seen {
        let (mut sums, mut squares) = ([0; 3], [0; 3]);
        for (channel, values) in channels.into_iter().enumerate() {
            for value in values {
                let value = u64::from(*value);
                sums[channel] += value;
                squares[channel] += value * value;
            }
        }
        let hash = Sha256::digest(content);
        let digest = hash.iter().take(8);
        Seen {
            size,
            is_coloured: false,
            changes: Vec::new(),
            sums,
            squares,
            digest: digest.fold(0, |digest, byte| digest << 8 | u64::from(*byte)),
        }
    }

    /// An image in memory, bytes `[C, H, W]`.
    pub(super) fn of_planes(pixels: &[u8], shape: ImageShape) -> Seen {
        let plane = shape.width * shape.height;
        let channel = |channel: usize| {
            let mut planes = pixels.chunks(plane);
            let channel = planes.nth(channel.min(shape.channels - 1));
            channel.unwrap_or_default().iter()
        };
        let size = (shape.width as u32, shape.height as u32);
        Seen {
            is_coloured: shape.channels > 1,
            ..Seen::new(size, [0, 1, 2].map(channel), pixels)
        }
    }

    /// The bytes of a picture's file.
    ///
    /// # Errors
    /// The picture is damaged.
    pub(super) fn of_picture(bytes: &[u8]) -> Result<Seen, Fault> {
        let picture = decode(bytes)?;
        let (size, is_coloured) = (picture.size(), !picture.is_grey());
        let changes = picture.changes().to_vec();
        let pixels = picture.into_rgb();
        let channel = |channel| pixels.iter().skip(channel).step_by(3);
        Ok(Seen {
            is_coloured,
            changes,
            ..Seen::new(size, [0, 1, 2].map(channel), bytes)
        })
    }
}

/// What is counted of many images.
#[derive(Debug, Default)]
pub(super) struct Tally {
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
    damaged: Vec<Damaged>,
}

impl Tally {
    pub(super) fn label(&mut self, label: Option<u32>) {
        match label {
            Some(label) => *self.labels.entry(label).or_default() += 1,
            None => self.n_unlabelled += 1,
        }
    }

    pub(super) fn add(&mut self, seen: &Seen) {
        self.digests.push((seen.digest, self.n_images));
        self.n_images += 1;
        *self.sizes.entry(seen.size).or_default() += 1;
        self.n_coloured += usize::from(seen.is_coloured);
        self.n_deep += usize::from(seen.changes.contains(&Change::Depth));
        self.n_transparent += usize::from(seen.changes.contains(&Change::Transparency));
        self.n_pixels += u128::from(seen.size.0) * u128::from(seen.size.1);
        for channel in 0..3 {
            self.sums[channel] += u128::from(seen.sums[channel]);
            self.squares[channel] += u128::from(seen.squares[channel]);
        }
    }

    pub(super) fn add_damaged(&mut self, name: String, reason: String) {
        self.damaged.push(Damaged {
            index: self.n_images,
            name,
            reason,
        });
        self.n_images += 1;
    }

    /// The description of the part; `brightest` is the byte that means 1.
    pub(super) fn part(
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
