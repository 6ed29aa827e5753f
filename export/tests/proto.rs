//! `src/source/onnx/proto.rs` is what prost makes of `proto/onnx.proto`.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

#[test]
fn the_generated_code_is_that_of_the_schema() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let schema = protox::compile(["onnx.proto"], [root.join("proto")]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut config = prost_build::Config::new();
    config
        .out_dir(folder.path())
        .disable_comments(["."])
        .compile_fds(schema)
        .unwrap();
    let generated = fs::read_to_string(folder.path().join("onnx.rs")).unwrap();
    let committed = root.join("src/source/onnx/proto.rs");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(&committed, &generated).unwrap();
    }
    assert!(
        fs::read_to_string(&committed).unwrap() == generated,
        "src/source/onnx/proto.rs is out of date; run UPDATE_GENERATED=1 cargo test -p ebm-export --test proto"
    );
}
