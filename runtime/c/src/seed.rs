//! Seeds.
#![allow(unsafe_code)]

use runtime::Seed;

use crate::pointer;
use crate::status::{Status, guard};

/// Draws a seed that nobody knows, from the random numbers of the operating system. Keep it to repeat what was done with it.
///
/// Fails with `EBM_STATUS_IO` if the system gives no random numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_seed_fresh(seed: *mut u64) -> Status {
    guard(|| {
        pointer::check("seed", seed, 1)?;
        let fresh = Seed::fresh()?.number();
        // SAFETY: the caller gives a place for a number.
        unsafe { pointer::write("seed", seed, &[fresh]) }
    })
}
