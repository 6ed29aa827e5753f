//! Draws samples and writes a sheet, one row for each number of steps: `sample_sheet MODEL_DIR OUT.png STEPS`.
//!
//! Chains start from `generator.onnx` where the folder has one, else from noise.

use std::path::Path;

use anyhow::{Context, Result, bail};
use ebm_runtime::{
    Generator, Images, Model, ModelFolder, Purifier, Sampler, Seed, Start, write_png,
};

const N_SAMPLES: usize = 8;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, output, steps] = arguments.as_slice() else {
        bail!("expected MODEL_DIR OUT.png STEPS");
    };
    let steps: u32 = steps
        .parse()
        .with_context(|| format!("expected a number of steps, got `{steps}`"))?;
    let step = ModelFolder::open(folder)?.step;
    let purifier = Purifier::builder(&step)
        .as_learned()
        .steps(steps as usize)
        .build(Seed::fresh()?)?;
    let generator = Path::new(folder).join("generator.onnx");
    let start = match generator.is_file() {
        true => Start::Generator(
            Generator::builder(&Model::open(generator)?)
                .threads(purifier.n_threads())
                .build()?,
        ),
        false => Start::Noise,
    };
    let decades = std::iter::successors(Some(1_u32), |n| n.checked_mul(10));
    let rows: Vec<u32> = [0]
        .into_iter()
        .chain(decades.take_while(|&n| n < steps))
        .chain([steps])
        .collect();
    let sampler = Sampler::new(purifier, start)?;
    let drawn = sampler.sample_with(0, N_SAMPLES, |request| request.snapshots(rows))?;
    drawn.expect_all_finite()?;

    let sheets = drawn.snapshots.iter().map(|snapshot| &snapshot.replicas[0]);
    write_png(output, &sheet(sheets.collect())?, 0)?;
    let steps: Vec<String> = drawn
        .snapshots
        .iter()
        .map(|snapshot| snapshot.n_steps.to_string())
        .collect();
    println!("rows after {} steps", steps.join(", "));
    Ok(())
}

/// One image with a row for each batch.
fn sheet(rows: Vec<&Images>) -> Result<Images> {
    let mut shape = rows[0].shape();
    let (height, width) = (shape.height, shape.width);
    (shape.height, shape.width) = (height * rows.len(), width * N_SAMPLES);
    let mut values = vec![0.0; shape.n_values()];
    for (row, images) in rows.into_iter().enumerate() {
        for ((column, channel, y, x), &value) in images.array().indexed_iter() {
            let line = channel * shape.height + row * height + y;
            values[line * shape.width + column * width + x] = value;
        }
    }
    Ok(Images::from_vec(shape, values)?)
}
