//! What the floating-point numbers of the inputs are taken for.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::arguments::ImageArguments;
use crate::dataset::{DataSet, DataSetFormat, FloatRange};
use crate::inputs::{Input, Reading};

/// Files of floating-point numbers, and those of them that may have another range than the one that is taken.
#[derive(Default)]
struct Floats {
    all: Files,
    doubtful: Files,
}

/// Some files, of which the first is named.
#[derive(Default)]
struct Files {
    first: PathBuf,
    n: usize,
}

/// Says for the inputs which range is taken, and warns if another one is likely.
pub fn tell(arguments: &ImageArguments, inputs: &[Input], reading: Reading) -> Result<()> {
    let mut floats = Floats::default();
    for input in inputs.iter().filter(|input| input.is_data_set()) {
        let path = input.path();
        let bytes_only = [Some(DataSetFormat::Idx), Some(DataSetFormat::Cifar)];
        if !bytes_only.contains(&DataSetFormat::of_name(&path)) {
            floats.add(&path, &input.data_set(reading)?)?;
        }
    }
    floats.tell(arguments.range);
    Ok(())
}

impl Floats {
    fn add(&mut self, path: &Path, data_set: &DataSet) -> Result<()> {
        if data_set.has_floats() {
            self.all.add(path);
            if data_set.has_floats_from_0_to_1()? {
                self.doubtful.add(path);
            }
        }
        Ok(())
    }

    fn tell(&self, given: Option<FloatRange>) {
        if self.all.n == 0 {
            return;
        }
        let range = given.unwrap_or_default();
        eprintln!(
            "note: {}: floating-point numbers from {range} (--range)",
            self.all
        );
        if given.is_none() && self.doubtful.n > 0 {
            eprintln!(
                "warning: {}: all values lie from 0 to 1, so that this range may be meant, as torchvision's ToTensor makes it: then give \
                 --range 0,1 (or --range=-1,1 to say that it is not)",
                self.doubtful
            );
        }
    }
}

impl Files {
    fn add(&mut self, path: &Path) {
        if self.n == 0 {
            self.first = path.to_path_buf();
        }
        self.n += 1;
    }
}

impl std::fmt::Display for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`", self.first.display())?;
        match self.n {
            1 => Ok(()),
            n => write!(f, " and {} more", n - 1),
        }
    }
}
