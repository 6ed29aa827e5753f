//! Langevin steps as a graph.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::graph::op::{Binary, Concat, KeepDims, Reduce, ReduceKind, Reshape, Slice, Unary};
use crate::graph::{Dim, Graph, Shape, Value};

/// How a graph steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steps {
    /// Number of steps of one run, at least 1.
    pub count: usize,
    /// The largest L2 norm of an image's drift `(ε²/(2T))·∇E(x)`, if it is limited: longer ones are scaled down to it.
    pub clip: Option<f32>,
}

impl Steps {
    /// Most steps of one run: each is another copy of the network.
    pub const MOST: usize = 1024;
    /// One step with the drift as it is.
    pub const ONE: Steps = Steps {
        count: 1,
        clip: None,
    };

    /// Checks that the numbers make sense.
    ///
    /// # Errors
    /// There are no steps or more than [`Steps::MOST`], or the limit is not positive and finite.
    pub fn check(&self) -> Result<()> {
        if !(1..=Steps::MOST).contains(&self.count) {
            return Err(Error::Onnx(format!(
                "expected from 1 to {} steps, got {}",
                Steps::MOST,
                self.count
            )));
        }
        match self.clip {
            Some(clip) if !(clip > 0.0 && clip.is_finite()) => Err(Error::Onnx(format!(
                "expected a positive number to clip at, got {clip}"
            ))),
            _ => Ok(()),
        }
    }
}

/// From a graph with input `x [N, C, H, W]` and outputs `energy [N]` and `gradient [N, C, H, W]` to one step of
/// Langevin dynamics, `x_next = x − (ε²/(2T))·∇E(x) + ε·noise`.
///
/// Further inputs: `noise [N, C, H, W]` (standard normal), `step_size []` (ε > 0) and `temperature []` (T > 0), which the graph of a
/// [`Potential`](crate::transform::potential::Potential) has already. Outputs: `x_next [N, C, H, W]`, `energy [N]` at x, and
/// `gradient_norm [N]`, the L2 norm of the gradient at x per image.
///
/// # Errors
/// The graph lacks one of those inputs or outputs, or has an input `noise` or `step_size` already.
pub fn step_graph(gradient_graph: &Graph) -> Result<Graph> {
    steps_graph(gradient_graph, &Steps::ONE)
}

/// Like [`step_graph`] for k steps of one run. Where k > 1, `noise [k, N, C, H, W]` has that of each step, and `energy [k, N]` and
/// `gradient_norm [k, N]` are those at the state before each step.
///
/// # Errors
/// As [`step_graph`] and [`Steps::check`].
pub fn steps_graph(gradient_graph: &Graph, steps: &Steps) -> Result<Graph> {
    steps.check()?;
    let mut graph = gradient_graph.clone();
    let x = graph.input_named("x")?;
    let shape = graph.shape(x).clone();
    let noise_shape = match steps.count {
        1 => shape.clone(),
        count => Shape(std::iter::once(Dim::Size(count)).chain(shape.0).collect()),
    };
    let noise = graph.input("noise", noise_shape)?;
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
    let dynamics = Dynamics {
        step_size,
        rate,
        clip: steps.clip,
    };

    let shared = shared_values(gradient_graph)?;
    let mut at = At {
        x,
        energy: graph.output("energy")?,
        gradient: graph.output("gradient")?,
    };
    let (mut energies, mut norms) = (Vec::new(), Vec::new());
    for index in 0..steps.count {
        if index > 0 {
            at = evaluated(&mut graph, gradient_graph, &shared, at.x, index)?;
        }
        let noise = noise_of_step(&mut graph, noise, at.x, index, steps.count)?;
        let norm = norm_per_image(&mut graph, at.gradient)?;
        energies.push(at.energy);
        norms.push(norm);
        at.x = dynamics.step(&mut graph, &at, noise, norm)?;
    }
    let energies = per_step(&mut graph, "step.energies", &energies)?;
    let norms = per_step(&mut graph, "step.norms", &norms)?;
    for (name, _) in gradient_graph.outputs() {
        graph.remove_output(name);
    }
    graph.set_output("x_next", at.x);
    graph.set_output("energy", energies);
    graph.set_output("gradient_norm", norms);
    graph.rebuild(|_, _, _| Ok(None))
}

/// A state with energy and gradient there.
struct At {
    x: Value,
    energy: Value,
    gradient: Value,
}

