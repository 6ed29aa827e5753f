//! The page in a real browser: the same images, energies and messages as from the same calls in this machine's own program.
//!
//! `cargo xtask test` builds the page and runs these tests, with `EBM_BROWSER_PAGE` and `EBM_CHROMIUM` set.
#![allow(clippy::unwrap_used)]

mod browser;
mod case;
mod native;

use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use browser::{Seen, page};
use case::{Case, cases};
use native::Outcome;

/// How far pixels may lie apart after the recommended steps: a browser has no fused multiplications, so that sums are rounded more often there.
const PIXELS: f32 = 1e-5;
/// How far energies may lie apart, relative to the largest of them.
const ENERGIES: f32 = 1e-5;

/// The library as browsers load it: what was measured, and room for an eighth more.
const MOST_BYTES: usize = 4_025_059 / 8 * 9;
/// The same behind gzip.
const MOST_BYTES_PACKED: usize = 1_028_695 / 8 * 9;

#[test]
#[ignore = "wants the page and a browser: `cargo xtask test`"]
fn a_browser_gives_what_this_machine_gives() {
    let cases = cases();
    let seen = browser::see(&cases);
    assert_eq!(seen.outcomes.len(), cases.len());
    for (case, got) in cases.iter().zip(&seen.outcomes) {
        compare(case, got, &native::outcome(case));
    }
    let n_refused = seen.outcomes.iter().filter(|got| got.error.is_some());
    assert_eq!(n_refused.count(), case::refused().len());
    the_page_shows_it(&seen);
    println!(
        "in the browser: library ready after {:.0} ms, model of {} ready after {:.1} ms, {:.3} ms a step (here {:.3})",
        seen.milliseconds_to_start,
        cases[0].name,
        seen.milliseconds_to_open,
        seen.outcomes[0].milliseconds / seen.outcomes[0].energies.len() as f64,
        native::milliseconds_of_step(&cases[0]),
    );
}

fn compare(case: &Case, got: &Outcome, expected: &Outcome) {
    let name = case.name;
    assert_eq!(got.error, expected.error, "{name}");
    let pixels = difference(&got.values, &expected.values);
    let energies = difference(&got.energies, &expected.energies);
    let scale = expected
        .energies
        .iter()
        .fold(0.0_f32, |most, e| most.max(e.abs()));
    match &got.error {
        Some(error) => println!("{name}: {error}"),
        None => {
            println!("{name}: pixels differ by {pixels:e}, energies by {energies:e} of {scale}")
        }
    }
    if case.is_exact {
        assert_eq!((pixels, energies), (0.0, 0.0), "{name}");
        assert_eq!(got.bytes, expected.bytes, "{name}");
    }
    assert!(pixels <= PIXELS && energies <= ENERGIES * scale, "{name}");
}

fn difference(got: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(got.len(), expected.len());
    let pairs = got.iter().zip(expected);
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// What the clicks of a user lead to.
fn the_page_shows_it(seen: &Seen) {
    let case = case::of_the_page(&seen.clicked_digit);
    let expected = native::outcome(&case);
    let shown: Vec<u8> = seen.shown.chunks_exact(4).map(|pixel| pixel[0]).collect();
    let largest = shown
        .iter()
        .zip(&expected.bytes)
        .map(|(a, b)| a.abs_diff(*b))
        .max();
    assert_eq!((shown.len(), seen.shown[3]), (64, 255));
    // A difference of the last bits may round to the next grey.
    assert!(largest <= Some(1), "{largest:?}");
    let truncated = native::outcome(&case::truncated()).error;
    assert_eq!(Some(&seen.said), truncated.as_ref());
    assert_eq!(seen.stopped.as_deref(), Some("stopped"));
    assert_eq!(seen.after_stop, seen.outcomes[0].values);
    let [one, other] = seen
        .fresh_seeds
        .each_ref()
        .map(|seed| seed.parse::<u64>().unwrap());
    assert_ne!(one, other);
}

#[test]
#[ignore = "wants the page: `cargo xtask test`"]
fn the_library_stays_small() {
    let page = page();
    let library = std::fs::read(page.with_file_name("ebm_runtime_web_bg.wasm")).unwrap();
    let packed = packed(&library).len();
    println!(
        "library: {} bytes, {packed} behind gzip; page {} bytes",
        library.len(),
        Path::metadata(&page).unwrap().len()
    );
    assert!(library.len() <= MOST_BYTES, "{}", library.len());
    assert!(packed <= MOST_BYTES_PACKED, "{packed}");
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
