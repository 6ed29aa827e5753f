//! Classifies PNG files through 16 purifications each: `defended_classifier MODEL_DIR IMAGE.png…`.

use anyhow::{Result, bail};
use ebm_runtime::{Classifier, DefendedClassifier, Images, ModelFolder, Purifier, Seed, read_png};

const N_REPLICAS: usize = 16;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, files @ ..] = arguments.as_slice() else {
        bail!("expected MODEL_DIR IMAGE.png…");
    };
    let models = ModelFolder::open(model)?;
    let purifier = Purifier::builder(&models.step).build(Seed::fresh()?)?;
    let classifier = Classifier::builder(models.require_classifier()?)
        .threads(purifier.n_threads())
        .build()?;
    let defended = DefendedClassifier::new(purifier, classifier, N_REPLICAS)?;

    let shape = models.step.contract().image;
    let images = files
        .iter()
        .map(|file| read_png(file, shape))
        .collect::<Result<Vec<_>, _>>()?;
    let answer = defended.classify(&Images::concatenate(&images)?)?;
    for ((file, class), agreement) in files
        .iter()
        .zip(&answer.predictions)
        .zip(answer.agreement())
    {
        println!(
            "{file}: class {class}, given by {:.0} % of {N_REPLICAS} purifications",
            100.0 * agreement
        );
    }
    Ok(())
}
