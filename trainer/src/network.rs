//! Evaluates the graphs of `ebm_export` with libtorch.
//!
//! A [`Program`] is a graph made ready for one number kind and one device; bound to weights it is a [`Network`].
//! What depends on weights alone (flipped kernels, folded factors) is computed once per binding. During an evaluation each
//! value is dropped after its last use.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context, Result, bail, ensure};
use ebm_export::graph::{Dim, Graph, Shape, Source, Value};
use ebm_export::op::{
    Activation, AveragePool, Binary, Compare, Conv, ConvTranspose, KeepDims, Op, Reduce,
    ReduceKind, Unary,
};
use ebm_export::tensor;
use tch::{Device, Kind, Tensor};

/// Weights by name, on some device.
pub type Weights = BTreeMap<String, Tensor>;

/// Copies tensors of a checkpoint to a device.
pub fn to_device(tensors: &tensor::Tensors, kind: Kind, device: Device) -> Weights {
    tensors
        .iter()
        .map(|(name, tensor)| (name.clone(), from_host(tensor, kind, device)))
        .collect()
}

/// Copies tensors back, as f32.
///
/// # Errors
/// libtorch cannot copy.
pub fn to_host(weights: &Weights) -> Result<tensor::Tensors> {
    weights
        .iter()
        .map(|(name, weight)| Ok((name.clone(), tensor_to_host(weight)?)))
        .collect()
}

/// Copies one tensor to a device.
pub fn from_host(tensor: &tensor::Tensor, kind: Kind, device: Device) -> Tensor {
    let shape: Vec<i64> = tensor.shape().iter().map(|&size| size as i64).collect();
    Tensor::from_slice(tensor.data())
        .view(shape.as_slice())
        .to_kind(kind)
        .to_device(device)
}

/// Copies one tensor back, as f32.
///
/// # Errors
/// libtorch cannot copy.
pub fn tensor_to_host(tensor: &Tensor) -> Result<tensor::Tensor> {
    let shape: Vec<usize> = tensor.size().iter().map(|&size| size as usize).collect();
    let flat = tensor
        .detach()
        .to_device(Device::Cpu)
        .to_kind(Kind::Float)
        .contiguous()
        .view([-1]);
    Ok(tensor::Tensor::new(&shape, Vec::<f32>::try_from(flat)?))
}

/// Where an operand is found.
#[derive(Clone, Copy, Debug)]
enum Operand {
    /// Among the values that weights alone determine.
    Fixed(usize),
    /// Among the values of this evaluation.
    Flowing(usize),
}

/// What one instruction computes.
#[derive(Clone, Debug)]
enum Operation {
    /// An operator of the graph.
    Plain(Op),
    /// `Add` or `Mul` into its first operand, which nobody needs any more.
    InPlace(Binary),
    /// `Relu` into its operand, which nobody needs any more.
    ReluInPlace,
    /// Truth values to numbers of the program's kind.
    Truth(Kind),
    /// `g · [x > 0]` of operands g and x, three nodes in one.
    MaskPositive,
}

#[derive(Clone, Debug)]
struct Instruction {
    name: String,
    operation: Operation,
    operands: Vec<Operand>,
    result: usize,
    /// Values that this instruction is the last to use.
    released: Vec<usize>,
}

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

/// The same values with the channels innermost in memory.
fn channels_last(value: &Tensor) -> Result<Tensor> {
    if value.dim() != 4 {
        return Ok(value.shallow_clone());
    }
    Ok(value
        .f_permute([0i64, 2, 3, 1])?
        .f_contiguous()?
        .f_permute([0i64, 3, 1, 2])?)
}

fn check_input(name: &str, shape: &Shape, x: &Tensor) -> Result<()> {
    let size = x.size();
    let fits = |(dim, &got): (&Dim, &i64)| match dim {
        Dim::Batch => true,
        Dim::Size(expected) => *expected as i64 == got,
    };
    let fitting = size.len() == shape.rank() && shape.0.iter().zip(&size).all(fits);
    ensure!(
        fitting,
        "input {name:?} has shape {size:?}, the network expects {shape}"
    );
    Ok(())
}

