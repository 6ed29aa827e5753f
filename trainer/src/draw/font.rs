//! The font of plots and captions. It comes with this crate (`font/README.md`), since a machine may have none.

use std::sync::LazyLock;

use anyhow::{Result, ensure};
use plotters::style::{FontStyle, register_font};

const LETTERS: &[u8] = include_bytes!("../../font/letters.ttf");

/// Makes the font known to plotters, which asks for it by this name wherever text is drawn or measured.
///
/// # Errors
/// The font is damaged.
pub(super) fn register() -> Result<()> {
    static REGISTERED: LazyLock<bool> =
        LazyLock::new(|| register_font("sans-serif", FontStyle::Normal, LETTERS).is_ok());
    ensure!(
        *REGISTERED,
        "the font of this program is damaged: build it again"
    );
    Ok(())
}
