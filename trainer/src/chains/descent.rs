//! What chains descend: the gradient of an energy, and of what stands beside it in the potential.

use std::fmt;

use anyhow::Result;
use ebm_export::graph::Graph;
use ebm_export::source::networks::Network;
use ebm_export::transform::pipeline::gradient_graph;
use ebm_export::transform::potential::{PRIOR_PREFIX, Potential};
use ebm_export::transform::rewrite::Rewrite;
use tch::{Device, Tensor};

use crate::config::Precision;
use crate::network::{BoundNetwork, Footprint, ImagesAtOnce, Program, Weights, bytes, from_host};

/// Output `gradient [N, C, H, W]` is `T·∇U(x)`, with `U(x) = E(x)/T [+ E_prior(x)/T_prior] [+ ‖x‖²/(2τ²)]`.
#[derive(Debug)]
pub struct Descent {
    program: Program,
    /// The prior's weights, by their names in the graph.
    beside: Weights,
    /// Whether the graph has T as an input, as it has with more terms than the energy.
    takes_temperature: bool,
    precision: Precision,
    device: Device,
}

impl Descent {
    /// Down the potential of an energy network, without autograd.
    ///
    /// # Errors
    /// The network makes no sense, or the potential does not suit it.
    pub fn new(
        network: &Network,
        potential: &Potential,
        precision: Precision,
        device: Device,
    ) -> Result<Descent> {
        potential.check(network.image())?;
        Descent::of_energy(&network.graph()?, potential, precision, device)
    }

    /// Down the potential of any energy: a graph from `x [N, C, H, W]` to `energy [N]`, that the potential suits.
    ///
    /// # Errors
    /// An operator has no derivative.
    pub fn of_energy(
        energy: &Graph,
        potential: &Potential,
        precision: Precision,
        device: Device,
    ) -> Result<Descent> {
        let own = gradient_graph(energy, &Rewrite::COMMON)?;
        let graph = potential.gradient_graph(&own, &Rewrite::COMMON)?;
        Ok(Descent::of(&graph, potential, precision, device))
    }

    /// The curvature of the same potential: output `hvp [N, C, H, W]` is `∇²(T·U)(x)·v`, for a further input `v` shaped as x.
    ///
    /// # Errors
    /// An operator has no second derivative.
    pub fn curvature(
        energy: &Graph,
        potential: &Potential,
        precision: Precision,
        device: Device,
    ) -> Result<Descent> {
        let graph = potential.hvp_graph(energy, &Rewrite::COMMON)?;
        Ok(Descent::of(&graph, potential, precision, device))
    }

    fn of(graph: &Graph, potential: &Potential, precision: Precision, device: Device) -> Descent {
        let kind = precision.kind();
        let prior = potential.prior.iter().flat_map(|prior| &prior.weights);
        let named = prior.map(|(name, tensor)| {
            let name = format!("{PRIOR_PREFIX}{name}");
            (name, from_host(tensor, kind, device))
        });
        Descent {
            program: Program::new(graph, kind, device)
                .multiplying(precision.products())
                .on_engine(graph),
            beside: named.collect(),
            takes_temperature: !potential.is_plain(),
            precision,
            device,
        }
    }

    /// Bytes of the prior's weights.
    pub fn prior_bytes(&self) -> u64 {
        bytes(self.beside.values())
    }

    /// As [`Program::images_at_once`].
    pub fn images_at_once(&self) -> ImagesAtOnce {
        self.program.images_at_once()
    }

    /// What evaluations hold.
    pub fn footprint(&self) -> Footprint {
        self.program.footprint()
    }

    /// With the energy's own weights, at its temperature. Evaluations take and give numbers of the descent's precision.
    pub fn bind(&self, weights: &Weights, temperature: f64) -> Result<BoundNetwork<'_>> {
        let kind = self.precision.kind();
        let all = weights.iter().chain(&self.beside);
        let all: Weights = all
            .map(|(name, weight)| (name.clone(), weight.to_kind(kind)))
            .collect();
        let network = self.program.bind(&all)?;
        if !self.takes_temperature {
            return Ok(network);
        }
        let temperature = Tensor::from(temperature as f32)
            .to_device(self.device)
            .to_kind(kind);
        network.given("temperature", &temperature)
    }
}

