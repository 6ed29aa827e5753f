//! The same purifications by the runtime on this machine.

use std::error::Error;
use std::time::Instant;

use ebm_runtime::{Images, Model, Purifier, Request};
use serde::Deserialize;

use crate::case::{Case, Image};

/// What a case came to.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// The message where it failed, with its causes.
    pub error: Option<String>,
    /// The purified image `[C, H, W]`.
    pub values: Vec<f32>,
    /// The purified image as bytes `[H, W, C]`.
    pub bytes: Vec<u8>,
    /// The energy before each run of the model and at the end.
    pub energies: Vec<f32>,
    /// Time of all steps.
    pub milliseconds: f64,
}

pub fn outcome(case: &Case) -> Outcome {
    purify(case).unwrap_or_else(|error| {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message += &format!(": {cause}");
            source = cause.source();
        }
        Outcome {
            error: Some(message),
            ..Outcome::default()
        }
    })
}

fn purify(case: &Case) -> Result<Outcome, ebm_runtime::Error> {
    let model = Model::from_bytes(case.model.clone(), case.name)?;
    let shape = model.contract().image;
    let image = match &case.image {
        Image::Values(values) => Images::from_vec(shape, values.clone())?,
        Image::Bytes(bytes) if bytes.len() == shape.n_values() => Images::from_bytes(shape, bytes)?,
        Image::Bytes(canvas) => {
            let colours: Vec<u8> = canvas
                .chunks_exact(4)
                .flat_map(|pixel| &pixel[..3])
                .copied()
                .collect();
            Images::from_bytes(shape, &colours)?
        }
    };
    let purifier = purifier(case, &model)?;
    let purified = purifier.run(&Request::new(&image).trace())?;
    purified.expect_all_finite()?;
    // A browser measures where a run of the model begins.
    let steps_of_run = model.contract().n_steps.unwrap_or(1);
    let path = purified.reports[0].path.iter().step_by(steps_of_run);
    Ok(Outcome {
        error: None,
        values: purified.replicas[0].image(0).to_vec(),
        bytes: purified.replicas[0].to_bytes(0),
        energies: path.map(|at| at.energy).collect(),
        milliseconds: 0.0,
    })
}

fn purifier(case: &Case, model: &Model) -> Result<Purifier, ebm_runtime::Error> {
    let settings = case.settings;
    let mut builder = Purifier::builder(model).threads(1);
    if let Some(steps) = settings.steps {
        builder = builder.steps(steps as usize);
    }
    if let Some(step_size) = settings.step_size {
        builder = builder.step_size(step_size);
    }
    if let Some(temperature) = settings.temperature {
        builder = builder.temperature(temperature);
    }
    builder.build(settings.seed)
}

/// The time of a step on one thread, best of several runs.
pub fn milliseconds_of_step(case: &Case) -> f64 {
    let model = Model::from_bytes(case.model.clone(), case.name).unwrap();
    let purifier = purifier(case, &model).unwrap();
    let image = Images::from_vec(
        model.contract().image,
        vec![0.0; model.contract().image.n_values()],
    )
    .unwrap();
    let run = |_| {
        let started = Instant::now();
        purifier.purify(&image).unwrap();
        started.elapsed().as_secs_f64() * 1e3 / f64::from(purifier.n_steps())
    };
    (0..10).map(run).fold(f64::INFINITY, f64::min)
}
