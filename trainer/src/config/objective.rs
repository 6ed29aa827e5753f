//! What an energy network learns by.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::check::{above_zero, at_least_one, below_one, not_negative, range};

/// By comparing data with the ends of chains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LikelihoodObjective {
    /// Always the same.
    pub name: Likelihood,
}

impl LikelihoodObjective {
    /// Whether it need not be written, being what is meant where nothing is.
    pub(super) fn is_default(&self) -> bool {
        *self == LikelihoodObjective::default()
    }
}

/// What a configuration names as its objective, whatever else stands in it.
#[derive(Debug, Deserialize)]
pub(crate) struct Named {
    #[serde(default)]
    pub(crate) objective: NamedObjective,
}

/// The name alone.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct NamedObjective {
    #[serde(default)]
    pub(crate) name: ObjectiveName,
}

/// What an energy network can learn by.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ObjectiveName {
    #[default]
    MaximumLikelihood,
    Matching,
}

/// The word `maximum-likelihood`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Likelihood {
    /// The only one.
    #[default]
    MaximumLikelihood,
}

/// The word `matching`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Matching {
    /// The only one.
    Matching,
}

/// By regressing `∇_x E` on a target that is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum MatchingObjective {
    /// On the noise that was added to data.
    Denoise(DenoiseObjective),
    /// On the way from noise to data.
    Flow(FlowObjective),
}

impl MatchingObjective {
    pub(super) fn check(&self) -> Result<()> {
        match self {
            MatchingObjective::Denoise(denoise) => denoise.check(),
            MatchingObjective::Flow(flow) => flow.check(),
        }
    }

    /// The flow, if it is one.
    pub fn flow(&self) -> Option<&FlowObjective> {
        match self {
            MatchingObjective::Denoise(_) => None,
            MatchingObjective::Flow(flow) => Some(flow),
        }
    }

    /// The second phase of learning by flows, if it is one.
    pub fn contrast(&self) -> Option<&ContrastConfig> {
        self.flow()?.contrast.as_ref()
    }
}

/// `mean of ‖x̃ − ∇E(x̃) − x‖² / (σ² + s²)` with `x̃ = x + σz`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DenoiseObjective {
    /// Always the same.
    pub name: Matching,
    /// The least and the largest σ, for values in `[-1, 1]`.
    pub sigma: [f64; 2],
    /// How the σ of an image is drawn between them.
    pub draw: SigmaDraw,
    /// s, which keeps small σ from having all the weight.
    pub offset: f64,
    /// At these σ denoised test images are compared with what they were.
    pub psnr_at: Vec<f64>,
}

/// What is uniform between two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SigmaDraw {
    /// σ.
    Uniform,
    /// Its logarithm.
    LogUniform,
}

impl DenoiseObjective {
    /// The σ below which a share of all draws lies.
    pub fn sigma_at(&self, share: f64) -> f64 {
        let [least, most] = self.sigma;
        match self.draw {
            SigmaDraw::Uniform => least + share * (most - least),
            SigmaDraw::LogUniform => least * (most / least).powf(share),
        }
    }

    fn check(&self) -> Result<()> {
        let [least, most] = self.sigma;
        let written = || format!("[{least}, {most}]");
        if !(least >= 0.0 && least < most && most.is_finite()) {
            let expected = "[least, largest] with 0 ≤ least < largest: a range of zero width teaches one noise level alone";
            return Err(range("objective.sigma", written(), expected));
        }
        if self.draw == SigmaDraw::LogUniform && least == 0.0 {
            let expected = "a least value above 0, since objective.draw = \"log-uniform\" has no logarithm of 0";
            return Err(range("objective.sigma", written(), expected));
        }
        not_negative("objective.offset", self.offset)?;
        if least == 0.0 && self.offset == 0.0 {
            let expected =
                "above 0 if objective.sigma begins at 0: the loss is divided by σ² + offset²";
            return Err(range("objective.offset", self.offset, expected));
        }
        let mut levels = self.psnr_at.iter();
        levels.try_for_each(|&sigma| above_zero("objective.psnr_at", sigma))
    }
}

/// Mean over values of `(∇V(x_t) + x − z)²` with `x_t = (1 − t)z + t·x`, z normal and t uniform: Energy Matching (Balcerak et al. 2025).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowObjective {
    /// Always the same.
    pub name: Matching,
    /// τ*: the loss has weight 1 for t below it, and from there on a weight that falls linearly to 0 at t = 1.
    pub decay_from: f64,
    /// Which noise an image comes from.
    pub pairs: Pairs,
    /// How samples are drawn.
    #[serde(default)]
    pub sampling: FlowSampling,
    /// What is added to the loss in the second phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contrast: Option<ContrastConfig>,
}

/// How samples of a flow are drawn: from normal noise at time 0 by steps of Euler–Heun.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowSampling {
    /// When they end: the flow alone reaches data at time 1.
    pub time: f64,
    /// Δt.
    pub drift: f64,
}

