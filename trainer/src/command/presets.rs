//! `trainer presets`.

use anyhow::Result;

use crate::config::{PRESETS, preset};
use crate::session::End;

/// `trainer presets`.
///
/// # Errors
/// There is no preset of that name.
pub fn presets(name: Option<&str>) -> Result<End> {
    match name {
        Some(name) => print!("{}", preset(name)?.text),
        None => PRESETS
            .iter()
            .for_each(|preset| println!("{:<27} {}", preset.name, preset.summary())),
    }
    Ok(End::Complete)
}
