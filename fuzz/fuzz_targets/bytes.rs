//! Any bytes give a file or an error.
#![no_main]

use ebm_fuzz::way::{Derivative, go};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = go(bytes, Derivative::Rewritten);
});
