//! Text as pixels, with the font that comes with this crate (`font/README.md`), since a machine may have none.

use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, GlyphId, PxScale, ScaleFont, point};

static FONT: LazyLock<FontRef<'static>> = LazyLock::new(|| {
    FontRef::try_from_slice(include_bytes!("../../font/letters.ttf"))
        .expect("the font is part of this crate, and the tests draw with it")
});

/// The pixels of an em: the distance of lines is about 1.2 of them.
fn scale(em: f32) -> PxScale {
    let units = FONT.units_per_em().unwrap_or(1.0);
    PxScale::from(em * FONT.height_unscaled() / units)
}

/// Glyphs and how far each is from the left end, and at last the whole width.
fn layout(text: &str, em: f32) -> (Vec<(GlyphId, f32)>, f32) {
    let font = FONT.as_scaled(scale(em));
    let mut width = 0.0;
    let glyphs = text
        .chars()
        .map(|letter| {
            let (glyph, left) = (font.glyph_id(letter), width);
            width += font.h_advance(glyph);
            (glyph, left)
        })
        .collect();
    (glyphs, width)
}

/// How many pixels wide a text is.
pub fn width(text: &str, em: f32) -> f32 {
    layout(text, em).1
}

/// Calls `paint` for each pixel that is covered by a text: its place, right of the left end of the baseline and below it, and how much of
/// it is covered, up to 1.
pub fn draw(text: &str, em: f32, mut paint: impl FnMut(i32, i32, f32)) {
    for (glyph, left) in layout(text, em).0 {
        let glyph = glyph.with_scale_and_position(scale(em), point(left, 0.0));
        let Some(outline) = FONT.outline_glyph(glyph) else {
            continue;
        };
        let corner = outline.px_bounds().min;
        outline.draw(|x, y, coverage| {
            paint(
                corner.x as i32 + x as i32,
                corner.y as i32 + y as i32,
                coverage.min(1.0),
            );
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_that_captions_need_is_there() {
        let letters = "AZaz09 .,:;()[]{}/%+-=<>|_'\"‖−·×²⁻⁺ε∇θστμ∞≤≥→…–äöüéß";
        for letter in letters.chars() {
            assert_ne!(FONT.glyph_id(letter).0, 0, "{letter:?}");
        }
    }

    #[test]
    fn letters_stand_on_the_baseline_and_are_as_tall_as_said() {
        let mut covered = Vec::new();
        draw("H", 100.0, |x, y, coverage| {
            if coverage > 0.5 {
                covered.push((x, y));
            }
        });
        let rows = covered.iter().map(|(_, y)| *y);
        assert_eq!(rows.clone().max(), Some(-1));
        // Capital letters of this font have 0.729 em.
        assert_eq!(rows.min(), Some(-73));
        assert!(covered.iter().all(|(x, _)| (0..=76).contains(x)));
        assert!((width("HH", 100.0) - 2.0 * width("H", 100.0)).abs() < 1e-3);
    }
}
