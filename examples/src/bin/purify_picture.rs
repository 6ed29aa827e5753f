//! Purifies one PNG: `purify_picture MODEL_DIR IN.png OUT.png`.

use anyhow::{Result, bail};
use ebm_runtime::{ModelFolder, Purifier, Seed, read_png, write_png};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, input, output] = arguments.as_slice() else {
        bail!("expected MODEL_DIR IN.png OUT.png");
    };
    let model = ModelFolder::open(model)?.step;
    let picture = read_png(input, model.contract().image)?;
    let purified = Purifier::builder(&model)
        .build(Seed::fresh()?)?
        .purify(&picture)?;
    write_png(output, &purified, 0)?;
    Ok(())
}
