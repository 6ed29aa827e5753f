//! The images that a command works on.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use ebm_common::folder::files_below;
use ebm_common::name::is_hidden;
use ebm_runtime::{
    FittedPicture, ImageShape, Images, PictureChange, PictureFit, PictureFormat,
    decode_picture_fitted, read_picture_fitted,
};

use crate::arguments::ImageArguments;
use crate::dataset::{DataSet, DataSetFormat, FloatRange};

/// The name of standard input and output.
pub const STANDARD: &str = "-";
/// A file that goes through memory is no longer than this.
const MAX_BYTES: u64 = 256 << 20;

/// A file of images, and where its images stand in the list.
#[derive(Debug)]
pub struct Input {
    /// The folder that it was found in.
    root: Rc<Path>,
    /// What came from standard input.
    standard: Option<Vec<u8>>,
    /// Its name below that folder, and below the output folder.
    pub name: PathBuf,
    pub content: Content,
    /// Place of its first image in the list of all images, which is the image's index in the noise.
    pub first: u32,
}

/// What a file holds.
#[derive(Debug)]
pub enum Content {
    Picture,
    /// Many images.
    DataSet {
        n_images: u32,
    },
    /// A file of many images that cannot be read. It has one place in the list.
    Unreadable(String),
}

impl Input {
    /// The only file of a list, whose bytes are in memory.
    pub fn alone(name: &Path, bytes: Vec<u8>, reading: Reading) -> Self {
        let root = Rc::from(Path::new(""));
        Self::found(&root, name.to_path_buf(), Some(bytes), reading)
    }

    /// A file that was found below a folder, or whose bytes came from standard input. Its place in the list is settled when all are found.
    fn found(root: &Rc<Path>, name: PathBuf, standard: Option<Vec<u8>>, reading: Reading) -> Self {
        let data_set = match &standard {
            Some(bytes) => DataSetFormat::of_bytes(bytes).map(|_| open_in_memory(bytes, reading)),
            None => {
                let path = root.join(&name);
                is_data_set(&path).then(|| DataSet::open(path, reading.shape, reading.range))
            }
        };
        let content = match data_set {
            None => Content::Picture,
            Some(Ok(data_set)) => Content::DataSet {
                n_images: u32::try_from(data_set.len()).unwrap_or(u32::MAX),
            },
            Some(Err(error)) => Content::Unreadable(sentence(error)),
        };
        Self {
            root: root.clone(),
            standard,
            name,
            content,
            first: 0,
        }
    }

    pub fn path(&self) -> PathBuf {
        self.root.join(&self.name)
    }

    /// The number of its places in the list.
    pub fn n_images(&self) -> u32 {
        match self.content {
            Content::DataSet { n_images } => n_images,
            Content::Picture | Content::Unreadable(_) => 1,
        }
    }

    pub fn is_data_set(&self) -> bool {
        matches!(self.content, Content::DataSet { .. })
    }

    pub fn picture(&self, reading: Reading) -> Result<FittedPicture, String> {
        let Reading { shape, fit, .. } = reading;
        match &self.standard {
            Some(bytes) => decode_picture_fitted(bytes, shape, fit)
                .map_err(|error| format!("`{}`: {}", self.name.display(), sentence(error))),
            None => read_picture_fitted(self.path(), shape, fit).map_err(sentence),
        }
    }

    pub fn data_set(&self, reading: Reading) -> Result<DataSet> {
        let path = self.path();
        Ok(match &self.standard {
            Some(bytes) => open_in_memory(bytes, reading)
                .with_context(|| format!("`{}`", self.name.display()))?,
            None => DataSet::open(path, reading.shape, reading.range)?,
        })
    }
}

/// An image of the list, or why it cannot be read.
pub struct Item<'a> {
    pub input: &'a Input,
    /// Its number in its file.
    pub number: u32,
    pub image: Result<Images, String>,
    /// Its class, if its file of many states it.
    pub label: Option<u8>,
    /// What was done to its picture to make an image of it.
    pub changes: Vec<PictureChange>,
    /// Its file of many images, and the bytes of its pixels there.
    pub record: Option<(Rc<DataSet>, Vec<u8>)>,
}

impl<'a> Item<'a> {
    /// The only image of its file.
    fn alone(input: &'a Input, image: Result<Images, String>, changes: Vec<PictureChange>) -> Self {
        Self {
            input,
            number: 0,
            image,
            label: None,
            changes,
            record: None,
        }
    }

