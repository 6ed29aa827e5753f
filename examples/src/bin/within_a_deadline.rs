//! Purifies one PNG as far as a time allows: `within_a_deadline MODEL_DIR IN.png OUT.png MILLISECONDS`.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use ebm_runtime::{ModelFolder, Purifier, Request, Seed, read_png, write_png};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, input, output, time] = arguments.as_slice() else {
        bail!("expected MODEL_DIR IN.png OUT.png MILLISECONDS");
    };
    let time = time.parse().map(Duration::from_millis);
    let time = time.with_context(|| format!("{arguments:?}: expected a number of milliseconds"))?;
    let model = ModelFolder::open(model)?.step;
    // Preparing the model takes longer than a few steps: an application does it once.
    let purifier = Purifier::builder(&model).build(Seed::fresh()?)?;
    let picture = read_png(input, model.contract().image)?;
    let purified = purifier.run(&Request::new(&picture).within(time))?;
    let n_steps = purified.reports[0].n_steps;
    println!("{n_steps} of {} steps", purifier.n_steps());
    write_png(output, &purified.replicas[0], 0)?;
    Ok(())
}
