//! The header is what cbindgen makes of the sources.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use crate::workshop::root;

/// The sources, in the order in which the header has their functions.
fn sources() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("src")).unwrap();
    let mut sources: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    sources.sort();
    sources
}

#[test]
fn the_header_is_in_step_with_the_sources() {
    let config = cbindgen::Config::from_file(root().join("cbindgen.toml")).unwrap();
    let builder = cbindgen::Builder::new().with_config(config);
    let builder = sources()
        .into_iter()
        .fold(builder, cbindgen::Builder::with_src);
    let mut header = Vec::new();
    builder.generate().unwrap().write(&mut header);
    let header = String::from_utf8(header).unwrap();
    let path = root().join("include/ebm_runtime.h");
    if std::env::var_os("RENEW_HEADER").is_some() {
        std::fs::write(&path, &header).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        header == committed,
        "include/ebm_runtime.h is out of step with the sources; renew it with\n\
         RENEW_HEADER=1 cargo test --release -p ebm-runtime-c header"
    );
}

#[test]
fn every_exported_function_is_in_the_header() {
    let header = std::fs::read_to_string(root().join("include/ebm_runtime.h")).unwrap();
    let mut n_functions = 0;
    for source in sources() {
        let source = std::fs::read_to_string(source).unwrap();
        for function in source.split("extern \"C\" fn ebm_").skip(1) {
            let name = format!("ebm_{}(", function.split('(').next().unwrap());
            assert!(header.contains(&name), "{name}…) is missing");
            n_functions += 1;
        }
    }
    assert!(n_functions > 40, "{n_functions}");
}
