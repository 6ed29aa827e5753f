//! Windows that slide over images `[N, C, H, W]`, as attributes state them; also over rows `[N, C, L]`, which are taken for images of
//! one row, and along the depth of volumes `[N, C, D, H, W]`.

use super::node::{Node, Outputs};
use super::numbers::{size_of, sizes_of};
use super::result::Result;
use crate::graph::op::{Op, Reshape};
use crate::graph::{Dim, Shape, Value};

/// What windows slide over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// `[N, C, H, W]`.
    Images,
    /// `[N, C, L]`, taken for `[N, C, 1, L]`.
    Rows,
    /// `[N, C, D, H, W]` with windows of one pixel of each slice, taken for `[N, C, D, H·W]`.
    Volumes {
        /// H.
        rows: usize,
        /// W.
        columns: usize,
    },
}

impl Layout {
    /// That of a value.
    pub fn of(node: &Node<'_, '_>, x: Value) -> Result<Layout> {
        let shape = node.shape(x);
        match shape.rank() {
            4 => Ok(Layout::Images),
            3 => Ok(Layout::Rows),
            _ => Err(format!(
                "expected images [N, C, H, W] or rows [N, C, L], got {shape}; other numbers of axes are not supported"
            )),
        }
    }

    /// That of a value with windows that have no weights, which may be a volume.
    pub fn of_pool(node: &Node<'_, '_>, x: Value) -> Result<Layout> {
        match node.shape(x).0.as_slice() {
            &[_, _, _, Dim::Size(rows), Dim::Size(columns)] => {
                Ok(Layout::Volumes { rows, columns })
            }
            _ => Layout::of(node, x),
        }
    }

    /// A value of this layout, or the weight for it, as images.
    pub fn image(self, node: &mut Node<'_, '_>, value: Value) -> Result<Value> {
        let shape = node.shape(value);
        let wanted = match self {
            Layout::Images => 4,
            Layout::Rows => 3,
            Layout::Volumes { .. } => 5,
        };
        if shape.rank() != wanted {
            return Err(format!("expected {wanted} axes, got {shape}"));
        }
        let mut image = shape;
        match self {
            Layout::Images => {}
            Layout::Rows => image.0.insert(2, Dim::Size(1)),
            Layout::Volumes { rows, columns } => {
                image.0.truncate(3);
                image.0.push(Dim::Size(rows * columns));
            }
        }
        node.seen_as("image", value, image)
    }

    /// What the shape of an image is in this layout.
    pub fn shape_of(self, mut image: Shape) -> Shape {
        match self {
            Layout::Images => {}
            Layout::Rows => {
                image.0.remove(2);
            }
            Layout::Volumes { rows, columns } => {
                image.0.truncate(3);
                image.0.extend([rows, columns].map(Dim::Size));
            }
        }
        image
    }

    /// The node's result by an operator on images.
    pub fn result(self, node: &mut Node<'_, '_>, op: impl Into<Op>, inputs: &[Value]) -> Outputs {
        if self == Layout::Images {
            return node.result(op, inputs);
        }
        let images = node.apply("images", op, inputs)?;
        let shape = self.shape_of(node.shape(images));
        node.result(Reshape { shape }, &[images])
    }

    /// One number for each axis of an image from those of this layout: that of the rows of an image of one row is `one_row`.
    fn pair(self, name: &str, numbers: &[usize], one_row: usize) -> Result<[usize; 2]> {
        match (self, numbers) {
            (Layout::Images, &[rows, columns]) => Ok([rows, columns]),
            (Layout::Rows, &[columns]) => Ok([one_row, columns]),
            (Layout::Volumes { .. }, &[depth, 1, 1]) => Ok([depth, 1]),
            (Layout::Volumes { .. }, _) => Err(format!(
                "windows of volumes are supported along their first axis only, got {name} {numbers:?}"
            )),
            _ => Err(format!(
                "expected {name} for each axis behind the channels, got {numbers:?}"
            )),
        }
    }

    /// A list with a number for each axis.
    pub fn per_axis(
        self,
        node: &Node<'_, '_>,
        name: &str,
        one_row: usize,
    ) -> Result<Option<[usize; 2]>> {
        match node.ints(name)? {
            Some(numbers) => self.pair(name, &sizes_of(&numbers)?, one_row).map(Some),
            None => Ok(None),
        }
    }

