//! From a graph to the steps of a plan.

use std::collections::HashMap;

use crate::arena;
use crate::error::{Error, Result};
use crate::fuse::Fusion;
use crate::graph::{AxisSource, Function, Graph, Op, Source as ValueSource, Value, Windows};
use crate::kernels::table::{Direction, OUTSIDE, Pooling, Table};
use crate::lanes::{LANES, Processor};
use crate::layout::{Layout, Pictures, arranged, axis_places, floats, sums};
use crate::memory::Block;
use crate::plan::{Layouted, Port};
use crate::program::{Instruction, Program, Source, Target};
use crate::shape::Shape;
use crate::steps::{
    Concat, Domain, Gather, MatMul, Order, Place, Reduce, Reorder, Softmax, Step, Work,
};
use crate::weights::{Convolution, Packer};

/// The steps of a graph, and where everything lies.
pub(crate) fn layouted(graph: Graph, processor: Processor) -> Result<Layouted> {
    let fusion = Fusion::new(&graph);
    let layouts = layouts(&graph, &fusion);
    let mut lowering = Lowering {
        graph: &graph,
        fusion: &fusion,
        layouts,
        processor,
        constants: Vec::new(),
        vectors: HashMap::new(),
        places: HashMap::new(),
        slots: Vec::new(),
        steps: Vec::new(),
    };
    let inputs = lowering.inputs();
    for value in 0..graph.nodes.len() {
        lowering.group(value)?;
    }
    let outputs = lowering.outputs()?;
    let Lowering {
        steps,
        slots,
        constants,
        ..
    } = lowering;
    let live = arena::Lives::new(&steps, &slots, &inputs, &outputs);
    let (slots, n_floats) = live.placed();
    Ok(Layouted {
        inputs,
        outputs,
        constants: Block::of(&constants),
        steps: steps.into_iter().map(|(step, _)| step).collect(),
        slots,
        n_floats,
    })
}

/// In which layout each value is made: pictures in blocks by what works on pictures, and by what works element by element on such.
fn layouts(graph: &Graph, fusion: &Fusion) -> Vec<Layout> {
    let mut layouts: Vec<Layout> = Vec::with_capacity(graph.nodes.len());
    for (value, node) in graph.nodes.iter().enumerate() {
        let ValueSource::Node { op, operands } = &node.source else {
            layouts.push(Layout::Plain);
            continue;
        };
        let is_blocked = match op {
            Op::Conv(_) | Op::ConvTranspose(_) | Op::AveragePool(_) | Op::MaxPool(_) => true,
            Op::Move { axes, .. } => keeps_channels(axes, graph.shape(operands[0]), &node.shape),
            Op::Map(_) => match fusion.anchor[value] {
                Some(anchor) if anchor != value => layouts[anchor] == Layout::Blocked,
                _ => operands.iter().any(|&operand| {
                    layouts[operand] == Layout::Blocked
                        && graph.shape(operand).extents == node.shape.extents
                }),
            },
            _ => false,
        };
        layouts.push(if is_blocked {
            Layout::Blocked
        } else {
            Layout::Plain
        });
    }
    layouts
}

/// Whether only rows and columns of pictures move.
fn keeps_channels(axes: &[AxisSource], from: &Shape, to: &Shape) -> bool {
    from.rank() == 4
        && to.rank() == 4
        && (0..2).all(|axis| {
            axes[axis] == AxisSource::same(axis) && from.extents[axis] == to.extents[axis]
        })
        && (2..4).all(|axis| axes[axis].axis == Some(axis))
}

/// Slots that a step reads and writes.
#[derive(Default)]
pub(crate) struct Touched {
    pub slots: Vec<usize>,
}

