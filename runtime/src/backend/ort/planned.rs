//! Sessions of one model, each laid out for batches up to a size.

use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::session::Session as OrtSession;
use ort::session::builder::GraphOptimizationLevel;

use super::super::fit::cannot_run;
use super::super::{Backend, Fallback, Provider};
use super::provider;
use crate::error::{Error, Result};
use crate::model::Model;

/// What a session is opened with.
pub(super) struct Opener {
    pub(super) environment: Environment,
    pub(super) model: Model,
    pub(super) backend: Backend,
    pub(super) provider: Provider,
    pub(super) n_threads: usize,
}

/// A session that several threads take turns at.
pub(super) type Turns = Arc<Mutex<OrtSession>>;

/// Those that have been opened.
pub(super) enum PlannedSessions {
    /// One for batches of any size.
    Single(Turns),
    /// Each for batches up to a size, and how to open more: TensorRT takes no larger batch than its engine was laid out for.
    BySize {
        opener: Box<Opener>,
        opened: Mutex<Vec<(usize, Turns)>>,
    },
}

impl PlannedSessions {
    /// Opens the first.
    pub(super) fn new(opener: Opener) -> Result<Self> {
        let first = provider::planned_batch(1);
        let session = opener.open(first)?;
        Ok(
            match provider::plans_batches(opener.provider, &opener.model) {
                false => Self::Single(session),
                true => Self::BySize {
                    opener: Box::new(opener),
                    opened: Mutex::new(vec![(first, session)]),
                },
            },
        )
    }

    /// A session that takes batches of that size, opened if there is none yet. Earlier ones stay, since runs may be bound to them.
    pub(super) fn for_batch(&self, batch: usize) -> Result<Turns> {
        let (opener, opened) = match self {
            Self::Single(session) => return Ok(Arc::clone(session)),
            Self::BySize { opener, opened } => (opener, opened),
        };
        let mut opened = opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, session)) = opened.iter().find(|(largest, _)| batch <= *largest) {
            return Ok(Arc::clone(session));
        }
        let largest = provider::planned_batch(batch);
        let session = opener.open(largest)?;
        opened.push((largest, Arc::clone(&session)));
        Ok(session)
    }
}

impl Opener {
    fn open(&self, largest_batch: usize) -> Result<Turns> {
        match self.session(&self.model.bytes()?, largest_batch) {
            Ok(session) => Ok(Arc::new(Mutex::new(session))),
            Err(e) => Err(self.cannot_load().caused_by(e)),
        }
    }

    fn session(&self, file: &[u8], largest_batch: usize) -> ort::Result<OrtSession> {
        let builder = OrtSession::builder(&self.environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(self.n_threads)?
            .with_parallel_execution(false)?;
        provider::register(builder, self, largest_batch)?.commit_from_memory(file)
    }

    fn cannot_load(&self) -> Error {
        let error = cannot_run(&self.backend, &self.model);
        match (self.provider, self.backend.fallback) {
            (Provider::Cpu, _) => error,
            (_, Fallback::Refused) => error.advise(format!(
                "the cause below says whether {} is not usable here or would leave nodes to the CPU; the latter can be allowed (`--allow-fallback`, \
                 `Backend::allow_fallback`), or use the backend `ort`",
                provider::title(self.provider)
            )),
            (_, Fallback::Allowed) => error.advise("use the backend `ort`"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::backend::ort::library;
    use crate::model::tests::fixture;

    /// As for TensorRT, on a provider that is there.
    #[test]
    fn a_larger_batch_has_a_session_of_its_own_and_a_smaller_one_has_not() {
        let backend = Backend::ort();
        if let Err(error) = backend.check() {
            eprintln!("SKIPPED on {backend}: {error}");
            return;
        }
        let sessions = PlannedSessions::BySize {
            opener: Box::new(Opener {
                environment: library::load(None).unwrap(),
                model: Model::open(fixture("digits/classifier.onnx")).unwrap(),
                backend,
                provider: Provider::Cpu,
                n_threads: 1,
            }),
            opened: Mutex::default(),
        };
        let of = [3, 1, 64, 65, 128, 2, 300].map(|batch| sessions.for_batch(batch).unwrap());
        let same = |one: usize, other: usize| Arc::ptr_eq(&of[one], &of[other]);
        assert!(same(0, 1) && same(0, 2) && same(0, 5) && same(3, 4));
        assert!(!same(0, 3) && !same(0, 6) && !same(3, 6));
    }
}
