//! `trainer fid`.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use ebm_common::staged::write_whole;
use ebm_common::target::Existing;
use ebm_export::source::Kind as NetworkKind;
use ebm_export::source::checkpoint;
use ebm_export::source::networks::Network;
use ebm_export::transform::pixels::Pixels;
use tch::Kind;

use super::{configured_data, n_threads, saved_config, saved_fit};
use crate::cli::FidArgs;
use crate::config::{ClassifierConfig, DataConfig, Layers, PRESETS, Source};
use crate::data::{Fingerprint, Images, load, pictures_of_one_size};
use crate::draw::plot;
use crate::evaluate::frechet::{
    Cache, Features, Gaussian, ImageSet, Meaning, Preparation, Score, SnapshotChoice, fitted,
    holds_gaussian, read,
};
use crate::evaluate::npz::{self, Npz};
use crate::evaluate::sampling::{SAMPLES, SNAPSHOTS, STEPS};
use crate::learn::energy::BANK;
use crate::machine::Machine;
use crate::machine::console;
use crate::network::from_host;
use crate::report::distances;
use crate::run::folder::SAMPLED;
use crate::run::folder::expect_free;
use crate::run::saved::Saved;
use crate::run::stop::End;

/// `trainer fid`.
pub fn fid(args: &FidArgs) -> Result<End> {
    if let Some(file) = &args.plot {
        expect_free(file, Existing::of(args.force))?;
    }
    let mut samples = Vec::new();
    for (path, name) in args.samples.iter().zip(names(&args.samples)) {
        let found = Samples::find(path, args.snapshot)?.into_iter();
        samples.extend(found.map(|samples| (name.clone(), samples)));
    }
    let moved = |samples: &Samples| samples.step.is_some_and(|step| step > 0);
    ensure!(
        args.plot.is_none() || samples.iter().any(|(_, samples)| moved(samples)),
        "--plot: these samples are of no steps: give folders that `trainer sample` wrote, and --snapshot all"
    );
    let machine = Machine::new(args.machine.device, args.machine.threads)?;
    let (_, first) = samples.first().context("there are no samples")?;
    let meaning = Meaning {
        range: args.samples_range,
        option: "--samples-range",
    };
    let first = first.open(meaning)?;
    let shape = first.shape();
    let features = Features::open(
        &args.features,
        args.layer.as_deref(),
        shape,
        preparation(args)?,
        machine.device,
    )
    .context("--features")?;
    let cache = Cache::of_user();
    let fit =
        |images: &ImageSet, n: usize| fitted(images, n, &features, &machine.team, cache.as_ref());
    let reference = match Reference::find(args)? {
        Reference::Gaussian(gaussian) => gaussian,
        Reference::Images(images) => fit(&images, images.len()).context("--reference")?,
    };
    let mut first = Some(first);
    let mut scores: Vec<Score> = Vec::new();
    for (name, samples) in samples {
        let images = first.take().map_or_else(|| samples.open(meaning), Ok)?;
        let n = args.n.unwrap_or(images.len());
        ensure!(
            n <= images.len(),
            "-n {n}: there are only {} samples in {}",
            images.len(),
            samples.path.display()
        );
        let gaussian = fit(&images, n).context("--samples")?;
        let score = Score::new(&gaussian, &reference, (&name, samples.step), &features)?;
        if !args.json {
            let begins = scores
                .last()
                .is_none_or(|last| last.samples != score.samples);
            if args.samples.len() > 1 && begins {
                console::print(&score.samples)?;
            }
            console::print(&score.to_string())?;
        }
        scores.push(score);
    }
    if let Some(path) = &args.plot {
        draw(&scores, path)?;
    }
    if args.json {
        let json = serde_json::to_string_pretty(&scores).context("cannot write JSON")?;
        console::print(&json)?;
    }
    Ok(End::Complete)
}

/// What samples are called: by the last part of their paths, where that tells them apart.
fn names(paths: &[PathBuf]) -> Vec<String> {
    let of_runs = paths.iter().map(|path| match path.ends_with(SAMPLED) {
        true => path.parent().unwrap_or(path),
        false => path,
    });
    let short = of_runs
        .clone()
        .map(|path| path.file_name().unwrap_or(path.as_os_str()));
    let short: Vec<String> = short
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    match short.iter().collect::<HashSet<_>>().len() == short.len() {
        true => short,
        false => of_runs.map(|path| path.display().to_string()).collect(),
    }
}

