//! A 3×3 convolution with four times fewer multiplications.
//!
//! Winograd's F(4, 3) (Lavin and Gray 2016): four outputs in a row of a filter g of three taps over six inputs d are
//! `y = Aᵀ[(G g) ⊙ (Bᵀ d)]`, since `y` is a product of polynomials read off its values at the points 0, 1, −1, 2, −2 and ∞: six
//! multiplications in place of twelve. Along both axes, tiles of 4×4 outputs are `Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A`, 36 in place of 144.
//! Aᵀ is linear and the same for every input channel, so the sum over channels stands inside: for each of the 36 points a product of a matrix
//! `[K, C]` and the tiles, which is one pointwise convolution in 36 groups.
//!
//! Cutting an image into tiles that overlap, and padding it, are linear as well: for each axis one constant matrix takes the pixels to the
//! points of all tiles (`enter`), and one takes those of the products to the pixels of the result (`leave`). The column of the point 1 in Aᵀ
//! is ones, so a bias that is added to the product at (1, 1) reaches every pixel once. 24·G, Aᵀ and Bᵀ are integers; the factor
//! 1/24² is applied to the weights, which are computed once.
//!
//! Pixels stand in front of images and channels meanwhile (`[H, W, N, C]`), so that `enter` and `leave` are products of large matrices.

use std::ops::RangeInclusive;

use crate::error::Error;
use crate::graph::op::{Binary, Conv, MatMul, Op, Reshape, Transpose};
use crate::graph::tensor::Tensor;
use crate::graph::{Dim, Graph, Shape, Value};

/// Outputs of a tile along an axis.
const TILE: usize = 4;
/// Points along an axis: inputs of a tile.
const POINTS: usize = 6;
/// Row and column of the point 1.
const POINT_OF_ONES: usize = 1;
/// Channels come in blocks of the widest vectors, or convolutions in groups are slow.
const BLOCK: usize = 16;
/// How many times fewer multiplications pay for moving the data.
const MIN_GAIN: usize = 2;
/// Up to that number of pixels, both axes are transformed at once: more multiplications, but one product each way.
const MAX_PIXELS_AT_ONCE: usize = 100;

const B_TRANSPOSED: [[i32; POINTS]; POINTS] = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
];
const G_TIMES_24: [[i32; 3]; POINTS] = [
    [6, 0, 0],
    [-4, -4, -4],
    [-4, 4, -4],
    [1, 2, 4],
    [1, -2, 4],
    [0, 0, 24],
];
const A_TRANSPOSED: [[i32; POINTS]; TILE] = [
    [1, 1, 1, 1, 1, 0],
    [0, 1, -1, 2, -2, 0],
    [0, 1, 1, 4, 4, 0],
    [0, 1, -1, 8, -8, 1],
];

/// Rewrites convolutions whose result has a number of tiles per image in that range, where it pays. The weights are four times as many, and
/// few tiles do not pay for reading them.
pub(super) fn rewritten(graph: &Graph, tiles: RangeInclusive<usize>) -> Result<Graph, Error> {
    rewritten_where(graph, |tiling| {
        tiles.contains(&tiling.n_tiles()) && tiling.pays()
    })
}

fn rewritten_where(graph: &Graph, wanted: impl Fn(&Tiling) -> bool) -> Result<Graph, Error> {
    graph.rebuild(|target, mapping, value| {
        let Some((tiling, operands)) =
            Tiling::of(graph, value).filter(|(tiling, _)| wanted(tiling))
        else {
            return Ok(None);
        };
        let operands: Vec<Value> = operands
            .iter()
            .map(|&operand| mapping.get(operand))
            .collect();
        let spelling = Spelling {
            graph: target,
            name: graph.node(value).name.clone(),
            tiling,
        };
        spelling.spelled(&operands).map(Some)
    })
}

/// One axis of a convolution.
#[derive(Clone, Copy)]
struct Side {
    pixels: usize,
    padding: usize,
    results: usize,
}

impl Side {
    fn tiles(self) -> usize {
        self.results.div_ceil(TILE)
    }

