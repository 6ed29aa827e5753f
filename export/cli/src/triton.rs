//! What `ebm-export onnx --layout triton` is told besides.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use ebm_export::graph::Batch;
use ebm_export::source::checkpoint::Header;
use ebm_export::source::{Energy, ImageShape, Kind, Purification};
use ebm_export::write::onnx::Opset;
use ebm_export::write::triton::{Batching, Served, ServedClassifier};
use ebm_export::write::{Export, Form};

/// Most steps of one call unless more are asked for: each is another copy of the network's operators.
const USUAL_MOST_STEPS: usize = 100;
/// Images of one run of the server.
const MAX_BATCH: usize = 64;
/// How long a request waits for others that run with it.
const MAX_DELAY_MICROSECONDS: u64 = 2000;

/// What a server is to run.
#[derive(Args)]
#[command(next_help_heading = "With --layout triton")]
pub struct TritonArguments {
    /// Langevin steps of one call; those that the checkpoint recommends, at most 100, unless given
    #[arg(long, value_name = "K")]
    steps: Option<usize>,
    /// Step size ε; the recommended one unless given
    #[arg(long, value_name = "EPSILON")]
    step_size: Option<f64>,
    /// Temperature T; the recommended one unless given
    #[arg(long, value_name = "T")]
    temperature: Option<f64>,
    /// Classify what is purified: a classifier's checkpoint or run folder, or the ONNX file of any classifier `[N, C, H, W] → [N, classes]`
    #[arg(long, value_name = "CLASSIFIER")]
    pub classifier: Option<PathBuf>,
    /// Most images that the server runs at once; 64 unless given
    #[arg(long, value_name = "N")]
    max_batch: Option<usize>,
}

impl TritonArguments {
    /// Refuses them if files are not written for a server.
    pub fn refuse(&self) -> Result<()> {
        let given = [
            ("--steps", self.steps.is_some()),
            ("--step-size", self.step_size.is_some()),
            ("--temperature", self.temperature.is_some()),
            ("--classifier", self.classifier.is_some()),
            ("--max-batch", self.max_batch.is_some()),
        ];
        match given.iter().find(|(_, is_given)| *is_given) {
            Some((name, _)) => bail!("{name} belongs to --layout triton; give that too"),
            None => Ok(()),
        }
    }

    /// What is served, by what was asked for and what the checkpoint recommends; checked.
    pub fn served(&self, header: &Header, batch: Batch, export: &Export) -> Result<Served> {
        let served = Served {
            dynamics: self.dynamics(header)?,
            batching: Batching {
                max_batch: self.max_batch.unwrap_or(MAX_BATCH),
                max_delay_microseconds: MAX_DELAY_MICROSECONDS,
            },
            classifier: self.classifier(header.network.image(), export.opset)?,
        };
        served.check(header, batch, export)?;
        Ok(served)
    }

    fn dynamics(&self, header: &Header) -> Result<Purification> {
        let recommended = header.purification.as_ref();
        let learned = header.langevin.as_ref();
        let missing = |what: &str, flag: &str| {
            format!("the checkpoint recommends no {what} to purify with; give {flag}")
        };
        let step_size = self
            .step_size
            .or(recommended.map(|recommended| recommended.step_size))
            .or(learned.map(|learned| learned.step_size))
            .with_context(|| missing("step size", "--step-size"))?;
        let temperature = self
            .temperature
            .or(recommended.map(|recommended| recommended.temperature))
            .or(learned.map(|learned| learned.temperature))
            .with_context(|| missing("temperature", "--temperature"))?;
        let steps = self
            .steps
            .or(recommended.map(|recommended| recommended.steps.min(USUAL_MOST_STEPS)))
            .with_context(|| missing("number of steps", "--steps"))?;
        Ok(Purification {
            step_size,
            temperature,
            steps,
        })
    }

    /// The classifier that was asked for, for images of that shape.
    fn classifier(&self, image: ImageShape, opset: Opset) -> Result<Option<ServedClassifier>> {
        let Some(path) = &self.classifier else {
            return Ok(None);
        };
        let served = || -> Result<ServedClassifier> {
            let bytes = match path.is_dir() {
                true => exported(path, opset)?,
                false => std::fs::read(path)?,
            };
            Ok(ServedClassifier::new(bytes, image)?)
        };
        served()
            .map(Some)
            .with_context(|| format!("--classifier {}", path.display()))
    }
}

/// The classifier of a checkpoint as ONNX.
fn exported(path: &Path, opset: Opset) -> Result<Vec<u8>> {
    let classifier = Energy::of_checkpoint(path)?;
    ensure!(
        classifier.kind == Kind::Classifier,
        "expected the checkpoint of a classifier, got kind `{}`",
        classifier.kind
    );
    let export = Export {
        opset,
        ..Export::default()
    };
    Ok(export.model(&classifier, &Form::Forward)?.to_bytes())
}