/// Draws distances over the steps of chains.
fn draw(scores: &[Score], path: &Path) -> Result<()> {
    let panels = [distances::panel(scores).context(
        "--plot: distances of different numbers of samples cannot be compared: give -n",
    )?];
    let bytes = match path.extension().is_some_and(|end| end == "png") {
        true => plot::png(&panels, 1)?,
        false => plot::svg(&panels, 1)?.into_bytes(),
    };
    Ok(write_whole(path, &bytes)?)
}

fn preparation(args: &FidArgs) -> Result<Preparation> {
    let own = Pixels::default();
    let range = match args.range.as_deref() {
        None => own.range,
        Some(&[low, high]) => [low, high],
        Some(numbers) => bail!("--range {numbers:?}: expected two numbers, as in 0,1"),
    };
    Ok(Preparation {
        resize: args.resize,
        pixels: Pixels {
            range,
            mean: args.mean.clone(),
            std: args.std.clone(),
        },
    })
}

/// Samples to judge.
struct Samples {
    path: PathBuf,
    kind: SamplesKind,
    /// Of their chains, if they are of a sample.
    step: Option<u64>,
}

#[derive(Clone, Copy)]
enum SamplesKind {
    /// An npy or npz file.
    Array,
    Pictures,
    /// The bank of a run.
    Bank,
}

impl Samples {
    fn find(path: &Path, snapshot: SnapshotChoice) -> Result<Vec<Samples>> {
        let shown = path.display();
        ensure!(path.exists(), "--samples {shown}: no such file or folder");
        let folder = match path.is_file() {
            true => path.parent().unwrap_or(Path::new(".")),
            false => path,
        };
        let of_sample = path.is_dir() && is_sample(path);
        let only = |kind| Samples {
            path: path.to_path_buf(),
            kind,
            step: None,
        };
        match snapshot {
            SnapshotChoice::Last if path.is_file() => Ok(vec![Samples::array(path)?]),
            SnapshotChoice::Last if of_sample => {
                let last = Samples::snapshots(folder)?.pop();
                Ok(vec![last.context("there are no snapshots")?])
            }
            SnapshotChoice::Last if checkpoint::resolve(path).is_ok() => {
                Ok(vec![only(SamplesKind::Bank)])
            }
            SnapshotChoice::Last => Ok(vec![only(SamplesKind::Pictures)]),
            _ if !is_sample(folder) => bail!(
                "--snapshot: {shown} is nothing that `trainer sample` wrote, so that it has no snapshots"
            ),
            SnapshotChoice::All => Samples::snapshots(folder),
            SnapshotChoice::At(step) => {
                let mut found = Samples::snapshots(folder)?;
                let steps: Vec<u64> = found.iter().filter_map(|samples| samples.step).collect();
                found.retain(|samples| samples.step == Some(step));
                ensure!(
                    !found.is_empty(),
                    "--snapshot {step}: {} has snapshots of the steps {steps:?}",
                    folder.display()
                );
                Ok(found)
            }
        }
    }

    /// An npy or npz file, perhaps of a snapshot.
    fn array(path: &Path) -> Result<Samples> {
        let steps = || {
            let mut npz = Npz::open(path)?;
            match npz.names()?.iter().any(|name| name == STEPS) {
                true => Ok(Vec::<i64>::try_from(npz.tensor(STEPS)?.flatten(0, -1))?),
                false => Ok(Vec::new()),
            }
        };
        let steps: Result<Vec<i64>> = match npz::is_npy(path) {
            true => Ok(Vec::new()),
            false => steps(),
        };
        let step = steps.context("--samples")?.pop();
        Ok(Samples {
            path: path.to_path_buf(),
            kind: SamplesKind::Array,
            step: step.and_then(|step| u64::try_from(step).ok()),
        })
    }

    /// Those of a folder that `trainer sample` wrote, by their steps.
    fn snapshots(folder: &Path) -> Result<Vec<Samples>> {
        let entries = fs::read_dir(folder.join(SNAPSHOTS)).into_iter().flatten();
        let mut files: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|file| file.extension().is_some_and(|end| end == "npz"))
            .collect();
        files.extend(Some(folder.join(SAMPLES)).filter(|file| file.is_file()));
        let found = files.iter().map(|file| Samples::array(file));
        let mut found = found.collect::<Result<Vec<Samples>>>()?;
        found.sort_by_key(|samples| samples.step);
        found.dedup_by_key(|samples| samples.step);
        Ok(found)
    }

    fn open(&self, meaning: Meaning) -> Result<ImageSet> {
        let images = || match self.kind {
            SamplesKind::Array => ImageSet::of_file(&self.path, meaning),
            SamplesKind::Pictures => {
                meaning.expect_none(&self.path)?;
                pictures_of_one_size(&self.path).map(ImageSet::Data)
            }
            SamplesKind::Bank => {
                meaning.expect_none(&self.path)?;
                bank(&self.path)
            }
        };
        images().context("--samples")
    }
}

