//! From a graph to instructions: what is computed once per binding, what is fused, what is computed in place, and when
//! values are dropped.

use std::collections::{HashMap, HashSet};

use ebm_export::graph::op::{Activation, Binary, Compare, Op};
use ebm_export::graph::{Graph, Shape, Source, Value};
use ebm_export::source::networks::batch_norms;
use tch::{Device, Kind};

use super::instruction::{Instruction, Moment, Operand, Operation};
use super::operators::as_i64;
use super::statistics::Statistic;
use super::weights::from_host;
use super::{Norms, Products, Program};

/// Turns a graph into two lists of instructions.
pub(super) struct Compiler<'a> {
    graph: &'a Graph,
    kind: Kind,
    index: HashMap<Value, usize>,
    /// Weights in whose place statistics of the batch are taken, and of which value.
    moments: HashMap<Value, (Moment, Value)>,
    dynamic: Vec<bool>,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(graph: &'a Graph, kind: Kind, norms: Norms) -> Compiler<'a> {
        let index: HashMap<Value, usize> = graph
            .values()
            .enumerate()
            .map(|(index, value)| (value, index))
            .collect();
        let moments = match norms {
            Norms::Running => HashMap::new(),
            Norms::OfTheBatch => moments(graph),
        };
        Compiler {
            dynamic: dynamic(graph, &index, &moments),
            graph,
            kind,
            index,
            moments,
        }
    }

    pub(super) fn compile(&self, device: Device) -> Program {
        let mut program = Program {
            device,
            kind: self.kind,
            products: Products::Exact,
            channels_last: device == Device::Cpu
                && matches!(self.kind, Kind::Float | Kind::BFloat16),
            n_values: self.index.len(),
            sizes: self.graph.values().map(|value| self.size(value)).collect(),
            constants: Vec::new(),
            weights: Vec::new(),
            inputs: Vec::new(),
            outputs: self
                .graph
                .outputs()
                .iter()
                .map(|(name, value)| (name.clone(), self.operand(*value)))
                .collect(),
            statistics: self.statistics(),
            fixed: Vec::new(),
            flowing: Vec::new(),
            on_engine: None,
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
            Source::Weight => match self.moments.get(&value) {
                Some(&(moment, x)) => program.flowing.push(Instruction {
                    name: node.name.clone(),
                    operation: Operation::Moment(moment),
                    operands: vec![self.operand(x)],
                    result: index,
                    released: Vec::new(),
                }),
                None => {
                    program
                        .weights
                        .push((index, node.name.clone(), as_i64(&shape.concrete(1))))
                }
            },
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

    /// Bytes of a value, for one image where it depends on images. Booleans take a byte each.
    fn size(&self, value: Value) -> u64 {
        let elements: usize = self.graph.shape(value).concrete(1).iter().product();
        let element = match self.graph.operator(value) {
            Some((Op::Compare(_), _)) => 1,
            _ => self.kind.elt_size_in_bytes(),
        };
        (elements * element) as u64
    }

    fn statistics(&self) -> Vec<Statistic> {
        let statistic = |value: Value| {
            let &(moment, x) = self.moments.get(&value)?;
            let [_, _, rows, columns] = self.graph.shape(x).concrete(1)[..] else {
                return None;
            };
            Some(Statistic {
                name: self.graph.node(value).name.clone(),
                moment,
                operand: self.operand(value),
                n_pixels: rows * columns,
            })
        };
        self.graph.weights().filter_map(statistic).collect()
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

    /// g and x, where the operator is `g · cast(x > 0)`. In place of x its `Relu` is taken, if there is one: it is
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

fn moments(graph: &Graph) -> HashMap<Value, (Moment, Value)> {
    batch_norms(graph)
        .into_iter()
        .flat_map(|norm| {
            [
                (norm.mean, (Moment::Mean, norm.x)),
                (norm.variance, (Moment::Variance, norm.x)),
            ]
        })
        .collect()
}

/// Which values depend on an input or on the batch.
fn dynamic(
    graph: &Graph,
    index: &HashMap<Value, usize>,
    moments: &HashMap<Value, (Moment, Value)>,
) -> Vec<bool> {
    let mut dynamic: Vec<bool> = Vec::with_capacity(index.len());
    for value in graph.values() {
        let depends = match &graph.node(value).source {
            Source::Input => true,
            Source::Weight => moments.contains_key(&value),
            Source::Constant(_) => false,
            Source::Operator { inputs, .. } => inputs.iter().any(|input| dynamic[index[input]]),
        };
        dynamic.push(depends);
    }
    dynamic
}

/// Drops instructions whose result nobody uses.
fn drop_unused(program: &mut Program) {
    let mut needed: HashSet<usize> = program.results().map(Operand::index).collect();
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
    let mut used: HashSet<usize> = program.results().filter_map(Operand::flowing).collect();
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
            Operation::Plain(
                Op::Reshape(_) | Op::Expand(_) | Op::Transpose(_) | Op::Reduce(_) | Op::Slice(_)
            ) | Operation::Truth(_)
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
