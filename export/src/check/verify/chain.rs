//! Langevin dynamics in f64, one step after the other.

use ndarray::{Array1, ArrayD, Axis};

use super::difference::norm;
use super::function::{Function, Point};
use crate::error::Result;

/// How steps go: `x − (ε²/(2T))·∇E(x) + ε·noise`, the drift no longer than the limit.
#[derive(Clone, Copy, Debug)]
pub struct Dynamics {
    step_size: f64,
    rate: f64,
    clip: Option<f64>,
}

/// What a run of steps gives.
#[derive(Clone, Debug)]
pub struct Chain {
    /// The sum of all drifts: what the last state lacks of the first and the noise.
    pub drift: ArrayD<f64>,
    /// E before each step.
    pub energies: ArrayD<f64>,
    /// ‖∇E‖ before each step.
    pub norms: ArrayD<f64>,
}

impl Dynamics {
    /// Those of a point, which holds ε and T.
    pub fn of(point: &Point, clip: Option<f64>) -> Dynamics {
        let number = |name: &str| point.get(name).map_or(0.0, |array| array.sum());
        let [step_size, temperature] = ["step_size", "temperature"].map(number);
        Dynamics {
            step_size,
            rate: step_size * step_size / (2.0 * temperature),
            clip,
        }
    }

    /// What a drift of that length is scaled by.
    fn scale(&self, length: f64) -> f64 {
        match self.clip {
            Some(clip) if length > clip => clip / length,
            _ => 1.0,
        }
    }

    /// The gradient that a step to `next` went down, if its norm is the one that is claimed.
    pub fn gradient(
        &self,
        point: &Point,
        input: &str,
        next: &ArrayD<f64>,
        claimed_norm: f64,
    ) -> ArrayD<f64> {
        let scale = self.rate * self.scale(claimed_norm * self.rate);
        self.drift(point, input, next) / scale
    }

    /// The sum of all drifts of a run that ended at `next`.
    pub fn drift(&self, point: &Point, input: &str, next: &ArrayD<f64>) -> ArrayD<f64> {
        let (x, noise) = (&point[input], &point["noise"]);
        let diffusion = match noise.ndim() > x.ndim() {
            true => noise.sum_axis(Axis(0)),
            false => noise.clone(),
        };
        x + &(diffusion * self.step_size) - next
    }

    /// So many steps from the point's x with its noise, `[1, …]` of one step, `[count, 1, …]` of several.
    pub fn chain(
        &self,
        energy: &Function,
        gradient: &Function,
        point: &Point,
        count: usize,
    ) -> Result<Chain> {
        let (start, mut point) = (point, point.clone());
        let (mut energies, mut norms) = (Vec::new(), Vec::new());
        for step in 0..count {
            let slope = gradient.at(&point)?;
            let length = norm(&slope);
            energies.push(energy.at(&point)?.sum());
            norms.push(length);
            let drift = slope * (self.rate * self.scale(length * self.rate));
            let noise = match count {
                1 => start["noise"].clone(),
                _ => start["noise"].index_axis(Axis(0), step).to_owned(),
            };
            if let Some(x) = point.get_mut(gradient.input()) {
                *x = &*x - &drift + noise * self.step_size;
            }
        }
        Ok(Chain {
            drift: self.drift(start, gradient.input(), &point[gradient.input()]),
            energies: Array1::from_vec(energies).into_dyn(),
            norms: Array1::from_vec(norms).into_dyn(),
        })
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{IxDyn, array};

    use super::*;
    use crate::check::verify::Weights;
    use crate::graph::op::{Binary, KeepDims, Reduce, ReduceKind};
    use crate::graph::{Graph, Shape};

    /// `E(x) = Σ x²`, so `∇E = 2x`.
    fn quadratic() -> Function {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[2])).unwrap();
        let square = graph.apply("square", Binary::Mul, &[x, x]).unwrap();
        let sum = Reduce {
            kind: ReduceKind::Sum,
            axes: vec![1],
            keep_dims: KeepDims::No,
        };
        let energy = graph.apply("energy", sum, &[square]).unwrap();
        graph.set_output("energy", energy);
        Function::new(&graph, &Weights::default(), "x", "energy").unwrap()
    }

    /// Without noise, `ε²/(2T) = ¼` halves x with every step; a drift longer than 1 is shortened to 1.
    #[test]
    fn chains_on_a_quadratic_energy_have_their_closed_forms() {
        let energy = quadratic();
        let gradient = energy.derivative().unwrap();
        let number = |value: f64| ArrayD::from_elem(IxDyn(&[]), value);
        let point = Point::from([
            ("x".to_string(), array![[3.0, 4.0]].into_dyn()),
            ("noise".to_string(), ArrayD::zeros(IxDyn(&[2, 1, 2]))),
            ("step_size".to_string(), number(1.0)),
            ("temperature".to_string(), number(2.0)),
        ]);
        for (clip, drift, lengths) in [(None, 3.75, [5.0, 2.5]), (Some(1.0), 2.0, [5.0, 4.0])] {
            let dynamics = Dynamics::of(&point, clip);
            let chain = dynamics.chain(&energy, &gradient, &point, 2).unwrap();
            assert!((norm(&chain.drift) - drift).abs() < 1e-12, "{clip:?}");
            for (step, length) in lengths.into_iter().enumerate() {
                assert!(
                    (chain.norms[[step]] - 2.0 * length).abs() < 1e-12,
                    "{clip:?}"
                );
                assert!(
                    (chain.energies[[step]] - length * length).abs() < 1e-12,
                    "{clip:?}"
                );
            }
        }
    }

    /// What a step went down is recovered from where it ended, clipped or not.
    #[test]
    fn a_step_shows_its_gradient() {
        let number = |value: f64| ArrayD::from_elem(IxDyn(&[]), value);
        let x = array![[3.0, 4.0]].into_dyn();
        let noise = array![[1.0, -1.0]].into_dyn();
        let point = Point::from([
            ("x".to_string(), x.clone()),
            ("noise".to_string(), noise.clone()),
            ("step_size".to_string(), number(1.0)),
            ("temperature".to_string(), number(2.0)),
        ]);
        for (clip, scale) in [(None, 1.0), (Some(1.0), 0.4)] {
            let next = &x - &(&x * (0.5 * scale)) + &noise;
            let gradient = Dynamics::of(&point, clip).gradient(&point, "x", &next, 10.0);
            assert!(norm(&(gradient - &x * 2.0)) < 1e-12, "{clip:?}");
        }
    }
}
