//! `purify info` and `purify backends`.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use ebm_runtime::{Backend, Model, Prepared};
use serde_json::{Value, json};

use crate::arguments::{BackendsArguments, InfoArguments};
use crate::chosen;

pub fn info(arguments: &InfoArguments) -> Result<ExitCode> {
    let models = arguments.model.open()?;
    let backend = arguments.backend.backend()?;
    let mut out = std::io::stdout().lock();
    if arguments.json {
        let classifier = models.classifier.as_ref().map(Model::contract);
        let runs_on = |model: &Model| match prepared(model, &backend) {
            Ok(prepared) => machine(&prepared),
            Err(error) => json!({ "error": error.with_causes() }),
        };
        let description = json!({
            "step": models.step.contract(),
            "classifier": classifier,
            "runs_on": {
                "step": runs_on(&models.step),
                "classifier": models.classifier.as_ref().map(runs_on),
            },
        });
        writeln!(out, "{description:#}")?;
        return Ok(ExitCode::SUCCESS);
    }
    describe(&mut out, &models.step, &backend)?;
    if let Some(classifier) = &models.classifier {
        writeln!(out)?;
        describe(&mut out, classifier, &backend)?;
    }
    Ok(ExitCode::SUCCESS)
}

pub fn backends(arguments: &BackendsArguments) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    for name in Backend::NAMES {
        let mut backend: Backend = name.parse()?;
        if let Some(library) = &arguments.onnxruntime {
            backend = backend.with_library(library);
        }
        match backend.check() {
            Ok(()) => writeln!(out, "{name}: available")?,
            Err(error) => writeln!(out, "{name}: missing: {:#}", anyhow::Error::new(error))?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn prepared(model: &Model, backend: &Backend) -> ebm_runtime::Result<Prepared> {
    let builder = Prepared::builder(model).backend(backend.clone());
    builder.threads(1).build()
}

fn describe(out: &mut dyn Write, model: &Model, backend: &Backend) -> Result<()> {
    let contract = model.contract();
    let mut line = |name: &str, value: &dyn Display| writeln!(out, "{name:<16} {value}");
    line("file", &model.path().display())?;
    line("kind", &contract.kind)?;
    line("network", &contract.network_name().unwrap_or("not named"))?;
    line("image [C, H, W]", &contract.image)?;
    let [low, high] = contract.value_range;
    line("pixel values", &format_args!("{low} to {high}"))?;
    match contract.batch {
        Some(batch) => line("batch", &format_args!("fixed at {batch}"))?,
        None => line("batch", &"any")?,
    }
    if let Some(langevin) = contract.langevin {
        let steps = langevin.steps.map_or("?".into(), |n| n.to_string());
        let (step_size, temperature) = (langevin.step_size, langevin.temperature);
        let tau = langevin
            .tau
            .map_or(String::new(), |tau| format!(", τ = {tau}"));
        line(
            "learned with",
            &format_args!("{steps} steps, ε = {step_size}, T = {temperature}{tau}"),
        )?;
    }
    if let Some(p) = contract.purification {
        line(
            "purification",
            &format_args!(
                "{} steps, ε = {}, T = {}",
                p.steps, p.step_size, p.temperature
            ),
        )?;
    }
    if let Some(n_classes) = contract.n_classes {
        line("classes", &n_classes)?;
    }
    if let Some(opset) = contract.opset {
        line("ONNX opset", &opset)?;
    }
    let rewrites = if contract.rewrites.is_empty() {
        "none".into()
    } else {
        contract.rewrites.join(", ")
    };
    line("rewrites", &rewrites)?;
    line(
        "weights",
        &contract.weights_sha256.as_deref().unwrap_or("no hash"),
    )?;
    let prepared = match prepared(model, backend) {
        Ok(prepared) => prepared,
        Err(error) => {
            line("runs on", &format_args!("none: {}", error.with_causes()))?;
            return Ok(());
        }
    };
    let reason = prepared.backend_reason();
    let reason = reason.map_or(String::new(), |reason| format!("; {reason}"));
    line("runs on", &format_args!("{}{reason}", prepared.backend()))?;
    if let Some(footprint) = prepared.footprint() {
        let vectors = footprint.vectors.as_deref().unwrap_or("plain scalars");
        let [weights, image] = [footprint.weight_bytes, footprint.image_bytes].map(mebibytes);
        line("vectors", &vectors)?;
        match footprint.tile_side {
            1 => line("tiles", &"none")?,
            side => line("tiles", &format_args!("{side}×{side} pixels at most"))?,
        }
        line(
            "memory",
            &format_args!("{weights:.1} MiB of weights, {image:.2} MiB for each image at a time"),
        )?;
    }
    Ok(())
}

fn mebibytes(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The backend that a model runs on, and what the model takes there.
fn machine(prepared: &Prepared) -> Value {
    let mut about = json!({});
    chosen::record(&mut about, [prepared]);
    if let Some(footprint) = prepared.footprint() {
        about["vectors"] = json!(footprint.vectors);
        about["tile_side"] = json!(footprint.tile_side);
        about["weight_bytes"] = json!(footprint.weight_bytes);
        about["image_bytes"] = json!(footprint.image_bytes);
    }
    about
}
