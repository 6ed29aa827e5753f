//! The exponential moving average of weights.

use anyhow::{Context, Result};

use crate::network::Weights;

/// The decay at an update: at most `(1 + update) / (10 + update)`, so that the random first weights are forgotten early.
pub fn decay_at(decay: f64, update: u64) -> f64 {
    let warm_up = (1.0 + update as f64) / (10.0 + update as f64);
    decay.min(warm_up)
}

/// `average ← decay · average + (1 − decay) · weights`.
pub fn advance(average: &mut Weights, weights: &Weights, decay: f64) -> Result<()> {
    tch::no_grad(|| {
        for (name, average) in average {
            let weight = weights
                .get(name)
                .with_context(|| format!("weight {name:?} is unknown to the moving average"))?;
            let _ = average.f_lerp_(weight, 1.0 - decay)?;
        }
        Ok(())
    })
}

/// A copy in memory of its own.
pub fn copied(weights: &Weights) -> Weights {
    weights
        .iter()
        .map(|(name, weight)| (name.clone(), weight.detach().copy()))
        .collect()
}

#[cfg(test)]
mod tests {
    use tch::Tensor;

    use super::*;

    #[test]
    fn the_average_moves_by_what_the_decay_leaves() {
        let mut average = Weights::from([("w".to_string(), Tensor::from_slice(&[1.0f32]))]);
        let weights = Weights::from([("w".to_string(), Tensor::from_slice(&[3.0f32]))]);
        advance(&mut average, &weights, 0.75).unwrap();
        assert_eq!(average["w"].double_value(&[0]), 1.5);
        assert_eq!(decay_at(0.99, 0), 0.1);
        assert_eq!(decay_at(0.99, 100_000), 0.99);
    }
}
