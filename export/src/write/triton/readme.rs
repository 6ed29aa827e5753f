//! What a repository says to people.

use super::{CLASSIFIER, ENSEMBLE, PURIFIED, PURIFIER, Served, ServedClassifier};
use crate::source::ImageShape;
use crate::source::checkpoint::Header;

const TEMPLATE: &str = include_str!("README.md.in");

/// How to call the ensemble.
const DEFENDED: &str = "logits, purified = request(\"defended_classifier\", [\"logits\", \"purified\"], x=x, noise=z)\n";

/// What a single answer is worth.
const REPLICAS: &str = "
A defended prediction is the mean of the logits over several replicas of an image: send it several times with the noise of replica 0, 1, …, as one batch, and take the mean.
An ensemble cannot loop, so the replicas are the client's.
";

/// The text of `README.md`.
pub fn text(header: &Header, served: &Served) -> String {
    let ImageShape {
        channels,
        height,
        width,
    } = header.network.image();
    let dynamics = &served.dynamics;
    let extents = format!("{channels}, {height}, {width}");
    let steps = dynamics.steps.to_string();
    let classifier = served.classifier.as_ref();
    let (call, defence) = match classifier {
        Some(_) => (DEFENDED, REPLICAS),
        None => ("", ""),
    };
    let values = [
        ("{MODELS}", models(&extents, &steps, classifier)),
        ("{MAX_BATCH}", served.batching.max_batch.to_string()),
        ("{STEP_SIZE}", dynamics.step_size.to_string()),
        ("{TEMPERATURE}", dynamics.temperature.to_string()),
        ("{CALLS}", calls(header, dynamics.steps)),
        ("{STEPS}", steps),
        ("{IMAGE}", extents),
        ("{CALL}", call.to_string()),
        ("{DEFENCE}", defence.to_string()),
    ];
    let text = values
        .iter()
        .fold(TEMPLATE.to_string(), |text, (key, value)| {
            text.replace(key, value)
        });
    text.trim_end().to_string() + "\n"
}

/// What to do where one call runs fewer steps than the checkpoint recommends.
fn calls(header: &Header, steps: usize) -> String {
    let recommended = header.purification.as_ref();
    match recommended.map(|recommended| recommended.steps) {
        Some(recommended) if recommended > steps => format!(
            "\nThe checkpoint recommends {recommended} steps, one call runs {steps}: call the purifier {} times, each time with the last `x_next` as `x` and with the noise of the steps that follow.\n",
            recommended.div_ceil(steps)
        ),
        _ => String::new(),
    }
}

/// A line of the table for each model.
fn models(image: &str, steps: &str, classifier: Option<&ServedClassifier>) -> String {
    let taken = format!("`x [N, {image}]`, `noise [N, {steps}, {image}]`");
    let mut lines = format!(
        "| `{PURIFIER}` | {taken} | `x_next [N, {image}]`, `energy [N, {steps}]`, `gradient_norm [N, {steps}]` |\n"
    );
    if let Some(ServedClassifier { input, output, .. }) = classifier {
        let classes = output.dims.iter().product::<usize>();
        lines += &format!(
            "| `{CLASSIFIER}` | `{} [N, {image}]` | `{} [N, {classes}]` |\n| `{ENSEMBLE}` | {taken} | `logits [N, {classes}]`, `{PURIFIED} [N, {image}]` |\n",
            input.name, output.name
        );
    }
    lines
}
