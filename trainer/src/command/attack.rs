//! `trainer attack`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use ebm_export::source::checkpoint::tensors_sha256;
use tch::{Device, Kind, Tensor};

use super::data_source::{DataSource, data_source};
use super::saved_config;
use crate::chains::descent::Descent;
use crate::cli::AttackArgs;
use crate::config::{ClassifierConfig, DataConfig, Dynamics, Precision, Setting};
use crate::evaluate::attack::{
    Attack, AttackedModel, Audit, Axis, Ball, Baseline, Campaign, Circumstances, Cleaner, Defence,
    Front, Noise, Parameters, PixelDistance, Protocol, Purification, Results, suits,
};
use crate::machine::Machine;
use crate::machine::console;
use crate::network::{BoundNetwork, Program, Weights, bytes, to_device};
use crate::run::folder::ATTACK_RESULTS;
use crate::run::lock::FolderLock;
use crate::run::saved::Saved;
use crate::run::stop::End;

/// Quality of the JPEG files that a defence is compared with.
const JPEG_QUALITY: u8 = 75;

/// `trainer attack`.
///
/// # Errors
/// A model, a parameter or the folder is refused; or libtorch fails.
pub fn attack(args: &AttackArgs) -> Result<End> {
    let energy = args
        .energy
        .as_deref()
        .map(AttackedModel::energy)
        .transpose()?;
    let classifier = AttackedModel::classifier(&args.classifier, "--classifier")?;
    let others = args
        .baselines
        .iter()
        .map(|path| AttackedModel::classifier(path, "--baseline"));
    let others = others.collect::<Result<Vec<_>>>()?;
    check_same_images(args, energy.as_ref(), &classifier, &others)?;
    let mut parameters = parameters(args)?;
    let dynamics = energy
        .as_ref()
        .map(|energy| purification(args, energy))
        .transpose()?;
    if dynamics.is_none() {
        // Without randomness a vote is the answer itself.
        parameters.votes.clear();
    }
    let circumstances = Circumstances {
        norm: args.norm,
        has_front: energy.is_some(),
        has_relus: energy.as_ref().is_some_and(AttackedModel::has_relus),
    };
    let attacks = attacks(args, &circumstances)?;
    let source = images_to_attack(args, &classifier)?;
    let _lock = FolderLock::take(&args.output)?;
    let earlier = earlier(args)?;

    let machine = Machine::new(args.machine.device, args.machine.threads)?;
    let device = machine.device;
    let (clean, labels) = source.first(&parameters, &classifier, machine.team.n_threads())?;
    let (clean, labels) = (clean.to_device(device), labels.to_device(device));
    fit_to(&mut parameters, &clean);

    let moving = energy
        .as_ref()
        .map(|energy| Moving::new(energy, &attacks, device));
    let moving = moving.transpose()?;
    let bound = moving.as_ref().zip(dynamics);
    let bound = bound
        .map(|(moving, dynamics)| moving.bind(dynamics.temperature))
        .transpose()?;
    let chains = bound.as_ref().zip(dynamics);
    let purification = chains.map(|(bound, dynamics)| Purification {
        team: &machine.team,
        gradient: &bound.gradient,
        dynamics,
        noise: Noise::OfEachImage,
        batch: parameters.batch,
    });
    let program = Program::new(&classifier.graph, Kind::Float, device);
    let audit = Audit {
        defence: Defence {
            classifier: &program.bind(&to_device(&classifier.weights, Kind::Float, device))?,
            front: purification.map(Front::Purification),
            batch: parameters.batch,
        },
        curvature: bound.as_ref().map(|bound| &bound.curvature),
        has_relus: circumstances.has_relus,
        softened: bound.as_ref().map_or(&[], |bound| &bound.softened),
        image_bytes: bytes([&clean.get(0)]),
        parameters: &parameters,
    };
    let programs = others
        .iter()
        .map(|other| Program::new(&other.graph, Kind::Float, device));
    let programs: Vec<Program> = programs.collect();
    let networks = others
        .iter()
        .zip(&programs)
        .map(|(other, program)| program.bind(&to_device(&other.weights, Kind::Float, device)));
    let networks = networks.collect::<Result<Vec<_>>>()?;
    let mut baselines = cleaners(&audit, classifier.image.channels, args.protocol);
    let named = args.baselines.iter().zip(&networks);
    baselines.extend(named.map(|(path, classifier)| Baseline {
        title: path.display().to_string(),
        audit: audit.of(Defence {
            classifier,
            front: None,
            ..audit.defence
        }),
    }));
    let curves = curves(args, &audit);
    let campaign = Campaign {
        audit,
        attacks: &attacks,
        baselines: &baselines,
        curves: &curves,
        clean: &clean,
        labels: &labels,
        weights_sha256: hashes(energy.as_ref(), &classifier),
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

/// An energy, ready to move chains and to lead back through them.
struct Moving {
    weights: Weights,
    descent: Descent,
    curvature: Descent,
    softened: Vec<(f32, Descent)>,
}

/// Its networks.
struct Bound<'a> {
    gradient: BoundNetwork<'a>,
    curvature: BoundNetwork<'a>,
    softened: Vec<(f32, BoundNetwork<'a>)>,
}

impl Moving {
    fn new(energy: &AttackedModel, attacks: &[Attack], device: Device) -> Result<Moving> {
        let potential = energy.potential()?;
        let curvature = |graph: &_| Descent::curvature(graph, &potential, Precision::F32, device);
        let bends = attacks.iter().filter_map(|attack| attack.bend());
        let softened = bends.map(|bend| Ok((bend, curvature(&energy.softened(bend)?)?)));
        Ok(Moving {
            weights: to_device(&energy.weights, Kind::Float, device),
            descent: Descent::of_energy(&energy.graph, &potential, Precision::F32, device)?,
            curvature: curvature(&energy.graph)
                .context("--energy has no second derivatives, which exact attacks need")?,
            softened: softened.collect::<Result<_>>()?,
        })
    }

    fn bind(&self, temperature: f64) -> Result<Bound<'_>> {
        Ok(Bound {
            gradient: self.descent.bind(&self.weights, temperature)?,
            curvature: self.curvature.bind(&self.weights, temperature)?,
            softened: self
                .softened
                .iter()
                .map(|(bend, softened)| Ok((*bend, softened.bind(&self.weights, temperature)?)))
                .collect::<Result<_>>()?,
        })
    }
}

/// The free defences that the one under audit has to be better than, with as much noise as its chains have.
fn cleaners<'a>(audit: &Audit<'a>, channels: usize, protocol: Protocol) -> Vec<Baseline<'a>> {
    let Some(purification) = audit.defence.purification() else {
        return Vec::new();
    };
    if !protocol.defaults().has_baselines {
        return Vec::new();
    }
    let Dynamics {
        steps, step_size, ..
    } = purification.dynamics;
    let sigma = step_size * (steps as f64).sqrt();
    let mut cleaners = vec![
        Cleaner::Jpeg {
            quality: JPEG_QUALITY,
        },
        Cleaner::Noise { sigma },
    ];
    if channels == 1 {
        cleaners.push(Cleaner::Binary);
    }
    let behind = |title: String, front: Front<'a>| Baseline {
        title,
        audit: audit.behind(front),
    };
    let cleaners = cleaners.into_iter();
    let cleaners = cleaners.map(|cleaner| behind(cleaner.to_string(), Front::Cleaner(cleaner)));
    let descent = Purification {
        noise: Noise::Off,
        ..purification
    };
    let descent = behind(
        "descent without noise".to_string(),
        Front::Purification(descent),
    );
    cleaners.chain([descent]).collect()
}

