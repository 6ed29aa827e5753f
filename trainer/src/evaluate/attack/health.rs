//! Whether the gradients of an attack can be believed (Carlini et al. 2019: an attack that is weak for its own reasons proves nothing).

use std::fmt;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::oracle::{Oracle, Question, Replay};
use super::pursuit::Course;
use crate::chains::langevin::norms;

/// What was seen of exact gradients.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Share of images whose gradient was zero.
    pub zero_gradients: f64,
    /// Mean cosine between the gradients of two halves of the copies; 1 is perfect, 0 means that more copies are needed.
    pub agreement: Option<f64>,
    /// Slope of the loss along its gradient by differences, in parts of that by the gradient: the median of some images. 1 is right.
    pub differences: f64,
    /// Rise of the mean loss from the first question to the last.
    pub rise: f64,
    /// Whether the exact attack broke no fewer images than mere transfer, as far as both were made.
    pub beats_transfer: Option<bool>,
}

/// How far the slope by differences may be from 1.
const NEAR: std::ops::RangeInclusive<f64> = 0.8..=1.25;
/// Half the distance of the images between which differences are taken, in L2.
const REACH: f64 = 0.02;

impl Health {
    /// Of an exact attack that went like this.
    pub fn new(course: &Course, differences: f64, beats_transfer: Option<bool>) -> Health {
        let ends = course.losses.first().zip(course.losses.last());
        Health {
            zero_gradients: course.zero_gradients.unwrap_or(1.0),
            agreement: course.agreement,
            differences,
            rise: ends.map_or(0.0, |(first, last)| last - first),
            beats_transfer,
        }
    }

    /// Why the gradients are not to be called exact, if so.
    pub fn complaint(&self) -> Option<String> {
        if self.zero_gradients > 0.05 {
            let percent = 100.0 * self.zero_gradients;
            return Some(format!("{percent:.0} % of the gradients are zero"));
        }
        if !NEAR.contains(&self.differences) {
            let ratio = self.differences;
            return Some(format!(
                "differences of the loss give {ratio:.2} of the slope that the gradient gives"
            ));
        }
        if self.beats_transfer == Some(false) {
            return Some("mere transfer from the bare classifier broke more images".to_string());
        }
        None
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = 100.0 * self.zero_gradients;
        write!(f, "exact gradients: {percent:.1} % are zero; ")?;
        if let Some(agreement) = self.agreement {
            write!(
                f,
                "two halves of the copies agree with cosine {agreement:.2}; "
            )?;
        }
        let Health {
            differences, rise, ..
        } = self;
        write!(
            f,
            "differences of the loss give {differences:.2} of their slope; the mean loss changed by {rise:+.3}"
        )?;
        match self.complaint() {
            Some(complaint) => write!(f, "\nNOT TO BE CALLED EXACT: {complaint}"),
            None => Ok(()),
        }
    }
}

/// Slope of the loss along its gradient by differences over that by the gradient, with frozen noise: the median of images `[n, C, H, W]`.
pub fn slope_by_differences(oracle: &Oracle<'_>, images: &Tensor, labels: &Tensor) -> Result<f64> {
    let frozen = Oracle {
        replay: Replay::Same,
        ..*oracle
    };
    let answer = frozen.ask(Question::Gradient, images, labels, 0)?;
    let Some(slope) = answer.slope else {
        return Ok(0.0);
    };
    let length = norms(&slope.gradient)?;
    let direction = &slope.gradient / length.f_clamp_min(1e-30)?.f_view([-1, 1, 1, 1])?;
    let at = |reach: f64| -> Result<Tensor> {
        let moved = images + &direction * reach;
        Ok(frozen.ask(Question::Loss, &moved, labels, 0)?.loss)
    };
    let differences = (at(REACH)? - at(-REACH)?) / (2.0 * REACH);
    let ratios = differences.f_div(&length.f_clamp_min(1e-30)?)?;
    Ok(ratios
        .f_to_kind(Kind::Double)?
        .f_median()?
        .double_value(&[]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_that_are_of_no_use_are_not_called_exact() {
        let healthy = Health {
            zero_gradients: 0.0,
            agreement: Some(0.6),
            differences: 1.01,
            rise: 0.5,
            beats_transfer: Some(true),
        };
        assert_eq!(healthy.complaint(), None);
        for (sick, wanted) in [
            (
                Health {
                    zero_gradients: 0.5,
                    ..healthy
                },
                "50 % of the gradients are zero",
            ),
            (
                Health {
                    differences: 0.3,
                    ..healthy
                },
                "0.30 of the slope",
            ),
            (
                Health {
                    differences: f64::NAN,
                    ..healthy
                },
                "NaN of the slope",
            ),
            (
                Health {
                    beats_transfer: Some(false),
                    ..healthy
                },
                "transfer",
            ),
        ] {
            assert!(sick.complaint().unwrap().contains(wanted));
            assert!(sick.to_string().contains("NOT TO BE CALLED EXACT"));
        }
    }
}
