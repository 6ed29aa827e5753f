//! What runs a model, and where.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use ebm_runtime::Backend;

use super::memory::Memory;

#[derive(Args)]
#[command(next_help_heading = "Backend")]
pub struct BackendArguments {
    /// Where the model runs: cpu, or cuda or cuda:N for an NVIDIA card, which takes the backend ort-cuda unless --backend names
    /// another [default: cpu]. A number alone is that of a card of ort-directml
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<Device>,
    /// What runs the model: auto (the first of native, rten, tract and ort that is here and takes it), native, rten, tract, ort,
    /// ort-cuda, ort-tensorrt, ort-xnnpack, ort-coreml or ort-directml [default: auto]. One that is named is never replaced by another
    #[arg(long, value_name = "NAME")]
    pub backend: Option<Backend>,
    /// Shared library of ONNX Runtime for the backends ort… [default: ORT_DYLIB_PATH, beside this program, the cache of `cargo xtask setup`, the system's]
    #[arg(long, value_name = "FILE")]
    pub onnxruntime: Option<PathBuf>,
    /// Let parts of the model that a backend ort-… does not know run on the CPU
    #[arg(long)]
    pub allow_fallback: bool,
    /// Folder in which ort-tensorrt keeps its engines, so that only the first start is slow
    #[arg(long, value_name = "DIR")]
    pub engine_cache: Option<PathBuf>,
    /// Let ort-tensorrt compute in f16
    #[arg(long)]
    pub f16: bool,
    /// Error of native: high computes convolutions through tiles of 2×2 pixels at most in place of 4×4, with 0.7 to 0.9 of the
    /// error, and slower
    #[arg(long, value_name = "ACCURACY", value_enum, default_value_t)]
    pub accuracy: Accuracy,
    /// Most memory for the weights of each model on native and the images that go through it at once, such as 64MiB; if it is
    /// little, fewer images go at once, then tiles are smaller
    #[arg(long, value_name = "BYTES")]
    pub memory: Option<Memory>,
}

/// The error that native may make.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Accuracy {
    #[default]
    Usual,
    High,
}

/// Where a network runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    Cpu,
    /// An NVIDIA card.
    Cuda(u32),
    /// A card of whatever kind the backend runs on.
    Card(u32),
}

/// Backends that run on NVIDIA cards.
const ON_NVIDIA: [&str; 2] = ["ort-cuda", "ort-tensorrt"];

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse().ok();
        let device = match text {
            "cpu" => Some(Self::Cpu),
            "cuda" => Some(Self::Cuda(0)),
            _ => match text.strip_prefix("cuda:") {
                Some(card) => number(card).map(Self::Cuda),
                None => number(text).map(Self::Card),
            },
        };
        device.ok_or_else(|| "expected cpu, cuda, or cuda:N with the number of a card".to_owned())
    }
}

impl BackendArguments {
    /// The backend with its settings.
    pub fn backend(&self) -> Result<Backend> {
        let mut backend = self.on_device()?;
        if let Some(library) = &self.onnxruntime {
            backend = backend.with_library(library);
        }
        if self.allow_fallback {
            backend = backend.allow_fallback();
        }
        if let Some(folder) = &self.engine_cache {
            backend = backend.with_cache(folder);
        }
        if self.f16 {
            backend = backend.with_f16();
        }
        if self.accuracy == Accuracy::High {
            backend = backend.with_high_accuracy();
        }
        if let Some(Memory(bytes)) = self.memory {
            backend = backend.with_memory(bytes);
        }
        Ok(backend)
    }

    fn on_device(&self) -> Result<Backend> {
        let named = self.backend.clone();
        Ok(match self.device {
            None => named.unwrap_or_default(),
            Some(Device::Card(card)) => named.unwrap_or_default().with_device(card),
            Some(Device::Cpu) => match named.unwrap_or_default() {
                backend if ON_NVIDIA.contains(&backend.name()) => bail!(
                    "--device cpu: the backend `{backend}` runs on NVIDIA cards; leave out --backend, or give one that runs on the CPU"
                ),
                backend => backend,
            },
            Some(Device::Cuda(card)) => match named.map_or_else(|| ON_NVIDIA[0].parse(), Ok)? {
                backend if ON_NVIDIA.contains(&backend.name()) => backend.with_device(card),
                backend => bail!(
                    "--device cuda: the backend `{backend}` does not run on NVIDIA cards; leave out --backend, or give ort-cuda or ort-tensorrt"
                ),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        backend: BackendArguments,
    }

    #[test]
    fn device_and_backend_agree_or_are_refused() {
        let cuda = |card| "ort-cuda".parse::<Backend>().unwrap().with_device(card);
        let cases: [(&str, Result<Backend, &str>); 11] = [
            ("", Ok(Backend::default())),
            ("--device cpu", Ok(Backend::default())),
            ("--device cpu --backend ort", Ok(Backend::ort())),
            ("--accuracy usual", Ok(Backend::default())),
            (
                "--accuracy high",
                Ok(Backend::default().with_high_accuracy()),
            ),
            ("--device cuda", Ok(cuda(0))),
            ("--device cuda:2", Ok(cuda(2))),
            ("--backend ort-cuda --device cuda:1", Ok(cuda(1))),
            ("--backend ort-cuda --device 3", Ok(cuda(3))),
            (
                "--backend native --device cuda",
                Err("does not run on NVIDIA"),
            ),
            (
                "--backend ort-cuda --device cpu",
                Err("runs on NVIDIA cards"),
            ),
        ];
        for (line, expected) in cases {
            let arguments = Line::parse_from(["purify"].into_iter().chain(line.split_whitespace()));
            match (arguments.backend.backend(), expected) {
                (Ok(backend), Ok(expected)) => assert_eq!(backend, expected, "{line}"),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{line}: {error}");
                }
                (got, _) => panic!("{line}: {got:?}"),
            }
        }
        for text in ["gpu", "cuda:", "cuda:x", "cuda:-1", "-1", ""] {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }
}
