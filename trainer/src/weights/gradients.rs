//! Gradients with respect to weights, by libtorch's autograd.

use anyhow::{Context, Result};
use tch::{Kind, Tensor};

use crate::network::Weights;

/// The gradient of a scalar loss with respect to each weight that autograd follows.
pub fn of_loss(loss: &Tensor, weights: &Weights) -> Result<Weights> {
    let (names, leaves): (Vec<&String>, Vec<&Tensor>) = weights
        .iter()
        .filter(|(_, weight)| weight.requires_grad())
        .unzip();
    let gradients = Tensor::f_run_backward(&[loss], &leaves, false, false)?;
    Ok(names.into_iter().cloned().zip(gradients).collect())
}

/// Adds up gradients with respect to the same weights.
pub fn sum(parts: impl IntoIterator<Item = Weights>) -> Result<Weights> {
    let mut parts = parts.into_iter();
    let mut total = parts.next().context("there are no gradients")?;
    for part in parts {
        for (name, gradient) in part {
            let total = total
                .get_mut(&name)
                .with_context(|| format!("a gradient of an unknown weight {name:?}"))?;
            let _ = total.f_add_(&gradient)?;
        }
    }
    Ok(total)
}

/// Views of weights that autograd does not follow.
pub fn detached(weights: &Weights) -> Weights {
    weights
        .iter()
        .map(|(name, weight)| (name.clone(), weight.detach()))
        .collect()
}

/// L2 norm of all gradients together.
pub fn norm(gradients: &Weights) -> Result<f64> {
    let squares: Vec<Tensor> = gradients
        .values()
        .map(|gradient| gradient.square().sum(Kind::Float))
        .collect();
    let sum = Tensor::f_stack(&squares, 0)?.sum(Kind::Float);
    Ok(sum.double_value(&[]).sqrt())
}

/// Scales all gradients, whose joint L2 norm is `norm`, together so that it is at most `largest`.
pub fn clip(gradients: &mut Weights, norm: f64, largest: f64) -> Result<()> {
    if norm > largest {
        gradients
            .values_mut()
            .try_for_each(|gradient| gradient.f_mul_scalar_(largest / norm).map(drop))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_scales_the_joint_norm() {
        let tensor = |values: &[f32]| Tensor::from_slice(values);
        let mut gradients = Weights::from([
            ("a".to_string(), tensor(&[3.0])),
            ("b".to_string(), tensor(&[0.0, 4.0])),
        ]);
        assert_eq!(norm(&gradients).unwrap(), 5.0);
        clip(&mut gradients, 5.0, 10.0).unwrap();
        assert_eq!(gradients["b"].double_value(&[1]), 4.0);
        clip(&mut gradients, 5.0, 1.0).unwrap();
        assert!((gradients["a"].double_value(&[0]) - 0.6).abs() < 1e-6);
    }
}
