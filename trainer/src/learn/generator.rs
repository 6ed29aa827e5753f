//! The generator that makes the starts of cooperative chains, and learns from where they end.

use anyhow::{Context, Result, ensure};
use ebm_export::graph::tensor::Tensors;
use ebm_export::source::checkpoint::{GENERATOR, GENERATOR_EMA};
use ebm_export::source::networks::Network;
use tch::{Device, Kind, Tensor};

use crate::chains::Latents;
use crate::config::{GeneratorConfig, Setting};
use crate::machine::ranks::Ranks;
use crate::network::{Norms, Program, Weights, bytes, to_device};
use crate::weights::NotFinite;
use crate::weights::gradients::of_loss;
use crate::weights::learned::{Groups, Held, Learned, ReadGroup};

const GROUPS: Groups = Groups {
    weights: GENERATOR,
    average: GENERATOR_EMA,
    optimizer: "generator_optimizer",
};

/// A generator of images from z.
#[derive(Debug)]
pub struct Generator {
    device: Device,
    /// Batch norms work as configured.
    program: Program,
    /// Batch norms use their running statistics.
    for_use: Program,
    weights: GeneratorWeights,
    latent: usize,
    n_classes: Option<usize>,
    truncation: Setting,
}

#[derive(Debug)]
enum GeneratorWeights {
    Learned(Box<Learned>),
    Fixed { tensors: Tensors, weights: Weights },
}

impl Generator {
    /// As configured. `fixed` are the weights of one that does not learn.
    ///
    /// # Errors
    /// The network makes no sense, or the weights are missing.
    pub fn new(
        config: &GeneratorConfig,
        fixed: Option<&Tensors>,
        seed: u64,
        device: Device,
    ) -> Result<Generator> {
        let network = config.network();
        let weights = match config {
            GeneratorConfig::Learned(learned) => {
                GeneratorWeights::Learned(Box::new(Learned::new(network, learned, seed, device)?))
            }
            GeneratorConfig::Fixed(_) => {
                let tensors = fixed.context("a fixed generator needs weights")?;
                GeneratorWeights::Fixed {
                    weights: to_device(tensors, Kind::Float, device),
                    tensors: tensors.clone(),
                }
            }
        };
        let graph = network.graph()?;
        let norms = Norms::from(config.batch_norm());
        Ok(Generator {
            device,
            program: Program::with_norms(&graph, Kind::Float, device, norms),
            for_use: Program::new(&graph, Kind::Float, device),
            weights,
            latent: latent(network)?,
            n_classes: network.n_classes(),
            truncation: config.truncation(),
        })
    }

    /// Draws what `n` images are made from: z normal, truncated as configured; classes all equally likely. The caller has seeded libtorch's
    /// generator.
    pub fn draw_latents(&self, n: usize) -> Result<Latents> {
        let size = [n as i64, self.latent as i64];
        let z = match self.truncation.value() {
            None => Tensor::f_randn(size, (Kind::Float, Device::Cpu))?,
            Some(most) => truncated_normal(size, most)?,
        };
        let classes = self.n_classes.map(|n_classes| {
            let options = (Kind::Int64, Device::Cpu);
            Tensor::f_randint(n_classes as i64, [n as i64], options)
        });
        let classes = classes.transpose()?;
        Ok(Latents {
            z: z.to_device(self.device),
            classes: classes.map(|classes| classes.to_kind(Kind::Float).to_device(self.device)),
        })
    }

    /// The images of latents, `[n, C, H, W]`, as they start chains.
    pub fn images(&self, latents: &Latents) -> Result<Tensor> {
        let weights = match &self.weights {
            GeneratorWeights::Learned(learned) => learned.detached(),
            GeneratorWeights::Fixed { weights, .. } => crate::weights::gradients::detached(weights),
        };
        tch::no_grad(|| self.evaluated(&self.program, &weights, latents))
    }

    /// The images of latents, `[n, C, H, W]`, by the weights to use later and the running statistics.
    pub fn finished_images(&self, latents: &Latents) -> Result<Tensor> {
        let weights = match &self.weights {
            GeneratorWeights::Learned(learned) => learned.best(),
            GeneratorWeights::Fixed { weights, .. } => crate::weights::gradients::detached(weights),
        };
        tch::no_grad(|| self.evaluated(&self.for_use, &weights, latents))
    }

    fn evaluated(&self, program: &Program, weights: &Weights, latents: &Latents) -> Result<Tensor> {
        let network = program.bind(weights)?;
        let network = match self.one_hot(latents)? {
            Some(classes) => network.given("class", &classes)?,
            None => network,
        };
        network.output("image", &latents.z)
    }

