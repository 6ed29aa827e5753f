//! The potential that Langevin dynamics descends: an energy network, and what may stand beside it.
//!
//! `U(x) = E(x)/T + E_prior(x)/T_prior + ‖x‖²/(2τ²)`. Graphs carry it as `T·U`, which is the energy itself where nothing stands beside it:
//! so one formula of the step, `x − (ε²/(2T))·∇(T·U) + ε·noise`, descends every potential; T stays an input, and the backward pass of
//! each network is the one that it has alone.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Error, Result};
use crate::graph::op::{Binary, KeepDims, Reduce, ReduceKind};
use crate::graph::tensor::Tensors;
use crate::graph::weights::check_weights;
use crate::graph::{Graph, Shape, Value};
use crate::source::checkpoint::{Header, PRIOR, PriorHeader, read_group};
use crate::source::networks::Network;
use crate::source::{ImageShape, Kind};
use crate::transform::gradient::hessian_vector_product;
use crate::transform::pipeline::gradient_graph;
use crate::transform::rewrite::{Rewrite, apply, apply_before_gradient};

/// Stands before the names of the prior's weights and nodes.
pub const PRIOR_PREFIX: &str = "prior.";

/// What stands beside E/T.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Potential {
    /// An energy network that was learned before.
    pub prior: Option<Prior>,
    /// τ, the deviation of the Gaussian term, if there is one.
    pub tau: Option<f64>,
}

/// An energy network at a fixed temperature.
#[derive(Clone, Debug, PartialEq)]
pub struct Prior {
    /// The network.
    pub network: Network,
    /// Its weights.
    pub weights: Tensors,
    /// Its own temperature T_prior.
    pub temperature: f64,
}

/// What an energy was learned with: its Gaussian term and its prior, if it has them.
///
/// # Errors
/// As [`read_group`].
pub fn read_potential(folder: &Path, header: &Header) -> Result<Potential> {
    let read = |prior: &PriorHeader| {
        Ok(Prior {
            network: prior.network.clone(),
            weights: read_group(folder, header, PRIOR)?,
            temperature: prior.temperature,
        })
    };
    Ok(Potential {
        prior: header.prior.as_ref().map(read).transpose()?,
        tau: header.langevin.as_ref().and_then(|langevin| langevin.tau),
    })
}

impl Potential {
    /// Is the energy network all there is?
    pub fn is_plain(&self) -> bool {
        self.prior.is_none() && self.tau.is_none()
    }

    /// Checks that it suits an energy of images of those extents.
    ///
    /// # Errors
    /// The prior is not an energy of such images or its weights are not its own; T_prior, 1/T_prior, τ, or 1/τ² is not positive and finite in f32.
    pub fn check(&self, image: ImageShape) -> Result<()> {
        if let Some(prior) = &self.prior {
            prior.check(image)?;
        }
        match self.tau {
            Some(tau) => check_scale("tau", tau, 1.0 / (tau * tau)),
            None => Ok(()),
        }
    }

    /// From a graph with input `x [N, C, H, W]` and output `energy [N]` to one whose output `energy` is `T·U(x)`, T being a further input
    /// `temperature []`. The graph itself where the energy is all there is. `rewrites` are applied to the prior's part.
    ///
    /// # Errors
    /// The graph lacks that input or output, has further outputs, or names that begin with [`PRIOR_PREFIX`]; the prior's description makes no sense.
    pub fn energy_graph(&self, graph: &Graph, rewrites: &[Rewrite]) -> Result<Graph> {
        check_outputs(graph, &["energy"])?;
        self.joined(graph, |network| apply(&network.graph()?, rewrites))
    }

    /// The same for a graph with a further output `gradient [N, C, H, W]`, which becomes `∇(T·U)` at x.
    ///
    /// # Errors
    /// As [`Potential::energy_graph`].
    pub fn gradient_graph(&self, graph: &Graph, rewrites: &[Rewrite]) -> Result<Graph> {
        check_outputs(graph, &["energy", "gradient"])?;
        self.joined(graph, |network| gradient_graph(&network.graph()?, rewrites))
    }

