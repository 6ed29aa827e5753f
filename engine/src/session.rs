//! Runs of a plan.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::crew::{Barrier, Crew, Member, Together};
use crate::error::{Error, Result};
use crate::lanes::LANES;
use crate::lower::Port;
use crate::memory::{Block, Floats};
use crate::plan::Plan;
use crate::steps::Run;

/// Floats of all values of the images that a thread takes through a plan at once: about what the caches hold.
const CHUNK: usize = 3 << 20;
/// Most images that a thread takes through at once: the weights are read once for all of them.
const MOST_IMAGES: usize = 8;

/// A tensor that goes into a run.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The file's name for it.
    pub name: &'a str,
    /// Its extents, those of the plan with the number of images at the axis for it.
    pub shape: &'a [usize],
    /// As many values as the shape says, in standard layout.
    pub values: &'a [f32],
}

/// Room for a tensor that comes out of a run.
#[derive(Debug)]
pub struct Output<'a> {
    /// The file's name for it.
    pub name: &'a str,
    /// Its extents, as those of inputs.
    pub shape: &'a [usize],
    /// Room for its values in standard layout.
    pub values: &'a mut [f32],
}

/// A plan with the memory for its runs.
pub struct Session {
    bench: Arc<Bench>,
    crew: Crew<Bench>,
}

/// What the threads of a session work on: the plan, and memory for a chunk of images.
struct Bench {
    plan: Arc<Plan>,
    n_threads: usize,
    /// Where all threads wait for each other, and where one that works alone need not.
    together: Barrier,
    alone: Barrier,
    /// Images that the memory is for, and images that are in it.
    capacity: usize,
    n_images: AtomicUsize,
    memory: Block,
    /// Floats of scratch that the threads share, that each shares with nobody while it works alone, and that it never shares.
    n_shared: usize,
    n_alone: usize,
    n_own: usize,
}

impl Session {
    /// A session whose runs use one thread.
    pub fn new(plan: &Arc<Plan>) -> Self {
        Self::with_threads(plan, 1)
    }

    /// A session whose runs use `n_threads` threads. An image's result does not depend on their number.
    pub fn with_threads(plan: &Arc<Plan>, n_threads: usize) -> Self {
        let n_threads = n_threads.max(1);
        Self {
            bench: Arc::new(Bench::new(plan, n_threads, 0)),
            crew: Crew::new(n_threads),
        }
    }

    /// The plan that it runs.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.bench.plan
    }

    /// The number of threads that its runs use.
    pub fn n_threads(&self) -> usize {
        self.bench.n_threads
    }

    /// Runs the plan once. Allocates if there are more images than ever before, up to the few that go through the plan together.
    ///
    /// # Errors
    /// An input is missing or has another shape than the plan's, or an output is not there.
    pub fn run(&mut self, inputs: &[Input<'_>], outputs: &mut [Output<'_>]) -> Result<()> {
        let plan = Arc::clone(self.plan());
        let n_images = n_images(&plan, inputs, outputs)?;
        self.reserve(n_images);
        let bench = &self.bench;
        for first in (0..n_images).step_by(bench.capacity) {
            let chunk = first..(first + bench.capacity).min(n_images);
            for port in &plan.layouted.inputs {
                let given = inputs.iter().find(|input| input.name == port.name);
                for (place, image) in chunk.clone().enumerate() {
                    let values = given.map_or(&[][..], |input| input.values);
                    bench.copy_in(port, values, (image, n_images), place);
                }
            }
            bench.n_images.store(chunk.len(), Ordering::Release);
            self.crew.run(bench);
            for output in &mut *outputs {
                let port = plan
                    .layouted
                    .outputs
                    .iter()
                    .find(|port| port.name == output.name);
                for (place, image) in chunk.clone().enumerate() {
                    if let Some(port) = port {
                        bench.copy_out(port, output.values, (image, n_images), place);
                    }
                }
            }
        }
        Ok(())
    }

    /// Memory for that many images, or for as many as go through the plan together.
    fn reserve(&mut self, n_images: usize) {
        let most = (CHUNK / self.plan().layouted.n_floats.max(1)).clamp(1, MOST_IMAGES);
        let capacity = n_images.clamp(1, most * self.n_threads());
        if capacity > self.bench.capacity {
            self.bench = Arc::new(Bench::new(self.plan(), self.n_threads(), capacity));
        }
    }

    /// What each step takes, on one thread and whatever lies in the memory, for people who ask where the time goes: the line of [`Plan::describe`] and the
    /// shortest of some runs.
    pub fn profile(&self, n_images: usize, n_runs: usize) -> Vec<(String, Duration)> {
        let bench = Bench::new(self.plan(), 1, n_images);
        bench.n_images.store(n_images, Ordering::Relaxed);
        let run = bench.run_alone(0, 0..n_images);
        let steps = &self.plan().layouted.steps;
        let mut shortest = vec![Duration::MAX; steps.len()];
        for _ in 0..n_runs {
            for (step, shortest) in steps.iter().zip(&mut shortest) {
                let start = Instant::now();
                step.run(&run);
                *shortest = start.elapsed().min(*shortest);
            }
        }
        self.plan().describe().into_iter().zip(shortest).collect()
    }
}

