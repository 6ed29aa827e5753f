//! The files that a run writes.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ebm_common::files::{AtomicFile, final_path};
use ebm_common::target::{is_there, resolved};
use ebm_runtime::{PictureChange, PictureFormat, write_picture};
use walkdir::WalkDir;

use crate::arguments::{OutputFormat, RunArguments};
use crate::dataset::DataSet;
use crate::inputs::{Content, Input, Item, Reading};
use crate::treatment::Outcome;

/// Where the images of a run go.
pub struct Outputs {
    pub folder: PathBuf,
    n_replicas: usize,
    originals: Originals,
    format: OutputFormat,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Originals {
    Copied,
    LeftOut,
}

impl Outputs {
    pub fn new(arguments: &RunArguments) -> Self {
        Self {
            folder: arguments.output.clone(),
            n_replicas: arguments.replicas,
            originals: match arguments.keep_originals {
                true => Originals::Copied,
                false => Originals::LeftOut,
            },
            format: arguments.format,
        }
    }

    /// The names below the folder of an input's purified files, one for each replica.
    pub fn names(&self, input: &Input) -> Vec<PathBuf> {
        let name = match input.content {
            Content::Picture => self.picture_name(&input.name),
            Content::DataSet { .. } | Content::Unreadable(_) => input.name.clone(),
        };
        match self.n_replicas {
            1 => vec![name],
            n => (0..n).map(|r| suffixed(&name, &format!("-r{r}"))).collect(),
        }
    }

    fn picture_name(&self, name: &Path) -> PathBuf {
        match (PictureFormat::of_name(name), self.format) {
            (Some(PictureFormat::Jpeg), OutputFormat::Lossless) => name.with_extension("png"),
            (Some(_), _) => name.to_path_buf(),
            (None, _) => {
                let mut name = name.as_os_str().to_os_string();
                name.push(".png");
                name.into()
            }
        }
    }

    /// The paths of an input's purified files.
    fn purified(&self, input: &Input) -> impl Iterator<Item = PathBuf> {
        let names = self.names(input).into_iter();
        names.map(|name| self.folder.join(name))
    }

    /// The path of the first replica.
    pub fn first(&self, input: &Input) -> PathBuf {
        self.folder.join(&self.names(input)[0])
    }

    fn original(&self, input: &Input) -> Option<PathBuf> {
        let name = suffixed(&input.name, "-original");
        (self.originals == Originals::Copied).then(|| self.folder.join(name))
    }

    fn paths(&self, input: &Input) -> impl Iterator<Item = PathBuf> {
        self.purified(input).chain(self.original(input))
    }

    /// Returns Ok if each output has a name of its own and the folder can be one.
    pub fn check(&self, inputs: &[Input]) -> Result<()> {
        if self.folder.exists() && !self.folder.is_dir() {
            bail!(
                "`{}`: expected a folder for the output, got a file",
                self.folder.display()
            );
        }
        let mut taken: HashMap<PathBuf, &Input> = HashMap::new();
        for input in inputs {
            for path in self.paths(input) {
                if let Some(other) = taken.insert(path.clone(), input) {
                    let is_by_format = [other, input]
                        .map(|input| PictureFormat::of_name(&input.name))
                        .contains(&Some(PictureFormat::Jpeg));
                    bail!(
                        "`{}` and `{}` would both be written to `{}`; {}run them into different folders",
                        other.path().display(),
                        input.path().display(),
                        path.display(),
                        match (self.format, is_by_format) {
                            (OutputFormat::Lossless, true) =>
                                "give --format same, so that JPEG pictures keep their names, or ",
                            _ => "",
                        }
                    );
                }
            }
        }
        // A file that is not there yet cannot be an input.
        let there: Vec<&PathBuf> = taken.keys().filter(|path| path.exists()).collect();
        if there.is_empty() {
            return Ok(());
        }
        let read: HashSet<PathBuf> = inputs.iter().map(|i| resolved(&i.path())).collect();
        match there
            .into_iter()
            .find(|path| read.contains(&resolved(path)))
        {
            Some(path) => bail!(
                "`{}` is read and would be replaced by the same run; give another folder with -o",
                path.display()
            ),
            None => Ok(()),
        }
    }

