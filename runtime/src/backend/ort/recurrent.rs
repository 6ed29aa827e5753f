//! Runs whose state stays in the memory of the device.

use std::sync::{Arc, Mutex, PoisonError};

use ort::memory::{Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::IoBinding;
use ort::session::Session as OrtSession;
use ort::value::Tensor;

use super::super::fit::copy_output;
use super::super::{Input, Output, Provider, Recurrence, Recurrent, Sealed};
use super::{failed, from_shape, provider, to_shape};
use crate::error::Result;

/// Two tensors take turns at being the state and the next one; the other inputs and the outputs have a tensor each, which all runs use.
pub(super) struct BoundRuns {
    session: Arc<Mutex<OrtSession>>,
    binding: IoBinding,
    output: String,
    input: String,
    state: Tensor<f32>,
    next_state: Tensor<f32>,
    host: Allocator,
    inputs: Vec<(String, Tensor<f32>)>,
    outputs: Vec<(String, Tensor<f32>)>,
    provider: Provider,
}

impl BoundRuns {
    pub(super) fn new(
        session: &Arc<Mutex<OrtSession>>,
        recurrence: &Recurrence<'_>,
        provider: Provider,
        device: u32,
    ) -> ort::Result<Self> {
        let locked = session.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = match provider::memory(provider) {
            Some(memory) => Allocator::new(
                &locked,
                MemoryInfo::new(
                    memory,
                    i32::try_from(device).unwrap_or(i32::MAX),
                    AllocatorType::Device,
                    MemoryType::Default,
                )?,
            )?,
            None => Allocator::default(),
        };
        Ok(Self {
            session: Arc::clone(session),
            binding: locked.create_binding()?,
            output: recurrence.output.to_owned(),
            input: recurrence.input.to_owned(),
            state: Tensor::new(&memory, to_shape(recurrence.shape))?,
            next_state: Tensor::new(&memory, to_shape(recurrence.shape))?,
            host: Allocator::default(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            provider,
        })
    }

    /// A tensor in the memory of the CPU for each input and output, made at the first run.
    fn bind(&mut self, inputs: &[Input<'_>], outputs: &[Output<'_>]) -> ort::Result<()> {
        for input in inputs.iter().skip(self.inputs.len()) {
            let tensor = Tensor::new(&self.host, to_shape(input.shape))?;
            self.inputs.push((input.name.to_owned(), tensor));
        }
        for output in outputs.iter().skip(self.outputs.len()) {
            let mut tensor = Tensor::<f32>::new(&self.host, to_shape(output.shape))?;
            self.binding.bind_output(output.name, &mut tensor)?;
            self.outputs.push((output.name.to_owned(), tensor));
        }
        Ok(())
    }

    fn run(&mut self, inputs: &[Input<'_>], outputs: &[Output<'_>]) -> ort::Result<()> {
        self.bind(inputs, outputs)?;
        for ((name, tensor), input) in self.inputs.iter_mut().zip(inputs) {
            tensor.extract_tensor_mut().1.copy_from_slice(input.values);
            self.binding.bind_input(name.as_str(), &*tensor)?;
        }
        self.binding.bind_input(self.input.as_str(), &self.state)?;
        self.binding
            .bind_output(self.output.as_str(), &mut self.next_state)?;
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        self.binding.synchronize_inputs()?;
        session.run_binding(&self.binding)?;
        self.binding.synchronize_outputs()?;
        std::mem::swap(&mut self.state, &mut self.next_state);
        Ok(())
    }
}

impl Sealed for BoundRuns {}

impl Recurrent for BoundRuns {
    fn write(&mut self, state: &[f32]) -> Result<()> {
        let on_device = provider::memory(self.provider).is_some();
        let written = if on_device {
            let shape = self.state.shape().to_vec();
            Tensor::from_array((shape, state.to_vec()))
                .and_then(|values| values.copy_into(&mut self.state))
        } else {
            self.state.extract_tensor_mut().1.copy_from_slice(state);
            Ok(())
        };
        written.map_err(failed)
    }

    fn step(&mut self, inputs: &[Input<'_>], outputs: &mut [Output<'_>]) -> Result<()> {
        self.run(inputs, outputs).map_err(failed)?;
        for ((_, tensor), output) in self.outputs.iter().zip(outputs) {
            let (shape, values) = tensor.extract_tensor();
            copy_output(output, &from_shape(shape), values)?;
        }
        Ok(())
    }

    fn read(&self, state: &mut [f32]) -> Result<()> {
        if provider::memory(self.provider).is_none() {
            state.copy_from_slice(self.state.extract_tensor().1);
            return Ok(());
        }
        let on_host = self
            .state
            .to(ort::memory::AllocationDevice::CPU, 0)
            .map_err(failed)?;
        state.copy_from_slice(on_host.extract_tensor().1);
        Ok(())
    }
}