    /// `[points, tiles]` in a row.
    fn places(self) -> usize {
        POINTS * self.tiles()
    }

    /// `[places, pixels]`: the points of all tiles from the pixels.
    fn enter(self) -> Vec<f32> {
        let mut matrix = vec![0.0; self.places() * self.pixels];
        for (point, row) in B_TRANSPOSED.iter().enumerate() {
            for tile in 0..self.tiles() {
                for (offset, &factor) in row.iter().enumerate() {
                    let pixel = (tile * TILE + offset).wrapping_sub(self.padding);
                    if pixel < self.pixels {
                        let place = point * self.tiles() + tile;
                        matrix[place * self.pixels + pixel] = factor as f32;
                    }
                }
            }
        }
        matrix
    }

    /// `[results, places]`: the pixels of the result from the points of all tiles.
    fn leave(self) -> Vec<f32> {
        let mut matrix = vec![0.0; self.results * self.places()];
        for result in 0..self.results {
            let (tile, offset) = (result / TILE, result % TILE);
            for (point, &factor) in A_TRANSPOSED[offset].iter().enumerate() {
                let place = point * self.tiles() + tile;
                matrix[result * self.places() + place] = factor as f32;
            }
        }
        matrix
    }
}

/// A convolution as tiles.
struct Tiling {
    sides: [Side; 2],
    inputs: usize,
    outputs: usize,
}

impl Tiling {
    fn of(graph: &Graph, value: Value) -> Option<(Tiling, &[Value])> {
        let (Op::Conv(conv), operands) = graph.operator(value)? else {
            return None;
        };
        let weight = graph.shape(operands[1]);
        let plain = conv.strides == [1, 1] && conv.dilations == [1, 1] && conv.groups == 1;
        if !plain || [weight.size(2), weight.size(3)] != [Some(3); 2] {
            return None;
        }
        let (x, y) = (graph.shape(operands[0]), graph.shape(value));
        let side = |axis: usize| {
            Some(Side {
                pixels: x.size(axis + 2)?,
                padding: conv.pads[axis],
                results: y.size(axis + 2)?,
            })
        };
        let tiling = Tiling {
            sides: [side(0)?, side(1)?],
            inputs: x.size(1)?,
            outputs: y.size(1)?,
        };
        // The only image is one of a batch of 1, as which shapes with the batch are reshaped.
        [Dim::BATCH, Dim::Size(1)]
            .contains(&x.0[0])
            .then_some((tiling, operands))
    }

    fn n_tiles(&self) -> usize {
        self.sides.iter().map(|side| side.tiles()).product()
    }

    fn at_once(&self) -> bool {
        self.sides.iter().map(|side| side.pixels).product::<usize>() <= MAX_PIXELS_AT_ONCE
    }

    fn pays(&self) -> bool {
        let blocks = self.inputs.is_multiple_of(BLOCK) && self.outputs.is_multiple_of(BLOCK);
        let [rows, columns] = self.sides;
        let channels = self.inputs * self.outputs;
        let direct = 9 * channels * rows.results * columns.results;
        let products = POINTS * POINTS * channels * self.n_tiles();
        let (enter, leave) = if self.at_once() {
            let places = rows.places() * columns.places();
            (
                places * rows.pixels * columns.pixels,
                places * rows.results * columns.results,
            )
        } else {
            (
                rows.places() * columns.pixels * (rows.pixels + columns.places()),
                rows.places() * columns.results * (columns.places() + rows.results),
            )
        };
        blocks && direct >= MIN_GAIN * (products + enter * self.inputs + leave * self.outputs)
    }
}

/// Writes one convolution out.
struct Spelling<'a> {
    graph: &'a mut Graph,
    name: String,
    tiling: Tiling,
}