fn is_sample(folder: &Path) -> bool {
    folder.join(SAMPLES).is_file() || folder.join(SNAPSHOTS).is_dir()
}

/// The persistent chains of a run.
fn bank(run: &Path) -> Result<ImageSet> {
    let saved = Saved::open(run)?;
    ensure!(
        saved.header.groups.contains_key(BANK),
        "{} has no bank of chains: sample it first with `trainer sample {}`",
        run.display(),
        run.display()
    );
    let chains = saved.group(BANK)?;
    let states = chains.get("states").context("the bank has no states")?;
    let states = from_host(states, Kind::Float, tch::Device::Cpu);
    ImageSet::of_array(states.f_clamp(-1.0, 1.0)?)
}

/// What samples are compared with.
enum Reference {
    Images(ImageSet),
    Gaussian(Gaussian),
}

impl Reference {
    fn find(args: &FidArgs) -> Result<Reference> {
        let path = &args.reference;
        Reference::of(path, args).with_context(|| format!("--reference {}", path.display()))
    }

    fn of(path: &Path, args: &FidArgs) -> Result<Reference> {
        let meaning = Meaning {
            range: args.reference_range,
            option: "--reference-range",
        };
        if path.is_file() {
            if npz::is_npy(path) || !holds_gaussian(path)? {
                return Ok(Reference::Images(ImageSet::of_file(path, meaning)?));
            }
            meaning.expect_none(path)?;
            return Ok(Reference::Gaussian(read(path)?));
        }
        if path.is_dir() && is_sample(path) {
            let images = ImageSet::of_file(&path.join(SAMPLES), meaning)?;
            return Ok(Reference::Images(images));
        }
        meaning.expect_none(path)?;
        let images = if checkpoint::resolve(path).is_ok() {
            of_run(path, args)?
        } else if path.is_dir() {
            ImageSet::Data(pictures_of_one_size(path)?)
        } else {
            of_preset(path, args)?
        };
        Ok(Reference::Images(images))
    }
}

/// The training images of a run.
fn of_run(run: &Path, args: &FidArgs) -> Result<ImageSet> {
    let saved = Saved::open(run)?;
    let (data, network) = match saved.header.kind {
        NetworkKind::Classifier => {
            let config: ClassifierConfig = saved_config(&saved)?;
            (config.data, config.network)
        }
        _ => saved_fit(&saved)?.into_data(),
    };
    let directory = saved.data_directory(args.data.as_deref());
    let images = training_images(&data, directory.as_deref(), &network, args)?;
    saved.compare_data(Some(&Fingerprint {
        train: images.print(),
        test: None,
    }));
    Ok(ImageSet::Data(images))
}

/// The training images of a preset.
fn of_preset(name: &Path, args: &FidArgs) -> Result<ImageSet> {
    let name = name.to_string_lossy();
    ensure!(
        PRESETS.iter().any(|preset| preset.name == name),
        "no such file, folder or preset; `trainer presets` lists the presets"
    );
    let layers = Layers::default().preset(&name)?;
    let (data, network) = configured_data(&layers)?;
    let images = training_images(&data, args.data.as_deref(), &network, args)?;
    Ok(ImageSet::Data(images))
}

fn training_images(
    data: &DataConfig,
    directory: Option<&Path>,
    network: &Network,
    args: &FidArgs,
) -> Result<Images> {
    ensure!(
        data.source != Source::Generator,
        "it was learned from the images of a generator: give a data set, or a sample of the run that learned the generator"
    );
    let n_threads = n_threads(args.machine.threads);
    Ok(load(data, directory, network.image(), n_threads)?.train)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_called_by_what_tells_them_apart() {
        for (paths, wanted) in [
            (["a/short/sampled", "b/long/sampled"], ["short", "long"]),
            (["a/run/sampled", "b/run/sampled"], ["a/run", "b/run"]),
            (["a/x.npz", "out"], ["x.npz", "out"]),
        ] {
            assert_eq!(names(&paths.map(PathBuf::from)), wanted);
        }
    }
}
