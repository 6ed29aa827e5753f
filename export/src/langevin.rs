//! The Langevin step as a graph.

use crate::error::Error;
use crate::graph::{Dim, Graph, Shape, Value};
use crate::op::{Binary, KeepDims, Reduce, ReduceKind, Reshape, Unary};

/// From a graph with input `x [N, C, H, W]` and outputs `energy [N]` and `gradient [N, C, H, W]` to one step of
/// Langevin dynamics, `x_next = x − (ε²/(2T))·∇E(x) + ε·noise`.
///
/// Further inputs: `noise [N, C, H, W]` (standard normal), `step_size []` (ε > 0) and `temperature []` (T > 0), which the graph of a
/// [`Potential`](crate::potential::Potential) has already. Outputs: `x_next [N, C, H, W]`, `energy [N]` at x, and
/// `gradient_norm [N]`, the L2 norm of the gradient at x per image.
///
/// # Errors
/// The graph lacks one of those inputs or outputs, or has an input `noise` or `step_size` already.
pub fn step_graph(gradient_graph: &Graph) -> Result<Graph, Error> {
    clipped_step_graph(gradient_graph, None)
}

/// [`step_graph`] whose drift, `(ε²/(2T))·∇E(x)`, is shortened to the L2 norm `clip` in those images in which it is longer.
///
/// # Errors
/// As [`step_graph`].
pub fn clipped_step_graph(gradient_graph: &Graph, clip: Option<f32>) -> Result<Graph, Error> {
    let mut graph = gradient_graph.clone();
    let [x, energy, gradient] = [
        graph.input_named("x")?,
        graph.output("energy")?,
        graph.output("gradient")?,
    ];
    let noise = graph.input("noise", graph.shape(x).clone())?;
    let step_size = graph.input("step_size", Shape::fixed(&[]))?;
    let temperature = match graph.input_named("temperature") {
        Ok(of_the_potential) => of_the_potential,
        Err(_) => graph.input("temperature", Shape::fixed(&[]))?,
    };

    let two = graph.scalar("step.two", 2.0);
    let variance = graph.apply("step.variance", Binary::Mul, &[step_size, step_size])?;
    let twice_temperature =
        graph.apply("step.twice_temperature", Binary::Mul, &[temperature, two])?;
    let rate = graph.apply("step.rate", Binary::Div, &[variance, twice_temperature])?;
    let norm = norm_per_image(&mut graph, gradient)?;
    let rate = match clip {
        Some(clip) => clipped(&mut graph, rate, norm, gradient, clip)?,
        None => rate,
    };
    let drift = graph.apply("step.drift", Binary::Mul, &[gradient, rate])?;
    let descended = graph.apply("step.descended", Binary::Sub, &[x, drift])?;
    let diffusion = graph.apply("step.diffusion", Binary::Mul, &[noise, step_size])?;
    let x_next = graph.apply("step.x_next", Binary::Add, &[descended, diffusion])?;

    graph.remove_output("energy");
    graph.remove_output("gradient");
    graph.set_output("x_next", x_next);
    graph.set_output("energy", energy);
    graph.set_output("gradient_norm", norm);
    graph.rebuild(|_, _, _| Ok(None))
}

/// The L2 norm of each image: `[N, C, H, W] → [N]`.
fn norm_per_image(graph: &mut Graph, images: Value) -> Result<Value, Error> {
    let square = graph.apply("step.square", Binary::Mul, &[images, images])?;
    let sum = Reduce {
        kind: ReduceKind::Sum,
        axes: (1..graph.shape(images).rank()).collect(),
        keep_dims: KeepDims::No,
    };
    let square_norm = graph.apply("step.square_norm", sum, &[square])?;
    graph.apply("step.norm", Unary::Sqrt, &[square_norm])
}

