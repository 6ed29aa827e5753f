//! Purification that can be gone back through: the exact gradient of a Langevin chain, without autograd.
//!
//! A step is `x' = x − c·clip(g(x)) + ε·z`, with `g = ∇(T·U)` and `c = ε²/(2T)`. The noise z does not depend on x, so a cotangent v of x'
//! becomes `v − c·H(x)·J·v` at x, with the Hessian `H = ∇²(T·U)` and the derivative J of the clipping. Only the states are needed for it:
//! they are all kept if they fit the memory allowed, else every √K-th of them, and those between are computed again with the same noise.

use std::fmt;

use anyhow::{Result, bail};
use tch::Tensor;

use crate::chains::langevin::{gradient_at, norms, step};
use crate::config::Dynamics;
use crate::machine::parallel::{Shared, Team};
use crate::machine::randomness::{Purpose, derive, seeded};
use crate::network::BoundNetwork;

/// Whose noise a seed is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noise {
    /// Each image has noise of its own.
    OfEachImage,
    /// Every image meets the same noise, as on a device that begins each purification with the same seed.
    OfTheDevice,
    /// There is none: plain gradient descent, the control that shows what the noise is good for.
    Off,
}

/// Langevin chains that start from given images, with noise that is known by its seed.
#[derive(Clone, Copy, Debug)]
pub struct Purification<'a> {
    /// Divides the work.
    pub team: &'a Team,
    /// With the output `gradient`: `∇(T·U)`.
    pub gradient: &'a BoundNetwork<'a>,
    /// How chains move.
    pub dynamics: Dynamics,
    /// Whose noise a seed is.
    pub noise: Noise,
    /// Images that move together.
    pub batch: usize,
}

/// States of chains on their way, from which the way back is found.
#[derive(Debug)]
pub struct Trail {
    /// Where the chains ended, `[N, C, H, W]`.
    pub ends: Tensor,
    batches: Vec<TrailOfBatch>,
}

/// What was kept of one batch.
#[derive(Debug)]
struct TrailOfBatch {
    noise_seed: u64,
    /// The state before every step of that stride, each in the parts in which the team works on it.
    kept: Vec<Vec<Tensor>>,
}

/// Which states are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stride(usize);

impl Stride {
    /// Keeps all states of `steps` steps if they fit, else every √steps-th.
    ///
    /// # Errors
    /// Even these are too many.
    pub fn that_fits(steps: usize, state_bytes: u64, most_bytes: u64) -> Result<Stride> {
        let fits = |stride: &Stride| stride.bytes(steps, state_bytes) <= most_bytes;
        let root = Stride::root(steps);
        if let Some(stride) = [Stride::ALL, root].into_iter().find(fits) {
            return Ok(stride);
        }
        bail!(
            "the states of {steps} steps need {:.1} MB even if only {root} is kept, and --memory allows {:.1} MB: raise it, or lower --batch",
            root.bytes(steps, state_bytes) as f64 / 1e6,
            most_bytes as f64 / 1e6
        )
    }

    /// Every state.
    pub const ALL: Stride = Stride(1);

    /// Every √steps-th state.
    pub fn root(steps: usize) -> Stride {
        Stride(((steps as f64).sqrt().ceil() as usize).max(1))
    }

    /// What the states take, at most at a time.
    pub fn bytes(self, steps: usize, state_bytes: u64) -> u64 {
        // The states between two kept ones are there while the way back leads through them.
        let between = if self == Stride::ALL { 0 } else { self.0 };
        (steps.div_ceil(self.0) + between) as u64 * state_bytes
    }
}

/// What share of all states it is.
impl fmt::Display for Stride {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("every state"),
            n => write!(f, "one state of {n}"),
        }
    }
}

