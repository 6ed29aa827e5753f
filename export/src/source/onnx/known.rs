//! Integers and booleans that are known while a model is read: shapes, indices, and what is reckoned with them.
//!
//! The graph has no integers. An element is a number, a multiple of the batch N, which stays symbolic, or a line in the number of an
//! image. A tensor may have the batch on an axis, as values of the graph may: its elements are then those of one image.

use std::cmp::Ordering;

use ndarray::{ArrayD, IxDyn, Zip};

use super::result::Result;
use crate::graph::tensor::Tensor;
use crate::graph::{Dim, Shape};

/// Most elements of what is made while reading; shapes and indices have few.
const MAX_ELEMENTS: usize = 1 << 20;

/// An integer known while reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    /// That number.
    Fixed(i64),
    /// So many times N, never 0 times.
    Batch(i64),
    /// `first + step · n` for image n of the batch, counted from 0; the step is never 0.
    Image {
        /// That of the first image.
        first: i64,
        /// From one image to the next.
        step: i64,
    },
}

/// The number of each image, counted from 0.
pub(super) const IMAGE: Number = Number::Image { first: 0, step: 1 };

impl Number {
    /// `a + b`, if it is such a number.
    pub fn plus(self, other: Number) -> Option<Number> {
        match (self, other) {
            (Number::Batch(a), Number::Batch(b)) => a.checked_add(b).map(multiple),
            (number, Number::Fixed(0)) | (Number::Fixed(0), number) => Some(number),
            (a, b) => {
                let ([a, step], [b, other_step]) = (a.line()?, b.line()?);
                Some(line(a.checked_add(b)?, step.checked_add(other_step)?))
            }
        }
    }

    /// `a − b`, if it is such a number.
    pub fn minus(self, other: Number) -> Option<Number> {
        other
            .times(Number::Fixed(-1))
            .and_then(|other| self.plus(other))
    }

    /// `a · b`, if it is such a number.
    pub fn times(self, other: Number) -> Option<Number> {
        match (self, other) {
            (Number::Fixed(0), _) | (_, Number::Fixed(0)) => Some(Number::Fixed(0)),
            (Number::Batch(a), Number::Fixed(b)) | (Number::Fixed(a), Number::Batch(b)) => {
                a.checked_mul(b).map(multiple)
            }
            (number, Number::Fixed(factor)) | (Number::Fixed(factor), number) => {
                let [first, step] = number.line()?;
                Some(line(first.checked_mul(factor)?, step.checked_mul(factor)?))
            }
            _ => None,
        }
    }

    /// `a / b` rounded towards zero, if it is such a number.
    pub fn over(self, other: Number) -> Option<Number> {
        let exactly = |a: i64, b: i64| (a.checked_rem(b) == Some(0)).then(|| a / b);
        match (self, other) {
            (Number::Fixed(a), Number::Fixed(b)) => a.checked_div(b).map(Number::Fixed),
            (Number::Batch(a), Number::Fixed(b)) => exactly(a, b).map(multiple),
            (Number::Batch(a), Number::Batch(b)) => exactly(a, b).map(Number::Fixed),
            (Number::Image { first, step }, Number::Fixed(b)) => {
                Some(line(exactly(first, b)?, exactly(step, b)?))
            }
            _ => None,
        }
    }

    /// That of the first image and the step to the next, `None` for what depends on the size of the batch.
    fn line(self) -> Option<[i64; 2]> {
        match self {
            Number::Fixed(number) => Some([number, 0]),
            Number::Image { first, step } => Some([first, step]),
            Number::Batch(_) => None,
        }
    }

