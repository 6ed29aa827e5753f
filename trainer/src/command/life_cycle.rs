//! `trainer life-cycle`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ebm_common::target::Existing;
use ebm_export::source::checkpoint;

use super::classifier::begin_classifier;
use super::fit::begin_fit;
use super::new_run::NewRun;
use super::old_run::{ChangedData, OldRun};
use super::report::write_page;
use super::resume::go_on;
use super::saved_config;
use crate::cli::LifeCycleArgs;
use crate::config::{ClassifierConfig, EnergyConfig, Layers, PRESETS};
use crate::machine::console;
use crate::machine::expect_one_process;
use crate::run::folder::RunFolder;
use crate::run::lock::FolderLock;
use crate::run::resumption::Resumed;
use crate::run::saved::Saved;
use crate::run::stage::Stage;
use crate::run::stop::{End, StopSignal};

impl Stage {
    fn takes_generator(self) -> bool {
        matches!(self, Stage::Midrun | Stage::Prior | Stage::Longrun)
    }

    fn takes_prior(self) -> bool {
        self == Stage::Longrun
    }

    /// The preset of a family: `cifar10` has `cifar10-prior`, `cifar10-small` has `cifar10-prior-small`. Of two presets for a stage, the one
    /// that takes a generator is called cooperative.
    fn preset(self, family: &str) -> Option<&'static str> {
        let (family, size) = match family.strip_suffix("-small") {
            Some(family) => (family, "-small"),
            None => (family, ""),
        };
        ["-cooperative", ""].into_iter().find_map(|kind| {
            let wanted = format!("{family}-{}{kind}{size}", self.name());
            let mut names = PRESETS.iter().map(|preset| preset.name);
            names.find(|name| *name == wanted)
        })
    }

    /// What a run of the stage is configured with.
    fn layers(self, args: &LifeCycleArgs) -> Result<Layers> {
        let Some(preset) = self.preset(&args.family) else {
            bail!(
                "{:?} has no preset for the stage {}: families with one for each are {}",
                args.family,
                self.name(),
                families().join(", ")
            );
        };
        let mut layers = Layers::default().preset(preset)?;
        for set in &args.set {
            let (stage, set) = set
                .split_once('.')
                .with_context(|| format!("--set {set}: expected STAGE.SECTION.KEY=VALUE"))?;
            if !Stage::ALL.iter().any(|known| known.name() == stage) {
                bail!(
                    "--set {stage}.{set}: expected one of the stages classifier, shortrun, midrun, prior, longrun, got {stage:?}"
                );
            }
            if stage == self.name() {
                layers = layers.set(set)?;
            }
        }
        if let Some(seed) = args.seed {
            layers = layers.set(&format!("seed={seed}"))?;
        }
        let folder = |stage| Self::folder(stage, args);
        let generator = self.takes_generator().then(|| folder(Stage::Shortrun));
        let prior = self.takes_prior().then(|| folder(Stage::Prior));
        layers.borrowing(generator.as_deref(), prior.as_deref())
    }

    fn check(self, layers: &Layers) -> Result<()> {
        match self {
            Stage::Classifier => layers.resolve::<ClassifierConfig>().map(drop)?,
            _ => layers.resolve::<EnergyConfig>().map(drop)?,
        }
        Ok(())
    }

    fn folder(self, args: &LifeCycleArgs) -> PathBuf {
        args.output.join(self.name())
    }

    /// Learns what is not learned yet.
    fn run(self, args: &LifeCycleArgs, layers: &Layers, stop: &StopSignal) -> Result<End> {
        let folder = self.folder(args);
        let begun = RunFolder::open(&folder).is_ok();
        if begun && self.is_complete(&folder)? {
            note!("{}: learned already", folder.display());
            return Ok(End::Complete);
        }
        if begun {
            let old = OldRun {
                resumed: Resumed::of(&folder, None)?,
                data: args.data.clone(),
                changed_data: ChangedData::from_flag(args.allow_changed_data),
                machine: args.machine,
            };
            return go_on(&old, stop);
        }
        let run = NewRun {
            data: args.data.clone(),
            folder,
            existing: Existing::Replaced,
            machine: args.machine,
        };
        match self {
            Stage::Classifier => begin_classifier(layers, &run, stop),
            _ => begin_fit(layers, &run, stop),
        }
    }

    /// Whether the last checkpoint is there and whole.
    fn is_complete(self, folder: &Path) -> Result<bool> {
        let saved = Saved::open(folder);
        let Some(saved) = saved
            .ok()
            .filter(|saved| checkpoint::verify(&saved.folder).is_ok())
        else {
            return Ok(false);
        };
        let n_updates = match self {
            Stage::Classifier => saved_config::<ClassifierConfig>(&saved)?.learning.updates,
            _ => saved_config::<EnergyConfig>(&saved)?.learning.updates,
        };
        Ok(saved.header.update >= n_updates)
    }
}

/// Families that have a preset for each stage.
fn families() -> Vec<String> {
    let shortruns = PRESETS.iter().filter_map(|preset| {
        let (family, size) = preset.name.split_once("-shortrun")?;
        Some(format!("{family}{size}"))
    });
    shortruns
        .filter(|family| {
            Stage::ALL
                .iter()
                .all(|stage| stage.preset(family).is_some())
        })
        .collect()
}

/// `trainer life-cycle`.
pub fn life_cycle(args: &LifeCycleArgs) -> Result<End> {
    let stages = Stage::ALL
        .into_iter()
        .map(|stage| {
            let layers = stage.layers(args)?;
            stage.check(&layers)?;
            Ok((stage, layers))
        })
        .collect::<Result<Vec<_>>>()?;
    expect_one_process()?;
    let _lock = FolderLock::take(&args.output)?;
    let stop = StopSignal::listen()?;
    for (stage, layers) in stages {
        note!("stage {}", stage.name());
        let end = stage
            .run(args, &layers, &stop)
            .with_context(|| format!("the stage {} of the life cycle", stage.name()))?;
        if end == End::Interrupted {
            note!("the same command continues the life cycle");
            return Ok(end);
        }
    }
    let page = write_page(&args.output, None)?;
    console::print(&format!("life cycle complete: {}", args.output.display()))?;
    console::print(&format!("all of it on one page: {}", page.display()))?;
    Ok(End::Complete)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_have_a_preset_for_each_stage() {
        assert_eq!(families(), ["digits", "mnist", "cifar10", "cifar10-small"]);
        for (family, stage, wanted) in [
            ("digits", Stage::Midrun, "digits-midrun-cooperative"),
            ("cifar10", Stage::Midrun, "cifar10-midrun"),
            ("cifar10-small", Stage::Longrun, "cifar10-longrun-small"),
        ] {
            assert_eq!(stage.preset(family), Some(wanted));
        }
        assert_eq!(Stage::Classifier.preset("celeba64"), None);
    }
}