    /// Its index in the noise.
    pub fn place(&self) -> u32 {
        self.input.first + self.number
    }
}

/// `FILE`, or `FILE#NUMBER` in a file of many images.
impl fmt::Display for Item<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.input.path().display())?;
        match self.record {
            Some(_) => write!(f, "#{}", self.number),
            None => Ok(()),
        }
    }
}

/// How files are read.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Of the images in files, without padding.
    pub shape: ImageShape,
    /// Black pixels that the model wants on every side of an image.
    pub padding: usize,
    /// Of f32 arrays.
    pub range: FloatRange,
    /// Of pictures.
    pub fit: PictureFit,
}

impl Reading {
    /// For a model of images of this shape.
    ///
    /// # Errors
    /// The padding leaves no pixel.
    pub fn new(model: ImageShape, arguments: &ImageArguments) -> Result<Self> {
        Ok(Self {
            shape: arguments.shape(model)?,
            padding: arguments.padding,
            range: arguments.range.unwrap_or_default(),
            fit: arguments.fit(),
        })
    }
}

/// All images of the given files, folders and patterns: files as they are given, folders and patterns in the order of their names.
/// Nothing below `output` is taken.
pub fn find_inputs(
    arguments: &ImageArguments,
    output: Option<&Path>,
    reading: Reading,
) -> Result<Vec<Input>> {
    let mut found: Vec<Input> = Vec::new();
    for path in &arguments.paths {
        if path == Path::new(STANDARD) {
            if found.iter().any(|found| found.standard.is_some()) {
                bail!("`-`: standard input can be read only once");
            }
            found.push(Input::alone(
                path,
                read_whole(std::io::stdin(), path)?,
                reading,
            ));
        } else if path.is_dir() {
            found.extend(files_in(&Rc::from(path.as_path()), path, output, reading)?);
        } else if !path.exists() && is_pattern(path) {
            found.extend(matches_of(path, output, reading)?);
        } else if let Some(name) = path.file_name() {
            let folder = path.parent().unwrap_or(Path::new(""));
            found.push(Input::found(&Rc::from(folder), name.into(), None, reading));
        } else {
            bail!(
                "`{}`: expected an image or a folder of images",
                path.display()
            );
        }
    }
    if found.is_empty() {
        let paths: Vec<_> = arguments
            .paths
            .iter()
            .map(|path| format!("`{}`", path.display()))
            .collect();
        bail!(
            "{}: expected images, got none; from folders, only files named {}, *.npy, *.npz, *.idx, *idx3-ubyte, data_batch_*.bin, test_batch.bin, train.bin and test.bin (CIFAR) are taken",
            paths.join(", "),
            PictureFormat::patterns()
        );
    }
    number(found)
}

/// All bytes of a file that goes through memory.
pub fn read_whole(source: impl Read, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("`{}`: the file cannot be read", path.display()))?;
    if bytes.len() as u64 > MAX_BYTES {
        bail!(
            "`{}`: expected at most {MAX_BYTES} bytes on standard input or for standard output, got more; purify it as a file into a folder",
            path.display()
        );
    }
    Ok(bytes)
}

/// Gives each image its place in the list.
fn number(mut inputs: Vec<Input>) -> Result<Vec<Input>> {
    let mut first = 0_u32;
    for input in &mut inputs {
        input.first = first;
        first = first
            .checked_add(input.n_images())
            .context("expected fewer than 2³² images, got more; run them in parts")?;
    }
    Ok(inputs)
}

fn open_in_memory(bytes: &[u8], reading: Reading) -> ebm_runtime::Result<DataSet> {
    // The format has been told by these bytes; without one there is an error about the first of them.
    let format = DataSetFormat::of_bytes(bytes).unwrap_or(DataSetFormat::Npy);
    DataSet::from_bytes(bytes.to_vec(), format, reading.shape, reading.range)
}

fn is_data_set(path: &Path) -> bool {
    let is_picture = PictureFormat::of_name(path).is_some();
    !is_picture && (DataSetFormat::of_name(path).is_some() || starts_as_data_set(path))
}

fn starts_as_data_set(path: &Path) -> bool {
    let mut start = [0; 4];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut start))
        .is_ok_and(|()| DataSetFormat::of_bytes(&start).is_some())
}

