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

/// The inputs in the order of the ports, without that at `without`, and their number of images. Names and shapes are checked.
pub(super) fn order<'p, 'i>(
    ports: &'p [Port],
    inputs: &[Input<'i>],
    without: Option<usize>,
) -> Result<(Vec<(&'p Port, Input<'i>)>, usize)> {
    let is_unknown = |input: &Input<'_>| ports.iter().all(|port| port.name != input.name);
    if let Some(unknown) = inputs.iter().find(|input| is_unknown(input)) {
        check_names("input", &[unknown.name], &names(ports))?;
    }
    let wanted = (0..)
        .zip(ports)
        .filter(|(place, _)| Some(*place) != without);
    let ordered = wanted.map(|(_, port)| {
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
