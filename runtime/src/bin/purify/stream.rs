//! One file from standard input or to standard output.

use std::fs::File;
use std::io::{BufWriter, Read, StdoutLock, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use ebm_runtime::{
    DataSet, DataSetFormat, ModelFolder, PictureEncoding, PictureFormat, Record, decode_picture,
    encode_picture,
};

use crate::arguments::{OutputFormat, RunArguments};
use crate::exit_code;
use crate::inputs::{Content, Input, Item, Reading, sentence};
use crate::outputs::JPEG_QUALITY;
use crate::progress::Bar;
use crate::run::seed_line;
use crate::selection::Selection;
use crate::treatment::{Outcome, Treatment};

/// The name of standard input and output.
const STANDARD: &str = "-";
const UNWRITABLE: &str = "standard output cannot be written";
/// A file that goes through memory is no longer than this.
const MAX_BYTES: u64 = 256 << 20;

/// Whether a run reads standard input or writes to standard output.
pub fn is_wanted(arguments: &RunArguments) -> bool {
    let mut paths = arguments.images.paths.iter().chain([&arguments.output]);
    paths.any(|path| path == Path::new(STANDARD))
}

pub fn run(arguments: &RunArguments, models: &ModelFolder, reading: Reading) -> Result<ExitCode> {
    let path = check(arguments)?;
    let bar = Bar::new();
    let mut treatment = Treatment::new(arguments, models, &bar)?;
    if matches!(treatment, Treatment::Purify { .. }) {
        let seed = arguments.purification.seed()?;
        bar.say(&seed_line(seed));
        treatment = treatment.with_seed(seed);
    }
    let bytes = read(path)?;
    let mut stream = Stream {
        path,
        reading,
        treatment,
        bar,
        out: BufWriter::new(std::io::stdout().lock()),
        n_failed: 0,
    };
    let n_images = match DataSetFormat::of_bytes(&bytes) {
        Some(format) => stream.data_set(bytes, format)?,
        None => stream.picture(&bytes, arguments.format)?,
    };
    stream.out.flush().context(UNWRITABLE)?;
    Ok(exit_code(stream.n_failed, n_images))
}

struct Stream<'a> {
    path: &'a Path,
    reading: Reading,
    treatment: Treatment,
    bar: Bar,
    out: BufWriter<StdoutLock<'static>>,
    n_failed: usize,
}

impl Stream<'_> {
    /// Purifies a picture. Returns the number of images, 1.
    fn picture(&mut self, bytes: &[u8], format: OutputFormat) -> Result<usize> {
        let image = decode_picture(bytes, self.reading.shape)
            .map_err(|error| format!("`{}`: {}", self.path.display(), sentence(error)));
        self.bar.start("", 1, self.treatment.n_steps());
        let input = Input::new(PathBuf::new(), self.path.into(), Content::Picture);
        let item = Item {
            input: &input,
            number: 0,
            image,
            label: None,
            record: None,
        };
        let outcomes = self.treat(&[item])?;
        self.bar.finish();
        let encoding = match (PictureFormat::of_bytes(bytes), format) {
            (Some(PictureFormat::WebP), _) => PictureEncoding::WebP,
            (Some(PictureFormat::Jpeg), OutputFormat::Same) => PictureEncoding::Jpeg {
                quality: JPEG_QUALITY,
            },
            _ => PictureEncoding::Png,
        };
        if let Some(image) = outcomes[0].image(0) {
            let encoded = encode_picture(image, 0, encoding)?;
            self.out.write_all(&encoded).context(UNWRITABLE)?;
        }
        Ok(1)
    }

    /// Purifies a file of many images. Returns their number.
    fn data_set(&mut self, bytes: Vec<u8>, format: DataSetFormat) -> Result<usize> {
        let Reading { shape, range } = self.reading;
        let name = self.path.display();
        let data_set = DataSet::from_bytes(bytes, format, shape, range)
            .with_context(|| format!("`{name}`"))?;
        let data_set = Rc::new(data_set);
        let n_images = u32::try_from(data_set.len()).context("expected fewer than 2³² images")?;
        let input = Input::new(
            PathBuf::new(),
            self.path.into(),
            Content::DataSet { n_images },
        );
        self.bar
            .start("", u64::from(n_images), self.treatment.n_steps());
        let item = |(number, record): (u32, ebm_runtime::Result<Record>)| -> Result<Item<'_>> {
            let record = record?;
            Ok(Item {
                input: &input,
                number,
                image: record
                    .image
                    .map_err(|e| format!("`{name}#{number}`: {}", sentence(e))),
                label: record.label,
                record: Some((data_set.clone(), record.pixels)),
            })
        };
        let mut items = (0..).zip(data_set.records(0)?).map(item);
        let size = self.treatment.group_size(shape.n_values());
        let mut pixels = Vec::new();
        loop {
            let group: Vec<Item<'_>> = items.by_ref().take(size).collect::<Result<_>>()?;
            if group.is_empty() {
                break;
            }
            let outcomes = self.treat(&group)?;
            for (item, outcome) in group.iter().zip(&outcomes) {
                pixels.extend(outcome.pixels(item, 0).unwrap_or_default());
            }
        }
        self.bar.finish();
        data_set
            .write(&mut self.out, &mut pixels.as_slice())
            .context(UNWRITABLE)?;
        Ok(n_images as usize)
    }

    fn treat(&mut self, items: &[Item<'_>]) -> Result<Vec<Outcome>> {
        let outcomes = self.treatment.treat(items, &Selection::All)?;
        for outcome in &outcomes {
            if let Outcome::Failed { error, .. } = outcome {
                self.n_failed += 1;
                self.bar.say(&format!("failed: {error}"));
            }
        }
        self.bar
            .advance(items.len() as u64 * self.treatment.n_steps());
        Ok(outcomes)
    }
}

/// The one input of a run to standard output.
fn check(arguments: &RunArguments) -> Result<&Path> {
    if arguments.output != Path::new(STANDARD) {
        bail!(
            "standard input has no name for a file in a folder; write to standard output with -o -"
        );
    }
    let [input] = &arguments.images.paths[..] else {
        bail!(
            "-o -: expected one input for standard output, got {}",
            arguments.images.paths.len()
        );
    };
    if input.is_dir() {
        bail!(
            "-o -: expected one file for standard output, got the folder `{}`",
            input.display()
        );
    }
    let needs_folder = [
        (arguments.replicas > 1, "--replicas"),
        (arguments.keep_originals, "--keep-originals"),
        (arguments.filter_top.is_some(), "--filter-top"),
        (arguments.sheet.is_some(), "--sheet"),
        (arguments.json, "--json"),
    ];
    match needs_folder.iter().find(|(given, _)| *given) {
        Some((_, name)) => bail!("{name} needs a folder for the output; give one with -o"),
        None => Ok(input),
    }
}

fn read(input: &Path) -> Result<Vec<u8>> {
    let source: Box<dyn Read> = match input == Path::new(STANDARD) {
        true => Box::new(std::io::stdin()),
        false => Box::new(
            File::open(input)
                .with_context(|| format!("`{}`: the file cannot be read", input.display()))?,
        ),
    };
    let mut bytes = Vec::new();
    source
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("`{}`: the file cannot be read", input.display()))?;
    if bytes.len() as u64 > MAX_BYTES {
        bail!(
            "`{}`: expected at most {MAX_BYTES} bytes for standard output, got more; purify it as a file into a folder",
            input.display()
        );
    }
    Ok(bytes)
}
