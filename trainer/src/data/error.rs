//! What can be wrong with a data set: each refusal says what was expected, what came, and what to do.

use std::io;
use std::path::PathBuf;

/// Why a data set was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The source is one that this version cannot read.
    #[error(
        "data.source = \"images\": pictures in folders cannot be read yet; use \"idx\" or \"cifar10\", to whose files other images can be converted"
    )]
    Unsupported,
    /// Labels are needed, and a generator gives none.
    #[error(
        "data.source = \"generator\": a generator's images have no labels; a classifier learns from a data set"
    )]
    NoLabels,
    /// The source is read from a folder, and none was given.
    #[error("data.source = \"{source_name}\" is read from a folder: say which with --data DIR")]
    NoDirectory {
        /// As it stands in the configuration.
        source_name: &'static str,
    },
    /// None of the names that a file may have exists.
    #[error("no data in {}: expected a file named {candidates}; give the folder that holds it with --data DIR", directory.display())]
    Missing {
        /// Where it was looked for.
        directory: PathBuf,
        /// Names that would have done.
        candidates: String,
    },
    /// The operating system refuses to read a file.
    #[error("cannot read {}: check that it is a readable file", file.display())]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A gzip file does not unpack.
    #[error("{} is truncated or damaged: its gzip stream does not unpack; fetch the file again", file.display())]
    Gzip {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is of another format.
    #[error("{} is not {expected}: got {got}; check that --data names the right folder and that data.source fits it", file.display())]
    Foreign {
        /// Which file.
        file: PathBuf,
        /// What it should be.
        expected: &'static str,
        /// Its first bytes, or what else gives it away.
        got: String,
    },
    /// A file has another length than its header says.
    #[error("{} is truncated or has something behind its data: expected {expected} bytes, got {got}; fetch the file again", file.display())]
    Length {
        /// Which file.
        file: PathBuf,
        /// Bytes by the header or the format.
        expected: u64,
        /// Bytes that are there.
        got: u64,
    },
    /// A line of a text file is no image.
    #[error("{}, line {line}: expected {expected}, got {got}; fetch the file again", file.display())]
    Line {
        /// Which file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What should stand there.
        expected: String,
        /// What stands there.
        got: String,
    },
    /// A label is no class.
    #[error("{}: the label of image {row} is {label}, expected 0 to {}; the file is damaged or data.n_classes is too small", file.display(), n_classes - 1)]
    Label {
        /// Which file.
        file: PathBuf,
        /// Counted from 0.
        row: usize,
        /// The label.
        label: u8,
        /// Labels are below it.
        n_classes: usize,
    },
    /// As many labels as images are needed.
    #[error("{} holds {n_labels} labels, expected {n_images}, one for each image of {}; use a pair of files that belong together", labels.display(), images.display())]
    Count {
        /// The file of images.
        images: PathBuf,
        /// Images in it.
        n_images: usize,
        /// The file of labels.
        labels: PathBuf,
        /// Labels in it.
        n_labels: usize,
    },
    /// Images do not fit the network.
    #[error(
        "images have [channels, height, width] {got:?} (data.padding = {padding} included), the network expects {expected:?}: set data.padding, or network.image_size and network.channels"
    )]
    ImageShape {
        /// What the network takes.
        expected: [usize; 3],
        /// What the data set has.
        got: [usize; 3],
        /// The configured padding.
        padding: usize,
    },
    /// The split leaves nothing to learn from.
    #[error("data.n_test = {n_test} of {n_images} images leaves none to learn from, or none to test on: choose 1 to {}", n_images - 1)]
    Split {
        /// Images held out.
        n_test: usize,
        /// Images in all.
        n_images: usize,
    },
}
