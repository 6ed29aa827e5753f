//! The Langevin step as a graph.

use crate::error::Error;
use crate::graph::{Graph, Shape};
use crate::op::{Binary, KeepDims, Reduce, ReduceKind, Unary};

/// From a graph with input `x [N, C, H, W]` and outputs `energy [N]` and `gradient [N, C, H, W]` to one step of
/// Langevin dynamics, `x_next = x − (ε²/(2T))·∇E(x) + ε·noise`.
///
/// Further inputs: `noise [N, C, H, W]` (standard normal), `step_size []` (ε > 0) and `temperature []` (T > 0). Outputs:
/// `x_next [N, C, H, W]`, `energy [N]` at x, and `gradient_norm [N]`, the L2 norm of ∇E(x) per image.
///
/// # Errors
/// The graph lacks one of those inputs or outputs, or has inputs of the further names already.
pub fn step_graph(gradient_graph: &Graph) -> Result<Graph, Error> {
    let mut graph = gradient_graph.clone();
    let [x, energy, gradient] = [
        graph.input_named("x")?,
        graph.output("energy")?,
        graph.output("gradient")?,
    ];
    let shape = graph.shape(x).clone();
    let pixels = (1..shape.rank()).collect();
    let noise = graph.input("noise", shape)?;
    let step_size = graph.input("step_size", Shape::fixed(&[]))?;
    let temperature = graph.input("temperature", Shape::fixed(&[]))?;

    let two = graph.scalar("step.two", 2.0);
    let variance = graph.apply("step.variance", Binary::Mul, &[step_size, step_size])?;
    let twice_temperature =
        graph.apply("step.twice_temperature", Binary::Mul, &[temperature, two])?;
    let rate = graph.apply("step.rate", Binary::Div, &[variance, twice_temperature])?;
    let drift = graph.apply("step.drift", Binary::Mul, &[gradient, rate])?;
    let descended = graph.apply("step.descended", Binary::Sub, &[x, drift])?;
    let diffusion = graph.apply("step.diffusion", Binary::Mul, &[noise, step_size])?;
    let x_next = graph.apply("step.x_next", Binary::Add, &[descended, diffusion])?;

    let square = graph.apply("step.square", Binary::Mul, &[gradient, gradient])?;
    let sum = Reduce {
        kind: ReduceKind::Sum,
        axes: pixels,
        keep_dims: KeepDims::No,
    };
    let square_norm = graph.apply("step.square_norm", sum, &[square])?;
    let norm = graph.apply("step.norm", Unary::Sqrt, &[square_norm])?;

    graph.remove_output("energy");
    graph.remove_output("gradient");
    graph.set_output("x_next", x_next);
    graph.set_output("energy", energy);
    graph.set_output("gradient_norm", norm);
    graph.rebuild(|_, _, _| Ok(None))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ndarray::{ArrayD, IxDyn, array};

    use super::*;
    use crate::gradient::gradient;
    use crate::reference::evaluate;

    /// E(x) = Σ x²/2 has ∇E = x: the step is `x (1 − ε²/(2T)) + ε·noise`, the norm that of x.
    #[test]
    fn a_step_on_a_quadratic_energy_has_its_closed_form() {
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
        let step = step_graph(&gradient(&graph, "energy", "x").unwrap()).unwrap();

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
}
