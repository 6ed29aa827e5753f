//! A purification that goes on only when it is told to.

use ebm_runtime::{Images, Prepared, Purifier, Request, Seed};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::failure::Failure;
use crate::pixels;

/// How to purify. What is left undefined is as the model's contract recommends.
#[wasm_bindgen]
#[derive(Debug, Clone)]
pub struct Settings {
    /// Seed of the noise: one that nobody knows, unless it is set to repeat a purification.
    pub seed: u64,
    /// Number of Langevin steps, from 1.
    pub steps: Option<u32>,
    /// Step size ε > 0.
    #[wasm_bindgen(js_name = stepSize)]
    pub step_size: Option<f64>,
    /// Temperature T > 0.
    pub temperature: Option<f64>,
}

#[wasm_bindgen]
impl Settings {
    /// What the contract recommends, with a fresh seed.
    ///
    /// # Errors
    /// Where the browser gives no random numbers.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Result<Settings, Failure> {
        Ok(Self {
            seed: Seed::fresh()?.number(),
            steps: None,
            step_size: None,
            temperature: None,
        })
    }
}

/// One image on its way: it stands still between calls of [`Purification::advance`], so that a page can draw, or give up.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Purification {
    /// Takes the steps of one run of the model.
    purifier: Purifier,
    image: Images,
    n_steps: u32,
    n_done: u32,
    energies: Vec<f32>,
}

impl Purification {
    pub(crate) fn start(
        model: &Prepared,
        image: Images,
        settings: &Settings,
    ) -> Result<Self, Failure> {
        let mut whole = Purifier::builder(model);
        if let Some(steps) = settings.steps {
            whole = whole.steps(steps as usize);
        }
        if let Some(step_size) = settings.step_size {
            whole = whole.step_size(step_size);
        }
        if let Some(temperature) = settings.temperature {
            whole = whole.temperature(temperature);
        }
        // Built as a whole once, since then everything has been checked in the words of the runtime.
        let n_steps = whole.clone().build(settings.seed)?.n_steps();
        let purifier = whole
            .steps(model.contract().n_steps.unwrap_or(1))
            .build(settings.seed)?;
        Ok(Self {
            purifier,
            image,
            n_steps,
            n_done: 0,
            energies: Vec::new(),
        })
    }

    fn run(&mut self) -> Result<(), Failure> {
        let is_last = self.n_done + self.purifier.n_steps() == self.n_steps;
        let request = Request::new(&self.image).first_step(self.n_done);
        let mut purified = self.purifier.run(&match is_last {
            true => request.measure_end(),
            false => request,
        })?;
        purified.expect_all_finite()?;
        let report = &purified.reports[0];
        let measured = [report.start, report.end].into_iter().flatten();
        self.energies.extend(measured.map(|at| at.energy));
        self.n_done += report.n_steps;
        self.image = purified.replicas.swap_remove(0);
        Ok(())
    }
}

#[wasm_bindgen]
impl Purification {
    /// Takes this many steps, or those that are left; of a model that takes several in a run, whole runs. The result is the same however the steps are divided among calls.
    ///
    /// # Errors
    /// If the image does not fit the model, has a pixel that is not finite, or the chain leaves the finite numbers; the image stays as it was then.
    pub fn advance(&mut self, steps: u32) -> Result<(), Failure> {
        let end = self.n_done.saturating_add(steps).min(self.n_steps);
        while self.n_done < end {
            self.run()?;
        }
        Ok(())
    }

    /// The steps of the whole purification.
    #[wasm_bindgen(getter)]
    pub fn steps(&self) -> u32 {
        self.n_steps
    }

    /// The steps taken so far.
    #[wasm_bindgen(getter, js_name = stepsDone)]
    pub fn steps_done(&self) -> u32 {
        self.n_done
    }

    /// The steps that the model takes in one run.
    #[wasm_bindgen(getter, js_name = stepsOfRun)]
    pub fn steps_of_run(&self) -> u32 {
        self.purifier.n_steps()
    }

    /// The energy before each run of the model, and behind the last step.
    #[wasm_bindgen(getter)]
    pub fn energies(&self) -> Vec<f32> {
        self.energies.clone()
    }

    /// The image as it is now: f32 `[C, H, W]`, a little outside `[-1, 1]` here and there.
    #[wasm_bindgen(getter)]
    pub fn values(&self) -> Vec<f32> {
        self.image.image(0).to_vec()
    }

    /// The image as it is now: bytes `[H, W, C]`.
    #[wasm_bindgen(getter)]
    pub fn bytes(&self) -> Vec<u8> {
        self.image.to_bytes(0)
    }

    /// The image as it is now: bytes `[H, W, 4]` for a canvas, of an image of one or three channels; of others the first channel.
    #[wasm_bindgen(getter)]
    pub fn canvas(&self) -> Vec<u8> {
        pixels::to_canvas(&self.image)
    }
}
