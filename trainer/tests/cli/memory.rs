//! What a run needs of memory, against what it said.
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The accuracy of the estimate.
const TOLERANCE: f64 = 0.2;

/// Makes the allocator give memory back as soon as it is not in use, so that what is resident is in use.
const GIVES_BACK: [(&str, &str); 1] = [("MIMALLOC_PURGE_DELAY", "0")];

/// A figure of `/proc/PID/status` in bytes, while the process is there.
fn status(process: u32, name: &str) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: f64 = line
        .trim_start_matches(':')
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .ok()?;
    Some(1024.0 * kilobytes)
}

/// Runs `fit digits-midrun` on digits of 32×32 and looks at it all the time; gives what it wrote on standard error.
fn watched(run: &Path, more: &str, mut look: impl FnMut(u32)) -> String {
    let arguments = format!(
        "fit digits-midrun --threads 1 --set output.sample_every=0 {more} -o {}",
        run.display()
    );
    let mut child = Command::new(env!("CARGO_BIN_EXE_trainer"))
        .env("OMP_NUM_THREADS", "1")
        .envs(GIVES_BACK)
        .args(arguments.split_whitespace())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while child.try_wait().unwrap().is_none() {
        look(child.id());
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut text = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
    text
}

/// The most that a run needed, and what it said that it would need, in bytes.
fn peak(run: &Path, more: &str) -> (f64, f64) {
    let mut peak = 0.0;
    let text = watched(run, more, |process| {
        peak = status(process, "VmHWM").unwrap_or(peak);
    });
    let line = text
        .lines()
        .find(|line| line.starts_with("note: memory"))
        .unwrap();
    let (_, rest) = line.split_once("estimated: ").unwrap();
    let (megabytes, _) = rest.split_once(" MB").unwrap();
    eprintln!("{line}");
    (peak, 1e6 * megabytes.parse::<f64>().unwrap())
}

/// Beside what a run of next to nothing needs, libtorch included.
#[test]
fn the_memory_of_a_run_is_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let network = |width: usize| {
        format!(
            "--set data.padding=12 --set network.image_size=32 --set network.widths=[{width},{width},{width},{width}] \
             --set network.pools=[true,true,false,false] --set langevin.steps=2 --set learning.updates=3"
        )
    };
    let nothing = format!("{} --set learning.batch=2 --set chains.bank=2", network(1));
    let (base, _) = peak(&folder.path().join("nothing"), &nothing);
    for (name, more) in [
        (
            "wide",
            format!(
                "{} --set learning.batch=32 --set chains.bank=1000",
                network(128)
            ),
        ),
        (
            "banked",
            format!(
                "{} --set learning.batch=32 --set chains.bank=40000",
                network(16)
            ),
        ),
    ] {
        let (peak, estimate) = peak(&folder.path().join(name), &more);
        let needed = peak - base;
        eprintln!("{name}: {:.0} MB", needed / 1e6);
        assert!(
            (needed / estimate - 1.0).abs() < TOLERANCE,
            "{name}: needed {needed:.3e} bytes, said {estimate:.3e}"
        );
    }
}

/// Updates per line of `metrics.jsonl`.
const LOG_EVERY: usize = 10;

/// Over the updates that `EBM_TEST_EVERYWHERE=1` asks for, or that there is time for otherwise.
#[test]
fn memory_does_not_grow() {
    let n_updates = match std::env::var("EBM_TEST_EVERYWHERE") {
        Ok(everywhere) if everywhere == "1" => 10_000,
        _ => 600,
    };
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let more = format!(
        "--set learning.batch=8 --set chains.bank=64 --set langevin.steps=2 --set network.widths=[4,4] \
         --set learning.updates={n_updates} --set output.log_every={LOG_EVERY} --set output.checkpoint_every=50"
    );
    // The least in each quarter of the run: what stays. What passes, such as a checkpoint while it is written, varies with the load of the machine.
    let mut least = [f64::INFINITY; 4];
    let (mut metrics, mut done) = (None, 0);
    watched(&run, &more, |process| {
        // What was written since the last look: to read all of it each time would take more time than the run.
        metrics = metrics
            .take()
            .or_else(|| File::open(run.join("metrics.jsonl")).ok());
        let mut text = Vec::new();
        if let Some(metrics) = &mut metrics {
            metrics.read_to_end(&mut text).unwrap();
        }
        done += LOG_EVERY * text.iter().filter(|&&byte| byte == b'\n').count();
        // Behind the last update there are only pictures to be made.
        if done < n_updates {
            let least = &mut least[4 * done / n_updates];
            *least = least.min(status(process, "VmRSS").unwrap_or(f64::INFINITY));
        }
    });
    eprintln!("least in each quarter of {n_updates} updates: {least:?} bytes");
    assert!(least[1].is_finite() && least[3].is_finite(), "{least:?}");
    assert!(least[3] < least[1] + 4e6, "{least:?}");
}
