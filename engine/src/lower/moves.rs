//! Elements in other places.

use super::Lowering;
use crate::graph::{AxisSource, Value};
use crate::kernels::table::OUTSIDE;
use crate::lanes::LANES;
use crate::layout::{Layout, Pictures, axis_places, floats};
use crate::shape::Shape;
use crate::steps::{Gather, Order, Place, Work};

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
