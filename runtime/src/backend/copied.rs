//! Runs that go on from each other on any session: the state is copied in and out, a few kilobytes beside millions of products.

use super::fit::check_names;
use super::{Input, Output, Recurrence, Recurrent, Sealed, Session};
use crate::error::Result;

pub(super) struct CopiedRuns {
    session: Box<dyn Session>,
    input: String,
    output: String,
    shape: Vec<usize>,
    state: Vec<f32>,
    next: Vec<f32>,
}

impl CopiedRuns {
    /// Runs on a session of their own, of a model with these inputs and outputs.
    pub fn on(
        session: Box<dyn Session>,
        inputs: &[String],
        outputs: &[String],
        recurrence: &Recurrence<'_>,
    ) -> Result<Box<dyn Recurrent>> {
        check_names("input", &[recurrence.input], inputs)?;
        check_names("output", &[recurrence.output], outputs)?;
        let n_values = recurrence.shape.iter().product();
        Ok(Box::new(Self {
            session,
            input: recurrence.input.to_owned(),
            output: recurrence.output.to_owned(),
            shape: recurrence.shape.to_vec(),
            state: vec![0.0; n_values],
            next: vec![0.0; n_values],
        }))
    }
}

impl Sealed for CopiedRuns {}

impl Recurrent for CopiedRuns {
    fn write(&mut self, state: &[f32]) -> Result<()> {
        self.state.copy_from_slice(state);
        Ok(())
    }

    fn step(&mut self, inputs: &[Input<'_>], outputs: &mut [Output<'_>]) -> Result<()> {
        let mut all_inputs = inputs.to_vec();
        all_inputs.push(Input::new(&self.input, &self.shape, &self.state));
        let outputs = outputs.iter_mut();
        let outputs = outputs.map(|to| Output::new(to.name, to.shape, &mut *to.values));
        let next = Output::new(&self.output, &self.shape, &mut self.next);
        let mut all_outputs: Vec<_> = outputs.chain([next]).collect();
        self.session.run(&all_inputs, &mut all_outputs)?;
        std::mem::swap(&mut self.state, &mut self.next);
        Ok(())
    }

    fn read(&self, state: &mut [f32]) -> Result<()> {
        state.copy_from_slice(&self.state);
        Ok(())
    }
}
