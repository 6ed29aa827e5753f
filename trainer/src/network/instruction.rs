//! One step of an evaluation.

use anyhow::{Context, Result};
use ebm_export::graph::op::{Binary, Op};
use tch::{Kind, Tensor};

use super::operators::{apply, mask_positive, moment_of};

/// Where an operand is found.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operand {
    /// Among the values that weights alone determine.
    Fixed(usize),
    /// Among the values of this evaluation.
    Flowing(usize),
}

/// What one instruction computes.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    /// An operator of the graph.
    Plain(Op),
    /// `Add` or `Mul` into its first operand, which nobody needs any more.
    InPlace(Binary),
    /// `Relu` into its operand, which nobody needs any more.
    ReluInPlace,
    /// Booleans to numbers of the program's kind.
    Truth(Kind),
    /// `g · [x > 0]` of operands g and x, three nodes in one.
    MaskPositive,
    /// A statistic of the batch: `[N, C, H, W]` to `[C]`.
    Moment(Moment),
}

/// What a batch norm needs to know of its operand, per channel over images and pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    Mean,
    /// The mean square distance from the mean.
    Variance,
}

#[derive(Clone, Debug)]
pub(super) struct Instruction {
    pub(super) name: String,
    pub(super) operation: Operation,
    pub(super) operands: Vec<Operand>,
    pub(super) result: usize,
    /// Values that this instruction is the last to use.
    pub(super) released: Vec<usize>,
}
impl Operand {
    pub(super) fn index(self) -> usize {
        match self {
            Operand::Fixed(index) | Operand::Flowing(index) => index,
        }
    }

    pub(super) fn flowing(self) -> Option<usize> {
        match self {
            Operand::Fixed(_) => None,
            Operand::Flowing(index) => Some(index),
        }
    }
}

/// The value of an operand.
pub(super) fn get<'a>(
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
    /// The first operand, where it is among the values of this evaluation.
    pub(super) fn first_flowing(&self) -> Option<usize> {
        self.operands.first()?.flowing()
    }

    /// The result; an operand that is computed into is taken out of `flowing`.
    pub(super) fn run(
        &self,
        fixed: &[Option<Tensor>],
        flowing: &mut [Option<Tensor>],
    ) -> Result<Tensor> {
        if !matches!(
            self.operation,
            Operation::InPlace(_) | Operation::ReluInPlace
        ) {
            return self.run_tracked(fixed, flowing);
        }
        let Some(target) = self.first_flowing() else {
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
    pub(super) fn run_tracked(
        &self,
        fixed: &[Option<Tensor>],
        flowing: &[Option<Tensor>],
    ) -> Result<Tensor> {
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
            Operation::Moment(moment) => moment_of(*moment, operands[0]),
        };
        result.with_context(|| format!("node {:?}", self.name))
    }
}
