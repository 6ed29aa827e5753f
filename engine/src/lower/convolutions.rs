//! What runs before the program of a group: convolutions and pools.

use super::Lowering;
use crate::graph::{Op, Value, Windows};
use crate::kernels::table::{Direction, Pooling, Table};
use crate::layout::{Layout, Pictures};
use crate::steps::{Place, Work};
use crate::weights::{Convolution, Packer};

impl<'a> Lowering<'a> {
    /// What runs before the program of a group, what it reads, and the bias behind it.
    pub(super) fn work(
        &mut self,
        anchor: Value,
        op: &Op,
        operands: &[Value],
    ) -> (Work, Vec<Place>, Option<Value>) {
        let pooling = match op {
            Op::Map(_) => return (Work::Map, Vec::new(), None),
            Op::Conv(windows) => {
                return self.convolution(anchor, windows, Direction::Gather, operands);
            }
            Op::ConvTranspose(windows) => {
                return self.convolution(anchor, windows, Direction::Spread, operands);
            }
            Op::AveragePool(_) => Pooling::Average,
            _ => Pooling::Max,
        };
        if let Some(inner) = self.fusion.absorbed[anchor] {
            return self.pooled(anchor, inner, Direction::Spread);
        }
        let (Op::AveragePool(windows) | Op::MaxPool(windows)) = op else {
            unreachable!("all other operators were matched above")
        };
        let (pictures, result) = (self.pictures(operands[0]), self.pictures(anchor));
        let table = Table::new(windows, Direction::Gather, &pictures, &result);
        let from = self.place(operands[0], Layout::Blocked);
        (
            Work::Pool {
                pooling,
                table,
                from,
                pictures,
            },
            vec![from],
            None,
        )
    }

    fn packer(&mut self) -> Packer<'_, 'a> {
        Packer {
            processor: self.processor,
            tiles: self.tiles,
            constants: &mut self.constants,
        }
    }

    fn pictures(&self, value: Value) -> Pictures {
        Pictures::of(self.graph.shape(value)).expect("operators of windows have pictures")
    }

    fn convolution(
        &mut self,
        anchor: Value,
        windows: &Windows,
        direction: Direction,
        operands: &[Value],
    ) -> (Work, Vec<Place>, Option<Value>) {
        if self.fusion.absorbed[anchor].is_some() {
            let (work, from, _) = self.pooled(anchor, anchor, Direction::Gather);
            return (work, from, operands.get(2).copied());
        }
        let from = self.place(operands[0], Layout::Blocked);
        let convolution = Convolution {
            windows: *windows,
            direction,
            weight: self
                .graph
                .constant(operands[1])
                .expect("checked while reading"),
            from,
            pictures: self.pictures(operands[0]),
            result: self.pictures(anchor),
        };
        let work = convolution.work(&mut self.packer());
        (work, vec![from], operands.get(2).copied())
    }

    /// A convolution with the pool that it has absorbed, or that has absorbed it: `conv` is the value of the convolution.
    fn pooled(
        &mut self,
        anchor: Value,
        conv: Value,
        direction: Direction,
    ) -> (Work, Vec<Place>, Option<Value>) {
        let (op, operands) = self
            .graph
            .operator(conv)
            .expect("a convolution has operands");
        let (Op::Conv(windows) | Op::ConvTranspose(windows)) = op else {
            unreachable!("only convolutions are absorbed and absorb")
        };
        let picture = match direction {
            Direction::Gather => {
                let (_, of_pool) = self
                    .graph
                    .operator(operands[0])
                    .expect("a pool has an operand");
                of_pool[0]
            }
            Direction::Spread => operands[0],
        };
        let (windows, weight) = (*windows, operands[1]);
        let from = self.place(picture, Layout::Blocked);
        let convolution = Convolution {
            windows,
            direction,
            weight: self.graph.constant(weight).expect("checked while reading"),
            from,
            pictures: self.pictures(picture),
            result: self.pictures(anchor),
        };
        (
            convolution.pooled_work(&mut self.packer()),
            vec![from],
            None,
        )
    }
}
