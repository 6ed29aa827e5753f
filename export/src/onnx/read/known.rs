//! Integers and truth values that are known while a model is read: shapes, indices, and what is reckoned with them.
//!
//! The graph has no integers. An element is a number, or a multiple of the batch N, which stays symbolic.

use ndarray::{ArrayD, IxDyn, Zip};

use crate::graph::Dim;

/// Most elements of what is made while reading; shapes and indices have few.
const MAX_ELEMENTS: usize = 1 << 20;

/// An integer known while reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    /// That number.
    Fixed(i64),
    /// So many times N, never 0 times.
    Batch(i64),
}

impl Number {
    /// `a + b`, if it is a number or a multiple of the batch.
    pub fn plus(self, other: Number) -> Option<Number> {
        match (self, other) {
            (Number::Fixed(a), Number::Fixed(b)) => a.checked_add(b).map(Number::Fixed),
            (Number::Batch(a), Number::Batch(b)) => a.checked_add(b).map(multiple),
            (number, Number::Fixed(0)) | (Number::Fixed(0), number) => Some(number),
            _ => None,
        }
    }

    /// `a − b`, if it is a number or a multiple of the batch.
    pub fn minus(self, other: Number) -> Option<Number> {
        other
            .times(Number::Fixed(-1))
            .and_then(|other| self.plus(other))
    }

    /// `a · b`, if it is a number or a multiple of the batch.
    pub fn times(self, other: Number) -> Option<Number> {
        match (self, other) {
            (Number::Fixed(a), Number::Fixed(b)) => a.checked_mul(b).map(Number::Fixed),
            (Number::Batch(a), Number::Fixed(b)) | (Number::Fixed(a), Number::Batch(b)) => {
                a.checked_mul(b).map(multiple)
            }
            (Number::Batch(_), Number::Batch(_)) => None,
        }
    }

    /// `a / b` rounded towards zero, if it is a number or a multiple of the batch.
    pub fn over(self, other: Number) -> Option<Number> {
        let exactly = |a: i64, b: i64| (a.checked_rem(b) == Some(0)).then(|| a / b);
        match (self, other) {
            (Number::Fixed(a), Number::Fixed(b)) => a.checked_div(b).map(Number::Fixed),
            (Number::Batch(a), Number::Fixed(b)) => exactly(a, b).map(multiple),
            (Number::Batch(a), Number::Batch(b)) => exactly(a, b).map(Number::Fixed),
            (Number::Fixed(_), Number::Batch(_)) => None,
        }
    }

    /// The order of two numbers, where it is the same for every batch of at least one image.
    pub fn compare(self, other: Number) -> Option<std::cmp::Ordering> {
        match (self, other) {
            (Number::Fixed(a), Number::Fixed(b)) => Some(a.cmp(&b)),
            (Number::Batch(a), Number::Batch(b)) => Some(a.cmp(&b)),
            // kN is at least k where k is positive, and at most k where it is negative.
            (Number::Batch(a), Number::Fixed(b)) if a > 0 && a > b => {
                Some(std::cmp::Ordering::Greater)
            }
            (Number::Batch(a), Number::Fixed(b)) if a < 0 && a < b => {
                Some(std::cmp::Ordering::Less)
            }
            (Number::Fixed(_), Number::Batch(_)) => {
                other.compare(self).map(std::cmp::Ordering::reverse)
            }
            _ => None,
        }
    }

    /// The lower of two numbers, where it is the same for every batch.
    pub fn lower(self, other: Number) -> Option<Number> {
        match self.compare(other)? {
            std::cmp::Ordering::Greater => Some(other),
            _ => Some(self),
        }
    }

    /// The higher of two numbers, where it is the same for every batch.
    pub fn higher(self, other: Number) -> Option<Number> {
        match self.compare(other)? {
            std::cmp::Ordering::Less => Some(other),
            _ => Some(self),
        }
    }

    /// The number, `None` where it depends on the batch.
    pub fn fixed(self) -> Option<i64> {
        match self {
            Number::Fixed(number) => Some(number),
            Number::Batch(_) => None,
        }
    }
}

fn multiple(factor: i64) -> Number {
    match factor {
        0 => Number::Fixed(0),
        factor => Number::Batch(factor),
    }
}

impl From<Dim> for Number {
    fn from(dim: Dim) -> Number {
        match dim {
            Dim::Size(size) => Number::Fixed(size as i64),
            Dim::Batch { outer, inner } => multiple((outer * inner) as i64),
        }
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Number::Fixed(number) => write!(f, "{number}"),
            Number::Batch(1) => write!(f, "N"),
            Number::Batch(factor) => write!(f, "{factor}·N"),
        }
    }
}

/// What the elements of a [`Known`] are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Integers.
    Integer,
    /// Truth values, as 0 and 1.
    Truth,
}

