//! What a run writes while it learns: `metrics.jsonl`, `updates.csv`, event files for TensorBoard, and live lines for people.

pub mod diagnostics;
pub mod metrics;
pub mod quantity;
pub mod sessions;
pub mod tensorboard;
pub mod updates;

mod correlation;
mod progress;
mod rate;
mod window;

use std::path::Path;
use std::time::Instant;

use anyhow::Result;

pub use metrics::Metrics;
pub use progress::Progress;
use rate::Rate;
use tensorboard::Events;
use updates::Updates;
pub use window::Window;

use crate::draw::sheet::Picture;

/// Named values of one update.
pub type Measured = Vec<(&'static str, f64)>;

/// Measured by what learns an energy: Langevin steps of an update times the images that make them.
pub const IMAGE_STEPS: &str = "image_steps";
/// Measured by what learns a classifier: images of an update.
pub const IMAGES: &str = "images";

/// Measured by what learns by matching: the loss of the images of a batch with the least, middle and most noise.
pub const LEVELS: [&str; 3] = ["loss_low_noise", "loss_middle_noise", "loss_high_noise"];
/// What the PSNR of denoised test images at a σ is called, before that σ.
pub const PSNR: &str = "psnr_at_";

/// What counts as work, and the unit of its rate.
pub const WORK: [(&str, &str); 2] = [(IMAGE_STEPS, "images·steps/s"), (IMAGES, "images/s")];

/// All that is written of a run beside pictures and checkpoints.
#[derive(Debug)]
pub struct RunRecord {
    metrics: Metrics,
    updates: Updates,
    events: Events,
    progress: Progress,
    began: Instant,
    rate: Rate,
}

impl RunRecord {
    /// Goes on in the folder of a run behind `update` of `n_updates`: what was written of later ones is dropped. Seconds count from the beginning of this process.
    pub fn open(
        folder: &Path,
        (update, n_updates): (u64, u64),
        began: Instant,
    ) -> Result<RunRecord> {
        Ok(RunRecord {
            metrics: Metrics::open(&folder.join(metrics::FILE), update)?,
            updates: Updates::open(&folder.join(updates::FILE), update)?,
            events: Events::create(folder, update)?,
            progress: Progress::new("update", update, n_updates),
            rate: Rate::from(Instant::now()),
            began,
        })
    }

    /// Adds what an update measured.
    pub fn add(&mut self, update: u64, measured: &Measured) -> Result<()> {
        let (work, values): (Measured, Measured) = measured
            .iter()
            .copied()
            .partition(|(name, _)| unit(name).is_some());
        self.updates.write(update, &values)?;
        work.iter()
            .for_each(|(_, work)| self.rate.add(Instant::now(), *work));
        self.progress
            .show(update, &message(&work, &values, self.rate.per_second()));
        Ok(())
    }

    /// Adds a log point: the means since the last one.
    pub fn log(&mut self, update: u64, means: &[(String, f64)], learning_rate: f64) -> Result<()> {
        let seconds = self.began.elapsed().as_secs_f64();
        self.metrics.write(update, means, learning_rate, seconds)?;
        let rate = self.rate.per_second();
        let scalars = means.iter().map(|(name, mean)| match unit(name) {
            Some(_) => (format!("{name}_per_second"), rate),
            None => (name.clone(), *mean),
        });
        let learning_rate = [("learning_rate".to_string(), learning_rate)];
        self.events.scalars(update, scalars.chain(learning_rate))
    }

    /// Adds pictures of an update for TensorBoard.
    pub fn show(&mut self, update: u64, pictures: Vec<Picture>) -> Result<()> {
        self.events.pictures(update, pictures)
    }

    /// Hands what is written to the system, which keeps it if this process is killed.
    pub fn flush(&mut self) -> Result<()> {
        self.updates.flush()
    }

    /// Ends: leaves the terminal as it was.
    pub fn finish(mut self) -> Result<()> {
        self.progress.finish();
        self.flush()
    }
}

/// The unit of the rate of what is work.
fn unit(name: &str) -> Option<&'static str> {
    let mut known = WORK.into_iter();
    known.find_map(|(work, unit)| (work == name).then_some(unit))
}

/// What the live lines say of an update.
fn message(work: &Measured, values: &Measured, rate: f64) -> String {
    let values = values
        .iter()
        .map(|(name, value)| format!("{} {value:.4}", name.replace('_', " ")));
    let speed = work
        .iter()
        .filter_map(|(name, _)| Some(format!("{rate:.0} {}", unit(name)?)));
    values.chain(speed).collect::<Vec<_>>().join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_lines_say_values_and_speed() {
        let values = vec![("energy_difference", -0.25), ("gradient_strength", 0.5)];
        assert_eq!(
            message(&vec![(IMAGE_STEPS, 100.0)], &values, 1234.4),
            "energy difference -0.2500 · gradient strength 0.5000 · 1234 images·steps/s"
        );
        assert_eq!(
            message(&Vec::new(), &vec![("loss", 1.0)], 0.0),
            "loss 1.0000"
        );
    }
}