    /// Whether a purified image is written to a path.
    pub fn holds(&self, path: &Path, inputs: &[Input]) -> bool {
        let path = resolved(path);
        let Ok(name) = path.strip_prefix(resolved(&self.folder)) else {
            return false;
        };
        let place = self.folder.join(name);
        inputs
            .iter()
            .any(|input| self.paths(input).any(|path| path == place))
    }

    /// An output that exists already, if there is one.
    pub fn existing(&self, inputs: &[Input]) -> Option<PathBuf> {
        let mut paths = inputs.iter().flat_map(|input| self.paths(input));
        paths.find(|path| is_there(path))
    }

    /// Writes what became of an image: a picture's files, or its part of a file of many, which gets its name with its last image.
    pub fn deliver(&self, item: &Item<'_>, outcome: &Outcome) -> Result<()> {
        match &item.record {
            Some((data_set, _)) => {
                self.append(item, outcome)?;
                if item.number + 1 == item.input.n_images() {
                    self.complete(item.input, data_set)?;
                }
                Ok(())
            }
            None => self.write_picture(item, outcome),
        }
    }

    fn write_picture(&self, item: &Item<'_>, outcome: &Outcome) -> Result<()> {
        let (Ok(image), false) = (&item.image, matches!(outcome, Outcome::Failed { .. })) else {
            return Ok(());
        };
        let source = item.input.path();
        let is_as_it_was = !item
            .changes
            .iter()
            .any(|change| matches!(change, PictureChange::Size | PictureChange::Colours));
        for (replica, path) in self.purified(item.input).enumerate() {
            make_parent(&path)?;
            let encoding = self.format.encoding(PictureFormat::of_name(&path));
            match outcome.image(replica) {
                Some(image) => write_picture(&path, image, 0, encoding)?,
                None if is_as_it_was && path.extension() == source.extension() => {
                    copy(&source, &path)?;
                }
                None => write_picture(&path, image, 0, encoding)?,
            }
        }
        self.copy_original(item.input)
    }

    fn copy_original(&self, input: &Input) -> Result<()> {
        match self.original(input) {
            Some(path) => {
                make_parent(&path)?;
                copy(&input.path(), &path)
            }
            None => Ok(()),
        }
    }

    /// Adds an image to what was purified of its file. One that failed stays as it was.
    fn append(&self, item: &Item<'_>, outcome: &Outcome) -> Result<()> {
        for (replica, path) in self.purified(item.input).enumerate() {
            make_parent(&path)?;
            let spool = spool(&path);
            let bytes = outcome.pixels(item, replica).unwrap_or_default();
            let mut options = OpenOptions::new();
            match item.number {
                0 => options.write(true).create(true).truncate(true),
                _ => options.append(true),
            };
            options
                .open(&spool)
                .and_then(|mut file| file.write_all(&bytes))
                .with_context(|| unwritable(&spool))?;
        }
        Ok(())
    }

    /// Puts the purified images into files of the same kind.
    fn complete(&self, input: &Input, data_set: &DataSet) -> Result<()> {
        for path in self.purified(input) {
            let write = || -> std::io::Result<()> {
                let mut pixels = BufReader::new(File::open(spool(&path))?);
                let mut file = AtomicFile::create(&path)?;
                data_set.write(&mut file, &mut pixels)?;
                file.commit()
            };
            write().with_context(|| unwritable(&path))?;
        }
        self.copy_original(input)
    }

    /// Removes what only an interrupted run needs of a file of many images.
    pub fn tidy(&self, input: &Input) {
        if input.is_data_set() {
            for path in self.purified(input) {
                // It may never have been there.
                std::fs::remove_file(spool(&path)).ok();
            }
        }
    }

