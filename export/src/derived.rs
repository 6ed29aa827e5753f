//! What a model of others becomes: its gradient, its Hessian-vector product, or Langevin steps down its energy.

use crate::checkpoint::tensors_sha256;
use crate::contract::{Contract, FORMAT_VERSION, ForeignModel, ImageShape, Kind, Origin};
use crate::error::Error;
use crate::exported::Settings;
use crate::gradient::{gradient, hessian_vector_product_along};
use crate::graph::{Dim, Graph, Shape, Source, Value};
use crate::langevin::{Steps, steps_graph};
use crate::onnx::read::Foreign;
use crate::onnx::{Model, model};
use crate::op::Reshape;
use crate::pipeline::bind;
use crate::rewrite::apply;

/// What is made of an energy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Derivation {
    /// `x → gradient`.
    Gradient,
    /// `x, v → gradient, hvp`.
    HessianVectorProduct,
    /// `x, noise, step_size, temperature → x_next, energy, gradient_norm`.
    Steps(Steps),
}

/// Under which names the energy is an output beside its derivatives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnergyOutput {
    /// That of [`Names`].
    Renamed,
    /// That, and last the name that the model has for it.
    OwnNameToo,
}

/// Names of the outputs, and of the input that the Hessian is multiplied with.
#[derive(Clone, Debug, PartialEq)]
pub struct Names {
    /// Of E(x) `[N]`.
    pub energy: String,
    /// Of ∇E(x), shaped as x.
    pub gradient: String,
    /// Of ∇²E(x)·v, shaped as x.
    pub hvp: String,
    /// Of v, shaped as x.
    pub v: String,
}

impl Default for Names {
    fn default() -> Names {
        let [energy, gradient, hvp, v] = ["energy", "gradient", "hvp", "v"].map(str::to_string);
        Names {
            energy,
            gradient,
            hvp,
            v,
        }
    }
}

/// What to make of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What is made of its energy.
    pub derivation: Derivation,
    /// Under which names the energy is an output. Steps keep to the names of the contract.
    pub energy: EnergyOutput,
    /// How outputs are called. Steps keep to the names of the contract.
    pub names: Names,
}

/// The ONNX file with what was asked for.
///
/// # Errors
/// The selected output is not one number per image; a name is one of the model's own; a node has no derivative; steps are
/// asked for of a model with several inputs; or the file would have 2 GiB.
pub fn derived_file(
    foreign: &Foreign,
    request: &Request,
    settings: &Settings,
) -> Result<Model, Error> {
    let graph = match &request.derivation {
        Derivation::Steps(form) => steps(foreign, form, settings)?,
        _ => derivatives(foreign, request, settings)?,
    };
    let contract = contract(foreign, request, settings);
    let bound = bind(&graph, &foreign.weights)?;
    let model = model(&bound, &contract, settings.opset, settings.batch)?;
    model.documented(&foreign.documentation)
}

fn derivatives(foreign: &Foreign, request: &Request, settings: &Settings) -> Result<Graph, Error> {
    let names = &request.names;
    check_names(foreign, request)?;
    let energy = apply(&energy_graph(foreign)?, &settings.rewrites)?;
    let (graph, outputs) = match request.derivation {
        Derivation::HessianVectorProduct => (
            hessian_vector_product_along(&energy, "energy", &foreign.input, &names.v)?,
            vec![("gradient", &names.gradient), ("hvp", &names.hvp)],
        ),
        _ => (
            gradient(&energy, "energy", &foreign.input)?,
            vec![("gradient", &names.gradient)],
        ),
    };
    let mut named = graph.clone();
    for (name, _) in graph.outputs() {
        named.remove_output(name);
    }
    let own_name = match request.energy {
        EnergyOutput::OwnNameToo => Some(("energy", &foreign.output)),
        EnergyOutput::Renamed => None,
    };
    let all = std::iter::once(("energy", &names.energy))
        .chain(outputs)
        .chain(own_name);
    for (name, wanted) in all {
        named.set_output(wanted, graph.output(name)?);
    }
    apply(&named.rebuild(|_, _, _| Ok(None))?, &settings.rewrites)
}

fn steps(foreign: &Foreign, form: &Steps, settings: &Settings) -> Result<Graph, Error> {
    form.check()?;
    let inputs: Vec<&str> = foreign
        .graph
        .inputs()
        .map(|input| foreign.graph.node(input).name.as_str())
        .collect();
    if inputs.len() > 1 {
        return Err(Error::Onnx(format!(
            "steps have one input besides noise, step size and temperature, but the model has {inputs:?}; fix the others in the model"
        )));
    }
    let energy = with_input_named(&energy_graph(foreign)?, &foreign.input, "x")?;
    let energy = apply(&energy, &settings.rewrites)?;
    let steps = steps_graph(&gradient(&energy, "energy", "x")?, form)?;
    apply(&steps, &settings.rewrites)
}

