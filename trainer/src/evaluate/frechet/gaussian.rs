//! Gaussians fitted on features, and the Fréchet distance between them (Dowson and Landau 1982; Heusel et al. 2017).

use anyhow::{Result, ensure};
use tch::{Device, Kind, Tensor};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

/// Mean and covariance of features.
#[derive(Debug)]
pub struct Gaussian {
    /// Images that it was fitted on; none where others fitted it and did not say.
    pub n: Option<usize>,
    /// f64 `[d]`.
    pub mean: Tensor,
    /// f64 `[d, d]`.
    pub covariance: Tensor,
}

impl Gaussian {
    /// The square of the Fréchet distance, which is what papers print:
    /// `‖μ₁ − μ₂‖² + tr Σ₁ + tr Σ₂ − 2·tr (Σ₁Σ₂)^½`.
    ///
    /// The last trace is that of `(Σ₁^½·Σ₂·Σ₁^½)^½`, which is symmetric; covariances need not have full rank.
    ///
    /// # Errors
    /// The Gaussians are of different dimensions, or a number is not finite.
    pub fn frechet_distance(&self, other: &Gaussian) -> Result<f64> {
        ensure!(
            self.mean.size() == other.mean.size(),
            "one of the Gaussians is of {} features, the other of {}",
            self.mean.size()[0],
            other.mean.size()[0]
        );
        let root = root(&self.covariance)?;
        let product = root.f_matmul(&other.covariance)?.f_matmul(&root)?;
        let root_trace = eigenvalues(&product)?.f_sqrt()?.f_sum(Kind::Double)?;
        let between = self.mean.f_sub(&other.mean)?.f_square()?;
        let spread = self.covariance.f_trace()? + other.covariance.f_trace()?;
        let distance = between.f_sum(Kind::Double)? + spread - root_trace * 2.0;
        let distance = distance.double_value(&[]);
        ensure!(
            distance.is_finite(),
            "the Fréchet distance is {distance}: the features are not finite"
        );
        // Between equal Gaussians rounding may leave a little less than nothing.
        Ok(distance.max(0.0))
    }
}

/// `Σ^½` of a symmetric matrix without negative eigenvalues but those of rounding.
fn root(matrix: &Tensor) -> Result<Tensor> {
    let (values, vectors) = symmetric(matrix)?.f_linalg_eigh("L")?;
    let scaled = vectors.f_mul(&values.f_clamp_min(0.0)?.f_sqrt()?)?;
    Ok(scaled.f_matmul(&vectors.f_transpose(0, 1)?)?)
}

/// Those of such a matrix, `[d]`.
fn eigenvalues(matrix: &Tensor) -> Result<Tensor> {
    Ok(symmetric(matrix)?
        .f_linalg_eigvalsh("L")?
        .f_clamp_min(0.0)?)
}

/// The matrix without the asymmetry of rounding.
fn symmetric(matrix: &Tensor) -> Result<Tensor> {
    let n_finite = matrix.f_isfinite()?.f_sum(Kind::Int64)?.int64_value(&[]);
    ensure!(
        n_finite as usize == matrix.numel(),
        "the covariance of the features is not finite"
    );
    Ok(matrix
        .f_add(&matrix.f_transpose(0, 1)?)?
        .f_mul_scalar(0.5)?)
}

/// Mean and scatter of features so far, in f64: batches are joined by the formula of Chan, Golub and LeVeque (1983), which is stable.
#[derive(Debug)]
pub struct Moments {
    n: usize,
    mean: Tensor,
    /// `Σ (x − mean)(x − mean)ᵀ`.
    scatter: Tensor,
}

impl Moments {
    /// Of no images.
    pub fn new(n_features: usize) -> Moments {
        let d = n_features as i64;
        Moments {
            n: 0,
            mean: Tensor::zeros([d], F64),
            scatter: Tensor::zeros([d, d], F64),
        }
    }

