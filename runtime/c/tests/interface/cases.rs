//! The same cases through Rust and through C.

use std::error::Error as _;
use std::fmt::Write as _;
use std::process::Command;

use runtime::{
    Backend, ChainReport, Classifier, DefendedClassifier, EnergyScore, Generator, ImageShape,
    Images, Kind, Model, PixelDistance, Purified, Purifier, PurifierBuilder, Request, Result,
    Sampler, SmoothedClassifier, Smoothing, Start,
};

use crate::workshop::{Linking, fixtures, program, succeed, text};

const CASES: &str = include_str!("cases.txt");

/// One line of the file. `None` stands for what is not set.
#[derive(Debug)]
struct Case<'a> {
    what: &'a str,
    model: &'a str,
    other: Option<&'a str>,
    backend: &'a str,
    steps: Option<usize>,
    step_size: Option<f64>,
    temperature: Option<f64>,
    clip: Option<f64>,
    energy_high: Option<f32>,
    seed: Option<u64>,
    threads: Option<usize>,
    batch: Option<usize>,
    n_replicas: usize,
    first_index: u32,
    n_images: usize,
}

impl<'a> Case<'a> {
    fn parse(line: &'a str) -> Self {
        let columns: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(columns.len(), 15, "{line}");
        fn set<T: std::str::FromStr<Err: std::fmt::Debug>>(column: &str) -> Option<T> {
            (column != "-").then(|| column.parse().unwrap())
        }
        Self {
            what: columns[0],
            model: columns[1],
            other: Some(columns[2]).filter(|&column| column != "-"),
            backend: columns[3],
            steps: set(columns[4]),
            step_size: set(columns[5]),
            temperature: set(columns[6]),
            clip: set(columns[7]),
            energy_high: set(columns[8]),
            seed: set(columns[9]),
            threads: set(columns[10]),
            batch: set(columns[11]),
            n_replicas: set(columns[12]).unwrap(),
            first_index: set(columns[13]).unwrap(),
            n_images: set(columns[14]).unwrap(),
        }
    }

    /// What comes out, as the program in C prints it.
    fn run(&self) -> Result<String> {
        let model = open(self.model)?;
        let other = self.other.map(open).transpose()?;
        let backend: Backend = self.backend.parse()?;
        let n_threads = self.threads.unwrap_or(2);
        let images = ramps(model.contract().image, self.n_images);
        match self.what {
            "energies" => {
                let score = EnergyScore::builder(&model)
                    .backend(backend)
                    .threads(n_threads)
                    .build()?;
                return Ok(bits(&score.energies(&images)?));
            }
            "classify" => {
                let classifier = Classifier::builder(&model)
                    .backend(backend)
                    .threads(n_threads);
                let answer = classifier.build()?.classify(&images)?;
                return Ok(answers(
                    answer.logits.as_slice().unwrap(),
                    &answer.predictions,
                    &vec![1.0; self.n_images],
                ));
            }
            "certify" | "denoise" => return self.certify(&model, other.as_ref(), &images),
            _ => {}
        }
        model.expect_kind(Kind::Step)?;
        let purifier = self
            .purifier(&model, &backend)
            .build(self.seed.unwrap_or(0))?;
        let request = |images| {
            Request::new(images)
                .first_index(self.first_index)
                .n_replicas(self.n_replicas)
        };
        match self.what {
            "purify" | "learned" => Ok(ends(&purifier.run(&request(&images))?)),
            "purify_u8" => {
                let bytes: Vec<u8> = (0..images.array().len())
                    .map(|i| (i * 37 % 256) as u8)
                    .collect();
                let images = Images::from_bytes(images.shape(), &bytes)?;
                let purified = &purifier.run(&request(&images))?.replicas[0];
                let bytes = (0..images.len()).flat_map(|index| purified.to_bytes(index));
                Ok(bytes.map(|byte| format!(" {byte:02x}")).collect())
            }
            "defended" => {
                let classifier = Classifier::builder(&other.unwrap())
                    .backend(backend.clone())
                    .threads(n_threads)
                    .build()?;
                let defended = DefendedClassifier::new(purifier, classifier, self.n_replicas)?;
                let answer = defended.classify_request(&request(&images))?;
                Ok(answers(
                    answer.logits.as_slice().unwrap(),
                    &answer.predictions,
                    &answer.agreement(),
                ))
            }
            start => {
                let start = match start {
                    "noise" => Start::Noise,
                    "images" => Start::Images(images),
                    "generator" => Start::Generator(
                        Generator::builder(&other.unwrap())
                            .backend(backend.clone())
                            .threads(n_threads)
                            .build()?,
                    ),
                    other => panic!("no case `{other}`"),
                };
                let sampler = Sampler::new(purifier, start)?;
                let drawn = sampler.sample_with(self.first_index, self.n_images, |r| {
                    r.n_replicas(self.n_replicas)
                })?;
                Ok(ends(&drawn))
            }
        }
    }

