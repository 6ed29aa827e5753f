//! Element types and shapes of values.

use std::fmt;

/// One extent of a [`Shape`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// The symbolic batch N. As the leading extent of a `Reshape` or `Expand` target it stands for "as the input has it".
    Batch,
    /// A known extent.
    Size(usize),
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Batch => write!(f, "N"),
            Dim::Size(size) => write!(f, "{size}"),
        }
    }
}

/// The extents of a value, outermost first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape(pub Vec<Dim>);

impl Shape {
    /// A shape without a batch.
    pub fn fixed(sizes: &[usize]) -> Shape {
        Shape(sizes.iter().map(|&size| Dim::Size(size)).collect())
    }

    /// `[N, sizes…]`.
    pub fn batched(sizes: &[usize]) -> Shape {
        Shape(
            std::iter::once(Dim::Batch)
                .chain(sizes.iter().map(|&size| Dim::Size(size)))
                .collect(),
        )
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The extent of an axis, `None` where it is the batch.
    pub fn size(&self, axis: usize) -> Option<usize> {
        match self.0.get(axis) {
            Some(Dim::Size(size)) => Some(*size),
            _ => None,
        }
    }

    /// Number of elements of one image: the product of all extents but the batch.
    pub fn elements_per_image(&self) -> usize {
        self.0
            .iter()
            .map(|dim| if let Dim::Size(size) = dim { *size } else { 1 })
            .product()
    }

    /// The extents with the batch replaced by `batch`.
    pub fn concrete(&self, batch: usize) -> Vec<usize> {
        self.0
            .iter()
            .map(|dim| {
                if let Dim::Size(size) = dim {
                    *size
                } else {
                    batch
                }
            })
            .collect()
    }

    /// The shape that two operands broadcast to (right-aligned, an extent of 1 stretches), if there is one.
    pub fn broadcast(&self, other: &Shape) -> Option<Shape> {
        let rank = self.rank().max(other.rank());
        let extent = |shape: &Shape, axis: usize| {
            let missing = rank - shape.rank();
            if axis < missing {
                Dim::Size(1)
            } else {
                shape.0[axis - missing]
            }
        };
        (0..rank)
            .map(|axis| match (extent(self, axis), extent(other, axis)) {
                (a, b) if a == b => Some(a),
                (Dim::Size(1), b) => Some(b),
                (a, Dim::Size(1)) => Some(a),
                _ => None,
            })
            .collect::<Option<Vec<Dim>>>()
            .map(Shape)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extents: Vec<String> = self.0.iter().map(Dim::to_string).collect();
        write!(f, "[{}]", extents.join(", "))
    }
}

/// The element type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE 754 single precision.
    F32,
    /// Truth values, as comparisons give them.
    Bool,
}

/// Element type and shape of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ValueType {
    /// Element type.
    pub dtype: DType,
    /// Extents.
    pub shape: Shape,
}

impl ValueType {
    /// An f32 value of that shape.
    pub fn f32(shape: Shape) -> ValueType {
        ValueType {
            dtype: DType::F32,
            shape,
        }
    }
}