    /// From a graph with input `x [N, C, H, W]` and output `energy [N]` to one with a further input `v`, shaped as x, whose only output `hvp` is
    /// `∇²(T·U)·v` at x: what a cotangent loses on its way back through a Langevin step.
    ///
    /// # Errors
    /// As [`Potential::energy_graph`]; or an operator has no second derivative.
    pub fn hvp_graph(&self, graph: &Graph, rewrites: &[Rewrite]) -> Result<Graph> {
        let own = apply_before_gradient(graph, rewrites)?;
        let joint = self.energy_graph(&own, rewrites)?;
        let mut product = hessian_vector_product(&joint, "energy", "x")?;
        for name in ["energy", "gradient"] {
            product.remove_output(name);
        }
        apply(&product.rebuild(|_, _, _| Ok(None))?, rewrites)
    }

    /// The weights of all networks by the names that they have in the graphs.
    pub fn weights(&self, own: &Tensors) -> Tensors {
        let mut weights = own.clone();
        if let Some(prior) = &self.prior {
            let named = |(name, tensor): (&String, &_)| {
                (format!("{PRIOR_PREFIX}{name}"), Clone::clone(tensor))
            };
            weights.extend(prior.weights.iter().map(named));
        }
        weights
    }

    fn joined(
        &self,
        graph: &Graph,
        prior_graph: impl Fn(&Network) -> Result<Graph>,
    ) -> Result<Graph> {
        if self.is_plain() {
            return Ok(graph.clone());
        }
        let mut graph = graph.clone();
        let x = graph.input_named("x")?;
        let temperature = graph.input("temperature", Shape::fixed(&[]))?;
        let mut rest = BTreeMap::new();
        if let Some(prior) = &self.prior {
            let given = BTreeMap::from([("x".to_string(), x)]);
            let outputs = graph.append(&prior_graph(&prior.network)?, PRIOR_PREFIX, &given)?;
            let coldness = (1.0 / prior.temperature) as f32;
            let coldness = graph.scalar("potential.prior_coldness", coldness);
            for (name, value) in outputs {
                let scaled = graph.apply("potential.prior", Binary::Mul, &[value, coldness])?;
                rest.insert(name, scaled);
            }
        }
        if let Some(tau) = self.tau {
            for (name, term) in gaussian(&mut graph, x, tau)? {
                let sum = match rest.get(name) {
                    Some(&rest) => graph.apply("potential.rest", Binary::Add, &[rest, term])?,
                    None => term,
                };
                rest.insert(name.to_string(), sum);
            }
        }
        for (name, own) in graph.outputs().to_vec() {
            let Some(&rest) = rest.get(&name) else {
                continue;
            };
            let rest = graph.apply("potential.scaled", Binary::Mul, &[rest, temperature])?;
            let total = graph.apply(&format!("potential.{name}"), Binary::Add, &[own, rest])?;
            graph.set_output(&name, total);
        }
        graph.rebuild(|_, _, _| Ok(None))
    }
}

/// Refuses a graph with other outputs: the terms of a potential are known for these alone.
fn check_outputs(graph: &Graph, wanted: &[&str]) -> Result<()> {
    let outputs: Vec<&str> = graph
        .outputs()
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let is_known = |name: &&str| wanted.contains(name);
    match outputs.len() == wanted.len() && outputs.iter().all(is_known) {
        true => Ok(()),
        false => Err(Error::Potential {
            problem: format!("expected a graph with the outputs {wanted:?}, got {outputs:?}"),
        }),
    }
}

