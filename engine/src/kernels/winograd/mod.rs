//! 3×3 convolutions through fewer products (Winograd 1980; Lavin and Gray 2016), pooling included.
//!
//! A tile of the operand is mapped to points, each point is multiplied with weights of its own, and a tile of the result is made of the points: in two
//! dimensions the same one-dimensional maps along columns, then rows. With the operand's tile `d`, the kernel `g` and matrices B, G, A of a form the
//! result is `Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A`.
//!
//! A mean over 2×2 pixels behind a convolution belongs to its form: with `b[i] = d[i] + d[i+1]`, pixel `i` of the pooled row is
//! `¼ Σ g[k]·b[2i + k]`. The even `b` meet `g[0]` and `g[2]`: a convolution of two taps with stride 1, which has a form with fewer products. The odd `b` meet
//! `g[1]` alone. The gradient of it is the transpose: every map transposed, in reverse order.

mod forms;

use crate::lanes::{Kernel, LANES, Lanes};
use crate::tiles::Tiles;
use forms::{Form, Four, PooledFour, PooledFourTransposed, PooledTwo, PooledTwoTransposed, Two};

/// Where the points of a tile lie. Points with the same weights are rows of the same product: group `(i, j)` of the two dimensions has
/// `GROUPS[i] · GROUPS[j]` rows for each tile.
#[derive(Clone, Debug)]
pub(crate) struct Points {
    /// Rows of a tile in each group, over both dimensions.
    pub rows: Vec<usize>,
    /// Rows of all groups before each.
    pub before: Vec<usize>,
    /// Of each point `(i, j)`, its group and its row within it.
    pub places: Vec<(usize, usize)>,
}

impl Points {
    pub fn new(groups: &[usize]) -> Self {
        let n = groups.len();
        let rows: Vec<usize> = (0..n * n)
            .map(|group| groups[group / n] * groups[group % n])
            .collect();
        let before = (0..n * n).map(|group| rows[..group].iter().sum()).collect();
        let of_point: Vec<(usize, usize)> = (0..n)
            .flat_map(|group| (0..groups[group]).map(move |row| (group, row)))
            .collect();
        let pairs = of_point.iter().flat_map(|&(i, row)| {
            of_point
                .iter()
                .map(move |&(j, column)| ((i, row), (j, column)))
        });
        let places = pairs
            .map(|((i, row), (j, column))| (i * n + j, row * groups[j] + column))
            .collect();
        Self {
            rows,
            before,
            places,
        }
    }

    /// Rows of a tile in all groups.
    pub fn rows_per_tile(&self) -> usize {
        self.rows.iter().sum()
    }
}

/// Most points of a tile of any form.
pub(crate) const MOST_POINTS: usize = 81;

/// Where points go to or come from: `(first float, floats from a tile to the next)` of each point.
pub(crate) type Places = [(usize, usize); MOST_POINTS];

/// Tiles of a block of channels of a picture to points.
pub(crate) struct Enter<'a> {
    pub rows: usize,
    pub columns: usize,
    /// Rows and columns of tiles.
    pub tiles: [usize; 2],
    pub x: *const f32,
    pub places: &'a Places,
    pub points: *mut f32,
}

impl Enter<'_> {
    #[inline(always)]
    pub fn run<
        V: Lanes,
        F: Form<IN, POINTS, OUT>,
        const IN: usize,
        const POINTS: usize,
        const OUT: usize,
    >(
        self,
    ) {
        for tile in 0..self.tiles[0] * self.tiles[1] {
            let place = |tile: usize| (tile * F::STEP_IN) as isize - F::PAD_IN as isize;
            let (y, x) = (place(tile / self.tiles[1]), place(tile % self.tiles[1]));
            // Arrays are filled in loops: made by functions, they would be copied through memory.
            let mut columns = [[V::zero(); POINTS]; IN];
            for row in 0..IN {
                let y = y + row as isize;
                if y < 0 || y >= self.rows as isize {
                    continue;
                }
                let mut d = [V::zero(); IN];
                for pixel in 0..IN {
                    let x = x + pixel as isize;
                    if x >= 0 && x < self.columns as isize {
                        let place = (y as usize * self.columns + x as usize) * LANES;
                        // SAFETY: the pixel lies in the picture.
                        d[pixel] = unsafe { V::load(self.x.add(place)) };
                    }
                }
                columns[row] = F::enter(d);
            }
            for j in 0..POINTS {
                let mut column = [V::zero(); IN];
                for row in 0..IN {
                    column[row] = columns[row][j];
                }
                let points = F::enter(column);
                for i in 0..POINTS {
                    let (first, step) = self.places[i * POINTS + j];
                    // SAFETY: who made the kernel says that the places of all tiles lie in the points.
                    unsafe { points[i].store(self.points.add(first + tile * step)) }
                }
            }
        }
    }
}

