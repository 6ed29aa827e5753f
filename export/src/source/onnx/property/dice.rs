//! What models are drawn with.

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::source::onnx::testing::{Attribute, Model};

/// Attributes by name.
pub(super) type Attributes = Vec<(&'static str, Attribute)>;

/// What is drawn.
pub(super) struct Dice(pub(super) ChaCha8Rng);

impl Dice {
    pub(super) fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.0.random_range(0..choices.len())].clone()
    }

    /// From the first to the second, both included.
    pub(super) fn int(&mut self, least: i64, most: i64) -> i64 {
        self.0.random_range(least..=most)
    }

    pub(super) fn flag(&mut self) -> bool {
        self.0.random()
    }

    pub(super) fn ints(&mut self, count: i64, least: i64, most: i64) -> Vec<i64> {
        (0..count).map(|_| self.int(least, most)).collect()
    }

    pub(super) fn float(&mut self, least: f32, most: f32) -> f32 {
        self.0.random_range(least..most)
    }

    pub(super) fn floats(&mut self, count: i64, least: f32, most: f32) -> Vec<f32> {
        (0..count).map(|_| self.float(least, most)).collect()
    }

    /// A model of an opset, and its input, with that many axes behind the batch.
    pub(super) fn model(&mut self, opset: i64, rank: i64) -> (Model, Vec<i64>) {
        let sizes = self.ints(rank, 1, 4);
        (of_sizes(opset, &sizes), sizes)
    }

    /// A weight of that shape.
    pub(super) fn weight(&mut self, model: Model, name: &str, sizes: &[i64]) -> Model {
        let values = self.floats(sizes.iter().product(), -1.0, 1.0);
        model.floats(name, sizes, &values)
    }

    /// One of `rank` axes behind the batch, counted from the front or the end.
    pub(super) fn axis(&mut self, rank: i64) -> i64 {
        let axis = self.int(1, rank);
        self.either_end(axis, rank + 1)
    }

    pub(super) fn either_end(&mut self, axis: i64, all: i64) -> i64 {
        match self.flag() {
            true => axis,
            false => axis - all,
        }
    }

    /// Some axes behind the batch.
    pub(super) fn axes(&mut self, rank: i64) -> Vec<i64> {
        let mut axes: Vec<i64> = (1..=rank).collect();
        axes.shuffle(&mut self.0);
        axes.truncate(self.int(1, rank) as usize);
        axes.into_iter()
            .map(|axis| self.either_end(axis, rank + 1))
            .collect()
    }

    /// A shape that broadcasts to that of an image.
    pub(super) fn beside(&mut self, sizes: &[i64]) -> Vec<i64> {
        let first = self.int(0, sizes.len() as i64) as usize;
        let sizes = sizes[first..].iter();
        sizes.map(|&size| self.of(&[size, size, 1])).collect()
    }
}

pub(super) fn of_sizes(opset: i64, sizes: &[i64]) -> Model {
    Model::of_opset(opset).input("x", &[&[-1], sizes].concat())
}

pub(super) fn end(model: Model) -> Model {
    model.output("y")
}

/// `x² + ½` as `p`.
pub(super) fn with_positive(model: Model) -> Model {
    model
        .floats("half", &[], &[0.5])
        .node("Mul", "x x", "square", &[])
        .node("Add", "square half", "p", &[])
}

pub(super) fn rank_of(sizes: &[i64]) -> i64 {
    sizes.len() as i64
}
