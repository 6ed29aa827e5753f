//! Says which PNG files are unlike those of a folder: `outlier_score MODEL_DIR KNOWN_DIR IMAGE.png…`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use ebm_runtime::{EnergyScore, ImageShape, Images, Model, read_png};

/// The share of the known images that may be taken for outliers.
const REJECTED: f64 = 0.05;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, known, files @ ..] = arguments.as_slice() else {
        bail!("expected MODEL_DIR KNOWN_DIR IMAGE.png…");
    };
    let model = Model::open(Path::new(model).join("energy.onnx"))?;
    let shape = model.contract().image;
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    let score = EnergyScore::builder(&model).threads(n_threads).build()?;

    let threshold = score.fit(&read(&png_files(known)?, shape)?, REJECTED)?;
    println!("threshold\t{}", threshold.energy);
    let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
    ensure!(!files.is_empty(), "expected at least one IMAGE.png");
    let energies = score.energies(&read(&files, shape)?)?;
    for (file, energy) in files.iter().zip(energies) {
        let verdict = match threshold.is_outlier(energy) {
            true => "outlier",
            false => "known",
        };
        println!("{}\t{energy}\t{verdict}", file.display());
    }
    Ok(())
}

fn png_files(folder: &str) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("`{folder}`"))?;
    let paths = entries.map(|entry| Ok(entry?.path()));
    let mut paths = paths.collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "png"));
    paths.sort();
    ensure!(
        !paths.is_empty(),
        "`{folder}`: expected PNG files, found none"
    );
    Ok(paths)
}

fn read(files: &[PathBuf], shape: ImageShape) -> Result<Images> {
    let images = files.iter().map(|file| read_png(file, shape));
    Ok(Images::concatenate(
        &images.collect::<Result<Vec<_>, _>>()?,
    )?)
}
