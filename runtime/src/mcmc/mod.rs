//! Other Markov chains than the plain Langevin step, for energies that are valid densities: they draw from `p(x) ∝ exp(−E(x)/T)`.
//!
//! All of them need energy and gradient, that is a model of kind `gradient`. The plain step of a [`Purifier`](crate::Purifier) has an error that
//! grows with the step size; [`Transition::MetropolisLangevin`] and [`Transition::Hamiltonian`] have none, as they accept or reject each step.
//!
//! ```
//! use ebm_runtime::mcmc::{MarkovChains, Transition};
//! use ebm_runtime::{Images, Model, Seed};
//!
//! # fn main() -> ebm_runtime::Result<()> {
//! let model = Model::open("tests/fixtures/digits/gradient.onnx")?;
//! let chains = MarkovChains::builder(&model)
//!     .transition(Transition::Hamiltonian { n_leapfrog: 10 })
//!     .step_size(0.01)
//!     .build(Seed::fresh()?)?;
//! let shape = model.contract().image;
//! let starts = Images::from_vec(shape, vec![0.0; 4 * shape.n_values()])?;
//! let drawn = chains.run(&starts, 20)?;
//! assert_eq!((drawn.images.len(), drawn.acceptance.len()), (4, 4));
//! # Ok(())
//! # }
//! ```

mod transition;
mod walk;

use crate::contract::Kind;
use crate::error::Result;
use crate::images::Images;
use crate::prepared::{AnyModel, Builder, Prepared, buildable, positive};
use crate::seed::Seed;
pub use transition::Transition;
use walk::Walk;

/// Chains that run together.
const BATCH: usize = 16;

/// Markov chains of one transition on an energy.
#[derive(Debug, Clone)]
pub struct MarkovChains {
    model: Prepared,
    transition: Transition,
    step_size: f64,
    temperature: f64,
    seed: Seed,
}

/// The ends of Markov chains.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Drawn {
    /// `[N, C, H, W]`
    pub images: Images,
    /// The energies E(x) of the ends.
    pub energies: Vec<f32>,
    /// The share of the steps of each chain that were accepted; 1 for transitions that accept every step.
    pub acceptance: Vec<f32>,
    /// The step, counted from 0, at which a chain of a transition without rejection left the finite numbers, if it did. Its image is returned as it was
    /// given.
    pub failed_steps: Vec<Option<u32>>,
}

/// What a builder of [`MarkovChains`] has been told.
#[derive(Debug, Clone)]
pub struct ChainSettings {
    transition: Transition,
    step_size: f64,
    temperature: f64,
}

buildable!(MarkovChains, ChainSettings);

impl Builder<MarkovChains> {
    /// How the chains move; [`Transition::MetropolisLangevin`] by default.
    pub fn transition(mut self, transition: Transition) -> Self {
        self.settings.transition = transition;
        self
    }

    /// Step size ε > 0; 0.01 by default.
    pub fn step_size(mut self, step_size: f64) -> Self {
        self.settings.step_size = step_size;
        self
    }

    /// Temperature T > 0; 1 by default.
    pub fn temperature(mut self, temperature: f64) -> Self {
        self.settings.temperature = temperature;
        self
    }

    /// Checks the settings and prepares the model. All random numbers follow from the seed.
    ///
    /// # Errors
    /// [`ErrorKind::WrongKind`](crate::ErrorKind::WrongKind) for a model of another kind, [`ErrorKind::Argument`](crate::ErrorKind::Argument) for numbers out
    /// of their range, and the errors of [`Backend::prepare`](crate::Backend::prepare).
    pub fn build(self, seed: impl Into<Seed>) -> Result<MarkovChains> {
        self.expect_kind(&[Kind::Gradient])?;
        self.settings.transition.check()?;
        let step_size = positive("step_size", self.settings.step_size)?;
        let temperature = positive("temperature", self.settings.temperature)?;
        Ok(MarkovChains {
            model: self.prepare()?,
            transition: self.settings.transition,
            step_size,
            temperature,
            seed: seed.into(),
        })
    }
}

impl MarkovChains {
    /// Starts from a model of kind `gradient`.
    pub fn builder(model: impl Into<AnyModel>) -> Builder<Self> {
        let settings = ChainSettings {
            transition: Transition::MetropolisLangevin,
            step_size: 0.01,
            temperature: 1.0,
        };
        Builder::new(model.into(), settings)
    }

    /// Takes `n_steps` from each of the images `[N, C, H, W]`. Chain `i` depends on nothing but its image, the seed and `i`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) and [`ErrorKind::NonFinite`](crate::ErrorKind::NonFinite) for images that do not fit or have bad
    /// pixels, [`ErrorKind::Backend`](crate::ErrorKind::Backend) if the engine fails.
    pub fn run(&self, starts: &Images, n_steps: u32) -> Result<Drawn> {
        let image = self.model.contract().image;
        starts.check(image)?;
        let n = image.n_values();
        let batch = self.model.contract().batch.unwrap_or(BATCH);
        let firsts: Vec<usize> = (0..starts.len()).step_by(batch).collect();
        let parts = self.model.map(&firsts, |session, &first| {
            let end = (first + batch).min(starts.len());
            let values = &starts.values()[first * n..end * n];
            let mut state = Walk::new(self, session, image, values, first)?;
            for step in 0..n_steps {
                self.transition.take(&mut state, step)?;
            }
            Ok(state.into_drawn(n_steps))
        })?;
        let mut all = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (values, energies, acceptance, failed) in parts {
            all.0.extend(values);
            all.1.extend(energies);
            all.2.extend(acceptance);
            all.3.extend(failed);
        }
        Ok(Drawn {
            images: Images::from_vec(image, all.0)?,
            energies: all.1,
            acceptance: all.2,
            failed_steps: all.3,
        })
    }
}
