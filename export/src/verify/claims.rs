//! What a file claims to compute.

use std::path::Path;
use std::sync::Arc;

use super::function::Function;
use crate::contract::{Contract, Kind};
use crate::derived::Names;
use crate::error::Error;
use crate::graph::{Graph, Shape, Value};
use crate::onnx::read::{Foreign, Selection, read_file};
use crate::onnx::{Inspection, inspect};
use crate::op::{Op, Reshape, Slice};
use crate::reference::bindings;

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
    /// Largest norm of an image's drift, where it is limited.
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
    pub fn read(path: &Path, naming: &Naming) -> Result<Claims, Error> {
        let inspection = inspect(path)?;
        if contract(&inspection).is_some_and(|contract| contract.kind == Kind::Purifier) {
            return Err(Error::Onnx(format!(
                "{} is a purifier for a server; verify the step.onnx of the same checkpoint, whose steps it runs",
                path.display()
            )));
        }
        let reader = Reader::new(path, naming, &inspection);
        let names = &naming.derivatives;
        let outputs = if reader.has("x_next") {
            Outputs::Steps(reader.steps(&inspection)?)
        } else if reader.has(&names.hvp) {
            Outputs::Product {
                energy: reader.optional(&names.energy)?,
                gradient: reader.function(&names.gradient)?,
                product: reader.function(&names.hvp)?,
            }
        } else if reader.has(&names.gradient) {
            Outputs::Gradient {
                energy: reader.optional(&names.energy)?,
                gradient: reader.function(&names.gradient)?,
            }
        } else {
            let foreign = reader.read(naming.output.as_deref())?;
            Outputs::Forward {
                value: function(&foreign, &foreign.graph)?,
                name: foreign.output,
            }
        };
        Ok(Claims {
            input: outputs.first().input().to_string(),
            v: names.v.clone(),
            outputs,
            contract: contract(&inspection),
        })
    }
}

impl Outputs {
    /// Some output; all have the same inputs.
    pub fn first(&self) -> &Function {
        match self {
            Outputs::Forward { value, .. } => value,
            Outputs::Gradient { gradient, .. } | Outputs::Product { gradient, .. } => gradient,
            Outputs::Steps(steps) => &steps.next,
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

/// Reads one output after the other.
struct Reader<'a> {
    path: &'a Path,
    naming: &'a Naming,
    input: Option<String>,
    outputs: Vec<&'a str>,
}

impl<'a> Reader<'a> {
    fn new(path: &'a Path, naming: &'a Naming, inspection: &'a Inspection) -> Reader<'a> {
        let besides = [&naming.derivatives.v, "noise", "step_size", "temperature"];
        let inputs = inspection.inputs.iter().map(|input| input.name.as_str());
        let mut own = inputs.filter(|name| !besides.contains(name));
        let only = match (own.next(), own.next()) {
            (Some(only), None) => Some(only.to_string()),
            _ => None,
        };
        Reader {
            path,
            naming,
            input: naming.input.clone().or(only),
            outputs: inspection
                .outputs
                .iter()
                .map(|output| output.name.as_str())
                .collect(),
        }
    }

    fn has(&self, output: &str) -> bool {
        self.outputs.contains(&output)
    }

    fn read(&self, output: Option<&str>) -> Result<Foreign, Error> {
        let selection = Selection {
            output,
            input: self.input.as_deref(),
            image: self.naming.image.as_deref(),
        };
        read_file(self.path, &selection)
    }

    fn function(&self, output: &str) -> Result<Function, Error> {
        let foreign = self.read(Some(output))?;
        function(&foreign, &foreign.graph)
    }

    fn optional(&self, output: &str) -> Result<Option<Function>, Error> {
        match self.has(output) {
            true => self.function(output).map(Some),
            false => Ok(None),
        }
    }

    fn steps(&self, inspection: &Inspection) -> Result<StepOutputs, Error> {
        let energies = self.read(Some("energy"))?;
        let value = energies.graph.output("energy")?;
        let count = match energies.graph.shape(value).rank() {
            1 => 1,
            _ => energies.graph.shape(value).size(0).unwrap_or(1),
        };
        let clip = contract(inspection).and_then(|contract| contract.clip);
        Ok(StepOutputs {
            count,
            clip,
            next: self.function("x_next")?,
            energy: function(&energies, &first_energy(&energies.graph, value)?)?,
            energies: function(&energies, &energies.graph)?,
            norms: self.function("gradient_norm")?,
        })
    }
}

/// The contract, where the file carries one that this version knows.
fn contract(inspection: &Inspection) -> Option<Contract> {
    let contract = inspection.contract.clone()?;
    serde_json::from_value(contract).ok()
}

fn function(foreign: &Foreign, graph: &Graph) -> Result<Function, Error> {
    let weights = Arc::new(bindings(&foreign.weights));
    Function::new(graph, &weights, &foreign.input, &foreign.output)
}

/// The graph with the energy `[N]` before the first step alone, of `[N]` or `[k, N]`.
fn first_energy(graph: &Graph, energies: Value) -> Result<Graph, Error> {
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
    graph.rebuild(|_, _, _| Ok(None))
}
