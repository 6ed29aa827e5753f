//! Encoded pictures that are decoded on demand, on threads of their own.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use ebm_common::contract::ImageShape;
use ebm_common::picture::{Change, Fault, Image};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use tch::{Kind, Tensor};

use super::damage::{Damage, Damaged};
use super::files::{Files, Found, Problem};
use super::fingerprint::{Hash, MOST_BYTES, Print};
use super::form::Form;
use super::order::{Pick, View};
use super::values;

/// The number of pictures that are looked at before a run begins.
const N_PROBED: usize = 64;

/// Threads that decode.
#[derive(Clone)]
pub(super) struct Decoders(Arc<ThreadPool>);

impl fmt::Debug for Decoders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} decoders", self.0.current_num_threads())
    }
}

impl Decoders {
    pub(super) fn new(n_threads: usize) -> Result<Decoders> {
        let pool = ThreadPoolBuilder::new().num_threads(n_threads).build();
        let pool =
            pool.context("cannot start threads that decode pictures: use fewer with --threads")?;
        Ok(Decoders(Arc::new(pool)))
    }

    /// As many threads as the machine has cores.
    pub(super) fn one_per_core() -> Result<Decoders> {
        Decoders::new(0)
    }

    /// Applies a function to all things. The results are in the same order.
    pub(super) fn map<T: Send, R: Send>(
        &self,
        things: Vec<T>,
        function: impl Fn(T) -> R + Sync + Send,
    ) -> Vec<R> {
        self.0
            .install(|| things.into_par_iter().map(function).collect())
    }
}

/// A part of a data set whose pictures are decoded on demand.
#[derive(Debug)]
pub(super) struct Pictures {
    files: Arc<dyn Files>,
    /// Places of this part's pictures among all files.
    rows: Vec<u32>,
    /// One per picture of this part.
    labels: Vec<u32>,
    form: Form,
    /// Pixels of background around each image.
    padding: usize,
    decoders: Decoders,
    damage: Mutex<Damage>,
}

/// An image, and the damaged ones that it replaces.
#[derive(Debug)]
pub(super) struct Decoded {
    pixels: Vec<u8>,
    label: u32,
    damaged: Vec<Damaged>,
}

/// How pictures are read.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) form: Form,
    /// Pixels of background around each image.
    pub(super) padding: usize,
    /// Which share of them may be damaged.
    pub(super) max_damaged: f64,
    pub(super) decoders: Decoders,
}

