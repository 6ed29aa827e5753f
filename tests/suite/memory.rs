//! What `purify` needs of memory: little more than weights and one batch, however many images there are.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use ebm_export::source::Energy;
use ebm_export::source::checkpoint::Header;
use ebm_export::source::networks::{Activation, Network, Sngan};
use ebm_export::transform::rewrite::Target;
use ebm_export::write::Export;

use crate::networks::weights;
use crate::programs::path_of;

/// Copies of the weights at the same time at most, with some room. The file is one of them; the engine keeps a transformed form for
/// each pass, which is larger than the weights.
const MOST_COPIES: [(&str, f64); 3] = [("rten", 3.2), ("tract", 3.2), ("native", 7.0)];
/// Growth of the memory from few images to many at most, in bytes. All of the many are 12 MB as f32, and 3 MB as they lie in the file.
const MOST_GROWTH: u64 = 2 << 20;

/// The most memory that a command held, in bytes, as the system counts it shortly before the command ends.
///
/// glibc keeps large blocks that were freed for later use; the variable has it give them back, so that only what is in use counts.
fn peak_memory(folder: &Path, arguments: &str) -> u64 {
    let mut child = Command::new(path_of("purify"))
        .current_dir(folder)
        .args(arguments.split_whitespace())
        .env("MALLOC_MMAP_THRESHOLD_", "65536")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(&status).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        peak = kibibytes.map_or(peak, |kibibytes| kibibytes * 1024);
        sleep(Duration::from_millis(1));
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {said}");
    peak
}

/// Writes the step of a network of images `[1, 8, 8]` into `folder/width`, and gives its size in bytes.
fn export(folder: &Path, width: usize) -> u64 {
    let network = Network::Sngan(Sngan::small(
        8,
        1,
        &[width, width],
        &[false, false],
        Activation::Relu,
    ));
    let export = Export {
        rewrites: Target::Tract.rewrites(),
        ..Export::default()
    };
    let header = Header::new(network.clone());
    let energy = Energy::of_network(&header, &weights(&network, 1)).unwrap();
    let files = export.files(&energy, 1).unwrap();
    let step = files.iter().find(|file| file.name == "step.onnx").unwrap();
    let folder = folder.join(width.to_string());
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join(step.name), step.model.to_bytes()).unwrap();
    fs::metadata(folder.join(step.name)).unwrap().len()
}

/// An IDX file of images `[1, 8, 8]`.
fn write_idx(path: &Path, n_images: u32) {
    let mut bytes = vec![0, 0, 8, 3];
    for extent in [n_images, 8, 8] {
        bytes.extend(extent.to_be_bytes());
    }
    bytes.extend((0..n_images * 64).map(|place| (place % 251) as u8));
    fs::write(path, bytes).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn weights_are_held_a_few_times_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let [narrow, wide] = [8, 512];
    export(folder.path(), narrow);
    let n_bytes = export(folder.path(), wide);
    assert!(n_bytes > 20 << 20, "{n_bytes}");
    for (backend, most_copies) in MOST_COPIES {
        let [least, most] = [narrow, wide].map(|width| {
            let bench = format!(
                "bench --model {width} --backend {backend} --batch 1 --threads 1 --steps 1 --seconds 0"
            );
            peak_memory(folder.path(), &bench)
        });
        let copies = (most - least) as f64 / n_bytes as f64;
        assert!(
            copies <= most_copies,
            "{backend}: {copies} copies of {n_bytes} bytes"
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn many_images_need_no_more_memory_than_few() {
    let folder = tempfile::tempdir().unwrap();
    export(folder.path(), 4);
    let [few, many] = [1_000, 48_000].map(|n_images| {
        let name = format!("{n_images}.idx3-ubyte");
        write_idx(&folder.path().join(&name), n_images);
        let run = format!(
            "run --model 4 --steps 1 --step-size 0.01 --temperature 1 {name} -o out-{n_images}"
        );
        peak_memory(folder.path(), &run)
    });
    assert!(many <= few + MOST_GROWTH, "{few} bytes, then {many}");
}
