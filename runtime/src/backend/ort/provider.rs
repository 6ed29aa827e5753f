//! The execution providers of ONNX Runtime.

use std::path::Path;

use ort::ep::{self, ExecutionProvider, ExecutionProviderDispatch};
use ort::memory::AllocationDevice;
use ort::session::builder::SessionBuilder;

use super::super::{Arithmetic, Backend, Fallback, Provider};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Model;

/// The largest batch for which TensorRT lays out its engine; larger ones make it build another.
const LARGEST_PLANNED_BATCH: usize = 64;

/// Nothing where the loaded library was built with this provider.
pub(super) fn check(provider: Provider) -> Result<()> {
    let there = match provider {
        Provider::Cpu => Ok(true),
        Provider::Cuda => ep::CUDA::is_available(),
        Provider::TensorRt => ep::TensorRT::is_available(),
        Provider::Xnnpack => ep::XNNPACK::is_available(),
        Provider::CoreMl => ep::CoreML::is_available(),
        Provider::DirectMl => ep::DirectML::is_available(),
    };
    let missing = || {
        let problem = format!(
            "the library of ONNX Runtime was built without {}",
            title(provider)
        );
        Error::new(ErrorKind::BackendMissing, problem).advise(format!(
            "name a library that has it ({}) in ORT_DYLIB_PATH, or use the backend `ort`",
            source(provider)
        ))
    };
    match there {
        Ok(true) => Ok(()),
        Ok(false) => Err(missing()),
        Err(e) => Err(missing().caused_by(e)),
    }
}

/// Where the device of a provider keeps its tensors, if that is not the memory of the CPU.
pub(super) fn memory(provider: Provider) -> Option<AllocationDevice<'static>> {
    match provider {
        Provider::Cuda | Provider::TensorRt => Some(AllocationDevice::CUDA),
        _ => None,
    }
}

/// Puts the provider before the CPU, and forbids the latter where that was not allowed.
pub(super) fn register(
    builder: SessionBuilder,
    backend: &Backend,
    provider: Provider,
    model: &Model,
    n_threads: usize,
) -> ort::Result<SessionBuilder> {
    let Some(providers) = providers(backend, provider, model, n_threads) else {
        return Ok(builder);
    };
    let strict = providers
        .into_iter()
        .map(ExecutionProviderDispatch::error_on_failure);
    let builder = builder.with_execution_providers(strict.collect::<Vec<_>>())?;
    match backend.fallback {
        Fallback::Refused => Ok(builder.with_disable_cpu_fallback()?),
        Fallback::Allowed => Ok(builder),
    }
}

fn providers(
    backend: &Backend,
    provider: Provider,
    model: &Model,
    n_threads: usize,
) -> Option<Vec<ExecutionProviderDispatch>> {
    let device = i32::try_from(backend.device).unwrap_or(i32::MAX);
    match provider {
        Provider::Cpu => None,
        // TF32 would round the factors of every product to ten bits.
        Provider::Cuda => Some(vec![
            ep::CUDA::default()
                .with_device_id(device)
                .with_tf32(false)
                .build(),
        ]),
        Provider::TensorRt => Some(vec![tensorrt(backend, model, device).build()]),
        Provider::Xnnpack => {
            let threads = std::num::NonZeroUsize::new(n_threads);
            let xnnpack = threads.map_or_else(ep::XNNPACK::default, |threads| {
                ep::XNNPACK::default().with_intra_op_num_threads(threads)
            });
            Some(vec![xnnpack.build()])
        }
        Provider::CoreMl => Some(vec![ep::CoreML::default().build()]),
        Provider::DirectMl => Some(vec![ep::DirectML::default().with_device_id(device).build()]),
    }
}

fn tensorrt(backend: &Backend, model: &Model, device: i32) -> ep::TensorRT {
    let contract = model.contract();
    let (smallest, largest) = match contract.batch {
        Some(batch) => (batch, batch),
        None => (1, LARGEST_PLANNED_BATCH),
    };
    let mut provider = ep::TensorRT::default()
        .with_device_id(device)
        .with_fp16(backend.arithmetic == Arithmetic::F16)
        .with_profile_min_shapes(profile(model, smallest))
        .with_profile_opt_shapes(profile(model, largest.min(8)))
        .with_profile_max_shapes(profile(model, largest));
    if let Some(folder) = &backend.cache {
        provider = with_cache(provider, folder);
    }
    provider
}

fn with_cache(provider: ep::TensorRT, folder: &Path) -> ep::TensorRT {
    let folder = folder.display();
    provider
        .with_engine_cache(true)
        .with_engine_cache_path(folder.to_string())
        .with_timing_cache(true)
        .with_timing_cache_path(folder.to_string())
}

/// The shapes of the inputs that have a batch, as TensorRT's options spell them.
fn profile(model: &Model, batch: usize) -> String {
    let contract = model.contract();
    let image = contract.image;
    let image = format!(
        "{batch}x{}x{}x{}",
        image.channels, image.height, image.width
    );
    let noise = match contract.n_steps {
        Some(n_steps) if n_steps > 1 => format!("{n_steps}x{image}"),
        _ => image.clone(),
    };
    match contract.kind {
        crate::contract::Kind::Step => format!("x:{image},noise:{noise}"),
        _ => format!("x:{image}"),
    }
}

/// The provider's own name.
pub(super) fn title(provider: Provider) -> &'static str {
    match provider {
        Provider::Cpu => "the CPU",
        Provider::Cuda => "CUDA",
        Provider::TensorRt => "TensorRT",
        Provider::Xnnpack => "XNNPACK",
        Provider::CoreMl => "CoreML",
        Provider::DirectMl => "DirectML",
    }
}

fn source(provider: Provider) -> &'static str {
    match provider {
        Provider::Cpu => "any",
        Provider::Cuda | Provider::TensorRt => "the package onnxruntime-gpu",
        Provider::Xnnpack => "a build with --use_xnnpack",
        Provider::CoreMl => "the package for macOS",
        Provider::DirectMl => "the package onnxruntime-directml, on Windows",
    }
}
