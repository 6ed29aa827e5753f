//! Evaluates the graphs of `ebm_export` with libtorch.
//!
//! A [`Program`] is a graph made ready for one number kind and one device; bound to weights it is a [`Network`].
//! What depends on weights alone (flipped kernels, folded factors) is computed once per binding. During an evaluation each
//! value is dropped after its last use.

mod compiler;
mod instruction;
mod operators;
mod weights;

use anyhow::{Context, Result, bail, ensure};
use ebm_export::graph::{Dim, Graph, Shape};
use tch::{Device, Kind, Tensor};

pub use weights::{Weights, from_host, tensor_to_host, to_device, to_host};

use compiler::Compiler;
use instruction::{Instruction, Operand, get};
use operators::channels_last;

/// A graph made ready for evaluation.
#[derive(Debug)]
pub struct Program {
    device: Device,
    /// Whether images lie in memory with their channels innermost, which suits libtorch's f32 kernels for CPUs.
    channels_last: bool,
    n_values: usize,
    constants: Vec<(usize, Tensor)>,
    weights: Vec<(usize, String, Vec<i64>)>,
    inputs: Vec<(usize, String, Shape)>,
    outputs: Vec<(String, Operand)>,
    fixed: Vec<Instruction>,
    flowing: Vec<Instruction>,
}

impl Program {
    /// Makes a graph ready.
    pub fn new(graph: &Graph, kind: Kind, device: Device) -> Program {
        Compiler::new(graph, kind).compile(device)
    }

    /// Binds weights and computes what they alone determine. Weights that require a gradient keep it.
    ///
    /// # Errors
    /// A weight is missing or has another shape.
    pub fn bind(&self, weights: &Weights) -> Result<Network<'_>> {
        let mut fixed: Vec<Option<Tensor>> = (0..self.n_values).map(|_| None).collect();
        for (index, constant) in &self.constants {
            fixed[*index] = Some(constant.shallow_clone());
        }
        let mut tracked = false;
        for (index, name, shape) in &self.weights {
            let weight = weights.get(name).with_context(|| {
                format!("there is no weight {name:?}: these weights are of another network")
            })?;
            let got = weight.size();
            ensure!(
                got == *shape,
                "weight {name:?} has shape {got:?}, the network expects {shape:?}: these weights are of another network"
            );
            tracked |= weight.requires_grad();
            fixed[*index] = Some(weight.shallow_clone());
        }
        let mut none = Vec::new();
        for instruction in &self.fixed {
            let value = instruction.run(&fixed, &mut none)?;
            fixed[instruction.result] = Some(value);
        }
        if self.channels_last {
            fixed
                .iter_mut()
                .flatten()
                .try_for_each(|value| -> Result<()> {
                    *value = channels_last(value)?;
                    Ok(())
                })?;
        }
        Ok(Network {
            program: self,
            fixed,
            tracked,
        })
    }
}

/// A program bound to weights.
#[derive(Debug)]
pub struct Network<'a> {
    program: &'a Program,
    fixed: Vec<Option<Tensor>>,
    tracked: bool,
}

impl Network<'_> {
    /// Where inputs are expected.
    pub fn device(&self) -> Device {
        self.program.device
    }

    /// All outputs of the graph, in its order, for its only input.
    ///
    /// # Errors
    /// The input has another shape than the graph's.
    pub fn evaluate(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        let [(index, name, shape)] = self.program.inputs.as_slice() else {
            bail!(
                "the graph has {} inputs, expected one",
                self.program.inputs.len()
            );
        };
        check_input(name, shape, x)?;
        let mut values: Vec<Option<Tensor>> = (0..self.program.n_values).map(|_| None).collect();
        values[*index] = Some(if self.program.channels_last {
            channels_last(x)?
        } else {
            x.shallow_clone()
        });
        let keep_operands = self.tracked || x.requires_grad();
        for instruction in &self.program.flowing {
            let value = if keep_operands {
                instruction.run_tracked(&self.fixed, &values)?
            } else {
                instruction.run(&self.fixed, &mut values)?
            };
            for &released in &instruction.released {
                values[released] = None;
            }
            values[instruction.result] = Some(value);
        }
        self.program
            .outputs
            .iter()
            .map(|(_, operand)| Ok(get(*operand, &self.fixed, &values)?.shallow_clone()))
            .collect()
    }

    /// One output of the graph.
    ///
    /// # Errors
    /// There is no such output, or the input has another shape than the graph's.
    pub fn output(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        let names = self.program.outputs.iter().map(|(name, _)| name);
        let position = names.clone().position(|existing| existing == name);
        let position = position.with_context(|| {
            format!(
                "the graph has no output {name:?}, only {:?}",
                names.collect::<Vec<_>>()
            )
        })?;
        Ok(self.evaluate(x)?.swap_remove(position))
    }
}
fn check_input(name: &str, shape: &Shape, x: &Tensor) -> Result<()> {
    let size = x.size();
    let fits = |(dim, &got): (&Dim, &i64)| match dim {
        Dim::Batch { .. } => true,
        Dim::Size(expected) => *expected as i64 == got,
    };
    let fitting = size.len() == shape.rank() && shape.0.iter().zip(&size).all(fits);
    ensure!(
        fitting,
        "input {name:?} has shape {size:?}, the network expects {shape}"
    );
    Ok(())
}
#[cfg(test)]
mod tests {
    use ebm_export::arch::{Activation, Network as Description, Sngan};
    use ebm_export::op::{Binary, KeepDims, Reduce, ReduceKind};
    use ebm_export::pipeline::gradient_graph;
    use ebm_export::rewrite::Rewrite;

