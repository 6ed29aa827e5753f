//! `cargo xtask setup`: libtorch and ONNX Runtime in the cache, and links to them in the clone.

use std::env::consts::{ARCH, OS};
use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use crate::cache::Cache;
use crate::part::{LIBTORCH_CPU, LIBTORCH_CUDA, ONNXRUNTIME, Part};
use crate::surroundings::Surroundings;
use crate::{link, own_library, tool};

/// What the trainer will compute on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// The CPU alone.
    Cpu,
    /// NVIDIA GPUs too.
    Cuda,
}

/// Which libtorch a task wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Libtorch {
    /// This one.
    Fetched(Flavour),
    /// The one that this clone is linked to; without a link, the one for CPUs.
    AsLinked,
}

/// Sets up the clone with the pinned libraries.
pub fn setup(surroundings: &Surroundings, libtorch: Libtorch) -> Result<()> {
    let libtorch = match libtorch {
        Libtorch::Fetched(Flavour::Cpu) => LIBTORCH_CPU,
        Libtorch::Fetched(Flavour::Cuda) => LIBTORCH_CUDA,
        Libtorch::AsLinked => linked_libtorch(surroundings),
    };
    setup_parts(surroundings, &libtorch, &ONNXRUNTIME)
}

/// Sets up the clone with `libtorch` and `onnxruntime`, or with what the user brings in their place.
pub fn setup_parts(surroundings: &Surroundings, libtorch: &Part, onnxruntime: &Part) -> Result<()> {
    let started = Instant::now();
    tool::compiler(surroundings)?;
    match surroundings.variable("LIBTORCH") {
        Some(value) => {
            own_library::check_libtorch(surroundings, value)?;
            report(libtorch, "yours, from LIBTORCH", Path::new(value));
        }
        None => provide(surroundings, libtorch)?,
    }
    match surroundings.variable("ORT_DYLIB_PATH") {
        Some(value) => {
            own_library::check_onnxruntime(value)?;
            report(onnxruntime, "yours, from ORT_DYLIB_PATH", Path::new(value));
        }
        None => provide(surroundings, onnxruntime)?,
    }
    println!("Set up in {:.1} s.", started.elapsed().as_secs_f64());
    Ok(())
}

/// Brings `part` into the cache unless it is there, and links it.
fn provide(surroundings: &Surroundings, part: &Part) -> Result<()> {
    tool::platform(OS, ARCH)?;
    let cache = Cache::new(surroundings.cache()?);
    if !cache.is_complete(part) {
        cache.fill(part, surroundings)?;
    }
    cache.tidy(&[part]);
    let folder = cache.folder(part);
    link::point(
        &surroundings.workspace().join(".deps").join(part.link),
        &folder,
    )?;
    report(part, "ready", &folder);
    Ok(())
}

fn linked_libtorch(surroundings: &Surroundings) -> Part {
    let target = fs::read_link(
        surroundings
            .workspace()
            .join(".deps")
            .join(LIBTORCH_CUDA.link),
    );
    let is_cuda = target.is_ok_and(|target| target.ends_with(LIBTORCH_CUDA.folder));
    if is_cuda { LIBTORCH_CUDA } else { LIBTORCH_CPU }
}

fn report(part: &Part, state: &str, place: &Path) {
    println!("{}: {state} ({})", part.title, place.display());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_linked_to_cuda_stays_with_it() {
        let clone = tempfile::tempdir().unwrap();
        let surroundings = Surroundings::new(clone.path(), []);
        assert_eq!(linked_libtorch(&surroundings).folder, LIBTORCH_CPU.folder);
        link::point(
            &clone.path().join(".deps/libtorch"),
            &Path::new("/cache").join(LIBTORCH_CUDA.folder),
        )
        .unwrap();
        assert_eq!(linked_libtorch(&surroundings).folder, LIBTORCH_CUDA.folder);
    }
}