/// The model's graph with its selected output as `energy [N]`.
fn energy_graph(foreign: &Foreign) -> Result<Graph, Error> {
    let mut graph = foreign.graph.clone();
    let output = graph.output(&foreign.output)?;
    let source = graph.input_named(&foreign.input)?;
    if !graph.depends_on(source)[output.0] {
        return Err(Error::Onnx(format!(
            "output {:?} does not depend on input {:?}",
            foreign.output, foreign.input
        )));
    }
    let energy = one_axis(&mut graph, output, &foreign.output)?;
    graph.remove_output(&foreign.output);
    graph.set_output("energy", energy);
    Ok(graph)
}

/// `[N]` of `[N]`, `[N, 1]`, `[N, 1, 1, 1]` and the like.
fn one_axis(graph: &mut Graph, output: Value, name: &str) -> Result<Value, Error> {
    let shape = graph.shape(output);
    if shape.0 == [Dim::BATCH] {
        return Ok(output);
    }
    if shape.around_batch() != Some(Dim::BATCH) {
        return Err(Error::NotScalarPerImage {
            output: name.to_string(),
            shape: shape.to_string(),
        });
    }
    let shape = Shape::batched(&[]);
    graph.apply(&format!("{name}.scalar"), Reshape { shape }, &[output])
}

fn with_input_named(graph: &Graph, name: &str, wanted: &str) -> Result<Graph, Error> {
    graph.rebuild(|target, _, value| {
        let node = graph.node(value);
        match node.source {
            Source::Input if node.name == name => target
                .input(wanted, node.value_type.shape.clone())
                .map(Some),
            _ => Ok(None),
        }
    })
}

/// Refuses names that the model uses itself: which of both a runtime would take is not said.
fn check_names(foreign: &Foreign, request: &Request) -> Result<(), Error> {
    let names = &request.names;
    let mut used = vec![("energy", &names.energy), ("gradient", &names.gradient)];
    if request.derivation == Derivation::HessianVectorProduct {
        used.extend([("hvp", &names.hvp), ("v", &names.v)]);
    }
    for (index, (what, name)) in used.iter().enumerate() {
        if let Some(kind) = own_kind(foreign, name) {
            return Err(Error::Onnx(format!(
                "the model has {kind} named {name:?}; give {what} another name with --{what}-name"
            )));
        }
        if request.energy == EnergyOutput::OwnNameToo
            && **name == foreign.output
            && *what != "energy"
        {
            return Err(Error::Onnx(format!(
                "the model calls its energy {name:?}; give {what} another name with --{what}-name"
            )));
        }
        if let Some((other, _)) = used[..index].iter().find(|(_, other)| other == name) {
            return Err(Error::Onnx(format!(
                "{what} and {other} are both called {name:?}; give one another name with --{what}-name"
            )));
        }
    }
    Ok(())
}

/// What of the model has that name: an input, a weight, or an output that is not the energy.
fn own_kind(foreign: &Foreign, name: &str) -> Option<&'static str> {
    let graph = &foreign.graph;
    if graph.inputs().any(|input| graph.node(input).name == name) {
        return Some("an input");
    }
    if foreign.weights.contains_key(name) {
        return Some("a weight");
    }
    foreign
        .other_outputs
        .iter()
        .any(|output| output == name)
        .then_some("an output")
}

fn contract(foreign: &Foreign, request: &Request, settings: &Settings) -> Contract {
    let input = foreign.graph.input_named(&foreign.input);
    let extents = input.map(|input| foreign.graph.shape(input).0.as_slice());
    let image = match extents {
        Ok(&[_, Dim::Size(channels), Dim::Size(height), Dim::Size(width)]) => Some(ImageShape {
            channels,
            height,
            width,
        }),
        _ => None,
    };
    let steps = match request.derivation {
        Derivation::Steps(steps) => Some(steps),
        _ => None,
    };
    Contract {
        format_version: FORMAT_VERSION,
        kind: match request.derivation {
            Derivation::Steps(_) => Kind::Step,
            _ => Kind::Gradient,
        },
        network: Origin::Model(ForeignModel {
            producer: foreign.producer.clone(),
            sha256: foreign.sha256.clone(),
        }),
        image,
        value_range: [-1.0, 1.0],
        batch: settings.batch.size(),
        langevin: None,
        purification: None,
        potential: None,
        clip: steps.and_then(|steps| steps.clip).map(f64::from),
        n_steps: steps.map(|steps| steps.count).filter(|&count| count > 1),
        n_classes: None,
        opset: settings.opset.number(),
        rewrites: settings
            .rewrites
            .iter()
            .map(|rewrite| rewrite.name().to_string())
            .collect(),
        n_parameters: foreign
            .weights
            .values()
            .map(|weight| weight.data().len())
            .sum(),
        weights_sha256: tensors_sha256(&foreign.weights),
        config: None,
    }
}