/// The rate of each image, `[N, 1, 1, 1]`: `rate · min(1, clip / (rate · norm))`, which is `rate` where the norm is zero.
fn clipped(
    graph: &mut Graph,
    rate: Value,
    norm: Value,
    images: Value,
    clip: f32,
) -> Result<Value, Error> {
    let [one, clip] = [1.0, clip].map(|value| graph.scalar("step.clip", value));
    let length = graph.apply("step.length", Binary::Mul, &[norm, rate])?;
    let share = graph.apply("step.share", Binary::Div, &[clip, length])?;
    let share = graph.apply("step.share", Binary::Min, &[share, one])?;
    let rate = graph.apply("step.clipped", Binary::Mul, &[share, rate])?;
    let mut shape = Shape(vec![Dim::BATCH]);
    shape.0.resize(graph.shape(images).rank(), Dim::Size(1));
    graph.apply("step.clipped", Reshape { shape }, &[rate])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ndarray::{ArrayD, IxDyn, array};

    use super::*;
    use crate::gradient::gradient;
    use crate::reference::evaluate;

    /// E(x) = Σ x²/2.
    fn quadratic() -> Graph {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[2])).unwrap();
        let half = graph.scalar("half", 0.5);
        let square = graph.apply("square", Binary::Mul, &[x, x]).unwrap();
        let halved = graph.apply("halved", Binary::Mul, &[square, half]).unwrap();
        let sum = Reduce {
            kind: ReduceKind::Sum,
            axes: vec![1],
            keep_dims: KeepDims::No,
        };
        let energy = graph.apply("sum", sum, &[halved]).unwrap();
        graph.set_output("energy", energy);
        gradient(&graph, "energy", "x").unwrap()
    }

    /// ∇E = x: the step is `x (1 − ε²/(2T)) + ε·noise`, the norm that of x.
    #[test]
    fn a_step_on_a_quadratic_energy_has_its_closed_form() {
        let step = step_graph(&quadratic()).unwrap();
        let (epsilon, temperature) = (0.3, 0.5);
        let scalar = |value: f64| ArrayD::from_elem(IxDyn(&[]), value);
        let (x, noise) = (
            array![[3.0, -4.0]].into_dyn(),
            array![[1.0, 2.0]].into_dyn(),
        );
        let values = BTreeMap::from([
            ("x".to_string(), x.clone()),
            ("noise".to_string(), noise.clone()),
            ("step_size".to_string(), scalar(epsilon)),
            ("temperature".to_string(), scalar(temperature)),
        ]);
        let outputs = evaluate(&step, &values).unwrap();
        let wanted = &x * (1.0 - epsilon * epsilon / (2.0 * temperature)) + &noise * epsilon;
        assert!(
            (&outputs["x_next"] - &wanted)
                .iter()
                .all(|error| error.abs() < 1e-12)
        );
        assert_eq!(outputs["energy"], array![12.5].into_dyn());
        assert_eq!(outputs["gradient_norm"], array![5.0].into_dyn());
    }

    /// With ε = T = 1 and no noise the drift is x/2: of norm 2.5, 0.5 and 0, of which a clip of 1 shortens the first.
    #[test]
    fn a_drift_is_clipped_per_image() {
        let step = clipped_step_graph(&quadratic(), Some(1.0)).unwrap();
        let one = ArrayD::from_elem(IxDyn(&[]), 1.0);
        let x = array![[3.0, -4.0], [0.6, -0.8], [0.0, 0.0]].into_dyn();
        let values = BTreeMap::from([
            ("x".to_string(), x.clone()),
            ("noise".to_string(), &x * 0.0),
            ("step_size".to_string(), one.clone()),
            ("temperature".to_string(), one),
        ]);
        let outputs = evaluate(&step, &values).unwrap();
        let wanted = array![[3.0 - 0.6, -4.0 + 0.8], [0.3, -0.4], [0.0, 0.0]].into_dyn();
        let difference = &outputs["x_next"] - &wanted;
        assert!(difference.iter().all(|error| error.abs() < 1e-12));
        assert_eq!(outputs["gradient_norm"], array![5.0, 1.0, 0.0].into_dyn());
    }
}
