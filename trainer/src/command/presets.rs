//! `trainer presets`.

use anyhow::Result;

use crate::config::{PRESETS, preset};
use crate::machine::console;
use crate::run::stop::End;

/// `trainer presets`.
pub fn presets(name: Option<&str>) -> Result<End> {
    let text = match name {
        Some(name) => preset(name)?.text.to_string(),
        None => {
            let width = PRESETS.iter().map(|preset| preset.name.len()).max();
            let width = width.unwrap_or_default();
            let lines = PRESETS
                .iter()
                .map(|preset| format!("{:<width$} {}", preset.name, preset.summary()));
            lines.collect::<Vec<String>>().join("\n")
        }
    };
    console::print(text.trim_end_matches('\n'))?;
    Ok(End::Complete)
}