    /// How two numbers may be ordered, for batches of at least one image.
    fn orders(self, other: Number) -> &'static [Ordering] {
        use Ordering::{Equal, Greater, Less};
        let single = |ordering| -> &'static [Ordering] {
            match ordering {
                Less => &[Less],
                Equal => &[Equal],
                Greater => &[Greater],
            }
        };
        // kN is at least k if k is positive, and at most k if it is negative; a line starts at its first number.
        let from = |first: i64, slope: i64, other: i64| -> &'static [Ordering] {
            match (slope > 0, first.cmp(&other)) {
                (true, Greater) => &[Greater],
                (true, Equal) => &[Equal, Greater],
                (false, Less) => &[Less],
                (false, Equal) => &[Less, Equal],
                _ => &[Less, Equal, Greater],
            }
        };
        match (self, other) {
            (Number::Fixed(a), Number::Fixed(b)) | (Number::Batch(a), Number::Batch(b)) => {
                single(a.cmp(&b))
            }
            (Number::Batch(a), Number::Fixed(b)) => from(a, a, b),
            (Number::Image { first, step }, Number::Fixed(b)) => from(first, step, b),
            (
                Number::Image { first, step },
                Number::Image {
                    first: other,
                    step: same,
                },
            ) if step == same => single(first.cmp(&other)),
            // There are N images, so that their numbers are below N.
            (Number::Image { first, step }, Number::Batch(factor))
                if 0 < step && step <= factor && first < step =>
            {
                &[Less]
            }
            (Number::Fixed(_), _) | (Number::Batch(_), Number::Image { .. }) => {
                match other.orders(self) {
                    [Less] => &[Greater],
                    [Greater] => &[Less],
                    [Less, Equal] => &[Equal, Greater],
                    [Equal, Greater] => &[Less, Equal],
                    same => same,
                }
            }
            _ => &[Less, Equal, Greater],
        }
    }

    /// Does a relation hold? `None` if that depends on the batch or on the image.
    pub fn holds(self, other: Number, relation: fn(Ordering) -> bool) -> Option<bool> {
        let (first, rest) = self.orders(other).split_first()?;
        let holds = relation(*first);
        let always = rest.iter().all(|&order| relation(order) == holds);
        always.then_some(holds)
    }

    /// The lower of two numbers, if it is the same for every batch.
    pub fn lower(self, other: Number) -> Option<Number> {
        self.holds(other, Ordering::is_le)
            .map(|holds| if holds { self } else { other })
            .or_else(|| self.holds(other, Ordering::is_ge)?.then_some(other))
    }

    /// The higher of two numbers, if it is the same for every batch.
    pub fn higher(self, other: Number) -> Option<Number> {
        self.holds(other, Ordering::is_ge)
            .map(|holds| if holds { self } else { other })
            .or_else(|| self.holds(other, Ordering::is_le)?.then_some(other))
    }

    /// The number, `None` if it depends on the batch.
    pub fn fixed(self) -> Option<i64> {
        match self {
            Number::Fixed(number) => Some(number),
            Number::Batch(_) | Number::Image { .. } => None,
        }
    }
}

fn line(first: i64, step: i64) -> Number {
    match step {
        0 => Number::Fixed(first),
        step => Number::Image { first, step },
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
            Number::Image { first, step } => write!(f, "{first} + {step}·n of image n"),
        }
    }
}

/// What the elements of a [`Known`] are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Integers.
    Integer,
    /// Booleans, as 0 and 1.
    Truth,
}

