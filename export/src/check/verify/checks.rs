//! What is compared with what at one point.

use ndarray::ArrayD;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::chain::{Chain, Dynamics};
use super::claims::{Claims, Outputs, StepOutputs};
use super::difference::{Agreement, along, both_sides, norm, relative, root_mean_square};
use super::function::{Function, Point};
use super::points::spread;
use super::truth::Truth;
use crate::error::{Error, Result};

/// Directions along which the differences of an energy are taken.
const N_DIRECTIONS: usize = 4;

/// How far one-sided differences may lie apart, as a part of the error that is allowed. What lies between them is off by half of it at most.
const MARGIN: f64 = 0.25;

/// The size of a Hessian-vector product is taken for at least this part of the gradient's: it vanishes where the energy is piecewise linear.
const FLATNESS: f64 = 1e-2;

/// A comparison at one point.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The output that is looked at.
    pub output: String,
    /// What it is compared with.
    pub against: &'static str,
    /// The relative error in the L2 norm, `None` if the point lies at a kink, which decides nothing.
    pub error: Option<f64>,
}

const DIFFERENCES: &str = "differences of its energy";
const DIFFERENCES_OF_MODEL: &str = "differences of the model's energy";
const DIFFERENCES_OF_GRADIENT: &str = "differences of its gradient";
const MODEL: &str = "the model";
const NEXT: &str = "its x_next";
const DERIVED: &str = "single steps down its energy";

/// A part of what a run of steps gives.
type Part = fn(&Chain) -> &ArrayD<f64>;

/// The comparisons of a file at one point.
pub struct Checks<'a> {
    claims: &'a Claims,
    truth: Option<&'a Truth>,
    max_error: f64,
    point: &'a Point,
    /// The same point for the truth.
    true_point: Point,
    rng: ChaCha8Rng,
}

impl<'a> Checks<'a> {
    pub fn new(
        claims: &'a Claims,
        truth: Option<&'a Truth>,
        max_error: f64,
        point: &'a Point,
        seed: u64,
    ) -> Checks<'a> {
        let true_point = truth.map(|truth| truth.point(point, &claims.input, &claims.v));
        Checks {
            claims,
            truth,
            max_error,
            point,
            true_point: true_point.unwrap_or_default(),
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// All comparisons that the file's kind allows.
    pub fn outcomes(mut self) -> Result<Vec<Outcome>> {
        match &self.claims.outputs {
            Outputs::Forward { name, value } => {
                let value = value.at(self.point)?;
                Ok(self.against_value(name, &value)?.into_iter().collect())
            }
            Outputs::Gradient { energy, gradient } => {
                let gradient = gradient.at(self.point)?;
                self.of_gradient(energy.as_ref(), &gradient)
            }
            Outputs::Product {
                energy,
                gradient,
                product,
            } => {
                let slope = gradient.at(self.point)?;
                let mut outcomes = self.of_gradient(energy.as_ref(), &slope)?;
                outcomes.extend(self.of_product(gradient, &slope, product)?);
                Ok(outcomes)
            }
            Outputs::Steps(steps) if steps.count == 1 => self.of_step(steps),
            Outputs::Steps(steps) => self.of_steps(steps),
        }
    }

    fn of_gradient(
        &mut self,
        energy: Option<&Function>,
        gradient: &ArrayD<f64>,
    ) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        if let Some(energy) = energy {
            let value = energy.at(self.point)?;
            outcomes.extend(self.against_value("energy", &value)?);
            let error = self.slope_error(energy, self.point.clone(), &value, gradient)?;
            outcomes.push(outcome("gradient", DIFFERENCES, error));
        } else if let Some(truth) = self.truth {
            let energy = &truth.value;
            let value = energy.at(&self.true_point)?;
            let error = self.slope_error(energy, self.true_point.clone(), &value, gradient)?;
            outcomes.push(outcome("gradient", DIFFERENCES_OF_MODEL, error));
        }
        if let Some(derivatives) = self.truth.and_then(|truth| truth.derivatives.as_ref()) {
            let error = self.model_error(&derivatives.gradient, gradient, 0.0)?;
            outcomes.push(outcome("gradient", MODEL, error));
        }
        Ok(outcomes)
    }

