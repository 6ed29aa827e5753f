//! Pictures of one size, as they are.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use ebm_common::PictureFormat;
use ebm_common::contract::ImageShape;
use ebm_common::picture::{Fault, Size, decode, read};

use super::folder::{pictures_below, unlabelled};
use super::form::Form;
use super::images::{Held, Images};
use super::pictures::{Decoders, Pictures, Reading};
use crate::config::Crop;

/// The pictures below a folder, by their paths, all of one size. Damaged ones are named and left out.
///
/// # Errors
/// There are none, or they are of different sizes.
pub fn pictures_of_one_size(directory: &Path) -> Result<Images> {
    let shown = directory.display();
    let files = pictures_below(directory)?;
    ensure!(
        !files.is_empty(),
        "{shown}: expected a run, what `trainer sample` wrote, or pictures ({}), found none of these",
        PictureFormat::patterns()
    );
    let decoders = Decoders::one_per_core()?;
    let looks = decoders.map(files.iter().collect(), |file| look(file));
    let n_files = files.len();
    let (mut whole, mut first, mut is_coloured) = (Vec::new(), None, false);
    for (number, (file, looks)) in files.iter().zip(looks).enumerate() {
        let file_shown = file.display();
        let (size, has_colour) = match looks {
            Ok(looks) => looks,
            Err(fault) => {
                let n_damaged = number + 1 - whole.len();
                warning!(
                    "damaged: {file_shown} {fault}; it is left out ({n_damaged} of {n_files} so far)"
                );
                continue;
            }
        };
        let expected = *first.get_or_insert(size);
        ensure!(
            size == expected,
            "{file_shown}: expected a picture like the first, {}×{}, got {}×{}: bring them to one size, or name a preset or a run whose \
             data.crop does it",
            expected.0,
            expected.1,
            size.0,
            size.1
        );
        is_coloured |= has_colour;
        whole.push(file.as_path());
    }
    let Some((width, height)) = first else {
        bail!("{shown}: all {n_files} pictures are damaged");
    };
    let shape = ImageShape {
        channels: if is_coloured { 3 } else { 1 },
        height: height as usize,
        width: width as usize,
    };
    let reading = Reading {
        form: Form {
            shape,
            crop: Crop::Off,
        },
        padding: 0,
        max_damaged: 0.0,
        decoders,
    };
    let found = unlabelled(directory, &whole);
    let n = whole.len();
    let pictures = Pictures::new(&found, (0..n as u32).collect(), vec![0; n], &reading);
    Ok(Images(Held::Pictures(pictures.into())))
}

/// The size of a picture, and whether it is in colour.
fn look(file: &Path) -> Result<(Size, bool), Fault> {
    let picture = decode(&read(file)?)?;
    Ok((picture.size(), !picture.is_grey()))
}
