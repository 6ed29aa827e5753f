//! Engines that run models, chosen by name.

mod choice;
#[cfg(any(feature = "native", feature = "rten", feature = "tract"))]
mod copied;
#[cfg(any(
    feature = "native",
    feature = "rten",
    feature = "tract",
    feature = "ort"
))]
mod fit;
#[cfg(feature = "native")]
mod native;
#[cfg(feature = "ort")]
mod ort;
#[cfg(any(feature = "native", feature = "rten", feature = "tract"))]
mod port;
mod room;
#[cfg(feature = "rten")]
mod rten;
mod session;
#[cfg(any(feature = "rten", feature = "tract"))]
mod singly;
#[cfg(feature = "tract")]
mod tract;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};
use crate::model::Model;
pub(crate) use session::sealed::Sealed;
pub use session::{Footprint, Input, Output, Recurrence, Recurrent, Session};

/// Where a backend uses the threads that it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Parallelism {
    /// Each session runs on the thread that calls it, and several run at once.
    AcrossSessions,
    /// One session uses all threads by itself.
    WithinSession,
}

/// Every engine by the name of its backend.
const ENGINES: [(&str, Engine); 10] = [
    ("auto", Engine::Automatic),
    ("native", Engine::Native),
    ("rten", Engine::Rten),
    ("tract", Engine::Tract),
    ("ort", Engine::Ort(Provider::Cpu)),
    ("ort-cuda", Engine::Ort(Provider::Cuda)),
    ("ort-tensorrt", Engine::Ort(Provider::TensorRt)),
    ("ort-xnnpack", Engine::Ort(Provider::Xnnpack)),
    ("ort-coreml", Engine::Ort(Provider::CoreMl)),
    ("ort-directml", Engine::Ort(Provider::DirectMl)),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Engine {
    /// The first that takes the model.
    Automatic,
    Native,
    Rten,
    Tract,
    Ort(Provider),
}

/// An execution provider of ONNX Runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Provider {
    Cpu,
    Cuda,
    TensorRt,
    Xnnpack,
    CoreMl,
    DirectMl,
}

/// Whether nodes that a provider of ONNX Runtime does not know may run on the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fallback {
    Refused,
    Allowed,
}

/// The arithmetic of the engines that TensorRT builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arithmetic {
    F32,
    F16,
}

/// The error that `native` may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accuracy {
    Usual,
    High,
}

/// An engine that can run models, by name.
///
/// | name | engine |
/// |---|---|
/// | `auto` | the first of `native`, `rten`, `tract` and `ort` that is here and takes the model |
/// | `native` | this project's own, on the CPU: the fastest, for the operators that exported files consist of |
/// | `rten` | pure Rust, on the CPU: for the files that `native` does not read |
/// | `tract` | pure Rust too; not among the default features |
/// | `ort` | ONNX Runtime on the CPU |
/// | `ort-cuda` | ONNX Runtime on NVIDIA cards |
/// | `ort-tensorrt` | ONNX Runtime with TensorRT on NVIDIA cards |
/// | `ort-xnnpack`, `ort-coreml`, `ort-directml` | ONNX Runtime with these providers, if its library has them |
///
/// ONNX Runtime is a shared library that is loaded at run time. It is looked for at the path given with [`Backend::with_library`], then the one in the
/// environment variable `ORT_DYLIB_PATH`, then beside the executable, then in the cache of `cargo xtask setup`, then where the system looks for
/// libraries. One process loads it once: a later other path is an error.
///
/// A provider that is asked for and cannot be used is an error, and so is a model of which it would leave nodes to the CPU, unless that is allowed with
/// [`Backend::allow_fallback`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    engine: Engine,
    library: Option<PathBuf>,
    fallback: Fallback,
    device: u32,
    cache: Option<PathBuf>,
    arithmetic: Arithmetic,
    accuracy: Accuracy,
    memory: Option<usize>,
}

impl Backend {
    /// The names of all backends, compiled in or not.
    pub const NAMES: [&'static str; 10] = {
        let mut names = [""; 10];
        let mut place = 0;
        while place < names.len() {
            names[place] = ENGINES[place].0;
            place += 1;
        }
        names
    };

    /// The first backend of `native`, `rten`, `tract` and `ort` that takes the model; the default. [`Prepared::backend`](crate::Prepared::backend) tells which one that is, and
    /// [`Prepared::backend_reason`](crate::Prepared::backend_reason) why. A backend that is named instead is never replaced by another.
    pub fn automatic() -> Self {
        Self::on(Engine::Automatic)
    }

