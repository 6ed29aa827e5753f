//! Energy-based learning from scratch, with nothing but arrays: `from_scratch [PICTURE.pgm] [UPDATES]`.
//!
//! An energy network gives each point x one number E(x): low for likely points, high for the others. It stands for the density
//! exp(-E(x)) / Z, whose constant Z nobody needs to know:
//!
//! - Langevin dynamics draws samples. It walks downhill in E and adds noise: x ← x - ε²/2 · ∇E(x) + ε · noise.
//! - Learning makes data likely. It lowers E of data and raises E of samples, until both have the same energies.
//!
//! The programs of this project do the same with images instead of points, and with convolutions instead of three small matrices.

use ndarray::{Array1, Array2, Axis, s};

/// Points and other tables have a row for each point.
type Table = Array2<f32>;

const HIDDEN: usize = 64;
/// Points of a batch, and chains that go on from update to update.
const BATCH: usize = 256;
/// The step size ε, which is also the standard deviation of the noise.
const STEP_SIZE: f32 = 0.05;
/// Langevin steps of each update.
const STEPS: usize = 10;
/// Chains that start anew at each update in place of the oldest ones, so that no region stays unvisited.
const FRESH: usize = 8;
const LEARNING_RATE: f32 = 3e-3;
/// The points lie in the square from -EXTENT to EXTENT.
const EXTENT: f32 = 2.0;
/// Pixels along each side of the three squares of the picture.
const PIXELS: usize = 200;

/// Random numbers: SplitMix64, and normal ones by the method of Box and Muller.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 40) as f32 / (1u32 << 24) as f32
    }

    fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f32::consts::TAU * self.uniform()).cos()
    }
}

/// Points on the two arms of a spiral, [n, 2]: what is to be learned.
fn data(n: usize, random: &mut Random) -> Table {
    let mut points = Table::zeros((n, 2));
    for mut point in points.rows_mut() {
        let along = random.uniform().sqrt();
        let arm = std::f32::consts::PI * (2.0 * random.uniform()).floor();
        let (angle, radius) = (4.5 * along + arm, 1.7 * along);
        point[0] = radius * angle.cos() + 0.06 * random.normal();
        point[1] = radius * angle.sin() + 0.06 * random.normal();
    }
    points
}

/// Points anywhere in the square, [n, 2]: where chains start.
fn anywhere(n: usize, random: &mut Random) -> Table {
    Table::from_shape_simple_fn((n, 2), || EXTENT * (2.0 * random.uniform() - 1.0))
}

/// E(x) = silu(silu(x·A + a)·B + b)·c + |x|²/8. The last term keeps far points unlikely. The weights are A, a, B, b and c.
struct Network([Table; 5]);

fn silu(z: f32) -> f32 {
    z / (1.0 + (-z).exp())
}
fn silu_slope(z: f32) -> f32 {
    let sigmoid = 1.0 / (1.0 + (-z).exp());
    sigmoid * (1.0 + z * (1.0 - sigmoid))
}

impl Network {
    fn new(random: &mut Random) -> Self {
        let mut normal = |n_in, n_out, deviation: f32| {
            Table::from_shape_simple_fn((n_in, n_out), || deviation * random.normal())
        };
        let deep = (2.0 / HIDDEN as f32).sqrt();
        let [a, bias_a] = [2, 1].map(|n| normal(n, HIDDEN, 2.0));
        let [b, bias_b] = [HIDDEN, 1].map(|n| normal(n, HIDDEN, deep));
        Self([a, bias_a, b, bias_b, normal(HIDDEN, 1, deep)])
    }

    /// What the two hidden layers are given, [n, HIDDEN] each.
    fn forward(&self, x: &Table) -> [Table; 2] {
        let first = x.dot(&self.0[0]) + &self.0[1];
        let second = first.mapv(silu).dot(&self.0[2]) + &self.0[3];
        [first, second]
    }

    /// E of each point, `[n]`.
    fn energy(&self, x: &Table) -> Array1<f32> {
        let learned = self.forward(x)[1]
            .mapv(silu)
            .dot(&self.0[4])
            .remove_axis(Axis(1));
        learned + x.mapv(|x| x * x / 8.0).sum_axis(Axis(1))
    }

    /// ∂E/∂first and ∂E/∂second by the chain rule, from the last layer to the first.
    fn backward(&self, [first, second]: &[Table; 2]) -> [Table; 2] {
        let second = second.mapv(silu_slope) * self.0[4].t();
        let first = second.dot(&self.0[2].t()) * first.mapv(silu_slope);
        [first, second]
    }

