//! The progress bar, which is silent unless standard error is a terminal.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ebm_runtime::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// A bar over all groups of images of a command.
#[derive(Clone)]
pub struct Bar {
    bar: ProgressBar,
    /// Steps of images in the groups that are done.
    base: Arc<AtomicU64>,
}

impl Bar {
    /// A bar that is not drawn before [`Bar::start`].
    pub fn new() -> Self {
        Self {
            bar: ProgressBar::hidden(),
            base: Arc::default(),
        }
    }

    /// Draws the bar for `n_images`, each of which takes `steps_per_image` steps in all its replicas. `what` comes before the word images.
    pub fn start(&self, what: &str, n_images: u64, steps_per_image: u64) {
        self.base.store(0, Ordering::Relaxed);
        let per_image = steps_per_image as f64;
        let images = move |state: &ProgressState, w: &mut dyn Write| {
            write!(w, "{}/{n_images}", (state.pos() as f64 / per_image).floor())
                .unwrap_or_default();
        };
        let rate = move |state: &ProgressState, w: &mut dyn Write| {
            write!(w, "{:.1}", state.per_sec() / per_image).unwrap_or_default();
        };
        let style = ProgressStyle::with_template(
            "{bar:30} {images} {prefix}images, {rate} images/s, ETA {eta}",
        );
        // The template is a constant; should it ever be wrong, the default style serves as well.
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        self.bar
            .set_style(style.with_key("images", images).with_key("rate", rate));
        let prefix = if what.is_empty() {
            String::new()
        } else {
            format!("{what} ")
        };
        self.bar.set_prefix(prefix);
        self.bar.set_length(n_images * steps_per_image);
        self.bar.reset();
        self.bar.set_draw_target(ProgressDrawTarget::stderr());
    }

    /// What a purifier calls while it runs one group.
    pub fn on_progress(&self) -> impl Fn(Progress) + Send + Sync + 'static {
        let this = self.clone();
        move |progress| {
            this.bar
                .set_position(this.base.load(Ordering::Relaxed) + progress.n_done)
        }
    }

    /// Moves on to where the group ends, whether or not all its images could be run.
    pub fn advance(&self, n_steps: u64) {
        let end = self.base.fetch_add(n_steps, Ordering::Relaxed) + n_steps;
        self.bar.set_position(end);
    }

    /// Prints a line above the bar.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
