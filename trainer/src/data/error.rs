//! What can be wrong with a data set: each refusal says what was expected, what came, and what to do.

use std::io;
use std::path::PathBuf;

/// Why a data set was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
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
    #[error("no data in {}: expected {candidates}; give the folder that holds it with --data DIR", directory.display())]
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
        label: u64,
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
    #[error(
        "data.n_test = {n_test} of {n_images} images leaves none to learn from, or none to test on: choose another number below {n_images}"
    )]
    Split {
        /// Images held out.
        n_test: usize,
        /// Images in all.
        n_images: usize,
    },
    /// CIFAR-100 is labelled in two ways.
    #[error(
        "data.n_classes = {n_classes}: CIFAR-100 has 100 classes, or 20 that these belong to: set one of the two"
    )]
    Cifar100 {
        /// As configured.
        n_classes: usize,
    },
    /// A folder holds no pictures.
    #[error(
        "no data in {}: expected *.png, *.jpg, *.jpeg or *.webp, or folders of classes with such files; give the folder that holds it with --data DIR",
        directory.display()
    )]
    NoPictures {
        /// Which folder.
        directory: PathBuf,
    },
    /// It cannot be told what is for training and what for testing.
    #[error(
        "{}: cannot tell what is for training and what for testing: {problem}; expected one folder or one word for each part \
         (train; val or test), or only folders of classes: merge, move or rename what does not fit",
        directory.display()
    )]
    Parts {
        /// Which folder.
        directory: PathBuf,
        /// What has two meanings.
        problem: String,
    },
    /// Pictures lie beside folders of classes.
    #[error("{} holds pictures beside folders with pictures: expected either pictures, or one folder for each class; move the pictures into one", directory.display())]
    Mixed {
        /// Which folder.
        directory: PathBuf,
    },
    /// A folder for testing is no class of those for training.
    #[error("{} holds a folder \"{class}\" that is none of the classes for training: expected folders of the same names", directory.display())]
    Class {
        /// The folder for testing.
        directory: PathBuf,
        /// The folder in it.
        class: String,
    },
    /// More labels than classes.
    #[error("the pictures in {} have {got} classes, data.n_classes is {n_classes}: set data.n_classes = {got} (and, where a classifier learns them, network.n_classes), or 1 where classes do not matter", directory.display())]
    Classes {
        /// Where the pictures lie.
        directory: PathBuf,
        /// Classes that are there.
        got: usize,
        /// As configured.
        n_classes: usize,
    },
    /// A picture has no label, though others have, or labels are configured.
    #[error("{name} has no label: give every picture one, or none and set data.n_classes = 1")]
    Unlabelled {
        /// Which picture.
        name: String,
    },
    /// A tar file does not read to its end.
    #[error("{} is truncated or no tar archive: fetch it again, or unpack it where it is packed", file.display())]
    Archive {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A Parquet file does not read.
    #[error("{} is truncated or is not a Parquet file: fetch it again", file.display())]
    Table {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: parquet::errors::ParquetError,
    },
    /// A Parquet file has no column of pictures, or none of labels where one is named.
    #[error("{} has columns {got}: expected one of {expected} with {content}; name it with {key}", file.display())]
    Columns {
        /// Which file.
        file: PathBuf,
        /// Names that would have done.
        expected: String,
        /// What the column holds.
        content: &'static str,
        /// Names that are there.
        got: String,
        /// The key that names another column.
        key: &'static str,
    },
    /// A Parquet file is compressed in a way that is not built in.
    #[error(
        "{} is compressed by {got}, expected snappy, gzip, brotli, lz4, lz4_raw, zstd or nothing: write it again with one of these",
        file.display()
    )]
    Compression {
        /// Which file.
        file: PathBuf,
        /// The compression.
        got: String,
    },
    /// Pictures become images of one channel or three.
    #[error("network.channels = {channels}: pictures are grey or red, green and blue: set 1 or 3")]
    Channels {
        /// As configured.
        channels: usize,
    },
    /// Padding leaves nothing of an image.
    #[error(
        "data.padding = {padding} leaves nothing of images of {side} pixels: set less than half of that"
    )]
    Padding {
        /// As configured.
        padding: usize,
        /// Side of the network's images.
        side: usize,
    },
    /// A picture is not as configured.
    #[error(
        "{name} {reason}: set data.crop = \"centre\" where sizes differ, or network.image_size and network.channels"
    )]
    Unfit {
        /// Which picture.
        name: String,
        /// What is unfit about it.
        reason: String,
    },
    /// More pictures are damaged than may be.
    #[error("at least {n_damaged} of {n_images} pictures in {} are damaged, more than data.max_damaged = {share} allows: {named}; mend or remove them (`trainer data check` lists all)", place.display())]
    Damaged {
        /// Where they lie.
        place: PathBuf,
        /// Those that are known.
        n_damaged: usize,
        /// All pictures.
        n_images: usize,
        /// As configured.
        share: f64,
        /// Some of them, and what is wrong with each.
        named: String,
    },
    /// What was there when the run began is gone.
    #[error("the data in {} cannot be reached any more: bring them back and go on with `trainer resume`, with --data DIR where they have moved", place.display())]
    Lost {
        /// The folder or file.
        place: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The threads that decode cannot start, or one was lost.
    #[error("cannot start threads that decode pictures: use fewer with --threads")]
    Threads {
        /// Why.
        source: rayon::ThreadPoolBuildError,
    },
    /// A thread gave up without an image.
    #[error("a thread that decodes pictures ended too early; go on with `trainer resume`")]
    Decoder,
}
