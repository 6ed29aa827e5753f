//! What can be done with a tensor on its way from a file to a weight.

use serde::{Deserialize, Serialize};

use crate::graph::tensor::Tensor;

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// Divides by the spectral norm.
    SpectralNorm(SpectralNorm),
    /// Keeps indices of the first axis, from the first number up to the second without it.
    Rows([usize; 2]),
    /// The same elements in row-major order, in another shape.
    Reshape(Vec<usize>),
    /// Axes in another order: axis i of the result is axis `axes[i]` of the tensor.
    Transpose(Vec<usize>),
    /// Multiplies by a number.
    Scale(f64),
}

/// The names of the vectors from which the spectral norm of a weight W, seen as a matrix of its rows, is reckoned: `σ = u·W·v`.
/// Without v, `v = uᵀW/‖uᵀW‖` and `σ = ‖W·v‖`, one step of the power iteration, as layers do that keep u alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpectralNorm {
    /// Name of u, of as many elements as W has rows.
    pub u: String,
    /// Name of v, of as many elements as W has columns.
    pub v: Option<String>,
}

impl Step {
    /// The names of further tensors that it takes.
    pub(super) fn names(&self) -> Vec<&str> {
        match self {
            Step::SpectralNorm(norm) => std::iter::once(&norm.u)
                .chain(&norm.v)
                .map(String::as_str)
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The tensor behind the step, given those that [`Step::names`] names.
    pub(super) fn applied(&self, tensor: &Tensor, named: &[Tensor]) -> Result<Tensor, String> {
        match self {
            Step::SpectralNorm(_) => normalised(tensor, named),
            Step::Rows([start, end]) => rows(tensor, *start, *end),
            Step::Reshape(sizes) => reshaped(tensor, sizes),
            Step::Transpose(axes) => transposed(tensor, axes),
            Step::Scale(factor) => Ok(scaled(tensor, *factor)),
        }
    }
}

fn scaled(tensor: &Tensor, factor: f64) -> Tensor {
    let product = |&value: &f32| (f64::from(value) * factor) as f32;
    Tensor::new(tensor.shape(), tensor.data().iter().map(product).collect())
}

fn normalised(tensor: &Tensor, vectors: &[Tensor]) -> Result<Tensor, String> {
    let n_rows = tensor.shape().first().copied().unwrap_or(1);
    let n_columns = tensor.data().len().checked_div(n_rows).unwrap_or(0);
    let lengths = [n_rows, n_columns];
    if let Some((vector, length)) =
        std::iter::zip(vectors, lengths).find(|(vector, length)| vector.data().len() != *length)
    {
        return Err(format!(
            "expected a vector of {length} elements for the spectral norm of a tensor of shape {:?}, got shape {:?}",
            tensor.shape(),
            vector.shape()
        ));
    }
    let sigma = spectral_norm(tensor, n_columns, vectors);
    if sigma.is_finite() && sigma > 0.0 {
        return Ok(scaled(tensor, 1.0 / sigma));
    }
    Err(format!("its spectral norm must be positive, got {sigma}"))
}

fn spectral_norm(tensor: &Tensor, n_columns: usize, vectors: &[Tensor]) -> f64 {
    let doubles = |vector: &Tensor| {
        vector
            .data()
            .iter()
            .map(|&x| f64::from(x))
            .collect::<Vec<_>>()
    };
    let norm = |vector: &[f64]| vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    let rows = || tensor.data().chunks(n_columns.max(1));
    let times = |v: &[f64]| -> Vec<f64> {
        let product = |row: &[f32]| row.iter().zip(v).map(|(&w, v)| f64::from(w) * v).sum();
        rows().map(product).collect()
    };
    let u = doubles(&vectors[0]);
    match vectors.get(1) {
        Some(v) => times(&doubles(v))
            .iter()
            .zip(&u)
            .map(|(wv, u)| wv * u)
            .sum(),
        None => {
            let mut v = vec![0.0; n_columns];
            for (row, u) in rows().zip(&u) {
                v.iter_mut()
                    .zip(row)
                    .for_each(|(v, &w)| *v += u * f64::from(w));
            }
            let length = norm(&v);
            v.iter_mut().for_each(|v| *v /= length);
            norm(&times(&v))
        }
    }
}

fn rows(tensor: &Tensor, start: usize, end: usize) -> Result<Tensor, String> {
    let shape = tensor.shape();
    match shape {
        [n_rows, rest @ ..] if start < end && end <= *n_rows => {
            let length: usize = rest.iter().product();
            let sizes = [&[end - start], rest].concat();
            Ok(Tensor::new(
                &sizes,
                tensor.data()[start * length..end * length].to_vec(),
            ))
        }
        _ => Err(format!(
            "expected rows within shape {shape:?}, got {start} to {end}"
        )),
    }
}

fn reshaped(tensor: &Tensor, sizes: &[usize]) -> Result<Tensor, String> {
    let count = sizes
        .iter()
        .try_fold(1usize, |count, &size| count.checked_mul(size));
    if count != Some(tensor.data().len()) {
        let shape = tensor.shape();
        return Err(format!(
            "cannot give a tensor of shape {shape:?} the shape {sizes:?}"
        ));
    }
    Ok(Tensor::new(sizes, tensor.data().to_vec()))
}

fn transposed(tensor: &Tensor, axes: &[usize]) -> Result<Tensor, String> {
    let shape = tensor.shape();
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(0..shape.len()) {
        return Err(format!(
            "expected each of the {} axes of shape {shape:?} once, got {axes:?}",
            shape.len()
        ));
    }
    let view = ndarray::ArrayView::from_shape(shape, tensor.data())
        .expect("a tensor has as many elements as its shape says")
        .permuted_axes(axes);
    let data = view.iter().copied().collect();
    Ok(Tensor::new(view.shape(), data))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix() -> Tensor {
        Tensor::new(&[2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    }

    #[test]
    fn known_values() {
        for (step, wanted) in [
            (
                Step::Rows([1, 2]),
                Tensor::new(&[1, 3], vec![4.0, 5.0, 6.0]),
            ),
            (
                Step::Reshape(vec![6]),
                Tensor::new(&[6], matrix().data().to_vec()),
            ),
            (
                Step::Transpose(vec![1, 0]),
                Tensor::new(&[3, 2], vec![1.0, 4.0, 2.0, 5.0, 3.0, 6.0]),
            ),
            (
                Step::Scale(-2.0),
                Tensor::new(&[2, 3], vec![-2.0, -4.0, -6.0, -8.0, -10.0, -12.0]),
            ),
        ] {
            assert_eq!(step.applied(&matrix(), &[]).unwrap(), wanted, "{step:?}");
        }
    }

    /// diag(3, 2) has the norm 3: found by u = v = (1, 0), and by one step of the power iteration from there.
    #[test]
    fn the_spectral_norm_of_a_diagonal_is_its_largest_element() {
        let tensor = Tensor::new(&[2, 2, 1], vec![3.0, 0.0, 0.0, 2.0]);
        let first = Tensor::new(&[1, 2], vec![1.0, 0.0]);
        let norm = |v: Option<&str>| {
            Step::SpectralNorm(SpectralNorm {
                u: "u".to_string(),
                v: v.map(str::to_string),
            })
        };
        let both = [first.clone(), first.clone()];
        for (step, vectors) in [(norm(Some("v")), &both[..]), (norm(None), &both[..1])] {
            let result = step.applied(&tensor, vectors).unwrap();
            assert_eq!(result.data(), [1.0, 0.0, 0.0, 2.0 / 3.0]);
        }
        // u = (1, 1): v = (3, 2)/√13 and σ = ‖(9, 4)‖/√13.
        let ones = Tensor::new(&[2], vec![1.0, 1.0]);
        let result = norm(None).applied(&tensor, &[ones]).unwrap();
        let sigma = (97.0f64 / 13.0).sqrt();
        assert!((f64::from(result.data()[0]) - 3.0 / sigma).abs() < 1e-6);
    }

    #[test]
    fn steps_that_do_not_fit_are_refused() {
        let norm = Step::SpectralNorm(SpectralNorm {
            u: "u".to_string(),
            v: None,
        });
        let vector = |values: &[f32]| Tensor::new(&[values.len()], values.to_vec());
        for (step, vectors, wanted) in [
            (
                Step::Rows([1, 3]),
                vec![],
                "expected rows within shape [2, 3], got 1 to 3",
            ),
            (
                Step::Reshape(vec![7]),
                vec![],
                "cannot give a tensor of shape [2, 3] the shape [7]",
            ),
            (
                Step::Transpose(vec![0, 0]),
                vec![],
                "expected each of the 2 axes",
            ),
            (
                norm.clone(),
                vec![vector(&[1.0])],
                "expected a vector of 2 elements",
            ),
            (
                norm,
                vec![vector(&[0.0, 0.0])],
                "its spectral norm must be positive, got NaN",
            ),
        ] {
            let error = step.applied(&matrix(), &vectors).unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
