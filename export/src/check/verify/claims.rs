//! What a file claims to compute.

use std::path::Path;
use std::sync::Arc;

use super::function::Function;
use crate::check::inspect::{Inspection, inspect};
use crate::error::{Choice, Error, Result};
use crate::graph::op::{Op, Reshape, Slice};
use crate::graph::reference::bindings;
use crate::graph::{Graph, Shape, Value};
use crate::source::onnx::{Selection, read_file};
use crate::source::{Energy, Kind};
use crate::write::Names;
use crate::write::contract::Contract;

/// How the file's inputs and outputs are called.
#[derive(Clone, Debug, Default)]
pub struct Naming {
    /// The input that is differentiated by; the only one besides those of its kind, or `x`, unless given.
    pub input: Option<String>,
    /// The energy or the logits of a forward model; the only output unless given.
    pub output: Option<String>,
    /// Outputs of derivatives, and v.
    pub derivatives: Names,
    /// Extents of the input behind the batch, for models that leave them open.
    pub image: Option<Vec<usize>>,
}

/// A file under test: its outputs as functions in f64.
#[derive(Clone, Debug)]
pub struct Claims {
    /// The input that is differentiated by.
    pub input: String,
    /// The input that the Hessian is multiplied with.
    pub v: String,
    /// What is claimed of it.
    pub outputs: Outputs,
    /// The contract, where the file carries one.
    pub contract: Option<Contract>,
}

/// The outputs of a file by its kind.
#[derive(Clone, Debug)]
pub enum Outputs {
    /// Energies or logits, which nothing in the file can be compared with.
    Forward {
        /// Name of the output.
        name: String,
        /// The output.
        value: Function,
    },
    /// ∇E, and E where it was kept.
    Gradient {
        /// E at x.
        energy: Option<Function>,
        /// ∇E at x.
        gradient: Function,
    },
    /// ∇²E·v, and what was kept beside it.
    Product {
        /// E at x.
        energy: Option<Function>,
        /// ∇E at x.
        gradient: Function,
        /// ∇²E·v at x.
        product: Function,
    },
    /// One or more steps of Langevin dynamics.
    Steps(StepOutputs),
}

/// The outputs of a step graph.
#[derive(Clone, Debug)]
pub struct StepOutputs {
    /// Number of steps of one run.
    pub count: usize,
    /// Largest norm of an image's drift, if it is limited.
    pub clip: Option<f64>,
    /// The state behind the last step.
    pub next: Function,
    /// E at x, before the first step.
    pub energy: Function,
    /// E before each step.
    pub energies: Function,
    /// ‖∇E‖ before each step.
    pub norms: Function,
}

impl Claims {
    /// Reads a file. What it is follows from its outputs: `x_next` is that of steps, then come the names of derivatives; all else is a forward model.
    ///
    /// # Errors
    /// As [`read_file`]; or it is a purifier for a server.
    pub fn read(path: &Path, naming: &Naming) -> Result<Claims> {
        let inspection = inspect(path)?;
        if contract(&inspection).is_some_and(|contract| contract.kind == Kind::Purifier) {
            return Err(Error::Onnx(format!(
                "{} is a purifier for a server; verify the step.onnx of the same checkpoint, whose steps it runs",
                path.display()
            )));
        }
        let reader = Reader::new(path, naming, &inspection);
        reader.check_inputs()?;
        let names = &naming.derivatives;
        let outputs = if reader.has("x_next") {
            reader.steps(contract(&inspection))?
        } else if reader.has(&names.hvp) || reader.has(&names.gradient) {
            reader.derivatives(names)?
        } else {
            let model = reader.read(naming.output.as_deref().as_slice())?;
            Outputs::Forward {
                value: function(&model, &model.output)?,
                name: model.output,
            }
        };
        outputs.check()?;
        Ok(Claims {
            input: outputs.first().input().to_string(),
            v: names.v.clone(),
            outputs,
            contract: contract(&inspection),
        })
    }
}