    /// This project's own engine.
    pub fn native() -> Self {
        Self::on(Engine::Native)
    }

    /// The pure-Rust backend for files that `native` does not read.
    pub fn rten() -> Self {
        Self::on(Engine::Rten)
    }

    /// The pure-Rust backend that is not among the default features.
    pub fn tract() -> Self {
        Self::on(Engine::Tract)
    }

    /// ONNX Runtime on the CPU.
    pub fn ort() -> Self {
        Self::on(Engine::Ort(Provider::Cpu))
    }

    fn on(engine: Engine) -> Self {
        Self {
            engine,
            library: None,
            fallback: Fallback::Refused,
            device: 0,
            cache: None,
            arithmetic: Arithmetic::F32,
            accuracy: Accuracy::Usual,
            memory: None,
        }
    }

    /// Names the file of the shared library. Backends without a library ignore it.
    pub fn with_library(mut self, path: impl Into<PathBuf>) -> Self {
        self.library = Some(path.into());
        self
    }

    /// Lets nodes that the provider does not know run on the CPU. Backends of the CPU have nothing to fall back from.
    pub fn allow_fallback(mut self) -> Self {
        self.fallback = Fallback::Allowed;
        self
    }

    /// The number of the card, from 0, for the providers that run on one; 0 by default.
    pub fn with_device(mut self, device: u32) -> Self {
        self.device = device;
        self
    }

    /// The folder in which TensorRT keeps its engines and the timings that it chose them by, so that only the first start is slow. Others ignore it.
    pub fn with_cache(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cache = Some(folder.into());
        self
    }

    /// Lets TensorRT compute in f16. Others ignore it: for them the model is exported in the precision that is wanted.
    pub fn with_f16(mut self) -> Self {
        self.arithmetic = Arithmetic::F16;
        self
    }

    /// Has `native` compute convolutions through tiles of 2×2 pixels at most in place of 4×4: 0.7 to 0.9 of the error, and slower. Others ignore it: they have
    /// no tiles.
    pub fn with_high_accuracy(mut self) -> Self {
        self.accuracy = Accuracy::High;
        self
    }

    /// Bounds the memory of a model on `native`: its weights, and the images that go through it at once, without what belongs to neither. If one image does
    /// not fit, smaller tiles are taken, which have fewer weights and are slower. What does not fit then is an error before any weight is transformed, and so
    /// is a model on another backend, since those do not tell what they take.
    pub fn with_memory(mut self, bytes: usize) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// The backend's name.
    pub fn name(&self) -> &'static str {
        let mut engines = ENGINES.into_iter();
        let named = engines.find(|(_, engine)| *engine == self.engine);
        named.expect("every engine has a name").0
    }

    /// The file named with [`Backend::with_library`].
    pub fn library(&self) -> Option<&Path> {
        self.library.as_deref()
    }

    /// Where this backend uses threads.
    pub fn parallelism(&self) -> Parallelism {
        match self.engine {
            Engine::Automatic | Engine::Native | Engine::Rten | Engine::Tract => {
                Parallelism::AcrossSessions
            }
            Engine::Ort(_) => Parallelism::WithinSession,
        }
    }

    /// Returns Ok if the backend can be used here.
    ///
    /// # Errors
    /// [`ErrorKind::BackendMissing`], with the reason and the way out.
    pub fn check(&self) -> Result<()> {
        match self.engine {
            Engine::Automatic => {
                let mut checks = self.candidates().map(|backend| backend.check());
                let first = checks.next().expect("there are candidates");
                checks.fold(first, |first, other| {
                    first.or_else(|error| other.map_err(|_| error))
                })
            }
            #[cfg(feature = "native")]
            Engine::Native => Ok(()),
            #[cfg(feature = "rten")]
            Engine::Rten => Ok(()),
            #[cfg(feature = "tract")]
            Engine::Tract => Ok(()),
            #[cfg(feature = "ort")]
            Engine::Ort(provider) => ort::check(self, provider),
            #[cfg(not(all(
                feature = "native",
                feature = "rten",
                feature = "tract",
                feature = "ort"
            )))]
            _ => Err(self.not_compiled_in()),
        }
    }

    /// Prepares a model. `n_threads` counts only if [`Backend::parallelism`] is [`Parallelism::WithinSession`].
    ///
    /// # Errors
    /// [`ErrorKind::BackendMissing`] if the backend cannot be used here, [`ErrorKind::Backend`] if it cannot run this model, or would leave a part of
    /// it to another device.
    pub fn prepare(&self, model: &Model, n_threads: usize) -> Result<Box<dyn Session>> {
        self.choose(model, n_threads).map(|chosen| chosen.session)
    }

    fn session(&self, model: &Model, n_threads: usize) -> Result<Box<dyn Session>> {
        // Not every set of features reads the arguments.
        let _ = (model, n_threads);
        match self.engine {
            Engine::Automatic => self.prepare(model, n_threads),
            #[cfg(feature = "native")]
            Engine::Native => native::prepare(model, n_threads, self),
            #[cfg(feature = "rten")]
            Engine::Rten => rten::prepare(model, n_threads),
            #[cfg(feature = "tract")]
            Engine::Tract => tract::prepare(model, n_threads),
            #[cfg(feature = "ort")]
            Engine::Ort(provider) => ort::prepare(model, n_threads, self, provider),
            #[cfg(not(all(
                feature = "native",
                feature = "rten",
                feature = "tract",
                feature = "ort"
            )))]
            _ => Err(self.not_compiled_in()),
        }
    }

    #[cfg(not(all(
        feature = "native",
        feature = "rten",
        feature = "tract",
        feature = "ort"
    )))]
    fn not_compiled_in(&self) -> Error {
        let name = self.name();
        // `ort-cuda` is of the feature `ort`.
        let feature = name.split('-').next().unwrap_or(name);
        Error::new(
            ErrorKind::BackendMissing,
            format!("the backend `{name}` was not compiled in"),
        )
        .advise(format!(
            "build with `--features {feature}`, or use another of the backends: {}",
            compiled_in()
        ))
    }
}

