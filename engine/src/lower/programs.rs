//! Groups whose operators work element by element behind their anchor.

use std::collections::HashMap;

use super::{Lowering, Touched};
use crate::error::Result;
use crate::graph::{Function, Op, Value};
use crate::lanes::LANES;
use crate::layout::{Layout, Pictures, arrange, axis_places, floats, sums};
use crate::program::{Instruction, Program, Source, Target};
use crate::shape::Shape;
use crate::steps::{Domain, Place, Step};

impl<'a> Lowering<'a> {
    /// The step of a group whose operators work element by element behind its anchor.
    pub(super) fn with_program(
        &mut self,
        anchor: Value,
        op: &Op,
        operands: &[Value],
    ) -> Result<()> {
        let layout = self.layouts[anchor];
        let shape = self.graph.shape(anchor).clone();
        let members: Vec<Value> = (anchor..self.graph.nodes.len())
            .filter(|&value| self.fusion.anchor[value] == Some(anchor) && self.fusion.stored[value])
            .collect();
        if members.is_empty() {
            return Ok(());
        }
        let domain = match (layout, Pictures::of(&shape)) {
            (Layout::Blocked, Some(pictures)) => Domain::Blocked(pictures),
            _ => Domain::Plain(shape.n_elements().div_ceil(LANES)),
        };
        let mut writer = ProgramWriter {
            anchor,
            shape,
            layout,
            program: Program::default(),
            made: HashMap::new(),
            touched: Touched::default(),
        };
        let (work, from, bias) = self.work(anchor, op, operands);
        if let Some(bias) = bias {
            let bias = self.leaf(&mut writer, bias, Alignment::Channels);
            let operands = [Source::Result, bias, Source::Result];
            self.made(&mut writer, anchor, Some(Function::Add), operands);
        }
        for value in members {
            self.emit(&mut writer, value);
        }
        writer
            .touched
            .slots
            .extend(from.iter().filter_map(|place| match place {
                Place::Slot(slot) => Some(*slot),
                Place::Constant(_) => None,
            }));
        let step = Step {
            name: self.graph.nodes[anchor].name.clone(),
            work,
            program: writer.program.with_few_registers(),
            domain,
        };
        self.steps.push((step, writer.touched));
        Ok(())
    }

    /// Instructions that make a value, and where the program then has it.
    fn emit(&mut self, writer: &mut ProgramWriter, value: Value) -> Source {
        if let Some(&source) = writer.made.get(&value) {
            return source;
        }
        let is_here = self.fusion.anchor[value] == Some(writer.anchor);
        let (function, operands) = match self.graph.operator(value) {
            Some((Op::Map(function), operands)) if is_here || !self.fusion.stored[value] => {
                (*function, operands.to_vec())
            }
            Some(_) if value == writer.anchor => {
                return match self.fusion.stored[value] {
                    true => self.made(writer, value, None, [Source::Result; 3]),
                    false => Source::Result,
                };
            }
            _ => return self.leaf(writer, value, Alignment::Last),
        };
        let sources: Vec<Source> = operands
            .iter()
            .map(|&operand| self.emit(writer, operand))
            .collect();
        let sources = std::array::from_fn(|place| sources[place.min(sources.len() - 1)]);
        self.made(writer, value, Some(function), sources)
    }

    /// An instruction that makes a value, in memory if other groups read it.
    fn made(
        &mut self,
        writer: &mut ProgramWriter,
        value: Value,
        function: Option<Function>,
        operands: [Source; 3],
    ) -> Source {
        let is_here = self.fusion.anchor[value] == Some(writer.anchor);
        let slot = (is_here && self.fusion.stored[value]).then(|| self.fresh(value, writer.layout));
        let source = writer.push(function, operands, slot);
        writer.made.insert(value, source);
        source
    }

