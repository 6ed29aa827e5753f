//! Lets the built binaries find libtorch at run time without an environment variable.

use std::env;
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    let folder = env::var("DEP_TCH_LIBTORCH_LIB")
        .map_err(|_| "torch-sys did not say where libtorch lies: run `cargo xtask setup`, or set LIBTORCH to a libtorch 2.11.0")?;
    println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    println!("cargo:libtorch_lib={folder}");
    Ok(())
}
