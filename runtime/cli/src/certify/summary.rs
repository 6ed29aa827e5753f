//! What became of all images.

use std::collections::HashSet;
use std::time::Duration;

use ebm_runtime::{CertifiedAccuracy, PixelDistance, Smoothing};
use serde_json::{Value, json};

use super::record::{Record, distance, rounded_down};

pub struct Summary {
    smoothing: Smoothing,
    places: HashSet<u32>,
    n_certified: usize,
    n_abstained: usize,
    n_failed: usize,
    n_labelled: usize,
    /// Of images that are certified for their own class.
    right: Vec<PixelDistance>,
    n_draws: usize,
    /// Of one image.
    n_values: usize,
}

impl Summary {
    pub fn new(smoothing: Smoothing, n_values: usize) -> Self {
        Self {
            smoothing,
            places: HashSet::new(),
            n_certified: 0,
            n_abstained: 0,
            n_failed: 0,
            n_labelled: 0,
            right: Vec::new(),
            n_draws: 0,
            n_values,
        }
    }

    pub fn add(&mut self, record: &Record) {
        self.places.insert(record.place);
        self.n_draws += record.n_draws();
        match (&record.error, record.class) {
            (Some(_), _) => {
                self.n_failed += 1;
                return;
            }
            (None, Some(_)) => self.n_certified += 1,
            (None, None) => self.n_abstained += 1,
        }
        self.n_labelled += usize::from(record.label.is_some());
        self.right.extend(record.right_radius());
    }

    /// The places of the images.
    pub fn places(&self) -> &HashSet<u32> {
        &self.places
    }

    pub fn n_failed(&self) -> usize {
        self.n_failed
    }

    /// Certified accuracy over the radius; empty without labels.
    fn curve(&self) -> Vec<CertifiedAccuracy> {
        match self.n_labelled {
            0 => Vec::new(),
            n => CertifiedAccuracy::curve(&self.smoothing, &self.right, n),
        }
    }

    /// The line of JSON. `n_now` images were worked on in this time, the others by an earlier run.
    pub fn line(&self, n_now: usize, time: Duration) -> String {
        let row = |at: &CertifiedAccuracy| -> Value {
            json!({
                "radius": distance(at.radius), "radius_linf": distance(at.radius.implied_linf(self.n_values)),
                "certified": at.n_certified, "images": at.n, "accuracy": at.share, "interval": at.interval,
            })
        };
        let curve: Vec<Value> = self.curve().iter().map(row).collect();
        let summary = json!({
            "certified": self.n_certified, "abstained": self.n_abstained, "failed": self.n_failed, "draws": self.n_draws,
            "certified_accuracy": curve, "worked_on_now": n_now, "seconds": time.as_secs_f64(),
        });
        format!("{}\n", json!({ "summary": summary }))
    }

    /// What a person wants to know in the end.
    pub fn say(&self, n_now: usize, time: Duration) {
        let n = self.n_certified + self.n_abstained + self.n_failed;
        let mut notes = String::new();
        for (n, what) in [
            (self.n_abstained, "without a certificate"),
            (self.n_failed, "failed"),
            (n - n_now, "done by an earlier run"),
        ] {
            if n > 0 {
                notes += &format!(", {n} {what}");
            }
        }
        if n_now > 0 {
            let each = time.as_secs_f64() / n_now as f64;
            notes += &format!(" ({each:.2} s an image)");
        }
        eprintln!("certified {} of {n} images{notes}", self.n_certified);
        if self.n_certified > 0 {
            eprintln!(
                "A certified image keeps its class under every change within its radius: with confidence {} for each, in exact arithmetic, after any resizing.",
                1.0 - self.smoothing.alpha
            );
        }
        let curve = self.curve();
        if curve.is_empty() {
            return;
        }
        eprintln!(
            "l2 radius of [0, 1]  of [-1, 1]  l∞ of [0, 1]  certified accuracy  95 % interval  ({} images)",
            self.n_labelled
        );
        for at in curve {
            let [low, high] = at.interval.map(|bound| 100.0 * bound);
            eprintln!(
                "{:>19}  {:>10}  {:>12}  {:>16.1} %  {low:.1} to {high:.1} %",
                at.radius.in_unit_range(),
                at.radius.in_signed_range(),
                rounded_down(at.radius.implied_linf(self.n_values).in_unit_range(), 6),
                100.0 * at.share,
            );
        }
    }
}
