//! Chains that only move: their noise and their bits depend on neither the number of threads nor what is done at a time.

use std::fmt;

use anyhow::{Result, anyhow, ensure};
use tch::{Device, Kind, Tensor};

use crate::chains::heun::Flow;
use crate::chains::langevin::{self, gradient_at, norms};
use crate::chains::start::Origin;
use crate::config::Dynamics;
use crate::machine::parallel::{Shared, Team};
use crate::machine::randomness::{Purpose, derive, seed_torch};
use crate::network::{BoundNetwork, ImagesAtOnce};

/// Chains of a block where many at once cost hardly more than one.
const LARGE_BLOCK: usize = 512;
/// Blocks for which noise is there at a time.
const AT_ONCE: usize = 32;

/// What chains have at a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// T·U(x) per chain, which is E(x) if the potential is the energy alone.
    pub energies: Vec<f32>,
    /// Mean over chains of the L2 norm of the drift `(ε²/2)·∇U`.
    pub gradient_strength: f64,
    /// Share of the values of all pixels that are at or beyond the ends of `[-1, 1]`.
    pub saturation: f64,
}

impl Observed {
    /// Mean and standard deviation of the energies.
    pub fn energy(&self) -> (f64, f64) {
        let n = self.energies.len() as f64;
        let energies = || self.energies.iter().map(|&energy| f64::from(energy));
        let mean = energies().sum::<f64>() / n;
        let squares = energies().map(|energy| (energy - mean).powi(2));
        (mean, (squares.sum::<f64>() / (n - 1.0).max(1.0)).sqrt())
    }

    /// Checks that chains are somewhere.
    ///
    /// # Errors
    /// An energy is not finite; how many, and what to do.
    pub fn check(&self, step: u64) -> Result<()> {
        let finite = self.energies.iter().filter(|energy| energy.is_finite());
        let n = self.energies.len();
        let n_lost = n - finite.count();
        ensure!(
            n_lost == 0,
            "step {step}: the energy of {n_lost} of {n} chains is not finite: take smaller steps (--step-size or, of a flow, more --steps) or another --temperature; \
             snapshots of earlier steps are kept"
        );
        Ok(())
    }
}

impl fmt::Display for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mean, deviation) = self.energy();
        write!(
            f,
            "energy {mean:.4} ± {deviation:.4} · gradient strength {:.4}",
            self.gradient_strength
        )
    }
}

/// How chains move.
#[derive(Clone, Copy, Debug)]
pub enum Motion {
    /// By Langevin steps: step size, temperature and clipping.
    Langevin(Dynamics),
    /// By steps of Heun.
    Flow(Flow),
}

impl Motion {
    /// T, of a flow that of its end.
    pub fn temperature(&self) -> f64 {
        match self {
            Motion::Langevin(dynamics) => dynamics.temperature,
            Motion::Flow(flow) => flow.warming.temperature,
        }
    }

    /// The Langevin steps, if it is by them.
    pub fn langevin(&self) -> Option<Dynamics> {
        match self {
            Motion::Langevin(dynamics) => Some(*dynamics),
            Motion::Flow(_) => None,
        }
    }

    /// The flow, if it is along one.
    pub fn flow(&self) -> Option<Flow> {
        match self {
            Motion::Langevin(_) => None,
            Motion::Flow(flow) => Some(*flow),
        }
    }

    /// With the temperature of Langevin steps times a factor.
    #[must_use]
    pub fn heated(self, factor: f64) -> Motion {
        match self {
            Motion::Langevin(dynamics) => Motion::Langevin(Dynamics {
                temperature: dynamics.temperature * factor,
                ..dynamics
            }),
            flow @ Motion::Flow(_) => flow,
        }
    }
}

impl fmt::Display for Motion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Motion::Langevin(dynamics) => write!(
                f,
                "Langevin steps of ε = {}, T = {}",
                dynamics.step_size, dynamics.temperature
            ),
            Motion::Flow(flow) => flow.fmt(f),
        }
    }
}