fn get<'a>(
    operand: Operand,
    fixed: &'a [Option<Tensor>],
    flowing: &'a [Option<Tensor>],
) -> Result<&'a Tensor> {
    let value = match operand {
        Operand::Fixed(index) => &fixed[index],
        Operand::Flowing(index) => &flowing[index],
    };
    value
        .as_ref()
        .context("a value of the graph is used before it is there or after it was dropped")
}

impl Instruction {
    /// The result; an operand that is computed into is taken out of `flowing`.
    fn run(&self, fixed: &[Option<Tensor>], flowing: &mut [Option<Tensor>]) -> Result<Tensor> {
        if !matches!(
            self.operation,
            Operation::InPlace(_) | Operation::ReluInPlace
        ) {
            return self.run_tracked(fixed, flowing);
        }
        let Some(&Operand::Flowing(target)) = self.operands.first() else {
            return self.run_tracked(fixed, flowing);
        };
        let mut value = flowing[target]
            .take()
            .context("an operand was dropped before its last use")?;
        let _ = match &self.operation {
            Operation::InPlace(Binary::Mul) => {
                value.f_mul_(get(self.operands[1], fixed, flowing)?)?
            }
            Operation::InPlace(_) => value.f_add_(get(self.operands[1], fixed, flowing)?)?,
            _ => value.f_relu_()?,
        };
        Ok(value)
    }

    /// The result; all operands stay as they are, so that autograd can use them.
    fn run_tracked(&self, fixed: &[Option<Tensor>], flowing: &[Option<Tensor>]) -> Result<Tensor> {
        let operands: Vec<&Tensor> = self
            .operands
            .iter()
            .map(|&operand| get(operand, fixed, flowing))
            .collect::<Result<_>>()?;
        let result = match &self.operation {
            Operation::Plain(op) => apply(op, &operands),
            Operation::InPlace(binary) => apply(&Op::Binary(*binary), &operands),
            Operation::ReluInPlace => operands[0].f_relu().map_err(Into::into),
            Operation::Truth(kind) => operands[0].f_to_kind(*kind).map_err(Into::into),
            Operation::MaskPositive => mask_positive(operands[0], operands[1]),
        };
        result.with_context(|| format!("node {:?}", self.name))
    }
}

/// `g · [x > 0]`, where g broadcasts to x.
fn mask_positive(g: &Tensor, x: &Tensor) -> Result<Tensor> {
    if g.requires_grad() || x.requires_grad() || g.dim() != x.dim() {
        return Ok(g.f_mul(&x.f_gt(0.0)?.f_to_kind(g.kind())?)?);
    }
    Ok(x.f_threshold_backward(&g.f_expand_as(x)?, 0.0)?)
}

fn apply(op: &Op, operands: &[&Tensor]) -> Result<Tensor> {
    let x = operands[0];
    Ok(match op {
        Op::Activation(activation) => activate(activation, x)?,
        Op::AveragePool(pool) => average_pool(pool, x)?,
        Op::Binary(Binary::Add) => x.f_add(operands[1])?,
        Op::Binary(Binary::Sub) => x.f_sub(operands[1])?,
        Op::Binary(Binary::Mul) => x.f_mul(operands[1])?,
        Op::Binary(Binary::Div) => x.f_div(operands[1])?,
        Op::Cast(_) => x.f_to_kind(Kind::Float)?,
        Op::Compare(Compare::Greater) => x.f_gt_tensor(operands[1])?,
        Op::Conv(conv) => convolve(conv, x, operands[1], operands.get(2).copied())?,
        Op::ConvTranspose(conv) => {
            convolve_transposed(conv, x, operands[1], operands.get(2).copied())?
        }
        Op::Expand(expand) => x.f_expand(extents(&expand.shape, x), false)?,
        Op::MatMul(_) => x.f_matmul(operands[1])?,
        Op::Reduce(reduce) => reduced(reduce, x)?,
        Op::Reshape(reshape) => x.f_reshape(extents(&reshape.shape, x))?,
        Op::Reverse(reverse) => x.f_flip(as_i64(&reverse.axes))?,
        Op::Transpose(transpose) => x.f_permute(as_i64(&transpose.axes))?.f_contiguous()?,
        Op::Unary(unary) => unary_of(*unary, x)?,
        Op::Upsample(upsample) => upsampled(upsample.scales, x)?,
    })
}

