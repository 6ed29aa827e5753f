//! Heun steps of a flow: `dx = −∇V dt + √(2·T(t)) dW`, from normal noise at time 0 to data at time 1 and beyond.

use std::fmt;

use anyhow::Result;
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use super::Chains;
use super::start::{Noise, Origin};
use crate::config::{EnergyConfig, FlowObjective, Warming};

/// How chains follow a flow.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Flow {
    /// Δt.
    pub drift: f64,
    /// T at each time.
    pub warming: Warming,
}

impl Flow {
    /// As its samples are drawn, and in how many steps.
    pub fn of(objective: &FlowObjective) -> (Flow, usize) {
        let sampling = objective.sampling;
        let flow = Flow {
            drift: sampling.drift,
            warming: objective.warming(),
        };
        (flow, flow.n_steps(sampling.time))
    }

    /// Steps up to a time, one at least.
    pub fn n_steps(&self, time: f64) -> usize {
        (time / self.drift).round().max(1.0) as usize
    }

    /// The deviation of the noise of a step if T were that at the beginning of that number, counted from 0.
    fn deviation(&self, number: u64) -> f64 {
        let temperature = self.warming.at(number as f64 * self.drift);
        (2.0 * temperature * self.drift).sqrt()
    }

    /// The step of that number: where `x` moves that has the gradient `slope`, and the drift.
    ///
    /// It tries a whole step, and takes the mean of what moves it at both ends; the noise is the same at both, and only its deviation may differ.
    ///
    /// # Errors
    /// `gradient`, which gives ∇V of images, fails.
    pub fn step(
        &self,
        number: u64,
        (x, slope): (&Tensor, &Tensor),
        noise: &Tensor,
        gradient: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<(Tensor, Tensor)> {
        let (before, after) = (self.deviation(number), self.deviation(number + 1));
        let tried = x
            .f_sub(&slope.f_mul_scalar(self.drift)?)?
            .f_add(&noise.f_mul_scalar(before)?)?;
        let drift = slope
            .f_add(&gradient(&tried)?)?
            .f_mul_scalar(0.5 * self.drift)?;
        let deviation = 0.5 * (before + after);
        let next = x.f_sub(&drift)?.f_add(&noise.f_mul_scalar(deviation)?)?;
        Ok((next, drift))
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let drift = (self.drift * 1e6).round() / 1e6;
        write!(f, "Heun steps of Δt = {drift}, ")?;
        match self.warming {
            Warming {
                temperature: 0.0, ..
            } => write!(f, "without noise"),
            Warming { from, temperature } if from < 1.0 => {
                write!(
                    f,
                    "T = 0 up to time {from}, from there up to {temperature} at time 1"
                )
            }
            Warming { temperature, .. } => write!(f, "T = 0 before time 1, then {temperature}"),
        }
    }
}

/// Standard normal noise of that `[C, H, W]`.
#[derive(Clone, Copy, Debug)]
pub struct NormalNoise(pub [i64; 3]);

impl NormalNoise {
    /// Of the shape of the configured images.
    pub fn of(config: &EnergyConfig) -> NormalNoise {
        NormalNoise(Noise::of(config).0)
    }
}

impl Origin for NormalNoise {
    fn draw_where(&self, wanted: &[bool], device: Device) -> Result<Chains> {
        let [channels, height, width] = self.0;
        let size = [wanted.len() as i64, channels, height, width];
        let noise = Tensor::f_randn(size, (Kind::Float, Device::Cpu))?;
        Ok(Chains::begin(noise.to_device(device), None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs from x₀ = 1 to a time, down `V(x) = x²/2`.
    fn end(flow: &Flow, n_steps: u64, noise: f64) -> f64 {
        let value = |value: f64| Tensor::from(value);
        let mut x = value(1.0);
        for number in 0..n_steps {
            let gradient = |x: &Tensor| Ok(x.shallow_clone());
            (x, _) = flow
                .step(number, (&x, &x), &value(noise), gradient)
                .unwrap();
        }
        x.double_value(&[])
    }

    fn flow(drift: f64, from: f64, temperature: f64) -> Flow {
        let warming = Warming { from, temperature };
        Flow { drift, warming }
    }

    /// Without noise `x(1) = e⁻¹`: half the Δt, a quarter of the error.
    #[test]
    fn errors_fall_with_the_square_of_the_step() {
        let error = |n_steps: u64| {
            let flow = flow(1.0 / n_steps as f64, 1.0, 0.0);
            (end(&flow, n_steps, 0.7) - (-1.0f64).exp()).abs()
        };
        for n_steps in [10, 20, 40, 80] {
            let ratio = error(n_steps) / error(2 * n_steps);
            assert!((ratio - 4.0).abs() < 0.2, "{n_steps} steps: {ratio}");
        }
        assert!(error(100) < 1e-5);
    }

    /// A step of `x²/2`: x·(1 − h + h²/2) + z·((s₀ + s₁)/2 − h·s₀/2), s = √(2·T·h) at its beginning and its end.
    #[test]
    fn noise_enters_at_both_ends_of_a_step() {
        let h: f64 = 0.1;
        for (number, before, after) in [(0, 0.0, 0.0), (7, 0.0, 0.0), (8, 0.0, 0.5), (20, 1.0, 1.0)]
        {
            let flow = flow(h, 0.8, 2.0);
            let [before, after] = [before, after].map(|share: f64| (2.0 * 2.0 * share * h).sqrt());
            let x = Tensor::from(3.0);
            let noise = Tensor::from(0.6);
            let (next, drift) = flow
                .step(number, (&x, &x), &noise, |x| Ok(x.shallow_clone()))
                .unwrap();
            let wanted =
                3.0 * (1.0 - h + h * h / 2.0) + 0.6 * (0.5 * (before + after) - 0.5 * h * before);
            let got = next.double_value(&[]);
            assert!(
                (got - wanted).abs() < 1e-12,
                "step {number}: {got} {wanted}"
            );
            let tried = 3.0 * (1.0 - h) + before * 0.6;
            assert!((drift.double_value(&[]) - 0.5 * h * (3.0 + tried)).abs() < 1e-12);
        }
    }

    /// At T, `x²/2` has the variance T, which steps of h keep up to terms of h².
    #[test]
    fn long_chains_have_the_variance_of_their_temperature() {
        let (h, temperature) = (0.05, 0.3);
        let flow = flow(h, 0.0, temperature);
        let _draws = crate::machine::randomness::seed_torch(
            5,
            0,
            crate::machine::randomness::Purpose::Samples,
        );
        let options = (Kind::Double, Device::Cpu);
        let mut x = Tensor::zeros([40_000], options);
        for number in 0..200 {
            let noise = Tensor::randn([40_000], options);
            (x, _) = flow
                .step(100 + number, (&x, &x), &noise, |x| Ok(x.shallow_clone()))
                .unwrap();
        }
        let variance = x.square().mean(Kind::Double).double_value(&[]);
        // Of n normal values the variance has the relative deviation √(2/n).
        assert!(
            (variance / temperature - 1.0).abs() < 4.0 * (2.0f64 / 40_000.0).sqrt() + h * h,
            "{variance}"
        );
    }

    #[test]
    fn a_flow_says_what_it_does_and_how_often() {
        for (flow, time, steps, wanted) in [
            (flow(0.01, 1.0, 0.0), 1.0, 100, "without noise"),
            (flow(0.01, 1.0, 0.1), 3.25, 325, "before time 1, then 0.1"),
            (flow(0.3, 0.8, 0.1), 0.1, 1, "up to time 0.8"),
        ] {
            assert_eq!(flow.n_steps(time), steps);
            assert!(flow.to_string().contains(wanted), "{flow}");
        }
    }
}