    /// f32 `[n, n_classes]`, if the generator distinguishes classes.
    fn one_hot(&self, latents: &Latents) -> Result<Option<Tensor>> {
        let (Some(n_classes), Some(classes)) = (self.n_classes, &latents.classes) else {
            return Ok(None);
        };
        let classes = classes.f_to_kind(Kind::Int64)?;
        let one_hot = classes.f_one_hot(n_classes as i64)?.to_kind(Kind::Float);
        Ok(Some(one_hot))
    }

    /// Moves the weights so that latents come closer to where their chains ended, `[n, C, H, W]`: down the mean over chains of
    /// `‖x⁻ − G(z)‖²`, which it gives. Nothing happens to a fixed generator. Its batch norms mix the images of a batch, so every process
    /// learns from all of them, and they agree on the gradient.
    ///
    /// # Errors
    /// The loss is not finite, or libtorch fails.
    pub fn learn(
        &mut self,
        latents: &Latents,
        ends: &Tensor,
        update: u64,
        ranks: &Ranks,
    ) -> Result<Option<f64>> {
        let GeneratorWeights::Learned(learned) = &self.weights else {
            return Ok(None);
        };
        let network = self.program.bind(learned.weights())?;
        let network = match self.one_hot(latents)? {
            Some(classes) => network.given("class", &classes)?,
            None => network,
        };
        let evaluation = network.evaluate_batch(&latents.z)?;
        let images = evaluation.outputs.first().context("no image came out")?;
        let n = ends.size()[0] as f64;
        let loss = images.f_sub(ends)?.f_square()?.f_sum(Kind::Float)? / n;
        let gradients = ranks.agreed(of_loss(&loss, learned.weights())?)?;
        let value = loss.double_value(&[]);
        ensure!(
            value.is_finite(),
            NotFinite(format!("the generator's loss is {value}"))
        );
        if let GeneratorWeights::Learned(learned) = &mut self.weights {
            learned.step(gradients, &evaluation.statistics, update)?;
        }
        Ok(Some(value))
    }

    /// Bytes of all that it holds.
    pub fn held(&self) -> Held {
        match &self.weights {
            GeneratorWeights::Learned(learned) => learned.held(),
            // Once as they are computed with, and once as they are written.
            GeneratorWeights::Fixed { weights, .. } => Held {
                weights: 2 * bytes(weights.values()),
                ..Held::default()
            },
        }
    }

    /// Bytes that are held for a while when it makes `n` images and, if it learns, learns from them.
    pub fn passing(&self, n: usize) -> u64 {
        let (n, footprint) = (n as u64, self.program.footprint());
        match &self.weights {
            GeneratorWeights::Learned(learned) => {
                footprint.bound + n * footprint.tracked + learned.held().weights
            }
            GeneratorWeights::Fixed { .. } => footprint.bound + n * footprint.plain,
        }
    }

    /// Multiplies the configured learning rate from now on, if it learns.
    pub fn set_pace(&mut self, pace: f64) {
        if let GeneratorWeights::Learned(learned) = &mut self.weights {
            learned.set_pace(pace);
        }
    }

    /// Its groups of a checkpoint.
    pub fn save(&self) -> Result<Vec<(&'static str, Tensors)>> {
        match &self.weights {
            GeneratorWeights::Learned(learned) => learned.save(GROUPS),
            GeneratorWeights::Fixed { tensors, .. } => Ok(vec![(GENERATOR, tensors.clone())]),
        }
    }

    /// Goes on from a checkpoint of that many updates.
    pub fn restore(&mut self, updates: u64, group: ReadGroup<'_>) -> Result<()> {
        match &mut self.weights {
            GeneratorWeights::Learned(learned) => learned.restore(GROUPS, updates, group),
            GeneratorWeights::Fixed { .. } => Ok(()),
        }
    }
}

/// Values of z.
fn latent(network: &Network) -> Result<usize> {
    let graph = network.graph()?;
    let z = graph.input_named("z")?;
    graph.shape(z).size(1).context("z has no known size")
}

/// Standard normal values within `most` deviations: `√2 · erf⁻¹(u · erf(most/√2))` with u uniform in `(-1, 1)`.
fn truncated_normal(size: [i64; 2], most: f64) -> Result<Tensor> {
    let options = (Kind::Double, Device::Cpu);
    let inside = Tensor::from(most / std::f64::consts::SQRT_2).f_erf()?;
    let uniform = Tensor::f_rand(size, options)? * 2.0 - 1.0;
    let z = (uniform * inside).f_erfinv()? * std::f64::consts::SQRT_2;
    Ok(z.f_clamp(-most, most)?.f_to_kind(Kind::Float)?)
}

