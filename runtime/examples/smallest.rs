//! The smallest program that purifies: `smallest STEP.onnx` says when it was ready and when its first image was. The tests weigh it.

use std::time::Instant;

use ebm_runtime::{Images, Model, Purifier};

fn main() -> ebm_runtime::Result<()> {
    let started = Instant::now();
    let path = std::env::args_os().nth(1);
    let model = Model::open(path.unwrap_or_else(|| "step.onnx".into()))?;
    let shape = model.contract().image;
    let image = Images::from_vec(shape, vec![0.0; shape.n_values()])?;
    let purifier = Purifier::builder(&model).threads(1).build(0)?;
    let ready = started.elapsed();
    let n_images = purifier.purify(&image)?.len();
    let done = started.elapsed();
    println!(
        "ready after {:.1} ms, {n_images} image of {} steps after {:.1} ms",
        ready.as_secs_f64() * 1e3,
        purifier.n_steps(),
        done.as_secs_f64() * 1e3
    );
    Ok(())
}
