//! The arguments of `purify run`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use ebm_common::files::folder_name;
use ebm_runtime::{PictureEncoding, PictureFormat};

use super::{ImageArguments, PurificationArguments};

#[derive(Args)]
#[command(after_help = "Examples:
  purify run photo.png --model model -o cleaned
  purify run training-set/ --model model -o cleaned --batch 32
  purify run training-set/ --model model -o again --seed 7   the noise of a run that printed `seed 7`
  purify run training-set/ --model model -o cleaned --filter-top 10%   only the tenth of highest energy
  purify run 'photos/**/*.webp' --model model -o cleaned --sheet sheet.png
  purify run photos/ --model model -o cleaned --crop centre --colour     pictures of any size and colour
  purify run data_batch_1.bin x.npz train-images-idx3-ubyte.gz --model model -o cleaned
  purify run photo.png --model model -o cleaned --replicas 8     writes photo-r0.png … photo-r7.png
  purify run - --model model -o - < photo.png > cleaned.png

Files: PNG, JPEG and WebP pictures; npy arrays and all fitting arrays of npz files, u8 or f32, [N,C,H,W] or [N,H,W,C]; \
IDX (MNIST), plain or gzip; CIFAR's binary batches. A file of many images is written as one file of its kind and name, with \
its labels and other arrays as they were. PNG and WebP stay what they are, without loss; JPEG pictures become NAME.png, since \
JPEG would blur what was purified (--format same keeps them). Values of f32 are clamped to their range.

Pictures are seen as viewers show them: upright as their Exif notes say, on white, with 8 bits a channel. Those of another \
size or colour than the model's are refused unless --crop, --resize or --colour is given. Truncated files and animations \
are refused.

Folders are searched for *.png, *.jpg, *.jpeg, *.webp, *.npy, *.npz, *.idx, *idx3-ubyte (plain or .gz), \
data_batch_*.bin, test_batch.bin, train.bin and test.bin (CIFAR), sorted by name, and keep their tree below OUT. Links are followed; hidden files and files that systems put beside data are passed over. \
The noise of an image depends on its place in that list and on the seed, not \
on batch, threads or backend. Whoever knows the seed knows the noise, and can attack through it: each run draws a fresh one. \
A file of many images that cannot be read counts as one image of that list.

An interrupted run goes on where it stopped when the same command is given again, and ends with the same files. \
OUT/.purify.jsonl keeps the settings and what was done; other settings, another list or another model are refused. A folder \
whose run is complete takes further runs as long as their files have other names.

Pictures that cannot be read or purified are reported and left out; images of a file of many stay in it as they were. The \
exit code then is 3, or 1 if all failed.

Memory: the list of names, and images of at most 256 MiB at a time beside the model, however many there are.")]
pub struct RunArguments {
    #[command(flatten)]
    pub images: ImageArguments,
    /// Folder for the purified images, made if it does not exist; `-` writes one file to standard output
    #[arg(short, long, value_name = "OUT", value_parser = PathBufValueParser::new().try_map(folder_name))]
    pub output: PathBuf,
    /// Independent purifications of each image; several are written as NAME-r0.png, NAME-r1.png, …
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        allow_negative_numbers = true
    )]
    pub replicas: usize,
    /// Copy each original beside its purified images, as NAME-original.png
    #[arg(long)]
    pub keep_originals: bool,
    /// Purify only the P % of the images of highest energy, and write the others unchanged
    #[arg(long, value_name = "P%", allow_negative_numbers = true)]
    pub filter_top: Option<Percent>,
    /// Instead of purifying, encode the images as JPEG of this quality (1 to 100) and decode them: the free baseline
    #[arg(long, value_name = "Q", value_parser = clap::value_parser!(u8).range(1..=100), allow_negative_numbers = true, conflicts_with = "replicas")]
    pub jpeg: Option<u8>,
    /// What JPEG pictures are written as
    #[arg(long, value_enum, default_value_t = OutputFormat::Lossless, conflicts_with = "jpeg")]
    pub format: OutputFormat,
    /// Write a sheet of the first images to this PNG file: before, after, difference
    #[arg(long, value_name = "FILE.png", value_parser = png)]
    pub sheet: Option<PathBuf>,
    /// Images of the sheet
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256), requires = "sheet")]
    pub sheet_images: u16,
    /// Factor of the differences in the sheet
    #[arg(
        long,
        value_name = "K",
        default_value_t = 4.0,
        allow_negative_numbers = true,
        requires = "sheet"
    )]
    pub sheet_gain: f32,
    /// Print one line of JSON for the settings, each image and the summary, with energies before and after
    #[arg(long)]
    pub json: bool,
    /// Start afresh and replace files that exist in OUT, and the sheet
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub purification: PurificationArguments,
}

/// What a JPEG picture becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// PNG, which keeps every pixel as it was purified
    Lossless,
    /// JPEG of quality 95 under the same name
    Same,
}

/// The quality of JPEG pictures, if they are asked for.
const JPEG_QUALITY: u8 = 95;

impl OutputFormat {
    /// What a picture of some format is written as.
    pub fn encoding(self, picture: Option<PictureFormat>) -> PictureEncoding {
        match (picture, self) {
            (Some(PictureFormat::WebP), _) => PictureEncoding::WebP,
            (Some(PictureFormat::Jpeg), OutputFormat::Same) => PictureEncoding::Jpeg {
                quality: JPEG_QUALITY,
            },
            _ => PictureEncoding::Png,
        }
    }
}

/// A share above 0 and up to 100 %.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Percent(pub f64);

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').unwrap_or(text).trim().parse();
        match number {
            Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(Self(percent)),
            _ => Err("expected a number above 0 and up to 100, as in 10%".into()),
        }
    }
}

/// A name that says what is written under it.
fn png(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension() {
        Some(extension) if extension.eq_ignore_ascii_case("png") => Ok(path),
        _ => Err("expected a name that ends in .png".into()),
    }
}