    /// Removes the temporary files of a run that was killed. Those of other programs, which stand for no output, stay.
    pub fn remove_leftovers(&self, inputs: &[Input]) {
        let found = WalkDir::new(&self.folder).into_iter().flatten();
        let leftovers: HashMap<PathBuf, PathBuf> = found
            .filter(|entry| entry.file_type().is_file())
            .filter_map(|entry| Some((final_path(entry.path())?, entry.into_path())))
            .collect();
        if leftovers.is_empty() {
            return;
        }
        for path in inputs.iter().flat_map(|input| self.paths(input)) {
            if let Some(leftover) = leftovers.get(&path) {
                // One that cannot be removed does no harm.
                std::fs::remove_file(leftover).ok();
            }
        }
    }

    /// How many of an input's first `n_done` images really are in its outputs, or can be continued.
    pub fn n_kept(&self, input: &Input, n_done: u32, reading: Reading) -> Result<u32> {
        if n_done == input.n_images() && self.paths(input).all(|path| path.exists()) {
            self.tidy(input);
            return Ok(n_done);
        }
        if !input.is_data_set() {
            return Ok(0);
        }
        // The file has yet to be put together, which comes with its last image.
        let n_done = n_done.min(input.n_images() - 1);
        let data_set = input.data_set(reading)?;
        let n_bytes = |n: u32| data_set.n_pixel_bytes(n as usize);
        let lengths = self.purified(input).map(|path| {
            let metadata = std::fs::metadata(spool(&path));
            metadata.map_or(0, |metadata| metadata.len())
        });
        let n_there = lengths.min().unwrap_or(0);
        let whole = |n: &u32| n_bytes(*n) <= n_there;
        let n_kept = (0..=n_done).rev().find(whole).unwrap_or(0);
        for path in self.purified(input).filter(|_| n_kept > 0) {
            let spool = spool(&path);
            OpenOptions::new()
                .write(true)
                .open(&spool)
                .and_then(|file| file.set_len(n_bytes(n_kept)))
                .with_context(|| unwritable(&spool))?;
        }
        Ok(n_kept)
    }
}

/// The pixels of a file of many images, as far as they are purified.
fn spool(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.spool"))
}

/// A name with something added, so that its format can still be told.
fn suffixed(name: &Path, suffix: &str) -> PathBuf {
    let Some(text) = name.file_name().unwrap_or_default().to_str() else {
        let mut suffixed = name.file_stem().unwrap_or_default().to_os_string();
        suffixed.push(suffix);
        if let Some(extension) = name.extension() {
            suffixed.push(".");
            suffixed.push(extension);
        }
        return name.with_file_name(suffixed);
    };
    let format_of_idx = ["-idx3-ubyte", ".idx3-ubyte", "-idx4-ubyte", ".idx4-ubyte"]
        .iter()
        .find_map(|part| text.find(part));
    let extension = || text.rfind('.').filter(|&at| at > 0);
    let at = format_of_idx.or_else(extension).unwrap_or(text.len());
    name.with_file_name(format!("{}{suffix}{}", &text[..at], &text[at..]))
}

fn make_parent(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new(""));
    std::fs::create_dir_all(folder)
        .with_context(|| format!("`{}`: the folder cannot be made", folder.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut source =
        File::open(from).with_context(|| format!("`{}`: cannot be read", from.display()))?;
    let mut copy = || -> std::io::Result<()> {
        let mut file = AtomicFile::create(to)?;
        std::io::copy(&mut source, &mut file)?;
        file.commit()
    };
    copy().with_context(|| unwritable(to))
}

fn unwritable(path: &Path) -> String {
    format!(
        "`{}`: the file cannot be written; check the folder's permissions and the free space",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_leave_the_format_to_be_told() {
        for (name, expected) in [
            ("a.png", "a-r1.png"),
            ("deep/a.b.npy", "deep/a.b-r1.npy"),
            ("plain", "plain-r1"),
            (".hidden", ".hidden-r1"),
            (
                "train-images-idx3-ubyte.gz",
                "train-images-r1-idx3-ubyte.gz",
            ),
            ("t10k-images.idx3-ubyte", "t10k-images-r1.idx3-ubyte"),
        ] {
            assert_eq!(suffixed(Path::new(name), "-r1"), Path::new(expected));
        }
    }
}
