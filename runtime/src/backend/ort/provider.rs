//! The execution providers of ONNX Runtime.

use std::path::Path;

use ort::ep::{self, ExecutionProvider, ExecutionProviderDispatch};
use ort::memory::AllocationDevice;
use ort::session::builder::SessionBuilder;

use super::super::{Arithmetic, Fallback, Provider};
use super::planned::Opener;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Model;

/// The largest batch for which TensorRT lays out its first engine; larger ones have another.
const SMALLEST_PLAN: usize = 64;

/// Whether a session takes no larger batches than it was opened for.
pub(super) fn plans_batches(provider: Provider, model: &Model) -> bool {
    provider == Provider::TensorRt && model.contract().batch.is_none()
}

/// For batches up to which size a session is opened that has to take one of this size.
pub(super) fn planned_batch(batch: usize) -> usize {
    batch.next_power_of_two().max(SMALLEST_PLAN)
}

/// Returns Ok if the loaded library was built with this provider.
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

/// Puts the provider before the CPU, and forbids the latter unless it was allowed.
pub(super) fn register(
    builder: SessionBuilder,
    opener: &Opener,
    largest_batch: usize,
) -> ort::Result<SessionBuilder> {
    let Some(providers) = providers(opener, largest_batch) else {
        return Ok(builder);
    };
    let strict = providers
        .into_iter()
        .map(ExecutionProviderDispatch::error_on_failure);
    let builder = builder.with_execution_providers(strict.collect::<Vec<_>>())?;
    match opener.backend.fallback {
        Fallback::Refused => Ok(builder.with_disable_cpu_fallback()?),
        Fallback::Allowed => Ok(builder),
    }
}

fn providers(opener: &Opener, largest_batch: usize) -> Option<Vec<ExecutionProviderDispatch>> {
    let device = i32::try_from(opener.backend.device).unwrap_or(i32::MAX);
    match opener.provider {
        Provider::Cpu => None,
        // TF32 would round the factors of every product to ten bits.
        Provider::Cuda => Some(vec![
            ep::CUDA::default()
                .with_device_id(device)
                .with_tf32(false)
                .build(),
        ]),
        Provider::TensorRt => Some(vec![tensorrt(opener, device, largest_batch).build()]),
        Provider::Xnnpack => {
            let threads = std::num::NonZeroUsize::new(opener.n_threads);
            let xnnpack = threads.map_or_else(ep::XNNPACK::default, |threads| {
                ep::XNNPACK::default().with_intra_op_num_threads(threads)
            });
            Some(vec![xnnpack.build()])
        }
        Provider::CoreMl => Some(vec![ep::CoreML::default().build()]),
        Provider::DirectMl => Some(vec![ep::DirectML::default().with_device_id(device).build()]),
    }
}

fn tensorrt(opener: &Opener, device: i32, largest_batch: usize) -> ep::TensorRT {
    let Opener { model, backend, .. } = opener;
    let (smallest, largest) = match model.contract().batch {
        Some(batch) => (batch, batch),
        None => (1, largest_batch),
    };
    let mut provider = ep::TensorRT::default()
        .with_device_id(device)
        .with_fp16(backend.arithmetic == Arithmetic::F16)
        .with_profile_min_shapes(profile(model, smallest))
        .with_profile_opt_shapes(profile(model, largest.min(8)))
        .with_profile_max_shapes(profile(model, largest));
    if let Some(folder) = &backend.cache {
        provider = with_cache(provider, folder, largest);
    }
    provider
}

/// Engines for other batches have other names, so that none takes the place of another.
fn with_cache(provider: ep::TensorRT, folder: &Path, largest: usize) -> ep::TensorRT {
    let folder = folder.display();
    provider
        .with_engine_cache(true)
        .with_engine_cache_prefix(format!("batch_{largest}"))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::tests::fixture;

    #[test]
    fn tensorrt_lays_out_for_the_batch_at_hand_and_others_for_any() {
        let model = Model::open(fixture("digits/step.onnx")).unwrap();
        assert!(plans_batches(Provider::TensorRt, &model));
        assert!(!plans_batches(Provider::Cuda, &model));
        for (batch, wanted) in [(1, 64), (64, 64), (65, 128), (128, 128), (1000, 1024)] {
            assert_eq!(planned_batch(batch), wanted);
        }
        assert_eq!(profile(&model, 128), "x:128x1x8x8,noise:128x1x8x8");
    }
}
