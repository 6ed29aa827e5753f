//! Gives the shared library a name of its own, so that programs look for that and not for the path that it was linked from.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libebm_runtime.so");
    }
}
