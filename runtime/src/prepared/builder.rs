//! How everything is made that runs a model.

use std::fmt;

use super::Prepared;
use crate::backend::Backend;
use crate::contract::{Contract, Kind};
use crate::error::{Error, Result};
use crate::model::Model;

/// A model from a file, or one that is prepared already: a builder starts from either, as from `&Model` or `&Prepared`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum AnyModel {
    /// A model that the builder prepares.
    Opened(Box<Model>),
    /// A model that others may use as well.
    Prepared(Prepared),
}

impl AnyModel {
    pub(crate) fn contract(&self) -> &Contract {
        match self {
            Self::Opened(model) => model.contract(),
            Self::Prepared(prepared) => prepared.contract(),
        }
    }
}

impl From<&Model> for AnyModel {
    fn from(model: &Model) -> Self {
        Self::Opened(Box::new(model.clone()))
    }
}

impl From<&Prepared> for AnyModel {
    fn from(model: &Prepared) -> Self {
        Self::Prepared(model.clone())
    }
}

pub(crate) mod sealed {
    pub trait Sealed {}
}

/// What a [`Builder`] can make. Only types of this crate implement it.
pub trait Buildable: sealed::Sealed {
    /// What can be set besides backend and threads.
    #[doc(hidden)]
    type Settings: Clone;
}

/// Makes a type one that a [`Builder`] can make, with these settings.
macro_rules! buildable {
    ($type:ty, $settings:ty) => {
        impl crate::prepared::sealed::Sealed for $type {}

        impl crate::prepared::Buildable for $type {
            type Settings = $settings;
        }
    };
}
pub(crate) use buildable;

/// Settings of a `T` that runs a model. `T::builder(&model)` starts one, `build` checks the settings and prepares the model.
///
/// ```
/// use ebm_runtime::{Classifier, ModelFolder, Prepared, Purifier};
///
/// # fn main() -> ebm_runtime::Result<()> {
/// let models = ModelFolder::open("tests/fixtures/digits")?;
/// let classifier = Classifier::builder(models.require_classifier()?).threads(2).build()?;
/// # let _ = classifier;
/// // One prepared model serves many.
/// let step = Prepared::builder(&models.step).threads(1).build()?;
/// let short = Purifier::builder(&step).steps(5).build(7)?;
/// let long = Purifier::builder(&step).steps(50).build(7)?;
/// assert_eq!((short.n_steps(), long.n_steps()), (5, 50));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Builder<T: Buildable> {
    pub(crate) model: AnyModel,
    pub(crate) settings: T::Settings,
    backend: Option<Backend>,
    threads: Option<usize>,
}

impl<T: Buildable> Builder<T> {
    pub(crate) fn new(model: AnyModel, settings: T::Settings) -> Self {
        Self {
            model,
            settings,
            backend: None,
            threads: None,
        }
    }

    /// The backend; [`Backend::default`] by default. A prepared model has its own.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = Some(backend);
        self
    }

    /// Number of threads, from 1; all of the machine's by default. A prepared model has its own.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    pub(crate) fn expect_kind(&self, kinds: &[Kind]) -> Result<()> {
        let checked = self.model.contract().expect_kind(kinds);
        checked.map_err(|error| match &self.model {
            AnyModel::Opened(model) => error.at_path(model.path()),
            AnyModel::Prepared(_) => error,
        })
    }

    pub(crate) fn prepare(&self) -> Result<Prepared> {
        match &self.model {
            AnyModel::Opened(model) => {
                let backend = self.backend.clone().unwrap_or_default();
                let all = || std::thread::available_parallelism().map_or(1, usize::from);
                Prepared::new(model, &backend, self.threads.unwrap_or_else(all))
            }
            AnyModel::Prepared(prepared) => {
                let set = match (&self.backend, self.threads) {
                    (Some(_), _) => "backend",
                    (None, Some(_)) => "threads",
                    (None, None) => return Ok(prepared.clone()),
                };
                let expected = "it to be left out for a model that is prepared";
                Err(Error::out_of_range(set, expected, "a value"))
            }
        }
    }
}

impl<T: Buildable<Settings: fmt::Debug>> fmt::Debug for Builder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("image", &self.model.contract().image)
            .field("settings", &self.settings)
            .field("backend", &self.backend)
            .field("threads", &self.threads)
            .finish()
    }
}

/// A number in f32 that has to be positive and finite.
pub(crate) fn positive(name: &str, value: f64) -> Result<f64> {
    // The model computes in f32, so that the value must be positive and finite there too.
    let rounded = value as f32;
    match rounded > 0.0 && rounded.is_finite() {
        true => Ok(value),
        false => Err(Error::out_of_range(
            name,
            "a positive, finite number",
            value,
        )),
    }
}
