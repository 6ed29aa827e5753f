//! `glue LIBRARY.wasm FOLDER` writes the library as browsers load it, and the JavaScript that loads it.
//!
//! The command `wasm-bindgen` does the same, but has to be of the version that the library was built with. Here it is, since both stand in `Cargo.lock`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use wasm_bindgen_cli_support::Bindgen;

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [library, folder] = arguments.as_slice() else {
        bail!("expected two arguments: glue LIBRARY.wasm FOLDER");
    };
    Bindgen::new()
        .input_path(library)
        .typescript(false)
        .omit_default_module_path(true)
        .remove_name_section(true)
        .remove_producers_section(true)
        .no_modules(true)?
        .generate(folder)
        .with_context(|| format!("could not make the glue of {}", library.display()))
}