impl Default for Backend {
    /// [`Backend::automatic`].
    fn default() -> Self {
        Self::automatic()
    }
}

impl FromStr for Backend {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match ENGINES.into_iter().find(|(known, _)| *known == name) {
            Some((_, engine)) => Ok(Self::on(engine)),
            None => Err(
                Error::new(ErrorKind::BackendMissing, "no backend has this name")
                    .expected(format!("one of {}", Self::NAMES.join(", ")))
                    .but_got(format!("`{name}`")),
            ),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(not(all(
    feature = "native",
    feature = "rten",
    feature = "tract",
    feature = "ort"
)))]
fn compiled_in() -> String {
    let known = [
        ("native", cfg!(feature = "native")),
        ("rten", cfg!(feature = "rten")),
        ("tract", cfg!(feature = "tract")),
        ("ort", cfg!(feature = "ort")),
    ];
    let there: Vec<&str> = known.iter().filter(|of| of.1).map(|of| of.0).collect();
    match there.is_empty() {
        true => "none".to_string(),
        false => there.join(", "),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    #[cfg(all(feature = "native", feature = "rten"))]
    use crate::model::Verification;
    use crate::model::tests::fixture;

    #[test]
    fn names_lead_to_backends_and_back() {
        for name in Backend::NAMES {
            assert_eq!(name.parse::<Backend>().unwrap().name(), name);
        }
        let error = "cuda".parse::<Backend>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BackendMissing);
        let message = error.to_string();
        assert!(
            message.contains("expected one of auto, native, rten, tract, ort,")
                && message.ends_with("got `cuda`"),
            "{message}"
        );
    }

    #[cfg(not(feature = "ort"))]
    #[test]
    fn a_backend_that_was_not_compiled_in_says_so() {
        let model = Model::open(fixture("digits/step.onnx")).unwrap();
        let error = Backend::ort().prepare(&model, 1).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::BackendMissing);
        assert!(error.to_string().contains("--features ort"), "{error}");
        assert_eq!(
            Backend::ort().check().unwrap_err().kind(),
            ErrorKind::BackendMissing
        );
    }

