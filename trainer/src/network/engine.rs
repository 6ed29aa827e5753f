//! Graphs on the engine of this project, which is faster than libtorch on a CPU: for f32 without autograd, as chains need it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use anyhow::{Context, Result};
use ebm_engine::{Input, Output, Plan, Session};
use ebm_export::graph::{Graph, tensor};
use ebm_export::transform::pipeline::bind;
use ebm_export::write::onnx::{Opset, bare_model};
use parking_lot::Mutex;
use tch::{Device, Kind, Tensor};

use super::weights::{Weights, from_host, tensor_to_host, to_host};

/// A graph with its weights, ready for any number of images.
pub struct Engine {
    plan: Arc<Plan>,
    /// Sessions that no thread uses at the moment; each has memory of its own.
    idle: Mutex<Vec<Session>>,
}

impl Engine {
    /// Plans a graph with its weights.
    ///
    /// # Errors
    /// A weight is missing or not finite, or the graph has an operator that the engine does not take.
    pub fn new(graph: &Graph, weights: &Weights) -> Result<Engine> {
        let bound = bind(graph, &to_host(weights)?)?;
        let file = bare_model(&bound, Opset::DEFAULT)?.to_bytes();
        Ok(Engine {
            plan: Arc::new(Plan::new(file)?),
            idle: Mutex::new(Vec::new()),
        })
    }

    /// All outputs by name, for inputs by name: f32 on the CPU.
    ///
    /// # Errors
    /// An input is missing or has another shape.
    pub fn evaluate(&self, inputs: &[(&str, Tensor)]) -> Result<BTreeMap<String, Tensor>> {
        let inputs = inputs
            .iter()
            .map(|(name, value)| Ok((*name, tensor_to_host(value)?)))
            .collect::<Result<Vec<_>>>()?;
        let n_images = self.n_images(&inputs)?;
        let mut outputs: Vec<_> = self
            .plan
            .outputs()
            .map(|(name, extents, axis)| {
                let mut shape = extents.to_vec();
                axis.into_iter().for_each(|axis| shape[axis] *= n_images);
                let n_values = shape.iter().product();
                (name, shape, vec![0.0f32; n_values])
            })
            .collect();
        let given: Vec<_> = inputs
            .iter()
            .map(|(name, value)| Input {
                name,
                shape: value.shape(),
                values: value.data(),
            })
            .collect();
        let mut wanted: Vec<_> = outputs
            .iter_mut()
            .map(|(name, shape, values)| Output {
                name,
                shape,
                values,
            })
            .collect();
        let idle = self.idle.lock().pop();
        let mut session = idle.unwrap_or_else(|| Session::new(&self.plan));
        session.run(&given, &mut wanted)?;
        self.idle.lock().push(session);
        let outputs = outputs.into_iter().map(|(name, shape, values)| {
            let value = tensor::Tensor::new(&shape, values);
            (name.to_owned(), from_host(&value, Kind::Float, Device::Cpu))
        });
        Ok(outputs.collect())
    }

    /// Of the first input that has an axis for them.
    fn n_images(&self, inputs: &[(&str, tensor::Tensor)]) -> Result<usize> {
        let batched = self.plan.inputs().find_map(|(name, extents, axis)| {
            let (_, value) = inputs.iter().find(|(given, _)| *given == name)?;
            let axis = axis?;
            Some(value.shape().get(axis)? / extents[axis])
        });
        batched.context("no input of the graph has an axis for images")
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("processor", &self.plan.processor())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use ebm_export::source::networks::{Activation, Network, Sngan};
    use ebm_export::transform::pipeline::gradient_graph;
    use ebm_export::transform::rewrite::Rewrite;

    use super::*;
    use crate::machine::randomness::seeded;
    use crate::network::{Program, to_device};

    fn graph_and_weights(activation: Activation) -> (Graph, Weights) {
        let network = Network::Sngan(Sngan::small(
            8,
            3,
            &[5, 18, 7],
            &[true, true, false],
            activation,
        ));
        let graph = gradient_graph(&network.graph().unwrap(), &Rewrite::COMMON).unwrap();
        let weights = network.initial_weights(1).unwrap();
        (graph, to_device(&weights, Kind::Float, Device::Cpu))
    }

    #[test]
    fn gives_what_libtorch_gives() {
        let _draws = seeded(2);
        let x = Tensor::randn([11, 3, 8, 8], (Kind::Float, Device::Cpu));
        for activation in [Activation::Silu, Activation::Gelu] {
            let (graph, weights) = graph_and_weights(activation);
            let on_libtorch = Program::new(&graph, Kind::Float, Device::Cpu);
            let on_engine = Program::new(&graph, Kind::Float, Device::Cpu).on_engine(&graph);
            let bound = on_engine.bind(&weights).unwrap();
            assert!(bound.engine.is_some(), "{activation:?}");
            let wanted = on_libtorch.bind(&weights).unwrap().evaluate(&x).unwrap();
            let got = bound.evaluate(&x).unwrap();
            for (got, wanted) in got.iter().zip(&wanted) {
                assert_eq!(got.size(), wanted.size());
                let error = ((got - wanted).norm() / wanted.norm()).double_value(&[]);
                assert!(error < 1e-5, "{activation:?}: {error}");
            }
        }
    }

    #[test]
    fn leaves_autograd_and_other_numbers_to_libtorch() {
        let (graph, weights) = graph_and_weights(Activation::Silu);
        let tracked = weights
            .iter()
            .map(|(name, weight)| (name.clone(), weight.copy().set_requires_grad(true)))
            .collect();
        let program = Program::new(&graph, Kind::Float, Device::Cpu).on_engine(&graph);
        assert!(program.bind(&tracked).unwrap().engine.is_none());
        let exact = weights
            .iter()
            .map(|(name, weight)| (name.clone(), weight.to_kind(Kind::Double)))
            .collect();
        let program = Program::new(&graph, Kind::Double, Device::Cpu).on_engine(&graph);
        assert!(program.bind(&exact).unwrap().engine.is_none());
    }

    #[test]
    fn leaves_weights_that_the_engine_refuses_to_libtorch() {
        let (graph, weights) = graph_and_weights(Activation::Silu);
        let broken = weights
            .iter()
            .map(|(name, weight)| (name.clone(), weight * f64::NAN))
            .collect();
        let program = Program::new(&graph, Kind::Float, Device::Cpu).on_engine(&graph);
        let bound = program.bind(&broken).unwrap();
        assert!(bound.engine.is_none());
        let x = Tensor::zeros([1, 3, 8, 8], (Kind::Float, Device::Cpu));
        assert!(
            bound.evaluate(&x).unwrap()[0]
                .isnan()
                .any()
                .double_value(&[])
                == 1.0
        );
    }
}