fn activate(activation: &Activation, x: &Tensor) -> Result<Tensor> {
    Ok(match activation {
        Activation::Relu => x.f_relu()?,
        // libtorch's own leaky_relu has a fixed slope in tch.
        Activation::LeakyRelu { slope } => x
            .f_clamp_min(0.0)?
            .f_add(&x.f_clamp_max(0.0)?.f_mul_scalar(f64::from(*slope))?)?,
        Activation::Sigmoid => x.f_sigmoid()?,
        Activation::Tanh => x.f_tanh()?,
        Activation::Softplus => x.f_softplus()?,
    })
}

fn unary_of(unary: Unary, x: &Tensor) -> Result<Tensor> {
    Ok(match unary {
        Unary::Neg => x.f_neg()?,
        Unary::Sqrt => x.f_sqrt()?,
        Unary::Exp => x.f_exp()?,
        Unary::Log => x.f_log()?,
        Unary::Reciprocal => x.f_reciprocal()?,
        Unary::Erf => x.f_erf()?,
    })
}

fn average_pool(pool: &AveragePool, x: &Tensor) -> Result<Tensor> {
    let [top, left, bottom, right] = pool.pads.map(|pad| pad as i64);
    let kernel = pool.kernel.map(|size| size as i64);
    let strides = pool.strides.map(|stride| stride as i64);
    if strides == [1, 1] && x.device() == Device::Cpu {
        return sliding_mean(x, kernel, [left, right, top, bottom]);
    }
    if top == bottom && left == right && 2 * top <= kernel[0] && 2 * left <= kernel[1] {
        return Ok(x.f_avg_pool2d(kernel, strides, [top, left], false, true, None::<i64>)?);
    }
    let padded = x.f_constant_pad_nd([left, right, top, bottom])?;
    Ok(padded.f_avg_pool2d(kernel, strides, [0, 0], false, true, None::<i64>)?)
}

/// Mean pooling with stride 1: sums over rows, then over columns. On a CPU these adds take a third of the time of libtorch's pooling.
fn sliding_mean(x: &Tensor, kernel: [i64; 2], pads: [i64; 4]) -> Result<Tensor> {
    let mut sum = if pads == [0; 4] {
        x.shallow_clone()
    } else {
        x.f_constant_pad_nd(pads)?
    };
    for (axis, taps) in [(2, kernel[0]), (3, kernel[1])] {
        let extent = sum.size()[axis as usize] - taps + 1;
        let windows = (0..taps)
            .map(|tap| sum.f_narrow(axis, tap, extent))
            .collect::<Result<Vec<Tensor>, _>>()?;
        let (first, rest) = windows.split_first().context("a window without pixels")?;
        sum = rest
            .iter()
            .try_fold(first.shallow_clone(), |sum, window| sum.f_add(window))?;
    }
    Ok(sum.f_mul_scalar(1.0 / (kernel[0] * kernel[1]) as f64)?)
}

/// Pointwise convolutions of so few weights are matrix products: for them a call of libtorch's convolution costs more than the sum.
const FEW_WEIGHTS: usize = 4096;

fn convolve(conv: &Conv, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    if is_small_and_pointwise(conv, x, weight) {
        return pointwise(x, weight, bias);
    }
    let [top, left, bottom, right] = conv.pads.map(|pad| pad as i64);
    let strides = conv.strides.map(|stride| stride as i64);
    let dilations = conv.dilations.map(|dilation| dilation as i64);
    let groups = conv.groups as i64;
    if top != bottom || left != right {
        let padded = x.f_constant_pad_nd([left, right, top, bottom])?;
        return Ok(padded.f_conv2d(weight, bias, strides, [0, 0], dilations, groups)?);
    }
    let y = x.f_conv2d(weight, bias, strides, [top, left], dilations, groups)?;
    // With a single channel libtorch cannot tell which order the channels are meant to have.
    if x.size()[1] == 1 && x.device() == Device::Cpu {
        channels_last(&y)
    } else {
        Ok(y)
    }
}

