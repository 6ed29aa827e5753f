//! What holds whatever attack is tried: the ℓ2 radii within which no change of an image has another class.

use anyhow::Result;
use ebm_common::PixelDistance;
use ebm_runtime::{CertifiedAccuracy, Images, SmoothedClassifier, Smoothing};
use serde_json::{Value, json};

/// Certified accuracy of some images over the radius.
pub struct Certificates {
    smoothing: Smoothing,
    curve: Vec<CertifiedAccuracy>,
}

impl Certificates {
    /// Of the first `n` images; the noise is drawn after they are fixed.
    pub fn of(
        smoothed: &SmoothedClassifier,
        images: &Images,
        labels: &[usize],
        n: usize,
    ) -> Result<Self> {
        let smoothing = *smoothed.smoothing();
        let n = n.min(labels.len());
        let mut certified = Vec::new();
        for (index, &label) in labels.iter().enumerate().take(n) {
            let image = Images::from_vec(images.shape(), images.image(index).to_vec())?;
            let certificate = smoothed.certify(&image)?;
            if certificate.class == Some(label) {
                certified.push(certificate.radius);
            }
        }
        Ok(Self {
            smoothing,
            curve: CertifiedAccuracy::curve(&smoothing, &certified, n),
        })
    }

    /// Prints a row for each radius.
    pub fn print(&self) {
        let Smoothing {
            sigma, n, alpha, ..
        } = self.smoothing;
        println!(
            "certified by smoothing with σ {sigma}, {n} draws, each image with confidence {:.1} %:",
            100.0 * (1.0 - alpha)
        );
        for row in &self.curve {
            let [low, high] = row.interval;
            println!(
                "  ℓ2 radius {:<14.3} {:>6.1} % {:>6}   {:.1} % to {:.1} %",
                row.radius.in_unit_range(),
                100.0 * row.share,
                row.n,
                100.0 * low,
                100.0 * high
            );
        }
    }

    /// As it stands in results.json; radii are of pixels in [0, 1].
    pub fn json(&self) -> Value {
        let rows = self.curve.iter().map(|row| {
            json!({
                "radius": both(row.radius), "accuracy": row.share, "interval": row.interval, "n": row.n,
            })
        });
        json!({
            "sigma": both(self.smoothing.sigma), "draws": self.smoothing.n, "alpha": self.smoothing.alpha,
            "accuracy": rows.collect::<Vec<_>>(),
        })
    }
}

fn both(distance: PixelDistance) -> Value {
    json!({ "of_0_to_1": distance.in_unit_range(), "of_minus_1_to_1": distance.in_signed_range() })
}
