//! The forward model that a file is compared with.

use std::path::Path;
use std::sync::Arc;

use super::claims::Claims;
use super::function::{Function, Point, Weights};
use crate::check::inspect::inspect;
use crate::error::{Choice, Error, Result};
use crate::graph::Batch;
use crate::graph::reference::bindings;
use crate::graph::{Graph, Shape};
use crate::source::checkpoint::{Header, read_best_weights, read_header, resolve};
use crate::source::onnx::{Selection, read_file};
use crate::source::{Energy, Kind};
use crate::transform::gradient::{gradient, hessian_vector_product_along};
use crate::transform::layout::{ImageLayout, with_channels_first};
use crate::transform::potential::{Potential, Prior, read_potential};
use crate::transform::reduction::Reduction;
use crate::write::contract::{Described, PriorTerm};

/// The name that v has in truths; no model has an input of this name.
const V: &str = "verify.v";

/// A forward model, and the derivatives of its energy: its graph as it is, differentiated, never rewritten, in f64.
#[derive(Clone, Debug)]
pub struct Truth {
    /// Energies or logits.
    pub value: Function,
    /// Its derivatives, where it gives one number per image.
    pub derivatives: Option<Derivatives>,
}

/// Derivatives of an energy.
#[derive(Clone, Debug)]
pub struct Derivatives {
    /// ∇E.
    pub gradient: Function,
    /// ∇²E·v.
    pub product: Function,
}

impl Truth {
    /// What a file is compared with: the network of a checkpoint or run folder, in the potential that the file descends, or a forward model as ONNX. Where
    /// no input of a model is selected, it is that of the file, if the model has it. `prior` is the checkpoint of the prior in the potential.
    ///
    /// # Errors
    /// It cannot be read, or has operators without derivatives; or the file descends a prior too, and none or another one is given.
    pub fn read(
        path: &Path,
        selection: &Selection<'_>,
        claims: &Claims,
        prior: Option<&Path>,
    ) -> Result<Truth> {
        if path.is_dir() {
            return Truth::of_checkpoint(path, claims, prior);
        }
        let input = claims.input.as_str();
        let inspection = inspect(path)?;
        let mut inputs = inspection.inputs.iter();
        let shared = inputs.any(|other| other.name == input).then_some(input);
        let function = claims.outputs.first();
        let wanted = function.graph().shape(function.graph().input_named(input)?);
        let selection = Selection {
            input: selection.input.or(shared),
            // The only image of the file is that of the model.
            batch: wanted.batch_axis().is_none().then_some(Batch::Fixed(1)),
            ..*selection
        };
        let model = reduced(like(read_file(path, &selection)?, wanted)?, claims)?;
        let weights = Arc::new(bindings(&model.weights));
        match model.energy_graph() {
            Ok(energy) => Truth::of_energy(&energy, &weights, &model.input),
            Err(Error::NotScalarPerImage { .. }) => Ok(Truth {
                value: Function::new(&model.graph, &weights, &model.input, &model.output)?,
                derivatives: None,
            }),
            Err(error) => Err(error),
        }
    }

    fn of_checkpoint(path: &Path, claims: &Claims, prior: Option<&Path>) -> Result<Truth> {
        let network = Energy::of_checkpoint(path)?;
        let weights = Arc::new(bindings(&network.weights));
        let Some(header) = network.header().filter(|_| network.kind == Kind::Energy) else {
            let input = claims.input.as_str();
            return Ok(Truth {
                value: Function::new(&network.graph, &weights, input, &network.output)?,
                derivatives: None,
            });
        };
        let potential = potential(&resolve(path)?, header, claims, prior)?;
        potential.check(header.network.image())?;
        let weights = Arc::new(bindings(&potential.weights(&network.weights)));
        Truth::of_energy(&potential.energy_graph(&network.graph, &[])?, &weights, "x")
    }

    fn of_energy(graph: &Graph, weights: &Weights, input: &str) -> Result<Truth> {
        let slope = gradient(graph, "energy", input)?;
        let product = hessian_vector_product_along(graph, "energy", input, V)?;
        Ok(Truth {
            value: Function::new(graph, weights, input, "energy")?,
            derivatives: Some(Derivatives {
                gradient: Function::new(&slope, weights, input, "gradient")?,
                product: Function::new(&product, weights, input, "hvp")?,
            }),
        })
    }

    /// A point of the file under test, its inputs called as here.
    pub fn point(&self, point: &Point, input: &str, v: &str) -> Point {
        let mut own = point.clone();
        for (theirs, ours) in [(input, self.value.input()), (v, V)] {
            if let Some(array) = point.get(theirs) {
                own.insert(ours.to_string(), array.clone());
            }
        }
        own
    }
}

/// The model with images as the file takes them, which may have the channels elsewhere.
fn like(model: Energy, wanted: &Shape) -> Result<Energy> {
    let own = model.graph.input_named(&model.input)?;
    let own = model.graph.shape(own).concrete(1);
    let wanted = wanted.concrete(1);
    let transposed = match own.as_slice() {
        &[one, rows, columns, channels] => vec![one, channels, rows, columns],
        _ => Vec::new(),
    };
    let is_transposed = match (own == wanted, transposed == wanted) {
        (false, true) => true,
        (true, true) => matches!(ImageLayout::of(&model), Ok(ImageLayout::Nhwc)),
        (true, false) => false,
        (false, false) => {
            return Err(Error::choice(
                Choice::Comparison,
                format!(
                    "the model takes {own:?} for one image, but the file {wanted:?}; give a model of the same images"
                ),
            ));
        }
    };
    match is_transposed {
        true => with_channels_first(&model),
        false => Ok(model),
    }
}

/// The model with its output made the energy that the file says, if it is none.
fn reduced(model: Energy, claims: &Claims) -> Result<Energy> {
    let origin = claims.contract.as_ref().map(|contract| &contract.network);
    let Some(Described::Model(origin)) = origin else {
        return Ok(model);
    };
    if model.energy_graph().is_ok() {
        return Ok(model);
    }
    match origin.reduction.as_deref().map(str::parse::<Reduction>) {
        Some(Ok(reduction)) => reduction.applied(&model),
        Some(Err(problem)) => Err(Error::Onnx(format!("the contract's reduction: {problem}"))),
        None => Ok(model),
    }
}

/// What the file says that it descends, or else what the checkpoint was learned with.
fn potential(
    folder: &Path,
    header: &Header,
    claims: &Claims,
    prior: Option<&Path>,
) -> Result<Potential> {
    let Some(contract) = &claims.contract else {
        return read_potential(folder, header);
    };
    let Some(terms) = &contract.potential else {
        return Ok(Potential::default());
    };
    let prior = match (&terms.prior, prior) {
        (None, _) => None,
        (Some(term), Some(path)) => Some(prior_of(path, term)?),
        (Some(term), None) => match read_potential(folder, header)?.prior {
            Some(prior) => Some(Prior {
                temperature: term.temperature,
                ..prior
            }),
            None => {
                let problem = "the file descends a prior too; give its checkpoint";
                return Err(Error::choice(Choice::Prior, problem));
            }
        },
    };
    let tau = terms.tau;
    Ok(Potential { prior, tau })
}

fn prior_of(path: &Path, term: &PriorTerm) -> Result<Prior> {
    let folder = resolve(path)?;
    let header = read_header(&folder)?;
    Ok(Prior {
        weights: read_best_weights(&folder, &header)?,
        network: header.network,
        temperature: term.temperature,
    })
}
