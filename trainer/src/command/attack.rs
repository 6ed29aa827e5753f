//! `trainer attack`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use ebm_export::graph::tensor::Tensors;
use ebm_export::source::Kind as NetworkKind;
use ebm_export::source::checkpoint::tensors_sha256;
use ebm_export::source::networks::{Activation, Network};
use ebm_export::transform::potential::read_potential;
use tch::{Kind, Tensor};

use super::{load, saved_config};
use crate::chains::descent::Descent;
use crate::cli::AttackArgs;
use crate::config::{ClassifierConfig, Dynamics, Precision, Setting};
use crate::evaluate::attack::{
    Attack, Audit, Ball, Campaign, Defence, Noise, Parameters, PixelDistance, Purification, Results,
};
use crate::machine::Machine;
use crate::machine::console;
use crate::network::{Program, bytes, to_device};
use crate::run::folder::ATTACK_RESULTS;
use crate::run::lock::FolderLock;
use crate::run::saved::Saved;
use crate::run::stop::End;

/// Width of the bend by which ReLUs are softened on the way back.
const BEND: f32 = 0.1;

/// `trainer attack`.
pub fn attack(args: &AttackArgs) -> Result<End> {
    let energy = Saved::open_kind(&args.energy, NetworkKind::Energy, "--energy")?;
    let classifier = Saved::open_kind(&args.classifier, NetworkKind::Classifier, "--classifier")?;
    check_same_images(&energy, &classifier)?;
    let (mut parameters, dynamics) = (parameters(args)?, purification(args, &energy)?);
    let network = &energy.header.network;
    let softened = softened(network);
    let attacks = attacks(args, &parameters, softened.is_some())?;
    let weights = [energy.weights()?, classifier.weights()?];
    let _lock = FolderLock::take(&args.output)?;
    let earlier = earlier(args)?;

    let machine = Machine::new(args.machine.device, args.machine.threads)?;
    let device = machine.device;
    let (clean, labels) = test_images(&parameters, args, &classifier, machine.team.n_threads())?;
    let (clean, labels) = (clean.to_device(device), labels.to_device(device));
    fit_to(&mut parameters, &clean);

    let potential = read_potential(&energy.folder, &energy.header)?;
    let curvature = |network| Descent::curvature(network, &potential, Precision::F32, device);
    let (descent, bent) = (
        Descent::new(network, &potential, Precision::F32, device)?,
        curvature(network)?,
    );
    let softened = softened.as_ref().map(curvature).transpose()?;
    let of_energy = to_device(&weights[0], Kind::Float, device);
    let softened = match &softened {
        Some(softened) => Some(softened.bind(&of_energy, dynamics.temperature)?),
        None => None,
    };
    let program = Program::new(&classifier.header.network.graph()?, Kind::Float, device);
    let campaign = Campaign {
        audit: Audit {
            bare: Defence {
                classifier: &program.bind(&to_device(&weights[1], Kind::Float, device))?,
                purification: None,
                batch: parameters.batch,
            },
            purification: Purification {
                team: &machine.team,
                gradient: &descent.bind(&of_energy, dynamics.temperature)?,
                dynamics,
                noise: Noise::OfEachImage,
                batch: parameters.batch,
            },
            curvature: &bent.bind(&of_energy, dynamics.temperature)?,
            softened: softened.as_ref(),
            image_bytes: bytes([&clean.get(0)]),
            parameters: &parameters,
        },
        attacks: &attacks,
        clean: &clean,
        labels: &labels,
        weights_sha256: hashes(&weights),
        folder: &args.output,
    };
    let results = campaign.run(earlier)?;
    console::print(&format!(
        "{results}{:.1} s; {}",
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

/// The same energy with softened ReLUs, if it has any: `(1 − a)·x + a·√(x² + e²) − a·e` has the slopes 1 and 1 − 2a.
fn softened(network: &Network) -> Option<Network> {
    let slope = match network.activation() {
        Activation::Relu => 0.0,
        Activation::LeakyRelu { slope } => slope,
        _ => return None,
    };
    let a = (1.0 - slope) / 2.0;
    Some(
        network
            .clone()
            .with_activation(Activation::SoftLeakyRelu { a, e: BEND }),
    )
}

/// What was typed over the defaults of the protocol.
fn parameters(args: &AttackArgs) -> Result<Parameters> {
    let defaults = args.protocol.defaults();
    let quarter = PixelDistance::of_unit_range(args.epsilon.in_unit_range() / 4.0);
    let n_images = args.images.unwrap_or(defaults.n_images);
    let parameters = Parameters {
        protocol: args.protocol,
        ball: Ball {
            norm: args.norm,
            epsilon: args.epsilon,
        },
        n_images,
        n_in_all: args.in_all.unwrap_or(defaults.n_in_all).min(n_images),
        pgd_steps: args.pgd_steps.unwrap_or(defaults.steps),
        pgd_step_size: args.pgd_step_size.unwrap_or(quarter),
        blind_factor: defaults.blind_factor,
        replicas: args.replicas.unwrap_or(defaults.copies),
        verify_replicas: args.verify_replicas.unwrap_or(defaults.verify_copies),
        votes: defaults.votes.to_vec(),
        batch: args.batch,
        memory_bytes: args.memory * 1_000_000,
        attack_seed: args.seed,
        verify_seed: args.verify_seed,
    };
    parameters.check()?;
    Ok(parameters)
}

/// What depends on the images that there are.
fn fit_to(parameters: &mut Parameters, clean: &Tensor) {
    parameters.n_images = clean.size()[0] as usize;
    parameters.n_in_all = parameters.n_in_all.min(parameters.n_images);
}

/// The attacks in their order, without those of the protocol that do not suit the norm or the energy, which is said.
fn attacks(args: &AttackArgs, parameters: &Parameters, has_relus: bool) -> Result<Vec<Attack>> {
    let typed = !args.attacks.is_empty();
    let mut attacks = match typed {
        true => args.attacks.clone(),
        false => args.protocol.defaults().attacks.to_vec(),
    };
    attacks.sort_unstable();
    attacks.dedup();
    let mut suitable = Vec::new();
    for attack in attacks {
        match attack.obstacle(parameters.ball.norm, has_relus) {
            None => suitable.push(attack),
            Some(obstacle) if typed => bail!("--attacks {attack}: {obstacle}"),
            Some(obstacle) => note!("without the attack {attack}: {obstacle}"),
        }
    }
    Ok(suitable)
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

/// What an audit that was interrupted has left in the folder.
fn earlier(args: &AttackArgs) -> Result<Option<Results>> {
    let folder = &args.output;
    if args.force || !folder.join(ATTACK_RESULTS).exists() {
        return Ok(None);
    }
    let results = Results::read(folder)
        .context("choose another folder with -o, or replace what is in it with --force")?;
    ensure!(
        !results.complete,
        "{} holds the results of an attack already: choose another folder with -o, or replace them with --force",
        folder.display()
    );
    Ok(Some(results))
}

/// The first test images of the classifier's data.
fn test_images(
    parameters: &Parameters,
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
    dataset.test.first(parameters.n_images)
}