/// Whether a folder is searched for files of this name.
fn is_image_name(path: &Path) -> bool {
    let is_batch = || {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("data_batch_")
            || ["test_batch.bin", "train.bin", "test.bin"].contains(&&*name)
    };
    match DataSetFormat::of_name(path) {
        Some(DataSetFormat::Cifar) => is_batch(),
        Some(_) => true,
        None => PictureFormat::of_name(path).is_some(),
    }
}

fn files_in(
    root: &Rc<Path>,
    folder: &Path,
    output: Option<&Path>,
    reading: Reading,
) -> Result<Vec<Input>> {
    // The output of an earlier run is not an input, even if it lies inside the folder.
    let output = output.and_then(|output| output.canonicalize().ok());
    let is_other = |path: &Path| output.is_none() || path.canonicalize().ok() != output;
    let listing = files_below(folder, is_other, is_image_name).map_err(|unlisted| {
        anyhow::Error::new(unlisted.source).context(format!(
            "`{}`: the folder cannot be read",
            unlisted.path.display()
        ))
    })?;
    for line in &listing.left_out {
        eprintln!("warning: {line}");
    }
    let files = listing.files.into_iter().map(|path| {
        let name = path.strip_prefix(root).unwrap_or(&path).to_path_buf();
        Input::found(root, name, None, reading)
    });
    Ok(files.collect())
}

fn is_pattern(path: &Path) -> bool {
    path.to_str()
        .is_some_and(|path| path.contains(['*', '?', '[']))
}

/// What a pattern matches, for shells that do not expand it. Names are below its last folder without wildcards.
fn matches_of(pattern: &Path, output: Option<&Path>, reading: Reading) -> Result<Vec<Input>> {
    const LIKE_SHELLS: glob::MatchOptions = glob::MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };
    let text = pattern.to_str().context("a pattern is text")?;
    let root: PathBuf = pattern
        .iter()
        .take_while(|part| !is_pattern(Path::new(part)))
        .collect();
    let root: Rc<Path> = Rc::from(root);
    let paths = glob::glob_with(text, LIKE_SHELLS)
        .with_context(|| format!("`{text}`: the pattern is not understood"))?;
    // A folder and the files in it can both match.
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    for path in paths {
        let path = path?;
        let name = path.strip_prefix(&root).unwrap_or(&path).to_path_buf();
        if name.iter().any(is_hidden) {
            continue;
        }
        let matched = match path.is_dir() {
            true => files_in(&root, &path, output, reading)?,
            false => vec![Input::found(&root, name, None, reading)],
        };
        found.extend(
            matched
                .into_iter()
                .filter(|input| seen.insert(input.name.clone())),
        );
    }
    Ok(found)
}

/// Reads the images in their order, from number `start` of each file on, and hands them to `visit` one by one.
pub fn for_each_image<'a>(
    inputs: &'a [Input],
    reading: Reading,
    start: impl Fn(&Input) -> u32,
    mut visit: impl FnMut(Item<'a>) -> Result<()>,
) -> Result<()> {
    for input in inputs {
        let start = start(input);
        if start >= input.n_images() {
            continue;
        }
        let path = input.path();
        match &input.content {
            Content::Picture => {
                let (image, changes) = match input.picture(reading) {
                    Ok(picture) => (Ok(picture.image), picture.changes),
                    Err(error) => (Err(error), Vec::new()),
                };
                visit(Item::alone(input, image, changes))?;
            }
            Content::Unreadable(error) => {
                visit(Item::alone(input, Err(error.clone()), Vec::new()))?;
            }
            Content::DataSet { n_images } => {
                let data_set = Rc::new(input.data_set(reading)?);
                if data_set.len() != *n_images as usize {
                    bail!(
                        "`{}`: the file was changed while it was worked on: expected {n_images} images, got {}",
                        path.display(),
                        data_set.len()
                    );
                }
                for (number, record) in (start..).zip(data_set.records(start as usize)?) {
                    let record = record.with_context(|| format!("`{}`", path.display()))?;
                    visit(Item {
                        input,
                        number,
                        image: record.image.map_err(|error| {
                            format!("`{}#{number}`: {}", path.display(), sentence(error))
                        }),
                        label: record.label,
                        changes: Vec::new(),
                        record: Some((data_set.clone(), record.pixels)),
                    })?;
                }
            }
        }
    }
    Ok(())
}

