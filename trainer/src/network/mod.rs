//! Evaluates the graphs of `ebm_export` with libtorch.
//!
//! A [`Program`] is a graph made ready for one number kind and one device; bound to weights it is a [`BoundNetwork`].
//! What depends on weights alone (flipped kernels, folded factors) is computed once per binding. During an evaluation each
//! value is dropped after its last use.

mod compiler;
mod engine;
mod footprint;
mod instruction;
mod operators;
mod products;
mod statistics;
mod weights;

use std::sync::Once;

use anyhow::{Context, Result, bail, ensure};
use ebm_export::graph::{Dim, Graph, Shape};
use ebm_export::transform::rewrite::{Rewrite, apply};
use tch::{Device, Kind, Tensor};

pub use footprint::Footprint;
pub use products::Products;
pub use statistics::Statistics;
pub use weights::{Weights, bytes, from_host, tensor_to_host, to_device, to_host};

use compiler::Compiler;
use engine::Engine;
use instruction::{Instruction, Operand, get};
use operators::channels_last;
use statistics::Statistic;

/// What batch norms take for mean and variance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norms {
    /// The running statistics among the weights.
    Running,
    /// The statistics of the batch at hand.
    OfTheBatch,
}

/// So many images of an evaluation are fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImagesAtOnce {
    /// As many as there are.
    All,
    /// Up to this number; the rest goes into further evaluations.
    AtMost(usize),
}

/// Pixels of the images of an evaluation on a CPU, at most, whatever their values need.
const LEAST_PIXELS: usize = 8_192;
/// The most bytes of the widest value of an evaluation on a CPU, unless it has only the images for these pixels.
const MOST_BYTES: u64 = 5 << 19;
/// As many as these are then enough, and leave work for other threads.
const MOST_IMAGES: usize = 64;

/// A graph made ready for evaluation.
#[derive(Debug)]
pub struct Program {
    device: Device,
    kind: Kind,
    products: Products,
    /// Whether images lie in memory with their channels innermost, which suits libtorch's f32 and bf16 kernels for CPUs.
    channels_last: bool,
    n_values: usize,
    /// Bytes of each value, for one image where it depends on images.
    sizes: Vec<u64>,
    constants: Vec<(usize, Tensor)>,
    weights: Vec<(usize, String, Vec<i64>)>,
    inputs: Vec<(usize, String, Shape)>,
    outputs: Vec<(String, Operand)>,
    statistics: Vec<Statistic>,
    fixed: Vec<Instruction>,
    flowing: Vec<Instruction>,
    /// What the engine runs in place of libtorch, see [`Program::on_engine`].
    on_engine: Option<Graph>,
}

impl Program {
    /// Makes a graph ready; batch norms use their running statistics.
    pub fn new(graph: &Graph, kind: Kind, device: Device) -> Program {
        Program::with_norms(graph, kind, device, Norms::Running)
    }

    /// Makes a graph ready. For the statistics of batches it has to be that of a network, without rewrites.
    pub fn with_norms(graph: &Graph, kind: Kind, device: Device, norms: Norms) -> Program {
        Compiler::new(graph, kind, norms).compile(device)
    }

    /// The same, multiplying in that way where the device has a choice.
    pub fn multiplying(self, products: Products) -> Program {
        Program { products, ..self }
    }

    /// The same graph on the engine of this project, where it is faster than libtorch: in f32 on a CPU, while weights and images need no gradient.
    /// Planning it takes about as long as some evaluations do, so that it pays for those who evaluate often with the same weights.
    pub fn on_engine(self, graph: &Graph) -> Program {
        let suits = self.device == Device::Cpu && self.kind == Kind::Float && !self.mixes_images();
        let masked = suits.then(|| accepted(apply(graph, &[Rewrite::Mask])));
        Program {
            on_engine: masked.flatten(),
            ..self
        }
    }

    /// How many images to evaluate at once: on a CPU as many as keep the widest value in the caches, or, where even few do not, as many as
    /// keep libtorch's cost per call small.
    pub fn images_at_once(&self) -> ImagesAtOnce {
        if self.device != Device::Cpu {
            return ImagesAtOnce::All;
        }
        let pixels = self.inputs.iter().map(|(.., shape)| n_pixels(shape)).max();
        let results = self.flowing.iter().map(|instruction| instruction.result);
        let widest = results.map(|result| self.sizes[result]).max();
        let by_pixels = LEAST_PIXELS / pixels.unwrap_or(1).max(1);
        let by_bytes = (MOST_BYTES / widest.unwrap_or(1).max(1)) as usize;
        ImagesAtOnce::AtMost(by_bytes.min(MOST_IMAGES).max(by_pixels).max(1))
    }

