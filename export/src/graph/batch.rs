//! The batch N: open or fixed, and made of the images themselves.

use crate::error::{Error, Result};
use crate::graph::op::{Cast, Compare, Reshape, Slice};
use crate::graph::{Dim, Graph, Shape, Value};

/// Whether a file takes any batch or one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// Any, named `N`.
    Symbolic,
    /// That one.
    Fixed(usize),
}

impl Batch {
    /// That one batch.
    ///
    /// # Errors
    /// It is 0 or above 2^20, which nobody means.
    pub fn fixed(size: usize) -> Result<Batch> {
        match size {
            1..=0x10_0000 => Ok(Batch::Fixed(size)),
            _ => Err(Error::Onnx(format!(
                "expected a batch from 1 to {}, got {size}",
                0x10_0000
            ))),
        }
    }

    /// The fixed batch, if it is.
    pub fn size(self) -> Option<usize> {
        match self {
            Batch::Symbolic => None,
            Batch::Fixed(size) => Some(size),
        }
    }
}

/// Zeros `[1, N, 1]`, whatever the images hold: no number is above infinity. One element per image is looked at, and no gradient
/// flows through a comparison, so that what is added to them becomes a value of each image and is otherwise as it was.
pub(crate) fn zero_per_image(graph: &mut Graph, name: &str, source: Value) -> Result<Value> {
    let named = |suffix: &str| format!("{name}.{suffix}");
    let (outer, inner) = match graph.shape(source).around_batch() {
        Some(Dim::Batch { outer, inner }) => (outer, inner),
        _ => (1, graph.shape(source).elements_per_image()),
    };
    let shape = Shape(vec![Dim::Size(outer), Dim::BATCH, Dim::Size(inner)]);
    let mut element = graph.apply(&named("element"), Reshape { shape }, &[source])?;
    for (axis, extent) in [(0, outer), (2, inner)] {
        if extent != 1 {
            let first = Slice::range(axis, 0..1);
            element = graph.apply(&named("element"), first, &[element])?;
        }
    }
    let infinity = graph.scalar(&named("infinity"), f32::INFINITY);
    let never = graph.apply(&named("never"), Compare::Greater, &[element, infinity])?;
    graph.apply(&named("zeros"), Cast::F32, &[never])
}
