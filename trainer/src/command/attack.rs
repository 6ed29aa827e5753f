//! `trainer attack`.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use ebm_export::checkpoint::{read_potential, tensors_sha256};
use ebm_export::contract::Kind as NetworkKind;
use ebm_export::tensor::Tensors;
use tch::{Kind, Tensor};

use super::{load, saved_config};
use crate::attack::{
    Defence, Outcome, Parameters, RESULTS, Report, Results, attack_bare, attack_defended,
};
use crate::cli::AttackArgs;
use crate::config::{ClassifierConfig, Dynamics, Precision, Setting};
use crate::console;
use crate::descent::Descent;
use crate::lock::FolderLock;
use crate::network::{Program, to_device};
use crate::saved::Saved;
use crate::session::{End, Machine};

/// `trainer attack`.
///
/// # Errors
/// A checkpoint, a parameter or the folder is refused; or libtorch fails.
pub fn attack(args: &AttackArgs) -> Result<End> {
    let energy = Saved::open_kind(&args.energy, NetworkKind::Energy, "--energy")?;
    let classifier = Saved::open_kind(&args.classifier, NetworkKind::Classifier, "--classifier")?;
    check_same_images(&energy, &classifier)?;
    let (parameters, dynamics) = (parameters(args)?, purification(args, &energy)?);
    let weights = [energy.weights()?, classifier.weights()?];
    let _lock = prepare_output(args)?;

    let machine = Machine::new(args.machine.device, args.machine.threads)?;
    let device = machine.device;
    let (clean, labels) = test_images(args, &classifier, machine.team.n_threads())?;
    let (clean, labels) = (clean.to_device(device), labels.to_device(device));
    let potential = read_potential(&energy.folder, &energy.header)?;
    let descent = Descent::new(&energy.header.network, &potential, Precision::F32, device)?;
    let program = Program::new(&classifier.header.network.graph()?, Kind::Float, device);
    let defence = Defence {
        team: &machine.team,
        gradient_network: &descent.bind(
            &to_device(&weights[0], Kind::Float, device),
            dynamics.temperature,
        )?,
        classifier: &program.bind(&to_device(&weights[1], Kind::Float, device))?,
        dynamics,
        batch: args.batch,
    };

    let start = Instant::now();
    let bare = attack_bare(defence.classifier, &clean, &labels, &parameters)?;
    let defended = attack_defended(&defence, &clean, &labels, &parameters)?;
    let results = Results {
        attack: "PGD on the bare classifier; BPDA+EOT with confirmed breaks on the defended one"
            .to_string(),
        parameters,
        purification: dynamics,
        n_images: clean.size()[0] as usize,
        report: summary(&bare, &defended),
        seconds: start.elapsed().as_secs_f64(),
        weights_sha256: hashes(&weights),
    };
    results.write(&args.output, &clean, &labels, &bare, &defended)?;
    console::print(&format!(
        "{}{:.1} s; {}",
        results.report,
        results.seconds,
        args.output.display()
    ))?;
    Ok(End::Complete)
}

fn check_same_images(energy: &Saved, classifier: &Saved) -> Result<()> {
    let [energy, classifier] = [energy, classifier].map(|saved| saved.header.network.image());
    ensure!(
        energy == classifier,
        "--energy takes images {energy:?}, --classifier {classifier:?}: give runs that learned from the same images"
    );
    Ok(())
}

fn hashes([energy, classifier]: &[Tensors; 2]) -> BTreeMap<String, String> {
    [("energy", energy), ("classifier", classifier)]
        .map(|(name, weights)| (name.to_string(), tensors_sha256(weights)))
        .into()
}

fn summary(bare: &Outcome, defended: &Outcome) -> Report {
    Report {
        clean: bare.clean(),
        attacked: bare.robust(),
        defended_clean: defended.clean(),
        defended_attacked: defended.robust(),
    }
}

fn parameters(args: &AttackArgs) -> Result<Parameters> {
    let parameters = Parameters {
        epsilon: args.epsilon,
        pgd_steps: args.pgd_steps,
        pgd_step_size: args.pgd_step_size.unwrap_or(args.epsilon / 5.0),
        replicas: args.replicas,
        verify_replicas: args.verify_replicas,
        batch: args.batch,
        attack_seed: args.seed,
        verify_seed: args.verify_seed,
    };
    parameters.check()?;
    ensure!(
        args.images >= 1,
        "--images {}: expected at least 1",
        args.images
    );
    ensure!(
        args.seed != args.verify_seed,
        "--seed and --verify-seed are both {}: a break must be confirmed with another seed",
        args.seed
    );
    Ok(parameters)
}

fn purification(args: &AttackArgs, energy: &Saved) -> Result<Dynamics> {
    let recommended = energy.header.purification.as_ref();
    let missing = |option: &str| format!("the checkpoint recommends no purification: say {option}");
    let dynamics = Dynamics {
        steps: args
            .steps
            .or(recommended.map(|recommended| recommended.steps))
            .with_context(|| missing("--steps"))?,
        step_size: args
            .step_size
            .or(recommended.map(|recommended| recommended.step_size))
            .with_context(|| missing("--step-size"))?,
        temperature: args
            .temperature
            .or(recommended.map(|recommended| recommended.temperature))
            .with_context(|| missing("--temperature"))?,
        clip: Setting::OFF,
    };
    dynamics.check("purification")?;
    Ok(dynamics)
}

/// The folder, which no other process writes into until the lock is dropped.
fn prepare_output(args: &AttackArgs) -> Result<FolderLock> {
    let lock = FolderLock::take(&args.output)?;
    let held = [RESULTS, "attacked.safetensors"]
        .iter()
        .any(|name| args.output.join(name).exists());
    if held && !args.force {
        bail!(
            "{} holds the results of an attack already: choose another folder with -o, or replace them with --force",
            args.output.display()
        );
    }
    Ok(lock)
}

/// The first test images of the classifier's data.
fn test_images(
    args: &AttackArgs,
    classifier: &Saved,
    n_threads: usize,
) -> Result<(Tensor, Tensor)> {
    let config: ClassifierConfig = saved_config(classifier)?;
    let directory = classifier.data_directory(args.data.as_deref());
    let dataset = load(
        &config.data,
        directory.as_deref(),
        &config.network,
        n_threads,
    )?;
    classifier.compare_data(Some(&dataset.fingerprint()));
    Ok(dataset.test.first(args.images)?)
}
