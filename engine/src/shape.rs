//! Shapes of one image's part of a value.
//!
//! Files hold values of N images. The engine keeps the parts of an image together, wherever N stands, so that a plan is made for one image and runs for
//! any number of them. A value `[3, N, 8]` has the extents `[3, 1, 8]` here, and N at axis 1.

/// Where N stands in a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// The axis that grows with N.
    pub axis: usize,
    /// Elements of an image over which N is repeated: element `i` of image `n` of N has the place `(i / rest · N + n) · rest + i % rest` in the file's
    /// layout, `rest` being the number of elements divided by this.
    pub before: usize,
}

/// The extents of one image's part, and where N stands; `None` for what all images share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub extents: Vec<usize>,
    pub batch: Option<Batch>,
}

/// The product of extents; files that were made to do harm have such that do not fit.
pub(crate) fn product(extents: &[usize]) -> usize {
    extents
        .iter()
        .fold(1, |product, &extent| product.saturating_mul(extent))
}

impl Shape {
    pub fn shared(extents: Vec<usize>) -> Self {
        Self {
            extents,
            batch: None,
        }
    }

    pub fn rank(&self) -> usize {
        self.extents.len()
    }

    pub fn n_elements(&self) -> usize {
        product(&self.extents)
    }

    pub fn batch_axis(&self) -> Option<usize> {
        self.batch.map(|batch| batch.axis)
    }

    /// Other extents with N at the axis to which `moved` takes it. Axes before it must keep their product.
    pub fn with_extents(&self, extents: Vec<usize>, moved: impl Fn(usize) -> usize) -> Self {
        let batch = self.batch.map(|batch| {
            let axis = moved(batch.axis);
            let outer = batch.before / product(&self.extents[..batch.axis]).max(1);
            let before = product(&extents[..axis]).saturating_mul(outer);
            Batch { axis, before }
        });
        Self { extents, batch }
    }

    /// The shape to which all of them broadcast.
    pub fn broadcast<'a>(shapes: impl Iterator<Item = &'a Shape> + Clone) -> Result<Self, String> {
        let rank = shapes.clone().map(Shape::rank).max().unwrap_or(0);
        let mut extents = vec![1; rank];
        let mut batch: Option<usize> = None;
        for shape in shapes.clone() {
            let missing = rank - shape.rank();
            for (axis, &extent) in shape.extents.iter().enumerate() {
                let common = &mut extents[missing + axis];
                if *common != extent && *common != 1 && extent != 1 {
                    return Err(format!(
                        "extents {extent} and {common} of axis {axis} do not broadcast"
                    ));
                }
                *common = (*common).max(extent);
            }
            if let Some(axis) = shape.batch_axis().map(|axis| axis + missing) {
                if batch.is_some_and(|other| other != axis) {
                    return Err("it mixes the images of a batch".to_string());
                }
                batch = Some(axis);
            }
        }
        let mut inner = shapes.filter_map(|shape| {
            let batch = shape.batch?;
            Some(batch.before / product(&shape.extents[..batch.axis]).max(1))
        });
        let outer = inner.next().unwrap_or(1);
        if inner.any(|other| other != outer) {
            return Err("it mixes the images of a batch".to_string());
        }
        let batch = batch.map(|axis| Batch {
            axis,
            before: product(&extents[..axis]).saturating_mul(outer),
        });
        Ok(Self { extents, batch })
    }

    /// Distances between neighbours along each axis, in standard layout.
    pub fn strides(&self) -> Vec<usize> {
        let mut strides = vec![1; self.rank()];
        for axis in (1..self.rank()).rev() {
            strides[axis - 1] = strides[axis] * self.extents[axis];
        }
        strides
    }
}
