//! The bundled handwritten digits: text, one image a line (see `data/digits/README.md` for source and licence).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use ebm_common::contract::ImageShape;

use super::stored::{Split, Stored};
use super::{check_labels, check_split, find, read_unpacked, unpack};
use crate::config::DataConfig;
use crate::machine::randomness::{self, Purpose};

/// `digits.csv.gz` as it was bundled.
const BUNDLED: &[u8] = include_bytes!("../../data/digits/digits.csv.gz");

/// Grey values go from 0 to this.
const BRIGHTEST: u8 = 16;

const SHAPE: ImageShape = ImageShape {
    channels: 1,
    height: 8,
    width: 8,
};
const PIXELS: usize = 64;
const N_CLASSES: usize = 10;

/// The bundled digits, or a file of the same form in `directory`.
pub(super) fn load(config: &DataConfig, directory: Option<&Path>) -> Result<Split> {
    let (path, text) = match directory {
        None => {
            let path = PathBuf::from("the bundled digits.csv.gz");
            let text = unpack(&path, BUNDLED)?;
            (path, text)
        }
        Some(directory) => {
            let path = find(
                directory,
                &["digits.csv.gz".to_string(), "digits.csv".to_string()],
            )?;
            let text = read_unpacked(&path)?;
            (path, text)
        }
    };
    let (pixels, labels) = parse(&path, &text)?;
    check_labels(&path, &labels, N_CLASSES)?;
    split(config, &pixels, &labels)
}

fn split(config: &DataConfig, pixels: &[u8], labels: &[u8]) -> Result<Split> {
    let n_images = labels.len();
    ensure!(
        config.n_test > 0,
        "data.n_test = 0 leaves no image to test on: choose a number from 1 and below {n_images}"
    );
    check_split(config.n_test, n_images)?;
    let order = randomness::permutation(
        n_images,
        randomness::derive(config.split_seed, 0, Purpose::Split),
    );
    let (train, test) = order.split_at(n_images - config.n_test);
    let pick = |rows: &[i64]| {
        let image = |row: &i64| &pixels[*row as usize * PIXELS..(*row as usize + 1) * PIXELS];
        let picked: Vec<u8> = rows
            .iter()
            .flat_map(|row| image(row).iter().copied())
            .collect();
        let labels: Vec<u8> = rows.iter().map(|row| labels[*row as usize]).collect();
        Stored::new(picked, SHAPE, &labels, BRIGHTEST)
    };
    Ok(Split {
        train: pick(train),
        test: pick(test),
    })
}

fn parse(path: &Path, bytes: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let shown = path.display();
    let expected = format!("{PIXELS} grey values from 0 to {BRIGHTEST} and a label, with commas");
    let text = std::str::from_utf8(bytes).ok();
    let text = text.filter(|text| !text.trim().is_empty()).with_context(|| {
        format!(
            "{shown} is not a text file of digits ({expected}, in each line): got {}; check that --data names the right folder and that \
             data.source fits it",
            match bytes {
                [] => "an empty file".to_string(),
                _ => format!("a file that begins with {:02x?}", &bytes[..bytes.len().min(4)]),
            }
        )
    })?;
    let mut pixels = Vec::new();
    let mut labels = Vec::new();
    for (row, line) in text.lines().enumerate() {
        let values = parse_line(line).map_err(|got| {
            anyhow!(
                "{shown}, line {}: expected {expected}, got {got}; fetch the file again",
                row + 1
            )
        })?;
        pixels.extend_from_slice(&values[..PIXELS]);
        labels.push(values[PIXELS]);
    }
    Ok((pixels, labels))
}

fn parse_line(line: &str) -> Result<Vec<u8>, String> {
    let values: Vec<u8> = line.split(',').map(parse_value).collect::<Result<_, _>>()?;
    if values.len() != PIXELS + 1 {
        return Err(format!("{} values", values.len()));
    }
    match values[..PIXELS].iter().find(|&&value| value > BRIGHTEST) {
        Some(value) => Err(format!("the grey value {value}")),
        None => Ok(values),
    }
}

/// Whole numbers, also when they are written as `3.0` or `3.000e+00`.
fn parse_value(text: &str) -> Result<u8, String> {
    let number: f64 = text.trim().parse().map_err(|_| format!("{text:?}"))?;
    if number.fract() == 0.0 && (0.0..=255.0).contains(&number) {
        Ok(number as u8)
    } else {
        Err(format!("{text:?}"))
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    const DIGITS_SHA256: &str = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22";

    #[test]
    fn the_bundled_file_is_the_published_one() {
        assert_eq!(ebm_common::hex(&Sha256::digest(BUNDLED)), DIGITS_SHA256);
    }

    #[test]
    fn the_bundled_digits_are_1797_and_the_split_keeps_each_once() {
        let config = DataConfig {
            n_test: 400,
            ..DataConfig::digits_for_tests()
        };
        let Split { train, test } = load(&config, None).unwrap();
        assert_eq!((train.len(), test.len()), (1397, 400));
        let sum = |images: &Stored| {
            images
                .pixels
                .to_kind(tch::Kind::Int64)
                .sum(tch::Kind::Int64)
                .int64_value(&[])
        };
        let (pixels, _) = parse(
            Path::new("digits"),
            &unpack(Path::new("digits"), BUNDLED).unwrap(),
        )
        .unwrap();
        let all: i64 = pixels.iter().map(|&pixel| i64::from(pixel)).sum();
        assert_eq!(sum(&train) + sum(&test), all);
    }

    #[test]
    fn a_line_cut_short_is_named() {
        let error = parse(Path::new("digits.csv"), b"1,2,3\n")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("digits.csv, line 1") && error.contains("3 values"),
            "{error}"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[0-9,.e\\n-]{0,400}") {
            if let Ok((pixels, labels)) = parse(Path::new("a"), text.as_bytes()) {
                assert_eq!(pixels.len(), PIXELS * labels.len());
            }
        }
    }
}
