//! Dense f32 tensors: weights and constants.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Weights, or any other tensors, by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// A dense row-major f32 tensor. Clones share their elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Arc<Vec<f32>>,
}

impl Tensor {
    /// A tensor from its extents and its row-major elements.
    ///
    /// # Panics
    /// The number of elements is not the product of the extents.
    pub fn new(shape: &[usize], data: Vec<f32>) -> Tensor {
        assert_eq!(
            shape.iter().product::<usize>(),
            data.len(),
            "elements of a tensor of shape {shape:?}"
        );
        Tensor {
            shape: shape.to_vec(),
            data: Arc::new(data),
        }
    }

    /// A tensor without axes.
    pub fn scalar(value: f32) -> Tensor {
        Tensor::new(&[], vec![value])
    }

    /// A tensor whose elements are all `value`.
    pub fn filled(shape: &[usize], value: f32) -> Tensor {
        Tensor::new(shape, vec![value; shape.iter().product()])
    }

    /// The same elements, shared, under other extents.
    ///
    /// # Panics
    /// The number of elements is not the product of the extents.
    pub fn reshaped(&self, shape: &[usize]) -> Tensor {
        assert_eq!(
            shape.iter().product::<usize>(),
            self.data.len(),
            "elements of a tensor of shape {shape:?}"
        );
        Tensor {
            shape: shape.to_vec(),
            data: Arc::clone(&self.data),
        }
    }

    /// The extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements, row-major.
    pub fn data(&self) -> &[f32] {
        &self.data
    }
}