/// How far a gradient is from that in f32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rounding {
    /// What it is computed in.
    pub precision: Precision,
    /// Relative L2 error.
    pub error: f64,
}

impl fmt::Display for Rounding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rounding { precision, error } = self;
        let percent = 100.0 * error;
        write!(
            f,
            "chains descend gradients in {precision}: at their starts these differ from those in f32 by {percent:.2} % (relative L2)"
        )
    }
}

#[cfg(test)]
mod tests {
    use ebm_export::source::networks::{Activation, Sngan};
    use ebm_export::transform::potential::Prior;
    use tch::Kind;

    use super::*;
    use crate::machine::randomness::seeded;
    use crate::network::to_device;

    fn energy(width: usize) -> Network {
        Network::Sngan(Sngan::small(4, 1, &[width], &[true], Activation::Silu))
    }

    fn gradient(potential: &Potential, temperature: f64, x: &Tensor) -> Tensor {
        let network = energy(3);
        let descent = Descent::new(&network, potential, Precision::F32, Device::Cpu).unwrap();
        let weights = network.initial_weights(1).unwrap();
        let weights = to_device(&weights, Kind::Float, Device::Cpu);
        let bound = descent.bind(&weights, temperature).unwrap();
        bound.output("gradient", x).unwrap()
    }

    /// T·∇U = ∇E + T·∇E_prior/T_prior + T·x/τ².
    #[test]
    fn the_terms_of_a_potential_add_up() {
        let _draws = seeded(2);
        let x = Tensor::randn([5, 1, 4, 4], (Kind::Float, Device::Cpu));
        let (temperature, tau) = (0.25, 0.5);
        let plain = gradient(&Potential::default(), temperature, &x);
        let with_tau = Potential {
            prior: None,
            tau: Some(tau),
        };
        let wanted = &plain + &x * (temperature / (tau * tau));
        let difference = gradient(&with_tau, temperature, &x) - &wanted;
        assert!(difference.abs().max().double_value(&[]) < 1e-5);

        // The network itself as its own prior, at half the temperature.
        let prior = Prior {
            network: energy(3),
            weights: energy(3).initial_weights(1).unwrap(),
            temperature: temperature / 2.0,
        };
        let with_both = Potential {
            prior: Some(prior),
            tau: Some(tau),
        };
        let wanted = &wanted + &plain * 2.0;
        let difference = gradient(&with_both, temperature, &x) - wanted;
        assert!(difference.abs().max().double_value(&[]) < 1e-5);
        assert!(plain.abs().max().double_value(&[]) > 1e-3);
    }

    /// The same gradient in both precisions, for networks with and without masks, with a prior and τ: bf16 rounds to one in 256, and masks flip where a value is nearly 0.
    #[test]
    fn bf16_gradients_are_those_of_f32_rounded() {
        let _draws = seeded(3);
        let x = Tensor::randn([5, 1, 8, 8], (Kind::Float, Device::Cpu));
        for activation in [
            Activation::Relu,
            Activation::LeakyRelu { slope: 0.2 },
            Activation::Silu,
            Activation::Gelu,
        ] {
            let pools = [true, true, false];
            let network = Network::Sngan(Sngan::small(8, 1, &[5, 7, 7], &pools, activation));
            let host = network.initial_weights(1).unwrap();
            let potential = Potential {
                prior: Some(Prior {
                    network: network.clone(),
                    weights: network.initial_weights(2).unwrap(),
                    temperature: 0.5,
                }),
                tau: Some(2.0),
            };
            let weights = to_device(&host, Kind::Float, Device::Cpu);
            let [exact, rounded] = [Precision::F32, Precision::Bf16].map(|precision| {
                let descent = Descent::new(&network, &potential, precision, Device::Cpu).unwrap();
                let bound = descent.bind(&weights, 0.25).unwrap();
                let gradient = bound
                    .output("gradient", &x.to_kind(precision.kind()))
                    .unwrap();
                assert_eq!(gradient.kind(), precision.kind());
                gradient.to_kind(Kind::Double)
            });
            let error = (&rounded - &exact).norm() / exact.norm();
            let error = error.double_value(&[]);
            assert!(error > 1e-5 && error < 0.1, "{activation:?}: {error}");
        }
    }
}
