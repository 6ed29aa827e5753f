//! The summary picture: rows of images, each with the classifier's answer below it.

use std::io::Cursor;

use anyhow::Result;
use ebm_runtime::Images;
use font8x8::legacy::BASIC_LEGACY;
use image::{ImageFormat, Rgb, RgbImage, imageops};

/// Side of an image in the picture, before it is rounded to a whole multiple of the image's own.
const SIDE: u32 = 72;
/// Images in a row.
const N_COLUMNS: usize = 12;
/// Side of a character of the font, and how much it is enlarged.
const GLYPH: u32 = 8;
const SCALE: u32 = 2;
const GAP: u32 = 8;
const TITLE_WIDTH: u32 = 9 * GLYPH * SCALE + 2 * GAP;
const TITLE_HEIGHT: u32 = GLYPH * SCALE + 2 * GAP;

const PAPER: Rgb<u8> = Rgb([255, 255, 255]);
const INK: Rgb<u8> = Rgb([40, 40, 40]);
const RIGHT: Rgb<u8> = Rgb([0, 130, 60]);
const WRONG: Rgb<u8> = Rgb([210, 30, 30]);

/// One row: images, and the class that was answered for each.
pub struct Row<'a> {
    pub title: &'a str,
    pub images: &'a Images,
    pub answers: &'a [usize],
}

/// The bytes of the PNG: the title in ASCII, then the rows. Answers that equal the label are green.
pub fn draw(title: &str, rows: &[Row<'_>], labels: &[usize]) -> Result<Vec<u8>> {
    let n_columns = labels.len().min(N_COLUMNS);
    let shape = rows[0].images.shape();
    let enlarge = (SIDE / shape.width.max(shape.height) as u32).max(1);
    let (width, height) = (shape.width as u32 * enlarge, shape.height as u32 * enlarge);
    let (cell_width, cell_height) = (width + GAP, height + GLYPH * SCALE + 2 * GAP);
    let mut page = RgbImage::from_pixel(
        (TITLE_WIDTH + cell_width * n_columns as u32 + GAP)
            .max(2 * GAP + title.len() as u32 * GLYPH * SCALE),
        TITLE_HEIGHT + cell_height * rows.len() as u32,
        PAPER,
    );
    write(&mut page, GAP, GAP, title, INK);
    for (row, y) in rows
        .iter()
        .zip((TITLE_HEIGHT..).step_by(cell_height as usize))
    {
        write(
            &mut page,
            GAP,
            y + (height - GLYPH * SCALE) / 2,
            row.title,
            INK,
        );
        for column in spread(n_columns, labels.len()).enumerate() {
            let (place, index) = column;
            let x = TITLE_WIDTH + place as u32 * cell_width;
            let picture = imageops::resize(
                &rgb(row.images, index),
                width,
                height,
                imageops::FilterType::Nearest,
            );
            imageops::replace(&mut page, &picture, i64::from(x), i64::from(y));
            let answer = row.answers[index].to_string();
            let indent = width.saturating_sub(answer.len() as u32 * GLYPH * SCALE) / 2;
            let color = if row.answers[index] == labels[index] {
                RIGHT
            } else {
                WRONG
            };
            write(&mut page, x + indent, y + height + GAP / 2, &answer, color);
        }
    }
    let mut png = Vec::new();
    page.write_to(&mut Cursor::new(&mut png), ImageFormat::Png)?;
    Ok(png)
}

/// `n` indices spread evenly over `total`.
fn spread(n: usize, total: usize) -> impl Iterator<Item = usize> {
    (0..n).map(move |place| place * total / n)
}

/// One image in colour; one that is not of three channels is shown by its first.
fn rgb(images: &Images, index: usize) -> RgbImage {
    let shape = images.shape();
    let bytes = images.to_bytes(index);
    RgbImage::from_fn(shape.width as u32, shape.height as u32, |x, y| {
        let pixel =
            &bytes[(y as usize * shape.width + x as usize) * shape.channels..][..shape.channels];
        match pixel {
            &[red, green, blue] => Rgb([red, green, blue]),
            _ => Rgb([pixel[0]; 3]),
        }
    })
}

fn write(page: &mut RgbImage, x: u32, y: u32, text: &str, color: Rgb<u8>) {
    for (left, character) in (x..).step_by((GLYPH * SCALE) as usize).zip(text.bytes()) {
        let glyph = BASIC_LEGACY
            .get(usize::from(character))
            .copied()
            .unwrap_or_default();
        for (row, bits) in (0_u32..).zip(glyph) {
            for column in (0..GLYPH).filter(|column| bits >> column & 1 == 1) {
                dot(page, left + column * SCALE, y + row * SCALE, color);
            }
        }
    }
}

fn dot(page: &mut RgbImage, x: u32, y: u32, color: Rgb<u8>) {
    for (x, y) in (0..SCALE * SCALE).map(|i| (x + i % SCALE, y + i / SCALE)) {
        if let Some(pixel) = page.get_pixel_mut_checked(x, y) {
            *pixel = color;
        }
    }
}
