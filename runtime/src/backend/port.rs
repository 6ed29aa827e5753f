//! The inputs and outputs of a model that is planned for one image and run on many.

use super::Input;
use super::fit::check_names;
use crate::error::{Error, ErrorKind, Result};

/// An input or output of a model that is planned: its shape for one image, and the axis of a batch of any size.
pub(super) struct Port {
    pub name: String,
    pub extents: Vec<usize>,
    pub batch_axis: Option<usize>,
}

impl Port {
    /// A port of these sizes. One of them may be free, and becomes 1.
    #[cfg(any(feature = "rten", feature = "tract"))]
    pub fn planned(
        name: String,
        sizes: impl Iterator<Item = Option<usize>>,
    ) -> Result<Self, String> {
        let (mut extents, mut batch_axis) = (Vec::new(), None);
        for (axis, size) in sizes.enumerate() {
            if size.is_none() && batch_axis.replace(axis).is_some() {
                return Err(format!(
                    "more than one dimension of the input `{name}` is not fixed, dimension {axis} among them"
                ));
            }
            extents.push(size.unwrap_or(1));
        }
        Ok(Self {
            name,
            extents,
            batch_axis,
        })
    }

    /// The shape, without the size of a free batch.
    pub fn declared(&self) -> Vec<Option<usize>> {
        let sizes = self.extents.iter().enumerate();
        let fixed = |(axis, &size)| (self.batch_axis != Some(axis)).then_some(size);
        sizes.map(fixed).collect()
    }

    fn n_images(&self, shape: &[usize]) -> Option<usize> {
        let axis = self.batch_axis?;
        Some(shape.get(axis)? / self.extents[axis])
    }

    pub fn shape(&self, n_images: usize) -> Vec<usize> {
        let mut shape = self.extents.clone();
        if let Some(axis) = self.batch_axis {
            shape[axis] *= n_images;
        }
        shape
    }
}

pub(super) fn names(ports: &[Port]) -> Vec<String> {
    ports.iter().map(|port| port.name.clone()).collect()
}

/// The inputs in the order of the ports, and their number of images. Names and shapes are checked.
pub(super) fn order<'p, 'i>(
    ports: &'p [Port],
    inputs: &[Input<'i>],
) -> Result<(Vec<(&'p Port, Input<'i>)>, usize)> {
    let is_unknown = |input: &Input<'_>| ports.iter().all(|port| port.name != input.name);
    if let Some(unknown) = inputs.iter().find(|input| is_unknown(input)) {
        check_names("input", &[unknown.name], &names(ports))?;
    }
    let ordered = ports.iter().map(|port| {
        let found = inputs.iter().find(|input| input.name == port.name);
        found.map(|input| (port, *input)).ok_or_else(|| {
            Error::new(ErrorKind::Backend, "the model wants one more input").at_tensor(&port.name)
        })
    });
    let ordered = ordered.collect::<Result<Vec<_>>>()?;
    let mut told = ordered.iter();
    let n_images = told.find_map(|(port, input)| port.n_images(input.shape));
    let n_images = n_images.unwrap_or(1);
    for (port, input) in &ordered {
        let shape = port.shape(n_images);
        if shape != input.shape || input.values.len() != shape.iter().product::<usize>() {
            let problem = "an input has another shape than the model's";
            return Err(Error::new(ErrorKind::Shape, problem)
                .at_tensor(input.name)
                .expected(format!("{shape:?}"))
                .but_got(format!("{:?}", input.shape)));
        }
    }
    Ok((ordered, n_images))
}
