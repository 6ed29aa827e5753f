//! The images that a command works on.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use ebm_runtime::{ImageShape, Images, read_png};
use walkdir::WalkDir;

/// An image file, and its name below the output folder.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    pub path: PathBuf,
    pub name: PathBuf,
    /// Place in the list, which is the image's index in the noise.
    pub index: u32,
}

/// All images of the given files and folders: files as they are given, folders in the order of their names. Nothing below `output` is taken.
pub fn find_inputs(paths: &[PathBuf], output: Option<&Path>) -> Result<Vec<Input>> {
    let mut found: Vec<(PathBuf, PathBuf)> = Vec::new();
    for path in paths {
        if path.is_dir() {
            found.extend(pictures_below(path, output)?);
        } else if let Some(name) = path.file_name() {
            found.push((path.clone(), name.into()));
        } else {
            bail!(
                "`{}`: expected an image or a folder of images",
                path.display()
            );
        }
    }
    if found.is_empty() {
        let folders: Vec<_> = paths
            .iter()
            .map(|path| format!("`{}`", path.display()))
            .collect();
        bail!(
            "{}: expected images, got none; only files named *.png are taken from folders",
            folders.join(", ")
        );
    }
    if u32::try_from(found.len()).is_err() {
        bail!(
            "expected fewer than 2³² images, got {}; run them in parts",
            found.len()
        );
    }
    Ok((0..)
        .zip(found)
        .map(|(index, (path, name))| Input { path, name, index })
        .collect())
}

fn pictures_below(folder: &Path, output: Option<&Path>) -> Result<Vec<(PathBuf, PathBuf)>> {
    // The output of an earlier run is no input, even where it lies inside the folder.
    let output = output.and_then(|output| output.canonicalize().ok());
    let is_output = |path: &Path| output.is_some() && path.canonicalize().ok() == output;
    let mut found = Vec::new();
    let entries = WalkDir::new(folder).sort_by_file_name().into_iter();
    for entry in entries.filter_entry(|entry| {
        !(entry.depth() > 0 && entry.file_type().is_dir() && is_output(entry.path()))
    }) {
        let path = entry?.into_path();
        let is_png = path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
        if is_png && !path.is_dir() {
            let name = path.strip_prefix(folder).unwrap_or(&path).to_path_buf();
            found.push((path, name));
        }
    }
    Ok(found)
}

/// The images that could be read out of a group, with their inputs; the errors of the others are handed to `report`.
pub fn read_group(
    group: &[Input],
    shape: ImageShape,
    mut report: impl FnMut(&anyhow::Error),
) -> Result<(Vec<&Input>, Option<Images>)> {
    let (mut inputs, mut images) = (Vec::new(), Vec::new());
    for input in group {
        match read_png(&input.path, shape) {
            Ok(image) => {
                inputs.push(input);
                images.push(image);
            }
            Err(error) => report(&error.into()),
        }
    }
    let images = if images.is_empty() {
        None
    } else {
        Some(Images::concatenate(&images)?)
    };
    Ok((inputs, images))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn folders_are_sorted_and_keep_their_tree() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out");
        for name in ["b.png", "a.PNG", "notes.txt", "deep/c.png", "out/a.png"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let names = |output| -> Vec<_> {
            let inputs = find_inputs(&[folder.path().to_path_buf()], output).unwrap();
            assert!(
                inputs
                    .iter()
                    .enumerate()
                    .all(|(place, input)| place == input.index as usize)
            );
            inputs
                .into_iter()
                .map(|input| input.name.to_string_lossy().into_owned())
                .collect()
        };
        assert_eq!(
            names(Some(output.as_path())),
            ["a.PNG", "b.png", "deep/c.png"]
        );
        assert_eq!(names(None), ["a.PNG", "b.png", "deep/c.png", "out/a.png"]);
    }
}