    fn certify(&self, model: &Model, step: Option<&Model>, images: &Images) -> Result<String> {
        let backend: Backend = self.backend.parse()?;
        let classifier = Classifier::builder(model)
            .backend(backend.clone())
            .threads(self.threads.unwrap_or(2))
            .build()?;
        let smoothing = Smoothing {
            n0: 10,
            n: 300,
            alpha: 0.01,
            ..Smoothing::new(PixelDistance::of_unit_range(0.25))
        };
        let mut smoothed = SmoothedClassifier::new(classifier, smoothing)?;
        if let Some(step) = step {
            let steps = self.purifier(step, &backend);
            smoothed = smoothed.behind(match self.what {
                "denoise" => steps.denoiser(smoothing.sigma),
                _ => steps,
            })?;
        }
        let mut text = String::new();
        for (index, image) in (self.first_index..).zip(0..images.len()) {
            let image = Images::from_vec(images.shape(), images.image(image).to_vec())?;
            let seed = self.seed.unwrap_or(0);
            let certificate = smoothed.certify_with(seed, index, &image)?;
            let prediction = smoothed.predict_with(seed, index, &image)?;
            let class = |class: Option<usize>| class.map_or(-1, |class| class as i64);
            let (radius, probability) = (certificate.radius, certificate.probability);
            let (certified, predicted) = (class(certificate.class), class(prediction.class));
            text += &format!(
                " | {certified} {} {} {predicted}",
                g(radius.in_unit_range()),
                g(probability)
            );
        }
        Ok(text)
    }

    fn purifier(&self, model: &Model, backend: &Backend) -> PurifierBuilder {
        let mut builder = Purifier::builder(model).backend(backend.clone());
        if self.what == "learned" {
            builder = builder.as_learned();
        }
        if let Some(steps) = self.steps {
            builder = builder.steps(steps);
        }
        if let Some(step_size) = self.step_size {
            builder = builder.step_size(step_size);
        }
        if let Some(temperature) = self.temperature {
            builder = builder.temperature(temperature);
        }
        if let Some(clip) = self.clip {
            builder = builder.clip(clip);
        }
        if let Some(high) = self.energy_high {
            builder = builder.energy_range(-1e30..=high);
        }
        if let Some(threads) = self.threads {
            builder = builder.threads(threads);
        }
        if let Some(batch) = self.batch {
            builder = builder.batch(batch);
        }
        builder
    }
}

/// A number as C's `%.17g` prints one that is 0, or not below 0.0001.
fn g(x: f64) -> String {
    match x == 0.0 {
        true => "0".to_owned(),
        false => {
            let digits = format!("{x:.*}", (16 - x.log10().floor() as i32) as usize);
            digits
                .trim_end_matches('0')
                .trim_end_matches('.')
                .to_owned()
        }
    }
}

fn open(name: &str) -> Result<Model> {
    Model::open(fixtures().join(format!("{name}.onnx")))
}

/// Images that differ in every pixel.
fn ramps(shape: ImageShape, n_images: usize) -> Images {
    let values = (0..n_images * shape.n_values()).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0);
    Images::from_vec(shape, values.collect()).unwrap()
}

fn bits(values: &[f32]) -> String {
    values
        .iter()
        .map(|value| format!(" {:08x}", value.to_bits()))
        .collect()
}

fn answers(logits: &[f32], predictions: &[usize], agreement: &[f32]) -> String {
    let predictions: String = predictions
        .iter()
        .map(|class| format!(" | {class}"))
        .collect();
    bits(logits) + &predictions + &bits(agreement)
}

fn ends(ends: &Purified) -> String {
    let mut text = String::new();
    for replica in &ends.replicas {
        text += &bits(replica.array().as_slice().unwrap());
    }
    for report in &ends.reports {
        let ChainReport {
            image,
            replica,
            n_steps,
            saturation,
            failed_step,
            start,
            ..
        } = report;
        let failed_step = failed_step.map_or(-1, i64::from);
        let start = start.unwrap();
        write!(text, " | {image} {replica} {n_steps} {failed_step}").unwrap();
        text += &bits(&[start.energy, start.gradient_norm, *saturation]);
    }
    text
}

/// Whether both sides have the backend of a case; a name that is none is the same on both.
fn can_run(case: &Case<'_>) -> bool {
    let there = case
        .backend
        .parse()
        .map_or(Ok(()), |backend: Backend| backend.check());
    if let Err(error) = &there {
        eprintln!("SKIPPED {case:?}: {error}");
    }
    there.is_ok()
}

#[test]
fn rust_and_c_come_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let lines = CASES
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    let lines: Vec<&str> = lines.filter(|line| can_run(&Case::parse(line))).collect();
    assert!(lines.len() >= 30, "{}", lines.len());
    let file = folder.path().join("cases.txt");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let program = program("cases", Linking::Shared, folder.path());
    let output = succeed(Command::new(program).arg(fixtures()).arg(&file));
    let through_c = text(&output.stdout);
    assert_eq!(through_c.lines().count(), lines.len());
    let mut n_refused = 0;
    for (line, through_c) in lines.iter().zip(through_c.lines()) {
        let through_rust = Case::parse(line).run().unwrap_or_else(|error| {
            n_refused += 1;
            let causes = std::iter::successors(error.source(), |&cause| cause.source());
            causes.fold(format!(" error {error}"), |text, cause| {
                format!("{text}: {cause}")
            })
        });
        assert_eq!(through_rust, through_c, "{line}");
    }
    assert_eq!(n_refused, 16, "cases that are refused");
}
