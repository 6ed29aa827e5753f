//! What `∇_x E` is regressed on.

use anyhow::Result;
use pathfinding::prelude::{Matrix, kuhn_munkres_min};
use tch::{Device, Kind, Tensor};

use crate::config::{DenoiseObjective, FlowObjective, MatchingObjective, Pairs};
use crate::machine::randomness::{Purpose, seed_torch};

/// Loss is also measured for so many levels of noise.
pub const N_LEVELS: usize = 3;

/// Images of one update, and what the gradient should be there.
///
/// The loss of an image is `weight · ‖∇E(input) − target‖²`.
#[derive(Debug)]
pub struct Regression {
    /// Where the gradient is asked for: `[n, C, H, W]`.
    pub inputs: Tensor,
    /// What it should be: `[n, C, H, W]`.
    pub targets: Tensor,
    /// `[n]`.
    pub weights: Tensor,
}

impl Regression {
    /// Of data images f32 `[n, C, H, W]` on the CPU, for an update of a seed. All processes draw the same.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn draw(
        objective: &MatchingObjective,
        images: &Tensor,
        (seed, update): (u64, u64),
    ) -> Result<Regression> {
        let _draws = seed_torch(seed, update, Purpose::Matching);
        match objective {
            MatchingObjective::Denoise(denoise) => Regression::denoise(denoise, images),
            MatchingObjective::Flow(flow) => Regression::flow(flow, images),
        }
    }

    /// `x̃ = x + σz`, where the gradient should be `x̃ − x`.
    fn denoise(objective: &DenoiseObjective, images: &Tensor) -> Result<Regression> {
        let sigmas = shares(images.size()[0])?;
        let sigmas = sigmas.into_iter().map(|share| objective.sigma_at(share));
        let sigmas: Vec<f64> = sigmas.collect();
        let offset = objective.offset;
        let weights = sigmas
            .iter()
            .map(|sigma| 1.0 / (sigma * sigma + offset * offset));
        let noise = images.f_randn_like()? * column(&sigmas)?.f_view([-1, 1, 1, 1])?;
        Ok(Regression {
            inputs: images.f_add(&noise)?,
            targets: noise,
            weights: column(&weights.collect::<Vec<f64>>())?,
        })
    }

    /// `x_t = (1 − t)z + t·x`, where the gradient should be `z − x`.
    fn flow(objective: &FlowObjective, images: &Tensor) -> Result<Regression> {
        let size = images.size();
        let n_values = size.iter().skip(1).product::<i64>() as f64;
        let times: Vec<f64> = shares(size[0])?
            .into_iter()
            .map(|share| 1.0 - share)
            .collect();
        let weights = times
            .iter()
            .map(|&time| objective.weight_at(time) / n_values);
        let noise = match objective.pairs {
            Pairs::OptimalTransport => transported(images, &images.f_randn_like()?)?,
            Pairs::Random => images.f_randn_like()?,
        };
        let targets = noise.f_sub(images)?;
        let shown = column(&times)?.f_view([-1, 1, 1, 1])?;
        Ok(Regression {
            inputs: noise.f_sub(&targets.f_mul(&shown)?)?,
            targets,
            weights: column(&weights.collect::<Vec<f64>>())?,
        })
    }

    /// Each of its tensors changed in the same way.
    ///
    /// # Errors
    /// The first error of the function.
    pub fn map(&self, change: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Regression> {
        Ok(Regression {
            inputs: change(&self.inputs)?,
            targets: change(&self.targets)?,
            weights: change(&self.weights)?,
        })
    }

    /// The losses of gradients `[n, C, H, W]`: `[n]`.
    ///
    /// # Errors
    /// The gradients have another shape.
    pub fn losses(&self, gradients: &Tensor) -> Result<Tensor> {
        let squares = gradients.f_sub(&self.targets)?.f_square()?;
        let sums = squares.f_sum_dim_intlist([1i64, 2, 3].as_slice(), false, squares.kind())?;
        Ok(sums.f_mul(&self.weights)?)
    }
}

/// Noise `[n, …]` in the order in which the sum of its squared distances from images is least.
///
/// Of `‖x − z‖²` only `−2⟨x, z⟩` depends on the order.
fn transported(images: &Tensor, noise: &Tensor) -> Result<Tensor> {
    /// Integers are exact, and a millionth of a distance makes no difference.
    const PER_UNIT: f64 = 1e6;
    let n = images.size()[0];
    let flat = |tensor: &Tensor| -> Result<Tensor> {
        Ok(tensor.f_view([n, -1])?.f_to_kind(Kind::Double)?)
    };
    let costs = flat(images)?.f_matmul(&flat(noise)?.f_transpose(0, 1)?)? * -PER_UNIT;
    let costs = Vec::<i64>::try_from(costs.f_round()?.f_to_kind(Kind::Int64)?.f_view([-1])?)?;
    let costs = Matrix::from_vec(n as usize, n as usize, costs)?;
    let (_, order) = kuhn_munkres_min(&costs);
    let order: Vec<i64> = order.into_iter().map(|place| place as i64).collect();
    Ok(noise.f_index_select(0, &Tensor::from_slice(&order))?)
}

/// The level of noise of an image, from its number in a batch of `n`: the first images have the least noise.
pub fn level(number: usize, n: usize) -> usize {
    number * N_LEVELS / n
}

/// One number from each n-th of `[0, 1)`, in ascending order. Each is as likely anywhere in `[0, 1)` as a draw of its own, since images are in
/// random order; but all levels of noise take part in each update, which makes losses and gradients vary less.
fn shares(n: i64) -> Result<Vec<f64>> {
    let within = Tensor::f_rand([n], (Kind::Double, Device::Cpu))?;
    let shares = (Tensor::f_arange(n, (Kind::Double, Device::Cpu))? + within) / n as f64;
    Ok(Vec::<f64>::try_from(shares)?)
}

