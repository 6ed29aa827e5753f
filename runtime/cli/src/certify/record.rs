//! What became of one image.

use std::time::Duration;

use anyhow::Result;
use ebm_runtime::{Certificate, PixelDistance};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::inputs::Item;

/// An image with its certificate, or why it has none, as a line of JSON holds it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Record {
    pub place: u32,
    pub file: String,
    /// Its number in a file of many images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<usize>,
    /// Null: there is no certificate.
    pub class: Option<usize>,
    pub radius: Radius,
    /// The l∞ radius that the l2 radius implies.
    pub radius_linf: Radius,
    /// The lower bound of the probability of `selected`.
    pub probability: f64,
    pub selected: Option<usize>,
    /// Votes for each class, and draws without an answer at the end.
    pub selection: Vec<usize>,
    pub estimation: Vec<usize>,
    pub seconds: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A radius in both scales of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Radius {
    #[serde(rename = "0..1")]
    of_unit_range: f64,
    #[serde(rename = "-1..1")]
    of_signed_range: f64,
}

impl From<PixelDistance> for Radius {
    fn from(distance: PixelDistance) -> Self {
        Self {
            of_unit_range: distance.in_unit_range(),
            of_signed_range: distance.in_signed_range(),
        }
    }
}

impl From<Radius> for PixelDistance {
    fn from(radius: Radius) -> Self {
        Self::of_unit_range(radius.of_unit_range)
    }
}

/// A distance as the lines of JSON have it.
pub fn distance(distance: PixelDistance) -> Value {
    json!(Radius::from(distance))
}

impl Record {
    pub fn new(
        item: &Item<'_>,
        label: Option<usize>,
        certificate: &Certificate,
        time: Duration,
    ) -> Self {
        let n_values = item
            .image
            .as_ref()
            .map_or(1, |image| image.shape().n_values());
        let votes = |votes: &ebm_runtime::Votes| {
            let classes = votes.of_classes.iter().copied();
            classes.chain([votes.of_none]).collect()
        };
        Self {
            class: certificate.class,
            radius: certificate.radius.into(),
            radius_linf: certificate.radius.implied_linf(n_values).into(),
            probability: certificate.probability,
            selected: Some(certificate.selected),
            selection: votes(&certificate.selection),
            estimation: votes(&certificate.estimation),
            seconds: time.as_secs_f64(),
            error: None,
            ..Self::failed(item, label, "")
        }
    }

    /// An image that could not be read.
    pub fn failed(item: &Item<'_>, label: Option<usize>, error: &str) -> Self {
        Self {
            place: item.place(),
            file: item.input.path().to_string_lossy().into_owned(),
            image: item.record.as_ref().map(|_| item.number),
            label,
            class: None,
            radius: PixelDistance::ZERO.into(),
            radius_linf: PixelDistance::ZERO.into(),
            probability: 0.0,
            selected: None,
            selection: Vec::new(),
            estimation: Vec::new(),
            seconds: 0.0,
            error: Some(error.to_owned()),
        }
    }

    /// The radius, if the image is certified for its own class.
    pub fn right_radius(&self) -> Option<PixelDistance> {
        let is_right = self.class.is_some() && self.class == self.label;
        is_right.then(|| self.radius.into())
    }

    pub fn n_draws(&self) -> usize {
        self.selection.iter().chain(&self.estimation).sum()
    }

    pub fn line(&self) -> Result<String> {
        Ok(format!("{}\n", serde_json::to_string(self)?))
    }

    /// The line for people.
    pub fn row(&self) -> String {
        let number = self
            .image
            .map_or(String::new(), |number| format!("#{number}"));
        let file = format!("{}{number}", self.file);
        match (&self.error, self.class) {
            (Some(_), _) => String::new(),
            (None, None) => format!("{file}\tabstain\t0\t0\t0\n"),
            (None, Some(class)) => format!(
                "{file}\t{class}\t{}\t{}\t{}\n",
                rounded_down(self.radius.of_unit_range, 4),
                rounded_down(self.radius.of_signed_range, 4),
                rounded_down(self.radius_linf.of_unit_range, 6)
            ),
        }
    }
}

/// As many digits, which do not promise more than there is.
pub fn rounded_down(radius: f64, n_digits: usize) -> String {
    let scale = 10_f64.powi(n_digits as i32);
    format!("{:.n_digits$}", (radius * scale).floor() / scale)
}