impl Together for Bench {
    /// Each thread takes images of its own through the plan, as many as the others; for those that are left, all work on the channels of each step.
    fn part(&self, number: usize) {
        let n_images = self.n_images.load(Ordering::Acquire);
        let each = n_images / self.n_threads;
        let left = each * self.n_threads..n_images;
        let steps = |run: Run<'_>| {
            let steps = &self.plan.layouted.steps;
            steps.iter().for_each(|step| step.run(&run));
        };
        if each > 0 {
            steps(self.run_alone(number, number * each..(number + 1) * each));
            self.together.wait();
        }
        if !left.is_empty() {
            steps(self.run_together(number, left));
        }
    }
}

impl Bench {
    fn new(plan: &Arc<Plan>, n_threads: usize, capacity: usize) -> Self {
        let layouted = &plan.layouted;
        let scratch = |n_images: usize| {
            let needs = layouted.steps.iter().map(|step| step.scratch(n_images));
            let (shared, own) = needs.fold((0, 0), |(shared, own), need| {
                (need.0.max(shared), need.1.max(own))
            });
            // A line of the cache belongs to one thread.
            (shared.next_multiple_of(LANES), own.next_multiple_of(LANES))
        };
        let (n_alone, own_alone) = match capacity / n_threads {
            0 => (0, 0),
            each => scratch(each),
        };
        let (n_together, own_together) = scratch(capacity.min(n_threads - 1));
        let n_shared = n_together.max(n_threads * n_alone);
        let n_own = own_alone.max(own_together);
        let n_floats = match capacity {
            0 => 0,
            _ => capacity * layouted.n_floats + n_shared + n_threads * n_own,
        };
        Self {
            plan: Arc::clone(plan),
            n_threads,
            together: Barrier::new(n_threads),
            alone: Barrier::new(1),
            capacity,
            n_images: AtomicUsize::new(0),
            memory: Block::new(n_floats),
            n_shared,
            n_alone,
            n_own,
        }
    }

