//! Images of another size by linear interpolation, as products with constant matrices: one for the rows, one for the columns.

use super::layers::Layers;
use crate::error::Result;
use crate::graph::Value;
use crate::graph::op::MatMul;
use crate::graph::tensor::Tensor;

impl Layers {
    /// `[N, C, H, W] → [N, C, height, width]`, bilinear. Pixels are areas whose centres lie half a pixel from the edge, as with
    /// `align_corners=False` in PyTorch and `half_pixel` in ONNX; beyond the outermost centres the image goes on as it ends; nothing is
    /// smoothed before it is made smaller.
    pub fn resized(&mut self, name: &str, x: Value, [height, width]: [usize; 2]) -> Result<Value> {
        let rows = matrix(self.extent(x, 2), height);
        let columns = transposed(&matrix(self.extent(x, 3), width));
        let rows = self.0.constant(&format!("{name}.rows"), rows);
        let columns = self.0.constant(&format!("{name}.columns"), columns);
        let wide = self
            .0
            .apply(&format!("{name}.wide"), MatMul, &[x, columns])?;
        self.0.apply(name, MatMul, &[rows, wide])
    }

    /// Twice as many rows and columns, bilinear.
    pub fn doubled(&mut self, name: &str, x: Value) -> Result<Value> {
        let sizes = [2, 3].map(|axis| 2 * self.extent(x, axis));
        self.resized(name, x, sizes)
    }
}

/// `[to, from]`: row i holds the weights with which the `from` old values make new value i. Its centre lies at `(i + ½)·from/to − ½`.
fn matrix(from: usize, to: usize) -> Tensor {
    let mut weights = vec![0.0; from * to];
    for (index, row) in weights.chunks_mut(from.max(1)).enumerate() {
        let centre = (index as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let centre = centre.clamp(0.0, (from - 1) as f64);
        let below = centre.floor() as usize;
        let share = centre - below as f64;
        row[below] += (1.0 - share) as f32;
        row[(below + 1).min(from - 1)] += share as f32;
    }
    Tensor::new(&[to, from], weights)
}

fn transposed(matrix: &Tensor) -> Tensor {
    let [rows, columns] = [matrix.shape()[0], matrix.shape()[1]];
    let data =
        (0..rows * columns).map(|index| matrix.data()[index % rows * columns + index / rows]);
    Tensor::new(&[columns, rows], data.collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ndarray::array;

    use super::*;
    use crate::graph::reference::evaluate;
    use crate::graph::{Graph, Shape};

    /// Twice as large: quarters and three quarters inside, and the edge as it is.
    #[test]
    fn doubling_has_its_closed_form() {
        assert_eq!(
            matrix(2, 4).data(),
            [1.0, 0.0, 0.75, 0.25, 0.25, 0.75, 0.0, 1.0]
        );
        let mut layers = Layers(Graph::new());
        let x = layers.0.input("x", Shape::batched(&[1, 2, 2])).unwrap();
        let doubled = layers.doubled("doubled", x).unwrap();
        layers.0.set_output("doubled", doubled);
        // x = 4·row + 8·column.
        let x = array![[[[0.0, 8.0], [4.0, 12.0]]]].into_dyn();
        let values = BTreeMap::from([("x".to_string(), x)]);
        let wanted = array![[[
            [0.0, 2.0, 6.0, 8.0],
            [1.0, 3.0, 7.0, 9.0],
            [3.0, 5.0, 9.0, 11.0],
            [4.0, 6.0, 10.0, 12.0]
        ]]];
        assert_eq!(
            evaluate(&layers.0, &values).unwrap()["doubled"],
            wanted.into_dyn()
        );
    }

    /// Values of `F.interpolate(…, mode="bilinear", align_corners=False)` of PyTorch 2.11 on a row of the squares of 0 to 7.
    #[test]
    fn other_sizes_are_those_of_pytorch() {
        let row = [0.0, 1.0, 4.0, 9.0, 16.0, 25.0, 36.0, 49.0];
        let cases: [&[f32]; 4] = [
            &[0.833333, 12.5, 38.166667],
            &[0.5, 6.5, 20.5, 42.5],
            &[
                0.071429, 1.642857, 5.785714, 12.5, 21.785714, 33.642857, 48.07143,
            ],
            &[
                0.0, 0.590909, 1.954545, 4.227273, 7.863636, 12.5, 18.045455, 24.590909, 32.5,
                41.318182, 49.0,
            ],
        ];
        for wanted in cases {
            let matrix = matrix(8, wanted.len());
            let product =
                |weights: &[f32]| weights.iter().zip(row).map(|(w, x)| w * x).sum::<f32>();
            for (weights, wanted) in matrix.data().chunks(8).zip(wanted) {
                let got = product(weights);
                assert!((got - wanted).abs() < 1e-5, "{got}, expected {wanted}");
            }
        }
    }
}
