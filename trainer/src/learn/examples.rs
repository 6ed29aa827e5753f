//! What an energy network is learned from: images of a data set, or of a generator.

use std::path::Path;

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

use crate::config::{DataConfig, EnergyConfig, Source};
use crate::data::{self, Fingerprint, Images, Pick, Share, Stream, View, among_others, augment};
use crate::learn::generator::Generator;
use crate::machine::randomness::{Purpose, seed_torch};

/// Images to learn from.
#[derive(Debug)]
pub enum Examples {
    /// Those of a data set.
    Stored(Stream),
    /// Those that the fixed generator of the run makes.
    Generated,
}

impl Examples {
    /// As configured, from the folder where the source needs one. Pictures are decoded on `n_threads` threads.
    pub fn load(
        config: &EnergyConfig,
        directory: Option<&Path>,
        n_threads: usize,
    ) -> Result<Examples> {
        if config.data.source == Source::Generator {
            return Ok(Examples::Generated);
        }
        let EnergyConfig {
            data,
            network,
            seed,
            ..
        } = config;
        let images = data::load(data, directory, network.image(), n_threads)?.train;
        Ok(Examples::Stored(Stream::new(images, *seed, data.buffer)))
    }

    /// What the images are, unless a generator makes them.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        match self {
            Examples::Stored(stream) => Some(Fingerprint {
                train: stream.images().print(),
                test: None,
            }),
            Examples::Generated => None,
        }
    }

    /// Random images, where only their shape matters.
    pub fn random(config: &EnergyConfig) -> Examples {
        if config.data.source == Source::Generator {
            return Examples::Generated;
        }
        let images = Images::random(config.network.image(), config.learning.batch);
        Examples::Stored(Stream::new(images, config.seed, config.data.buffer))
    }

    /// The images of an update, augmented, f32 `[n, C, H, W]`, of which the rows of the share are meant.
    ///
    /// # Errors
    /// A generator is needed and missing, pictures are damaged or lost, or libtorch fails.
    pub fn batch(
        &mut self,
        (seed, update): (u64, u64),
        share: &Share,
        config: &DataConfig,
        generator: Option<&Generator>,
    ) -> Result<Tensor> {
        match self {
            Examples::Stored(stream) => {
                let (images, _) = stream.batch(update, share)?;
                let _draws = seed_torch(seed, update, Purpose::Augmentation);
                Ok(augment(images, config))
            }
            Examples::Generated => {
                let _draws = seed_torch(seed, update, Purpose::Examples);
                generated(share.n, generator)
            }
        }
    }

    /// Draws an image for each that is wanted, augmented, f32 `[n, C, H, W]`, from libtorch's generator of numbers, which the caller has seeded.
    /// An image is the same whatever else is wanted; the rows that are not are anything.
    pub fn draw(
        &self,
        wanted: &[bool],
        config: &DataConfig,
        generator: Option<&Generator>,
    ) -> Result<Tensor> {
        let n = wanted.len();
        match self {
            Examples::Stored(stream) => {
                let picks = drawn(n, stream.images().len())?;
                let rows: Vec<usize> = (0..n).filter(|&row| wanted[row]).collect();
                let picks: Vec<Pick> = rows.iter().map(|&row| picks[row]).collect();
                let (images, _) = stream.images().batch(&picks)?;
                Ok(augment(among_others(n, &rows, &images, -1.0), config))
            }
            Examples::Generated => generated(n, generator),
        }
    }

    /// Bytes of the images that are held.
    pub fn bytes(&self) -> u64 {
        match self {
            Examples::Stored(stream) => stream.bytes(),
            Examples::Generated => 0,
        }
    }

    /// `n` images to look at, f32 `[n, C, H, W]`, or all where a data set has fewer. The caller has seeded libtorch's generator of numbers.
    pub fn shown(&self, n: usize, generator: Option<&Generator>) -> Result<Tensor> {
        match self {
            Examples::Stored(stream) => Ok(stream.images().first(n)?.0),
            Examples::Generated => generated(n, generator),
        }
    }
}

/// Draws `n` of some images, and which part of each is taken.
fn drawn(n: usize, n_images: usize) -> Result<Vec<Pick>> {
    let below = |most| {
        let drawn = Tensor::f_randint(most, [n as i64], (Kind::Int64, Device::Cpu))?;
        Ok::<_, anyhow::Error>(Vec::<i64>::try_from(drawn)?)
    };
    let (indices, views) = (below(n_images as i64)?, below(i64::MAX)?);
    let picks = indices.into_iter().zip(views).map(|(index, view)| Pick {
        index: index as usize,
        view: View::Drawn(view as u64),
    });
    Ok(picks.collect())
}

fn generated(n: usize, generator: Option<&Generator>) -> Result<Tensor> {
    let generator = generator.context("data.source = \"generator\" needs a section [generator]")?;
    generator.finished_images(&generator.draw_latents(n)?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::config::{Layers, Mirror};
    use crate::data::stream::tests::{made, stream};
    use crate::machine::randomness::seeded;

    /// Augmentation included.
    #[test]
    fn an_image_is_the_same_whatever_else_is_wanted() {
        let layers = Layers::default().preset("digits-midrun").unwrap();
        let mut config: EnergyConfig = layers.resolve().unwrap();
        (config.data.shift, config.data.mirror) = (1, Mirror::Half);
        let examples = Examples::random(&config);
        let draw = |wanted: &[bool]| {
            let _draws = seeded(4);
            examples.draw(wanted, &config.data, None).unwrap()
        };
        let all = draw(&[true; 5]);
        let wanted = [false, true, false, false, true];
        let some = draw(&wanted);
        assert_eq!(some.size(), all.size());
        for (row, wanted) in wanted.into_iter().enumerate() {
            let row = row as i64;
            let (one, other) = (some.get(row), all.get(row));
            assert_eq!(one == other, wanted, "row {row}");
        }
    }

    #[test]
    fn pictures_that_are_not_wanted_are_not_decoded() {
        let layers = Layers::default().preset("digits-midrun").unwrap();
        let config: EnergyConfig = layers.resolve().unwrap();
        let files = made(40, &[]);
        let examples = Examples::Stored(stream(Arc::clone(&files), 2, 8, 0.0));
        for (wanted, n_wanted) in [(&[false, true, false, true][..], 2), (&[true; 5], 5)] {
            let before = files.n_read.load(Ordering::SeqCst);
            let _draws = seeded(4);
            let images = examples.draw(wanted, &config.data, None).unwrap();
            assert_eq!(images.size()[0], wanted.len() as i64);
            assert_eq!(files.n_read.load(Ordering::SeqCst) - before, n_wanted);
        }
    }
}