/// Down what, how and where chains move.
#[derive(Clone, Copy, Debug)]
pub struct Descending<'a> {
    /// With the outputs `energy [N]` and `gradient [N, C, H, W]`.
    pub network: &'a BoundNetwork<'a>,
    /// How they move.
    pub motion: Motion,
    /// The threads that blocks of chains are divided among.
    pub team: &'a Team,
}

/// Chains between their steps, in blocks of a length that the network alone decides. Each block has noise of its own.
#[derive(Debug)]
pub struct SampledChains<'a> {
    descending: Descending<'a>,
    seed: u64,
    step: u64,
    /// Chains of a block that is full.
    length: usize,
    /// Each f32 `[n, C, H, W]`; the last need not be full.
    blocks: Vec<Tensor>,
}

impl<'a> SampledChains<'a> {
    /// `n` chains at their starts.
    pub fn begin(
        origin: &dyn Origin,
        n: usize,
        seed: u64,
        descending: Descending<'a>,
    ) -> Result<SampledChains<'a>> {
        let device = descending.network.device();
        let length = block_length(descending.network);
        let blocks = (0..n).step_by(length).enumerate().map(|(block, first)| {
            let _draws = seed_torch(block_seed(seed, block), 0, Purpose::Samples);
            let whole = origin.draw(length, device)?;
            let n = length.min(n - first) as i64;
            Ok(whole.states().f_narrow(0, 0, n)?.f_contiguous()?)
        });
        Ok(SampledChains {
            blocks: blocks.collect::<Result<_>>()?,
            descending,
            seed,
            step: 0,
            length,
        })
    }

    /// The same chains after that many steps, at states f32 `[N, C, H, W]`.
    pub fn at(self, step: u64, states: &Tensor) -> Result<SampledChains<'a>> {
        let lengths: Vec<i64> = self.blocks.iter().map(|block| block.size()[0]).collect();
        let states = states.to_device(self.descending.network.device());
        Ok(SampledChains {
            blocks: states.f_split_with_sizes(lengths, 0)?,
            step,
            ..self
        })
    }

    /// Steps since the starts.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The states by blocks; they stay as they are when the chains move on.
    pub fn states(&self) -> Vec<Tensor> {
        self.blocks.iter().map(Tensor::shallow_clone).collect()
    }

    /// What the chains have at this step.
    pub fn observe(&self) -> Result<Observed> {
        let (_, observed) = self.moved(&|block| Ok(self.blocks[block].zeros_like()))?;
        Ok(observed)
    }

    /// Moves the chains by a step, and gives what they had before it.
    pub fn advance(&mut self) -> Result<Observed> {
        let (blocks, observed) = self.moved(&|block| self.noise(block))?;
        self.blocks = blocks;
        self.step += 1;
        Ok(observed)
    }

    /// Where the chains are after a step with such noise, and what they had before it.
    fn moved(&self, noise: &dyn Fn(usize) -> Result<Tensor>) -> Result<(Vec<Tensor>, Observed)> {
        let _guard = tch::no_grad_guard();
        let Descending {
            network,
            motion,
            team,
        } = &self.descending;
        let (network, number) = (Shared::new(*network), self.step);
        let mut moved = Vec::with_capacity(self.blocks.len());
        let numbers: Vec<usize> = (0..self.blocks.len()).collect();
        for numbers in numbers.chunks(AT_ONCE) {
            let blocks = numbers
                .iter()
                .map(|&block| Ok((self.blocks[block].shallow_clone(), noise(block)?)))
                .collect::<Result<Vec<(Tensor, Tensor)>>>()?;
            let ends = team.map(blocks, |(states, noise)| {
                step(network.get(), motion, number, &states, &noise)
            })?;
            moved.extend(ends);
        }
        let (blocks, parts): (Vec<Tensor>, Vec<Part>) = moved.into_iter().unzip();
        let n_values: usize = blocks.iter().map(Tensor::numel).sum();
        Ok((blocks, Part::joined(parts, n_values)))
    }

    /// Standard normal, of the shape of a block. Chains of a block that is not full have the noise that they would have in a full one.
    fn noise(&self, block: usize) -> Result<Tensor> {
        let states = &self.blocks[block];
        let mut size = states.size();
        size[0] = self.length as i64;
        let _draws = seed_torch(block_seed(self.seed, block), self.step, Purpose::Langevin);
        let noise = Tensor::f_randn(size.as_slice(), (Kind::Float, states.device()))?;
        Ok(noise.f_narrow(0, 0, states.size()[0])?)
    }
}