#[cfg(test)]
mod tests {
    use ebm_export::source::networks::{BigganGenerator, Classes, SnganGenerator};

    use super::*;
    use crate::config::{AdamConfig, BatchNormMode, FixedGenerator, LearnedGenerator, Schedule};
    use crate::machine::randomness::seeded;

    fn learned(network: Network, batch_norm: BatchNormMode) -> GeneratorConfig {
        GeneratorConfig::Learned(LearnedGenerator {
            network,
            learning_rate: Schedule::Constant(1e-2),
            adam: AdamConfig {
                beta1: 0.9,
                beta2: 0.999,
                epsilon: 1e-8,
            },
            ema_decay: Setting::On(0.9),
            weight_gradient_clip: Setting::On(50.0),
            batch_norm,
            truncation: Setting::OFF,
        })
    }

    fn small() -> Network {
        Network::SnganGenerator(SnganGenerator {
            latent: 4,
            channels: 1,
            widths: vec![6, 6],
            ..SnganGenerator::gen_sngan32(1)
        })
    }

    fn with_classes() -> Network {
        Network::BigganGenerator(BigganGenerator {
            latent: 4,
            channels: 1,
            bottom: 8,
            widths: vec![8, 4],
            upsamples: vec![false, true],
            attention: None,
            classes: Some(Classes {
                n_classes: 3,
                embedding: 2,
            }),
            ..BigganGenerator::gen_biggan64(4)
        })
    }

    #[test]
    fn a_generator_learns_to_hit_its_targets() {
        for network in [small(), with_classes()] {
            let config = learned(network, BatchNormMode::Training);
            let mut generator = Generator::new(&config, None, 1, Device::Cpu).unwrap();
            let _draws = seeded(3);
            let latents = generator.draw_latents(16).unwrap();
            let targets = generator.images(&latents).unwrap().flip([3]) * 0.5;
            let mut losses = Vec::new();
            let alone = Ranks::alone();
            for update in 0..40 {
                losses.extend(generator.learn(&latents, &targets, update, &alone).unwrap());
            }
            assert!(losses[39] < 0.5 * losses[0], "{losses:?}");
        }
    }

    /// What is made of an image depends on the others only while batch norms take the statistics of the batch.
    #[test]
    fn batch_norms_work_as_configured() {
        for (mode, alone) in [
            (BatchNormMode::Training, false),
            (BatchNormMode::Inference, true),
        ] {
            let generator = Generator::new(&learned(small(), mode), None, 1, Device::Cpu).unwrap();
            let _draws = seeded(3);
            let latents = generator.draw_latents(6).unwrap();
            let first = Latents {
                z: latents.z.narrow(0, 0, 1),
                classes: None,
            };
            let difference = generator.images(&latents).unwrap().narrow(0, 0, 1)
                - generator.images(&first).unwrap();
            let difference = difference.abs().max().double_value(&[]);
            assert_eq!(difference < 1e-5, alone, "{mode:?}: {difference}");
        }
    }

    #[test]
    fn a_fixed_generator_stays_as_it_is() {
        let weights = small().initial_weights(5).unwrap();
        let config = GeneratorConfig::Fixed(FixedGenerator {
            network: small(),
            checkpoint: "".into(),
            batch_norm: BatchNormMode::Inference,
            truncation: Setting::OFF,
        });
        assert!(Generator::new(&config, None, 1, Device::Cpu).is_err());
        let mut generator = Generator::new(&config, Some(&weights), 1, Device::Cpu).unwrap();
        let _draws = seeded(1);
        let latents = generator.draw_latents(2).unwrap();
        let ends = generator.images(&latents).unwrap() * 0.5;
        assert_eq!(
            generator
                .learn(&latents, &ends, 0, &Ranks::alone())
                .unwrap(),
            None
        );
        assert_eq!(generator.save().unwrap(), [(GENERATOR, weights)]);
    }

    /// A normal variable within two deviations has the variance 1 − 4φ(2)/(2Φ(2) − 1) = 0.7737.
    #[test]
    fn a_truncated_normal_has_its_variance_and_ends() {
        let _draws = seeded(8);
        let z = truncated_normal([100_000, 1], 2.0).unwrap();
        assert!((z.var(true).double_value(&[]) - 0.7737).abs() < 0.01);
        let largest = z.abs().max().double_value(&[]);
        assert!((1.99..=2.0).contains(&largest), "{largest}");
    }
}