impl Default for FlowSampling {
    fn default() -> FlowSampling {
        FlowSampling {
            time: 1.0,
            drift: 0.01,
        }
    }
}

/// The temperature of a flow's chains: 0 up to a time, from which it grows linearly up to time 1, and stays.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Warming {
    /// The time up to which it is 0.
    pub from: f64,
    /// What it is from time 1 on.
    pub temperature: f64,
}

impl Warming {
    /// T at a time.
    pub fn at(&self, time: f64) -> f64 {
        // Of many steps 0.01 each the sum is not exactly 1.
        const SLACK: f64 = 1e-9;
        match time {
            time if time + SLACK >= 1.0 => self.temperature,
            time if time < self.from + SLACK => 0.0,
            time => self.temperature * (time - self.from) / (1.0 - self.from),
        }
    }
}

/// Which noise of a batch belongs to which image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pairs {
    /// Such that the sum of all squared distances is least.
    OptimalTransport,
    /// As it comes.
    Random,
}

/// `max(λ(mean V(x⁺) − trimmed mean V(x⁻)), −clamp)`, x⁻ the ends of chains `x ← x − Δt·∇V + √(2·T·Δt)·z` that begin half at data, half at
/// noise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContrastConfig {
    /// λ.
    pub weight: f64,
    /// Steps of the chains.
    pub steps: usize,
    /// Δt, in which each step moves time, which begins at 0.
    pub drift: f64,
    /// T is 0 for times below it, grows linearly up to time 1, and stays.
    pub warm_from: f64,
    /// T from time 1 on.
    pub temperature: f64,
    /// This share of the largest energies of x⁻ is left out of their mean.
    pub trim: f64,
    /// The loss is held at its negative, below which it has no gradient.
    pub clamp: f64,
}

impl ContrastConfig {
    /// T of the chains.
    pub fn warming(&self) -> Warming {
        Warming {
            from: self.warm_from,
            temperature: self.temperature,
        }
    }

    fn check(&self) -> Result<()> {
        above_zero("objective.contrast.weight", self.weight)?;
        at_least_one("objective.contrast.steps", self.steps as u64)?;
        above_zero("objective.contrast.drift", self.drift)?;
        check_time("objective.contrast.warm_from", self.warm_from)?;
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            let expected = "above 0: without noise chains only descend, and their ends say nothing about the density";
            return Err(range(
                "objective.contrast.temperature",
                self.temperature,
                expected,
            ));
        }
        below_one("objective.contrast.trim", self.trim)?;
        above_zero("objective.contrast.clamp", self.clamp)
    }
}

impl FlowObjective {
    /// T of chains that are drawn as samples: none before a second phase.
    pub fn warming(&self) -> Warming {
        let cold = Warming {
            from: 1.0,
            temperature: 0.0,
        };
        self.contrast.as_ref().map_or(cold, ContrastConfig::warming)
    }

    /// The weight of the loss at a time.
    pub fn weight_at(&self, time: f64) -> f64 {
        match time < self.decay_from {
            true => 1.0,
            false => (1.0 - time) / (1.0 - self.decay_from),
        }
    }

    fn check(&self) -> Result<()> {
        if self.decay_from <= 0.0 {
            let expected = "above 0, up to 1: at 0 the loss falls from the noise on";
            return Err(range("objective.decay_from", self.decay_from, expected));
        }
        check_time("objective.decay_from", self.decay_from)?;
        above_zero("objective.sampling.time", self.sampling.time)?;
        above_zero("objective.sampling.drift", self.sampling.drift)?;
        self.contrast.as_ref().map_or(Ok(()), ContrastConfig::check)
    }
}

fn check_time(key: &str, time: f64) -> Result<()> {
    match (0.0..=1.0).contains(&time) {
        true => Ok(()),
        false => Err(range(key, time, "a time from 0 (noise) to 1 (data)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temperatures_and_weights_follow_time() {
        for (warm_from, time, wanted) in [
            (1.0, 0.99, 0.0),
            (1.0, 100.0 * 0.01, 0.1),
            (1.0, 2.0, 0.1),
            (0.8, 0.79, 0.0),
            (0.8, 0.9, 0.05),
        ] {
            let warming = Warming {
                from: warm_from,
                temperature: 0.1,
            };
            let got = warming.at(time);
            assert!((got - wanted).abs() < 1e-8, "{warm_from} {time}: {got}");
        }
        let flow = |decay_from| FlowObjective {
            name: Matching::Matching,
            decay_from,
            pairs: Pairs::Random,
            sampling: FlowSampling::default(),
            contrast: None,
        };
        for (decay_from, time, wanted) in [
            (1.0, 0.999, 1.0),
            (0.8, 0.7, 1.0),
            (0.8, 0.9, 0.5),
            (0.8, 1.0, 0.0),
        ] {
            let got = flow(decay_from).weight_at(time);
            assert!((got - wanted).abs() < 1e-9, "{decay_from} {time}: {got}");
        }
    }
}
