//! Learning in several processes: the same weights as in one, and none goes on alone.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use safetensors::SafeTensors;

use crate::common::{TINY_FIT, checkpoint_files, metrics, refused, trainer};
use crate::pictures::{self, FROM_PICTURES};

/// A generator, a bank, and one that burns in.
const LONGRUN: &str = "--set burn_in.bank=10 --set burn_in.batch=5 --set burn_in.steps=2 --set burn_in.visits=2 \
    --set langevin.tau=0.5 --set prior.network.widths=[2,3] --set generator.network.widths=[3,2] --set generator.network.latent=4";
/// With the statistics of batches the gradient of a bias in front of a batch norm is nothing but rounding, which Adam makes a whole step of.
const SHORTRUN: &str = "--set generator.network.widths=[3,2] --set generator.network.latent=4 --set generator.batch_norm=inference";

/// Smooth, so that where rounding differs no drift jumps.
const COLOURED: &str = "--set network.channels=3 --set network.activation=silu";

/// Starts a command in several processes of this machine, as a launcher does.
pub fn start(n_ranks: usize, arguments: &str) -> Vec<Child> {
    start_each(n_ranks, arguments, |_, _| {})
}

/// The same; each process is prepared by its number.
pub fn start_each(
    n_ranks: usize,
    arguments: &str,
    prepare: impl Fn(usize, &mut Command),
) -> Vec<Child> {
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = port.local_addr().unwrap().port().to_string();
    let rank = |rank: usize| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trainer"));
        command
            .args(arguments.split_whitespace())
            .env("OMP_NUM_THREADS", "1")
            .env("MASTER_ADDR", "127.0.0.1")
            .env("MASTER_PORT", &port)
            .env("WORLD_SIZE", n_ranks.to_string())
            .env("RANK", rank.to_string())
            .env("GLOO_SOCKET_IFNAME", "lo")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        prepare(rank, &mut command);
        command.spawn().unwrap()
    };
    (0..n_ranks).map(rank).collect()
}

pub fn finished(ranks: Vec<Child>) -> Vec<Output> {
    let wait = |rank: Child| rank.wait_with_output().unwrap();
    ranks.into_iter().map(wait).collect()
}

pub fn learned_by(n_ranks: usize, arguments: &str) {
    for output in finished(start(n_ranks, arguments)) {
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments}: {text}");
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let mut names = file.names();
    names.sort();
    let of = |name: &&str| file.tensor(name).unwrap().data().to_vec();
    let bytes: Vec<u8> = names.iter().flat_map(of).collect();
    let four = bytes.chunks_exact(4);
    four.map(|four| f32::from_le_bytes(four.try_into().unwrap()))
        .collect()
}

/// Expects all groups of two checkpoints to be equal up to rounding.
pub fn assert_close(one: &Path, other: &Path, update: u64) {
    let files = |run: &Path| {
        let files = checkpoint_files(run, update);
        let groups = files
            .into_iter()
            .filter(|(name, _)| name.ends_with(".safetensors") && !name.contains("optimizer"));
        groups.collect::<Vec<_>>()
    };
    let (one, other) = (files(one), files(other));
    assert_eq!(one.len(), other.len());
    for ((name, one), (_, other)) in one.iter().zip(&other) {
        let (one, other) = (floats(one), floats(other));
        assert_eq!(one.len(), other.len(), "{name}");
        let differences = one
            .iter()
            .zip(&other)
            .map(|(one, other)| (one - other).abs());
        let largest = differences.fold(0.0, f32::max);
        assert!(largest <= 1e-5, "{name} differs by {largest}");
    }
}

