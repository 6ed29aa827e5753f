//! Chains between their steps.
//!
//! All that belongs to a chain is a row of some tensor: its state, the latent that its start was made from, its class, its age. Whoever draws,
//! replaces or stores chains does the same to each tensor, so that a chain never loses its latent: a generator learns from the pairs of both.

pub mod bank;
pub mod burn_in;
pub mod descent;
pub mod heun;
pub mod langevin;
pub mod mixing;
pub mod pool;
pub mod start;

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use tch::{Kind, Tensor};

use crate::chains::langevin::saturation;
use crate::network::bytes;

/// Images, `[n, C, H, W]`.
const STATES: &str = "states";
/// The z that a generator made the starts from, `[n, latent]`.
const LATENTS: &str = "latents";
/// The classes that it made them of, `[n]`.
const CLASSES: &str = "classes";
/// Updates since the starts, `[n]`.
const UPDATES: &str = "updates";

/// What a generator made the starts of chains from.
#[derive(Debug)]
pub struct Latents {
    /// f32 `[n, latent]`.
    pub z: Tensor,
    /// Whole numbers as f32 `[n]`, if the generator distinguishes classes.
    pub classes: Option<Tensor>,
}

/// Chains: f32 tensors by name, of which each has one row per chain.
#[derive(Debug)]
pub struct Chains(BTreeMap<&'static str, Tensor>);

impl Chains {
    /// Chains at their start, states f32 `[n, C, H, W]`.
    pub fn begin(states: Tensor, latents: Option<Latents>) -> Chains {
        let updates = Tensor::zeros([states.size()[0]], (Kind::Float, states.device()));
        let mut rows = BTreeMap::from([(STATES, states), (UPDATES, updates)]);
        if let Some(Latents { z, classes }) = latents {
            rows.insert(LATENTS, z);
            rows.extend(classes.map(|classes| (CLASSES, classes)));
        }
        Chains(rows)
    }

    /// The chains of several, one after the other.
    pub fn joined(parts: &[Chains]) -> Result<Chains> {
        let first = parts.first().context("there are no chains")?;
        first.map(|name, _| {
            let rows = parts.iter().map(|part| part.row(name));
            Ok(Tensor::f_cat(&rows.collect::<Result<Vec<_>>>()?, 0)?)
        })
    }

    /// Number of chains.
    pub fn len(&self) -> usize {
        self.states().size()[0] as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Images, `[n, C, H, W]`.
    pub fn states(&self) -> &Tensor {
        &self.0[STATES]
    }

    /// Updates since the starts, `[n]`.
    pub fn updates(&self) -> &Tensor {
        &self.0[UPDATES]
    }

    /// What a generator made the starts from, if one did.
    pub fn latents(&self) -> Option<Latents> {
        Some(Latents {
            z: self.0.get(LATENTS)?.shallow_clone(),
            classes: self.0.get(CLASSES).map(Tensor::shallow_clone),
        })
    }

    /// The chains at places, int64 `[m]`.
    pub fn select(&self, places: &Tensor) -> Result<Chains> {
        self.map(|_, rows| Ok(rows.f_index_select(0, places)?))
    }

    /// These chains, but those of `other` where `mask`, bool `[n]`, is set.
    pub fn replaced_where(&self, mask: &Tensor, other: &Chains) -> Result<Chains> {
        self.map(|name, rows| {
            // [n] as [n, 1, 1, 1], which broadcasts to images and to latents alike.
            let mut shape = vec![1; rows.dim()];
            shape[0] = -1;
            Ok(other
                .row(name)?
                .f_where_self(&mask.f_view(shape.as_slice())?, rows)?)
        })
    }

    /// Puts chains at places, int64 `[m]`.
    ///
    /// # Errors
    /// The chains are of different kinds, or not as many as places.
    pub fn put(&mut self, places: &Tensor, chains: &Chains) -> Result<()> {
        for (name, rows) in &mut self.0 {
            let _ = rows.f_index_copy_(0, places, chains.row(name)?)?;
        }
        Ok(())
    }

    /// Which are lost, f32 `[n]`: 1 for those with a pixel that is not finite, or with more than a share `most` of saturated ones.
    pub fn lost(&self, most: f64) -> Result<Tensor> {
        let states = self.states();
        let finite = states.f_isfinite()?.f_flatten(1, -1)?.f_all_dim(1, false)?;
        let kept = finite.f_logical_and(&saturation(states)?.f_le(most)?)?;
        Ok(kept.f_logical_not()?.f_to_kind(Kind::Float)?)
    }

    /// The same chains one update later, at other states.
    pub fn moved(self, states: &Tensor) -> Chains {
        let mut rows = self.0;
        let updates = &rows[UPDATES] + 1.0;
        rows.insert(STATES, states.shallow_clone());
        rows.insert(UPDATES, updates);
        Chains(rows)
    }

    /// The same chains as at their start, which is where they are.
    pub fn renewed(mut self) -> Chains {
        let updates = self.updates().zeros_like();
        self.0.insert(UPDATES, updates);
        self
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> u64 {
        bytes(self.0.values())
    }

    /// The tensors by name.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&'static str, &Tensor)> {
        self.0.iter().map(|(name, rows)| (*name, rows))
    }

    fn row(&self, name: &str) -> Result<&Tensor> {
        self.0
            .get(name)
            .with_context(|| format!("these chains have no {name}"))
    }

    /// Chains with other tensors in place of each.
    pub(crate) fn map(&self, change: impl Fn(&str, &Tensor) -> Result<Tensor>) -> Result<Chains> {
        let changed = self
            .0
            .iter()
            .map(|(name, rows)| Ok((*name, change(name, rows)?)));
        Ok(Chains(changed.collect::<Result<_>>()?))
    }
}