impl Purification<'_> {
    /// Where chains end that start at images `[N, C, H, W]`.
    pub fn purify(&self, images: &Tensor, noise_seed: u64) -> Result<Tensor> {
        let ends = self.batches(images, noise_seed)?.map(|(start, seed)| {
            let mut parts = start;
            for number in 0..self.dynamics.steps {
                parts = self.moved(parts, seed, number)?;
            }
            Ok(Tensor::f_cat(&parts, 0)?)
        });
        Ok(Tensor::f_cat(&ends.collect::<Result<Vec<_>>>()?, 0)?)
    }

    /// The same, with the states kept for the way back.
    pub fn record(&self, images: &Tensor, noise_seed: u64, stride: Stride) -> Result<Trail> {
        let (mut ends, mut batches) = (Vec::new(), Vec::new());
        for (start, noise_seed) in self.batches(images, noise_seed)? {
            let (mut parts, mut kept) = (start, Vec::new());
            for number in 0..self.dynamics.steps {
                if number % stride.0 == 0 {
                    kept.push(shallow(&parts));
                }
                parts = self.moved(parts, noise_seed, number)?;
            }
            ends.push(Tensor::f_cat(&parts, 0)?);
            batches.push(TrailOfBatch { noise_seed, kept });
        }
        let ends = Tensor::f_cat(&ends, 0)?;
        Ok(Trail { ends, batches })
    }

    /// The cotangent of the starts, from that of the ends: both `[N, C, H, W]`. `curvature` has the output `hvp`.
    ///
    /// # Errors
    /// The cotangent is not shaped as the images, or `curvature` is that of another potential.
    pub fn pull_back(
        &self,
        record: &Trail,
        stride: Stride,
        curvature: &BoundNetwork<'_>,
        cotangent: &Tensor,
    ) -> Result<Tensor> {
        let batches = cotangent.f_split(self.batch as i64, 0)?;
        let starts = record
            .batches
            .iter()
            .zip(batches)
            .map(|(batch, cotangent)| {
                let mut cotangents = self.parts(&cotangent)?;
                for (segment, first) in batch.kept.iter().enumerate().rev() {
                    let begin = segment * stride.0;
                    let end = (begin + stride.0).min(self.dynamics.steps);
                    let mut states = vec![shallow(first)];
                    for number in begin..end - 1 {
                        let next =
                            self.moved(shallow(&states[number - begin]), batch.noise_seed, number)?;
                        states.push(next);
                    }
                    for state in states.into_iter().rev() {
                        cotangents = self.pulled(curvature, state, cotangents)?;
                    }
                }
                Ok(Tensor::f_cat(&cotangents, 0)?)
            });
        Ok(Tensor::f_cat(&starts.collect::<Result<Vec<_>>>()?, 0)?)
    }

    /// The batches of images, each in parts and with the seed of its noise.
    fn batches(
        &self,
        images: &Tensor,
        noise_seed: u64,
    ) -> Result<impl Iterator<Item = (Vec<Tensor>, u64)> + use<>> {
        let batches = images.detach().f_split(self.batch as i64, 0)?;
        let parts = batches.iter().map(|batch| self.parts(batch));
        let parts = parts.collect::<Result<Vec<_>>>()?;
        let noise = self.noise;
        Ok(parts.into_iter().enumerate().map(move |(number, parts)| {
            let seed = match noise {
                Noise::OfEachImage | Noise::Off => {
                    derive(noise_seed, number as u64, Purpose::ChainNoise)
                }
                Noise::OfTheDevice => noise_seed,
            };
            (parts, seed)
        }))
    }

    fn parts(&self, batch: &Tensor) -> Result<Vec<Tensor>> {
        self.team.split(batch, self.gradient.images_at_once())
    }

    /// One step of every part. Its noise depends on nothing but the seed, the number of the step and the sizes.
    fn moved(&self, parts: Vec<Tensor>, noise_seed: u64, number: usize) -> Result<Vec<Tensor>> {
        let _guard = tch::no_grad_guard();
        let noise = self.drawn(&parts, derive(noise_seed, number as u64, Purpose::Langevin))?;
        let (network, dynamics) = (Shared::new(self.gradient), self.dynamics);
        let both = parts.into_iter().zip(noise).collect();
        self.team.map(both, |(state, noise): (Tensor, Tensor)| {
            let gradient = gradient_at(network.get(), &state)?;
            Ok(step(&state, &gradient, &noise, &dynamics)?.0)
        })
    }

    fn drawn(&self, parts: &[Tensor], seed: u64) -> Result<Vec<Tensor>> {
        let _draws = seeded(seed);
        match (self.noise, parts.first()) {
            (Noise::Off, _) => parts.iter().map(|part| Ok(part.f_zeros_like()?)).collect(),
            (Noise::OfTheDevice, Some(first)) => {
                let one = first
                    .f_narrow(0, 0, first.size()[0].min(1))?
                    .f_randn_like()?;
                parts
                    .iter()
                    .map(|part| Ok(one.f_expand_as(part)?))
                    .collect()
            }
            _ => parts.iter().map(|part| Ok(part.f_randn_like()?)).collect(),
        }
    }

    /// The cotangents of the states before a step, from those behind it.
    fn pulled(
        &self,
        curvature: &BoundNetwork<'_>,
        states: Vec<Tensor>,
        cotangents: Vec<Tensor>,
    ) -> Result<Vec<Tensor>> {
        let _guard = tch::no_grad_guard();
        let (gradient, curvature) = (Shared::new(self.gradient), Shared::new(curvature));
        let dynamics = self.dynamics;
        let both = states.into_iter().zip(cotangents).collect();
        self.team.map(both, |(state, cotangent): (Tensor, Tensor)| {
            let through_clip = through_clip(&dynamics, gradient.get(), &state, &cotangent)?;
            let mut bent = curvature
                .get()
                .evaluate_with(&state, &[("v", &through_clip)])?
                .outputs;
            let bent = bent.swap_remove(0).f_mul_scalar(dynamics.drift_factor())?;
            Ok(cotangent.f_sub(&bent)?)
        })
    }
}

