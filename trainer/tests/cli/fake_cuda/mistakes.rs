//! Mistakes that a CPU forgives and the device does not: the checks above mean something only because these fail.
#![allow(unsafe_code)]

use std::process::Command;

use ebm_export::source::networks::{Activation, Network, Sngan};
use ebm_trainer::machine::device::{self, DeviceName};
use ebm_trainer::network::{Program, to_device};
use tch::{Device, Kind, Tensor};

use super::library::{FakeCuda, fake_cuda, tell_skipped};

/// A mistake by its name, what the device says to it, and how to make it with images `[2, 1, 8, 8]`.
type Mistake = (&'static str, &'static str, fn(&Tensor));

const MISTAKES: [Mistake; 5] = [
    ("reads-on-the-host", "the host touched memory", |images| {
        // Safety: none on a device, which is the mistake.
        let first = unsafe { *images.data_ptr().cast::<f32>() };
        println!("{first}");
    }),
    ("weights-elsewhere", "same device", |images| {
        let network = Network::Sngan(Sngan::small(
            8,
            1,
            &[2, 3],
            &[true, false],
            Activation::Silu,
        ));
        let weights = network.initial_weights(1).unwrap();
        let weights = to_device(&weights, Kind::Float, Device::Cpu);
        let program = Program::new(&network.graph().unwrap(), Kind::Float, images.device());
        program.bind(&weights).unwrap().evaluate(images).unwrap();
    }),
    ("noise-elsewhere", "same device", |images| {
        let noise = Tensor::f_randn(images.size(), (Kind::Float, Device::Cpu)).unwrap();
        let _ = images.f_add(&noise).unwrap();
    }),
    ("places-elsewhere", "same device", |images| {
        let places = Tensor::from_slice(&[1i64, 0]);
        let _ = images.f_index_select(0, &places).unwrap();
    }),
    ("factor-elsewhere", "same device", |images| {
        let shares = Tensor::from_slice(&[0.5f32, 0.5]).view([2, 1, 1, 1]);
        let _ = images.f_mul(&shares).unwrap();
    }),
];

/// Names a mistake and the device, to the process that makes it.
const MISTAKE: &str = "EBM_TEST_MISTAKE";
const DEVICE: &str = "EBM_TEST_DEVICE";

#[test]
#[ignore = "makes the mistake that EBM_TEST_MISTAKE names, for the test below"]
fn one_is_made() {
    let name = std::env::var(MISTAKE).unwrap();
    let device = match std::env::var(DEVICE).unwrap().as_str() {
        "cuda" => DeviceName::Cuda(None),
        _ => DeviceName::Cpu,
    };
    let device = device::device(device, 0).unwrap();
    let (.., make) = MISTAKES.iter().find(|(known, ..)| *known == name).unwrap();
    make(&Tensor::zeros([2, 1, 8, 8], (Kind::Float, device)));
}

/// Whether a process that makes it lives, and what it says.
fn made(fake: FakeCuda, mistake: &str, device: &str) -> (bool, String) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "fake_cuda::mistakes::one_is_made",
            "--ignored",
            "--nocapture",
        ])
        .env(MISTAKE, mistake)
        .env(DEVICE, device)
        .env("OMP_NUM_THREADS", "1")
        .envs(fake.variables())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("running 1 test"), "{said}");
    (output.status.success(), said)
}

#[test]
fn mistakes_that_pass_on_a_cpu_are_caught() {
    let Some(fake) = fake_cuda() else {
        return;
    };
    for (mistake, reason, _) in MISTAKES {
        let (lives, said) = made(fake, mistake, "cpu");
        assert!(lives, "{mistake} on the CPU: {said}");
        let (lives, said) = made(fake, mistake, "cuda");
        if said.contains("NOT CHECKED") && mistake == "reads-on-the-host" {
            tell_skipped(
                "that the host leaves the device's memory alone, since this machine has no memory-protection keys",
            );
            continue;
        }
        assert!(!lives && said.contains(reason), "{mistake}: {said}");
    }
}