/// A tensor of integers or booleans known while reading.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Known {
    /// What they are.
    pub kind: Kind,
    /// The extents.
    pub shape: Shape,
    /// The elements, for a batch of one image.
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

    /// Integers that are the same for all images.
    pub fn integers(elements: ArrayD<Number>) -> Known {
        Known {
            kind: Kind::Integer,
            shape: Shape::fixed(elements.shape()),
            elements,
        }
    }

    /// The whole numbers of a tensor, rounded towards zero.
    pub fn whole(tensor: &Tensor) -> Result<Known> {
        let number = |&value: &f32| {
            let whole = value.trunc();
            // Beyond 2^62 the cast would saturate.
            match whole.abs() < 4.6e18 {
                true => Ok(Number::Fixed(whole as i64)),
                false => Err(format!("{value} is not an integer")),
            }
        };
        let numbers = tensor.data().iter().map(number);
        let numbers = numbers.collect::<Result<Vec<Number>>>()?;
        let elements = ArrayD::from_shape_vec(tensor.shape(), numbers);
        Ok(Known::integers(
            elements.map_err(|error| error.to_string())?,
        ))
    }

    /// Are they integers, not booleans?
    pub fn is_integer(&self) -> bool {
        self.kind == Kind::Integer
    }

    /// The number of each image, `[N]`.
    pub fn images() -> Known {
        Known {
            shape: Shape::batched(&[]),
            ..Known::list([IMAGE])
        }
    }

    /// The same elements moved about.
    pub fn moved(&self, shape: Shape, elements: ArrayD<Number>) -> Known {
        Known {
            kind: self.kind,
            shape,
            elements,
        }
    }

    /// The same elements under another shape.
    pub fn reshaped(&self, shape: Shape) -> Result<Known> {
        let elements = self.elements.as_standard_layout().into_owned();
        match elements.into_shape_with_order(IxDyn(&shape.concrete(1))) {
            Ok(elements) => Ok(self.moved(shape, elements)),
            Err(_) => Err(format!("cannot reshape {} to {shape}", self.shape)),
        }
    }

    /// The numbers of a list or of a scalar.
    pub fn numbers(&self) -> Result<Vec<Number>> {
        match self.shape.0.as_slice() {
            [] | [Dim::Size(_)] => Ok(self.elements.iter().copied().collect()),
            _ => Err(format!(
                "expected a list of integers, got a tensor of shape {}",
                self.shape
            )),
        }
    }

    /// The numbers of a list or of a scalar, none of which may depend on the batch.
    pub fn fixed_numbers(&self) -> Result<Vec<i64>> {
        self.numbers()?
            .into_iter()
            .map(|number| {
                number
                    .fixed()
                    .ok_or_else(|| format!("expected a fixed number, got {number}"))
            })
            .collect()
    }

    /// Element by element with broadcasting. `function` gives `None` for what is not such a number.
    pub fn combined(
        &self,
        other: &Known,
        kind: Kind,
        function: impl Fn(Number, Number) -> Option<Number>,
    ) -> Result<Known> {
        let shape = broadcast(&[self, other])?;
        let sizes = IxDyn(&shape.concrete(1));
        let [left, right] = [self, other].map(|known| known.elements.broadcast(sizes.clone()));
        let (Some(left), Some(right)) = (left, right) else {
            return Err(format!("shapes do not broadcast to {shape}"));
        };
        let results = Zip::from(&left).and(&right).map_collect(|&a, &b| {
            function(a, b).ok_or_else(|| format!("{a} and {b} give no number that is known"))
        });
        let results: Vec<Number> = results.into_iter().collect::<Result<_>>()?;
        let elements = ArrayD::from_shape_vec(sizes, results).map_err(|error| error.to_string())?;
        Ok(Known {
            kind,
            shape,
            elements,
        })
    }

    /// Element by element. `function` gives `None` for what is not such a number.
    pub fn mapped(&self, kind: Kind, function: impl Fn(Number) -> Option<Number>) -> Result<Known> {
        let one = Known::scalar(Number::Fixed(0));
        self.combined(&one, kind, |number, _| function(number))
    }

    /// The elements stretched to that shape.
    pub fn stretched(&self, shape: &Shape) -> Result<Known> {
        let sizes = shape.concrete(1);
        check_count(&sizes)?;
        match self.elements.broadcast(IxDyn(&sizes)) {
            Some(elements) => Ok(self.moved(shape.clone(), elements.to_owned())),
            None => Err(format!(
                "shape {} does not broadcast to {shape}",
                self.shape
            )),
        }
    }
}

/// The shape that all of them broadcast to, of no more elements than are made while reading.
pub(super) fn broadcast(operands: &[&Known]) -> Result<Shape> {
    let mut shape = Shape::fixed(&[]);
    for operand in operands {
        shape = shape.broadcast(&operand.shape).ok_or_else(|| {
            let shapes = operands.iter().map(|operand| operand.shape.to_string());
            let shapes: Vec<String> = shapes.collect();
            format!("shapes {} do not broadcast", shapes.join(" and "))
        })?;
    }
    check_one_batch(&shape)?;
    check_count(&shape.concrete(1))?;
    Ok(shape)
}

/// Refuses the batch on two axes, which pairs every image with every other.
pub(super) fn check_one_batch(shape: &Shape) -> Result<()> {
    match shape.0.iter().filter(|dim| dim.is_batch()).count() {
        0 | 1 => Ok(()),
        _ => Err(format!(
            "the batch must stand on one axis, got {shape}: this mixes the images of a batch"
        )),
    }
}

/// Refuses to make more elements while reading than shapes and indices ever have.
pub(super) fn check_count(sizes: &[usize]) -> Result<()> {
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
