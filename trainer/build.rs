//! Lets the built binaries find libtorch at run time without an environment variable, and compiles what calls C++ of libtorch that `tch` does
//! not reach: c10d (see `c10d/README.md`), and the settings of ATen.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    let folder = env::var("DEP_TCH_LIBTORCH_LIB")
        .map_err(|_| "torch-sys did not say where libtorch lies: run `cargo xtask setup`, or set LIBTORCH to a libtorch 2.11.0")?;
    for place in places(Path::new(&folder)) {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", place.display());
    }
    println!("cargo:libtorch_lib={folder}");
    compile_calls(&Path::new(&folder).with_file_name("include"));
    Ok(())
}

/// Where the programs look for libtorch, behind `LD_LIBRARY_PATH` and before the system's folders: beside themselves, as in a package or an
/// installation; then where it lay when they were built, also if the clone, which may only have a link to it, is gone.
fn places(folder: &Path) -> Vec<PathBuf> {
    let mut places = vec![PathBuf::from("$ORIGIN"), folder.to_path_buf()];
    places.extend(folder.canonicalize().ok().filter(|real| real != folder));
    places
}

/// The C++ is glue only: optimising it costs time and buys nothing.
fn compile_calls(include: &Path) {
    println!("cargo:rerun-if-changed=c10d");
    println!("cargo:rerun-if-changed=aten");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(1)
        .warnings(false)
        .define("USE_DISTRIBUTED", None)
        .define("USE_C10D_GLOO", None)
        .include("c10d")
        .include(include)
        .include(include.join("torch/csrc/api/include"))
        .file("c10d/group.cpp")
        .file("aten/context.cpp")
        .compile("ebm_libtorch_calls");
}