/// Chains of a block.
fn block_length(network: &BoundNetwork<'_>) -> usize {
    match network.images_at_once() {
        ImagesAtOnce::All => LARGE_BLOCK,
        ImagesAtOnce::AtMost(most) => most,
    }
}

/// What all draws of a block derive from.
fn block_seed(seed: u64, block: usize) -> u64 {
    derive(seed, block as u64, Purpose::Samples)
}

/// What a block has: sums, which the whole has the means of.
struct Part {
    energies: Vec<f32>,
    gradient_strength: f64,
    n_beyond: f64,
}

/// The next states, and what the chains have before it.
fn step(
    network: &BoundNetwork<'_>,
    motion: &Motion,
    number: u64,
    states: &Tensor,
    noise: &Tensor,
) -> Result<(Tensor, Part)> {
    let [energies, gradient] = <[Tensor; 2]>::try_from(network.evaluate(states)?)
        .map_err(|outputs| anyhow!("expected energy and gradient, got {outputs:?}"))?;
    let (next, drift) = match motion {
        Motion::Langevin(dynamics) => langevin::step(states, &gradient, noise, dynamics)?,
        Motion::Flow(flow) => flow.step(number, (states, &gradient), noise, |tried| {
            gradient_at(network, tried)
        })?,
    };
    let beyond = langevin::saturated(states)?.f_sum(Kind::Double)?;
    let part = Part {
        energies: Vec::<f32>::try_from(energies.to_device(Device::Cpu))?,
        gradient_strength: norms(&drift)?.f_sum(Kind::Double)?.double_value(&[]),
        n_beyond: beyond.double_value(&[]),
    };
    Ok((next, part))
}

impl Part {
    fn joined(parts: Vec<Part>, n_values: usize) -> Observed {
        let sum = |of: fn(&Part) -> f64| parts.iter().map(of).sum::<f64>();
        let gradient_strength = sum(|part| part.gradient_strength);
        let n_beyond = sum(|part| part.n_beyond);
        let energies: Vec<f32> = parts.into_iter().flat_map(|part| part.energies).collect();
        Observed {
            gradient_strength: gradient_strength / energies.len() as f64,
            saturation: n_beyond / n_values as f64,
            energies,
        }
    }
}

#[cfg(test)]
mod tests {
    use ebm_export::source::networks::{Activation, Network, Sngan};
    use ebm_export::transform::potential::Potential;

    use super::*;
    use crate::chains::descent::Descent;
    use crate::chains::start::Noise;
    use crate::config::{Precision, Setting};
    use crate::network::{Weights, to_device};

    const SIZE: usize = 16;

    fn description() -> Network {
        Network::Sngan(Sngan::small(SIZE, 1, &[64], &[true], Activation::Silu))
    }

    /// An energy at T = 0.5 with τ = 0.7.
    fn descent() -> (Descent, Weights) {
        let potential = Potential {
            prior: None,
            tau: Some(0.7),
        };
        let descent =
            Descent::new(&description(), &potential, Precision::F32, Device::Cpu).unwrap();
        let weights = description().initial_weights(3).unwrap();
        (descent, to_device(&weights, Kind::Float, Device::Cpu))
    }