    /// A value from outside the group.
    fn leaf(&mut self, writer: &mut ProgramWriter, value: Value, alignment: Alignment) -> Source {
        let own = self.graph.shape(value).clone();
        let domain = writer.shape.extents.clone();
        // The value's extents, with as many axes as the group.
        let mut extents = vec![1; domain.len()];
        match alignment {
            Alignment::Channels => extents[1] = own.n_elements(),
            Alignment::Last => {
                let missing = domain.len() - own.rank().min(domain.len());
                extents[missing..]
                    .copy_from_slice(&own.extents[own.rank() + missing - domain.len()..]);
            }
        }
        let one_for_each_channel = writer.layout == Layout::Blocked
            && extents[0] == 1
            && extents[1] == domain[1]
            && extents[2..] == [1, 1];
        let aligned = Shape::shared(extents);
        let graph = self.graph;
        if let Some(elements) = graph.constant(value) {
            if let [number] = elements {
                return Source::Vector(self.vector(*number));
            }
            if one_for_each_channel {
                let padded = elements.len().next_multiple_of(LANES);
                let fill = move |to: &mut [f32]| {
                    to.chunks_exact_mut(padded)
                        .for_each(|to| to[..elements.len()].copy_from_slice(elements));
                };
                return Source::Channels(self.constants.add(padded * domain[0], fill));
            }
            let (layout, shape) = (writer.layout, Shape::shared(domain));
            let length = floats(&shape, layout);
            let fill = move |to: &mut [f32]| {
                let stretched = stretched(&aligned, &shape.extents, elements);
                arrange(&shape, layout, &stretched, to);
            };
            return Source::Constant(self.constants.add(length, fill));
        }
        if aligned.extents == domain && own.rank() == domain.len() {
            let slot = self.slot_of(value, writer.layout);
            writer.touched.slots.push(slot);
            return Source::Slot(slot);
        }
        if own.n_elements() == 1 {
            let slot = self.slot_of(value, Layout::Plain);
            writer.touched.slots.push(slot);
            return Source::Element(slot);
        }
        let slot = self.stretch(value, &aligned, (&Shape::shared(domain), writer.layout));
        writer.touched.slots.push(slot);
        writer.made.insert(value, Source::Slot(slot));
        Source::Slot(slot)
    }

    /// The slot in which a value lies that is no constant.
    fn slot_of(&mut self, value: Value, layout: Layout) -> usize {
        match self.place(value, layout) {
            Place::Slot(slot) => slot,
            Place::Constant(_) => unreachable!("only constants lie among the constants"),
        }
    }
}

/// Which axes of a group those of a value from outside are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alignment {
    /// The last ones, as in broadcasting.
    Last,
    /// The channels.
    Channels,
}

/// A program under construction.
struct ProgramWriter {
    anchor: Value,
    shape: Shape,
    layout: Layout,
    program: Program,
    made: HashMap<Value, Source>,
    touched: Touched,
}

impl ProgramWriter {
    /// An instruction into a slot, or a new register.
    fn push(
        &mut self,
        function: Option<Function>,
        operands: [Source; 3],
        slot: Option<usize>,
    ) -> Source {
        let (target, source) = match slot {
            Some(slot) => {
                self.touched.slots.push(slot);
                (Target::Slot(slot), Source::Slot(slot))
            }
            None => {
                let register = self.program.n_registers;
                self.program.n_registers += 1;
                (Target::Register(register), Source::Register(register))
            }
        };
        self.program.instructions.push(Instruction {
            function,
            operands,
            target,
        });
        source
    }
}

/// Elements of a value repeated along the axes in which it has one element and the domain more.
fn stretched(shape: &Shape, domain: &[usize], elements: &[f32]) -> Vec<f32> {
    let along = axis_places(shape, Layout::Plain);
    let lists: Vec<Vec<usize>> = (0..domain.len())
        .map(|axis| match shape.extents[axis] == domain[axis] {
            true => along[axis].clone(),
            false => vec![0; domain[axis]],
        })
        .collect();
    sums(&lists)
        .into_iter()
        .map(|place| elements[place])
        .collect()
}