/// A tensor of integers or truth values known while reading.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Known {
    /// What they are.
    pub kind: Kind,
    /// The elements.
    pub elements: ArrayD<Number>,
}

impl Known {
    /// Integers along one axis.
    pub fn list(numbers: impl IntoIterator<Item = Number>) -> Known {
        Known::integers(
            numbers
                .into_iter()
                .collect::<ndarray::Array1<Number>>()
                .into_dyn(),
        )
    }

    /// One integer without axes.
    pub fn scalar(number: Number) -> Known {
        Known::integers(ArrayD::from_elem(IxDyn(&[]), number))
    }

    /// Integers.
    pub fn integers(elements: ArrayD<Number>) -> Known {
        Known {
            kind: Kind::Integer,
            elements,
        }
    }

    /// The same elements moved about.
    pub fn moved(&self, elements: ArrayD<Number>) -> Known {
        Known {
            kind: self.kind,
            elements,
        }
    }

    /// The numbers of a list or of a scalar.
    pub fn numbers(&self) -> Result<Vec<Number>, String> {
        match self.elements.ndim() {
            0 | 1 => Ok(self.elements.iter().copied().collect()),
            _ => Err(format!(
                "expected a list of integers, got a tensor of shape {:?}",
                self.elements.shape()
            )),
        }
    }

    /// The numbers of a list or of a scalar, none of which may depend on the batch.
    pub fn fixed_numbers(&self) -> Result<Vec<i64>, String> {
        self.numbers()?
            .into_iter()
            .map(|number| {
                number
                    .fixed()
                    .ok_or_else(|| format!("expected a fixed number, got {number}"))
            })
            .collect()
    }

    /// Element by element with broadcasting. `function` gives `None` for what no number or multiple of the batch is.
    pub fn combined(
        &self,
        other: &Known,
        kind: Kind,
        function: impl Fn(Number, Number) -> Option<Number>,
    ) -> Result<Known, String> {
        let shape = broadcast_sizes(&[self.elements.shape(), other.elements.shape()])?;
        let [left, right] = [self, other].map(|known| known.elements.broadcast(IxDyn(&shape)));
        let (Some(left), Some(right)) = (left, right) else {
            return Err(format!("shapes do not broadcast to {shape:?}"));
        };
        let results = Zip::from(&left).and(&right).map_collect(|&a, &b| {
            function(a, b).ok_or_else(|| format!("{a} and {b} give no number that is known"))
        });
        let results: Vec<Number> = results.into_iter().collect::<Result<_, String>>()?;
        let elements =
            ArrayD::from_shape_vec(IxDyn(&shape), results).map_err(|error| error.to_string())?;
        Ok(Known { kind, elements })
    }

    /// Element by element. `function` gives `None` for what no number or multiple of the batch is.
    pub fn mapped(
        &self,
        kind: Kind,
        function: impl Fn(Number) -> Option<Number>,
    ) -> Result<Known, String> {
        let one = Known::scalar(Number::Fixed(0));
        self.combined(&one, kind, |number, _| function(number))
    }

    /// The elements stretched to that shape.
    pub fn stretched(&self, sizes: &[usize]) -> Result<Known, String> {
        check_count(sizes)?;
        match self.elements.broadcast(IxDyn(sizes)) {
            Some(elements) => Ok(self.moved(elements.to_owned())),
            None => Err(format!(
                "shape {:?} does not broadcast to {sizes:?}",
                self.elements.shape()
            )),
        }
    }
}

/// The shape that all of them broadcast to, of no more elements than are made while reading.
pub(super) fn broadcast_sizes(shapes: &[&[usize]]) -> Result<Vec<usize>, String> {
    let rank = shapes.iter().map(|shape| shape.len()).max().unwrap_or(0);
    let mut sizes = vec![1; rank];
    for shape in shapes {
        for (size, &own) in sizes[rank - shape.len()..].iter_mut().zip(*shape) {
            match (*size, own) {
                (1, own) => *size = own,
                (size, own) if own == 1 || own == size => {}
                _ => return Err(format!("shapes {shapes:?} do not broadcast")),
            }
        }
    }
    check_count(&sizes)?;
    Ok(sizes)
}

/// Refuses to make more elements while reading than shapes and indices ever have.
pub(super) fn check_count(sizes: &[usize]) -> Result<(), String> {
    let count = sizes
        .iter()
        .try_fold(1_usize, |count, &size| count.checked_mul(size));
    match count {
        Some(count) if count <= MAX_ELEMENTS => Ok(()),
        _ => Err(format!(
            "a tensor of shape {sizes:?} is too large to be computed while reading; at most {MAX_ELEMENTS} elements are"
        )),
    }
}