fn is_small_and_pointwise(conv: &Conv, x: &Tensor, weight: &Tensor) -> bool {
    let size = weight.size();
    x.device() == Device::Cpu
        && size[2..] == [1, 1]
        && conv.strides == [1, 1]
        && conv.pads == [0; 4]
        && conv.groups == 1
        && weight.numel() <= FEW_WEIGHTS
}

/// A 1×1 convolution as a matrix product over the channels of each pixel.
fn pointwise(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let [n, channels, height, width] = x.size()[..] else {
        bail!("expected [N, C, H, W], got {:?}", x.size())
    };
    let outputs = weight.size()[0];
    let pixels = x.f_permute([0i64, 2, 3, 1])?.f_reshape([-1, channels])?;
    let matrix = weight.f_reshape([outputs, channels])?.f_transpose(0, 1)?;
    let sums = match bias {
        Some(bias) => bias.f_addmm(&pixels, &matrix)?,
        None => pixels.f_matmul(&matrix)?,
    };
    Ok(sums
        .f_view([n, height, width, outputs])?
        .f_permute([0i64, 3, 1, 2])?)
}

fn convolve_transposed(
    conv: &ConvTranspose,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let [top, left, bottom, right] = conv.pads.map(|pad| pad as i64);
    let strides = conv.strides.map(|stride| stride as i64);
    let dilations = conv.dilations.map(|dilation| dilation as i64);
    let output_pads = conv.output_pads.map(|pad| pad as i64);
    let groups = conv.groups as i64;
    if top == bottom && left == right {
        return Ok(x.f_conv_transpose2d(
            weight,
            bias,
            strides,
            [top, left],
            output_pads,
            groups,
            dilations,
        )?);
    }
    let whole = x.f_conv_transpose2d(
        weight,
        bias,
        strides,
        [0, 0],
        output_pads,
        groups,
        dilations,
    )?;
    let size = whole.size();
    let rows = whole.f_narrow(2, top, size[2] - top - bottom)?;
    Ok(rows
        .f_narrow(3, left, size[3] - left - right)?
        .f_contiguous()?)
}

fn reduced(reduce: &Reduce, x: &Tensor) -> Result<Tensor> {
    let axes = as_i64(&reduce.axes);
    let keep = reduce.keep_dims == KeepDims::Yes;
    if axes.is_empty() {
        return Ok(x.shallow_clone());
    }
    Ok(match reduce.kind {
        ReduceKind::Sum => x.f_sum_dim_intlist(axes.as_slice(), keep, x.kind())?,
        ReduceKind::Mean => x.f_mean_dim(axes.as_slice(), keep, x.kind())?,
    })
}

fn upsampled(scales: [usize; 2], x: &Tensor) -> Result<Tensor> {
    let size = x.size();
    let [rows, columns] = [size[2] * scales[0] as i64, size[3] * scales[1] as i64];
    Ok(x.f_upsample_nearest2d([rows, columns], None::<f64>, None::<f64>)?)
}

/// The target of a reshape or expansion, its leading batch as the operand has it.
fn extents(target: &Shape, operand: &Tensor) -> Vec<i64> {
    let batch = operand.size().first().map_or(1, |&batch| batch as usize);
    as_i64(&target.concrete(batch))
}

fn as_i64(sizes: &[usize]) -> Vec<i64> {
    sizes.iter().map(|&size| size as i64).collect()
}

/// Turns a graph into two lists of instructions.
struct Compiler<'a> {
    graph: &'a Graph,
    kind: Kind,
    index: HashMap<Value, usize>,
    dynamic: Vec<bool>,
}

