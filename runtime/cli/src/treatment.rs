//! What is done to the images.

use anyhow::Result;
use ebm_runtime::{
    Images, ModelFolder, PictureEncoding, Purifier, Request, Seed, decode_picture, encode_picture,
};

use crate::arguments::RunArguments;
use crate::chosen::backend_line;
use crate::groups::{BUFFER_BYTES, group_size};
use crate::inputs::{Item, sentence};
use crate::progress::Bar;
use crate::selection::Selection;

pub enum Treatment {
    Purify {
        purifier: Box<Purifier>,
        n_replicas: usize,
        ends: Ends,
        /// Black pixels that the model wants on every side of an image.
        padding: usize,
    },
    /// Encoding as JPEG of this quality, and decoding.
    Jpeg(u8),
}

/// Whether energies are measured at the end of each chain, which costs one more run of the model.
#[derive(Debug, Clone, Copy)]
pub enum Ends {
    Measured,
    Unknown,
}

/// What became of an image.
pub enum Outcome {
    Purified {
        /// One image for each replica.
        replicas: Vec<Images>,
        energy_before: Option<f32>,
        /// Empty if they were not measured.
        energies_after: Vec<f32>,
    },
    Reencoded(Images),
    /// Nothing was to be done.
    Unchanged,
    Failed {
        error: String,
        step: Option<u32>,
    },
}

impl Outcome {
    /// The image that a replica ended at, if something was done.
    pub fn image(&self, replica: usize) -> Option<&Images> {
        match self {
            Self::Purified { replicas, .. } => replicas.get(replica),
            Self::Reencoded(image) => Some(image),
            Self::Unchanged | Self::Failed { .. } => None,
        }
    }

    /// The bytes of its pixels in its file of many images, if it is in one. If nothing was done they stay as they were.
    pub fn pixels(&self, item: &Item<'_>, replica: usize) -> Option<Vec<u8>> {
        let (data_set, original) = item.record.as_ref()?;
        Some(match self.image(replica) {
            Some(image) => data_set.encode(item.number as usize, image, 0),
            None => original.clone(),
        })
    }
}

impl Treatment {
    pub fn new(arguments: &RunArguments, models: &ModelFolder, bar: &Bar) -> Result<Self> {
        if let Some(quality) = arguments.jpeg {
            return Ok(Self::Jpeg(quality));
        }
        let purifier = arguments
            .purification
            .purifier(&models.step)?
            .on_progress(bar.on_progress())
            // The seed is chosen when it is known whether an earlier run goes on.
            .build(0)?;
        bar.say(&backend_line(purifier.model()));
        Ok(Self::Purify {
            purifier: Box::new(purifier),
            n_replicas: arguments.replicas,
            padding: arguments.images.padding,
            ends: match arguments.json {
                true => Ends::Measured,
                false => Ends::Unknown,
            },
        })
    }

    /// The same treatment with noise of this seed.
    pub fn with_seed(mut self, seed: Seed) -> Self {
        if let Self::Purify { purifier, .. } = &mut self {
            **purifier = purifier.with_seed(seed);
        }
        self
    }

    /// Model steps of each image.
    pub fn n_steps(&self) -> u64 {
        match self {
            Self::Purify {
                purifier,
                n_replicas,
                ..
            } => u64::from(purifier.n_steps()) * *n_replicas as u64,
            Self::Jpeg(_) => 1,
        }
    }

    /// How many images of `n_values` are treated at a time.
    pub fn group_size(&self, n_values: usize) -> usize {
        match self {
            Self::Purify {
                purifier,
                n_replicas,
                ..
            } => group_size(purifier, *n_replicas),
            Self::Jpeg(_) => (BUFFER_BYTES / (8 * size_of::<f32>() * n_values)).clamp(1, 1024),
        }
    }

    /// Treats the images that the selection takes; one outcome for each item.
    pub fn treat(&self, group: &[Item<'_>], selection: &Selection) -> Result<Vec<Outcome>> {
        let mut outcomes: Vec<Outcome> = group.iter().map(untreated).collect();
        let taken: Vec<usize> = (0..group.len())
            .filter(|&at| group[at].image.is_ok() && selection.takes(group[at].place()))
            .collect();
        let images = taken.iter().filter_map(|&at| group[at].image.as_ref().ok());
        match self {
            Self::Jpeg(quality) => {
                for (&at, image) in taken.iter().zip(images) {
                    outcomes[at] = reencoded(image, *quality);
                }
            }
            Self::Purify {
                purifier,
                n_replicas,
                ends,
                padding,
            } if !taken.is_empty() => {
                let images = Images::concatenate(&images.cloned().collect::<Vec<_>>())?;
                let images = images.padded(*padding);
                let request = Request::new(&images)
                    .indices(taken.iter().map(|&at| group[at].place()).collect())
                    .n_replicas(*n_replicas);
                let purified = purified(purifier, request, *ends, *padding)?;
                for (at, outcome) in taken.into_iter().zip(purified) {
                    outcomes[at] = match outcome {
                        Outcome::Failed { error, step } => Outcome::Failed {
                            error: format!("`{}`: {error}", group[at]),
                            step,
                        },
                        outcome => outcome,
                    };
                }
            }
            Self::Purify { .. } => {}
        }
        Ok(outcomes)
    }
}

fn untreated(item: &Item<'_>) -> Outcome {
    match &item.image {
        Ok(_) => Outcome::Unchanged,
        Err(error) => Outcome::Failed {
            error: error.clone(),
            step: None,
        },
    }
}

fn reencoded(image: &Images, quality: u8) -> Outcome {
    let decoded = encode_picture(image, 0, PictureEncoding::Jpeg { quality })
        .and_then(|bytes| decode_picture(&bytes, image.shape()));
    match decoded {
        Ok(image) => Outcome::Reencoded(image),
        Err(error) => Outcome::Failed {
            error: sentence(error),
            step: None,
        },
    }
}

/// Outcomes in the order of the request's images.
fn purified(
    purifier: &Purifier,
    request: Request<'_>,
    ends: Ends,
    padding: usize,
) -> Result<Vec<Outcome>> {
    let request = match ends {
        Ends::Measured => request.measure_end(),
        Ends::Unknown => request,
    };
    let purified = purifier.run(&request)?;
    let n_images = purified.replicas.first().map_or(0, Images::len);
    let outcome = |place: usize| -> Result<Outcome> {
        // The reports come replica by replica.
        let reports = || purified.reports.iter().skip(place).step_by(n_images);
        if let Some(step) = reports().find_map(|report| report.failed_step) {
            let error = format!(
                "it left the finite numbers, or its range of energies, at step {step}; take a smaller --step-size, a higher --temperature, or --clip"
            );
            return Ok(Outcome::Failed {
                error,
                step: Some(step),
            });
        }
        let replicas = purified.replicas.iter();
        let shape = purifier.contract().image;
        let unpadded = |images: &Images| {
            let image = Images::from_vec(shape, images.image(place).to_vec())?;
            Ok(image.unpadded(padding))
        };
        Ok(Outcome::Purified {
            replicas: replicas.map(unpadded).collect::<Result<_>>()?,
            energy_before: purified.reports[place].start.map(|start| start.energy),
            energies_after: reports()
                .filter_map(|report| Some(report.end?.energy))
                .collect(),
        })
    };
    (0..n_images).map(outcome).collect()
}