    fn of_product(
        &mut self,
        gradient: &Function,
        slope: &ArrayD<f64>,
        product: &Function,
    ) -> Result<Vec<Outcome>> {
        let product = product.at(self.point)?;
        let least = FLATNESS * norm(slope);
        let agreement = self.agreement(norm(&product).max(least));
        let v = &self.point[&self.claims.v];
        let error = along(gradient, self.point, slope, v, agreement)?
            .map(|difference| relative(&product, &difference, least));
        let mut outcomes = vec![outcome("hvp", DIFFERENCES_OF_GRADIENT, error)];
        if let Some(derivatives) = self.truth.and_then(|truth| truth.derivatives.as_ref()) {
            let error = self.model_error(&derivatives.product, &product, least)?;
            outcomes.push(outcome("hvp", MODEL, error));
        }
        Ok(outcomes)
    }

    /// One step: what it went down is a gradient, and compared as such.
    fn of_step(&mut self, steps: &StepOutputs) -> Result<Vec<Outcome>> {
        let dynamics = Dynamics::of(self.point, steps.clip);
        let next = steps.next.at(self.point)?;
        let claimed = steps.norms.at(self.point)?;
        let gradient = dynamics.gradient(self.point, &self.claims.input, &next, claimed.sum());
        let energy = steps.energy.at(self.point)?;
        let error = self.slope_error(&steps.energy, self.point.clone(), &energy, &gradient)?;
        let error_of_norm = relative(&claimed, &of_number(norm(&gradient)), 0.0);
        let mut outcomes = vec![
            outcome("x_next", DIFFERENCES, error),
            outcome("gradient_norm", NEXT, Some(error_of_norm)),
        ];
        outcomes.extend(self.against_value("energy", &energy)?);
        if let Some(derivatives) = self.truth.and_then(|truth| truth.derivatives.as_ref()) {
            let error = self.model_error(&derivatives.gradient, &gradient, 0.0)?;
            outcomes.push(outcome("x_next", MODEL, error));
        }
        Ok(outcomes)
    }

    /// Several steps: the same as single ones down the gradient of the energy before the first.
    fn of_steps(&mut self, steps: &StepOutputs) -> Result<Vec<Outcome>> {
        let gradient = steps.energy.derivative()?;
        let slope = gradient.at(self.point)?;
        let energy = steps.energy.at(self.point)?;
        let error = self.slope_error(&steps.energy, self.point.clone(), &energy, &slope)?;
        let mut outcomes = vec![outcome("derivative of its energy", DIFFERENCES, error)];
        let dynamics = Dynamics::of(self.point, steps.clip);
        let next = steps.next.at(self.point)?;
        let claimed = Chain {
            drift: dynamics.drift(self.point, &self.claims.input, &next),
            energies: steps.energies.at(self.point)?,
            norms: steps.norms.at(self.point)?,
        };
        let chain = |point: &Point| dynamics.chain(&steps.energy, &gradient, point, steps.count);
        let point = self.point.clone();
        outcomes.extend(self.of_chain(&claimed, DERIVED, &point, gradient.input(), chain)?);
        if let Some(truth) = self.truth
            && let Some(derivatives) = &truth.derivatives
        {
            let gradient = &derivatives.gradient;
            let chain = |point: &Point| dynamics.chain(&truth.value, gradient, point, steps.count);
            let point = self.true_point.clone();
            outcomes.extend(self.of_chain(&claimed, MODEL, &point, gradient.input(), chain)?);
        }
        Ok(outcomes)
    }

