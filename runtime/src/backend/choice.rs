//! Which backend takes a model.

use super::{Backend, Engine, Provider, Session};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Model;

/// What `auto` tries, in this order.
const CANDIDATES: [Engine; 4] = [
    Engine::Native,
    Engine::Rten,
    Engine::Tract,
    Engine::Ort(Provider::Cpu),
];

/// A backend that has taken a model.
pub(crate) struct Chosen {
    pub backend: Backend,
    pub session: Box<dyn Session>,
    /// For `auto`: why the backends before it did not.
    pub reason: Option<String>,
    /// How many images may go through it at once, if memory is bounded.
    pub most_images: Option<usize>,
}

impl Chosen {
    fn new(
        backend: Backend,
        model: &Model,
        session: Box<dyn Session>,
        reason: Option<String>,
    ) -> Result<Self> {
        Ok(Self {
            most_images: backend.most_images(model, &*session)?,
            backend,
            session,
            reason,
        })
    }
}

/// Backends that did not take a model, each with its error.
#[derive(Default)]
struct Refusals(Vec<(Backend, Error)>);

impl Refusals {
    /// Each backend with its reason in its own words.
    fn reasons(&self) -> Option<String> {
        let reasons = self.0.iter();
        let reasons: Vec<_> = reasons
            .map(|(backend, error)| format!("`{backend}`: {}", why(error)))
            .collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

/// Why an engine refused a model, in its own words.
fn why(refusal: &Error) -> String {
    match std::error::Error::source(refusal) {
        Some(cause) => cause.to_string(),
        None => refusal.to_string(),
    }
}

impl Backend {
    /// Prepares a model on this backend, or, for `auto`, on the first that takes it.
    pub(crate) fn choose(&self, model: &Model, n_threads: usize) -> Result<Chosen> {
        self.check_file(model)?;
        if self.engine != Engine::Automatic {
            let session = self.session(model, n_threads);
            let session = session.map_err(|error| self.with_takers(error, model))?;
            return Chosen::new(self.clone(), model, session, None);
        }
        let mut refusals = Refusals::default();
        for backend in self.candidates() {
            let session = backend.check();
            match session.and_then(|()| backend.session(model, n_threads)) {
                Ok(session) => return Chosen::new(backend, model, session, refusals.reasons()),
                Err(error) if may_go_on(&error) => refusals.0.push((backend, error)),
                Err(error) => return Err(error),
            }
        }
        Err(no_backend_takes(model, refusals))
    }

    /// What `auto` tries, in order.
    pub(super) fn candidates(&self) -> impl Iterator<Item = Self> + '_ {
        CANDIDATES.into_iter().map(|engine| Self {
            engine,
            ..self.clone()
        })
    }

    /// The error of this backend, with those that do take the model.
    fn with_takers(&self, error: Error, model: &Model) -> Error {
        if error.kind() != ErrorKind::Backend || !CANDIDATES.contains(&self.engine) {
            return error;
        }
        let takes = |other: &Self| {
            other != self && other.check().is_ok() && other.session(model, 1).is_ok()
        };
        let takers = self.candidates().filter(takes);
        let takers: Vec<_> = takers.map(|taker| format!("`{taker}`")).collect();
        error.advise(match takers.is_empty() {
            true => how_to_export(model),
            false => format!("use a backend that takes it: {}", takers.join(", ")),
        })
    }
}

/// Whether another backend may take what this one did not.
fn may_go_on(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Backend | ErrorKind::BackendMissing)
}

fn no_backend_takes(model: &Model, refusals: Refusals) -> Error {
    let is_missing = |(_, error): &&(Backend, Error)| error.kind() == ErrorKind::BackendMissing;
    let missing = refusals.0.iter().filter(is_missing);
    let missing: Vec<_> = missing.map(|(backend, _)| format!("`{backend}`")).collect();
    if missing.len() == refusals.0.len() {
        let mut refusals = refusals.0.into_iter();
        return refusals.next().expect("there are candidates").1;
    }
    let advice = match missing.is_empty() {
        true => how_to_export(model),
        false => format!(
            "{}, or get one of the backends that are not here: {} (`purify backends` says how)",
            how_to_export(model),
            missing.join(", ")
        ),
    };
    let error = Error::new(ErrorKind::Backend, "no backend here takes the model");
    let error = error.at_path(model.path()).advise(advice);
    error.caused_by(refusals.reasons().unwrap_or_default())
}

/// Advice for a model that no backend takes. Types lower than f32 are what engines most often lack.
fn how_to_export(model: &Model) -> String {
    match model.contract().precision.as_deref() {
        None | Some("f32") => "export it again".to_owned(),
        Some(precision) => format!(
            "it works in {precision}, which few engines take on a CPU: export it with `--precision f32`"
        ),
    }
}
