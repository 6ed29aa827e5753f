//! `purify info` and `purify backends`.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use ebm_runtime::{Backend, Model};
use serde_json::json;

use crate::arguments::{BackendsArguments, InfoArguments};

pub fn info(arguments: &InfoArguments) -> Result<ExitCode> {
    let models = arguments.model.open()?;
    let mut out = std::io::stdout().lock();
    if arguments.json {
        let classifier = models.classifier.as_ref().map(Model::contract);
        let contracts = json!({ "step": models.step.contract(), "classifier": classifier });
        writeln!(out, "{contracts:#}")?;
        return Ok(ExitCode::SUCCESS);
    }
    describe(&mut out, &models.step)?;
    if let Some(classifier) = &models.classifier {
        writeln!(out)?;
        describe(&mut out, classifier)?;
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

fn describe(out: &mut dyn Write, model: &Model) -> Result<()> {
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
    Ok(())
}
