//! Where commands write, checked before any work starts.

use std::fs::Metadata;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use ebm_common::staged::check_writable;
use ebm_common::target::Existing;

/// The one file that a command writes.
#[derive(Args)]
pub struct OutputFile {
    /// File to write
    #[arg(short = 'o', value_name = "FILE")]
    pub file: PathBuf,
    /// Replace the file of an earlier export
    #[arg(long)]
    force: bool,
}

impl OutputFile {
    /// Refuses what stands in the way of it, before any work starts. `inputs` are files that are read.
    pub fn check(&self, inputs: &[&Path]) -> Result<()> {
        check_output(&self.file, Existing::of(self.force))?;
        self.check_is_none_of(inputs)
    }

    /// Refuses to replace a file that is read.
    pub fn check_is_none_of(&self, inputs: &[&Path]) -> Result<()> {
        check_is_none_of(&self.file, inputs)
    }
}

/// Refuses what stands in the way of a file, and folders that take none.
pub fn check_output(file: &Path, existing: Existing) -> Result<()> {
    let shown = file.display();
    ensure!(
        !file.is_dir(),
        "{shown} is a folder, expected a file or nothing; give another name with -o"
    );
    ensure!(
        file.file_name().is_some(),
        "-o: expected the name of a file, got {file:?}"
    );
    ensure!(
        existing == Existing::Replaced || !file.exists(),
        "{shown} exists already; give another name with -o, or --force to replace it"
    );
    check_writable(file).with_context(|| format!("{shown} cannot be written"))
}

/// Refuses to replace a file that is read, by whatever name: through links, or as another name of the same file.
pub fn check_is_none_of(file: &Path, inputs: &[&Path]) -> Result<()> {
    let Ok(metadata) = file.metadata() else {
        return Ok(());
    };
    let is_same = |input: &&&Path| {
        let other = input.metadata();
        other.is_ok_and(|other| is_same_file([file, input], [&metadata, &other]))
    };
    match inputs.iter().find(is_same) {
        Some(input) => bail!(
            "{} is {}, which is read; give another name with -o",
            file.display(),
            match *input == file {
                true => "an input".to_string(),
                false => input.display().to_string(),
            }
        ),
        None => Ok(()),
    }
}

#[cfg(unix)]
fn is_same_file(_paths: [&Path; 2], metadata: [&Metadata; 2]) -> bool {
    use std::os::unix::fs::MetadataExt;
    let [one, other] = metadata.map(|metadata| (metadata.dev(), metadata.ino()));
    one == other
}

#[cfg(not(unix))]
fn is_same_file(paths: [&Path; 2], _metadata: [&Metadata; 2]) -> bool {
    let [one, other] = paths.map(|path| path.canonicalize().ok());
    one.is_some() && one == other
}

/// A file, or the files of a folder.
pub fn files_of(path: &Path) -> Vec<PathBuf> {
    match path.read_dir() {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(_) => vec![path.to_path_buf()],
    }
}
