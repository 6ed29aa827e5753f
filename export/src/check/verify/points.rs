//! Where files are evaluated.

use ndarray::{ArrayD, Axis, IxDyn};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::claims::{Claims, Outputs};
use super::function::{Function, Point};
use crate::error::{Error, Result};

/// ε and T where the file does not recommend any.
const DYNAMICS: [f64; 2] = [0.1, 1.0];

/// Images, one point each, and random values for what else the file takes.
///
/// `images` are the first ones of `[n, …]`; without them they are uniform in `[-1, 1]`, as other inputs are. Noise and v have zero mean and unit variance;
/// ε and T are those that the file recommends for purification.
///
/// # Errors
/// The images are not those of the file's input.
pub fn points(
    claims: &Claims,
    images: Option<&ArrayD<f64>>,
    count: usize,
    seed: u64,
) -> Result<Vec<Point>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let count = match images {
        Some(images) => count.min(images.shape().first().copied().unwrap_or(0)),
        None => count,
    };
    let mut points = Vec::new();
    for index in 0..count {
        let mut point = random_point(claims, &mut rng);
        if let Some(images) = images {
            let image = images.index_axis(Axis(0), index).insert_axis(Axis(0));
            let random = point.insert(claims.input.clone(), image.to_owned());
            let wanted = random.as_ref().map_or(&[][..], ArrayD::shape);
            if image.shape() != wanted {
                return Err(Error::Onnx(format!(
                    "expected images of shape {:?}, got {:?}",
                    wanted.get(1..).unwrap_or_default(),
                    &images.shape()[1..]
                )));
            }
        }
        points.push(point);
    }
    match points.is_empty() {
        true => Err(Error::Onnx("there are no images to look at".to_string())),
        false => Ok(points),
    }
}

fn random_point(claims: &Claims, rng: &mut ChaCha8Rng) -> Point {
    let is_step = matches!(claims.outputs, Outputs::Steps(_));
    let has_potential = claims.contract.as_ref();
    let has_potential = has_potential.is_some_and(|contract| contract.potential.is_some());
    let [step_size, temperature] = dynamics(claims);
    let mut point = Point::new();
    let graphs = claims.outputs.all().into_iter().map(Function::graph);
    let inputs = graphs.flat_map(|graph| graph.inputs().map(|input| graph.node(input)));
    for node in inputs {
        if point.contains_key(&node.name) {
            continue;
        }
        let sizes = node.value_type.shape.concrete(1);
        let array = match node.name.as_str() {
            "noise" if is_step => spread(&sizes, rng),
            "step_size" if is_step => ArrayD::from_elem(IxDyn(&sizes), step_size),
            "temperature" if is_step || has_potential => {
                ArrayD::from_elem(IxDyn(&sizes), temperature)
            }
            name if name == claims.v => spread(&sizes, rng),
            _ if node.value_type.dtype.is_float() => uniform(&sizes, 1.0, rng),
            // Every label has these two, and so has every boolean.
            _ => ArrayD::from_shape_fn(IxDyn(&sizes), |_| f64::from(rng.random_range(0..2u8))),
        };
        point.insert(node.name.clone(), array);
    }
    // A product that is 0 everywhere needs no v.
    if let (Outputs::Product { .. }, Some(x)) = (&claims.outputs, point.get(&claims.input)) {
        let sizes = x.shape().to_vec();
        let v = point.entry(claims.v.clone());
        v.or_insert_with(|| spread(&sizes, rng));
    }
    point
}

/// ε and T that the file recommends.
fn dynamics(claims: &Claims) -> [f64; 2] {
    let contract = claims.contract.as_ref();
    match contract.and_then(|contract| contract.purification.as_ref()) {
        Some(recommended) => [recommended.step_size, recommended.temperature],
        None => DYNAMICS,
    }
}

/// Random numbers of zero mean and unit variance.
pub fn spread(sizes: &[usize], rng: &mut ChaCha8Rng) -> ArrayD<f64> {
    uniform(sizes, 3.0_f64.sqrt(), rng)
}

fn uniform(sizes: &[usize], bound: f64, rng: &mut ChaCha8Rng) -> ArrayD<f64> {
    ArrayD::from_shape_fn(IxDyn(sizes), |_| rng.random_range(-bound..bound))
}