#[test]
fn several_ranks_learn_the_same_as_one() {
    let (folder, data) = (tempfile::tempdir().unwrap(), pictures::folder(11));
    let at = |name: &str| folder.path().join(name);
    for (name, preset, more) in [
        (
            "pictures",
            "digits-midrun",
            format!(
                "{FROM_PICTURES} {COLOURED} --data {}",
                data.path().display()
            ),
        ),
        ("shortrun", "digits-shortrun", SHORTRUN.to_string()),
        ("midrun", "digits-midrun", String::new()),
        (
            "longrun",
            "digits-longrun",
            format!(
                "{LONGRUN} --generator {} --prior {}",
                at("shortrun-1").display(),
                at("midrun-1").display()
            ),
        ),
    ] {
        for n_ranks in [1, 2, 3] {
            let run = at(&format!("{name}-{n_ranks}"));
            learned_by(
                n_ranks,
                &format!("fit {preset} {TINY_FIT} {more} -o {}", run.display()),
            );
            if n_ranks > 1 {
                assert_close(&at(&format!("{name}-1")), &run, 6);
                assert_eq!(metrics(&run).len(), 3, "one rank writes");
            }
        }
    }
}

/// From the fifth update on the rate is one at which nothing stays finite, until it is lowered.
#[test]
fn several_ranks_go_back_from_divergence_together() {
    let folder = tempfile::tempdir().unwrap();
    let at = |n_ranks: usize| folder.path().join(format!("{n_ranks}"));
    for n_ranks in [1, 2] {
        let arguments = format!(
            "fit digits-midrun {TINY_FIT} --set learning.learning_rate=[[0,1e-3],[4,1e30]] \
             --set guard.rate_factor=1e-33 -o {}",
            at(n_ranks).display()
        );
        let outputs = finished(start(n_ranks, &arguments));
        for (rank, output) in outputs.iter().enumerate() {
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{text}");
            let says = text.contains("back to the checkpoint of update 3");
            assert_eq!(says, rank == 0, "{text}");
        }
    }
    assert_close(&at(1), &at(2), 6);
    let events = |n_ranks: usize| fs::read_to_string(at(n_ranks).join("rollbacks.jsonl")).unwrap();
    assert_eq!(events(1).lines().count(), 1);
    assert_eq!(events(2).lines().count(), 1);
}

#[test]
fn a_run_goes_on_with_another_number_of_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, parts] = ["whole", "parts"].map(|name| folder.path().join(name));
    let fit = |run: &Path, updates| {
        format!(
            "fit digits-midrun {TINY_FIT} --set learning.updates={updates} -o {}",
            run.display()
        )
    };
    learned_by(1, &fit(&whole, 6));
    learned_by(2, &fit(&parts, 3));
    // The rest of the run, as if it had been stopped after the third update.
    let header = parts.join("checkpoints/00000003/checkpoint.json");
    let text = fs::read_to_string(&header).unwrap();
    let longer = text.replacen("\"updates\": 3", "\"updates\": 6", 1);
    assert_ne!(text, longer);
    fs::write(&header, longer).unwrap();
    learned_by(3, &format!("resume {} --threads 1", parts.display()));
    assert_close(&whole, &parts, 6);
}

#[test]
fn a_rank_that_dies_stops_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    for dying in [0, 1] {
        let arguments = format!(
            "fit digits-midrun {TINY_FIT} --set learning.updates=1000000 --force -o {}",
            run.display()
        );
        let mut ranks = start(2, &arguments);
        let begun = Instant::now();
        while metrics_lines(&run) < 2 {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "the run does not get on"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        ranks[dying].kill().unwrap();
        let killed = Instant::now();
        let mut outputs = finished(ranks);
        assert!(killed.elapsed() < Duration::from_secs(5));
        let survivor = outputs.swap_remove(1 - dying);
        let text = String::from_utf8_lossy(&survivor.stderr);
        assert_eq!(survivor.status.code(), Some(1), "{text}");
        assert!(text.contains("has ended"), "{text}");
        fs::remove_file(run.join("metrics.jsonl")).unwrap();
    }
    let latest = ebm_export::source::checkpoint::resolve(&run).unwrap();
    assert!(latest.join("weights.safetensors").exists());
}

fn metrics_lines(run: &Path) -> usize {
    let text = fs::read_to_string(run.join("metrics.jsonl"));
    text.map_or(0, |text| text.lines().count())
}

#[test]
fn what_runs_in_one_process_says_so() {
    let mut command = trainer("classifier digits-classifier -o nowhere");
    command.env("WORLD_SIZE", "2").env("RANK", "0");
    command.env("MASTER_ADDR", "127.0.0.1");
    refused(&mut command, &["one process", "WORLD_SIZE"]);
}
