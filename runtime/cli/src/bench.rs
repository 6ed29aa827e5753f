//! `purify bench`.

use std::fmt;
use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ebm_common::files::write_atomically;
use ebm_runtime::noise::fill_uniform;
use ebm_runtime::{
    Images, Input, Model, Output, Parallelism, Prepared, Purifier, Recurrence, Recurrent, Request,
};
use serde_json::json;

use crate::arguments::BenchArguments;
use crate::chosen::{self, backend_line};

/// Largest difference of a pixel, after a sample's steps, between a batch and its images one by one.
const AGREEMENT: f32 = 1e-3;
/// Rest before each sample, since threads of an engine wait by spinning for a while.
const PAUSE: Duration = Duration::from_millis(20);
/// Samples of each case at least, whatever the time.
const MIN_SAMPLES: usize = 5;

pub fn bench(arguments: &BenchArguments) -> Result<ExitCode> {
    for (name, values) in [
        ("--batch", &arguments.batch),
        ("--threads", &arguments.threads),
    ] {
        ensure!(
            !values.contains(&0),
            "{name}: expected numbers from 1, got 0"
        );
    }
    let most = Prepared::most_threads();
    for threads in &arguments.threads {
        ensure!(
            *threads <= most,
            "--threads: expected numbers from 1 to {most}, got {threads}"
        );
    }
    ensure!(
        arguments.steps > 0,
        "--steps: expected a number from 1, got 0"
    );
    arguments.results.check(arguments.model.files())?;
    let began = Instant::now();
    let models = arguments.model.open()?;
    let (first_result, model) = first_result(&models.step, arguments, began)?;
    eprintln!("{}", backend_line(&model));
    if arguments.on_request {
        return on_request(&models.step, arguments);
    }
    let mut cases = Vec::new();
    for &threads in &arguments.threads {
        for &batch in &arguments.batch {
            let case = Case::new(&models.step, arguments, batch, threads)?;
            cases.push(case.measure(arguments.seconds)?);
        }
    }
    let peak = peak_memory();
    let figures: Vec<_> = cases.iter().map(Figures::json).collect();
    let mut report = json!({
        "network": models.step.contract().network_name(),
        "image": models.step.contract().image,
        "first_result_milliseconds": milliseconds(first_result),
        "peak_memory_bytes": peak,
        "cases": figures,
    });
    chosen::record(&mut report, [&model]);
    let report = format!("{report:#}\n");
    if let Some(path) = &arguments.results.output {
        write_atomically(path, report.as_bytes())
            .with_context(|| format!("`{}`: this file cannot be written", path.display()))?;
    }
    match arguments.results.json {
        true => std::io::stdout().lock().write_all(report.as_bytes())?,
        false => print_table(arguments, &model, &cases, first_result, peak)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// From the start of the command to the first purified image, and the prepared model.
fn first_result(
    model: &Model,
    arguments: &BenchArguments,
    began: Instant,
) -> Result<(Duration, Prepared)> {
    let case = Case::new(model, arguments, 1, arguments.threads[0])?;
    case.run()?;
    Ok((began.elapsed(), case.purifier.model().clone()))
}

/// For programs that interleave samples with those of others. A line `sample` on standard input is answered by the milliseconds per image and step of one
/// sample, a line `image` by the values `[C, H, W]` at which the chain of the first image ends.
fn on_request(model: &Model, arguments: &BenchArguments) -> Result<ExitCode> {
    let case = Case::new(model, arguments, arguments.batch[0], arguments.threads[0])?;
    case.check()?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready")?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        match line.context("standard input cannot be read")?.as_str() {
            "sample" => writeln!(out, "{}", milliseconds(case.sample()?))?,
            "image" => {
                let purified = case.run()?;
                let values = purified.image(0).iter().map(f32::to_string);
                writeln!(out, "{}", values.collect::<Vec<_>>().join(" "))?;
            }
            other => bail!("standard input: expected `sample` or `image`, got `{other}`"),
        }
        out.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One batch on one number of threads.
struct Case {
    purifier: Purifier,
    images: Images,
}

impl Case {
    fn new(
        model: &Model,
        arguments: &BenchArguments,
        batch: usize,
        threads: usize,
    ) -> Result<Self> {
        let contract = model.contract();
        let recommended = contract.purification;
        let prepared = Prepared::builder(model)
            .backend(arguments.backend.backend()?)
            .threads(threads)
            .build()?;
        let purifier = Purifier::builder(&prepared)
            .steps(arguments.steps)
            .step_size(recommended.map_or(0.01, |p| p.step_size))
            .temperature(recommended.map_or(1.0, |p| p.temperature))
            .batch(batch)
            // What is measured does not depend on the noise.
            .build(0)?;
        let mut values = vec![0.0; batch * contract.image.n_values()];
        fill_uniform(0, 0, 0, 0, &mut values);
        Ok(Self {
            purifier,
            images: Images::from_vec(contract.image, values)?,
        })
    }

    /// Asserts what the times rest on: chains that stay finite, and a batch that gives what its images give one by one.
    fn check(&self) -> Result<()> {
        let together = self.run()?;
        for place in [0, self.images.len() - 1] {
            let alone = Images::from_vec(self.images.shape(), self.images.image(place).to_vec())?;
            let index = u32::try_from(place).context("too large a batch")?;
            let alone = self
                .purifier
                .run(&Request::new(&alone).first_index(index))?;
            let pairs = alone.replicas[0].image(0).iter().zip(together.image(place));
            let difference = pairs.fold(0.0, |most: f32, (a, b)| most.max((a - b).abs()));
            if difference > AGREEMENT {
                bail!(
                    "image {place} differs by {difference} when it is purified alone, expected at most {AGREEMENT}: nothing was timed"
                );
            }
        }
        Ok(())
    }

    fn run(&self) -> Result<Images> {
        Ok(self.purifier.purify(&self.images)?)
    }

    /// The time of an image and step, in one run of all steps.
    fn sample(&self) -> Result<Duration> {
        std::thread::sleep(PAUSE);
        let began = Instant::now();
        self.run()?;
        let n = self.images.len() * self.purifier.n_steps() as usize;
        Ok(began.elapsed() / u32::try_from(n).unwrap_or(u32::MAX))
    }

    /// Samples of whole steps and of the model's bare runs in turn.
    fn measure(&self, seconds: f64) -> Result<Figures> {
        self.check()?;
        let mut bare = Bare::new(self)?;
        let end = Instant::now() + Duration::try_from_secs_f64(seconds).context("--seconds")?;
        let (mut samples, mut bare_samples) = (Vec::new(), Vec::new());
        while samples.len() < MIN_SAMPLES || Instant::now() < end {
            samples.push(self.sample()?);
            if let Some(bare) = &mut bare {
                bare_samples.push(bare.sample()?);
            }
        }
        samples.sort();
        bare_samples.sort();
        Ok(Figures {
            batch: self.images.len(),
            threads: self.purifier.n_threads(),
            samples,
            bare_samples,
        })
    }
}

/// Runs of the model on one session with nothing around them: no noise is made, no energy looked at.
struct Bare {
    runs: Box<dyn Recurrent>,
    noise: Vec<f32>,
    noise_shape: Vec<usize>,
    measured_shape: Vec<usize>,
    step_size: f32,
    temperature: f32,
    n_runs: usize,
    /// Steps of single images in a sample.
    n_steps: usize,
}

impl Bare {
    /// None if the purifier uses several sessions at once, with which one alone cannot be compared.
    fn new(case: &Case) -> Result<Option<Self>> {
        let (purifier, n_images) = (&case.purifier, case.images.len());
        let one_session = purifier.backend().parallelism() == Parallelism::WithinSession
            || purifier.n_threads() == 1
            || n_images == 1;
        let fixed = purifier.contract().batch;
        if !one_session || fixed.is_some_and(|fixed| fixed != n_images) {
            return Ok(None);
        }
        let image = purifier.contract().image;
        let shape = [n_images, image.channels, image.height, image.width];
        let mut runs = purifier.model().session().recur(&Recurrence {
            output: "x_next",
            input: "x",
            shape: &shape,
        })?;
        let start: Vec<f32> = case.images.array().iter().copied().collect();
        runs.write(&start)?;
        let steps_per_run = purifier.contract().n_steps.unwrap_or(1);
        let of_steps: &[usize] = match steps_per_run {
            1 => &[],
            _ => &[steps_per_run],
        };
        let noise_shape = [of_steps, &shape].concat();
        Ok(Some(Self {
            noise: vec![0.1; noise_shape.iter().product()],
            noise_shape,
            measured_shape: [of_steps, &[n_images]].concat(),
            step_size: purifier.step_size() as f32,
            temperature: purifier.temperature() as f32,
            n_runs: purifier.n_steps() as usize / steps_per_run,
            n_steps: purifier.n_steps() as usize * n_images,
            runs,
        }))
    }

    /// The time of an image and step, in as many runs as a sample of the purifier takes.
    fn sample(&mut self) -> Result<Duration> {
        std::thread::sleep(PAUSE);
        let began = Instant::now();
        for _ in 0..self.n_runs {
            self.run()?;
        }
        Ok(began.elapsed() / u32::try_from(self.n_steps).unwrap_or(u32::MAX))
    }

    fn run(&mut self) -> Result<()> {
        let n_measured = self.measured_shape.iter().product();
        let (mut energies, mut norms) = (vec![0.0; n_measured], vec![0.0; n_measured]);
        let inputs = [
            Input::new("noise", &self.noise_shape, &self.noise),
            Input::scalar("step_size", &self.step_size),
            Input::scalar("temperature", &self.temperature),
        ];
        let mut outputs = [
            Output::new("energy", &self.measured_shape, &mut energies),
            Output::new("gradient_norm", &self.measured_shape, &mut norms),
        ];
        Ok(self.runs.step(&inputs, &mut outputs)?)
    }
}

/// The sorted samples of a case.
struct Figures {
    batch: usize,
    threads: usize,
    samples: Vec<Duration>,
    /// Empty if bare runs could not be compared.
    bare_samples: Vec<Duration>,
}

impl Figures {
    /// The nearest sample to a quantile.
    fn quantile(&self, q: f64) -> f64 {
        let place = (q * (self.samples.len() - 1) as f64).round() as usize;
        milliseconds(self.samples[place])
    }

    /// What the loop adds to the model's bare runs, in percent of them, by the medians of both.
    fn loop_percent(&self) -> Option<f64> {
        let bare = self.bare_samples.get(self.bare_samples.len() / 2)?;
        Some(100.0 * (self.quantile(0.5) / milliseconds(*bare) - 1.0))
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "batch": self.batch,
            "threads": self.threads,
            "samples": self.samples.len(),
            "milliseconds_per_image_step": self.quantile(0.5),
            "p95": self.quantile(0.95),
            "p99": self.quantile(0.99),
            "image_steps_per_second": 1e3 / self.quantile(0.5),
            "loop_percent": self.loop_percent(),
        })
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|q| self.quantile(q));
        let added = self
            .loop_percent()
            .map_or("-".to_owned(), |percent| format!("{percent:+.1} %"));
        write!(
            f,
            "{:>7} {:>7} {p50:>9.4} {p95:>9.4} {p99:>9.4} {:>14.0} {added:>8} {:>8}",
            self.batch,
            self.threads,
            1e3 / p50,
            self.samples.len()
        )
    }
}

fn print_table(
    arguments: &BenchArguments,
    model: &Prepared,
    cases: &[Figures],
    first_result: Duration,
    peak: Option<u64>,
) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let network = model.contract().network_name().unwrap_or("not named");
    let image = model.contract().image;
    let backend = model.backend();
    writeln!(out, "{network}, images {image}, backend {backend}")?;
    writeln!(
        out,
        "milliseconds per image and step, over samples of {} steps; loop: what noise, start and reports add to the bare model\n",
        arguments.steps
    )?;
    writeln!(
        out,
        "{:>7} {:>7} {:>9} {:>9} {:>9} {:>14} {:>8} {:>8}",
        "batch", "threads", "p50", "p95", "p99", "image·steps/s", "loop", "samples"
    )?;
    for case in cases {
        writeln!(out, "{case}")?;
    }
    writeln!(
        out,
        "\nfirst image after {:.0} ms",
        milliseconds(first_result)
    )?;
    if let Some(peak) = peak {
        writeln!(
            out,
            "peak memory {:.0} MiB",
            peak as f64 / f64::from(1 << 20)
        )?;
    }
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The most memory that this process has held, in bytes, if the system tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