/// `‖x‖²/(2τ²)` per image and its gradient `x/τ²`.
fn gaussian(graph: &mut Graph, x: Value, tau: f64) -> Result<[(&'static str, Value); 2]> {
    let precision = 1.0 / (tau * tau);
    let square = graph.apply("gaussian.square", Binary::Mul, &[x, x])?;
    let sum = Reduce {
        kind: ReduceKind::Sum,
        axes: (1..graph.shape(x).rank()).collect(),
        keep_dims: KeepDims::No,
    };
    let square_norm = graph.apply("gaussian.square_norm", sum, &[square])?;
    let half = graph.scalar("gaussian.half_precision", (precision / 2.0) as f32);
    let energy = graph.apply("gaussian.energy", Binary::Mul, &[square_norm, half])?;
    let precision = graph.scalar("gaussian.precision", precision as f32);
    let gradient = graph.apply("gaussian.gradient", Binary::Mul, &[x, precision])?;
    Ok([("energy", energy), ("gradient", gradient)])
}

impl Prior {
    fn check(&self, image: ImageShape) -> Result<()> {
        let problem = |problem: String| Error::Potential { problem };
        if self.network.kind() != Kind::Energy {
            let kind = self.network.kind();
            return Err(problem(format!(
                "the prior must be an energy network, got one of kind {kind:?}"
            )));
        }
        if self.network.image() != image {
            let got = self.network.image();
            return Err(problem(format!(
                "the prior must take images of the energy's size, {image:?}, got {got:?}"
            )));
        }
        check_scale(
            "the prior's temperature",
            self.temperature,
            1.0 / self.temperature,
        )?;
        check_weights(&self.network.graph()?, &self.weights)
    }
}

/// Positive and finite in f32, as its inverse must be.
pub(crate) fn check_scale(name: &str, value: f64, inverse: f64) -> Result<()> {
    let valid = |value: f64| value as f32 > 0.0 && (value as f32).is_finite();
    if valid(value) && valid(inverse) {
        return Ok(());
    }
    let problem = format!("{name} must be positive and neither tiny nor huge, got {value}");
    Err(Error::Potential { problem })
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, IxDyn};

    use super::*;
    use crate::graph::reference::{evaluate, to_tensor};
    use crate::source::networks::testing::{check_slope, random_values};
    use crate::source::networks::{Activation, Sngan};
    use crate::transform::langevin::step_graph;

    fn energy(width: usize) -> Network {
        let activation = Activation::Silu;
        Network::Sngan(Sngan::small(4, 2, &[width, 3], &[true, false], activation))
    }

    fn potential(tau: Option<f64>) -> Potential {
        let network = energy(5);
        let weights = network.initial_weights(9).unwrap();
        let prior = Prior {
            network,
            weights,
            temperature: 0.25,
        };
        Potential {
            prior: Some(prior),
            tau,
        }
    }

    fn scalar(value: f64) -> ArrayD<f64> {
        ArrayD::from_elem(IxDyn(&[]), value)
    }

    /// T·U against its terms, each evaluated by itself.
    #[test]
    fn the_joint_energy_is_the_sum_of_its_terms() {
        let own = energy(4).graph().unwrap();
        for (potential, with_prior) in [
            (potential(None), true),
            (potential(Some(0.5)), true),
            (
                Potential {
                    prior: None,
                    tau: Some(0.5),
                },
                false,
            ),
        ] {
            let graph = potential.energy_graph(&own, &Rewrite::ALL).unwrap();
            let mut values = random_values(&graph, 2);
            values.insert("temperature".to_string(), scalar(0.125));
            let got = evaluate(&graph, &values).unwrap()["energy"].clone();
            let mut wanted = evaluate(&own, &values).unwrap()["energy"].clone();
            if with_prior {
                let values: BTreeMap<_, _> = values
                    .iter()
                    .filter_map(|(name, value)| {
                        Some((name.strip_prefix(PRIOR_PREFIX)?.to_string(), value.clone()))
                    })
                    .chain([("x".to_string(), values["x"].clone())])
                    .collect();
                let prior = energy(5).graph().unwrap();
                wanted = wanted + &evaluate(&prior, &values).unwrap()["energy"] * (0.125 / 0.25);
            }
            if let Some(tau) = potential.tau {
                let x = &values["x"];
                let square_norms = (x * x)
                    .into_shape_with_order((2, 32))
                    .unwrap()
                    .sum_axis(ndarray::Axis(1));
                wanted += &(square_norms * (0.125 / (2.0 * tau * tau))).into_dyn();
            }
            assert!((&got - &wanted).iter().all(|error| error.abs() < 1e-12));
        }
    }

    #[test]
    fn the_gradient_is_that_of_the_joint_energy() {
        let own = energy(4).graph().unwrap();
        let potential = potential(Some(0.5));
        let joint = potential.energy_graph(&own, &[]).unwrap();
        check_slope(&joint, "energy", "x");
        let alone = gradient_graph(&own, &Rewrite::ALL).unwrap();
        let written = potential.gradient_graph(&alone, &Rewrite::ALL).unwrap();
        let differentiated = gradient_graph(&joint, &[]).unwrap();
        let values = random_values(&written, 5);
        let [written, differentiated] =
            [written, differentiated].map(|graph| evaluate(&graph, &values).unwrap());
        for name in ["energy", "gradient"] {
            let difference = &written[name] - &differentiated[name];
            assert!(difference.iter().all(|error| error.abs() < 1e-6), "{name}");
        }
    }

    /// Against central differences of the gradient of the joint energy along v.
    #[test]
    fn the_hessian_vector_product_is_that_of_the_joint_energy() {
        let own = energy(4).graph().unwrap();
        let potential = potential(Some(0.5));
        let product = potential.hvp_graph(&own, &Rewrite::COMMON).unwrap();
        let alone = gradient_graph(&own, &[]).unwrap();
        let gradient = potential.gradient_graph(&alone, &[]).unwrap();
        let mut values = random_values(&product, 11);
        values.insert("temperature".to_string(), scalar(0.125));
        let got = evaluate(&product, &values).unwrap();
        assert_eq!(got.keys().collect::<Vec<_>>(), ["hvp"]);
        let at = |shift: f64| {
            let mut moved = values.clone();
            moved.insert("x".to_string(), &values["x"] + &values["v"] * shift);
            evaluate(&gradient, &moved).unwrap()["gradient"].clone()
        };
        let differences = (at(1e-5) - at(-1e-5)) / 2e-5;
        let error = (&got["hvp"] - &differences)
            .iter()
            .fold(0.0f64, |most, error| most.max(error.abs()));
        assert!(error < 1e-6, "{error}");
    }

    /// E = 0 beside a Gaussian term alone: the step is `x (1 − ε²/(2τ²)) + ε·noise` at every temperature.
    #[test]
    fn a_step_descends_the_whole_potential() {
        let network = energy(4);
        let potential = Potential {
            prior: None,
            tau: Some(0.5),
        };
        let gradient = gradient_graph(&network.graph().unwrap(), &[]).unwrap();
        let step = step_graph(&potential.gradient_graph(&gradient, &[]).unwrap()).unwrap();
        let mut values = random_values(&step, 7);
        for weight in network.initial_weights(0).unwrap().keys() {
            values.get_mut(weight).unwrap().fill(0.0);
        }
        values.insert("step_size".to_string(), scalar(0.25));
        for temperature in [1.0, 0.5, 1e-4] {
            values.insert("temperature".to_string(), scalar(temperature));
            let got = evaluate(&step, &values).unwrap()["x_next"].clone();
            let wanted = &values["x"] * (1.0 - 0.0625 / 0.5) + &values["noise"] * 0.25;
            assert!((&got - &wanted).iter().all(|error| error.abs() < 1e-12));
        }
    }

    #[test]
    fn weights_are_those_of_both() {
        let own = energy(4);
        let potential = potential(None);
        let weights = potential.weights(&own.initial_weights(1).unwrap());
        let graph = potential.energy_graph(&own.graph().unwrap(), &[]).unwrap();
        check_weights(&graph, &weights).unwrap();
        assert!(weights.contains_key("prior.stem.conv1.weight"));
        assert!(potential.check(own.image()).is_ok());
    }

    /// No term is known of features, and no gradient of an energy alone.
    #[test]
    fn refuses_graphs_with_other_outputs() {
        let own = energy(4).graph().unwrap();
        let mut more = own.clone();
        more.set_output("features", own.output("energy").unwrap());
        let mut slopes = gradient_graph(&own, &[]).unwrap();
        slopes.set_output("hvp", slopes.output("gradient").unwrap());
        for potential in [potential(None), potential(Some(0.5)), Potential::default()] {
            for result in [
                potential.energy_graph(&more, &[]),
                potential.energy_graph(&slopes, &[]),
                potential.gradient_graph(&own, &[]),
                potential.gradient_graph(&slopes, &[]),
            ] {
                let error = result.unwrap_err().to_string();
                assert!(
                    error.contains("expected a graph with the outputs"),
                    "{error}"
                );
            }
        }
    }

    #[test]
    fn refuses_what_does_not_suit() {
        let image = energy(4).image();
        for (change, wanted) in [
            (
                (&|potential: &mut Potential| potential.tau = Some(0.0)) as &dyn Fn(&mut Potential),
                "tau must be positive",
            ),
            (&|potential| potential.tau = Some(1e-30), "neither tiny"),
            (
                &|potential| potential.prior.as_mut().unwrap().temperature = -1.0,
                "the prior's temperature must be positive",
            ),
            (
                &|potential| potential.prior.as_mut().unwrap().weights.clear(),
                "missing from the checkpoint",
            ),
            (
                &|potential| {
                    potential.prior.as_mut().unwrap().network = Network::Sngan(Sngan::sngan32(2));
                },
                "must take images of the energy's size",
            ),
            (
                &|potential| {
                    let weights = &mut potential.prior.as_mut().unwrap().weights;
                    let nan = to_tensor(&ArrayD::from_elem(vec![5], f64::NAN));
                    weights.insert("stem.conv1.bias".to_string(), nan);
                },
                "expected finite values",
            ),
        ] {
            let mut potential = potential(Some(1.0));
            change(&mut potential);
            let error = potential.check(image).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
