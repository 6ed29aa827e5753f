//! How much memory evaluations need, from their instructions.

use ebm_export::graph::op::{Activation, Binary, Op, ReduceKind, Unary};

use super::Program;
use super::instruction::{Instruction, Moment, Operand, Operation};

/// Bytes that evaluations of a program hold at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Of what weights alone determine, without the weights themselves; once per binding.
    pub bound: u64,
    /// The most for each image, without autograd.
    pub plain: u64,
    /// The most for each image while autograd keeps what it needs, and on its way back.
    pub tracked: u64,
}

impl Program {
    /// What evaluations hold.
    pub fn footprint(&self) -> Footprint {
        Footprint {
            bound: self.bound(),
            plain: self.plain(),
            tracked: self.tracked(),
        }
    }

    /// Results that are computed once, and copies of weights whose channels are not innermost.
    fn bound(&self) -> u64 {
        let copied = |shape: &Vec<i64>| self.channels_last && shape.len() == 4;
        let weights = self.weights.iter().filter(|(.., shape)| copied(shape));
        let weights = weights.map(|(index, ..)| self.sizes[*index]);
        let results = self
            .fixed
            .iter()
            .filter(|result| !is_view(&result.operation));
        let results = results.map(|instruction| self.sizes[instruction.result]);
        weights.chain(results).sum()
    }

    fn plain(&self) -> u64 {
        let mut storage: Vec<usize> = (0..self.n_values).collect();
        let mut memory = Memory::new(&self.sizes);
        for (input, ..) in &self.inputs {
            memory.hold(*input);
        }
        for instruction in &self.flowing {
            let first = instruction.first_flowing();
            let in_place = matches!(
                instruction.operation,
                Operation::InPlace(_) | Operation::ReluInPlace
            );
            if let (true, Some(first)) = (in_place || is_view(&instruction.operation), first) {
                storage[instruction.result] = storage[first];
            }
            memory.hold(storage[instruction.result]);
            for &released in &instruction.released {
                memory.release(storage[released]);
            }
        }
        memory.most
    }

    /// Forward, while what autograd saves stays; then back, while it goes and gradients come and go.
    fn tracked(&self) -> u64 {
        let storage = self.storage_of_views();
        let followed = self.followed();
        let mut sizes = self.sizes.clone();
        sizes.extend_from_slice(&self.sizes);
        let mut memory = Memory::new(&sizes);
        for (input, ..) in &self.inputs {
            memory.hold(*input);
        }
        for instruction in &self.flowing {
            memory.hold(storage[instruction.result]);
            if followed[instruction.result] {
                for saved in saved(instruction) {
                    memory.hold(storage[saved]);
                }
            }
            for &released in &instruction.released {
                memory.release(storage[released]);
            }
        }
        let mut gradients = Gradients::new(self.n_values);
        for result in self.results().filter_map(Operand::flowing) {
            gradients.add(result, result, &mut memory);
        }
        for instruction in self.flowing.iter().rev() {
            let result = instruction.result;
            let operands = instruction.operands.iter();
            for operand in operands.filter_map(|operand| operand.flowing()) {
                if followed[operand] {
                    let handed_on = match hands_its_gradient_on(&instruction.operation) {
                        true => gradients.storage[result],
                        false => None,
                    };
                    gradients.add(operand, handed_on.unwrap_or(operand), &mut memory);
                }
            }
            gradients.drop(result, &mut memory);
            if followed[result] {
                for saved in saved(instruction) {
                    memory.release(storage[saved]);
                }
            }
        }
        memory.most
    }

    /// Whose memory each value lies in, while nothing is computed in place.
    fn storage_of_views(&self) -> Vec<usize> {
        let mut storage: Vec<usize> = (0..self.n_values).collect();
        for instruction in &self.flowing {
            let first = instruction.first_flowing();
            if let (true, Some(first)) = (is_view(&instruction.operation), first) {
                storage[instruction.result] = storage[first];
            }
        }
        storage
    }

    /// Which values depend on weights, which autograd follows.
    fn followed(&self) -> Vec<bool> {
        let mut followed = vec![false; self.n_values];
        for (index, ..) in &self.weights {
            followed[*index] = true;
        }
        for instruction in self.fixed.iter().chain(&self.flowing) {
            let mut operands = instruction.operands.iter();
            followed[instruction.result] = operands.any(|operand| followed[operand.index()]);
        }
        followed
    }
}

/// What is held now, and the most up to now.
struct Memory<'a> {
    sizes: &'a [u64],
    holders: Vec<u32>,
    now: u64,
    most: u64,
}

