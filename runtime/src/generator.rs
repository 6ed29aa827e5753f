//! Generators: latents in, images out.

use crate::backend::Backend;
use crate::contract::{ImageShape, Kind};
use crate::error::{Error, ErrorKind, Result};
use crate::images::Images;
use crate::model::Model;
use crate::noise::fill_normal;
use crate::prepared::Prepared;
use crate::rows::{Rows, RowsOut};
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

impl Generator {
    /// Prepares a model of kind `generator`. `n_threads` is as in [`Backend::prepare`].
    ///
    /// # Errors
    /// As [`Generator::on`], and the errors of [`Backend::prepare`].
    pub fn new(model: &Model, backend: &Backend, n_threads: usize) -> Result<Self> {
        Self::on(&Prepared::new(model, backend, n_threads)?)
    }

    /// A generator on a prepared model of kind `generator`, which it shares with others.
    ///
    /// # Errors
    /// [`ErrorKind::WrongKind`] for a model of another kind, [`ErrorKind::Contract`] where the contract does not say how many latents there are.
    pub fn on(model: &Prepared) -> Result<Self> {
        model.expect_kind(&[Kind::Generator])?;
        let latent = model.contract().network.get("latent");
        let latent = latent.and_then(serde_json::Value::as_u64).ok_or_else(|| {
            Error::new(
                ErrorKind::Contract,
                "the generator's contract does not say how many latents it takes",
            )
            .expected("a number `latent` of its network")
        })?;
        Ok(Self {
            model: model.clone(),
            latent: usize::try_from(latent).unwrap_or(usize::MAX),
            class: model.contract().n_classes.map(|_| 0),
        })
    }

    /// Sets the class of the images that a generator with classes makes, from 0; 0 by default.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] for a class that the generator does not have, or any where it has none.
    pub fn of_class(mut self, class: usize) -> Result<Self> {
        let n_classes = self.model.contract().n_classes.unwrap_or(0);
        if class >= n_classes {
            let expected = match n_classes {
                0 => "none, as this generator has no classes".to_owned(),
                n => format!("one of the {n} classes, from 0"),
            };
            return Err(Error::out_of_range("class", &expected, class));
        }
        self.class = Some(class);
        Ok(self)
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
    /// [`ErrorKind::Shape`] where the number of values makes no whole latents, [`ErrorKind::Backend`] where the engine fails.
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
        let z = Rows {
            name: "z",
            shape: &[self.latent],
            values: latents,
        };
        let image = self.image();
        let output = RowsOut {
            name: "image",
            shape: &[image.channels, image.height, image.width],
        };
        let n_classes = self.model.contract().n_classes.unwrap_or(0);
        let one_hot: Vec<f32> = (0..n * n_classes)
            .map(|i| f32::from(u8::from(Some(i % n_classes) == self.class)))
            .collect();
        let class = Rows {
            name: "class",
            shape: &[n_classes],
            values: &one_hot,
        };
        let inputs = [z, class];
        let n_inputs = if self.class.is_some() { 2 } else { 1 };
        let mut rows = self.model.rows(n, &inputs[..n_inputs], &[], &[output])?;
        Images::from_vec(image, rows.swap_remove(0))
    }
}
