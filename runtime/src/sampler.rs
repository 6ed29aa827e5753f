//! Sampling: chains that start from noise, from data or from a generator.

use crate::error::{Error, ErrorKind, Result};
use crate::generator::{Generator, START};
use crate::images::Images;
use crate::noise::fill_uniform;
use crate::purifier::{Purified, Purifier, Request};

/// What chains start from.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Start {
    /// Values that are uniform in `[-1, 1]`.
    Noise,
    /// These images `[N, C, H, W]`, over and over: sample `i` starts from image `i mod N`.
    Images(Images),
    /// What a generator makes of standard normal latents.
    Generator(Generator),
}

/// Draws samples: Langevin chains from a [`Start`].
///
/// Short chains from a generator are how a *shortrun* energy makes images; chains of a *longrun* energy stay realistic for as long as they run.
/// Temperature and, for a potential with a prior, the joint temperature are those of the [`Purifier`] that takes the steps; build that with
/// [`PurifierBuilder::as_learned`](crate::PurifierBuilder::as_learned) for the dynamics under which the energy was learned.
///
/// Sample `i` depends on nothing but seed, start and `i`.
#[derive(Debug)]
pub struct Sampler {
    purifier: Purifier,
    start: Start,
}

impl Sampler {
    /// A sampler whose steps are taken by `purifier`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] if the start gives images of another shape, [`ErrorKind::Argument`] for a start from no images.
    pub fn new(purifier: Purifier, start: Start) -> Result<Self> {
        let shape = match &start {
            Start::Noise => None,
            Start::Images(images) if images.is_empty() => {
                return Err(Error::out_of_range("start", "at least one image", 0));
            }
            Start::Images(images) => Some(images.shape()),
            Start::Generator(generator) => Some(generator.image()),
        };
        let expected = purifier.contract().image;
        match shape.filter(|&shape| shape != expected) {
            None => Ok(Self { purifier, start }),
            Some(other) => Err(Error::new(
                ErrorKind::Shape,
                "the chains would start from images of another shape than the energy's",
            )
            .expected(expected)
            .but_got(other)),
        }
    }

    /// What takes the steps.
    pub fn purifier(&self) -> &Purifier {
        &self.purifier
    }

    /// Draws the samples `0 … n − 1`, `[n, C, H, W]`.
    ///
    /// # Errors
    /// As [`Purifier::purify`].
    pub fn sample(&self, n: usize) -> Result<Images> {
        let mut drawn = self.sample_with(0, n, |request| request)?;
        drawn.expect_all_finite()?;
        Ok(drawn.replicas.swap_remove(0))
    }

    /// Draws the samples `first … first + n − 1` as a request says, with snapshots, traces or a time limit for example.
    ///
    /// # Errors
    /// As [`Purifier::run`].
    ///
    /// ```no_run
    /// # use ebm_runtime::{ModelFolder, Purifier, Sampler, Seed, Start};
    /// # fn main() -> ebm_runtime::Result<()> {
    /// let models = ModelFolder::open("model")?;
    /// let purifier = Purifier::builder(&models.step).as_learned().steps(10_000).build(Seed::fresh()?)?;
    /// let sampler = Sampler::new(purifier, Start::Noise)?;
    /// let drawn = sampler.sample_with(0, 16, |request| request.snapshots([10, 100, 1000]))?;
    /// # let _ = drawn; Ok(())
    /// # }
    /// ```
    pub fn sample_with(
        &self,
        first: u32,
        n: usize,
        adjust: impl for<'a> FnOnce(Request<'a>) -> Request<'a>,
    ) -> Result<Purified> {
        let starts = self.starts(first, n)?;
        self.purifier
            .run(&adjust(Request::new(&starts)).first_index(first))
    }

    /// What the chains of the samples `first … first + n − 1` start from, `[n, C, H, W]`.
    ///
    /// # Errors
    /// [`ErrorKind::Backend`] if the generator fails.
    pub fn starts(&self, first: u32, n: usize) -> Result<Images> {
        let image = self.purifier.contract().image;
        let n_values = image.n_values();
        match &self.start {
            Start::Generator(generator) => {
                generator.images(&generator.latents(self.purifier.seed(), first, n))
            }
            Start::Images(images) => {
                let places = (first as usize..).take(n).map(|i| i % images.len());
                let values = places.flat_map(|place| images.image(place)).copied();
                Images::from_vec(image, values.collect())
            }
            Start::Noise => {
                let seed = self.purifier.seed().number();
                let mut values = vec![0.0; n * n_values];
                for (index, values) in (first..).zip(values.chunks_exact_mut(n_values)) {
                    fill_uniform(seed, index, 0, START, values);
                }
                Images::from_vec(image, values)
            }
        }
    }
}