impl Spelling<'_> {
    fn spelled(mut self, operands: &[Value]) -> Result<Value, Error> {
        let [rows, columns] = self.tiling.sides;
        let weight = self.points_of_weight(operands[1])?;
        let bias = match operands.get(2) {
            Some(&bias) => Some(self.points_of_bias(bias)?),
            None => None,
        };
        let x = self.transposed("pixels", operands[0], &[2, 3, 0, 1])?;
        let points = match self.tiling.at_once() {
            true => self.enter_at_once(x)?,
            false => self.enter_by_axes(x)?,
        };
        let products = self.products(points, weight, bias)?;
        let y = match self.tiling.at_once() {
            true => self.leave_at_once(products)?,
            false => self.leave_by_axes(products)?,
        };
        let outputs = Dim::Size(self.tiling.outputs);
        let [rows, columns] = [rows, columns].map(|side| Dim::Size(side.results));
        let y = self.reshaped("result", y, vec![rows, columns, Dim::BATCH, outputs])?;
        self.graph.apply(
            &self.name,
            Transpose {
                axes: vec![2, 3, 0, 1],
            },
            &[y],
        )
    }

    /// `[K, C, 3, 3]` → `[36·K, C, 1, 1]`.
    fn points_of_weight(&mut self, weight: Value) -> Result<Value, Error> {
        let Tiling {
            inputs, outputs, ..
        } = self.tiling;
        let taps = self.fixed("weight.taps", weight, &[outputs * inputs, 9])?;
        let mut matrix = vec![0.0; 9 * POINTS * POINTS];
        for tap in 0..9 {
            for point in 0..POINTS * POINTS {
                let [row, column] = [
                    G_TIMES_24[point / POINTS][tap / 3],
                    G_TIMES_24[point % POINTS][tap % 3],
                ];
                matrix[tap * POINTS * POINTS + point] = (row * column) as f32;
            }
        }
        let matrix = self.constant("weight.matrix", &[9, POINTS * POINTS], matrix);
        let points = self.product("weight.points", taps, matrix)?;
        let scale = self
            .graph
            .scalar(&self.named("weight.scale"), (24 * 24) as f32);
        let points =
            self.graph
                .apply(&self.named("weight.scaled"), Binary::Div, &[points, scale])?;
        let points = self.transposed("weight.by_point", points, &[1, 0])?;
        self.fixed(
            "weight.groups",
            points,
            &[POINTS * POINTS * outputs, inputs, 1, 1],
        )
    }

    /// `[K]` → `[36·K]`: at the point (1, 1), else zero.
    fn points_of_bias(&mut self, bias: Value) -> Result<Value, Error> {
        let outputs = self.tiling.outputs;
        let row = self.fixed("bias.row", bias, &[1, outputs])?;
        let mut column = vec![0.0; POINTS * POINTS];
        column[POINT_OF_ONES * POINTS + POINT_OF_ONES] = 1.0;
        let column = self.constant("bias.matrix", &[POINTS * POINTS, 1], column);
        let points = self.product("bias.points", column, row)?;
        self.fixed("bias.groups", points, &[POINTS * POINTS * outputs])
    }

    /// `[36·tiles, N·C]` or anything of the same elements → the same of the products, `[36·tiles·N, K]`.
    ///
    /// The tiles change places with the channels by one exchange of a whole matrix and one of whole rows. An exchange of two axes behind the
    /// points would be a small task for each of the 36, and on several threads the engine waits for all of them after each.
    fn products(
        &mut self,
        points: Value,
        weight: Value,
        bias: Option<Value>,
    ) -> Result<Value, Error> {
        let Tiling {
            inputs, outputs, ..
        } = self.tiling;
        let [rows, columns] = self.tiling.sides.map(Side::tiles);
        let n_points = POINTS * POINTS;
        let tiles = |outer: usize| around_batch(outer, 1);
        let x = self.reshaped(
            "points",
            points,
            vec![tiles(n_points * rows * columns), Dim::Size(inputs)],
        )?;
        let x = self.transposed("channels", x, &[1, 0])?;
        let x = self.reshaped(
            "channels.points",
            x,
            vec![
                Dim::Size(inputs),
                Dim::Size(n_points),
                tiles(rows * columns),
            ],
        )?;
        let x = self.transposed("points.channels", x, &[1, 0, 2])?;
        let groups = [1, n_points * inputs, rows].map(Dim::Size);
        let x = self.reshaped("groups", x, [&groups[..], &[tiles(columns)]].concat())?;
        let conv = Conv {
            groups: n_points,
            ..Conv::padded(0)
        };
        let operands: Vec<Value> = [x, weight].into_iter().chain(bias).collect();
        let y = self.graph.apply(&self.named("products"), conv, &operands)?;
        let by_point = vec![
            Dim::Size(n_points),
            Dim::Size(outputs),
            tiles(rows * columns),
        ];
        let y = self.reshaped("products.points", y, by_point)?;
        let y = self.transposed("products.channels", y, &[1, 0, 2])?;
        let y = self.reshaped(
            "products.places",
            y,
            vec![Dim::Size(outputs), tiles(n_points * rows * columns)],
        )?;
        self.transposed("products.tiles", y, &[1, 0])
    }

    /// `[H, W, N, C]` → `[36·tiles, N·C]`.
    fn enter_at_once(&mut self, x: Value) -> Result<Value, Error> {
        let [rows, columns] = self.tiling.sides;
        let pixels = rows.pixels * columns.pixels;
        let channels = around_batch(1, self.tiling.inputs);
        let x = self.reshaped("enter.pixels", x, vec![Dim::Size(pixels), channels])?;
        let places = rows.places() * columns.places();
        let [r, c] = [rows.enter(), columns.enter()];
        let mut matrix = vec![0.0; places * pixels];
        for (place, [row, column]) in places_in_order(rows, columns).enumerate() {
            for pixel in 0..pixels {
                let (i, j) = (pixel / columns.pixels, pixel % columns.pixels);
                matrix[place * pixels + pixel] =
                    r[row * rows.pixels + i] * c[column * columns.pixels + j];
            }
        }
        let matrix = self.constant("enter.matrix", &[places, pixels], matrix);
        self.product("enter", matrix, x)
    }

    /// `[36·tiles·N, K]` → `[H'·W', N·K]`.
    fn leave_at_once(&mut self, y: Value) -> Result<Value, Error> {
        let [rows, columns] = self.tiling.sides;
        let places = rows.places() * columns.places();
        let channels = around_batch(1, self.tiling.outputs);
        let y = self.reshaped("leave.places", y, vec![Dim::Size(places), channels])?;
        let results = rows.results * columns.results;
        let [r, c] = [rows.leave(), columns.leave()];
        let mut matrix = vec![0.0; results * places];
        for (place, [row, column]) in places_in_order(rows, columns).enumerate() {
            for result in 0..results {
                let (i, j) = (result / columns.results, result % columns.results);
                matrix[result * places + place] =
                    r[i * rows.places() + row] * c[j * columns.places() + column];
            }
        }
        let matrix = self.constant("leave.matrix", &[results, places], matrix);
        self.product("leave", matrix, y)
    }

    /// `[H, W, N, C]` → `[6, 6, rows of tiles, columns of tiles·N·C]`.
    fn enter_by_axes(&mut self, x: Value) -> Result<Value, Error> {
        let [rows, columns] = self.tiling.sides;
        let inputs = self.tiling.inputs;
        let shape = vec![Dim::Size(rows.pixels), around_batch(columns.pixels, inputs)];
        let x = self.reshaped("enter.rows", x, shape)?;
        let matrix = self.constant(
            "enter.rows.matrix",
            &[rows.places(), rows.pixels],
            rows.enter(),
        );
        let x = self.product("enter.rows.points", matrix, x)?;
        let shape = vec![
            Dim::Size(rows.places()),
            Dim::Size(columns.pixels),
            around_batch(1, inputs),
        ];
        let x = self.reshaped("enter.columns", x, shape)?;
        let matrix = self.constant(
            "enter.columns.matrix",
            &[columns.places(), columns.pixels],
            columns.enter(),
        );
        let x = self.product("enter.columns.points", matrix, x)?;
        let shape = [POINTS, rows.tiles(), POINTS].map(Dim::Size);
        let tiles = around_batch(columns.tiles(), inputs);
        let x = self.reshaped("enter.tiles", x, [&shape[..], &[tiles]].concat())?;
        self.transposed("enter", x, &[0, 2, 1, 3])
    }

    /// `[36·tiles·N, K]` → `[H', W'·N·K]`.
    fn leave_by_axes(&mut self, y: Value) -> Result<Value, Error> {
        let [rows, columns] = self.tiling.sides;
        let outputs = self.tiling.outputs;
        let shape = [POINTS, POINTS, rows.tiles()].map(Dim::Size);
        let tiles = around_batch(columns.tiles(), outputs);
        let y = self.reshaped("leave.tiles", y, [&shape[..], &[tiles]].concat())?;
        let y = self.transposed("leave.places", y, &[0, 2, 1, 3])?;
        let shape = vec![
            Dim::Size(rows.places()),
            Dim::Size(columns.places()),
            around_batch(1, outputs),
        ];
        let y = self.reshaped("leave.columns", y, shape)?;
        let matrix = self.constant(
            "leave.columns.matrix",
            &[columns.results, columns.places()],
            columns.leave(),
        );
        let y = self.product("leave.columns.pixels", matrix, y)?;
        let shape = vec![
            Dim::Size(rows.places()),
            around_batch(columns.results, outputs),
        ];
        let y = self.reshaped("leave.rows", y, shape)?;
        let matrix = self.constant(
            "leave.rows.matrix",
            &[rows.results, rows.places()],
            rows.leave(),
        );
        self.product("leave", matrix, y)
    }

    fn named(&self, suffix: &str) -> String {
        format!("{}.winograd.{suffix}", self.name)
    }

    fn constant(&mut self, suffix: &str, sizes: &[usize], data: Vec<f32>) -> Value {
        let name = self.named(suffix);
        self.graph.constant(&name, Tensor::new(sizes, data))
    }

    fn fixed(&mut self, suffix: &str, x: Value, sizes: &[usize]) -> Result<Value, Error> {
        self.reshaped(suffix, x, Shape::fixed(sizes).0)
    }

    fn reshaped(&mut self, suffix: &str, x: Value, dims: Vec<Dim>) -> Result<Value, Error> {
        let name = self.named(suffix);
        let shape = Shape(dims);
        self.graph.apply(&name, Reshape { shape }, &[x])
    }

    fn transposed(&mut self, suffix: &str, x: Value, axes: &[usize]) -> Result<Value, Error> {
        let name = self.named(suffix);
        let axes = axes.to_vec();
        self.graph.apply(&name, Transpose { axes }, &[x])
    }

    fn product(&mut self, suffix: &str, left: Value, right: Value) -> Result<Value, Error> {
        let name = self.named(suffix);
        self.graph.apply(&name, MatMul, &[left, right])
    }
}

