//! The adversary that a classifier learns against: the steps and the projection are those of `trainer attack`.

use std::fmt;

use anyhow::Result;
use tch::Tensor;

use crate::config::AdversarialConfig;
use crate::evaluate::attack::climb::{Climber, Pgd};
use crate::evaluate::attack::{Backward, Ball, Defence, Loss, Metric, Oracle, Question, Replay};
use crate::network::BoundNetwork;

/// Makes images harder by projected gradient ascent.
#[derive(Clone, Copy, Debug)]
pub struct Adversary {
    config: AdversarialConfig,
    ball: Ball,
}

impl Adversary {
    /// As it is configured.
    pub fn new(config: AdversarialConfig) -> Adversary {
        let AdversarialConfig { norm, epsilon, .. } = config;
        Adversary {
            config,
            ball: Ball { norm, epsilon },
        }
    }

    /// Where it starts from images `[N, C, H, W]`. The caller has seeded libtorch's generator.
    pub fn starts(&self, clean: &Tensor) -> Result<Tensor> {
        self.ball.start(self.config.start, clean)
    }

    /// What it makes of images `[N, C, H, W]` with labels int64 `[N]`, from those starts.
    pub fn attacked(
        &self,
        classifier: &BoundNetwork<'_>,
        clean: &Tensor,
        starts: Tensor,
        labels: &Tensor,
    ) -> Result<Tensor> {
        let oracle = Oracle {
            defence: Defence {
                classifier,
                front: None,
                batch: clean.size()[0] as usize,
            },
            backward: Backward::Identity,
            loss: Loss::CrossEntropy,
            metric: Metric::Single,
            copies: 1,
            seed: 0,
            replay: Replay::Same,
        };
        let length = self.config.step_size.in_signed_range();
        let mut climber = Pgd::new(self.ball, clean, starts, length);
        for number in 0..self.config.steps as u64 {
            let images = climber.query()?;
            let answer = oracle.ask(Question::Gradient, &images, labels, number)?;
            climber.learn(&images, &answer)?;
        }
        climber.query()
    }
}

impl fmt::Display for Adversary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {} steps", self.ball, self.config.steps)
    }
}

#[cfg(test)]
mod tests {
    use ebm_export::source::networks::{Activation, ConvClassifier, Network};
    use tch::{Device, Kind};

    use super::*;
    use crate::config::{Begin, Norm};
    use crate::machine::randomness::seeded;
    use crate::network::{Program, to_device};

    #[test]
    fn attacked_images_are_harder_and_stay_within_the_bound() {
        let network = Network::ConvClassifier(ConvClassifier {
            image_size: 8,
            channels: 1,
            widths: vec![4, 6],
            pools: vec![true, true],
            n_classes: 10,
            activation: Activation::Relu,
        });
        let graph = network.graph().unwrap();
        let program = Program::new(&graph, Kind::Float, Device::Cpu);
        let weights = network.initial_weights(1).unwrap();
        let weights = to_device(&weights, Kind::Float, Device::Cpu);
        let classifier = program.bind(&weights).unwrap();
        let _draws = seeded(3);
        let clean = Tensor::rand([12, 1, 8, 8], (Kind::Float, Device::Cpu)) * 2.0 - 1.0;
        let labels = Tensor::randint(10, [12], (Kind::Int64, Device::Cpu));
        let loss = |images: &Tensor| {
            let logits = classifier.output("logits", images).unwrap();
            let losses = Loss::CrossEntropy.per_image(&logits, &labels).unwrap();
            losses.mean(Kind::Double).double_value(&[])
        };
        for start in [Begin::Clean, Begin::Random] {
            let adversary = Adversary::new(AdversarialConfig {
                norm: Norm::Linf,
                epsilon: "8/255".parse().unwrap(),
                steps: 5,
                step_size: "2/255".parse().unwrap(),
                start,
            });
            let starts = adversary.starts(&clean).unwrap();
            assert_eq!(starts == clean, start == Begin::Clean);
            let before = loss(&starts);
            let attacked = adversary
                .attacked(&classifier, &clean, starts, &labels)
                .unwrap();
            assert!(loss(&attacked) > before, "{start:?}");
            let change = (&attacked - &clean).abs().max().double_value(&[]);
            assert!(change <= 16.0 / 255.0 + 1e-6 && change > 12.0 / 255.0);
            assert!(attacked.abs().max().double_value(&[]) <= 1.0);
        }
    }
}
