//! Whether a model, and what goes in and out of it, is what its contract says: every engine asks that.

use super::{Input, Output};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Model;

const EXPORT_AGAIN: &str = "the file does not keep to its contract: export it again";

/// The places of the wanted names among those that are there.
pub(super) fn check_names(kind: &str, wanted: &[&str], there: &[String]) -> Result<Vec<usize>> {
    let place = |name: &&str| {
        there.iter().position(|other| other == name).ok_or_else(|| {
            Error::new(ErrorKind::Backend, format!("the model has no such {kind}"))
                .at_tensor(*name)
                .expected(format!("one of the model's: {}", there.join(", ")))
                .advise(EXPORT_AGAIN)
        })
    };
    wanted.iter().map(place).collect()
}

/// Advice for a model that one engine cannot run and another may. Types lower than f32 are what engines most often lack.
pub(super) fn how_to_run(model: &Model, other_backend: &str) -> String {
    match model.contract().precision.as_deref() {
        None | Some("f32") => format!("export it again, or use the backend `{other_backend}`"),
        Some(precision) => format!(
            "it works in {precision}, which few engines take on a CPU: export it with `--precision f32`"
        ),
    }
}

/// Returns Ok if the declared shape of the input `x` is that of the contract; sizes that are not fixed are `None`.
pub(super) fn check_image(model: &Model, declared: &[Option<usize>]) -> Result<()> {
    let image = model.contract().image;
    let expected = [
        model.contract().batch,
        Some(image.channels),
        Some(image.height),
        Some(image.width),
    ];
    let fits = |(declared, expected): (&Option<usize>, Option<usize>)| {
        declared.is_none() || expected.is_none() || *declared == expected
    };
    if declared.len() == 4 && declared.iter().zip(expected).all(fits) {
        return Ok(());
    }
    let show = |sizes: &[Option<usize>]| {
        let sizes: Vec<_> = sizes
            .iter()
            .map(|size| size.map_or("N".into(), |size| size.to_string()))
            .collect();
        format!("[{}]", sizes.join(", "))
    };
    Err(Error::new(
        ErrorKind::Shape,
        "the model's input has another shape than its contract says",
    )
    .at_path(model.path())
    .at_tensor("x")
    .expected(show(&expected))
    .but_got(show(declared))
    .advise(EXPORT_AGAIN))
}

/// An input or output of a model that is planned: its shape for one image, and the axis of a batch of any size.
#[cfg(any(feature = "native", feature = "tract"))]
pub(super) struct Port {
    pub name: String,
    pub extents: Vec<usize>,
    pub batch_axis: Option<usize>,
}

#[cfg(any(feature = "native", feature = "tract"))]
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

#[cfg(any(feature = "native", feature = "tract"))]
pub(super) fn names(ports: &[Port]) -> Vec<String> {
    ports.iter().map(|port| port.name.clone()).collect()
}

/// The inputs in the order of the ports, without that at `without`, and their number of images. Names and shapes are checked.
#[cfg(any(feature = "native", feature = "tract"))]
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

/// Returns Ok if a result of this shape is what was asked for.
pub(super) fn check_output(output: &Output<'_>, shape: &[usize]) -> Result<()> {
    if shape == output.shape && output.values.len() == shape.iter().product::<usize>() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Shape, "an output has a wrong shape")
        .at_tensor(output.name)
        .expected(format!("{:?}", output.shape))
        .but_got(format!("{shape:?}"))
        .advise(EXPORT_AGAIN))
}

#[cfg(any(feature = "tract", feature = "ort"))]
pub(super) fn copy_output(output: &mut Output<'_>, shape: &[usize], values: &[f32]) -> Result<()> {
    check_output(output, shape)?;
    output.values.copy_from_slice(values);
    Ok(())
}
