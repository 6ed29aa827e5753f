//! Finds the source of a data set by the names of its files.

use std::path::Path;

use anyhow::Result;
use ebm_common::PictureFormat;
use ebm_common::name::has_extension;

use super::files::listed;
use super::missing;
use crate::config::Source;

/// The source of the data in a folder.
///
/// # Errors
/// The folder cannot be read, or has no data of a known source.
pub fn detected(directory: &Path) -> Result<Source> {
    let listing = listed(directory, |file| source_of(file).is_some())?;
    let sources: Vec<Source> = listing.files.iter().filter_map(|f| source_of(f)).collect();
    let order = [
        Source::Idx,
        Source::Cifar10,
        Source::Cifar100,
        Source::Parquet,
        Source::Tar,
        Source::Images,
    ];
    let source = order.into_iter().find(|source| sources.contains(source));
    source.ok_or_else(|| {
        let patterns = PictureFormat::patterns();
        let expected =
            format!("pictures ({patterns}), *.tar, *.parquet, IDX files, or CIFAR's *.bin");
        missing(directory, &expected)
    })
}

fn source_of(file: &Path) -> Option<Source> {
    let name = file.file_name()?.to_string_lossy();
    match name.as_ref() {
        "data_batch_1.bin" => Some(Source::Cifar10),
        "train.bin" => Some(Source::Cifar100),
        _ if name.starts_with("train-images") => Some(Source::Idx),
        _ if has_extension(file, &["parquet"]) => Some(Source::Parquet),
        _ if has_extension(file, &["tar"]) => Some(Source::Tar),
        _ if PictureFormat::of_name(file).is_some() => Some(Source::Images),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_source_follows_from_the_names_of_files() {
        for (names, wanted) in [
            (&["a.png", "notes.txt"][..], Some(Source::Images)),
            (&["0.tar", "a.png"], Some(Source::Tar)),
            (
                &["deep/train-0.parquet", "README.md"],
                Some(Source::Parquet),
            ),
            (&["train-images-idx3-ubyte.gz"], Some(Source::Idx)),
            (&["data_batch_1.bin"], Some(Source::Cifar10)),
            (&["cifar-100-binary/train.bin"], Some(Source::Cifar100)),
            (&["notes.txt", ".hidden/a.png"], None),
        ] {
            let folder = tempfile::tempdir().unwrap();
            for name in names {
                let path = folder.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, b"").unwrap();
            }
            assert_eq!(detected(folder.path()).ok(), wanted, "{names:?}");
        }
    }
}