    use super::*;

    fn single(name: &str, tensor: Tensor) -> Weights {
        Weights::from([(name.to_string(), tensor)])
    }

    /// E(x) = Σ (w·x)² has ∇E = 2w²x.
    #[test]
    fn a_quadratic_energy_has_its_closed_form() {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[1, 1, 2])).unwrap();
        let w = graph.weight("w", &[1, 1, 2]).unwrap();
        let product = graph.apply("product", Binary::Mul, &[x, w]).unwrap();
        let square = graph
            .apply("square", Binary::Mul, &[product, product])
            .unwrap();
        let sum = Reduce {
            kind: ReduceKind::Sum,
            axes: vec![1, 2, 3],
            keep_dims: KeepDims::No,
        };
        let energy = graph.apply("energy", sum, &[square]).unwrap();
        graph.set_output("energy", energy);
        let graph = ebm_export::gradient::gradient(&graph, "energy", "x").unwrap();
        let program = Program::new(&graph, Kind::Float, Device::Cpu);
        let weights = single("w", Tensor::from_slice(&[2.0f32, 0.5]).view([1, 1, 2]));
        let x = Tensor::from_slice(&[1.0f32, -4.0]).view([1, 1, 1, 2]);
        let outputs = program.bind(&weights).unwrap().evaluate(&x).unwrap();
        assert_eq!(outputs[0].double_value(&[0]), 8.0);
        assert_eq!(
            Vec::<f32>::try_from(outputs[1].view([-1])).unwrap(),
            [8.0, -2.0]
        );
        assert_eq!(
            Vec::<f32>::try_from(x.view([-1])).unwrap(),
            [1.0, -4.0],
            "the input is as it was"
        );
    }

    #[test]
    fn the_gradient_graph_agrees_with_autograd() {
        for activation in [
            Activation::Relu,
            Activation::Silu,
            Activation::LeakyRelu { slope: 0.1 },
            Activation::Gelu,
        ] {
            for (kind, tolerance) in [(Kind::Double, 1e-7), (Kind::Float, 1e-5)] {
                let error = autograd_difference(activation, kind);
                assert!(error < tolerance, "{activation:?} {kind:?}: {error}");
            }
        }
    }

    /// Relative L2 difference of the rewritten gradient graph in `kind` from autograd through the energy graph in f64.
    fn autograd_difference(activation: Activation, kind: Kind) -> f64 {
        let network = Description::Sngan(Sngan::small(
            8,
            1,
            &[5, 7, 7],
            &[true, true, false],
            activation,
        ));
        let energy_graph = network.graph().unwrap();
        let weights = network.initial_weights(1).unwrap();
        tch::manual_seed(1);
        let x = Tensor::randn([6, 1, 8, 8], (Kind::Double, Device::Cpu));

        let program = Program::new(&energy_graph, Kind::Double, Device::Cpu);
        let exact = program
            .bind(&to_device(&weights, Kind::Double, Device::Cpu))
            .unwrap();
        let leaf = x.copy().set_requires_grad(true);
        let energy = exact.output("energy", &leaf).unwrap().sum(Kind::Double);
        let expected = Tensor::run_backward(&[&energy], &[&leaf], false, false).swap_remove(0);

        let graph = gradient_graph(&energy_graph, &Rewrite::COMMON).unwrap();
        let program = Program::new(&graph, kind, Device::Cpu);
        let network = program
            .bind(&to_device(&weights, kind, Device::Cpu))
            .unwrap();
        let got = network
            .output("gradient", &x.to_kind(kind))
            .unwrap()
            .to_kind(Kind::Double);
        (got - &expected).norm().double_value(&[]) / expected.norm().double_value(&[])
    }

    #[test]
    fn weights_of_another_network_are_refused() {
        let network = Description::Sngan(Sngan::small(8, 1, &[2], &[true], Activation::Relu));
        let other = Description::Sngan(Sngan::small(8, 1, &[3], &[true], Activation::Relu));
        let program = Program::new(&network.graph().unwrap(), Kind::Float, Device::Cpu);
        let weights = to_device(&other.initial_weights(1).unwrap(), Kind::Float, Device::Cpu);
        let error = program.bind(&weights).unwrap_err().to_string();
        assert!(
            error.contains("these weights are of another network"),
            "{error}"
        );
    }

    #[test]
    fn images_of_another_size_are_refused() {
        let network = Description::Sngan(Sngan::small(8, 1, &[2], &[true], Activation::Relu));
        let program = Program::new(&network.graph().unwrap(), Kind::Float, Device::Cpu);
        let weights = to_device(
            &network.initial_weights(1).unwrap(),
            Kind::Float,
            Device::Cpu,
        );
        let x = Tensor::zeros([1, 3, 8, 8], (Kind::Float, Device::Cpu));
        let error = program
            .bind(&weights)
            .unwrap()
            .evaluate(&x)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("[1, 3, 8, 8], the network expects [N, 1, 8, 8]"),
            "{error}"
        );
    }
}