    /// Whether the result for an image depends on the other images of its batch.
    pub fn mixes_images(&self) -> bool {
        !self.statistics.is_empty()
    }

    /// Puts values into memory as libtorch's kernels want them.
    fn lay_out(&self, values: &mut [Option<Tensor>]) -> Result<()> {
        if self.channels_last {
            for value in values.iter_mut().flatten() {
                *value = channels_last(value)?;
            }
        }
        Ok(())
    }

    /// Where everything that an evaluation gives is found.
    fn results(&self) -> impl Iterator<Item = Operand> + '_ {
        let outputs = self.outputs.iter().map(|(_, operand)| *operand);
        outputs.chain(self.statistics.iter().map(|statistic| statistic.operand))
    }

    /// Binds weights and computes what they alone determine. Weights that require a gradient keep it.
    pub fn bind(&self, weights: &Weights) -> Result<BoundNetwork<'_>> {
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
        self.products.choose(self.device);
        let mut none = Vec::new();
        for instruction in &self.fixed {
            let value = instruction.run(&fixed, &mut none)?;
            fixed[instruction.result] = Some(value);
        }
        self.lay_out(&mut fixed)?;
        // libtorch runs what the engine refuses, and says what is wrong with weights.
        let engine = match &self.on_engine {
            Some(graph) if !tracked => accepted(Engine::new(graph, weights)),
            _ => None,
        };
        Ok(BoundNetwork {
            program: self,
            fixed,
            tracked,
            given: Vec::new(),
            engine,
        })
    }
}

/// What an evaluation gives.
#[derive(Debug)]
pub struct Evaluation {
    /// The outputs of the graph, in its order.
    pub outputs: Vec<Tensor>,
    /// The statistics of the batch, where batch norms take them.
    pub statistics: Statistics,
}

/// What the engine accepts. The first of all refusals is said, since the run goes on without it.
fn accepted<T>(made: Result<T, impl Into<anyhow::Error>>) -> Option<T> {
    static SAID: Once = Once::new();
    let refused = |error: &anyhow::Error| {
        SAID.call_once(|| note!("libtorch computes what the engine does not take: {error:#}"));
    };
    made.map_err(Into::into).inspect_err(refused).ok()
}

/// A program bound to weights.
#[derive(Debug)]
pub struct BoundNetwork<'a> {
    program: &'a Program,
    fixed: Vec<Option<Tensor>>,
    tracked: bool,
    /// Values of inputs beside the one that evaluations take.
    given: Vec<(usize, Tensor)>,
    engine: Option<Engine>,
}