impl Pictures {
    /// The pictures of some rows of `found`, each with a label.
    pub(super) fn new(
        found: &Found,
        rows: Vec<u32>,
        labels: Vec<u32>,
        reading: &Reading,
    ) -> Pictures {
        let (place, share) = (found.place.clone(), reading.max_damaged);
        Pictures {
            files: found.files.clone(),
            damage: Mutex::new(Damage::new(place, rows.len(), share)),
            rows,
            labels,
            form: reading.form,
            padding: reading.padding,
            decoders: reading.decoders.clone(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Bytes of the list of pictures.
    pub(super) fn bytes(&self) -> u64 {
        let rows = size_of_val(self.rows.as_slice()) + size_of_val(self.labels.as_slice());
        self.files.bytes() + rows as u64
    }

    /// Bytes of an image, as it waits to be used.
    pub(super) fn bytes_of_image(&self) -> u64 {
        self.form.shape.n_values() as u64
    }

    /// Channels, height and width, with padding.
    pub(super) fn shape(&self) -> ImageShape {
        let unpadded = self.form.shape;
        ImageShape {
            height: unpadded.height + 2 * self.padding,
            width: unpadded.width + 2 * self.padding,
            ..unpadded
        }
    }

    /// Looks at some pictures from the first to the last, so that a set of another kind is refused before a run begins, and says what is
    /// done to them beside what is configured. Damaged ones do not count here.
    pub(super) fn probe(&self) -> Result<()> {
        let n = self.len();
        let indices: Vec<usize> = (0..n).step_by(n.div_ceil(N_PROBED).max(1)).collect();
        let probed = self
            .decoders
            .map(indices.clone(), |index| self.image(index, View::Centre));
        let mut told: Vec<Change> = Vec::new();
        for (index, image) in indices.into_iter().zip(probed) {
            match image? {
                Ok(image) => {
                    for change in image.changes {
                        let is_silent = !matches!(change, Change::Depth | Change::Transparency);
                        if !is_silent && !told.contains(&change) {
                            note!(
                                "{} {change}; others like it are not named",
                                self.name(index)
                            );
                            told.push(change);
                        }
                    }
                }
                Err(fault @ Fault::Unfit(_)) => {
                    bail!(
                        "{} {fault}: set data.crop = \"centre\" if sizes differ, or network.image_size and network.channels",
                        self.name(index)
                    );
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// The fingerprint: of names, labels, sizes of files and, if they are small in all, their content. Files that cannot be read count as empty.
    pub(super) fn print(&self) -> Print {
        let [mut names, mut labels, mut sizes, mut content] = [(); 4].map(|()| Hash::default());
        let mut files: Vec<PathBuf> = Vec::new();
        for (row, label) in self.rows.iter().zip(&self.labels) {
            let index = *row as usize;
            names.add(self.files.own_name(index).as_bytes());
            labels.add(&label.to_le_bytes());
            let file = self.files.file(index);
            if files.last() != Some(&file) {
                files.push(file);
            }
        }
        let mut n_bytes = 0u64;
        for file in &files {
            let size = fs::metadata(file).map_or(0, |metadata| metadata.len());
            n_bytes = n_bytes.saturating_add(size);
            sizes.add(&size.to_le_bytes());
        }
        let is_small = n_bytes <= MOST_BYTES;
        if is_small {
            files
                .iter()
                .for_each(|file| content.add(&fs::read(file).unwrap_or_default()));
        }
        Print {
            n_images: self.len(),
            labels: labels.finish(),
            names: Some(names.finish()),
            sizes: Some(sizes.finish()),
            content: is_small.then(|| content.finish()),
        }
    }

    /// Decodes images now: f32 `[n, C, H, W]` in `[-1, 1]` and int64 `[n]`.
    pub(super) fn batch(&self, picks: &[Pick]) -> Result<(Tensor, Tensor)> {
        self.joined(self.decoders.map(picks.to_vec(), |pick| self.decode(pick)))
    }

    /// Decodes an image in the background.
    pub(super) fn ask(self: &Arc<Self>, pick: Pick) -> Receiver<Result<Decoded>> {
        let (sender, receiver) = sync_channel(1);
        let pictures = self.clone();
        self.decoders.0.spawn(move || {
            // Nobody waits for an image that is not needed any more.
            let _ = sender.send(pictures.decode(pick));
        });
        receiver
    }

    /// Joins images to a batch. Damage is noted in their order, so that it does not depend on threads.
    pub(super) fn joined(
        &self,
        images: impl IntoIterator<Item = Result<Decoded>>,
    ) -> Result<(Tensor, Tensor)> {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for image in images {
            let image = image?;
            self.note(image.damaged)?;
            pixels.extend(image.pixels);
            labels.push(i64::from(image.label));
        }
        let [channels, height, width] = self.form.shape.dimensions();
        let size = [labels.len(), channels, height, width].map(|length| length as i64);
        let pixels = Tensor::from_slice(&pixels).view(size);
        let padded = pixels.constant_pad_nd([self.padding as i64; 4]);
        Ok((
            values(&padded, u8::MAX),
            Tensor::from_slice(&labels).to_kind(Kind::Int64),
        ))
    }

    fn note(&self, damaged: Vec<Damaged>) -> Result<()> {
        if damaged.is_empty() {
            return Ok(());
        }
        let mut damage = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
        damage.note(damaged)
    }

    /// An image, or the next one that is not damaged. The run stops if more in a row are damaged than the whole set may have.
    fn decode(&self, pick: Pick) -> Result<Decoded> {
        let mut damaged = Vec::new();
        loop {
            let index = (pick.index + damaged.len()) % self.len();
            match self.image(index, pick.view)? {
                Ok(image) => {
                    return Ok(Decoded {
                        pixels: image.pixels,
                        label: self.labels[index],
                        damaged,
                    });
                }
                Err(fault) => damaged.push(Damaged {
                    index,
                    name: self.name(index),
                    reason: fault.to_string(),
                }),
            }
            let damage = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
            if damaged.len() > damage.most() {
                return Err(damage.refusal(damaged.iter()));
            }
        }
    }

    /// The image that a picture becomes, or what is wrong with the picture.
    fn image(&self, index: usize, view: View) -> Result<Result<Image, Fault>> {
        match self.files.read(self.rows[index] as usize) {
            Ok(bytes) => Ok(self.form.image(&bytes, view)),
            Err(Problem::Damage(reason)) => Ok(Err(Fault::Damaged(reason))),
            Err(Problem::Lost(error)) => Err(error),
        }
    }

    fn name(&self, index: usize) -> String {
        self.files.name(self.rows[index] as usize)
    }
}
