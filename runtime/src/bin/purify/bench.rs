//! `purify bench`.

use std::fmt;
use std::io::{BufRead, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ebm_runtime::noise::fill_uniform;
use ebm_runtime::{Images, Model, Purifier, Request};
use serde_json::json;

use crate::arguments::BenchArguments;

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
    ensure!(
        arguments.steps > 0,
        "--steps: expected a number from 1, got 0"
    );
    let began = Instant::now();
    let models = arguments.model.open()?;
    let first_result = first_result(&models.step, arguments, began)?;
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
    print_table(arguments, &models.step, &cases, first_result, peak)?;
    if let Some(path) = &arguments.json {
        let cases: Vec<_> = cases.iter().map(Measured::json).collect();
        let report = json!({
            "network": models.step.contract().network_name(),
            "image": models.step.contract().image,
            "backend": arguments.backend.backend.name(),
            "first_result_milliseconds": milliseconds(first_result),
            "peak_memory_bytes": peak,
            "cases": cases,
        });
        write_json(path, &report)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// From the start of the command to the first purified image.
fn first_result(model: &Model, arguments: &BenchArguments, began: Instant) -> Result<Duration> {
    let case = Case::new(model, arguments, 1, arguments.threads[0])?;
    case.run()?;
    Ok(began.elapsed())
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
    threads: usize,
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
        let purifier = Purifier::builder(model)
            .steps(arguments.steps)
            .step_size(recommended.map_or(0.01, |p| p.step_size))
            .temperature(recommended.map_or(1.0, |p| p.temperature))
            .backend(arguments.backend.backend())
            .threads(threads)
            .batch(batch)
            .build()?;
        let mut values = vec![0.0; batch * contract.image.n_values()];
        fill_uniform(0, 0, 0, 0, &mut values);
        Ok(Self {
            purifier,
            images: Images::from_vec(contract.image, values)?,
            threads,
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

    fn measure(&self, seconds: f64) -> Result<Measured> {
        self.check()?;
        let end = Instant::now() + Duration::try_from_secs_f64(seconds).context("--seconds")?;
        let mut samples = Vec::new();
        while samples.len() < MIN_SAMPLES || Instant::now() < end {
            samples.push(self.sample()?);
        }
        samples.sort();
        Ok(Measured {
            batch: self.images.len(),
            threads: self.threads,
            samples,
        })
    }
}

/// The sorted samples of a case.
struct Measured {
    batch: usize,
    threads: usize,
    samples: Vec<Duration>,
}

impl Measured {
    /// The nearest sample to a quantile.
    fn quantile(&self, q: f64) -> f64 {
        let place = (q * (self.samples.len() - 1) as f64).round() as usize;
        milliseconds(self.samples[place])
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
        })
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|q| self.quantile(q));
        write!(
            f,
            "{:>7} {:>7} {p50:>9.4} {p95:>9.4} {p99:>9.4} {:>14.0} {:>8}",
            self.batch,
            self.threads,
            1e3 / p50,
            self.samples.len()
        )
    }
}

fn print_table(
    arguments: &BenchArguments,
    model: &Model,
    cases: &[Measured],
    first_result: Duration,
    peak: Option<u64>,
) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let network = model.contract().network_name().unwrap_or("not named");
    let image = model.contract().image;
    writeln!(
        out,
        "{network}, images {image}, backend {}",
        arguments.backend.backend.name()
    )?;
    writeln!(
        out,
        "milliseconds per image and step, over samples of {} steps\n",
        arguments.steps
    )?;
    writeln!(
        out,
        "{:>7} {:>7} {:>9} {:>9} {:>9} {:>14} {:>8}",
        "batch", "threads", "p50", "p95", "p99", "image·steps/s", "samples"
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

/// Writes a file under a temporary name and renames it when all is on the disk.
fn write_json(path: &Path, value: &serde_json::Value) -> Result<()> {
    ebm_runtime::write_atomically(path, format!("{value:#}\n").as_bytes())
        .with_context(|| format!("`{}`: this file cannot be written", path.display()))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The most memory that this process has held, in bytes, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