    /// What a thread sees that takes images through the plan alone.
    fn run_alone(&self, number: usize, images: Range<usize>) -> Run<'_> {
        let member = Member {
            number: 0,
            barrier: &self.alone,
        };
        self.run_of(number, images, number * self.n_alone, member)
    }

    /// What one of all threads sees that take images through the plan together.
    fn run_together(&self, number: usize, images: Range<usize>) -> Run<'_> {
        let member = Member {
            number,
            barrier: &self.together,
        };
        self.run_of(number, images, 0, member)
    }

    fn run_of<'a>(
        &'a self,
        number: usize,
        images: Range<usize>,
        shared: usize,
        member: Member<'a>,
    ) -> Run<'a> {
        let layouted = &self.plan.layouted;
        let memory = self.memory.floats();
        let n_floats = self.capacity * layouted.n_floats;
        Run {
            processor: self.plan.processor,
            constants: self.plan.constants.floats(),
            slots: &layouted.slots,
            arena: memory,
            floats_of_image: layouted.n_floats,
            first_image: images.start,
            n_images: images.len(),
            shared: memory.from(n_floats + shared),
            own: memory.from(n_floats + self.n_shared + number * self.n_own),
            member,
        }
    }

    /// An image's part of a value in the arena.
    fn part_of(&self, port: &Port, place: usize) -> Floats {
        let layouted = &self.plan.layouted;
        let image = place * layouted.n_floats;
        self.memory.floats().from(image + layouted.slots[port.slot])
    }

    fn copy_in(
        &self,
        port: &Port,
        values: &[f32],
        (image, n_images): (usize, usize),
        place: usize,
    ) {
        let n = port.shape.n_elements();
        let part = self.part_of(port, place).write(0, n);
        let rest = port.shape.batch.map_or(n, |batch| n / batch.before);
        let (stride, image) = if port.shape.batch.is_some() {
            (n_images, image)
        } else {
            (1, 0)
        };
        for (outer, part) in part.chunks_exact_mut(rest).enumerate() {
            part.copy_from_slice(&values[(outer * stride + image) * rest..][..rest]);
        }
    }

    fn copy_out(
        &self,
        port: &Port,
        values: &mut [f32],
        (image, n_images): (usize, usize),
        place: usize,
    ) {
        let n = port.shape.n_elements();
        let part = self.part_of(port, place).read(0, n);
        let rest = port.shape.batch.map_or(n, |batch| n / batch.before);
        let (stride, image) = if port.shape.batch.is_some() {
            (n_images, image)
        } else {
            (1, 0)
        };
        for (outer, part) in part.chunks_exact(rest).enumerate() {
            values[(outer * stride + image) * rest..][..rest].copy_from_slice(part);
        }
    }
}

/// The number of images of a run, whose inputs and outputs have to be the plan's.
fn n_images(plan: &Plan, inputs: &[Input<'_>], outputs: &[Output<'_>]) -> Result<usize> {
    let mut n_images = None;
    for port in &plan.layouted.inputs {
        let input = inputs.iter().find(|input| input.name == port.name);
        let input =
            input.ok_or_else(|| Error::Misfit(format!("the input `{}` is missing", port.name)))?;
        check(port, input.shape, input.values.len(), &mut n_images)?;
    }
    for output in outputs {
        let port = plan
            .layouted
            .outputs
            .iter()
            .find(|port| port.name == output.name);
        let port =
            port.ok_or_else(|| Error::Misfit(format!("there is no output `{}`", output.name)))?;
        check(port, output.shape, output.values.len(), &mut n_images)?;
    }
    Ok(n_images.unwrap_or(1))
}

/// Nothing if a shape is that of a port with the run's number of images, which the first one that has it decides.
fn check(
    port: &Port,
    shape: &[usize],
    n_values: usize,
    n_images: &mut Option<usize>,
) -> Result<()> {
    let extents = &port.shape.extents;
    let axis = port.shape.batch_axis();
    let given = |axis: usize| {
        let given = shape
            .get(axis)
            .map_or(1, |extent| extent / extents[axis].max(1));
        *n_images.get_or_insert(given)
    };
    let factor = axis.map_or(1, given);
    let extent = |at: usize| extents[at] * if axis == Some(at) { factor } else { 1 };
    let expected = (0..extents.len()).map(extent);
    match shape.iter().copied().eq(expected.clone()) && n_values == expected.clone().product() {
        true => Ok(()),
        false => Err(Error::Misfit(format!(
            "`{}`: expected the shape {:?}, got {shape:?} with {n_values} values",
            port.name,
            expected.collect::<Vec<_>>()
        ))),
    }
}