/// Reads the images as [`for_each_image`] does, and hands them to `treat` in groups of up to `size`.
pub fn for_each_group<'a>(
    inputs: &'a [Input],
    reading: Reading,
    start: impl Fn(&Input) -> u32,
    size: usize,
    mut treat: impl FnMut(Vec<Item<'a>>) -> Result<()>,
) -> Result<()> {
    let mut group = Vec::new();
    for_each_image(inputs, reading, start, |item| {
        group.push(item);
        match group.len() == size {
            true => treat(std::mem::take(&mut group)),
            false => Ok(()),
        }
    })?;
    match group.is_empty() {
        true => Ok(()),
        false => treat(group),
    }
}

/// Where reading starts if all images of each file are wanted.
pub fn from_the_start(_: &Input) -> u32 {
    0
}

/// The number of all images in the list.
pub fn n_images(inputs: &[Input]) -> u32 {
    inputs.iter().map(Input::n_images).sum()
}

/// An error with its causes.
pub fn sentence(error: ebm_runtime::Error) -> String {
    format!("{:#}", anyhow::Error::new(error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::arguments::ModelArguments;

    const READING: fn() -> Reading = || Reading {
        shape: ImageShape {
            channels: 1,
            height: 2,
            width: 3,
        },
        padding: 0,
        range: FloatRange::default(),
        fit: PictureFit::default(),
    };

    fn names(folder: &Path, paths: &[&str], output: Option<&Path>) -> Vec<(String, u32)> {
        let arguments = ImageArguments {
            paths: paths.iter().map(|path| folder.join(path)).collect(),
            model: ModelArguments {
                model: PathBuf::new(),
                no_verify: false,
            },
            range: None,
            crop: None,
            resize: false,
            padding: 0,
            colour: false,
        };
        let inputs = find_inputs(&arguments, output, READING()).unwrap();
        inputs
            .into_iter()
            .map(|input| (input.name.to_string_lossy().into_owned(), input.first))
            .collect()
    }

    fn fill(folder: &Path, files: &[&str]) {
        for name in files {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
    }

    #[test]
    fn folders_are_sorted_and_keep_their_tree() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out");
        fill(
            folder.path(),
            &[
                "b.webp",
                "a.PNG",
                "notes.txt",
                "weights.bin",
                "deep/c.jpeg",
                "out/a.png",
                "labels-idx1-ubyte",
            ],
        );
        let found = |output| -> Vec<_> {
            let names = names(folder.path(), &[""], output);
            assert!((0..).zip(&names).all(|(place, (_, first))| place == *first));
            names.into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(
            found(Some(output.as_path())),
            ["a.PNG", "b.webp", "deep/c.jpeg"]
        );
        assert_eq!(found(None), ["a.PNG", "b.webp", "deep/c.jpeg", "out/a.png"]);
    }

    #[test]
    fn every_image_of_a_file_of_many_has_a_place() {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path(), &["a.png", "c.png", "d.npy", "e.png"]);
        let header = [0, 0, 8, 3, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0, 0, 3];
        let idx = [header.as_slice(), &[7; 30]].concat();
        std::fs::write(folder.path().join("b-idx3-ubyte"), idx).unwrap();
        let names = names(folder.path(), &[""], None);
        let firsts: Vec<_> = names.into_iter().map(|(_, first)| first).collect();
        assert_eq!(
            firsts,
            [0, 1, 6, 7, 8],
            "d.npy is unreadable and has one place"
        );
    }

    #[test]
    fn patterns_keep_the_tree_below_their_last_plain_folder() {
        let folder = tempfile::tempdir().unwrap();
        fill(
            folder.path(),
            &[
                "x/b.png",
                "x/a.png",
                "x/.hidden.png",
                "x/deep/c.png",
                "x/deep/d.txt",
            ],
        );
        let found = |pattern: &str| -> Vec<_> {
            let names = names(folder.path(), &[pattern], None);
            names.into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(found("x/*.png"), ["a.png", "b.png"]);
        assert_eq!(found("*/[a].png"), ["x/a.png"]);
        assert_eq!(found("x/**/*.png"), ["a.png", "b.png", "deep/c.png"]);
        assert_eq!(found("x/d*"), ["deep/c.png"]);
        assert_eq!(found("x/a.pn?"), ["a.png"]);
    }
}