impl BoundNetwork<'_> {
    /// Where inputs are expected.
    pub fn device(&self) -> Device {
        self.program.device
    }

    /// In what numbers inputs are expected and outputs given.
    pub fn kind(&self) -> Kind {
        self.program.kind
    }

    /// As [`Program::images_at_once`].
    pub fn images_at_once(&self) -> ImagesAtOnce {
        self.program.images_at_once()
    }

    /// Gives one of several inputs its value for all evaluations to come.
    pub fn given(mut self, name: &str, value: &Tensor) -> Result<Self> {
        let index = self.fitting_input(name, value)?;
        self.given.push((index, value.shallow_clone()));
        Ok(self)
    }

    /// Where an input lies that takes such a value.
    fn fitting_input(&self, name: &str, value: &Tensor) -> Result<usize> {
        let input = self.program.inputs.iter().find(|(_, own, _)| own == name);
        let (index, name, shape) =
            input.with_context(|| format!("the graph has no input {name:?}"))?;
        check_input(name, shape, value)?;
        Ok(*index)
    }

    /// All outputs of the graph, in its order, for the only input that is not given.
    pub fn evaluate(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        Ok(self.evaluate_batch(x)?.outputs)
    }

    /// As [`BoundNetwork::evaluate`], with the statistics of the batch.
    pub fn evaluate_batch(&self, x: &Tensor) -> Result<Evaluation> {
        self.evaluate_with(x, &[])
    }

    /// As [`BoundNetwork::evaluate_batch`], with the values of further inputs, by name and image: `[N, C, H, W]`.
    pub fn evaluate_with(&self, x: &Tensor, further: &[(&str, &Tensor)]) -> Result<Evaluation> {
        let further = further
            .iter()
            .map(|(name, value)| Ok((self.fitting_input(name, value)?, value.shallow_clone())));
        let further = further.collect::<Result<Vec<_>>>()?;
        let mut values = self.inputs(x, &further)?;
        let keep_operands = self.tracked || x.requires_grad();
        if let (Some(engine), false) = (&self.engine, keep_operands) {
            return self.evaluated_on(engine, &mut values);
        }
        self.program.lay_out(&mut values)?;
        self.program.products.choose(self.program.device);
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
        let found = |operand: &Operand| get(*operand, &self.fixed, &values);
        let outputs = self.program.outputs.iter();
        let statistics = self.program.statistics.iter().map(|statistic| {
            let of_the_batch = found(&statistic.operand)?;
            let estimate = statistic.estimate(of_the_batch, x.size()[0])?;
            Ok((statistic.name.clone(), estimate))
        });
        Ok(Evaluation {
            outputs: outputs
                .map(|(_, operand)| Ok(found(operand)?.shallow_clone()))
                .collect::<Result<_>>()?,
            statistics: Statistics(statistics.collect::<Result<_>>()?),
        })
    }

    fn evaluated_on(&self, engine: &Engine, values: &mut [Option<Tensor>]) -> Result<Evaluation> {
        let inputs = self.program.inputs.iter();
        let inputs: Vec<_> = inputs
            .filter_map(|(index, name, _)| Some((name.as_str(), values[*index].take()?)))
            .collect();
        let mut outputs = engine.evaluate(&inputs)?;
        let names = self.program.outputs.iter().map(|(name, _)| name);
        Ok(Evaluation {
            outputs: names
                .map(|name| outputs.remove(name).context("an output is missing"))
                .collect::<Result<_>>()?,
            statistics: Statistics::default(),
        })
    }

    /// The values that an evaluation begins with.
    fn inputs(&self, x: &Tensor, further: &[(usize, Tensor)]) -> Result<Vec<Option<Tensor>>> {
        let given = || self.given.iter().chain(further);
        let is_given = |index: &usize| given().any(|(given, _)| given == index);
        let open = self.program.inputs.iter();
        let open: Vec<_> = open.filter(|(index, ..)| !is_given(index)).collect();
        let [(index, name, shape)] = open.as_slice() else {
            bail!("the graph has {} open inputs, expected one", open.len());
        };
        check_input(name, shape, x)?;
        let mut values: Vec<Option<Tensor>> = (0..self.program.n_values).map(|_| None).collect();
        for (index, value) in given() {
            values[*index] = Some(value.shallow_clone());
        }
        values[*index] = Some(x.shallow_clone());
        Ok(values)
    }

    /// One output of the graph.
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