/// The axis `outer·N·inner`.
fn around_batch(outer: usize, inner: usize) -> Dim {
    Dim::Batch { outer, inner }
}

/// Row and column among the places of the sides, points before tiles: `[point of rows, point of columns, tile of rows, tile of columns]`.
fn places_in_order(rows: Side, columns: Side) -> impl Iterator<Item = [usize; 2]> {
    let points = (0..POINTS).flat_map(|i| (0..POINTS).map(move |j| [i, j]));
    points.flat_map(move |[i, j]| {
        let tiles = (0..rows.tiles()).flat_map(move |t| (0..columns.tiles()).map(move |s| [t, s]));
        tiles.map(move |[t, s]| [i * rows.tiles() + t, j * columns.tiles() + s])
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::graph::op::Operator;
    use crate::transform::rewrite::Rewrite;
    use crate::transform::rewrite::testing::{check_rewrite, check_same, operators};

    fn convolved(conv: Conv, channels: [usize; 2], kernel: usize, image: [usize; 2]) -> Graph {
        let mut graph = Graph::new();
        let [inputs, outputs] = channels;
        let x = graph
            .input("x", Shape::batched(&[inputs, image[0], image[1]]))
            .unwrap();
        let weight = graph
            .weight("weight", &[outputs, inputs / conv.groups, kernel, kernel])
            .unwrap();
        let bias = graph.weight("bias", &[outputs]).unwrap();
        let y = graph.apply("y", conv, &[x, weight, bias]).unwrap();
        graph.set_output("y", y);
        graph
    }

    fn multiplications(graph: &Graph) -> usize {
        let dynamic = graph.is_dynamic();
        graph
            .values()
            .filter(|value| dynamic[value.0])
            .filter_map(|value| {
                let (op, inputs) = graph.operator(value)?;
                let inputs: Vec<&Shape> = inputs.iter().map(|&input| graph.shape(input)).collect();
                Some(op.multiplications(&inputs, graph.shape(value)))
            })
            .sum()
    }

    #[test]
    fn large_convolutions_have_less_than_half_of_their_multiplications() {
        for (rewrite, channels, extent) in [
            (Rewrite::Winograd, 64, 16),
            (Rewrite::WinogradSmall, 128, 8),
        ] {
            let graph = convolved(Conv::padded(1), [channels; 2], 3, [extent; 2]);
            let rewritten = crate::transform::rewrite::apply(&graph, &[rewrite]).unwrap();
            assert!(operators(&rewritten).contains(&"MatMul"), "{rewrite}");
            assert!(
                2 * multiplications(&rewritten) <= multiplications(&graph),
                "{rewrite}"
            );
        }
    }

    #[test]
    fn convolutions_that_do_not_pay_stay() {
        let grouped = Conv {
            groups: 2,
            ..Conv::padded(1)
        };
        let strided = Conv {
            strides: [2, 2],
            ..Conv::padded(1)
        };
        let dilated = Conv {
            dilations: [2, 2],
            ..Conv::padded(2)
        };
        for (case, conv, channels, kernel, extent) in [
            ("few channels", Conv::padded(1), [16, 16], 3, 32),
            (
                "channels that are no blocks",
                Conv::padded(1),
                [72, 72],
                3,
                16,
            ),
            ("few tiles", Conv::padded(1), [64, 64], 3, 8),
            ("pointwise", Conv::padded(0), [64, 64], 1, 16),
            ("groups", grouped, [64, 64], 3, 16),
            ("stride", strided, [64, 64], 3, 32),
            ("dilation", dilated, [64, 64], 3, 16),
        ] {
            let graph = convolved(conv, channels, kernel, [extent, extent]);
            let rewritten = crate::transform::rewrite::apply(&graph, &[Rewrite::Winograd]).unwrap();
            assert_eq!(operators(&rewritten), ["Conv"], "{case}");
        }
    }

    #[test]
    fn one_tile_is_never_rewritten() {
        let graph = convolved(Conv::padded(1), [64, 64], 3, [4, 4]);
        for rewrite in [Rewrite::Winograd, Rewrite::WinogradSmall] {
            let rewritten = crate::transform::rewrite::apply(&graph, &[rewrite]).unwrap();
            assert_eq!(operators(&rewritten), ["Conv"]);
        }
    }

    #[test]
    fn a_convolution_that_pays_keeps_its_value() {
        let graph = convolved(Conv::padded(1), [64, 48], 3, [16, 16]);
        let x = graph.input_named("x").unwrap();
        let of_one_image = graph.rebuild(|target, _, value| {
            let shape = Shape::fixed(&[1, 64, 16, 16]);
            (value == x).then(|| target.input("x", shape)).transpose()
        });
        for graph in [graph, of_one_image.unwrap()] {
            let rewritten = check_rewrite(&graph, Rewrite::Winograd, 1);
            assert!(operators(&rewritten).contains(&"MatMul"));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Images of any extent, also those that are not a multiple of a tile, with any padding, transformed at once or axis by axis.
        #[test]
        fn keeps_the_value(
            rows in 3usize..16, columns in 3usize..16, pads in proptest::array::uniform4(0usize..3),
            inputs in 1usize..4, outputs in 1usize..4, seed in 0u64..1000,
        ) {
            let conv = Conv { pads, ..Conv::padded(0) };
            let graph = convolved(conv, [inputs, outputs], 3, [rows, columns]);
            let rewritten = rewritten_where(&graph, |_| true).unwrap();
            prop_assert!(operators(&rewritten).contains(&"MatMul"));
            check_same(&graph, &rewritten, Rewrite::Winograd, seed);
        }
    }
}