/// The curves of the protocol or of the command line that mean something for this defence.
fn curves(args: &AttackArgs, audit: &Audit<'_>) -> Vec<Axis> {
    let wanted = match args.curves.is_empty() {
        true => args.protocol.defaults().curves.to_vec(),
        false => args.curves.clone(),
    };
    wanted
        .into_iter()
        .filter(|&axis| suits(axis, audit))
        .collect()
}

fn check_same_images(
    args: &AttackArgs,
    energy: Option<&AttackedModel>,
    classifier: &AttackedModel,
    others: &[AttackedModel],
) -> Result<()> {
    let wanted = classifier.image;
    if let Some(energy) = energy {
        ensure!(
            energy.image == wanted,
            "--energy takes images {:?}, --classifier {wanted:?}: give models of the same images",
            energy.image
        );
    }
    for (path, other) in args.baselines.iter().zip(others) {
        ensure!(
            other.image == wanted && other.n_classes() == classifier.n_classes(),
            "--baseline {} takes images {:?} of {} classes, --classifier {wanted:?} of {}: give models of the same images",
            path.display(),
            other.image,
            other.n_classes(),
            classifier.n_classes()
        );
    }
    Ok(())
}

fn hashes(energy: Option<&AttackedModel>, classifier: &AttackedModel) -> BTreeMap<String, String> {
    let energy = energy.map(|energy| ("energy", energy));
    let models = energy.into_iter().chain([("classifier", classifier)]);
    models
        .map(|(name, model)| (name.to_string(), tensors_sha256(&model.weights)))
        .collect()
}

