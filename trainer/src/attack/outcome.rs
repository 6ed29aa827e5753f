//! What an attack found, and how it is written.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use ebm_export::file::write_whole;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::Parameters;
use crate::config::Dynamics;
use crate::interval::Accuracy;

/// The file of [`Results`].
pub const RESULTS: &str = "attack.json";

/// An attack on some images.
#[derive(Debug)]
pub struct Outcome {
    /// Per image the confirmed break, or the last iterate where it was not broken; f32 `[n, C, H, W]`.
    pub attacked: Tensor,
    /// Per image: was it broken, or wrong from the start?
    pub broken: Vec<bool>,
    /// Per image: was it right before the attack?
    pub right_when_clean: Vec<bool>,
}

impl Outcome {
    /// Share of images that stand.
    pub fn robust(&self) -> Accuracy {
        Accuracy::new(
            self.broken.iter().filter(|broken| !**broken).count(),
            self.broken.len(),
        )
    }

    /// Share of images that are right without an attack.
    pub fn clean(&self) -> Accuracy {
        Accuracy::of(&self.right_when_clean)
    }
}

/// Accuracies of the bare and the defended classifier.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Bare, on clean images.
    pub clean: Accuracy,
    /// Bare, on images attacked for it.
    pub attacked: Accuracy,
    /// Defended, on clean images.
    pub defended_clean: Accuracy,
    /// Defended, on images attacked for it.
    pub defended_attacked: Accuracy,
}

/// `attack.json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    /// What was done.
    pub attack: String,
    /// How.
    pub parameters: Parameters,
    /// How images were purified.
    pub purification: Dynamics,
    /// Images attacked.
    pub n_images: usize,
    /// What came out.
    #[serde(flatten)]
    pub report: Report,
    /// Duration of the attacks.
    pub seconds: f64,
    /// SHA-256 of the weights of the energy and of the classifier.
    pub weights_sha256: BTreeMap<String, String>,
}

impl Results {
    /// Writes `attack.json` and `attacked.safetensors` into a folder.
    ///
    /// # Errors
    /// The disk is full, for example.
    pub fn write(
        &self,
        folder: &Path,
        clean: &Tensor,
        labels: &Tensor,
        bare: &Outcome,
        defended: &Outcome,
    ) -> Result<()> {
        let tensors = [
            ("clean", floats(clean)?),
            ("attacked", floats(&defended.attacked)?),
            ("labels", integers(labels)?),
            ("broken", flags(&defended.broken)),
            ("bare_attacked", floats(&bare.attacked)?),
            ("bare_broken", flags(&bare.broken)),
        ];
        let views = tensors
            .iter()
            .map(|(name, stored)| Ok((*name, stored.view()?)))
            .collect::<Result<Vec<_>>>()?;
        let bytes =
            safetensors::serialize(views, None).context("cannot encode the attacked images")?;
        write_whole(&folder.join("attacked.safetensors"), &bytes)?;
        let json = serde_json::to_string_pretty(self).context("cannot encode the results")? + "\n";
        Ok(write_whole(&folder.join(RESULTS), json.as_bytes())?)
    }
}

impl Report {
    /// Each accuracy and what it is of.
    pub fn rows(&self) -> [(&'static str, Accuracy); 4] {
        [
            ("bare classifier, clean", self.clean),
            ("bare classifier, attacked (PGD)", self.attacked),
            ("defended, clean", self.defended_clean),
            ("defended, attacked (BPDA+EOT)", self.defended_attacked),
        ]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<34} {:>8}  {:>5}  95 % interval", "", "accuracy", "n")?;
        for (
            name,
            Accuracy {
                n,
                accuracy,
                interval: [low, high],
                ..
            },
        ) in self.rows()
        {
            writeln!(
                f,
                "{name:<34} {:>6.1} %  {n:>5}  {:.1} to {:.1} %",
                100.0 * accuracy,
                100.0 * low,
                100.0 * high
            )?;
        }
        Ok(())
    }
}

/// A tensor as it is stored.
struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Stored {
    fn view(&self) -> Result<TensorView<'_>> {
        TensorView::new(self.dtype, self.shape.clone(), &self.bytes)
            .context("cannot encode a tensor")
    }
}

fn shape(tensor: &Tensor) -> Vec<usize> {
    tensor.size().iter().map(|&size| size as usize).collect()
}

fn floats(tensor: &Tensor) -> Result<Stored> {
    let flat = tensor
        .to_device(Device::Cpu)
        .to_kind(Kind::Float)
        .contiguous()
        .view([-1]);
    let bytes = Vec::<f32>::try_from(flat)?
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    Ok(Stored {
        dtype: Dtype::F32,
        shape: shape(tensor),
        bytes,
    })
}

fn integers(tensor: &Tensor) -> Result<Stored> {
    let flat = tensor.to_device(Device::Cpu).contiguous().view([-1]);
    let bytes = Vec::<i64>::try_from(flat)?
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    Ok(Stored {
        dtype: Dtype::I64,
        shape: shape(tensor),
        bytes,
    })
}

fn flags(flags: &[bool]) -> Stored {
    Stored {
        dtype: Dtype::U8,
        shape: vec![flags.len()],
        bytes: flags.iter().map(|&flag| u8::from(flag)).collect(),
    }
}
