//! How many images are held at a time.

use ebm_runtime::Purifier;

/// Images that are held at a time take no more than this, unless a single one with its replicas does.
pub const BUFFER_BYTES: usize = 256 << 20;

/// As many images as keep all threads busy for a few batches and fit the buffer, so that memory stays small in long runs.
pub fn group_size(purifier: &Purifier, n_replicas: usize) -> usize {
    // An image is held as it was read, in a batch, and in each replica at most three times.
    let n_copies = n_replicas.saturating_mul(3).saturating_add(4);
    let n_values = purifier.contract().image.n_values();
    let n_bytes = n_copies
        .saturating_mul(n_values)
        .saturating_mul(size_of::<f32>());
    let n_busy = purifier
        .batch()
        .saturating_mul(purifier.n_threads())
        .saturating_mul(4);
    (BUFFER_BYTES / n_bytes).clamp(1, n_busy.min(1024))
}
