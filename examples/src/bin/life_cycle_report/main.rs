//! Measures what purification is worth: accuracy on clean and attacked images, bare and defended, with the exported models on the runtime.
//!
//! An attacked image counts as defended only if the attack's own confirmation could not break it and the fresh purifications made here classify it rightly too.

mod attacked;
mod certificate;
mod picture;
mod score;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use ebm_common::PixelDistance;
use ebm_common::files::write_atomically;
use ebm_runtime::{
    Backend, Classifier, Defended, DefendedClassifier, Images, ModelFolder, Purifier,
    PurifierBuilder, Seed, SmoothedClassifier, Smoothing,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use attacked::Attacked;
use certificate::Certificates;
use picture::Row;
use score::Score;

/// Measures bare and defended accuracy on clean and attacked images
#[derive(Parser)]
#[command(after_help = "Example:
  life_cycle_report --model demo/model --attack demo/attack --epsilon 0.125 -o demo")]
struct Arguments {
    /// Folder with step.onnx and classifier.onnx
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// File of attacked images, or the folder that holds it as attacked.safetensors
    #[arg(long, value_name = "FILE_OR_DIR")]
    attack: PathBuf,
    /// Bound of the attack, as the largest change of a pixel in [0, 1]; only repeated in the results
    #[arg(long)]
    epsilon: f64,
    /// Folder for results.json and summary.png
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Independent purifications of each image
    #[arg(long, default_value_t = 32)]
    replicas: usize,
    /// Also certify the first images by smoothing with noise of this deviation, of pixels in [0, 1]
    #[arg(long, value_name = "SIGMA")]
    certify: Option<PixelDistance>,
    /// Images to certify
    #[arg(long, default_value_t = 20)]
    certified_images: usize,
    /// Draws of noise for each of them
    #[arg(long, default_value_t = 1000)]
    draws: usize,
    /// Seed of the purifications, to repeat a report; by default one that no attack knows
    #[arg(long)]
    seed: Option<u64>,
    /// Backend that runs the models: auto, native, rten, tract or ort
    #[arg(long, default_value_t)]
    backend: Backend,
    /// Number of threads; all of the machine's by default
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    match report(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("life_cycle_report: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn report(arguments: &Arguments) -> Result<()> {
    let attacked = Attacked::open(&arguments.attack)?;
    let models = ModelFolder::open(&arguments.model)?;
    let bar = ProgressBar::hidden();
    let defended = defended_classifier(arguments, &models, &attacked, &bar)?;
    let bare = |images: &Images| anyhow::Ok(defended.classifier().classify(images)?.predictions);
    let bare_clean = bare(&attacked.clean)?;
    let bare_attacked = bare(
        attacked
            .bare_attacked
            .as_ref()
            .unwrap_or(&attacked.attacked),
    )?;

    let started = Instant::now();
    let steps = attacked.labels.len() as u64
        * arguments.replicas as u64
        * u64::from(defended.purifier().n_steps());
    show(&bar, "clean", steps);
    let on_clean = defended.classify(&attacked.clean)?;
    show(&bar, "attacked", steps);
    let on_attacked = defended.classify(&attacked.attacked)?;
    bar.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();

    let scores = scores(
        &attacked,
        &bare_clean,
        &bare_attacked,
        &on_clean,
        &on_attacked,
    );
    let milliseconds = seconds * 1e3 / (2 * steps) as f64;
    print_table(&scores, seconds, milliseconds);
    let certificates = certificates(arguments, &models, &attacked)?;
    if let Some(certificates) = &certificates {
        certificates.print();
    }

    std::fs::create_dir_all(&arguments.output).with_context(|| {
        format!(
            "`{}`: the folder cannot be made",
            arguments.output.display()
        )
    })?;
    let mut results = results(arguments, &defended, &scores, seconds, milliseconds);
    if let Some(certificates) = certificates {
        results["certificates"] = certificates.json();
    }
    write(
        &arguments.output.join("results.json"),
        format!("{results:#}\n").as_bytes(),
    )?;
    let purified = defended.purifier().purify(&attacked.attacked)?;
    let bare_on_attacked = bare(&attacked.attacked)?;
    let rows = [
        Row {
            title: "original",
            images: &attacked.clean,
            answers: &bare_clean,
        },
        Row {
            title: "attacked",
            images: &attacked.attacked,
            answers: &bare_on_attacked,
        },
        Row {
            title: "purified",
            images: &purified,
            answers: &on_attacked.predictions,
        },
    ];
    let title = format!(
        "classifier's answers (last row: over {} purifications), red wrong",
        arguments.replicas
    );
    let png = picture::draw(&title, &rows, &attacked.labels)?;
    write(&arguments.output.join("summary.png"), &png)
}

/// Purifications of which all must be right for an image to count under `worst_of_10`.
const N_WORST: usize = 10;

/// Key, title and score of every accuracy. An image that the attack broke, confirmed, counts as wrong wherever it was attacked.
fn scores(
    attacked: &Attacked,
    bare_clean: &[usize],
    bare_attacked: &[usize],
    on_clean: &Defended,
    on_attacked: &Defended,
) -> Vec<Scored> {
    let none_broken = vec![false; attacked.labels.len()];
    let right = |predictions: &[usize], broken: &[bool]| {
        let pairs = predictions.iter().zip(&attacked.labels).zip(broken);
        Score::of(
            &pairs
                .map(|((prediction, label), broken)| prediction == label && !broken)
                .collect::<Vec<bool>>(),
        )
    };
    let worst = |defended: &Defended, broken: &[bool]| {
        let all_right = |(image, label): (usize, &usize)| {
            defended
                .votes
                .column(image)
                .iter()
                .take(N_WORST)
                .all(|vote| vote == label)
                && !broken[image]
        };
        Score::of(
            &attacked
                .labels
                .iter()
                .enumerate()
                .map(all_right)
                .collect::<Vec<bool>>(),
        )
    };
    vec![
        ("clean", "bare, clean", right(bare_clean, &none_broken)),
        (
            "attacked",
            "bare, attacked",
            right(bare_attacked, &attacked.bare_broken),
        ),
        (
            "defended_clean",
            "defended, clean",
            right(&on_clean.predictions, &none_broken),
        ),
        (
            "defended_attacked",
            "defended, attacked",
            right(&on_attacked.predictions, &attacked.broken),
        ),
        (
            "defended_clean_majority",
            "  clean, majority vote",
            right(&on_clean.majority(), &none_broken),
        ),
        (
            "defended_attacked_majority",
            "  attacked, majority vote",
            right(&on_attacked.majority(), &attacked.broken),
        ),
        (
            "defended_clean_worst_of_10",
            "  clean, worst of 10",
            worst(on_clean, &none_broken),
        ),
        (
            "defended_attacked_worst_of_10",
            "  attacked, worst of 10",
            worst(on_attacked, &attacked.broken),
        ),
    ]
}

fn defended_classifier(
    arguments: &Arguments,
    models: &ModelFolder,
    attacked: &Attacked,
    bar: &ProgressBar,
) -> Result<DefendedClassifier> {
    let on_progress = {
        let bar = bar.clone();
        move |progress: ebm_runtime::Progress| bar.set_position(progress.n_done)
    };
    let builder = purifier(arguments, models).on_progress(on_progress);
    let seed = arguments
        .seed
        .map_or_else(Seed::fresh, |seed| Ok(seed.into()))?;
    let purifier = builder.build(seed)?;
    let classifier = Classifier::builder(models.require_classifier()?)
        .backend(arguments.backend.clone())
        .threads(purifier.n_threads())
        .build()?;
    attacked.check_labels(classifier.n_classes())?;
    Ok(DefendedClassifier::new(
        purifier,
        classifier,
        arguments.replicas,
    )?)
}

fn purifier(arguments: &Arguments, models: &ModelFolder) -> PurifierBuilder {
    let builder = Purifier::builder(&models.step).backend(arguments.backend.clone());
    match arguments.threads {
        Some(threads) => builder.threads(threads),
        None => builder,
    }
}

/// Of the clean images, if any are wanted: a certificate does not depend on which attacks were tried.
fn certificates(
    arguments: &Arguments,
    models: &ModelFolder,
    attacked: &Attacked,
) -> Result<Option<Certificates>> {
    let Some(sigma) = arguments.certify else {
        return Ok(None);
    };
    let classifier =
        Classifier::builder(models.require_classifier()?).backend(arguments.backend.clone());
    let smoothing = Smoothing {
        n: arguments.draws,
        ..Smoothing::new(sigma)
    };
    let smoothed = SmoothedClassifier::new(classifier.build()?, smoothing)?
        .behind(purifier(arguments, models))?;
    let n = arguments.certified_images;
    Certificates::of(&smoothed, &attacked.clean, &attacked.labels, n).map(Some)
}

fn show(bar: &ProgressBar, what: &str, steps: u64) {
    let template = format!("purifying {what:<9} {{bar:30}} {{percent}} %, ETA {{eta}}");
    // The template is well formed; should it ever not be, the default style serves as well.
    bar.set_style(
        ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar.set_length(steps);
    bar.reset();
    bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
    if bar.is_hidden() {
        eprintln!("purifying {what} images: {steps} steps of single images");
    }
}

/// Key in the results, title in the table, and score.
type Scored = (&'static str, &'static str, Score);

fn print_table(scores: &[Scored], seconds: f64, milliseconds: f64) {
    println!("{:<26} {:>8} {:>6}   95 % interval", "", "accuracy", "n");
    for (_, name, score) in scores {
        let [low, high] = score.interval();
        println!(
            "{name:<26} {:>6.1} % {:>6}   {:.1} % to {:.1} %",
            100.0 * score.accuracy(),
            score.n,
            100.0 * low,
            100.0 * high
        );
    }
    println!("{seconds:.1} s of purification, {milliseconds:.4} ms per image and step");
}

fn results(
    arguments: &Arguments,
    defended: &DefendedClassifier,
    scores: &[Scored],
    seconds: f64,
    milliseconds: f64,
) -> serde_json::Value {
    let purifier = defended.purifier();
    let mut results = json!({
        "epsilon": { "of_0_to_1": arguments.epsilon, "of_minus_1_to_1": 2.0 * arguments.epsilon },
        "n_images": scores[0].2.n,
        "seconds": seconds,
        "milliseconds_per_image_step": milliseconds,
        "replicas": arguments.replicas,
        "seed": purifier.seed().number(),
        "backend": purifier.backend().name(),
        "threads": purifier.n_threads(),
        "purification": {
            "steps": purifier.n_steps(), "step_size": purifier.step_size(), "temperature": purifier.temperature(),
        },
    });
    for (key, _, score) in scores {
        results[key] = json!(score.accuracy());
        results[format!("{key}_interval")] = json!(score.interval());
    }
    results
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomically(path, bytes)
        .with_context(|| format!("`{}`: the file cannot be written", path.display()))
}
