//! ONNX Runtime on the CPU, from a shared library that is loaded when it is first asked for.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session as OrtSession, SessionInputValue};
use ort::value::TensorRef;

use super::{Input, Output, Session, check_image, check_names, copy_output};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Model;

/// The environment variable that names the library.
const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";

/// The library that this process has loaded, and its environment: ONNX Runtime allows one of each.
static LOADED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

/// Loads the library where that has not been done yet.
pub(super) fn load(library: Option<&Path>) -> Result<Environment> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let (path, found) = find_library(library)?;
    if let Some((loaded_path, environment)) = loaded.as_ref() {
        if library.is_some() && *loaded_path != path {
            return Err(
                missing("this process has already loaded another library of ONNX Runtime")
                    .at_path(path)
                    .but_got(loaded_path.display())
                    .advise("name one library for the whole process"),
            );
        }
        return Ok(environment.clone());
    }
    let environment = open_library(&path).map_err(|source| {
        missing(&format!("the library of ONNX Runtime ({found}) cannot be used"))
            .at_path(&path)
            .advise(format!(
                "install ONNX Runtime 1.{} or newer and name its library in {LIBRARY_VARIABLE}, or use the backend `tract`",
                ort::MINOR_VERSION
            ))
            .caused_by(source)
    })?;
    *loaded = Some((path, environment.clone()));
    Ok(environment)
}

fn missing(problem: &str) -> Error {
    Error::new(ErrorKind::BackendMissing, problem)
}

/// Opening through [`ort::init_from`] gives an error where the library is missing or too old; the crate's other ways panic.
fn open_library(path: &Path) -> Result<Environment, Box<dyn std::error::Error + Send + Sync>> {
    let environment = ort::init_from(path).map_err(|e| e.to_string())?;
    Ok(environment
        .with_name("ebm-runtime")
        .with_telemetry(false)
        .build()?)
}

/// The library's path, and how it was found. A path that somebody named is used even where nothing is there, so that the mistake comes to light.
fn find_library(library: Option<&Path>) -> Result<(PathBuf, &'static str)> {
    let named = |path: &Path, how| {
        let absolute = std::path::absolute(path);
        let absolute = absolute.map_err(|e| {
            missing("this path cannot be used")
                .at_path(path)
                .caused_by(e)
        })?;
        Ok((absolute, how))
    };
    if let Some(path) = library {
        return named(path, "given explicitly");
    }
    if let Some(path) = std::env::var_os(LIBRARY_VARIABLE).filter(|path| !path.is_empty()) {
        return named(Path::new(&path), "named in ORT_DYLIB_PATH");
    }
    let name = format!(
        "{}onnxruntime{}",
        std::env::consts::DLL_PREFIX,
        std::env::consts::DLL_SUFFIX
    );
    let beside = std::env::current_exe()
        .ok()
        .and_then(|path| Some(path.parent()?.join(&name)));
    match beside.filter(|path| path.is_file()) {
        Some(path) => Ok((path, "beside the executable")),
        None => Ok((name.into(), "looked for in the system's folders")),
    }
}

pub(super) fn prepare(
    model: &Model,
    n_threads: usize,
    library: Option<&Path>,
) -> Result<Box<dyn Session>> {
    let environment = load(library)?;
    let session = open_session(&environment, model.bytes(), n_threads).map_err(|e| {
        Error::new(ErrorKind::Backend, "ONNX Runtime cannot load the model")
            .at_path(model.path())
            .advise("export it again, or use the backend `tract`")
            .caused_by(e)
    })?;
    let x = session.inputs().iter().find(|outlet| outlet.name() == "x");
    if let Some(shape) = x.and_then(|outlet| outlet.dtype().tensor_shape()) {
        let declared: Vec<_> = shape
            .iter()
            .map(|&size| usize::try_from(size).ok())
            .collect();
        check_image(model, &declared)?;
    }
    let names = |outlets: &[ort::value::Outlet]| {
        outlets
            .iter()
            .map(|outlet| outlet.name().to_owned())
            .collect()
    };
    Ok(Box::new(SharedSession {
        inputs: names(session.inputs()),
        outputs: names(session.outputs()),
        session: Arc::new(Mutex::new(session)),
    }))
}

fn open_session(
    environment: &Environment,
    bytes: &[u8],
    n_threads: usize,
) -> ort::Result<OrtSession> {
    OrtSession::builder(environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(n_threads)?
        .with_parallel_execution(false)?
        // Threads that wait by spinning would take the processor from the noise between two steps.
        .with_config_entry("session.force_spinning_stop", "1")?
        .commit_from_memory(bytes)
}

/// One session with its own threads; forks take turns at it.
struct SharedSession {
    session: Arc<Mutex<OrtSession>>,
    inputs: Vec<String>,
    outputs: Vec<String>,
}

impl SharedSession {
    fn run_checked(
        &self,
        inputs: &[Input<'_>],
        outputs: &mut [Output<'_>],
    ) -> ort::Result<Result<()>> {
        let tensors = inputs.iter().map(|input| {
            let tensor = TensorRef::from_array_view((input.shape, input.values))?;
            Ok((input.name, SessionInputValue::from(tensor)))
        });
        let tensors: Vec<_> = tensors.collect::<ort::Result<_>>()?;
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let results = session.run(tensors)?;
        for output in outputs {
            let (shape, values) = results[output.name].try_extract_tensor::<f32>()?;
            let shape: Vec<usize> = shape
                .iter()
                .map(|&d| usize::try_from(d).unwrap_or(0))
                .collect();
            if let Err(error) = copy_output(output, &shape, values) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }
}

impl Session for SharedSession {
    fn run(&mut self, inputs: &[Input<'_>], outputs: &mut [Output<'_>]) -> Result<()> {
        let names: Vec<&str> = inputs.iter().map(|input| input.name).collect();
        check_names("input", &names, &self.inputs)?;
        let names: Vec<&str> = outputs.iter().map(|output| output.name).collect();
        check_names("output", &names, &self.outputs)?;
        self.run_checked(inputs, outputs).unwrap_or_else(|e| {
            Err(Error::new(
                ErrorKind::Backend,
                "ONNX Runtime failed at running the model",
            )
            .caused_by(e))
        })
    }

    fn fork(&self) -> Box<dyn Session> {
        Box::new(Self {
            session: Arc::clone(&self.session),
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
        })
    }
}