    /// Adds the features of a batch, `[n, d]`.
    pub fn add(&mut self, features: &Tensor) -> Result<()> {
        let features = features.to_device(Device::Cpu).f_to_kind(Kind::Double)?;
        let n = features.size()[0] as usize;
        let mean = features.f_mean_dim([0i64].as_slice(), false, Kind::Double)?;
        let centred = features.f_sub(&mean)?;
        let scatter = centred.f_transpose(0, 1)?.f_matmul(&centred)?;
        let total = self.n + n;
        let distance = mean.f_sub(&self.mean)?;
        let between = distance.f_outer(&distance)?;
        let factor = (self.n as f64) * (n as f64) / total as f64;
        self.scatter = self
            .scatter
            .f_add(&scatter)?
            .f_add(&between.f_mul_scalar(factor)?)?;
        self.mean = self
            .mean
            .f_add(&distance.f_mul_scalar(n as f64 / total as f64)?)?;
        self.n = total;
        Ok(())
    }

    /// The Gaussian with the unbiased covariance.
    ///
    /// # Errors
    /// There are not more images than features, so that they determine no covariance; or a feature is not finite.
    pub fn gaussian(self) -> Result<Gaussian> {
        let d = self.mean.size()[0] as usize;
        ensure!(
            self.n > d,
            "{} images do not determine the covariance of {d} features: expected more than {d}; take more images, or a layer of fewer features with --layer",
            self.n
        );
        Ok(Gaussian {
            n: Some(self.n),
            covariance: self.scatter.f_div_scalar(self.n as f64 - 1.0)?,
            mean: self.mean,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::machine::randomness::seeded;

    fn matrix(rows: &[Vec<f64>]) -> Tensor {
        let flat: Vec<f64> = rows.iter().flatten().copied().collect();
        Tensor::from_slice(&flat).view([rows.len() as i64, -1])
    }

    fn diagonal(means: &[f64], variances: &[f64]) -> Gaussian {
        Gaussian {
            n: None,
            mean: Tensor::from_slice(means),
            covariance: Tensor::from_slice(variances).diag(0),
        }
    }

    /// The same Gaussian in other coordinates.
    fn rotated(gaussian: &Gaussian, rotation: &Tensor) -> Gaussian {
        Gaussian {
            n: None,
            mean: rotation.matmul(&gaussian.mean),
            covariance: rotation
                .matmul(&gaussian.covariance)
                .matmul(&rotation.transpose(0, 1)),
        }
    }

    fn random_rotation(d: i64) -> Tensor {
        let _draws = seeded(4);
        Tensor::linalg_qr(&Tensor::randn([d, d], F64), "reduced").0
    }

    /// Where covariances commute the distance is `Σ (μ₁ − μ₂)² + (σ₁ − σ₂)²`, in any coordinates.
    #[test]
    fn diagonal_and_rotated_gaussians_have_the_closed_form() {
        let cases = [
            ([[0.0, 0.0], [3.0, 4.0]], [[1.0, 1.0], [1.0, 1.0]], 25.0),
            ([[0.0, 0.0], [0.0, 0.0]], [[4.0, 9.0], [1.0, 1.0]], 5.0),
            ([[1.0, 2.0], [0.0, 2.0]], [[4.0, 0.25], [1.0, 4.0]], 4.25),
            // Of lower rank, in the same and in different directions.
            ([[0.0, 0.0], [0.0, 0.0]], [[4.0, 0.0], [1.0, 0.0]], 1.0),
            ([[0.0, 0.0], [0.0, 0.0]], [[4.0, 0.0], [0.0, 1.0]], 5.0),
        ];
        for (means, variances, wanted) in cases {
            let [one, other] = [0, 1].map(|which| diagonal(&means[which], &variances[which]));
            let rotation = random_rotation(2);
            for (one, other) in [
                (rotated(&one, &rotation), rotated(&other, &rotation)),
                (one, other),
            ] {
                let distance = one.frechet_distance(&other).unwrap();
                assert!((distance - wanted).abs() < 1e-7, "{distance} {wanted}");
                let back = other.frechet_distance(&one).unwrap();
                assert!((distance - back).abs() < 1e-7, "{distance} {back}");
                assert!(one.frechet_distance(&one).unwrap() < 1e-7);
            }
        }
    }

    /// `Σ₂ = R·Σ₁·Rᵀ` with Σ₁ = diag(a, b) and a rotation by 90°: the distance is `2·(√a − √b)²`.
    #[test]
    fn a_gaussian_and_itself_turned_have_the_closed_form() {
        let quarter = matrix(&[vec![0.0, -1.0], vec![1.0, 0.0]]);
        let one = diagonal(&[0.0, 0.0], &[9.0, 0.25]);
        let distance = one.frechet_distance(&rotated(&one, &quarter)).unwrap();
        assert!((distance - 2.0 * 2.5 * 2.5).abs() < 1e-9, "{distance}");
    }

    #[derive(Deserialize)]
    struct Golden {
        name: String,
        x: Vec<Vec<f64>>,
        y: Vec<Vec<f64>>,
        covariance_x: Vec<Vec<f64>>,
        distance: f64,
    }

    /// `trainer/tests/frechet/make.py` made them with numpy, through the eigenvalues of the product, which is not symmetric.
    #[test]
    fn sets_have_the_distances_of_numpy() {
        let text = include_str!("../../../tests/frechet/golden.json");
        let cases: Vec<Golden> = serde_json::from_str(text).unwrap();
        assert!(cases.len() >= 3);
        for golden in cases {
            let [x, y] = [&golden.x, &golden.y].map(|rows| fitted(&matrix(rows), &[7, 1, 12]));
            let difference = (&x.covariance - matrix(&golden.covariance_x)).abs().max();
            assert!(difference.double_value(&[]) < 1e-12, "{}", golden.name);
            let distance = x.frechet_distance(&y).unwrap();
            let error = (distance - golden.distance).abs() / (1.0 + golden.distance);
            assert!(error < 1e-7, "{}: {distance}", golden.name);
        }
    }

    /// In batches of such lengths, and the rest.
    fn fitted(features: &Tensor, lengths: &[i64]) -> Gaussian {
        let mut moments = Moments::new(features.size()[1] as usize);
        let mut lengths = lengths.to_vec();
        lengths.push(features.size()[0] - lengths.iter().sum::<i64>());
        for batch in features.split_with_sizes(lengths, 0) {
            moments.add(&batch).unwrap();
        }
        moments.gaussian().unwrap()
    }

    /// Values around 10⁸ with deviations of 1 would be lost to a sum of squares.
    #[test]
    fn moments_are_stable_and_independent_of_batches() {
        let _draws = seeded(1);
        let noise = Tensor::randn([200, 3], F64);
        let far = &noise + 1e8;
        let wanted = fitted(&noise, &[]);
        for lengths in [vec![], vec![1, 1, 50], vec![199]] {
            let got = fitted(&far, &lengths);
            let difference = (&got.covariance - &wanted.covariance).abs().max();
            assert!(difference.double_value(&[]) < 1e-6, "{lengths:?}");
            assert_eq!(got.n, Some(200));
        }
    }

    #[test]
    fn what_makes_no_distance_is_refused() {
        let mut moments = Moments::new(3);
        moments.add(&Tensor::zeros([3, 3], F64)).unwrap();
        let error = moments.gaussian().unwrap_err().to_string();
        assert!(error.starts_with("3 images do not determine the covariance of 3 features"));
        let flat = diagonal(&[0.0], &[1.0]);
        assert!(
            flat.frechet_distance(&diagonal(&[0.0; 2], &[1.0; 2]))
                .is_err()
        );
        assert!(
            flat.frechet_distance(&diagonal(&[0.0], &[f64::NAN]))
                .is_err()
        );
        assert!(
            flat.frechet_distance(&diagonal(&[f64::INFINITY], &[1.0]))
                .is_err()
        );
    }
}
