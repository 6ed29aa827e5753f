//! Which images are treated: all, or those of highest energy.

use std::path::Path;

use anyhow::{Context, Result};
use ebm_common::files::write_atomically;
use ebm_runtime::{Images, Purifier, Request};

use crate::arguments::Percent;
use crate::groups::group_size;
use crate::inputs::{Input, Reading, for_each_group, from_the_start, n_images};
use crate::progress::Bar;

pub enum Selection {
    All,
    Top {
        /// By place; NaN if there is no image.
        energies: Vec<f32>,
        chosen: Vec<bool>,
    },
}

impl Selection {
    /// The images of highest energy: this share of all that have one, rounded up. Of equal ones those that come first.
    pub fn top(percent: Percent, energies: Vec<f32>) -> Self {
        let mut places: Vec<usize> = (0..energies.len())
            .filter(|&place| !energies[place].is_nan())
            .collect();
        let n_chosen = (percent.0 / 100.0 * places.len() as f64).ceil() as usize;
        places.sort_by(|&a, &b| energies[b].total_cmp(&energies[a]));
        let mut chosen = vec![false; energies.len()];
        for &place in places.iter().take(n_chosen) {
            chosen[place] = true;
        }
        Self::Top { energies, chosen }
    }

    pub fn takes(&self, place: u32) -> bool {
        match self {
            Self::All => true,
            Self::Top { chosen, .. } => chosen[place as usize],
        }
    }

    /// The energy of an image, if it was measured for the selection.
    pub fn energy(&self, place: u32) -> Option<f32> {
        match self {
            Self::All => None,
            Self::Top { energies, .. } => Some(energies[place as usize]),
        }
    }
}

/// The energies of all images by their place, from the file that an interrupted run left or by a purifier of as few steps as the model takes.
pub fn energies(
    file: &Path,
    purifier: impl FnOnce() -> Result<Purifier>,
    inputs: &[Input],
    reading: Reading,
    bar: &Bar,
) -> Result<Vec<f32>> {
    let n_images = n_images(inputs) as usize;
    if let Some(energies) = kept(file, n_images) {
        return Ok(energies);
    }
    let energies = measured(&purifier()?, inputs, n_images, reading, bar)?;
    let bytes: Vec<u8> = energies.iter().flat_map(|e| e.to_le_bytes()).collect();
    write_atomically(file, &bytes)
        .with_context(|| format!("`{}`: the energies cannot be written; check the folder's permissions and the free space", file.display()))?;
    Ok(energies)
}

fn kept(file: &Path, n_images: usize) -> Option<Vec<f32>> {
    let bytes = std::fs::read(file).ok()?;
    let energies: Vec<f32> = bytes
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        .collect();
    (bytes.len() == 4 * n_images).then_some(energies)
}

fn measured(
    purifier: &Purifier,
    inputs: &[Input],
    n_images: usize,
    reading: Reading,
    bar: &Bar,
) -> Result<Vec<f32>> {
    bar.start("energies of", n_images as u64, 1);
    let mut energies = vec![f32::NAN; n_images];
    let size = group_size(purifier, 1);
    for_each_group(inputs, reading, from_the_start, size, |group| {
        let readable = group.into_iter();
        let (places, images): (Vec<u32>, Vec<Images>) = readable
            .filter_map(|item| Some((item.place(), item.image.ok()?)))
            .unzip();
        if images.is_empty() {
            return Ok(());
        }
        let images = Images::concatenate(&images)?.padded(reading.padding);
        let purified = purifier.run(&Request::new(&images).indices(places.clone()))?;
        for (place, report) in places.iter().zip(&purified.reports) {
            // An image without a finite energy is the first to look at.
            let energy = report.start.map(|start| start.energy);
            energies[*place as usize] = energy.filter(|e| !e.is_nan()).unwrap_or(f32::INFINITY);
        }
        bar.advance(places.len() as u64);
        Ok(())
    })?;
    bar.finish();
    Ok(energies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_energies_are_chosen() {
        let nan = f32::NAN;
        let cases: [(f64, &[f32], &[u32]); 6] = [
            (50.0, &[1.0, 4.0, 3.0, 2.0], &[1, 2]),
            (1.0, &[1.0, 4.0, 3.0, 2.0], &[1]),
            (100.0, &[1.0, 4.0], &[0, 1]),
            (50.0, &[nan, 1.0, nan, 2.0], &[3]),
            (50.0, &[7.0, 7.0, 7.0, 7.0], &[0, 1]),
            (25.0, &[1.0, f32::INFINITY, 3.0, 2.0], &[1]),
        ];
        for (percent, energies, expected) in cases {
            let selection = Selection::top(Percent(percent), energies.to_vec());
            let chosen: Vec<u32> = (0..energies.len() as u32)
                .filter(|&place| selection.takes(place))
                .collect();
            assert_eq!(chosen, expected, "{percent} % of {energies:?}");
        }
    }
}