struct Lowering<'a> {
    graph: &'a Graph,
    fusion: &'a Fusion,
    layouts: Vec<Layout>,
    processor: Processor,
    constants: Vec<f32>,
    /// Constant vectors of one number, by its bits.
    vectors: HashMap<u32, usize>,
    places: HashMap<(Value, Layout), Place>,
    /// Floats of one image's part of each slot.
    slots: Vec<usize>,
    steps: Vec<(Step, Touched)>,
}

impl Lowering<'_> {
    fn inputs(&mut self) -> Vec<Port> {
        let inputs = self.graph.inputs.clone();
        inputs
            .into_iter()
            .map(|value| {
                let slot = self.fresh(value, Layout::Plain);
                self.port(self.graph.nodes[value].name.clone(), value, slot)
            })
            .collect()
    }

    fn outputs(&mut self) -> Result<Vec<Port>> {
        let outputs = self.graph.outputs.clone();
        let port = |(name, value): (String, Value)| match self.place(value, Layout::Plain) {
            Place::Slot(slot) => Ok(self.port(name, value, slot)),
            Place::Constant(_) => Err(Error::Unsupported {
                operator: "output".to_string(),
                node: name,
                problem: "it is constant".to_string(),
            }),
        };
        outputs.into_iter().map(port).collect()
    }

    fn port(&self, name: String, value: Value, slot: usize) -> Port {
        let shape = self.graph.shape(value).clone();
        Port { name, shape, slot }
    }

    fn slot(&mut self, floats: usize) -> usize {
        self.slots.push(floats);
        self.slots.len() - 1
    }

    /// A slot for a value that is about to be made.
    fn fresh(&mut self, value: Value, layout: Layout) -> usize {
        let slot = self.slot(floats(self.graph.shape(value), layout));
        self.places.insert((value, layout), Place::Slot(slot));
        slot
    }

    fn constant(&mut self, elements: &[f32]) -> usize {
        let first = self.constants.len();
        self.constants.extend_from_slice(elements);
        self.constants
            .resize(self.constants.len().next_multiple_of(LANES), 0.0);
        first
    }

    /// A constant vector of one number.
    fn vector(&mut self, number: f32) -> usize {
        if let Some(&first) = self.vectors.get(&number.to_bits()) {
            return first;
        }
        let first = self.constant(&[number; LANES]);
        self.vectors.insert(number.to_bits(), first);
        first
    }

    /// Where a value that was made lies in a layout; made there from the other one if nobody asked before.
    fn place(&mut self, value: Value, layout: Layout) -> Place {
        if let Some(&place) = self.places.get(&(value, layout)) {
            return place;
        }
        let shape = self.graph.shape(value).clone();
        if let Some(elements) = self.graph.constant(value) {
            let place = Place::Constant(self.constant(&arranged(&shape, layout, elements)));
            self.places.insert((value, layout), place);
            return place;
        }
        let (order, other) = match layout {
            Layout::Blocked => (Order::ToBlocks, Layout::Plain),
            Layout::Plain => (Order::ToPlain, Layout::Blocked),
        };
        let from = self.places[&(value, other)];
        let to = self.fresh(value, layout);
        let name = self.graph.nodes[value].name.clone();
        self.reorder(name, &shape, order, from, to);
        Place::Slot(to)
    }

    fn reorder(&mut self, name: String, shape: &Shape, order: Order, from: Place, to: usize) {
        let pictures = Pictures::of(shape).expect("only pictures have blocks");
        let reorder = Reorder {
            order,
            pictures,
            from,
            to,
        };
        self.step(name, Work::Reorder(reorder), &[from], &[to]);
    }

    /// A step without a program.
    fn step(&mut self, name: String, work: Work, from: &[Place], to: &[usize]) {
        let step = Step {
            name,
            work,
            program: Program::default(),
            domain: Domain::Plain(0),
        };
        let mut slots: Vec<usize> = to.to_vec();
        slots.extend(from.iter().filter_map(|place| match place {
            Place::Slot(slot) => Some(*slot),
            Place::Constant(_) => None,
        }));
        self.steps.push((step, Touched { slots }));
    }

    /// The steps of the group that begins with a value, if one does.
    fn group(&mut self, anchor: Value) -> Result<()> {
        let Some((op, operands)) = self.graph.operator(anchor) else {
            return Ok(());
        };
        if self.fusion.anchor[anchor] != Some(anchor) || self.fusion.is_absorbed(anchor) {
            return Ok(());
        }
        let (op, operands) = (op.clone(), operands.to_vec());
        let name = self.graph.nodes[anchor].name.clone();
        match op {
            Op::Map(_)
            | Op::Conv(_)
            | Op::ConvTranspose(_)
            | Op::AveragePool(_)
            | Op::MaxPool(_) => {
                return self.with_program(anchor, &op, &operands);
            }
            Op::Move { axes, fill } => self.moved(anchor, &axes, fill, operands[0]),
            Op::Reshape => {
                let place = self.place(operands[0], Layout::Plain);
                self.places.insert((anchor, Layout::Plain), place);
            }
            Op::Concat { axis } => {
                let shape = self.graph.shape(anchor);
                let n_outer = shape.extents[..axis].iter().product();
                let part = |value: Value, lowering: &mut Self| {
                    let extents = &lowering.graph.shape(value).extents;
                    let floats = extents[axis..].iter().product();
                    (lowering.place(value, Layout::Plain), floats)
                };
                let parts: Vec<_> = operands.iter().map(|&value| part(value, self)).collect();
                let from: Vec<Place> = parts.iter().map(|part| part.0).collect();
                let to = self.fresh(anchor, Layout::Plain);
                self.step(
                    name,
                    Work::Concat(Concat { parts, n_outer, to }),
                    &from,
                    &[to],
                );
            }
            Op::Reduce { kind, axes } => {
                let operand = operands[0];
                let shape = self.graph.shape(operand).clone();
                let layout = self.layouts[operand];
                let from = self.place(operand, layout);
                let (first, offset) = split(&shape, layout, &axes);
                let to = self.fresh(anchor, Layout::Plain);
                let n_from = floats(&shape, layout);
                let reduce = Reduce {
                    kind,
                    first,
                    offset,
                    from,
                    n_from,
                    to,
                };
                self.step(name, Work::Reduce(reduce), &[from], &[to]);
            }
            Op::Softmax { axis } => {
                let shape = self.graph.shape(operands[0]).clone();
                let from = self.place(operands[0], Layout::Plain);
                let (first, offset) = split(&shape, Layout::Plain, &[axis]);
                let to = self.fresh(anchor, Layout::Plain);
                self.step(
                    name,
                    Work::Softmax(Softmax {
                        first,
                        offset,
                        from,
                        to,
                    }),
                    &[from],
                    &[to],
                );
            }
            Op::MatMul => self.product(anchor, name, &operands),
        }
        Ok(())
    }

    fn product(&mut self, anchor: Value, name: String, operands: &[Value]) {
        let [left, right] = [operands[0], operands[1]];
        let shapes = [left, right].map(|value| self.graph.shape(value).clone());
        let rank = self.graph.shape(anchor).rank();
        let result = self.graph.shape(anchor).extents.clone();
        // The first float of each matrix of a factor, leading axes of extent 1 stretched.
        let first_floats = |shape: &Shape| {
            let missing = rank - shape.rank();
            let along = axis_places(shape, Layout::Plain);
            let lists: Vec<Vec<usize>> = (0..rank - 2)
                .map(|axis| match axis.checked_sub(missing) {
                    Some(own) if shape.extents[own] == result[axis] => along[own].clone(),
                    _ => vec![0; result[axis]],
                })
                .collect();
            sums(&lists)
        };
        let pairs = first_floats(&shapes[0])
            .into_iter()
            .zip(first_floats(&shapes[1]))
            .collect();
        let k = shapes[0].extents[shapes[0].rank() - 1];
        let [n_left, n_right] = shapes.each_ref().map(Shape::n_elements);
        let [left, right] = [left, right].map(|value| self.place(value, Layout::Plain));
        let to = self.fresh(anchor, Layout::Plain);
        let product = MatMul {
            pairs,
            sizes: [result[rank - 2], k, result[rank - 1]],
            left,
            right,
            n_left,
            n_right,
            to,
        };
        self.step(name, Work::MatMul(product), &[left, right], &[to]);
    }

    fn moved(&mut self, anchor: Value, axes: &[AxisSource], fill: f32, operand: Value) {
        let (from, to) = (
            self.graph.shape(operand).clone(),
            self.graph.shape(anchor).clone(),
        );
        let layout = self.layouts[anchor];
        let place = self.place(operand, layout);
        let slot = self.fresh(anchor, layout);
        let name = self.graph.nodes[anchor].name.clone();
        self.gather(name, (axes, fill), layout, (&from, place), (&to, slot));
    }

    fn gather(
        &mut self,
        name: String,
        (axes, fill): (&[AxisSource], f32),
        layout: Layout,
        (from, place): (&Shape, Place),
        (to, slot): (&Shape, usize),
    ) {
        // Places add up over axes, so that one that is outside makes the whole place so.
        let seen = |axis: usize, index: usize, along: &[Vec<usize>]| {
            let source = axes[axis];
            let Some(own) = source.axis else {
                return Some(0);
            };
            let place = (source.start + source.step * index as isize).div_euclid(source.divisor);
            let place = usize::try_from(place).ok()?;
            along[own].get(place).copied()
        };
        let (table, unit) = match (layout, Pictures::of(from), Pictures::of(to)) {
            (Layout::Blocked, Some(from), Some(to)) => {
                let along = [
                    Vec::new(),
                    Vec::new(),
                    (0..from.rows).map(|y| y * from.columns).collect(),
                    (0..from.columns).collect(),
                ];
                let pixel = |y: usize, x: usize| Some(seen(2, y, &along)? + seen(3, x, &along)?);
                let pixels: Vec<Option<usize>> = (0..to.rows)
                    .flat_map(|y| (0..to.columns).map(move |x| (y, x)))
                    .map(|(y, x)| pixel(y, x))
                    .collect();
                let planes = 0..to.count * to.blocks();
                let table = planes.flat_map(|plane| {
                    pixels.iter().map(move |&pixel| {
                        pixel.map_or(OUTSIDE, |pixel| (plane * from.pixels() + pixel) as u32)
                    })
                });
                (table.collect(), LANES)
            }
            _ => {
                let along = axis_places(from, Layout::Plain);
                let lists: Vec<Vec<Option<usize>>> = (0..to.rank())
                    .map(|axis| {
                        (0..to.extents[axis])
                            .map(|index| seen(axis, index, &along))
                            .collect()
                    })
                    .collect();
                let places =
                    lists
                        .iter()
                        .fold(vec![Some(0)], |places: Vec<Option<usize>>, list| {
                            places
                                .iter()
                                .flat_map(|&place| {
                                    list.iter().map(move |&more| Some(place? + more?))
                                })
                                .collect()
                        });
                let table = places
                    .into_iter()
                    .map(|place| place.map_or(OUTSIDE, |place| place as u32));
                (table.collect(), 1)
            }
        };
        let gather = Gather {
            table,
            unit,
            fill,
            from: place,
            n_from: floats(from, layout),
            to: slot,
        };
        self.step(name, Work::Gather(gather), &[place], &[slot]);
    }

    /// The step of a group whose operators work element by element behind its anchor.
    fn with_program(&mut self, anchor: Value, op: &Op, operands: &[Value]) -> Result<()> {
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

    /// What runs before the program of a group, what it reads, and the bias behind it.
    fn work(
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
            windows: windows.clone(),
            direction,
            weight: self
                .graph
                .constant(operands[1])
                .expect("checked while reading"),
            from,
            pictures: self.pictures(operands[0]),
            result: self.pictures(anchor),
        };
        let mut packer = Packer {
            processor: self.processor,
            constants: &mut self.constants,
        };
        (
            convolution.work(&mut packer),
            vec![from],
            operands.get(2).copied(),
        )
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
        let (windows, weight) = (windows.clone(), operands[1]);
        let from = self.place(picture, Layout::Blocked);
        let convolution = Convolution {
            windows,
            direction,
            weight: self.graph.constant(weight).expect("checked while reading"),
            from,
            pictures: self.pictures(picture),
            result: self.pictures(anchor),
        };
        let mut packer = Packer {
            processor: self.processor,
            constants: &mut self.constants,
        };
        (convolution.pooled_work(&mut packer), vec![from], None)
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
        if let Some(elements) = self.graph.constant(value).map(<[f32]>::to_vec) {
            if let [number] = elements.as_slice() {
                return Source::Vector(self.vector(*number));
            }
            if one_for_each_channel {
                let mut padded = elements;
                padded.resize(padded.len().next_multiple_of(LANES), 0.0);
                return Source::Channels(self.constant(&padded.repeat(domain[0])));
            }
            let stretched = stretched(&aligned, &domain, &elements);
            let shape = Shape::shared(domain);
            return Source::Constant(self.constant(&arranged(&shape, writer.layout, &stretched)));
        }
        if aligned.extents == domain && own.rank() == domain.len() {
            let Place::Slot(slot) = self.place(value, writer.layout) else {
                unreachable!("only constants lie among the constants")
            };
            writer.touched.slots.push(slot);
            return Source::Slot(slot);
        }
        if own.n_elements() == 1 {
            let Place::Slot(slot) = self.place(value, Layout::Plain) else {
                unreachable!("only constants lie among the constants")
            };
            writer.touched.slots.push(slot);
            return Source::Element(slot);
        }
        let slot = self.stretch(value, &aligned, writer);
        writer.touched.slots.push(slot);
        writer.made.insert(value, Source::Slot(slot));
        Source::Slot(slot)
    }

    /// A value repeated along the axes that it does not have.
    fn stretch(&mut self, value: Value, aligned: &Shape, writer: &ProgramWriter) -> usize {
        let name = format!("{} stretched", self.graph.nodes[value].name);
        let to = Shape::shared(writer.shape.extents.clone());
        let axes: Vec<AxisSource> = (0..to.rank())
            .map(|axis| match aligned.extents[axis] == to.extents[axis] {
                true => AxisSource::same(axis),
                false => AxisSource {
                    step: 0,
                    ..AxisSource::same(axis)
                },
            })
            .collect();
        let plain = self.place(value, Layout::Plain);
        let slot = self.slot(floats(&to, Layout::Plain));
        self.gather(
            name.clone(),
            (&axes, 0.0),
            Layout::Plain,
            (aligned, plain),
            (&to, slot),
        );
        if writer.layout == Layout::Plain {
            return slot;
        }
        let blocked = self.slot(floats(&to, Layout::Blocked));
        self.reorder(name, &to, Order::ToBlocks, Place::Slot(slot), blocked);
        blocked
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

/// The places of what remains and of what is summed: element `(i, j)` lies at the sum of both.
fn split(shape: &Shape, layout: Layout, axes: &[usize]) -> (Vec<u32>, Vec<u32>) {
    let along = axis_places(shape, layout);
    let of = |is_summed: bool| {
        let lists: Vec<Vec<usize>> = (0..shape.rank())
            .filter(|axis| axes.contains(axis) == is_summed)
            .map(|axis| along[axis].clone())
            .collect();
        sums(&lists).into_iter().map(|place| place as u32).collect()
    };
    (of(false), of(true))
}