    fn of_chain(
        &mut self,
        claimed: &Chain,
        against: &'static str,
        point: &Point,
        input: &str,
        chain: impl Fn(&Point) -> Result<Chain>,
    ) -> Result<Vec<Outcome>> {
        let wanted = chain(point)?;
        let parts: [(&str, Part, f64); 3] = [
            ("x_next", |chain| &chain.drift, 0.0),
            ("energy", |chain| &chain.energies, norm(&wanted.norms)),
            ("gradient_norm", |chain| &chain.norms, 0.0),
        ];
        let mut outcomes = Vec::new();
        for (output, part, least) in parts {
            let error = relative(part(claimed), part(&wanted), least);
            let of_chain = |point: &Point| Ok(part(&chain(point)?).clone());
            let error = self.unless_at_kink(error, point, input, least, of_chain)?;
            outcomes.push(outcome(output, against, error));
        }
        Ok(outcomes)
    }

    /// Energies or logits against those of the truth. Energies are relative to the gradient where that is larger, for they may be near zero.
    fn against_value(&mut self, output: &str, value: &ArrayD<f64>) -> Result<Option<Outcome>> {
        let Some(truth) = self.truth else {
            return Ok(None);
        };
        let least = match &truth.derivatives {
            Some(derivatives) => norm(&derivatives.gradient.at(&self.true_point)?),
            None => 0.0,
        };
        let wanted = truth.value.at(&self.true_point)?;
        if wanted.len() != value.len() {
            return Err(Error::Onnx(format!(
                "output {output:?} has {} numbers per image, that of the model to compare with {}; they are not of one kind",
                value.len(),
                wanted.len()
            )));
        }
        let error = self.model_error(&truth.value, value, least)?;
        Ok(Some(outcome(output, MODEL, error)))
    }

    /// The relative error of a gradient, estimated along random directions: for those of unit variance the mean square of `(g − ∇E)·d` is the square of
    /// `‖g − ∇E‖`. `None` if fewer than half of them are free of kinks.
    fn slope_error(
        &mut self,
        energy: &Function,
        point: Point,
        value: &ArrayD<f64>,
        gradient: &ArrayD<f64>,
    ) -> Result<Option<f64>> {
        let agreement = self.agreement(norm(gradient));
        let (mut slopes, mut errors) = (Vec::new(), Vec::new());
        for _ in 0..N_DIRECTIONS {
            let direction = spread(gradient.shape(), &mut self.rng);
            if let Some(slope) = along(energy, &point, value, &direction, agreement)? {
                slopes.push(slope.sum());
                errors.push(slope.sum() - (gradient * &direction).sum());
            }
        }
        if slopes.len() * 2 < N_DIRECTIONS {
            return Ok(None);
        }
        let size = norm(gradient).max(root_mean_square(&slopes));
        Ok(Some(
            root_mean_square(&errors) / size.max(f64::MIN_POSITIVE),
        ))
    }

    /// The relative error of a value that the truth has.
    fn model_error(
        &mut self,
        truth: &Function,
        value: &ArrayD<f64>,
        least: f64,
    ) -> Result<Option<f64>> {
        let wanted = truth.at(&self.true_point)?;
        let error = relative(value, &wanted, least);
        let point = self.true_point.clone();
        self.unless_at_kink(error, &point, truth.input(), least, |point| truth.at(point))
    }

    /// The error, or `None` if what is wanted itself jumps by as much within rounding, and so decides nothing.
    fn unless_at_kink(
        &mut self,
        error: f64,
        point: &Point,
        input: &str,
        least: f64,
        wanted: impl Fn(&Point) -> Result<ArrayD<f64>>,
    ) -> Result<Option<f64>> {
        if error <= self.max_error {
            return Ok(Some(error));
        }
        let direction = spread(point[input].shape(), &mut self.rng);
        let [ahead, behind] = both_sides(point, input, &direction).map(|point| wanted(&point));
        let jump = relative(&ahead?, &behind?, least);
        Ok((jump < error / 2.0).then_some(error))
    }

    fn agreement(&self, size: f64) -> Agreement {
        Agreement {
            margin: MARGIN * self.max_error,
            size,
        }
    }
}

fn outcome(output: &str, against: &'static str, error: Option<f64>) -> Outcome {
    Outcome {
        output: output.to_string(),
        against,
        error,
    }
}

fn of_number(number: f64) -> ArrayD<f64> {
    ArrayD::from_elem(vec![1], number)
}
