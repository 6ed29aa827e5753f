//! The arguments of `purify classify`.

use clap::Args;

use super::{ImageArguments, PurificationArguments, ResultArguments};

#[derive(Args)]
#[command(after_help = "Example:
  purify classify photos/ --model model --replicas 32 -o answers.json

Takes the same files as `purify run`. Prints one line for each image, separated by tabs: file, class without defence,
class with it, share of the replicas that agree. The images of a file of many are FILE#0, FILE#1, … The JSON has the logits too.")]
pub struct ClassifyArguments {
    #[command(flatten)]
    pub images: ImageArguments,
    /// Independent purifications of each image, over which the logits are averaged
    #[arg(
        long,
        value_name = "N",
        default_value_t = 8,
        allow_negative_numbers = true
    )]
    pub replicas: usize,
    #[command(flatten)]
    pub results: ResultArguments,
    #[command(flatten)]
    pub purification: PurificationArguments,
}
