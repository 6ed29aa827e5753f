//! Data that are named on a command line: a folder, or a preset.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use ebm_export::source::networks::Network;

use super::configured_data;
use crate::config::{Crop, DataConfig, Layers, Mirror, Source};
use crate::data::detection::detected;

/// What was named.
pub struct DataSource {
    /// How it is read.
    pub data: DataConfig,
    /// Where it lies.
    pub directory: Option<PathBuf>,
    /// What the images are to fit, if it is known.
    pub network: Option<Network>,
}

/// `what` is a folder, read as that source or as the one that its files speak for; or a preset or TOML file, whose files lie in `directory`.
///
/// # Errors
/// It is neither, or its files speak for no source.
pub fn data_source(
    what: &str,
    directory: Option<&Path>,
    source: Option<Source>,
) -> Result<DataSource> {
    let folder = Path::new(what);
    if folder.is_dir() {
        ensure!(
            directory.is_none(),
            "--data goes with a preset, but {what} is a folder: give one of the two"
        );
        let source = source.map_or_else(|| detected(folder), Ok)?;
        return Ok(DataSource {
            data: of_a_folder(source),
            directory: Some(folder.to_path_buf()),
            network: None,
        });
    }
    let layers = Layers::default()
        .preset_or_file(what)
        .with_context(|| format!("{what} is not a folder either"))?;
    let (data, network) = configured_data(&layers)?;
    Ok(DataSource {
        data,
        directory: directory.map(Path::to_path_buf),
        network: Some(network),
    })
}

/// How a folder is read of which nothing is known but its source.
fn of_a_folder(source: Source) -> DataConfig {
    DataConfig {
        source,
        n_classes: match source {
            Source::Cifar100 => 100,
            _ => 256,
        },
        crop: Crop::Centre,
        max_damaged: 0.01,
        buffer: 1,
        n_test: 0,
        split_seed: 0,
        padding: 0,
        shift: 0,
        mirror: Mirror::Off,
        image_column: None,
        label_column: None,
    }
}
