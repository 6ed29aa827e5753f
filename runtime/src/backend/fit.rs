//! Whether a model, and what goes in and out of it, is what its contract says: every engine asks that.

use super::{Backend, Output};
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

/// The error of a backend that does not take a model. Its cause is to be added.
pub(super) fn cannot_run(backend: &Backend, model: &Model) -> Error {
    let problem = format!("the backend `{backend}` cannot run the model");
    Error::new(ErrorKind::Backend, problem).at_path(model.path())
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

#[cfg(any(feature = "rten", feature = "tract", feature = "ort"))]
pub(super) fn copy_output(output: &mut Output<'_>, shape: &[usize], values: &[f32]) -> Result<()> {
    check_output(output, shape)?;
    output.values.copy_from_slice(values);
    Ok(())
}