/// The scalars of a step.
struct Dynamics {
    step_size: Value,
    rate: Value,
    clip: Option<f32>,
}

impl Dynamics {
    /// The state behind a step.
    fn step(&self, graph: &mut Graph, at: &At, noise: Value, norm: Value) -> Result<Value> {
        let mut drift = graph.apply("step.drift", Binary::Mul, &[at.gradient, self.rate])?;
        if let Some(clip) = self.clip {
            let scale = self.scale(graph, norm, clip, at.x)?;
            drift = graph.apply("step.clipped", Binary::Mul, &[drift, scale])?;
        }
        let descended = graph.apply("step.descended", Binary::Sub, &[at.x, drift])?;
        let diffusion = graph.apply("step.diffusion", Binary::Mul, &[noise, self.step_size])?;
        graph.apply("step.x_next", Binary::Add, &[descended, diffusion])
    }

    /// `clip / max(norm of the drift, clip)`, for each image as `[N, 1, 1, 1]`: 1 where the drift is short enough.
    fn scale(&self, graph: &mut Graph, norm: Value, clip: f32, x: Value) -> Result<Value> {
        let clip = graph.scalar("step.clip", clip);
        let length = graph.apply("step.length", Binary::Mul, &[norm, self.rate])?;
        let length = graph.apply("step.length", Binary::Max, &[length, clip])?;
        let scale = graph.apply("step.scale", Binary::Div, &[clip, length])?;
        let shape = Shape::batched(&vec![1; graph.shape(x).rank() - 1]);
        graph.apply("step.scale", Reshape { shape }, &[scale])
    }
}

/// What every step has in common: weights, inputs other than x, and what is made of these alone, such as weights in a low type.
fn shared_values(gradient_graph: &Graph) -> Result<BTreeMap<String, Value>> {
    let changes = gradient_graph.depends_on(gradient_graph.input_named("x")?);
    Ok(gradient_graph
        .values()
        .filter(|value| !changes[value.0])
        .map(|value| (gradient_graph.node(value).name.clone(), value))
        .collect())
}

/// Energy and gradient at a later state.
fn evaluated(
    graph: &mut Graph,
    gradient_graph: &Graph,
    shared: &BTreeMap<String, Value>,
    x: Value,
    index: usize,
) -> Result<At> {
    let mut given = shared.clone();
    given.insert("x".to_string(), x);
    let outputs = graph.append(gradient_graph, &format!("step{}.", index + 1), &given)?;
    Ok(At {
        x,
        energy: outputs["energy"],
        gradient: outputs["gradient"],
    })
}

fn noise_of_step(
    graph: &mut Graph,
    noise: Value,
    x: Value,
    index: usize,
    count: usize,
) -> Result<Value> {
    if count == 1 {
        return Ok(noise);
    }
    let part = graph.apply("step.noise", Slice::range(0, index..index + 1), &[noise])?;
    let shape = graph.shape(x).clone();
    graph.apply("step.noise", Reshape { shape }, &[part])
}

/// The L2 norm `[N]` of each image.
fn norm_per_image(graph: &mut Graph, gradient: Value) -> Result<Value> {
    let square = graph.apply("step.square", Binary::Mul, &[gradient, gradient])?;
    let sum = Reduce {
        kind: ReduceKind::Sum,
        axes: (1..graph.shape(gradient).rank()).collect(),
        keep_dims: KeepDims::No,
    };
    let square_norm = match sum.axes.is_empty() {
        true => square,
        false => graph.apply("step.square_norm", sum, &[square])?,
    };
    graph.apply("step.norm", Unary::Sqrt, &[square_norm])
}

