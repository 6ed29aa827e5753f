//! What attacks climb: losses of logits, per image.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::{Kind, Reduction, Tensor};

/// A loss of logits `[n, n_classes]` and labels int64 `[n]`, large if the answer is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// `−log softmax(z)_y`.
    CrossEntropy,
    /// Difference of logits ratio (Croce and Hein 2020): `−(z_y − max_{i≠y} z_i)/(z_π1 − z_π3)`, with π the logits in falling order. It does not
    /// change if all logits are scaled. With fewer than three classes, where it is not defined, the margin `max_{i≠y} z_i − z_y`.
    LogitsRatio,
    /// The margin `max_{i≠y} z_i − z_y`.
    Margin,
}

impl Loss {
    /// Its value for each image, `[n]`.
    ///
    /// # Errors
    /// The labels are not as many, or not below the number of classes.
    pub fn per_image(self, logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
        match self {
            Loss::CrossEntropy => Ok(logits.f_cross_entropy_loss(
                labels,
                None::<&Tensor>,
                Reduction::None,
                -100,
                0.0,
            )?),
            Loss::Margin => margin(logits, labels),
            Loss::LogitsRatio if logits.size()[1] < 3 => margin(logits, labels),
            Loss::LogitsRatio => {
                let (sorted, _) = logits.f_sort(1, true)?;
                let spread = sorted.f_select(1, 0)?.f_sub(&sorted.f_select(1, 2)?)?;
                Ok(margin(logits, labels)?.f_div(&spread.f_clamp_min(1e-12)?)?)
            }
        }
    }
}

/// The largest logit of another class minus that of the label.
fn margin(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let own = labels.f_view([-1, 1])?;
    let truth = logits.f_gather(1, &own, false)?.f_squeeze_dim(1)?;
    let is_own = logits
        .f_zeros_like()?
        .f_to_kind(Kind::Bool)?
        .f_scatter_value(1, &own, 1)?;
    let others = logits.f_masked_fill(&is_own, f64::NEG_INFINITY)?;
    Ok(others.f_amax([1i64].as_slice(), false)?.f_sub(&truth)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_have_their_closed_forms() {
        let logits = Tensor::from_slice(&[3.0f64, 1.0, 0.0, 2.0, 5.0, 4.0, 1.0, 2.0]).view([2, 4]);
        let labels = Tensor::from_slice(&[0i64, 2]);
        let normaliser = |z: [f64; 4]| z.iter().map(|z| z.exp()).sum::<f64>().ln();
        for (loss, wanted) in [
            (
                Loss::CrossEntropy,
                [
                    normaliser([3.0, 1.0, 0.0, 2.0]) - 3.0,
                    normaliser([5.0, 4.0, 1.0, 2.0]) - 1.0,
                ],
            ),
            (Loss::Margin, [-1.0, 4.0]),
            // Sorted 3, 2, 1 and 5, 4, 2.
            (Loss::LogitsRatio, [-1.0 / 2.0, 4.0 / 3.0]),
        ] {
            let got = Vec::<f64>::try_from(loss.per_image(&logits, &labels).unwrap()).unwrap();
            for (got, wanted) in got.iter().zip(wanted) {
                assert!((got - wanted).abs() < 1e-9, "{loss:?}: {got} {wanted}");
            }
        }
        let two = Tensor::from_slice(&[1.0f64, 0.25]).view([1, 2]);
        let loss = Loss::LogitsRatio
            .per_image(&two, &Tensor::from_slice(&[0i64]))
            .unwrap();
        assert_eq!(loss.double_value(&[0]), -0.75);
    }
}
