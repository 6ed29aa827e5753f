//! Tensors in and out of a prepared model, one run at a time or runs that go on from each other.

use crate::error::Result;

/// A named f32 tensor that goes into a session.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The model's name for it.
    pub name: &'a str,
    /// Its shape; empty for a scalar.
    pub shape: &'a [usize],
    /// Its values in standard layout; their number is that of the shape.
    pub values: &'a [f32],
}

impl<'a> Input<'a> {
    /// A tensor of this shape.
    pub fn new(name: &'a str, shape: &'a [usize], values: &'a [f32]) -> Self {
        Self {
            name,
            shape,
            values,
        }
    }

    /// A single number.
    pub fn scalar(name: &'a str, value: &'a f32) -> Self {
        Self::new(name, &[], std::slice::from_ref(value))
    }
}

/// Where the values of a named f32 tensor go that comes out of a session.
#[derive(Debug)]
pub struct Output<'a> {
    /// The model's name for it.
    pub name: &'a str,
    /// The shape that it must have.
    pub shape: &'a [usize],
    /// Room for its values in standard layout; their number is that of the shape.
    pub values: &'a mut [f32],
}

impl<'a> Output<'a> {
    /// Room for a tensor of this shape.
    pub fn new(name: &'a str, shape: &'a [usize], values: &'a mut [f32]) -> Self {
        Self {
            name,
            shape,
            values,
        }
    }
}

/// Keeps [`Session`] and [`Recurrent`] to the backends of this crate, so that they can grow.
pub(crate) mod sealed {
    pub trait Sealed {}
}

/// A model prepared by a backend. Only the backends of this crate implement it.
pub trait Session: sealed::Sealed + Send {
    /// Runs the model once. The first dimension of the inputs may differ from run to run if the model allows it.
    ///
    /// # Errors
    /// [`ErrorKind::Backend`](crate::ErrorKind::Backend) if the engine fails, [`ErrorKind::Shape`](crate::ErrorKind::Shape) if an output has another shape than the one asked for.
    fn run(&mut self, inputs: &[Input<'_>], outputs: &mut [Output<'_>]) -> Result<()>;

    /// Runs of the same prepared model in which an output of each is an input of the next.
    ///
    /// # Errors
    /// [`ErrorKind::Backend`](crate::ErrorKind::Backend) if the model has no such input or output.
    fn recur(&self, recurrence: &Recurrence<'_>) -> Result<Box<dyn Recurrent>>;

    /// A session on the same prepared model, for another thread. It may use `n_threads` for a run, if the engine
    /// lets each session have a number of its own.
    fn fork(&self, n_threads: usize) -> Box<dyn Session>;

    /// What the model takes of this machine, if the engine tells: only `native` does.
    fn footprint(&self) -> Option<Footprint> {
        None
    }
}

/// What a prepared model takes of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Footprint {
    /// Bytes of its weights as they lie in memory. All sessions share them.
    pub weight_bytes: usize,
    /// Bytes for each image that goes through it at the same time.
    pub image_bytes: usize,
    /// Side of the largest tiles through which its convolutions are computed, in pixels: 4, 2, or 1 for none.
    pub tile_side: usize,
    /// The kind of vectors that it computes with, such as `AVX-512`; none on a processor without those that the engine knows.
    pub vectors: Option<String>,
}

/// Which output of a run becomes which input of the next.
#[derive(Debug, Clone, Copy)]
pub struct Recurrence<'a> {
    /// The output's name.
    pub output: &'a str,
    /// The input's name.
    pub input: &'a str,
    /// The shape of both, batch first.
    pub shape: &'a [usize],
}

/// Runs of a model in which an output of each, the state, is an input of the next. The state stays where the engine keeps it.
/// Only the backends of this crate implement it.
pub trait Recurrent: sealed::Sealed + Send {
    /// Sets the state: values in standard layout, whose number is that of its shape.
    ///
    /// # Errors
    /// [`ErrorKind::Backend`](crate::ErrorKind::Backend) if the engine fails.
    fn write(&mut self, state: &[f32]) -> Result<()>;

    /// Runs the model once on the state, which then is the output of this run. `inputs` are the other inputs, all of the same shapes in every run.
    ///
    /// # Errors
    /// As [`Session::run`].
    fn step(&mut self, inputs: &[Input<'_>], outputs: &mut [Output<'_>]) -> Result<()>;

    /// Copies the state out.
    ///
    /// # Errors
    /// [`ErrorKind::Backend`](crate::ErrorKind::Backend) if the engine fails.
    fn read(&self, state: &mut [f32]) -> Result<()>;
}