/// `[N]` of the only step, or `[k, N]` of k steps.
fn per_step(graph: &mut Graph, name: &str, values: &[Value]) -> Result<Value> {
    if let [only] = values {
        return Ok(*only);
    }
    let shape = Shape(vec![Dim::Size(1), Dim::BATCH]);
    let rows = values
        .iter()
        .map(|&value| {
            let shape = shape.clone();
            graph.apply(name, Reshape { shape }, &[value])
        })
        .collect::<Result<Vec<Value>>>()?;
    graph.apply(name, Concat { axis: 0 }, &rows)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ndarray::{ArrayD, Axis, IxDyn, array};

    use super::*;
    use crate::graph::reference::{bindings, evaluate};
    use crate::source::networks::{Activation, Network, Sngan};
    use crate::transform::gradient::gradient;

    type Values = BTreeMap<String, ArrayD<f64>>;

    fn scalar(value: f64) -> ArrayD<f64> {
        ArrayD::from_elem(IxDyn(&[]), value)
    }

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
        let clipped = Steps {
            clip: Some(1.0),
            ..Steps::ONE
        };
        let step = steps_graph(&quadratic(), &clipped).unwrap();
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

    /// A small network's gradient, and values of its inputs for two images and three steps.
    fn network() -> (Graph, Values) {
        let sngan = Sngan::small(8, 1, &[3, 4], &[true, false], Activation::Silu);
        let network = Network::Sngan(sngan);
        let mut values = bindings(&network.initial_weights(1).unwrap());
        let waves = |sizes: &[usize], speed: f64| {
            let count: usize = sizes.iter().product();
            let wave = |index| (index as f64 * speed).sin();
            ArrayD::from_shape_vec(sizes, (0..count).map(wave).collect()).unwrap()
        };
        let x = waves(&[2, 1, 8, 8], 0.7);
        let noise = waves(&[3, 2, 1, 8, 8], 1.3);
        values.insert("x".to_string(), x);
        values.insert("noise".to_string(), noise);
        values.insert("step_size".to_string(), scalar(0.1));
        values.insert("temperature".to_string(), scalar(1e-4));
        (
            gradient(&network.graph().unwrap(), "energy", "x").unwrap(),
            values,
        )
    }

    #[test]
    fn several_steps_are_as_many_single_ones() {
        for clip in [None, Some(0.5)] {
            let (gradient, values) = network();
            let together = steps_graph(&gradient, &Steps { count: 3, clip }).unwrap();
            let together = evaluate(&together, &values).unwrap();
            let single = steps_graph(&gradient, &Steps { count: 1, clip }).unwrap();
            let mut at = values.clone();
            for index in 0..3 {
                let noise = values["noise"].index_axis(Axis(0), index).to_owned();
                at.insert("noise".to_string(), noise);
                let outputs = evaluate(&single, &at).unwrap();
                for name in ["energy", "gradient_norm"] {
                    assert_eq!(
                        together[name].index_axis(Axis(0), index),
                        outputs[name],
                        "{name}"
                    );
                }
                at.insert("x".to_string(), outputs["x_next"].clone());
            }
            assert_eq!(together["x_next"], at["x"]);
        }
    }

    /// Without noise a step is the drift alone.
    #[test]
    fn a_long_drift_is_scaled_to_the_limit() {
        let (gradient, mut values) = network();
        let still = ArrayD::zeros(vec![2, 1, 8, 8]);
        values.insert("noise".to_string(), still);
        let length = |clip| {
            let step = steps_graph(&gradient, &Steps { count: 1, clip }).unwrap();
            let moved = &evaluate(&step, &values).unwrap()["x_next"] - &values["x"];
            let first = moved
                .index_axis(Axis(0), 0)
                .mapv(|value| value * value)
                .sum();
            f64::sqrt(first)
        };
        let whole = length(None);
        for (limit, wanted) in [(whole / 2.0, whole / 2.0), (whole * 2.0, whole)] {
            let got = length(Some(limit as f32));
            assert!(
                (got - wanted).abs() <= 1e-6 * wanted,
                "{got}, expected {wanted}"
            );
        }
    }

    #[test]
    fn the_weights_are_shared_among_steps() {
        let (gradient, _) = network();
        let steps = steps_graph(
            &gradient,
            &Steps {
                count: 3,
                clip: None,
            },
        )
        .unwrap();
        assert_eq!(steps.weights().count(), gradient.weights().count());
        assert_eq!(
            steps.shape(steps.input_named("noise").unwrap()).to_string(),
            "[3, N, 1, 8, 8]"
        );
    }

    #[test]
    fn refuses_steps_that_make_no_sense() {
        let (gradient, _) = network();
        for (count, clip, wanted) in [
            (0, None, "from 1 to 1024 steps, got 0"),
            (1025, None, "from 1 to 1024 steps, got 1025"),
            (1, Some(0.0), "a positive number to clip at, got 0"),
            (1, Some(f32::NAN), "a positive number to clip at, got NaN"),
        ] {
            let error = steps_graph(&gradient, &Steps { count, clip }).unwrap_err();
            assert!(error.to_string().contains(wanted), "{error}");
        }
    }
}
