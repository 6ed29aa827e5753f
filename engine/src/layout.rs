//! How elements lie in memory.

use crate::lanes::LANES;
use crate::shape::Shape;

/// How the elements of one image's part of a value lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Layout {
    /// As in the file.
    Plain,
    /// Pictures `[B, C, H, W]` as `[B, C/16, H, W, 16]`: sixteen channels of a pixel beside each other. Where 16 does not divide C, the lanes behind the
    /// last channel hold anything, numbers or not, and nobody may let them flow into other lanes.
    Blocked,
}

/// Pictures of the same extents: `[count, channels, rows, columns]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pictures {
    pub count: usize,
    pub channels: usize,
    pub rows: usize,
    pub columns: usize,
}

impl Pictures {
    /// `None` for what has other than four axes.
    pub fn of(shape: &Shape) -> Option<Self> {
        match shape.extents.as_slice() {
            &[count, channels, rows, columns] => Some(Self {
                count,
                channels,
                rows,
                columns,
            }),
            _ => None,
        }
    }

    pub fn pixels(&self) -> usize {
        self.rows * self.columns
    }

    /// Blocks of sixteen channels, the last maybe not full.
    pub fn blocks(&self) -> usize {
        self.channels.div_ceil(LANES)
    }

    /// Floats of one picture in blocks.
    pub fn floats(&self) -> usize {
        self.blocks() * self.pixels() * LANES
    }

    /// Place of an element in blocks.
    pub fn place(&self, picture: usize, channel: usize, pixel: usize) -> usize {
        picture * self.floats()
            + (channel / LANES * self.pixels() + pixel) * LANES
            + channel % LANES
    }
}

/// Floats that one image's part of a value takes, rounded up to whole vectors.
pub(crate) fn floats(shape: &Shape, layout: Layout) -> usize {
    match (layout, Pictures::of(shape)) {
        (Layout::Blocked, Some(pictures)) => pictures.count * pictures.floats(),
        _ => shape.n_elements().next_multiple_of(LANES),
    }
}

/// What each axis adds to the place of an element, by its index along the axis.
pub(crate) fn axis_places(shape: &Shape, layout: Layout) -> Vec<Vec<usize>> {
    let steps = match (layout, Pictures::of(shape)) {
        (Layout::Blocked, Some(of)) => {
            let channels = (0..of.channels)
                .map(|channel| of.place(0, channel, 0))
                .collect();
            let along =
                |extent: usize, step: usize| (0..extent).map(|index| index * step).collect();
            return vec![
                along(of.count, of.floats()),
                channels,
                along(of.rows, of.columns * LANES),
                along(of.columns, LANES),
            ];
        }
        _ => shape.strides(),
    };
    let along = |(&extent, step): (&usize, usize)| (0..extent).map(|index| index * step).collect();
    shape.extents.iter().zip(steps).map(along).collect()
}

/// Every sum of one number of each list, the last list running fastest.
pub(crate) fn sums(lists: &[Vec<usize>]) -> Vec<usize> {
    lists.iter().fold(vec![0], |sums, list| {
        sums.iter()
            .flat_map(|sum| list.iter().map(move |place| sum + place))
            .collect()
    })
}

/// Writes the elements of a constant as they lie in a layout.
pub(crate) fn arrange(shape: &Shape, layout: Layout, elements: &[f32], arranged: &mut [f32]) {
    let places = sums(&axis_places(shape, layout));
    places
        .iter()
        .zip(elements)
        .for_each(|(&place, &element)| arranged[place] = element);
}