impl<'a> Compiler<'a> {
    fn new(graph: &'a Graph, kind: Kind) -> Compiler<'a> {
        let index = graph
            .values()
            .enumerate()
            .map(|(index, value)| (value, index))
            .collect();
        Compiler {
            graph,
            kind,
            index,
            dynamic: graph.is_dynamic(),
        }
    }

    fn compile(&self, device: Device) -> Program {
        let mut program = Program {
            device,
            channels_last: device == Device::Cpu && self.kind == Kind::Float,
            n_values: self.index.len(),
            constants: Vec::new(),
            weights: Vec::new(),
            inputs: Vec::new(),
            outputs: self
                .graph
                .outputs()
                .iter()
                .map(|(name, value)| (name.clone(), self.operand(*value)))
                .collect(),
            fixed: Vec::new(),
            flowing: Vec::new(),
        };
        for value in self.graph.values() {
            self.add(&mut program, value);
        }
        drop_unused(&mut program);
        release(&mut program);
        self.compute_in_place(&mut program.flowing);
        program
    }

    fn add(&self, program: &mut Program, value: Value) {
        let (node, index) = (self.graph.node(value), self.index[&value]);
        let shape = &node.value_type.shape;
        match &node.source {
            Source::Input => program
                .inputs
                .push((index, node.name.clone(), shape.clone())),
            Source::Weight => {
                program
                    .weights
                    .push((index, node.name.clone(), as_i64(&shape.concrete(1))))
            }
            Source::Constant(tensor) => program
                .constants
                .push((index, from_host(tensor, self.kind, program.device))),
            Source::Operator { op, inputs } => {
                let list = if self.dynamic[index] {
                    &mut program.flowing
                } else {
                    &mut program.fixed
                };
                list.push(self.instruction(value, op, inputs));
            }
        }
    }

    fn operand(&self, value: Value) -> Operand {
        let index = self.index[&value];
        if self.dynamic[index] {
            Operand::Flowing(index)
        } else {
            Operand::Fixed(index)
        }
    }

    fn instruction(&self, value: Value, op: &Op, inputs: &[Value]) -> Instruction {
        let (operation, inputs) = match (self.mask(op, inputs), op) {
            (Some([g, x]), _) => (Operation::MaskPositive, vec![g, x]),
            (None, Op::Cast(_)) => (Operation::Truth(self.kind), inputs.to_vec()),
            (None, _) => (Operation::Plain(op.clone()), inputs.to_vec()),
        };
        Instruction {
            name: self.graph.node(value).name.clone(),
            operation,
            operands: inputs.iter().map(|&input| self.operand(input)).collect(),
            result: self.index[&value],
            released: Vec::new(),
        }
    }

    /// g and x, where the operator is `g · cast(x > 0)`. In place of x its `Relu` is taken, where there is one: it is
    /// positive where x is, and x itself can then be dropped earlier.
    fn mask(&self, op: &Op, inputs: &[Value]) -> Option<[Value; 2]> {
        let (Op::Binary(Binary::Mul), &[left, right]) = (op, inputs) else {
            return None;
        };
        let masked = |g: Value, mask: Value| {
            self.positive(mask)
                .map(|x| [g, self.relu_of(x).unwrap_or(x)])
        };
        masked(left, right).or_else(|| masked(right, left))
    }

    /// x, where the value is `cast(x > 0)`.
    fn positive(&self, value: Value) -> Option<Value> {
        let (Op::Cast(_), &[truth]) = self.graph.operator(value)? else {
            return None;
        };
        let (Op::Compare(Compare::Greater), &[x, zero]) = self.graph.operator(truth)? else {
            return None;
        };
        match &self.graph.node(zero).source {
            Source::Constant(constant)
                if constant.shape().is_empty() && constant.data() == [0.0] =>
            {
                Some(x)
            }
            _ => None,
        }
    }

    fn relu_of(&self, x: Value) -> Option<Value> {
        let is_relu = |value: &Value| matches!(self.graph.operator(*value), Some((Op::Activation(Activation::Relu), [operand])) if *operand == x);
        self.graph.values().find(is_relu)
    }

    /// Lets an instruction compute into its first operand where nobody else holds that operand's memory.
    fn compute_in_place(&self, instructions: &mut [Instruction]) {
        let owned = owned_values(instructions);
        let shapes: Vec<&Shape> = self
            .graph
            .values()
            .map(|value| self.graph.shape(value))
            .collect();
        for instruction in instructions {
            let free = |operand: &Operand| {
                matches!(operand, Operand::Flowing(index)
                if owned.contains(index) && instruction.released.contains(index) && shapes[*index] == shapes[instruction.result])
            };
            match (&instruction.operation, instruction.operands.as_slice()) {
                (Operation::Plain(Op::Activation(Activation::Relu)), [x]) if free(x) => {
                    instruction.operation = Operation::ReluInPlace
                }
                (
                    Operation::Plain(Op::Binary(binary @ (Binary::Add | Binary::Mul))),
                    [left, right],
                ) if left.index() != right.index() => {
                    let binary = *binary;
                    if free(left) {
                        instruction.operation = Operation::InPlace(binary);
                    } else if free(right) {
                        instruction.operation = Operation::InPlace(binary);
                        instruction.operands.swap(0, 1);
                    }
                }
                _ => {}
            }
        }
    }
}

impl Operand {
    fn index(self) -> usize {
        match self {
            Operand::Fixed(index) | Operand::Flowing(index) => index,
        }
    }

