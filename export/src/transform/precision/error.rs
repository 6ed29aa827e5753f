//! How far a graph in a low precision is from the exact one, without any engine: the f64 interpreter rounds as the graph's types ask.

use std::collections::BTreeMap;

use ndarray::{ArrayD, Axis, IxDyn, Slice};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::Error;
use crate::graph::Graph;
use crate::graph::reference::{Rounding, evaluate_rounded};

/// Images `[n_images, extents…]` uniform in `[-1, 1]`, the same on every machine.
pub fn random_images(n_images: usize, extents: &[usize], seed: u64) -> ArrayD<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let shape = [&[n_images], extents].concat();
    ArrayD::from_shape_simple_fn(IxDyn(&shape), || f64::from(rng.random_range(-1.0f32..1.0)))
}

/// A graph in f64, the same graph in types of its own, and what of them is compared.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The graph as it should be, in f32; it is reckoned in f64.
    pub exact: Graph,
    /// The graph as it is written; it is reckoned in its own types.
    pub written: Graph,
    /// The input that takes `[N, …]`, one entry per image.
    pub input: String,
    /// The output that is compared, `[N, …]`.
    pub output: String,
    /// The values of all other inputs.
    pub others: BTreeMap<String, ArrayD<f64>>,
}

impl Comparison {
    /// Extents of one entry of the input.
    ///
    /// # Errors
    /// There is no such input.
    pub fn extents(&self) -> Result<Vec<usize>, Error> {
        let input = self.exact.input_named(&self.input)?;
        Ok(self.exact.shape(input).concrete(1).split_off(1))
    }

    /// Per image: the L2 norm of the difference of both outputs, divided by that of the exact one. Infinite where a value is not
    /// finite.
    ///
    /// # Errors
    /// The images are not `[N, …]` as the input wants them, a value is missing, or there is no such output.
    pub fn relative_errors(&self, images: &ArrayD<f64>) -> Result<Vec<f64>, Error> {
        let n_images = images.shape().first().copied().unwrap_or(0);
        let error = |n: usize| {
            let image = images.slice_axis(Axis(0), Slice::from(n..n + 1));
            let mut values = self.others.clone();
            values.insert(self.input.clone(), image.to_owned());
            let wanted = self.evaluated(&self.exact, &values, Rounding::Low)?;
            let got = self.evaluated(&self.written, &values, Rounding::All)?;
            Ok(relative_error(&got, &wanted))
        };
        (0..n_images).map(error).collect()
    }

    fn evaluated(
        &self,
        graph: &Graph,
        values: &BTreeMap<String, ArrayD<f64>>,
        rounding: Rounding,
    ) -> Result<ArrayD<f64>, Error> {
        graph.output(&self.output)?;
        let output = evaluate_rounded(graph, values, rounding)?.remove(&self.output);
        Ok(output.expect("the graph has this output"))
    }
}

fn relative_error(got: &ArrayD<f64>, wanted: &ArrayD<f64>) -> f64 {
    let norm = |array: &ArrayD<f64>| array.mapv(|value| value * value).sum().sqrt();
    let (error, size) = (norm(&(got - wanted)), norm(wanted));
    match error / size {
        _ if error == 0.0 => 0.0,
        ratio if ratio.is_finite() => ratio,
        _ => f64::INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::graph::op::{Binary, Cast};
    use crate::graph::{DType, Shape};

    /// `y = x·x`, in f16 if it is so asked.
    fn square(dtype: DType) -> Graph {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[2])).unwrap();
        let low = graph.apply("low", Cast { to: dtype }, &[x]).unwrap();
        let y = graph.apply("y", Binary::Mul, &[low, low]).unwrap();
        let y = graph.apply("single", Cast::F32, &[y]).unwrap();
        graph.set_output("y", y);
        graph
    }

    fn comparison(output: &'static str) -> Comparison {
        Comparison {
            exact: square(DType::F32),
            written: square(DType::F16),
            input: "x".to_string(),
            output: output.to_string(),
            others: BTreeMap::new(),
        }
    }

    /// 1 + 2⁻¹² rounds to 1, so that its square is off by 2⁻¹¹ + 2⁻²⁴; 300² is beyond f16.
    #[test]
    fn errors_are_relative_to_the_exact_output_of_each_image() {
        let close = 1.0 + 2f64.powi(-12);
        let images = array![[close, 0.0], [0.5, 2.0], [0.0, 0.0], [300.0, 0.0]].into_dyn();
        let errors = comparison("y").relative_errors(&images).unwrap();
        let wanted = 1.0 - 1.0 / (close * close);
        assert!((errors[0] - wanted).abs() < 1e-12, "{errors:?}");
        assert_eq!(errors[1..], [0.0, 0.0, f64::INFINITY]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let images = array![[0.0, 0.0, 0.0]].into_dyn();
        let error = |output, images| {
            let errors = comparison(output).relative_errors(&images);
            errors.unwrap_err().to_string()
        };
        assert!(error("y", images).contains("expected shape [N, 2], got [1, 3]"));
        let images = array![[0.0, 0.0]].into_dyn();
        assert!(error("z", images).contains("the graph has no output \"z\""));
    }

    #[test]
    fn random_images_are_the_same_everywhere() {
        let images = random_images(2, &[1, 2], 7);
        assert_eq!(images.shape(), [2, 1, 2]);
        assert_eq!(images, random_images(2, &[1, 2], 7));
        assert_ne!(images, random_images(2, &[1, 2], 8));
        assert!(images.iter().all(|value| (-1.0..=1.0).contains(value)));
    }
}
