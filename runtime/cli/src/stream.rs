//! One file from standard input or to standard output.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use ebm_runtime::{ModelFolder, PictureEncoding, PictureFormat, encode_picture};

use crate::arguments::RunArguments;
use crate::dataset::DataSet;
use crate::inputs::{
    Content, Input, Item, Reading, STANDARD, for_each_group, from_the_start, read_whole,
};
use crate::notes::Notes;
use crate::progress::Bar;
use crate::report::seed_line;
use crate::selection::Selection;
use crate::treatment::{Outcome, Treatment};
use crate::{exit_code, ranges};

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
        encoding: arguments.format.encoding(PictureFormat::of_bytes(&bytes)),
        treatment,
        bar,
        picture: Vec::new(),
        data_set: None,
        pixels: Vec::new(),
        notes: Notes::default(),
        n_failed: 0,
    };
    let inputs = [Input::alone(path, bytes, reading)];
    if let Content::Unreadable(error) = &inputs[0].content {
        bail!("`{}`: {error}", path.display());
    }
    ranges::tell(&arguments.images, &inputs, reading)?;
    let n_images = inputs[0].n_images();
    let n_steps = stream.treatment.n_steps();
    stream.bar.start("", u64::from(n_images), n_steps);
    let size = stream.treatment.group_size(reading.shape.n_values());
    for_each_group(&inputs, reading, from_the_start, size, |group| {
        stream.treat(group)
    })?;
    stream.bar.finish();
    stream.notes.tell();
    stream.write()?;
    Ok(exit_code(stream.n_failed, n_images as usize))
}

struct Stream {
    treatment: Treatment,
    bar: Bar,
    encoding: PictureEncoding,
    /// A purified picture as a file.
    picture: Vec<u8>,
    /// A file of many images, and the purified pixels of it.
    data_set: Option<Rc<DataSet>>,
    pixels: Vec<u8>,
    notes: Notes,
    n_failed: usize,
}

impl Stream {
    fn treat(&mut self, group: Vec<Item<'_>>) -> Result<()> {
        let outcomes = self.treatment.treat(&group, &Selection::All)?;
        for (item, outcome) in group.iter().zip(&outcomes) {
            self.notes.add(item);
            if let Outcome::Failed { error, .. } = outcome {
                self.n_failed += 1;
                self.bar.say(&format!("warning: failed: {error}"));
            }
            match (&item.record, outcome.image(0)) {
                (Some((data_set, _)), _) => {
                    self.data_set = Some(data_set.clone());
                    self.pixels
                        .extend(outcome.pixels(item, 0).unwrap_or_default());
                }
                (None, Some(image)) => self.picture = encode_picture(image, 0, self.encoding)?,
                (None, None) => {}
            }
        }
        self.bar
            .advance(group.len() as u64 * self.treatment.n_steps());
        Ok(())
    }

    fn write(&self) -> Result<()> {
        let mut out = BufWriter::new(std::io::stdout().lock());
        let written = match &self.data_set {
            Some(data_set) => data_set.write(&mut out, &mut self.pixels.as_slice()),
            None => out.write_all(&self.picture),
        };
        written
            .and_then(|()| out.flush())
            .context("standard output cannot be written")
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
    if input == Path::new(STANDARD) {
        return read_whole(std::io::stdin(), input);
    }
    let file = File::open(input)
        .with_context(|| format!("`{}`: the file cannot be read", input.display()))?;
    read_whole(file, input)
}
