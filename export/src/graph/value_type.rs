//! Element types and shapes of values.

use std::fmt;

use half::{bf16, f16};

/// One extent of a [`Shape`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// `outer · N · inner` for a batch of N images: element `(o · N + n) · inner + i` belongs to image n.
    Batch {
        /// Repetitions of the whole batch.
        outer: usize,
        /// Elements per image next to each other.
        inner: usize,
    },
    /// A known extent.
    Size(usize),
}

impl Dim {
    /// The batch N itself.
    pub const BATCH: Dim = Dim::Batch { outer: 1, inner: 1 };

    /// The extent for a batch of that size.
    pub fn concrete(self, batch: usize) -> usize {
        match self {
            Dim::Batch { outer, inner } => outer.saturating_mul(batch).saturating_mul(inner),
            Dim::Size(size) => size,
        }
    }

    /// Does it depend on the batch?
    pub fn is_batch(self) -> bool {
        matches!(self, Dim::Batch { .. })
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Batch { outer, inner } => {
                let factor = |size: &usize| (*size != 1).then(|| size.to_string());
                let factors = [factor(outer), Some("N".to_string()), factor(inner)];
                let factors: Vec<String> = factors.into_iter().flatten().collect();
                write!(f, "{}", factors.join("·"))
            }
            Dim::Size(size) => write!(f, "{size}"),
        }
    }
}

/// The extents of a value, outermost first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape(pub Vec<Dim>);

/// The product of extents for a batch of one, or the largest number if it is larger.
fn elements(dims: &[Dim]) -> usize {
    dims.iter()
        .fold(1, |count: usize, dim| count.saturating_mul(dim.concrete(1)))
}

impl Shape {
    /// A shape without a batch.
    pub fn fixed(sizes: &[usize]) -> Shape {
        Shape(sizes.iter().map(|&size| Dim::Size(size)).collect())
    }

    /// `[N, sizes…]`.
    pub fn batched(sizes: &[usize]) -> Shape {
        Shape(
            std::iter::once(Dim::BATCH)
                .chain(sizes.iter().map(|&size| Dim::Size(size)))
                .collect(),
        )
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The extent of an axis, `None` if it is the batch.
    pub fn size(&self, axis: usize) -> Option<usize> {
        match self.0.get(axis) {
            Some(Dim::Size(size)) => Some(*size),
            _ => None,
        }
    }

    /// The axis that carries the batch, if one does.
    pub fn batch_axis(&self) -> Option<usize> {
        self.0.iter().position(|dim| dim.is_batch())
    }

    /// Number of elements of one image: the product of all extents for a batch of one, or the largest number if it is larger.
    pub fn elements_per_image(&self) -> usize {
        elements(&self.0)
    }

    /// Elements outside and inside of N, where an axis carries the batch: the whole value is `outer · N · inner` elements long,
    /// and whatever has the same numbers has the elements of each image at the same places.
    pub fn around_batch(&self) -> Option<Dim> {
        let axis = self.batch_axis()?;
        match self.0[axis] {
            Dim::Batch { outer, inner } => Some(Dim::Batch {
                outer: outer.saturating_mul(elements(&self.0[..axis])),
                inner: inner.saturating_mul(elements(&self.0[axis + 1..])),
            }),
            Dim::Size(_) => None,
        }
    }

    /// The extents for a batch of that size.
    pub fn concrete(&self, batch: usize) -> Vec<usize> {
        self.0.iter().map(|dim| dim.concrete(batch)).collect()
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DType {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of [`DType::F32`].
    BF16,
    /// Booleans, as comparisons give them.
    Bool,
    /// Whole numbers, which only inputs hold: a cast makes f32 of them.
    Integer(Integer),
}

/// A type of whole numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Integer {
    /// 8 bits with a sign.
    I8,
    /// 16 bits with a sign.
    I16,
    /// 32 bits with a sign.
    I32,
    /// 64 bits with a sign.
    I64,
    /// 8 bits.
    U8,
    /// 16 bits.
    U16,
    /// 32 bits.
    U32,
    /// 64 bits.
    U64,
}

impl Integer {
    /// Bytes of one element.
    pub fn size_bytes(self) -> usize {
        match self {
            Integer::I8 | Integer::U8 => 1,
            Integer::I16 | Integer::U16 => 2,
            Integer::I32 | Integer::U32 => 4,
            Integer::I64 | Integer::U64 => 8,
        }
    }
}

impl fmt::Display for Integer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}

impl DType {
    /// Bytes of one element.
    pub fn size_bytes(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::F16 | DType::BF16 => 2,
            DType::Bool => 1,
            DType::Integer(integer) => integer.size_bytes(),
        }
    }

    /// What a number becomes in this type, ties to even. It goes through f32, as in engines that sum up in f32 and then round; truth
    /// values and integers are not changed.
    pub fn rounded(self, value: f64) -> f64 {
        let single = value as f32;
        match self {
            DType::F32 => f64::from(single),
            DType::F16 => f16::from_f32(single).to_f64(),
            DType::BF16 => bf16::from_f32(single).to_f64(),
            DType::Bool | DType::Integer(_) => value,
        }
    }

    /// Is it one of the float types below f32?
    pub fn is_low(self) -> bool {
        matches!(self, DType::F16 | DType::BF16)
    }

    /// Is it a type of floats?
    pub fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F16 | DType::BF16)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::Bool => "bool",
            DType::Integer(integer) => return integer.fmt(f),
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// f16 has 11 significant bits and exponents from −14 (with subnormals to −24) to 15, bf16 has 8 bits and those of f32.
    #[test]
    fn numbers_round_to_the_nearest_of_each_type() {
        let power = |exponent| 2f64.powi(exponent);
        let cases = [
            (DType::F32, 1.0 + power(-24), 1.0, "a tie to even"),
            (
                DType::F32,
                1.0 + power(-23),
                1.0 + power(-23),
                "the next one",
            ),
            (DType::F16, 1.0 + power(-11), 1.0, "a tie to even"),
            (
                DType::F16,
                1.0 + 3.0 * power(-11),
                1.0 + power(-9),
                "a tie to even",
            ),
            (DType::F16, 1.0 + 1.5 * power(-11), 1.0 + power(-10), "up"),
            (DType::F16, 65519.0, 65504.0, "the largest"),
            (DType::F16, 65520.0, f64::INFINITY, "too large"),
            (DType::F16, 1.4 * power(-24), power(-24), "subnormal"),
            (DType::F16, -power(-26), -0.0, "too small"),
            (DType::BF16, 1.0 + power(-8), 1.0, "a tie to even"),
            (
                DType::BF16,
                1.0 + 3.0 * power(-8),
                1.0 + power(-6),
                "a tie to even",
            ),
            (
                DType::BF16,
                -1.0 - 1.5 * power(-8),
                -1.0 - power(-7),
                "away from zero",
            ),
            (DType::BF16, 65520.0, 65536.0, "in range"),
            (DType::BF16, 1e39, f64::INFINITY, "too large"),
        ];
        for (dtype, value, wanted, case) in cases {
            let rounded = dtype.rounded(value);
            assert_eq!(
                rounded.to_bits(),
                wanted.to_bits(),
                "{dtype:?}, {case}: {rounded}"
            );
            assert_eq!(
                dtype.rounded(rounded).to_bits(),
                rounded.to_bits(),
                "{dtype:?}, {case}: again"
            );
        }
        assert!(DType::F16.rounded(f64::NAN).is_nan() && DType::BF16.rounded(f64::NAN).is_nan());
    }
}