/// Points of a row of tiles to rows of the result, added to what is there if tiles overlap.
pub(crate) struct Leave<'a> {
    pub n_tiles: usize,
    pub points: *const f32,
    pub places: &'a Places,
    pub y: *mut f32,
    /// Floats from a row of the result to the next.
    pub y_row: usize,
}

impl Leave<'_> {
    #[inline(always)]
    pub fn run<
        V: Lanes,
        F: Form<IN, POINTS, OUT>,
        const IN: usize,
        const POINTS: usize,
        const OUT: usize,
    >(
        self,
    ) {
        for tile in 0..self.n_tiles {
            let mut rows = [[V::zero(); OUT]; POINTS];
            for i in 0..POINTS {
                let mut row = [V::zero(); POINTS];
                for j in 0..POINTS {
                    let (first, step) = self.places[i * POINTS + j];
                    // SAFETY: who made the kernel says that the places of all tiles lie in the points.
                    row[j] = unsafe { V::load(self.points.add(first + tile * step)) };
                }
                rows[i] = F::leave(row);
            }
            for column in 0..OUT {
                let mut points = [V::zero(); POINTS];
                for i in 0..POINTS {
                    points[i] = rows[i][column];
                }
                let pixels = F::leave(points);
                for row in 0..OUT {
                    // SAFETY: and that the result has room for the rows and columns of all tiles.
                    unsafe {
                        let y = self
                            .y
                            .add(row * self.y_row + (tile * F::STEP_OUT + column) * LANES);
                        match F::STEP_OUT < OUT {
                            true => V::load(y).add(pixels[row]).store(y),
                            false => pixels[row].store(y),
                        }
                    }
                }
            }
        }
    }
}

/// A form by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FormName {
    Four,
    Two,
    PooledFour,
    PooledTwo,
    PooledFourTransposed,
    PooledTwoTransposed,
}

/// The numbers of a form that plans need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    pub groups: &'static [usize],
    pub kernel: &'static [[f64; 3]],
    /// Pixels of the result from a tile to the next, before the first, and of a tile.
    pub step_out: usize,
    pub pad_out: usize,
    pub out: usize,
    pub step_in: usize,
}

/// Calls a generic function with the types and numbers of a form.
macro_rules! with_form {
    ($name:expr, $call:ident $(::<$vector:ident>)? ($($argument:expr),*)) => {
        match $name {
            FormName::Four => $call::<$($vector,)? Four, 6, 6, 4>($($argument),*),
            FormName::Two => $call::<$($vector,)? Two, 4, 4, 2>($($argument),*),
            FormName::PooledFour => $call::<$($vector,)? PooledFour, 10, 9, 4>($($argument),*),
            FormName::PooledTwo => $call::<$($vector,)? PooledTwo, 6, 5, 2>($($argument),*),
            FormName::PooledFourTransposed => $call::<$($vector,)? PooledFourTransposed, 4, 9, 10>($($argument),*),
            FormName::PooledTwoTransposed => $call::<$($vector,)? PooledTwoTransposed, 2, 5, 6>($($argument),*),
        }
    };
}

impl FormName {
    pub fn tiles(self) -> Tiles {
        match self {
            Self::Four | Self::PooledFour | Self::PooledFourTransposed => Tiles::Four,
            Self::Two | Self::PooledTwo | Self::PooledTwoTransposed => Tiles::Two,
        }
    }

    pub fn geometry(self) -> Geometry {
        fn of<F: Form<IN, POINTS, OUT>, const IN: usize, const POINTS: usize, const OUT: usize>()
        -> Geometry {
            Geometry {
                groups: F::GROUPS,
                kernel: F::KERNEL,
                step_out: F::STEP_OUT,
                pad_out: F::PAD_OUT,
                out: OUT,
                step_in: F::STEP_IN,
            }
        }
        with_form!(self, of())
    }
}

impl Kernel for (FormName, Enter<'_>) {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        #[inline(always)]
        fn enter<
            V: Lanes,
            F: Form<IN, POINTS, OUT>,
            const IN: usize,
            const POINTS: usize,
            const OUT: usize,
        >(
            kernel: Enter<'_>,
        ) {
            kernel.run::<V, F, IN, POINTS, OUT>();
        }
        with_form!(self.0, enter::<V>(self.1))
    }
}

impl Kernel for (FormName, Leave<'_>) {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        #[inline(always)]
        fn leave<
            V: Lanes,
            F: Form<IN, POINTS, OUT>,
            const IN: usize,
            const POINTS: usize,
            const OUT: usize,
        >(
            kernel: Leave<'_>,
        ) {
            kernel.run::<V, F, IN, POINTS, OUT>();
        }
        with_form!(self.0, leave::<V>(self.1))
    }
}
