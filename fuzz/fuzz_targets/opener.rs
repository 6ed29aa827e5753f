//! Any bytes open as a model of the runtime or give an error.
#![no_main]

use ebm_runtime::Model;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Model::from_bytes(bytes, "fuzzed.onnx");
});