impl Outputs {
    /// Some output.
    pub fn first(&self) -> &Function {
        match self {
            Outputs::Forward { value, .. } => value,
            Outputs::Gradient { gradient, .. } | Outputs::Product { gradient, .. } => gradient,
            Outputs::Steps(steps) => &steps.next,
        }
    }

    /// All of them; each has the inputs that it needs.
    pub fn all(&self) -> Vec<&Function> {
        let first = std::iter::once(self.first());
        match self {
            Outputs::Forward { .. } => first.collect(),
            Outputs::Gradient { energy, .. } => first.chain(energy).collect(),
            Outputs::Product {
                energy, product, ..
            } => first.chain(energy).chain([product]).collect(),
            Outputs::Steps(steps) => {
                let StepOutputs {
                    energy,
                    energies,
                    norms,
                    ..
                } = steps;
                first.chain([energy, energies, norms]).collect()
            }
        }
    }

    /// Refuses values whose shapes are not those of what they claim to be.
    fn check(&self) -> Result<()> {
        match self {
            Outputs::Forward { .. } => Ok(()),
            Outputs::Gradient { energy, gradient } => {
                gradient.check_is_like_input()?;
                energy.iter().try_for_each(|energy| energy.check_count(1))
            }
            Outputs::Product {
                energy,
                gradient,
                product,
            } => {
                gradient.check_is_like_input()?;
                product.check_is_like_input()?;
                energy.iter().try_for_each(|energy| energy.check_count(1))
            }
            Outputs::Steps(steps) => {
                steps.next.check_is_like_input()?;
                steps.energies.check_count(steps.count)?;
                steps.norms.check_count(steps.count)?;
                steps.check_noise()
            }
        }
    }

    /// What the file is, for people.
    pub fn kind(&self) -> &'static str {
        match self {
            Outputs::Forward { .. } => "forward model",
            Outputs::Gradient { .. } => "gradient",
            Outputs::Product { .. } => "Hessian-vector product",
            Outputs::Steps(_) => "Langevin steps",
        }
    }
}

/// What steps take beside the images.
const OF_STEPS: [&str; 3] = ["noise", "step_size", "temperature"];

impl StepOutputs {
    /// Refuses steps that lack an input, and noise of another shape than that of its number of steps.
    fn check_noise(&self) -> Result<()> {
        let graph = self.next.graph();
        for name in OF_STEPS {
            if graph.input_named(name).is_err() {
                return Err(Error::Onnx(format!(
                    "x_next is made of x, noise, step_size and temperature, but of this file it needs no input {name:?}"
                )));
            }
        }
        let of = |name| Ok(graph.shape(graph.input_named(name)?).concrete(1));
        let (noise, image): (Vec<usize>, Vec<usize>) = (of("noise")?, of(self.next.input())?);
        let wanted = match self.count {
            1 => image,
            count => [&[count], image.as_slice()].concat(),
        };
        match noise == wanted {
            true => Ok(()),
            false => Err(Error::Onnx(format!(
                "noise is {noise:?}, expected {wanted:?} of {} steps for one image",
                self.count
            ))),
        }
    }
}

/// Reads the outputs of a file, all that are wanted in one graph.
struct Reader<'a> {
    path: &'a Path,
    naming: &'a Naming,
    input: Option<String>,
    inputs: Vec<&'a str>,
    outputs: Vec<&'a str>,
}