    /// One suite for all backends: the linear classifier, one input and one output of known values.
    #[test]
    fn sessions_run_named_tensors_for_any_batch() {
        let model = Model::open(fixture("digits/classifier.onnx")).unwrap();
        for backend in available_backends() {
            let mut session = backend.prepare(&model, 1).unwrap();
            let mut other = session.fork(1);
            for n_images in [1, 3, 2, 1] {
                // The upper half is 1 and the lower 0, so that the logits are ±1 by the classifier's weights.
                let pixels: Vec<f32> = (0..n_images * 64)
                    .map(|i| if i % 64 < 32 { 1.0 } else { 0.0 })
                    .collect();
                let mut logits = vec![0.0; n_images * 2];
                let input = Input {
                    name: "x",
                    shape: &[n_images, 1, 8, 8],
                    values: &pixels,
                };
                let output = Output {
                    name: "logits",
                    shape: &[n_images, 2],
                    values: &mut logits,
                };
                session.run(&[input], &mut [output]).unwrap();
                assert_eq!(logits, [1.0, -1.0].repeat(n_images), "{backend}");
                let output = Output {
                    name: "logits",
                    shape: &[n_images, 2],
                    values: &mut logits,
                };
                other.run(&[input], &mut [output]).unwrap();
            }
        }
    }

    #[test]
    fn wrong_names_and_shapes_are_named() {
        let model = Model::open(fixture("digits/classifier.onnx")).unwrap();
        let pixels = [0.0; 64];
        for backend in available_backends() {
            let mut session = backend.prepare(&model, 1).unwrap();
            let input = |name| Input {
                name,
                shape: &[1, 1, 8, 8],
                values: &pixels,
            };
            let cases: [(&str, &str, &[usize], &str); 3] = [
                ("y", "logits", &[1, 2], "tensor `y`"),
                ("x", "scores", &[1, 2], "tensor `scores`"),
                ("x", "logits", &[1, 3], "expected [1, 3], got [1, 2]"),
            ];
            for (input_name, name, shape, part) in cases {
                let mut values = vec![0.0; shape.iter().product()];
                let output = Output {
                    name,
                    shape,
                    values: &mut values,
                };
                let error = session
                    .run(&[input(input_name)], &mut [output])
                    .unwrap_err()
                    .to_string();
                assert!(error.contains(part), "{backend}: {error}");
            }
        }
    }

    /// A step whose norm goes through another operator.
    #[cfg(all(feature = "native", feature = "rten"))]
    fn step_with(operator: &str) -> Model {
        let mut file = std::fs::read(fixture("digits/step.onnx")).unwrap();
        let place = file.windows(4).position(|bytes| bytes == b"Sqrt").unwrap();
        file[place..place + 4].copy_from_slice(operator.as_bytes());
        Model::from_bytes_with(file, "other.onnx", Verification::None).unwrap()
    }

    #[cfg(all(feature = "native", feature = "rten"))]
    #[test]
    fn what_the_engine_does_not_take_goes_to_the_next_and_is_named() {
        let model = step_with("Ceil");
        let chosen = Backend::automatic().choose(&model, 1).unwrap();
        assert_eq!(chosen.backend, Backend::rten());
        let reason = chosen.reason.unwrap();
        assert!(
            reason.contains("`native`: operator Ceil of node"),
            "{reason}"
        );

        let error = Backend::native().prepare(&model, 1).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Backend);
        let message = error.with_causes();
        assert!(
            message.contains("`other.onnx`")
                && message.contains("use a backend that takes it: `rten`")
                && message.contains("operator Ceil of node"),
            "{message}"
        );

        let whole = Model::open(fixture("digits/step.onnx")).unwrap();
        let chosen = Backend::automatic().choose(&whole, 1).unwrap();
        assert_eq!((chosen.backend, chosen.reason), (Backend::native(), None));
    }

    #[cfg(all(feature = "native", feature = "rten"))]
    #[test]
    fn what_no_backend_takes_is_refused_with_the_reason_of_each() {
        let error = Backend::automatic().choose(&step_with("Quux"), 1);
        let error = error.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Backend);
        let message = error.with_causes();
        for part in [
            "`other.onnx`: no backend here takes the model",
            "`native`: operator Quux of node",
            "`rten`: ",
            "`tract`: ",
            "`ort`: ",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
        if cfg!(not(feature = "ort")) {
            assert!(
                message.contains("backends that are not here: "),
                "{message}"
            );
        }
    }

    /// The backends that can be used here. Those that cannot are named, so that no skip is silent.
    pub(crate) fn available_backends() -> Vec<Backend> {
        let there = |backend: &Backend| match backend.check() {
            Ok(()) => true,
            Err(error) => {
                eprintln!("SKIPPED on {backend}: {error}");
                false
            }
        };
        [
            Backend::native(),
            Backend::rten(),
            Backend::tract(),
            Backend::ort(),
        ]
        .into_iter()
        .filter(there)
        .collect()
    }
}