    /// ∇E(x) of each point, [n, 2]: the way uphill.
    fn gradient(&self, x: &Table) -> Table {
        let [by_first, _] = self.backward(&self.forward(x));
        by_first.dot(&self.0[0].t()) + x / 4.0
    }

    /// The gradient of the mean energy of the points with respect to each of the weights.
    fn weight_gradient(&self, x: &Table) -> [Table; 5] {
        let layers = self.forward(x);
        let [by_first, by_second] = self.backward(&layers);
        let [first, second] = layers.map(|layer| layer.mapv(silu));
        let ones = Table::ones((x.nrows(), 1));
        let [a, b] = [x.t().dot(&by_first), first.t().dot(&by_second)];
        let [bias_a, bias_b] = [by_first, by_second].map(|by| ones.t().dot(&by));
        let c = second.t().dot(&ones);
        [a, bias_a, b, bias_b, c].map(|sum| sum / x.nrows() as f32)
    }
}

/// Langevin dynamics: `n_steps` steps of all points, each downhill and with noise.
fn langevin(network: &Network, mut x: Table, n_steps: usize, random: &mut Random) -> Table {
    for _ in 0..n_steps {
        x = &x - network.gradient(&x) * (STEP_SIZE * STEP_SIZE / 2.0);
        x.mapv_inplace(|x| x + STEP_SIZE * random.normal());
    }
    x
}

/// Learns the network by RMSprop: each weight moves by its gradient over the root of the gradient's mean square.
fn learn(n_updates: usize, random: &mut Random) -> Network {
    let mut network = Network::new(random);
    let mut squares = network.0.each_ref().map(|weights| 0.0 * weights);
    let mut chains = anywhere(BATCH, random);
    for update in 1..=n_updates {
        let next = update * FRESH % BATCH;
        let mut oldest = chains.slice_mut(s![next..next + FRESH, ..]);
        oldest.assign(&anywhere(FRESH, random));
        chains = langevin(&network, chains, STEPS, random);
        let points = data(BATCH, random);
        if update.is_power_of_two() || update == n_updates {
            let energies = [&points, &chains].map(|x| network.energy(x).sum() / BATCH as f32);
            println!("update {update}: mean energies of data and samples {energies:.2?}");
        }
        // The whole of learning: down where data are, up where samples are.
        let [down, up] = [&points, &chains].map(|x| network.weight_gradient(x));
        let rate = LEARNING_RATE * (1.0 - update as f32 / (n_updates + 1) as f32);
        for (index, weights) in network.0.iter_mut().enumerate() {
            let g = &down[index] - &up[index];
            squares[index] = 0.99 * &squares[index] + 0.01 * (&g * &g);
            *weights -= &(rate * g / (squares[index].mapv(f32::sqrt) + 1e-8));
        }
    }
    network
}

/// Data, samples, and the density exp(-E), side by side, dark where there is much.
fn picture(network: &Network, points: &Table, samples: &Table) -> Vec<u8> {
    let centre = |pixel: usize| EXTENT * (2.0 * (pixel as f32 + 0.5) / PIXELS as f32 - 1.0);
    let grid = |(i, axis): (usize, usize)| centre([i % PIXELS, i / PIXELS][axis]);
    let energies = network.energy(&Table::from_shape_fn((PIXELS * PIXELS, 2), grid));
    let lowest = energies.fold(f32::INFINITY, |lowest, energy| lowest.min(*energy));
    let mut grey = Array2::from_elem((PIXELS, 3 * PIXELS), 255u8);
    for (i, energy) in energies.indexed_iter() {
        let density = 255.0 * (lowest - energy).exp();
        grey[[i / PIXELS, 2 * PIXELS + i % PIXELS]] -= density as u8;
    }
    for (square, points) in [points, samples].into_iter().enumerate() {
        for point in points.rows() {
            let at = point.mapv(|x| ((x / EXTENT + 1.0) / 2.0 * PIXELS as f32).floor());
            if at.iter().all(|at| (0.0..PIXELS as f32).contains(at)) {
                let pixel = &mut grey[[at[1] as usize, square * PIXELS + at[0] as usize]];
                *pixel = pixel.saturating_sub(100);
            }
        }
    }
    let header = format!("P5 {} {PIXELS} 255\n", 3 * PIXELS).into_bytes();
    header.into_iter().chain(grey).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().unwrap_or("from_scratch.pgm".to_string());
    let n_updates = arguments.next().map_or(Ok(2000), |n| n.parse())?;
    let mut random = Random(1);
    let network = learn(n_updates, &mut random);
    let samples = langevin(&network, anywhere(2000, &mut random), 500, &mut random);
    std::fs::write(&file, picture(&network, &data(2000, &mut random), &samples))?;
    println!("{file}: data, samples and density");
    Ok(())
}