impl<'a> Reader<'a> {
    fn new(path: &'a Path, naming: &'a Naming, inspection: &'a Inspection) -> Reader<'a> {
        let inputs = inspection.inputs.iter().map(|input| input.name.as_str());
        let is_other = |name: &&str| *name == naming.derivatives.v || OF_STEPS.contains(name);
        let mut own = inputs.clone().filter(|name| !is_other(name));
        let only = match (own.next(), own.next()) {
            (Some(only), None) => Some(only.to_string()),
            _ => None,
        };
        Reader {
            path,
            naming,
            input: naming.input.clone().or(only),
            inputs: inputs.collect(),
            outputs: inspection
                .outputs
                .iter()
                .map(|output| output.name.as_str())
                .collect(),
        }
    }

    /// Refuses a product without the input that it multiplies with.
    fn check_inputs(&self) -> Result<()> {
        let Names { hvp, v, .. } = &self.naming.derivatives;
        match self.has("x_next") || !self.has(hvp) || self.inputs.contains(&v.as_str()) {
            true => Ok(()),
            false => Err(Error::choice(
                Choice::Name("v"),
                format!(
                    "{hvp} is a product with an input, but the file has no input {v:?}; it has {:?}, so say which one it is",
                    self.inputs
                ),
            )),
        }
    }

    fn has(&self, output: &str) -> bool {
        self.outputs.contains(&output)
    }

    fn read(&self, outputs: &[&str]) -> Result<Energy> {
        let selection = Selection {
            outputs,
            input: self.input.as_deref(),
            image: self.naming.image.as_deref(),
            ..Selection::default()
        };
        read_file(self.path, &selection)
    }

    fn derivatives(&self, names: &Names) -> Result<Outputs> {
        let Names {
            energy,
            gradient,
            hvp,
            ..
        } = names;
        let (energy, product) = (self.has(energy).then_some(energy), self.has(hvp));
        let outputs = std::iter::once(gradient).chain(energy);
        let outputs = outputs.chain(product.then_some(hvp));
        let outputs: Vec<&str> = outputs.map(String::as_str).collect();
        let model = self.read(&outputs)?;
        let energy = energy.map(|name| function(&model, name)).transpose()?;
        let gradient = function(&model, gradient)?;
        match product {
            false => Ok(Outputs::Gradient { energy, gradient }),
            true => Ok(Outputs::Product {
                energy,
                gradient,
                product: function(&model, hvp)?,
            }),
        }
    }

    fn steps(&self, contract: Option<Contract>) -> Result<Outputs> {
        let model = self.read(&["x_next", "energy", "gradient_norm"])?;
        let energies = model.graph.output("energy")?;
        let count = match model.graph.shape(energies).rank() {
            1 => 1,
            _ => model.graph.shape(energies).size(0).unwrap_or(1),
        };
        let first = Energy {
            graph: first_energy(&model.graph, energies)?,
            ..model.clone()
        };
        Ok(Outputs::Steps(StepOutputs {
            count,
            clip: contract.and_then(|contract| contract.clip),
            next: function(&model, "x_next")?,
            energy: function(&first, "energy")?,
            energies: function(&model, "energy")?,
            norms: function(&model, "gradient_norm")?,
        }))
    }
}

/// The contract, where the file carries one that this version knows.
fn contract(inspection: &Inspection) -> Option<Contract> {
    let contract = inspection.contract.clone()?;
    serde_json::from_value(contract).ok()
}

fn function(model: &Energy, output: &str) -> Result<Function> {
    let weights = Arc::new(bindings(&model.weights));
    Function::new(&model.graph, &weights, &model.input, output)
}

/// The graph with the energy `[N]` before the first step alone, of `[N]` or `[k, N]`.
fn first_energy(graph: &Graph, energies: Value) -> Result<Graph> {
    let mut graph = graph.clone();
    if graph.shape(energies).rank() == 1 {
        return Ok(graph);
    }
    // Where the rows are put together only to be written, later steps need not be computed for the first.
    let first = match graph.operator(energies) {
        Some((Op::Concat(_), rows)) => rows[0],
        _ => graph.apply("first", Slice::range(0, 0..1), &[energies])?,
    };
    let shape = Shape::batched(&[]);
    let first = graph.apply("first", Reshape { shape }, &[first])?;
    graph.set_output("energy", first);
    Ok(graph)
}