fn column(values: &[f64]) -> Result<Tensor> {
    Ok(Tensor::from_slice(values).f_to_kind(Kind::Float)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FlowSampling, Matching, SigmaDraw};

    fn denoise(draw: SigmaDraw) -> DenoiseObjective {
        DenoiseObjective {
            name: Matching::Matching,
            sigma: [0.1, 0.9],
            draw,
            offset: 0.1,
            psnr_at: Vec::new(),
        }
    }

    /// Uniform: mean (a + b)/2. Log-uniform: the logarithm has that of the ends. Stratified draws of n have deviations below `(b − a)/n`.
    #[test]
    fn noise_has_the_range_that_is_stated_and_targets_are_that_noise() {
        let images = Tensor::zeros([4000, 1, 2, 2], (Kind::Float, Device::Cpu));
        for (draw, wanted) in [(SigmaDraw::Uniform, 0.5), (SigmaDraw::LogUniform, 0.3)] {
            let objective = MatchingObjective::Denoise(denoise(draw));
            let drawn = Regression::draw(&objective, &images, (1, 2)).unwrap();
            assert!(drawn.inputs.equal(&drawn.targets));
            // weight = 1/(σ² + 0.01)
            let sigmas = (drawn.weights.reciprocal() - 0.01).sqrt();
            let (least, most) = (sigmas.min(), sigmas.max());
            assert!(least.double_value(&[]) >= 0.0999 && most.double_value(&[]) <= 0.9001);
            let mean = match draw {
                SigmaDraw::Uniform => sigmas.mean(Kind::Double),
                SigmaDraw::LogUniform => sigmas.log().mean(Kind::Double).exp(),
            };
            assert!(
                (mean.double_value(&[]) - wanted).abs() < 1e-3,
                "{draw:?}: {mean:?}"
            );
            // Σ (noise/σ)² has mean n and deviation √(2n).
            let scaled = &drawn.targets / sigmas.view([-1, 1, 1, 1]);
            let square = scaled.square().mean(Kind::Double).double_value(&[]);
            assert!(
                (square - 1.0).abs() < 5.0 * (2.0f64 / 16_000.0).sqrt(),
                "{square}"
            );
            let again = Regression::draw(&objective, &images, (1, 2)).unwrap();
            assert!(again.inputs.equal(&drawn.inputs));
            let other = Regression::draw(&objective, &images, (1, 3)).unwrap();
            assert!(!other.inputs.equal(&drawn.inputs));
        }
    }

    /// Of all 120 orders of 5 images.
    #[test]
    fn transport_has_the_least_squared_distances() {
        let _draws = seed_torch(3, 0, Purpose::Samples);
        let draw = || Tensor::randn([5, 1, 2, 2], (Kind::Float, Device::Cpu));
        let (images, noise) = (draw(), draw());
        let distance = |noise: &Tensor| {
            (&images - noise)
                .square()
                .sum(Kind::Double)
                .double_value(&[])
        };
        let found = distance(&transported(&images, &noise).unwrap());
        let mut orders = vec![vec![]];
        for _ in 0..5 {
            let longer = |order: &Vec<i64>| {
                let rest = (0..5).filter(|place| !order.contains(place));
                rest.map(|place| [order.clone(), vec![place]].concat())
                    .collect::<Vec<_>>()
            };
            orders = orders.iter().flat_map(longer).collect();
        }
        assert_eq!(orders.len(), 120);
        let all = orders
            .iter()
            .map(|order| distance(&noise.index_select(0, &Tensor::from_slice(order))));
        let least = all.fold(f64::INFINITY, f64::min);
        assert!((found - least).abs() < 1e-4, "{found}, expected {least}");
    }

    /// `x_t + (1 − t)(x − z) = x` and `x_t − t(x − z) = z`, t uniform over the rows from 1 down to 0, weights 1 per value below τ*.
    #[test]
    fn a_flow_lies_between_noise_and_data() {
        let _draws = seed_torch(4, 0, Purpose::Samples);
        let images = Tensor::randn([400, 1, 2, 2], (Kind::Float, Device::Cpu)) * 0.5;
        for pairs in [Pairs::Random, Pairs::OptimalTransport] {
            let objective = MatchingObjective::Flow(FlowObjective {
                name: Matching::Matching,
                decay_from: 0.5,
                pairs,
                sampling: FlowSampling::default(),
                contrast: None,
            });
            let drawn = Regression::draw(&objective, &images, (1, 2)).unwrap();
            let noise = &drawn.targets + &images;
            let square = noise.square().mean(Kind::Double).double_value(&[]);
            assert!((square - 1.0).abs() < 0.2, "{square}");
            let per_row = |tensor: &Tensor| {
                tensor.sum_dim_intlist([1i64, 2, 3].as_slice(), false, Kind::Double)
            };
            let times = per_row(&((&noise - &drawn.inputs) * &drawn.targets))
                / per_row(&drawn.targets.square());
            let (first, last) = (times.double_value(&[0]), times.double_value(&[399]));
            assert!(first > 0.997 && last < 0.003, "{first} {last}");
            let weights = &drawn.weights * 4.0;
            let wanted = (times * -2.0 + 2.0).clamp_max(1.0);
            assert!((weights - wanted).abs().max().double_value(&[]) < 1e-4);
        }
    }

    #[test]
    fn each_level_has_images() {
        for n in [3, 4, 64, 100] {
            let levels: Vec<usize> = (0..n).map(|number| level(number, n)).collect();
            assert!(levels.is_sorted() && (0..N_LEVELS).all(|level| levels.contains(&level)));
        }
    }
}