/// What was typed over the defaults of the protocol.
fn parameters(args: &AttackArgs) -> Result<Parameters> {
    let defaults = args.protocol.defaults();
    let quarter = PixelDistance::of_unit_range(args.epsilon.in_unit_range() / 4.0);
    let n_images = args.n.unwrap_or(defaults.n_images);
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

/// The attacks in their order, without those of the protocol that cannot be made, which is said.
fn attacks(args: &AttackArgs, circumstances: &Circumstances) -> Result<Vec<Attack>> {
    let typed = !args.attacks.is_empty();
    let wanted = match (typed, circumstances.has_front) {
        (true, _) => args.attacks.clone(),
        // A bare classifier costs little: all that can be made of it.
        (false, false) => Attack::all().to_vec(),
        (false, true) => args.protocol.defaults().attacks.to_vec(),
    };
    let mut suitable = Vec::new();
    for &attack in Attack::all()
        .iter()
        .filter(|attack| wanted.contains(attack))
    {
        match attack.obstacle(circumstances) {
            None => suitable.push(attack),
            Some(obstacle) if typed => bail!("--attacks {attack}: {obstacle}"),
            Some(obstacle) => note!("without the attack {attack}: {obstacle}"),
        }
    }
    Ok(suitable)
}

fn purification(args: &AttackArgs, energy: &AttackedModel) -> Result<Dynamics> {
    let recommended = energy.purification.as_ref();
    let missing = |option: &str| {
        format!(
            "--energy recommends no purification, as only runs and files of this project do: say {option}"
        )
    };
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

/// Where the images lie that are attacked.
struct ImageSource {
    data: DataConfig,
    directory: Option<PathBuf>,
    /// The run whose data they are.
    saved: Option<Saved>,
}

/// Those of --images, else the test images of the classifier's run.
fn images_to_attack(args: &AttackArgs, classifier: &AttackedModel) -> Result<ImageSource> {
    let data = args.data.as_deref();
    if let Some(what) = &args.images {
        ensure!(
            what.parse::<usize>().is_err(),
            "--images {what}: expected a folder of labelled images or a preset; the number of images is said by -n {what}"
        );
        let DataSource {
            data, directory, ..
        } = data_source(what, data, None)?;
        return Ok(ImageSource {
            data,
            directory,
            saved: None,
        });
    }
    let Some(saved) = &classifier.saved else {
        bail!(
            "an ONNX file has no images of its own: say --images DIR, or --images PRESET --data DIR"
        );
    };
    let config: ClassifierConfig = saved_config(saved)?;
    Ok(ImageSource {
        data: config.data,
        directory: saved.data_directory(data),
        saved: Some(saved.clone()),
    })
}

impl ImageSource {
    /// The first test images, or the first of all if none is kept for tests.
    fn first(
        &self,
        parameters: &Parameters,
        classifier: &AttackedModel,
        n_threads: usize,
    ) -> Result<(Tensor, Tensor)> {
        let directory = self.directory.as_deref();
        let dataset = crate::data::load(&self.data, directory, classifier.image, n_threads)?;
        if let Some(saved) = &self.saved {
            saved.compare_data(Some(&dataset.fingerprint()));
        }
        let images = match dataset.test.len() {
            0 => {
                note!("no image is kept for tests, so the first of all are attacked");
                &dataset.train
            }
            _ => &dataset.test,
        };
        let (clean, labels) = images.first(parameters.n_images)?;
        let n_classes = classifier.n_classes() as i64;
        let largest = labels.max().int64_value(&[]);
        ensure!(
            largest < n_classes,
            "an image has the label {largest}, but the classifier has {n_classes} classes, from 0 on: give images with its labels"
        );
        Ok((clean, labels))
    }
}
