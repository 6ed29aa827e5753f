//! From a graph to the steps of a plan.

mod convolutions;
mod moves;
mod programs;

use std::collections::HashMap;

use crate::arena::{Lives, Touched};
use crate::constants::Constants;
use crate::error::{Error, Result};
use crate::fuse::Fusion;
use crate::graph::{AxisSource, Graph, Op, Source as ValueSource, Value};
use crate::lanes::{LANES, Processor};
use crate::layout::{Layout, Pictures, arrange, axis_places, floats, sums};
use crate::program::Program;
use crate::shape::Shape;
use crate::steps::{
    Concat, Domain, Factor, MatMul, Order, Place, Reduce, Reorder, Softmax, Step, Work,
};
use crate::tiles::Tiles;

/// An input or output of the file.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub name: String,
    pub shape: Shape,
    pub slot: usize,
}

/// What is known before a run beside the constants: steps and places.
pub(crate) struct Layouted {
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    pub steps: Vec<Step>,
    /// First float of each slot in an image's part of the memory.
    pub slots: Vec<usize>,
    /// Floats of all slots for one image.
    pub n_floats: usize,
}

/// The steps of a graph, where everything lies, and what makes the weights as kernels want them.
pub(crate) fn layouted(
    graph: &Graph,
    processor: Processor,
    tiles: Tiles,
) -> Result<(Layouted, Constants<'_>)> {
    let fusion = Fusion::new(graph, tiles);
    let mut lowering = Lowering {
        graph,
        layouts: layouts(graph, &fusion),
        fusion,
        processor,
        tiles,
        constants: Constants::default(),
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
    let [first, last] = [&inputs, &outputs].map(|ports| ports.iter().map(|port| port.slot));
    let (places, n_floats) = Lives::new(&steps, &slots, first, last).placed();
    let layouted = Layouted {
        inputs,
        outputs,
        steps: steps.into_iter().map(|(step, _)| step).collect(),
        slots: places.into_iter().map(|(first, _)| first).collect(),
        n_floats,
    };
    Ok((layouted, constants))
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

struct Lowering<'a> {
    graph: &'a Graph,
    fusion: Fusion,
    layouts: Vec<Layout>,
    processor: Processor,
    tiles: Tiles,
    constants: Constants<'a>,
    /// Constant vectors of one number, by its bits.
    vectors: HashMap<u32, usize>,
    places: HashMap<(Value, Layout), Place>,
    /// Floats of one image's part of each slot.
    slots: Vec<usize>,
    steps: Vec<(Step, Touched)>,
}

impl<'a> Lowering<'a> {
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

    /// A constant vector of one number.
    fn vector(&mut self, number: f32) -> usize {
        if let Some(&first) = self.vectors.get(&number.to_bits()) {
            return first;
        }
        let first = self.constants.add(LANES, move |floats| floats.fill(number));
        self.vectors.insert(number.to_bits(), first);
        first
    }

    fn constant(&mut self, shape: Shape, layout: Layout, elements: &'a [f32]) -> usize {
        let length = floats(&shape, layout);
        let fill = move |to: &mut [f32]| arrange(&shape, layout, elements, to);
        self.constants.add(length, fill)
    }

    /// Where a value that was made lies in a layout; made there from the other one if nobody asked before.
    fn place(&mut self, value: Value, layout: Layout) -> Place {
        if let Some(&place) = self.places.get(&(value, layout)) {
            return place;
        }
        let shape = self.graph.shape(value).clone();
        let graph = self.graph;
        if let Some(elements) = graph.constant(value) {
            let place = Place::Constant(self.constant(shape, layout, elements));
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
            Op::Move { .. }
                if self.transposed(anchor).is_some() && self.is_only_multiplied(anchor) => {}
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
                    lie_side_by_side: lie_side_by_side(&offset),
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
                        lie_side_by_side: lie_side_by_side(&offset),
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
        let [left, right] = [left, right].map(|value| self.factor(value));
        let to = self.fresh(anchor, Layout::Plain);
        let columns = result[rank - 1];
        let product = MatMul {
            pairs,
            sizes: [result[rank - 2], k, columns],
            left,
            right,
            to,
            vectors: self.processor.most_vectors(columns.div_ceil(LANES)),
        };
        let from = [left.place, right.place];
        self.step(name, Work::MatMul(product), &from, &[to]);
    }

    /// A factor of a product, as it lies.
    fn factor(&mut self, value: Value) -> Factor {
        let columns = self.graph.shape(value).extents.last().copied();
        let (value, steps) = match self.transposed(value) {
            Some(operand) => {
                let rows = self.graph.shape(operand).extents.last().copied();
                (operand, [1, rows.unwrap_or(1)])
            }
            None => (value, [columns.unwrap_or(1), 1]),
        };
        Factor {
            place: self.place(value, Layout::Plain),
            n_floats: self.graph.shape(value).n_elements(),
            steps,
        }
    }
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

fn lie_side_by_side(offsets: &[u32]) -> bool {
    (0..).zip(offsets).all(|(index, &offset)| index == offset)
}
