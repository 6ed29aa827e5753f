//! The images of a run as they were when they were fixed.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use ebm_runtime::Images;
use sha2::digest::Output;
use sha2::{Digest, Sha256};

use crate::inputs::{Input, Item, Reading, for_each_image, n_images};

/// A SHA-256.
type Hash = Output<Sha256>;

/// Which images are certified, with the hash of each that can be read. The seed of the noise is drawn when they are fixed.
#[derive(Default)]
pub struct Fixed {
    hashes: BTreeMap<u32, Option<Hash>>,
}

impl Fixed {
    /// Reads all images that are taken once, and lets `look` see each.
    pub fn new(
        inputs: &[Input],
        reading: Reading,
        take: Option<u32>,
        mut look: impl FnMut(&Item<'_>),
    ) -> Result<Self> {
        let n_images = n_images(inputs);
        let places = evenly_spaced(n_images, take.unwrap_or(n_images));
        let mut this = Self {
            hashes: places.map(|place| (place, None)).collect(),
        };
        let mut hashes = this.hashes.clone();
        this.for_each(
            inputs,
            reading,
            |_| true,
            |item| {
                hashes.insert(item.place(), item.image.as_ref().ok().map(hash));
                look(&item);
                Ok(())
            },
        )?;
        this.hashes = hashes;
        Ok(this)
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether the image at this place is one of them.
    pub fn holds(&self, place: u32) -> bool {
        self.hashes.contains_key(&place)
    }

    /// The places of the images in the list.
    pub fn places(&self) -> impl Iterator<Item = u32> {
        self.hashes.keys().copied()
    }

    /// The hash of all images together.
    pub fn hash(&self) -> Hash {
        let mut all = Sha256::new();
        for (place, hash) in &self.hashes {
            all.update(place.to_le_bytes());
            all.update(hash.unwrap_or_default());
        }
        all.finalize()
    }

    /// Returns Ok if an image is still what it was.
    pub fn check(&self, item: &Item<'_>) -> Result<()> {
        let now = item.image.as_ref().ok().map(hash);
        if self.hashes.get(&item.place()) == Some(&now) {
            return Ok(());
        }
        bail!(
            "`{item}` was changed after the seed of the noise was drawn, so that a certificate would prove nothing; run the command again"
        )
    }

    /// Reads those of the images again that are wanted, in the order of the list.
    pub fn for_each<'a>(
        &self,
        inputs: &'a [Input],
        reading: Reading,
        is_wanted: impl Fn(u32) -> bool,
        mut visit: impl FnMut(Item<'a>) -> Result<()>,
    ) -> Result<()> {
        // The files before the first wanted image are not read at all, nor those that hold none.
        let start = |input: &Input| {
            let own = input.first..input.first + input.n_images();
            let mut places = self.hashes.range(own).map(|(place, _)| *place);
            let first = places.find(|place| is_wanted(*place));
            first.map_or(input.n_images(), |place| place - input.first)
        };
        for_each_image(inputs, reading, start, |item| {
            match self.holds(item.place()) && is_wanted(item.place()) {
                true => visit(item),
                false => Ok(()),
            }
        })
    }
}

/// `n` of the numbers below `n_all`, or all if there are fewer.
fn evenly_spaced(n_all: u32, n: u32) -> impl Iterator<Item = u32> {
    let n = n.min(n_all);
    (0..n).map(move |i| (u64::from(i) * u64::from(n_all) / u64::from(n)) as u32)
}

fn hash(image: &Images) -> Hash {
    let mut hash = Sha256::new();
    for value in image.array() {
        hash.update(value.to_le_bytes());
    }
    hash.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_taken_from_the_whole_list() {
        for (n_all, n, places) in [
            (10, 5, vec![0, 2, 4, 6, 8]),
            (10, 3, vec![0, 3, 6]),
            (3, 9, vec![0, 1, 2]),
            (0, 0, vec![]),
            (u32::MAX, 2, vec![0, u32::MAX / 2]),
        ] {
            assert_eq!(evenly_spaced(n_all, n).collect::<Vec<_>>(), places);
        }
    }
}