impl Memory<'_> {
    fn new(sizes: &[u64]) -> Memory<'_> {
        Memory {
            sizes,
            holders: vec![0; sizes.len()],
            now: 0,
            most: 0,
        }
    }

    fn hold(&mut self, storage: usize) {
        if self.holders[storage] == 0 {
            self.now += self.sizes[storage];
        }
        self.holders[storage] += 1;
        self.most = self.most.max(self.now);
    }

    fn release(&mut self, storage: usize) {
        self.holders[storage] = self.holders[storage].saturating_sub(1);
        if self.holders[storage] == 0 {
            self.now = self.now.saturating_sub(self.sizes[storage]);
        }
    }
}

/// Gradients of values on the way back; behind the values in the list of sizes.
struct Gradients {
    /// In whose gradient's memory that of each value lies, if there is one.
    storage: Vec<Option<usize>>,
}

impl Gradients {
    fn new(n_values: usize) -> Gradients {
        Gradients {
            storage: vec![None; n_values],
        }
    }

    /// One more gradient of a value, in the memory of that of `from`. A second one is added to the first in memory of its own.
    fn add(&mut self, value: usize, from: usize, memory: &mut Memory<'_>) {
        let behind = self.storage.len();
        let from = if self.storage[value].is_some() {
            value
        } else {
            from
        };
        memory.hold(behind + from);
        self.drop(value, memory);
        self.storage[value] = Some(from);
    }

    fn drop(&mut self, value: usize, memory: &mut Memory<'_>) {
        let behind = self.storage.len();
        if let Some(storage) = self.storage[value].take() {
            memory.release(behind + storage);
        }
    }
}

/// Results that lie in the memory of the first operand.
fn is_view(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::Plain(Op::Reshape(_) | Op::Expand(_) | Op::Slice(_))
    )
}

/// Operations whose operands have the gradient of the result.
fn hands_its_gradient_on(operation: &Operation) -> bool {
    match operation {
        Operation::Plain(Op::Binary(Binary::Add)) | Operation::InPlace(Binary::Add) => true,
        operation => is_view(operation),
    }
}

/// The values of an evaluation that autograd keeps for the way back through an instruction.
fn saved(instruction: &Instruction) -> Vec<usize> {
    let result = vec![instruction.result];
    let operands = || {
        let operands = instruction.operands.iter();
        operands.filter_map(|operand| operand.flowing()).collect()
    };
    let op = match &instruction.operation {
        Operation::Plain(op) => op,
        Operation::InPlace(Binary::Mul) | Operation::MaskPositive => return operands(),
        Operation::ReluInPlace => return result,
        Operation::Moment(Moment::Variance) => return operands(),
        Operation::InPlace(_) | Operation::Truth(_) | Operation::Moment(Moment::Mean) => {
            return Vec::new();
        }
    };
    match op {
        Op::Activation(Activation::Relu | Activation::Sigmoid | Activation::Tanh)
        | Op::Softmax(_)
        | Op::Unary(Unary::Sqrt | Unary::Exp | Unary::Reciprocal) => result,
        Op::Activation(Activation::Positive)
        | Op::Binary(Binary::Add | Binary::Sub)
        | Op::Cast(_)
        | Op::Compare(_)
        | Op::Concat(_)
        | Op::Expand(_)
        | Op::Pad(_)
        | Op::Reshape(_)
        | Op::Reverse(_)
        | Op::Slice(_)
        | Op::Transpose(_)
        | Op::Unary(Unary::Neg)
        | Op::Upsample(_) => Vec::new(),
        Op::Reduce(reduce) if reduce.kind != ReduceKind::Max => Vec::new(),
        _ => operands(),
    }
}

#[cfg(test)]
mod tests {
    use ebm_export::graph::op::{Conv, KeepDims, Reduce};
    use ebm_export::graph::{Graph, Shape};
    use tch::{Device, Kind};

    use super::*;

    /// x [2, 4, 4] → conv [8, 4, 4] → relu [8, 4, 4] → sum, in f32.
    #[test]
    fn a_small_network_by_hand() {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[2, 4, 4])).unwrap();
        let kernel = graph.weight("kernel", &[8, 2, 3, 3]).unwrap();
        let conv = graph.apply("conv", Conv::padded(1), &[x, kernel]).unwrap();
        let relu = graph.apply("relu", Activation::Relu, &[conv]).unwrap();
        let sum = Reduce {
            kind: ReduceKind::Sum,
            axes: vec![1, 2, 3],
            keep_dims: KeepDims::No,
        };
        let energy = graph.apply("energy", sum, &[relu]).unwrap();
        graph.set_output("energy", energy);
        let (image, value, scalar) = (4 * 32, 4 * 128, 4);
        let wanted = Footprint {
            bound: 4 * 8 * 2 * 9,
            // The input is there until the convolution is done; the activation is computed in place.
            plain: image + value,
            // On the way back the activation, what the convolution saved, and the gradients of both.
            tracked: image + 3 * value + scalar,
        };
        let program = Program::new(&graph, Kind::Float, Device::Cpu);
        assert_eq!(program.footprint(), wanted);
    }
}