    /// Pads: top, left, bottom, right.
    fn pads(self, node: &Node<'_, '_>) -> Result<[usize; 4]> {
        let Some(pads) = node.ints("pads")? else {
            return Ok([0; 4]);
        };
        match (self, sizes_of(&pads)?.as_slice()) {
            (Layout::Images, &[top, left, bottom, right]) => Ok([top, left, bottom, right]),
            (Layout::Rows, &[left, right]) => Ok([0, left, 0, right]),
            (Layout::Volumes { .. }, &[front, 0, 0, back, 0, 0]) => Ok([front, 0, back, 0]),
            _ => Err(format!(
                "expected two pads for each axis behind the channels, got {pads:?}"
            )),
        }
    }
}

/// How pads are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Padding {
    /// They are given: top, left, bottom, right.
    Given([usize; 4]),
    /// There are as many windows as strides in the image, and a pad that has no partner is behind.
    SameUpper,
    /// As before, but it is before.
    SameLower,
}

impl Padding {
    /// As attributes say it.
    pub fn read(node: &Node<'_, '_>, layout: Layout) -> Result<Padding> {
        let pads = layout.pads(node)?;
        match node.text("auto_pad")?.as_deref() {
            None | Some("NOTSET") => Ok(Padding::Given(pads)),
            Some("VALID") => Ok(Padding::Given([0; 4])),
            Some("SAME_UPPER") => Ok(Padding::SameUpper),
            Some("SAME_LOWER") => Ok(Padding::SameLower),
            Some(other) => Err(format!("auto_pad {other:?} is not supported")),
        }
    }

    /// Before and behind, of that many pads in all.
    pub fn divided(self, total: usize) -> [usize; 2] {
        let less = total / 2;
        match self {
            Padding::SameUpper => [less, total - less],
            Padding::SameLower | Padding::Given(_) => [total - less, less],
        }
    }
}

/// Windows over an image.
#[derive(Clone, Debug)]
pub(super) struct Windows {
    /// Rows and columns of a window.
    pub kernel: [usize; 2],
    /// Step between windows.
    pub strides: [usize; 2],
    /// Distance between pixels of a window.
    pub dilations: [usize; 2],
    /// Padding: top, left, bottom, right.
    pub pads: [usize; 4],
}

impl Windows {
    /// As attributes say it, over an image of those extents. The kernel is that of the weight, if there is one.
    pub fn read(
        node: &Node<'_, '_>,
        layout: Layout,
        image: [usize; 2],
        weight: Option<[usize; 2]>,
    ) -> Result<Windows> {
        let stated = layout.per_axis(node, "kernel_shape", 1)?;
        let kernel = match (stated, weight) {
            (Some(stated), Some(weight)) if stated != weight => {
                return Err(format!(
                    "its kernel_shape is {stated:?}, but that of its weight {weight:?}"
                ));
            }
            (_, Some(kernel)) | (Some(kernel), None) => kernel,
            (None, None) => return Err("its kernel_shape is missing".to_string()),
        };
        let strides = layout.per_axis(node, "strides", 1)?.unwrap_or([1, 1]);
        let dilations = layout.per_axis(node, "dilations", 1)?.unwrap_or([1, 1]);
        if [kernel, strides, dilations].concat().contains(&0) {
            return Err("kernel, strides and dilations must be at least 1".to_string());
        }
        let padding = Padding::read(node, layout)?;
        let mut windows = Windows {
            kernel,
            strides,
            dilations,
            pads: [0; 4],
        };
        match padding {
            Padding::Given(pads) => windows.pads = pads,
            same => {
                for (axis, extent) in image.into_iter().enumerate() {
                    let stride = windows.strides[axis];
                    let last = extent.div_ceil(stride).saturating_sub(1) * stride;
                    let total = (last + windows.reach(axis)).saturating_sub(extent);
                    let [before, behind] = same.divided(total);
                    windows.pads[axis] = before;
                    windows.pads[axis + 2] = behind;
                }
            }
        }
        Ok(windows)
    }

    /// Pixels from the first to the last of a window.
    pub fn reach(&self, axis: usize) -> usize {
        self.dilations[axis] * (self.kernel[axis] - 1) + 1
    }
}

/// Rows and columns of images; 1 along the batch, where a window has to be of one pixel.
pub(super) fn extents(shape: &Shape) -> Result<[usize; 2]> {
    let extent = |dim: &Dim| match dim {
        Dim::Size(size) => *size,
        Dim::Batch { .. } => 1,
    };
    match shape.0.as_slice() {
        [_, _, rows, columns] => Ok([extent(rows), extent(columns)]),
        _ => Err(format!("expected images [N, C, H, W], got {shape}")),
    }
}

/// A number of groups.
pub(super) fn groups(node: &Node<'_, '_>) -> Result<usize> {
    size_of(node.int("group")?.unwrap_or(1))
}