/// Pixels of an image of `[N, C, H, W]`; one if there are no such axes.
fn n_pixels(shape: &Shape) -> usize {
    let extents = shape.0.iter().skip(2).map(|dim| match dim {
        Dim::Size(size) => *size,
        Dim::Batch { .. } => 1,
    });
    extents.product()
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
    use ebm_export::graph::op::{Binary, KeepDims, Reduce, ReduceKind};
    use ebm_export::source::networks::{Activation, Network, Sngan, SnganGenerator};
    use ebm_export::transform::pipeline::gradient_graph;
    use ebm_export::transform::rewrite::Rewrite;

    use super::*;
    use crate::machine::randomness::seeded;

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
        let graph = ebm_export::transform::gradient::gradient(&graph, "energy", "x").unwrap();
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
        let network = Network::Sngan(Sngan::small(
            8,
            1,
            &[5, 7, 7],
            &[true, true, false],
            activation,
        ));
        let energy_graph = network.graph().unwrap();
        let weights = network.initial_weights(1).unwrap();
        let _draws = seeded(1);
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
        let network = Network::Sngan(Sngan::small(8, 1, &[2], &[true], Activation::Relu));
        let other = Network::Sngan(Sngan::small(8, 1, &[3], &[true], Activation::Relu));
        let program = Program::new(&network.graph().unwrap(), Kind::Float, Device::Cpu);
        let weights = to_device(&other.initial_weights(1).unwrap(), Kind::Float, Device::Cpu);
        let error = program.bind(&weights).unwrap_err().to_string();
        assert!(
            error.contains("these weights are of another network"),
            "{error}"
        );
    }

    /// A block of norms and convolutions against libtorch's own batch norm: outputs, gradient and running statistics.
    #[test]
    fn batch_norms_in_training_are_those_of_libtorch() {
        let network = Network::SnganGenerator(SnganGenerator {
            latent: 3,
            channels: 2,
            widths: vec![4, 5],
            ..SnganGenerator::gen_sngan32(1)
        });
        let kind = (Kind::Double, Device::Cpu);
        let mut weights = to_device(&network.initial_weights(2).unwrap(), kind.0, kind.1);
        let _draws = seeded(4);
        for (name, weight) in &mut weights {
            if name.contains("norm") {
                *weight = Tensor::rand(weight.size(), kind) + 0.5;
            }
        }
        let z = Tensor::randn([6, 3], kind);
        let graph = network.graph().unwrap();
        let program = Program::with_norms(&graph, kind.0, kind.1, Norms::OfTheBatch);
        assert!(program.mixes_images() && !Program::new(&graph, kind.0, kind.1).mixes_images());

        let mut theirs = copied(&weights);
        let their_leaf = theirs["block1.conv1.weight"].copy().set_requires_grad(true);
        theirs.insert(
            "block1.conv1.weight".to_string(),
            their_leaf.shallow_clone(),
        );
        let wanted = generated_by_libtorch(&theirs, &z);

        let mut ours = copied(&weights);
        let leaf = ours["block1.conv1.weight"].copy().set_requires_grad(true);
        ours.insert("block1.conv1.weight".to_string(), leaf.shallow_clone());
        let evaluation = program.bind(&ours).unwrap().evaluate_batch(&z).unwrap();
        let image = &evaluation.outputs[0];
        assert!((image - &wanted).abs().max().double_value(&[]) < 1e-12);

        let slope = |image: &Tensor, leaf: &Tensor| {
            let loss = image.square().sum(kind.0);
            Tensor::run_backward(&[&loss], &[leaf], false, false).swap_remove(0)
        };
        let difference = slope(image, &leaf) - slope(&wanted, &their_leaf);
        assert!(difference.abs().max().double_value(&[]) < 1e-10);

        evaluation.statistics.enter(&mut ours).unwrap();
        for name in ["norm", "block1.norm1", "block1.norm2"] {
            for moment in ["mean", "variance"] {
                let name = format!("{name}.{moment}");
                let difference = (&ours[&name] - &theirs[&name]).abs().max();
                assert!(difference.double_value(&[]) < 1e-12, "{name}");
                let moved = (&ours[&name] - &weights[&name]).abs().max();
                assert!(moved.double_value(&[]) > 1e-3, "{name}");
            }
        }
    }

    fn copied(weights: &Weights) -> Weights {
        let copy = |(name, weight): (&String, &Tensor)| (name.clone(), weight.copy());
        weights.iter().map(copy).collect()
    }

    /// The same generator written with libtorch's layers; its running statistics are renewed.
    fn generated_by_libtorch(weights: &Weights, z: &Tensor) -> Tensor {
        let get = |name: &str| &weights[name];
        let active = |x: &Tensor, name: &str| {
            let [gain, bias, mean, variance] = ["gain", "bias", "mean", "variance"]
                .map(|part| Some(get(&format!("{name}.{part}"))));
            x.batch_norm(
                gain,
                bias,
                mean,
                variance,
                true,
                0.1,
                f64::from(1e-5f32),
                false,
            )
            .relu()
        };
        let conv = |x: &Tensor, name: &str, padding: i64| {
            let bias = Some(get(&format!("{name}.bias")));
            let weight = get(&format!("{name}.weight"));
            x.conv2d(weight, bias, [1, 1], [padding; 2], [1, 1], 1)
        };
        let doubled = |x: &Tensor| {
            let size = [x.size()[2] * 2, x.size()[3] * 2];
            x.upsample_bilinear2d(size, false, None, None)
        };
        let x = (z.matmul(get("seed.weight")) + get("seed.bias")).view([-1, 4, 4, 4]);
        let branch = conv(&doubled(&active(&x, "block1.norm1")), "block1.conv1", 1);
        let branch = conv(&active(&branch, "block1.norm2"), "block1.conv2", 1);
        let y = branch + conv(&doubled(&x), "block1.shortcut", 0);
        conv(&active(&y, "norm"), "rgb", 1).tanh()
    }

    #[test]
    fn a_given_input_is_the_same_for_all_evaluations() {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[2])).unwrap();
        let factor = graph.input("factor", Shape::fixed(&[])).unwrap();
        let product = graph.apply("product", Binary::Mul, &[x, factor]).unwrap();
        graph.set_output("y", product);
        let program = Program::new(&graph, Kind::Float, Device::Cpu);
        let network = || program.bind(&Weights::new()).unwrap();
        let x = Tensor::from_slice(&[1.0f32, 2.0]).view([1, 2]);
        let error = network().evaluate(&x).unwrap_err().to_string();
        assert!(error.contains("2 open inputs"), "{error}");
        let tripled = network().given("factor", &Tensor::from(3.0f32)).unwrap();
        for factor in [1.0, 2.0] {
            let y = tripled.output("y", &(&x * factor)).unwrap();
            assert_eq!(y.double_value(&[0, 1]), 6.0 * factor);
        }
        assert!(network().given("other", &x).is_err());
        assert!(network().given("factor", &x).is_err());
    }

    #[test]
    fn images_of_another_size_are_refused() {
        let network = Network::Sngan(Sngan::small(8, 1, &[2], &[true], Activation::Relu));
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
