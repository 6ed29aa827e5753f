//! Engines that run models, chosen by name.

#[cfg(feature = "ort")]
mod ort;
#[cfg(feature = "tract")]
mod tract;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};
use crate::model::Model;

/// A named f32 tensor that goes into a session.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The model's name for it.
    pub name: &'a str,
    /// Its shape; empty for a scalar.
    pub shape: &'a [usize],
    /// Its values in standard layout, as many as the shape says.
    pub values: &'a [f32],
}

/// Where the values of a named f32 tensor go that comes out of a session.
#[derive(Debug)]
pub struct Output<'a> {
    /// The model's name for it.
    pub name: &'a str,
    /// The shape that it must have.
    pub shape: &'a [usize],
    /// Room for its values in standard layout, as many as the shape says.
    pub values: &'a mut [f32],
}

/// A model prepared by a backend. This trait is all that a backend must provide besides its preparation of a model.
pub trait Session: Send {
    /// Runs the model once. The first dimension of the inputs may differ from run to run where the model allows it.
    ///
    /// # Errors
    /// [`ErrorKind::Backend`] where the engine fails, [`ErrorKind::Shape`] where an output has another shape than asked for.
    fn run(&mut self, inputs: &[Input<'_>], outputs: &mut [Output<'_>]) -> Result<()>;

    /// A session on the same prepared model, for another thread.
    fn fork(&self) -> Box<dyn Session>;
}

/// Where a backend uses the threads that it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Parallelism {
    /// Each session runs on the thread that calls it, and several run at once.
    AcrossSessions,
    /// One session uses all threads by itself.
    WithinSession,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Engine {
    Tract,
    Ort,
}

/// An engine that can run models, by name: `tract` (pure Rust) or `ort` (ONNX Runtime, a shared library that is loaded at run time).
///
/// ONNX Runtime's library is looked for at the path given with [`Backend::with_library`], then the one in the environment variable `ORT_DYLIB_PATH`,
/// then beside the executable, then where the system looks for libraries. One process loads it once: a later other path is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    engine: Engine,
    library: Option<PathBuf>,
}

impl Backend {
    /// The names of all backends, compiled in or not.
    pub const NAMES: [&'static str; 2] = ["tract", "ort"];

    /// The pure-Rust backend.
    pub fn tract() -> Self {
        Self {
            engine: Engine::Tract,
            library: None,
        }
    }

    /// ONNX Runtime on the CPU.
    pub fn ort() -> Self {
        Self {
            engine: Engine::Ort,
            library: None,
        }
    }

    /// Names the file of the shared library. Backends without a library ignore it.
    pub fn with_library(mut self, path: impl Into<PathBuf>) -> Self {
        self.library = Some(path.into());
        self
    }

    /// The backend's name.
    pub fn name(&self) -> &'static str {
        match self.engine {
            Engine::Tract => "tract",
            Engine::Ort => "ort",
        }
    }

    /// The file named with [`Backend::with_library`].
    pub fn library(&self) -> Option<&Path> {
        self.library.as_deref()
    }

    /// Where this backend uses threads.
    pub fn parallelism(&self) -> Parallelism {
        match self.engine {
            Engine::Tract => Parallelism::AcrossSessions,
            Engine::Ort => Parallelism::WithinSession,
        }
    }

    /// Nothing where the backend can be used here.
    ///
    /// # Errors
    /// [`ErrorKind::BackendMissing`], with the reason and the way out.
    pub fn check(&self) -> Result<()> {
        match self.engine {
            #[cfg(feature = "tract")]
            Engine::Tract => Ok(()),
            #[cfg(feature = "ort")]
            Engine::Ort => ort::load(self.library()).map(drop),
            #[cfg(not(all(feature = "tract", feature = "ort")))]
            _ => Err(self.not_compiled_in()),
        }
    }

    /// Prepares a model. `n_threads` counts only where [`Backend::parallelism`] is [`Parallelism::WithinSession`].
    ///
    /// # Errors
    /// [`ErrorKind::BackendMissing`] where the backend cannot be used here, [`ErrorKind::Backend`] where it cannot run this model.
    pub fn prepare(&self, model: &Model, n_threads: usize) -> Result<Box<dyn Session>> {
        // Not every set of features reads the arguments.
        let _ = (model, n_threads);
        match self.engine {
            #[cfg(feature = "tract")]
            Engine::Tract => tract::prepare(model),
            #[cfg(feature = "ort")]
            Engine::Ort => ort::prepare(model, n_threads, self.library()),
            #[cfg(not(all(feature = "tract", feature = "ort")))]
            _ => Err(self.not_compiled_in()),
        }
    }

