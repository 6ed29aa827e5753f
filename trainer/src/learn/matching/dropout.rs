//! The masks of dropout: what a network forgets at an update.

use anyhow::Result;
use ebm_export::graph::{Dim, Graph};
use tch::{Device, Kind, Tensor};

use crate::machine::parallel::Team;
use crate::machine::randomness::{Purpose, seed_torch};
use crate::network::ImagesAtOnce;

/// Masks by the names of the inputs that take them, `[n, …]` each.
pub type Masks = Vec<(String, Tensor)>;

/// Which inputs of a graph are masks, and how likely a value is forgotten.
#[derive(Clone, Debug)]
pub struct Dropout {
    rate: f64,
    /// Names, and the extents behind the batch.
    inputs: Vec<(String, Vec<i64>)>,
}

impl Dropout {
    /// For the graph that [`graph_with_dropout`](ebm_export::source::networks::Network::graph_with_dropout) gives.
    pub fn new(graph: &Graph, rate: f64) -> Dropout {
        let masks = graph
            .inputs()
            .filter(|&input| graph.node(input).name.ends_with(".mask"));
        let described = masks.map(|input| {
            let extents = graph.shape(input).0.iter().skip(1);
            let extents = extents.map(|dim| match dim {
                Dim::Size(size) => *size as i64,
                Dim::Batch { .. } => 1,
            });
            (graph.node(input).name.clone(), extents.collect())
        });
        Dropout {
            rate,
            inputs: described.collect(),
        }
    }

    /// Bytes of the masks of an image.
    pub fn bytes(&self) -> u64 {
        let values = |(_, extents): &(String, Vec<i64>)| extents.iter().product::<i64>() as u64;
        self.inputs.iter().map(values).sum::<u64>() * size_of::<f32>() as u64
    }

    /// Masks for the images of this process, of `batch` in all processes, which all draw the same: 0 for what is forgotten, and for the rest what
    /// keeps the mean as it is.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn draw(
        &self,
        team: &Team,
        batch: usize,
        (seed, update): (u64, u64),
        device: Device,
    ) -> Result<Masks> {
        let _draws = seed_torch(seed, update, Purpose::Dropout);
        let kept = 1.0 - self.rate;
        let drawn = self.inputs.iter().map(|(name, extents)| {
            let size = [&[batch as i64], extents.as_slice()].concat();
            let mask = Tensor::f_empty(&size, (Kind::Float, device))?.f_bernoulli_float_(kept)?;
            let own = team.ranks().own(&mask)?.f_mul_scalar(kept.recip())?;
            Ok((name.clone(), own))
        });
        drawn.collect()
    }
}

/// Masks cut into those of parts of a batch of `n` images, as [`Team::split`] cuts that.
///
/// # Errors
/// libtorch fails.
pub fn split(team: &Team, masks: &Masks, n: usize, most: ImagesAtOnce) -> Result<Vec<Masks>> {
    let n_parts = team.division(n, most).n_parts as usize;
    let mut parts: Vec<Masks> = (0..n_parts).map(|_| Vec::new()).collect();
    for (name, mask) in masks {
        for (part, piece) in parts.iter_mut().zip(team.split(mask, most)?) {
            part.push((name.clone(), piece));
        }
    }
    Ok(parts)
}
