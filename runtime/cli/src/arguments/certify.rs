//! The arguments of `purify certify`.

use std::path::PathBuf;

use clap::Args;
use ebm_runtime::PixelDistance;

use super::{ImageArguments, LabelSource, PurificationArguments};

#[derive(Args)]
#[command(after_help = "Examples:
  purify certify photos/ --model model --sigma 0.25
  purify certify t10k-images-idx3-ubyte.gz --model mnist-denoise --padding 2 --sigma 1/2 --denoise --take 500 -o certificates.jsonl
  purify certify photos/ --model model --sigma 0.25 --steps 0                 the classifier alone
  purify certify photos/ --model model --sigma 0.25 --classifier other.onnx --json

Randomised smoothing (Cohen, Rosenfeld, Kolter 2019): the answer to an image is the class that the classifier, behind the steps \
of the energy, gives most often under noise of deviation σ. A certificate says that no image within its l2 radius has another \
answer: with confidence 1 − α for each image, whatever attack is tried, in exact arithmetic, for the image as it is after any \
resizing.

Prints one line for each image, separated by tabs: file, class or `abstain`, the radius for pixels in [0, 1], the same for \
pixels in [-1, 1], and the l∞ radius for pixels in [0, 1] that it implies, radius/√d. All are rounded down. If labels are \
known, a table of the certified accuracy over the radius follows.

The images are read once, and their hashes are taken, before the seed of the noise is drawn; an image that changes later is refused. \
With --seed the run reproduces certificates; that is no new evidence, since an image can be chosen for noise that is known.

With -o FILE an interrupted run goes on when the same command is given again. FILE has one line of JSON for the settings, each \
image and the summary, as --json prints them.")]
pub struct CertifyArguments {
    #[command(flatten)]
    pub images: ImageArguments,
    /// Standard deviation of the noise, of pixels in [0, 1], as a number or a fraction: 0.25, 1/4
    #[arg(long, value_name = "σ", allow_negative_numbers = true)]
    pub sigma: PixelDistance,
    /// Classifier, instead of classifier.onnx of the model folder
    #[arg(long, value_name = "FILE")]
    pub classifier: Option<PathBuf>,
    /// Draws of noise that estimate the probability of a class, up to 100000
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10_000,
        allow_negative_numbers = true
    )]
    pub n: usize,
    /// Draws of noise before them that select the class
    #[arg(
        long,
        value_name = "N",
        default_value_t = 100,
        allow_negative_numbers = true
    )]
    pub n0: usize,
    /// Largest probability of a wrong certificate
    #[arg(
        long,
        value_name = "α",
        default_value_t = 0.001,
        allow_negative_numbers = true
    )]
    pub alpha: f64,
    /// Take the one step x − ∇E(x) without noise: the denoiser of an energy that was learned by denoise matching. --steps,
    /// --step-size and --temperature still change it
    #[arg(long)]
    pub denoise: bool,
    /// Certify only N of the images, evenly spaced in the list
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub take: Option<u32>,
    /// Classes of the images: a file (IDX, or a text with one number from 0 in each line), `folders` for folders in alphabetical
    /// order, `none`, or `auto`: CIFAR's own, MNIST's file beside, or folders if there is one for each class
    #[arg(long, value_name = "FILE", default_value_t = LabelSource::Auto)]
    pub labels: LabelSource,
    /// Print JSON instead of the table: one line for the settings, each image and the summary
    #[arg(long)]
    pub json: bool,
    /// Keep what is done in this file, so that an interrupted run goes on
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Start afresh and replace what the file of -o holds
    #[arg(long, requires = "output")]
    pub force: bool,
    #[command(flatten)]
    pub purification: PurificationArguments,
}