/// `J·v`, with the derivative J of the clipped drift by the drift d: v itself if d is short enough or nothing is clipped, else
/// `(c/‖d‖)·(v − d·(d·v)/‖d‖²)`.
fn through_clip(
    dynamics: &Dynamics,
    gradient: &BoundNetwork<'_>,
    state: &Tensor,
    v: &Tensor,
) -> Result<Tensor> {
    let Some(largest) = dynamics.clip.value() else {
        return Ok(v.shallow_clone());
    };
    let drift = gradient_at(gradient, state)?.f_mul_scalar(dynamics.drift_factor())?;
    let length = norms(&drift)?
        .f_view([-1, 1, 1, 1])?
        .f_clamp_min(f64::MIN_POSITIVE.sqrt())?;
    let unit = drift.f_div(&length)?;
    let along = (&unit * v).f_sum_dim_intlist([1i64, 2, 3].as_slice(), true, v.kind())?;
    let shortened = (v - &unit * along).f_mul(&(largest / &length))?;
    Ok(shortened.f_where_self(&length.f_gt(largest)?, v)?)
}

fn shallow(parts: &[Tensor]) -> Vec<Tensor> {
    parts.iter().map(Tensor::shallow_clone).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Instant;

    use ebm_export::source::networks::{Activation, Network, Sngan};
    use ebm_export::transform::pipeline::gradient_graph;
    use ebm_export::transform::potential::{PRIOR_PREFIX, Potential, Prior};
    use ebm_export::transform::rewrite::Rewrite;
    use tch::{Device, Kind};

    use super::*;
    use crate::chains::descent::Descent;
    use crate::config::{EnergyConfig, Layers, Precision, Setting};
    use crate::network::{Program, to_device};

    /// A smooth energy with everything that may stand beside it, in f64.
    struct Laboratory {
        energy: Program,
        gradient: Program,
        curvature: Program,
        weights: BTreeMap<String, Tensor>,
    }

    const TEMPERATURE: f64 = 0.5;

    impl Laboratory {
        fn new() -> Laboratory {
            let network = |widths: &[usize]| {
                let pools = vec![true; widths.len()];
                Network::Sngan(Sngan::small(8, 1, widths, &pools, Activation::Silu))
            };
            let prior = network(&[3]);
            let potential = Potential {
                prior: Some(Prior {
                    weights: prior.initial_weights(2).unwrap(),
                    network: prior,
                    temperature: 0.25,
                }),
                tau: Some(1.5),
            };
            let own = network(&[5, 4]);
            let graph = own.graph().unwrap();
            let program = |graph| Program::new(&graph, Kind::Double, Device::Cpu);
            let gradient = gradient_graph(&graph, &Rewrite::COMMON).unwrap();
            let weights = potential.weights(&own.initial_weights(1).unwrap());
            assert!(weights.keys().any(|name| name.starts_with(PRIOR_PREFIX)));
            Laboratory {
                energy: program(potential.energy_graph(&graph, &[]).unwrap()),
                gradient: program(
                    potential
                        .gradient_graph(&gradient, &Rewrite::COMMON)
                        .unwrap(),
                ),
                curvature: program(potential.hvp_graph(&graph, &Rewrite::COMMON).unwrap()),
                weights: to_device(&weights, Kind::Double, Device::Cpu)
                    .into_iter()
                    // Larger than at the start of learning, so that the chain bends.
                    .map(|(name, weight)| (name, weight * 3.0))
                    .collect(),
            }
        }

        fn bound<'a>(&self, program: &'a Program) -> BoundNetwork<'a> {
            let temperature = Tensor::from(TEMPERATURE);
            program
                .bind(&self.weights)
                .unwrap()
                .given("temperature", &temperature)
                .unwrap()
        }
    }

    fn dynamics(clip: Setting) -> Dynamics {
        Dynamics {
            steps: 7,
            step_size: 0.4,
            temperature: TEMPERATURE,
            clip,
        }
    }

    /// The unrolled chain under autograd: the gradient of `Σ w·x_K` with respect to the starts.
    fn by_autograd(
        laboratory: &Laboratory,
        purification: &Purification<'_>,
        start: &Tensor,
        w: &Tensor,
        noise_seed: u64,
    ) -> Tensor {
        let network = laboratory.bound(&laboratory.gradient);
        let leaf = start.detach().set_requires_grad(true);
        let mut batches = Vec::new();
        for (number, batch) in leaf
            .split(purification.batch as i64, 0)
            .into_iter()
            .enumerate()
        {
            let seed = derive(noise_seed, number as u64, Purpose::ChainNoise);
            let mut x = batch;
            for number in 0..purification.dynamics.steps {
                let noise = {
                    let _draws = seeded(derive(seed, number as u64, Purpose::Langevin));
                    let parts = purification.parts(&x.detach()).unwrap();
                    let noise: Vec<Tensor> = parts.iter().map(Tensor::randn_like).collect();
                    Tensor::cat(&noise, 0)
                };
                let gradient = network.output("gradient", &x).unwrap();
                x = step(&x, &gradient, &noise, &purification.dynamics)
                    .unwrap()
                    .0;
            }
            batches.push(x);
        }
        let loss = (Tensor::cat(&batches, 0) * w).sum(Kind::Double);
        Tensor::run_backward(&[&loss], &[&leaf], false, false).swap_remove(0)
    }

    fn relative(got: &Tensor, wanted: &Tensor) -> f64 {
        ((got - wanted).norm() / wanted.norm()).double_value(&[])
    }

    /// Autograd's derivative of the gradient graph is one oracle, differences of the ends with frozen noise the other.
    #[test]
    fn the_way_back_is_the_exact_gradient_of_the_chain() {
        let laboratory = Laboratory::new();
        let [gradient, curvature] =
            [&laboratory.gradient, &laboratory.curvature].map(|program| laboratory.bound(program));
        let (start, w, along) = {
            let _draws = seeded(5);
            let like = || Tensor::randn([5, 1, 8, 8], (Kind::Double, Device::Cpu));
            (like() * 0.5, like(), like())
        };
        let team = Team::new(Some(2)).unwrap();
        for (clip, clips) in [(Setting::OFF, false), (Setting::On(1.0), true)] {
            let purification = Purification {
                team: &team,
                gradient: &gradient,
                dynamics: dynamics(clip),
                noise: Noise::OfEachImage,
                batch: 3,
            };
            let wanted = by_autograd(&laboratory, &purification, &start, &w, 9);
            for stride in [Stride(1), Stride(3)] {
                let record = purification.record(&start, 9, stride).unwrap();
                assert!(record.ends.equal(&purification.purify(&start, 9).unwrap()));
                let got = purification
                    .pull_back(&record, stride, &curvature, &w)
                    .unwrap();
                let error = relative(&got, &wanted);
                assert!(error < 1e-6, "clips: {clips}, {stride:?}: {error}");
                let end = |shift: f64| {
                    let ends = purification.purify(&(&start + &along * shift), 9).unwrap();
                    (ends * &w).sum(Kind::Double).double_value(&[])
                };
                let differences = (end(1e-6) - end(-1e-6)) / 2e-6;
                let slope = (&got * &along).sum(Kind::Double).double_value(&[]);
                assert!(
                    (slope - differences).abs() < 1e-5 * slope.abs().max(1.0),
                    "{slope} {differences}"
                );
                // The chain bends: taking it for the identity would be far off.
                assert!(relative(&w, &wanted) > 0.05);
            }
        }
        let energies = laboratory
            .bound(&laboratory.energy)
            .output("energy", &start)
            .unwrap();
        assert_eq!(energies.size(), [5]);
    }

    /// What becomes of an image does not depend on those beside it.
    #[test]
    fn the_noise_of_a_device_is_the_same_for_every_image() {
        let laboratory = Laboratory::new();
        let gradient = laboratory.bound(&laboratory.gradient);
        let team = Team::new(Some(1)).unwrap();
        let purification = Purification {
            team: &team,
            gradient: &gradient,
            dynamics: dynamics(Setting::OFF),
            noise: Noise::OfTheDevice,
            batch: 2,
        };
        let _draws = seeded(3);
        let images = Tensor::randn([5, 1, 8, 8], (Kind::Double, Device::Cpu));
        let together = purification.purify(&images, 4).unwrap();
        for place in 0..5 {
            let alone = purification.purify(&images.narrow(0, place, 1), 4).unwrap();
            assert!(relative(&alone, &together.narrow(0, place, 1)) < 1e-9);
        }
    }

    /// What a gradient costs, in runs of its chain; on a machine that does nothing else.
    #[test]
    #[ignore = "measures time"]
    fn cost_of_the_way_back() {
        const N_IMAGES: i64 = 64;
        let layers = Layers::default().preset("mnist-midrun").unwrap();
        let config: EnergyConfig = layers.resolve().unwrap();
        let (dynamics, device) = (Dynamics::from(config.purification), Device::Cpu);
        let (graph, potential) = (config.network.graph().unwrap(), Potential::default());
        let descent = Descent::of_energy(&graph, &potential, Precision::F32, device).unwrap();
        let curvature = Descent::curvature(&graph, &potential, Precision::F32, device).unwrap();
        let weights = config.network.initial_weights(1).unwrap();
        let weights = to_device(&weights, Kind::Float, device);
        let [gradient, curvature] = [&descent, &curvature]
            .map(|descent| descent.bind(&weights, dynamics.temperature).unwrap());
        let (images, cotangent) = {
            let _draws = seeded(1);
            let like = || Tensor::randn([N_IMAGES, 1, 32, 32], (Kind::Float, device)) * 0.3;
            (like(), like())
        };
        let team = Team::new(None).unwrap();
        let purification = Purification {
            team: &team,
            gradient: &gradient,
            dynamics,
            noise: Noise::OfEachImage,
            batch: N_IMAGES as usize,
        };
        let least = |mut work: Box<dyn FnMut() + '_>| {
            let seconds = (0..3).map(|_| {
                let start = Instant::now();
                work();
                start.elapsed().as_secs_f64()
            });
            seconds.fold(f64::INFINITY, f64::min)
        };
        let forward = least(Box::new(|| drop(purification.purify(&images, 1).unwrap())));
        println!(
            "{} steps of {N_IMAGES} images, {} threads: {forward:.3} s",
            dynamics.steps,
            team.n_threads()
        );
        for (stride, most) in [(Stride::ALL, 3.5), (Stride::root(dynamics.steps), 4.5)] {
            let both = least(Box::new(|| {
                let record = purification.record(&images, 1, stride).unwrap();
                drop(
                    purification
                        .pull_back(&record, stride, &curvature, &cotangent)
                        .unwrap(),
                );
            }));
            let ratio = both / forward;
            let megabytes =
                stride.bytes(dynamics.steps, N_IMAGES as u64 * 32 * 32 * 4) as f64 / 1e6;
            println!(
                "{stride} kept, {megabytes:.1} MB: there and back {both:.3} s, {ratio:.2} times as long"
            );
            assert!(ratio <= most, "expected up to {most}");
        }
    }

    #[test]
    fn states_are_kept_as_the_memory_allows() {
        for (steps, most, wanted) in [
            (60, 60_000, Some(1)),
            (60, 59_999, Some(8)),
            (60, 16_000, Some(8)),
            (60, 15_000, None),
            (1, 1_000, Some(1)),
        ] {
            let stride = Stride::that_fits(steps, 1_000, most).ok();
            assert_eq!(stride.map(|stride| stride.0), wanted, "{steps} in {most}");
        }
        let error = Stride::that_fits(60, 1_000_000, 1).unwrap_err().to_string();
        assert!(
            error.contains("--memory") && error.contains("--batch"),
            "{error}"
        );
    }
}