    #[cfg(not(all(feature = "tract", feature = "ort")))]
    fn not_compiled_in(&self) -> Error {
        let name = self.name();
        Error::new(
            ErrorKind::BackendMissing,
            format!("the backend `{name}` was not compiled in"),
        )
        .advise(format!(
            "build with `--features {name}`, or use another of the backends: {}",
            compiled_in()
        ))
    }
}

impl Default for Backend {
    /// `tract` where it is compiled in, else `ort`.
    fn default() -> Self {
        if cfg!(feature = "tract") || !cfg!(feature = "ort") {
            Self::tract()
        } else {
            Self::ort()
        }
    }
}

impl FromStr for Backend {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "tract" => Ok(Self::tract()),
            "ort" => Ok(Self::ort()),
            _ => Err(
                Error::new(ErrorKind::BackendMissing, "no backend has this name")
                    .expected(Self::NAMES.join(" or "))
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

#[cfg(not(all(feature = "tract", feature = "ort")))]
fn compiled_in() -> &'static str {
    match (cfg!(feature = "tract"), cfg!(feature = "ort")) {
        (true, _) => "tract",
        (_, true) => "ort",
        _ => "none",
    }
}

#[cfg(any(feature = "tract", feature = "ort"))]
fn check_names(kind: &str, wanted: &[&str], there: &[String]) -> Result<Vec<usize>> {
    let place = |name: &&str| {
        there.iter().position(|other| other == name).ok_or_else(|| {
            Error::new(ErrorKind::Backend, format!("the model has no such {kind}"))
                .at_tensor(*name)
                .expected(format!("one of the model's: {}", there.join(", ")))
                .advise("the file does not keep to its contract: export it again")
        })
    };
    wanted.iter().map(place).collect()
}

/// Nothing where the declared shape of the input `x` is that of the contract; sizes that are not fixed are `None`.
#[cfg(any(feature = "tract", feature = "ort"))]
fn check_image(model: &Model, declared: &[Option<usize>]) -> Result<()> {
    let image = model.contract().image;
    let expected = [
        model.contract().batch,
        Some(image.channels),
        Some(image.height),
        Some(image.width),
    ];
    let fits = |(declared, expected): (&Option<usize>, Option<usize>)| {
        declared.is_none() || expected.is_none() || *declared == expected
    };
    if declared.len() == 4 && declared.iter().zip(expected).all(fits) {
        return Ok(());
    }
    let show = |sizes: &[Option<usize>]| {
        let sizes: Vec<_> = sizes
            .iter()
            .map(|size| size.map_or("N".into(), |size| size.to_string()))
            .collect();
        format!("[{}]", sizes.join(", "))
    };
    Err(Error::new(
        ErrorKind::Shape,
        "the model's input has another shape than its contract says",
    )
    .at_path(model.path())
    .at_tensor("x")
    .expected(show(&expected))
    .but_got(show(declared))
    .advise("the file does not keep to its contract: export it again"))
}

#[cfg(any(feature = "tract", feature = "ort"))]
fn copy_output(output: &mut Output<'_>, shape: &[usize], values: &[f32]) -> Result<()> {
    if shape != output.shape || values.len() != output.values.len() {
        return Err(Error::new(ErrorKind::Shape, "an output has a wrong shape")
            .at_tensor(output.name)
            .expected(format!("{:?}", output.shape))
            .but_got(format!("{shape:?}"))
            .advise("the file does not keep to its contract: export it again"));
    }
    output.values.copy_from_slice(values);
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::tests::fixture;

    #[test]
    fn names_lead_to_backends_and_back() {
        for name in Backend::NAMES {
            assert_eq!(name.parse::<Backend>().unwrap().name(), name);
        }
        let error = "cuda".parse::<Backend>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BackendMissing);
        assert!(
            error
                .to_string()
                .contains("expected tract or ort, got `cuda`"),
            "{error}"
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
            let mut other = session.fork();
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

    /// The backends that can be used here. Those that cannot are named, so that no skip is silent.
    pub(crate) fn available_backends() -> Vec<Backend> {
        let there = |backend: &Backend| match backend.check() {
            Ok(()) => true,
            Err(error) => {
                eprintln!("SKIPPED on {backend}: {error}");
                false
            }
        };
        [Backend::tract(), Backend::ort()]
            .into_iter()
            .filter(there)
            .collect()
    }
}
