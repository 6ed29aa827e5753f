//! Generators: latents in, images out.

use crate::contract::{ImageShape, Kind};
use crate::error::{Error, ErrorKind, Result};
use crate::images::Images;
use crate::noise::fill_normal;
use crate::prepared::{AnyModel, Builder, Prepared, buildable};
use crate::rows::Rows;
use crate::seed::Seed;

/// The number of a step that no chain takes, which the noise of what a chain starts from has.
pub(crate) const START: u32 = u32::MAX;

/// A generator on a backend. Its latents are standard normal; those of sample `i` depend on nothing but seed and `i`.
#[derive(Debug, Clone)]
pub struct Generator {
    model: Prepared,
    latent: usize,
    class: Option<usize>,
}

buildable!(Generator, Option<usize>);

impl Builder<Generator> {
    /// The class of the images that a generator with classes makes, from 0; 0 by default.
    pub fn class(mut self, class: usize) -> Self {
        self.settings = Some(class);
        self
    }

    /// Prepares the generator.
    ///
    /// # Errors
    /// [`ErrorKind::WrongKind`] for a model of another kind, [`ErrorKind::Argument`] for a class that the generator does not have,
    /// [`ErrorKind::Contract`] if the contract does not say how many latents there are, and the errors of
    /// [`Backend::prepare`](crate::Backend::prepare).
    pub fn build(self) -> Result<Generator> {
        self.expect_kind(&[Kind::Generator])?;
        let contract = self.model.contract();
        let latent = contract.network.get("latent");
        let latent = latent.and_then(serde_json::Value::as_u64).ok_or_else(|| {
            Error::new(
                ErrorKind::Contract,
                "the generator's contract does not say how many latents it takes",
            )
            .expected("a number `latent` of its network")
        })?;
        let n_classes = contract.n_classes.unwrap_or(0);
        if let Some(class) = self.settings.filter(|&class| class >= n_classes) {
            let expected = match n_classes {
                0 => "none, as this generator has no classes".to_owned(),
                n => format!("one of the {n} classes, from 0"),
            };
            return Err(Error::out_of_range("class", &expected, class));
        }
        Ok(Generator {
            latent: usize::try_from(latent).unwrap_or(usize::MAX),
            class: contract.n_classes.map(|_| self.settings.unwrap_or(0)),
            model: self.prepare()?,
        })
    }
}

impl Generator {
    /// Starts from a model of kind `generator`.
    pub fn builder(model: impl Into<AnyModel>) -> Builder<Self> {
        Builder::new(model.into(), None)
    }

    /// Shape of the images that it makes.
    pub fn image(&self) -> ImageShape {
        self.model.contract().image
    }

    /// Number of latents of one image.
    pub fn latent(&self) -> usize {
        self.latent
    }

    /// The latents `[N, latent]` of the samples `first`, `first + 1`, ….
    pub fn latents(&self, seed: impl Into<Seed>, first: u32, n: usize) -> Vec<f32> {
        let seed = seed.into().number();
        let mut latents = vec![0.0; n * self.latent];
        for (index, latents) in (first..).zip(latents.chunks_exact_mut(self.latent.max(1))) {
            fill_normal(seed, index, 0, START, latents);
        }
        latents
    }

    /// The images of latents `[N, latent]`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] if the number of values does not make whole latents, [`ErrorKind::Backend`] if the engine fails.
    pub fn images(&self, latents: &[f32]) -> Result<Images> {
        if self.latent == 0 || !latents.len().is_multiple_of(self.latent) {
            return Err(Error::new(
                ErrorKind::Shape,
                "the number of values does not make whole latents",
            )
            .at_tensor("z")
            .expected(format!("a multiple of {}", self.latent))
            .but_got(latents.len()));
        }
        let n = latents.len() / self.latent;
        let image = self.image();
        let shape = image.dimensions();
        let n_classes = self.model.contract().n_classes.unwrap_or(0);
        let one_hot: Vec<f32> = (0..n * n_classes)
            .map(|i| f32::from(Some(i % n_classes) == self.class))
            .collect();
        let (latent, classes) = ([self.latent], [n_classes]);
        let inputs = [
            Rows::new("z", &latent, latents),
            Rows::new("class", &classes, &one_hot),
        ];
        let n_inputs = if self.class.is_some() { 2 } else { 1 };
        let mut rows = self
            .model
            .rows(n, &inputs[..n_inputs], &[], &[("image", &shape)])?;
        Images::from_vec(image, rows.swap_remove(0))
    }
}
