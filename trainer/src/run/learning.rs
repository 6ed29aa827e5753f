//! What a run asks of what it learns.

use std::rc::Rc;

use anyhow::Result;
use ebm_export::graph::tensor::Tensors;
use ebm_export::source::checkpoint::Header;

use crate::config::Output;
use crate::draw::sheet::Block;
use crate::machine::Place;
use crate::machine::memory::Estimate;
use crate::machine::ranks::Ranks;
use crate::run::guard::Guard;
use crate::weights::learned::ReadGroup;

/// What stays as it is while something learns.
#[derive(Debug)]
pub struct Terms {
    /// Updates in all.
    pub n_updates: u64,
    /// What is written, and when.
    pub output: Output,
    /// When it diverges.
    pub guard: Guard,
    /// This process among those that learn together.
    pub ranks: Rc<Ranks>,
    /// Where it computes.
    pub place: Place,
    /// What it needs of memory.
    pub memory: Estimate,
}

/// What can be said of something that learns.
pub trait Described {
    /// What stays as it is.
    fn terms(&self) -> Terms;

    /// Updates done.
    fn update_number(&self) -> u64;

    /// The learning rate of an update, counted from 0.
    fn learning_rate(&self, update: u64) -> f64;

    /// How good the network is now, more being better, if that can be said; from the mean magnitudes of what the updates since the last
    /// checkpoint measured.
    fn merit(&self, magnitudes: &[(String, f64)]) -> Result<Option<f64>>;

    /// How good the network is now on what it does not learn from, if that is measured; asked for whenever samples are shown.
    fn tested(&self) -> Result<Vec<(String, f64)>> {
        Ok(Vec::new())
    }

    /// What a checkpoint says of it; the caller fills in `update` and `state`.
    fn header(&self) -> Result<Header>;

    /// All tensors of a checkpoint, in every process.
    fn groups(&self) -> Result<Vec<(&'static str, Tensors)>>;

    /// Images to look at, if there are any.
    fn samples(&self) -> Result<Vec<Block>> {
        Ok(Vec::new())
    }
}

/// Something that learns, and can go on from a checkpoint.
pub trait Learning: Described {
    /// Goes on from a checkpoint.
    ///
    /// # Errors
    /// The checkpoint is of another network or configuration.
    fn restore(&mut self, header: &Header, group: ReadGroup<'_>) -> Result<()>;

    /// From now on draws and learning rates are those of a run that went back to an earlier checkpoint that many times.
    fn set_rollbacks(&mut self, rollbacks: u64);

    /// Restarts the chains that are of no use any more, if there are chains.
    fn restart_lost_chains(&mut self) -> Result<()> {
        Ok(())
    }
}
