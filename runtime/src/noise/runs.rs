//! The noise of the runs of a batch of chains, one run after the other.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::fill_normal;

/// What the noise of a batch of chains depends on.
#[derive(Debug, Clone)]
pub(crate) struct NoiseCoordinates {
    pub seed: u64,
    /// Image index and replica of each chain; empty for chains without noise.
    pub streams: Vec<(u32, u32)>,
    /// Values of one image.
    pub n_values: usize,
    /// Rows of the batch, of which those behind the chains have no noise.
    pub n_rows: usize,
    /// Number of the first step of the first run.
    pub first_step: u32,
    pub steps_per_run: u32,
}

impl NoiseCoordinates {
    /// Fills `[steps_per_run, rows, values]` for a run whose first step is `first_step`.
    fn fill(&self, first_step: u32, noise: &mut [f32]) {
        let of_steps = noise.chunks_exact_mut(self.n_rows * self.n_values);
        for (step, rows) in (first_step..).zip(of_steps) {
            let rows = rows.chunks_exact_mut(self.n_values);
            for (&(image, replica), row) in self.streams.iter().zip(rows) {
                fill_normal(self.seed, image, replica, step, row);
            }
        }
    }

    fn buffer(&self) -> Vec<f32> {
        vec![0.0; self.steps_per_run as usize * self.n_rows * self.n_values]
    }
}

/// On which thread the noise is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoiseThread {
    /// On the thread that asks for it, when it asks.
    Asking,
    /// On a thread of its own, while the run before goes on.
    Own,
}

/// The noise of one run after the other. Buffers are given back, so that no run allocates.
pub(crate) enum NoiseOfRuns {
    Asking {
        coordinates: NoiseCoordinates,
        next_step: u32,
        buffer: Vec<f32>,
    },
    Own(Ahead),
}

impl NoiseOfRuns {
    /// The noise of the runs that make `n_steps`.
    pub fn new(coordinates: NoiseCoordinates, n_steps: u32, thread: NoiseThread) -> Self {
        let buffer = coordinates.buffer();
        let asking = |coordinates: NoiseCoordinates| Self::Asking {
            next_step: coordinates.first_step,
            coordinates,
            buffer,
        };
        match thread {
            NoiseThread::Asking => asking(coordinates),
            // Where the system has no thread to give, the noise is made without.
            NoiseThread::Own => match Ahead::start(coordinates.clone(), n_steps) {
                Ok(ahead) => Self::Own(ahead),
                Err(_) => asking(coordinates),
            },
        }
    }

    /// The noise of the next run, `[steps_per_run, rows, values]`.
    pub fn take(&mut self) -> Vec<f32> {
        match self {
            Self::Asking {
                coordinates,
                next_step,
                buffer,
            } => {
                coordinates.fill(*next_step, buffer);
                *next_step += coordinates.steps_per_run;
                std::mem::take(buffer)
            }
            Self::Own(ahead) => ahead.take(),
        }
    }

    /// Gives the buffer of [`NoiseOfRuns::take`] back.
    pub fn give_back(&mut self, noise: Vec<f32>) {
        match self {
            Self::Asking { buffer, .. } => *buffer = noise,
            Self::Own(ahead) => ahead.give_back(noise),
        }
    }
}

/// A thread that makes the noise of the next run, and ends with this value.
pub(crate) struct Ahead {
    full: Option<Receiver<Vec<f32>>>,
    empty: Option<Sender<Vec<f32>>>,
    thread: Option<JoinHandle<()>>,
}

impl Ahead {
    fn start(coordinates: NoiseCoordinates, n_steps: u32) -> std::io::Result<Self> {
        let (send_full, full) = channel();
        let (empty, receive_empty) = channel::<Vec<f32>>();
        for buffer in [coordinates.buffer(), coordinates.buffer()] {
            // The receiver stands two lines above.
            let _ = empty.send(buffer);
        }
        let make = move || {
            let steps = (coordinates.first_step..)
                .take(n_steps as usize)
                .step_by(coordinates.steps_per_run as usize);
            for (first_step, mut buffer) in steps.zip(receive_empty) {
                coordinates.fill(first_step, &mut buffer);
                if send_full.send(buffer).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("ebm-noise".into())
            .spawn(make)?;
        Ok(Self {
            full: Some(full),
            empty: Some(empty),
            thread: Some(thread),
        })
    }

    fn take(&mut self) -> Vec<f32> {
        let noise = self.full.as_ref().and_then(|full| full.recv().ok());
        noise.expect("there is noise for every step of the chains")
    }

    fn give_back(&mut self, noise: Vec<f32>) {
        if let Some(empty) = &self.empty {
            // After the last run nobody takes it.
            let _ = empty.send(noise);
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // Without the other ends of its channels the thread finds nothing more to do.
        self.full.take();
        self.empty.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_make_the_documented_noise() {
        let coordinates = NoiseCoordinates {
            seed: 5,
            streams: vec![(3, 0), (1, 2)],
            n_values: 6,
            n_rows: 3,
            first_step: 3,
            steps_per_run: 2,
        };
        for thread in [NoiseThread::Asking, NoiseThread::Own] {
            let mut runs = NoiseOfRuns::new(coordinates.clone(), 8, thread);
            for run in 0..4 {
                let noise = runs.take();
                for (step, (row, stream)) in (0..2)
                    .flat_map(|step| (0..2).map(move |row| (step, (row, [(3, 0), (1, 2)][row]))))
                {
                    let mut expected = [0.0; 6];
                    fill_normal(5, stream.0, stream.1, 3 + 2 * run + step, &mut expected);
                    let place = (step as usize * 3 + row) * 6;
                    assert_eq!(noise[place..place + 6], expected, "{thread:?}, run {run}");
                }
                assert!(noise[12..18].iter().all(|&padding| padding == 0.0));
                runs.give_back(noise);
            }
        }
    }

    #[test]
    fn a_thread_ends_wherever_its_runs_end() {
        let coordinates = NoiseCoordinates {
            seed: 0,
            streams: vec![(0, 0)],
            n_values: 4,
            n_rows: 1,
            first_step: 0,
            steps_per_run: 1,
        };
        for n_taken in 0..4 {
            let mut runs = NoiseOfRuns::new(coordinates.clone(), 1000, NoiseThread::Own);
            for _ in 0..n_taken {
                let noise = runs.take();
                runs.give_back(noise);
            }
        }
    }
}
