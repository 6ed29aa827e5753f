//! Elements in other places.

use super::Lowering;
use crate::graph::{AxisSource, Op, Value};
use crate::kernels::table::OUTSIDE;
use crate::lanes::LANES;
use crate::layout::{Layout, Pictures, axis_places, floats};
use crate::shape::Shape;
use crate::steps::{Gather, Order, Place, Unit, Work};

impl Lowering<'_> {
    pub(super) fn moved(&mut self, anchor: Value, axes: &[AxisSource], fill: f32, operand: Value) {
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
        let (places, unit): (Vec<Option<usize>>, Unit) =
            match (layout, Pictures::of(from), Pictures::of(to)) {
                (Layout::Blocked, Some(from), Some(to)) => {
                    let along = [
                        Vec::new(),
                        Vec::new(),
                        (0..from.rows).map(|y| y * from.columns).collect(),
                        (0..from.columns).collect(),
                    ];
                    let pixel =
                        |y: usize, x: usize| Some(seen(2, y, &along)? + seen(3, x, &along)?);
                    let pixels: Vec<Option<usize>> = (0..to.rows)
                        .flat_map(|y| (0..to.columns).map(move |x| (y, x)))
                        .map(|(y, x)| pixel(y, x))
                        .collect();
                    let planes = 0..to.count * to.blocks();
                    let places = planes.flat_map(|plane| {
                        let pixels = pixels.iter();
                        pixels.map(move |&pixel| Some((plane * from.pixels() + pixel?) * LANES))
                    });
                    (places.collect(), Unit::Copied(LANES))
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
                    let (unit, lists) = match lists.split_last() {
                        Some((last, others)) if last.len() > 1 => match run_of(last) {
                            Some(unit) => (unit, [others, &[vec![last[0]]]].concat()),
                            None => (Unit::Copied(1), lists),
                        },
                        _ => (Unit::Copied(1), lists),
                    };
                    let mut places = vec![Some(0)];
                    for list in &lists {
                        let along = |place: Option<usize>| {
                            list.iter().map(move |&more| Some(place? + more?))
                        };
                        places = places.into_iter().flat_map(along).collect();
                    }
                    (places, unit)
                }
            };
        let table = places.into_iter();
        let table = table.map(|place| place.map_or(OUTSIDE, |place| place as u32));
        let gather = Gather {
            table: table.collect(),
            unit,
            fill,
            from: place,
            n_from: floats(from, layout),
            to: slot,
        };
        self.step(name, Work::Gather(gather), &[place], &[slot]);
    }

    /// Whether a value is another one with its last two axes exchanged, which a product of matrices reads as it lies.
    pub(super) fn transposed(&self, value: Value) -> Option<Value> {
        let (Op::Move { axes, .. }, operands) = self.graph.operator(value)? else {
            return None;
        };
        let [rows, columns] = [axes.len().checked_sub(2)?, axes.len() - 1];
        let mut exchanged: Vec<AxisSource> = (0..axes.len()).map(AxisSource::same).collect();
        exchanged.swap(rows, columns);
        (*axes == exchanged).then_some(operands[0])
    }

    /// Whether nothing but products of matrices reads a transposed value.
    pub(super) fn is_only_multiplied(&self, value: Value) -> bool {
        let mut readers = (0..self.graph.nodes.len()).filter_map(|of| self.graph.operator(of));
        let mut outputs = self.graph.outputs.iter();
        readers.all(|(op, operands)| *op == Op::MatMul || !operands.contains(&value))
            && outputs.all(|&(_, output)| output != value)
    }

    /// A value repeated along the axes that it does not have.
    pub(super) fn stretch(
        &mut self,
        value: Value,
        aligned: &Shape,
        (to, layout): (&Shape, Layout),
    ) -> usize {
        let name = format!("{} stretched", self.graph.nodes[value].name);
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
        let slot = self.slot(floats(to, Layout::Plain));
        self.gather(
            name.clone(),
            (&axes, 0.0),
            Layout::Plain,
            (aligned, plain),
            (to, slot),
        );
        if layout == Layout::Plain {
            return slot;
        }
        let blocked = self.slot(floats(to, Layout::Blocked));
        self.reorder(name, to, Order::ToBlocks, Place::Slot(slot), blocked);
        blocked
    }
}

/// How the places along a last axis lie, if they are beside each other or all the same.
fn run_of(places: &[Option<usize>]) -> Option<Unit> {
    let first = places[0]?;
    let lie = |step: usize| {
        (0..)
            .zip(places)
            .all(|(index, place)| *place == Some(first + step * index))
    };
    match (lie(1), lie(0)) {
        (true, _) => Some(Unit::Copied(places.len())),
        (_, true) => Some(Unit::Repeated(places.len())),
        _ => None,
    }
}