    /// Runs `n` chains for three steps with so many threads.
    fn ran(n: usize, n_threads: u16, seed: u64) -> (Tensor, Observed) {
        let (descent, weights) = descent();
        let network = descent.bind(&weights, 0.5).unwrap();
        let team = Team::new(Some(n_threads)).unwrap();
        let mut chains = chains(&network, &team, n, seed);
        for _ in 0..3 {
            chains.advance().unwrap();
        }
        let observed = chains.observe().unwrap();
        (Tensor::cat(&chains.states(), 0), observed)
    }

    fn chains<'a>(
        network: &'a BoundNetwork<'a>,
        team: &'a Team,
        n: usize,
        seed: u64,
    ) -> SampledChains<'a> {
        let dynamics = Dynamics {
            steps: 3,
            step_size: 0.1,
            temperature: 0.5,
            clip: Setting::OFF,
        };
        let noise = Noise([1, SIZE as i64, SIZE as i64]);
        let descending = Descending {
            network,
            motion: Motion::Langevin(dynamics),
            team,
        };
        SampledChains::begin(&noise, n, seed, descending).unwrap()
    }

    #[test]
    fn chains_depend_on_the_seed_and_not_on_threads() {
        let (states, observed) = ran(75, 1, 5);
        assert_eq!(states.size(), [75, 1, 16, 16]);
        let (others, other) = ran(75, 3, 5);
        assert!(states.equal(&others) && observed == other);
        assert!(!states.equal(&ran(75, 1, 6).0));
    }

    /// The last block is not full, and its kernels may round otherwise.
    #[test]
    fn the_first_chains_are_those_of_a_smaller_sample() {
        let (more, fewer) = (ran(75, 1, 5).0, ran(40, 1, 5).0);
        let difference = (more.narrow(0, 0, 40) - fewer).abs().max();
        assert!(difference.double_value(&[]) < 1e-5);
    }

    /// One step by hand: `x − (ε²/2T)·g + ε·z`, with what was observed before it.
    #[test]
    fn a_step_is_that_of_langevin_dynamics() {
        let (descent, weights) = descent();
        let network = descent.bind(&weights, 0.5).unwrap();
        let team = Team::new(Some(1)).unwrap();
        let mut chains = chains(&network, &team, 5, 2);
        let start = Tensor::cat(&chains.states(), 0) * 1.5;
        chains = chains.at(7, &start).unwrap();
        let observed = chains.advance().unwrap();
        assert_eq!(chains.step(), 8);

        let (energy, gradient) = (
            network.output("energy", &start).unwrap(),
            network.output("gradient", &start).unwrap(),
        );
        assert_eq!(observed.energies, Vec::<f32>::try_from(energy).unwrap());
        let drift = gradient * (0.1 * 0.1 / (2.0 * 0.5));
        let strength = norms(&drift).unwrap().mean(Kind::Double).double_value(&[]);
        assert!((observed.gradient_strength - strength).abs() < 1e-6);
        let beyond = start.abs().ge(1.0).to_kind(Kind::Double).mean(Kind::Double);
        assert!((observed.saturation - beyond.double_value(&[])).abs() < 1e-12);
        assert!(observed.saturation > 0.2);

        let _draws = seed_torch(block_seed(2, 0), 7, Purpose::Langevin);
        let length = block_length(&network) as i64;
        let noise = Tensor::randn([length, 1, 16, 16], (Kind::Float, Device::Cpu));
        let wanted = start - drift + noise.narrow(0, 0, 5) * 0.1;
        let difference = (Tensor::cat(&chains.states(), 0) - wanted).abs().max();
        assert!(difference.double_value(&[]) < 1e-6);
    }

    #[test]
    fn a_chain_that_is_lost_is_an_error() {
        let observed = |energies: &[f32]| Observed {
            energies: energies.to_vec(),
            ..Observed::default()
        };
        assert!(observed(&[1.0, 2.0]).check(3).is_ok());
        assert_eq!(observed(&[1.0, 3.0]).energy(), (2.0, 2f64.sqrt()));
        let error = observed(&[1.0, f32::NAN]).check(3).unwrap_err().to_string();
        assert!(error.starts_with("step 3: the energy of 1 of 2 chains"));
    }
}
