//! Models that are nearly right give a file or an error.
//!
//! With `MODEL_FILE` in the environment the model of every input is written there before it runs.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;
use std::{env, fs};

use ebm_fuzz::Case;
use ebm_fuzz::way::go;
use libfuzzer_sys::fuzz_target;

static MODEL_FILE: LazyLock<Option<PathBuf>> =
    LazyLock::new(|| env::var_os("MODEL_FILE").map(PathBuf::from));

fuzz_target!(|case: Case| {
    let bytes = case.bytes();
    if let Some(path) = &*MODEL_FILE {
        fs::write(path, &bytes).expect("the model can be written");
    }
    let _ = go(&bytes, case.derivative);
});