    fn flowing(self) -> Option<usize> {
        match self {
            Operand::Fixed(_) => None,
            Operand::Flowing(index) => Some(index),
        }
    }
}

/// Drops instructions whose result nobody uses.
fn drop_unused(program: &mut Program) {
    let mut needed: HashSet<usize> = program
        .outputs
        .iter()
        .map(|(_, operand)| operand.index())
        .collect();
    let mut keep = |instruction: &Instruction| {
        let kept = needed.contains(&instruction.result);
        if kept {
            needed.extend(instruction.operands.iter().map(|operand| operand.index()));
        }
        kept
    };
    for list in [&mut program.flowing, &mut program.fixed] {
        let mut kept: Vec<Instruction> = std::mem::take(list)
            .into_iter()
            .rev()
            .filter(&mut keep)
            .collect();
        kept.reverse();
        *list = kept;
    }
}

/// Notes at each instruction which values it is the last to use.
fn release(program: &mut Program) {
    let mut used: HashSet<usize> = program
        .outputs
        .iter()
        .filter_map(|(_, operand)| operand.flowing())
        .collect();
    for instruction in program.flowing.iter_mut().rev() {
        let operands: Vec<usize> = instruction
            .operands
            .iter()
            .filter_map(|operand| operand.flowing())
            .collect();
        instruction.released = operands
            .into_iter()
            .filter(|&operand| used.insert(operand))
            .collect();
    }
}

/// Values in memory of their own: made by an operator that allocates, and never seen through a view.
fn owned_values(instructions: &[Instruction]) -> HashSet<usize> {
    let may_be_view = |operation: &Operation| {
        matches!(
            operation,
            Operation::Plain(Op::Reshape(_) | Op::Expand(_) | Op::Transpose(_) | Op::Reduce(_))
                | Operation::Truth(_)
        )
    };
    let (views, makers): (Vec<&Instruction>, Vec<&Instruction>) = instructions
        .iter()
        .partition(|instruction| may_be_view(&instruction.operation));
    let seen: HashSet<usize> = views
        .iter()
        .flat_map(|view| view.operands.iter().filter_map(|operand| operand.flowing()))
        .collect();
    makers
        .iter()
        .map(|maker| maker.result)
        .filter(|result| !seen.contains(result))
        .collect()
}

#[cfg(test)]
mod tests {
    use ebm_export::arch::{Activation, Network as Description, Sngan};
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

        let graph = gradient_graph(&energy_graph, &Rewrite::ALL).unwrap();
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
