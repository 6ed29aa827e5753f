//! What a model of others becomes: its gradient, its Hessian-vector product, or Langevin steps down its energy.

use crate::error::Error;
use crate::graph::op::Reshape;
use crate::graph::{Dim, Graph, Shape, Source, Value};
use crate::source::checkpoint::tensors_sha256;
use crate::source::onnx::Foreign;
use crate::source::{ImageShape, Kind};
use crate::transform::gradient::{gradient, hessian_vector_product, hessian_vector_product_along};
use crate::transform::langevin::{Steps, written_steps};
use crate::transform::pipeline::written;
use crate::transform::precision::{Comparison, Precision, lowered};
use crate::transform::rewrite::{apply, apply_before_gradient};
use crate::write::contract::{Contract, FORMAT_VERSION, ForeignModel, Origin};
use crate::write::exported::Settings;
use crate::write::model::Model;
use crate::write::onnx::model;

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

impl Request {
    /// Checks what can be checked without a model.
    ///
    /// # Errors
    /// The numbers of steps make no sense, or two names are one.
    pub fn check(&self) -> Result<(), Error> {
        if let Derivation::Steps(steps) = &self.derivation {
            return steps.check();
        }
        let used = self.used_names();
        for (index, (what, name)) in used.iter().enumerate() {
            if let Some((other, _)) = used[..index].iter().find(|(_, other)| other == name) {
                return Err(Error::Onnx(format!(
                    "{what} and {other} are both called {name:?}; give one another name with --{what}-name"
                )));
            }
            if name.is_empty() {
                return Err(Error::Onnx(format!(
                    "{what} has no name; give it one with --{what}-name"
                )));
            }
        }
        Ok(())
    }

    /// What gets a name, and which.
    fn used_names(&self) -> Vec<(&'static str, &String)> {
        let names = &self.names;
        let mut used = vec![("energy", &names.energy), ("gradient", &names.gradient)];
        if self.derivation == Derivation::HessianVectorProduct {
            used.extend([("hvp", &names.hvp), ("v", &names.v)]);
        }
        used
    }
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
    request.check()?;
    let graph = match &request.derivation {
        Derivation::Steps(form) => steps(foreign, form, settings)?,
        _ => derivatives(foreign, request, settings)?,
    };
    let steps = match request.derivation {
        Derivation::Steps(steps) => Some(steps),
        _ => None,
    };
    let contract = Contract {
        kind: match steps {
            Some(_) => Kind::Step,
            None => Kind::Gradient,
        },
        clip: steps.and_then(|steps| steps.clip).map(f64::from),
        n_steps: steps.map(|steps| steps.count).filter(|&count| count > 1),
        ..contract(foreign, settings)
    };
    let model = model(&graph, &contract, settings.opset, settings.batch)?;
    model.documented(&foreign.documentation)
}

/// What tells how far the gradient of a model in a precision is from the exact one.
///
/// # Errors
/// As [`derived_file`]; or the model has several inputs, of which nobody knows what is usual.
pub fn comparison(foreign: &Foreign, settings: &Settings) -> Result<Comparison, Error> {
    if foreign.graph.inputs().count() > 1 {
        return Err(Error::Onnx(
            "errors are measured for models with one input; this one has several".to_string(),
        ));
    }
    let energy = apply_before_gradient(&energy_graph(foreign)?, &settings.rewrites)?;
    let gradient = apply(
        &gradient(&energy, "energy", &foreign.input)?,
        &settings.rewrites,
    )?;
    let exact = written(&gradient, &foreign.weights, Precision::F32)?;
    Ok(Comparison {
        written: lowered(&exact, settings.precision)?,
        exact,
        input: foreign.input.clone(),
        output: "gradient".to_string(),
    })
}

fn derivatives(foreign: &Foreign, request: &Request, settings: &Settings) -> Result<Graph, Error> {
    let names = &request.names;
    check_names(foreign, request)?;
    let energy = apply_before_gradient(&energy_graph(foreign)?, &settings.rewrites)?;
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
    let named = apply(&named.rebuild(|_, _, _| Ok(None))?, &settings.rewrites)?;
    written(&named, &foreign.weights, settings.precision)
}

fn steps(foreign: &Foreign, form: &Steps, settings: &Settings) -> Result<Graph, Error> {
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
    let rewrites = &settings.rewrites;
    let energy = apply_before_gradient(&energy, rewrites)?;
    let gradient = apply(&gradient(&energy, "energy", "x")?, rewrites)?;
    let gradient = written(&gradient, &foreign.weights, settings.precision)?;
    written_steps(&gradient, form)
}

/// The model's graph with its selected output as `energy [N]`, of `[N]`, `[N, 1]`, `[N, 1, 1, 1]` and the like. Of the only image it is `[1]`, also of `[]`.
///
/// # Errors
/// The output is not one number per image.
pub(crate) fn energy_graph(foreign: &Foreign) -> Result<Graph, Error> {
    let mut graph = foreign.graph.clone();
    let output = graph.output(&foreign.output)?;
    let source = graph.input_named(&foreign.input)?;
    if !flows(&graph, source)[output.0] {
        return Err(Error::Onnx(format!(
            "output {:?} does not depend on input {:?}",
            foreign.output, foreign.input
        )));
    }
    let images = graph.shape(source).0.first().copied();
    let energy = one_axis(&mut graph, output, images.as_ref(), &foreign.output)?;
    graph.remove_output(&foreign.output);
    graph.set_output("energy", energy);
    Ok(graph)
}

/// Per value: does it change with `source` otherwise than by truth values, which have no derivative?
pub(crate) fn flows(graph: &Graph, source: Value) -> Vec<bool> {
    let mut flows = Vec::new();
    for value in graph.values() {
        let through = |inputs: &[Value]| inputs.iter().any(|input| flows[input.0]);
        let is_reached = match graph.operator(value) {
            Some((_, inputs)) => graph.value_type(value).dtype.is_float() && through(inputs),
            None => value == source,
        };
        flows.push(is_reached);
    }
    flows
}

/// `[N]` of `[N]`, `[N, 1]`, `[N, 1, 1, 1]` and the like; `[1]` of the single number of the only image.
fn one_axis(
    graph: &mut Graph,
    output: Value,
    images: Option<&Dim>,
    name: &str,
) -> Result<Value, Error> {
    let shape = graph.shape(output);
    if shape.rank() == 1 && shape.0.first() == images {
        return Ok(output);
    }
    let per_image = match images {
        Some(Dim::Size(_)) => Some(Dim::Size(shape.elements_per_image())),
        _ => shape.around_batch(),
    };
    if per_image.as_ref() != images {
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
    for (what, name) in request.used_names() {
        if let Some(kind) = own_kind(foreign, name) {
            return Err(Error::Onnx(format!(
                "the model has {kind} named {name:?}; give {what} another name with --{what}-name"
            )));
        }
        if request.energy == EnergyOutput::OwnNameToo && *name == foreign.output && what != "energy"
        {
            return Err(Error::Onnx(format!(
                "the model calls its energy {name:?}; give {what} another name with --{what}-name"
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

/// What is said of a model of others and how it was written, as an energy; what is made of it says more.
pub(crate) fn contract(foreign: &Foreign, settings: &Settings) -> Contract {
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
    Contract {
        format_version: FORMAT_VERSION,
        kind: Kind::Energy,
        network: Origin::Model(ForeignModel {
            producer: foreign.producer.clone(),
            sha256: foreign.sha256.clone(),
            reduction: foreign.reduction.map(|reduction| reduction.to_string()),
        }),
        image,
        value_range: [-1.0, 1.0],
        batch: settings.batch.size(),
        langevin: None,
        purification: None,
        potential: None,
        clip: None,
        n_steps: None,
        n_classes: None,
        opset: settings.opset.number(),
        rewrites: settings
            .rewrites
            .iter()
            .map(|rewrite| rewrite.name().to_string())
            .collect(),
        precision: settings.precision,
        n_parameters: foreign
            .weights
            .values()
            .map(|weight| weight.data().len())
            .sum(),
        weights_sha256: tensors_sha256(&foreign.weights),
        config: None,
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, array};

    use super::*;
    use crate::graph::reference::{bindings, evaluate};
    use crate::source::onnx::testing::Attribute::Int;
    use crate::source::onnx::testing::{self};
    use crate::source::onnx::{Selection, read};
    use std::collections::BTreeMap;

    /// E(x) = Σ w x², `score [N, 1]` of `images [N, 2]`.
    fn energy() -> testing::Model {
        testing::Model::new()
            .input("images", &[-1, 2])
            .floats("w", &[2], &[1.0, 3.0])
            .ints("axes", &[1])
            .node("Mul", "images images", "square", &[])
            .node("Mul", "square w", "weighed", &[])
            .node(
                "ReduceSum",
                "weighed axes",
                "score",
                &[("keepdims", Int(1))],
            )
            .output("score")
    }

    fn request(derivation: Derivation) -> Request {
        Request {
            derivation,
            energy: EnergyOutput::Renamed,
            names: Names::default(),
        }
    }

    fn file(model: &testing::Model, request: &Request) -> Result<Vec<u8>, String> {
        let file = derived_file(&model.read(), request, &Settings::default());
        file.map(|file| file.to_bytes())
            .map_err(|error| error.to_string())
    }

    fn problem(model: &testing::Model, request: &Request) -> String {
        file(model, request).unwrap_err()
    }

    fn names(bytes: &[u8]) -> (Vec<String>, Vec<String>) {
        let inspection = crate::check::inspect::inspect_bytes(bytes).unwrap();
        let [inputs, outputs] = [inspection.inputs, inspection.outputs]
            .map(|values| values.into_iter().map(|value| value.name).collect());
        (inputs, outputs)
    }

    fn contract_of(bytes: &[u8]) -> Contract {
        let inspection = crate::check::inspect::inspect_bytes(bytes).unwrap();
        serde_json::from_value(inspection.contract.unwrap()).unwrap()
    }

    /// An output of a file whose inputs have those values.
    fn evaluated(bytes: &[u8], output: &str, inputs: &[(&str, ArrayD<f64>)]) -> ArrayD<f64> {
        let selection = Selection {
            output: Some(output),
            input: Some(inputs[0].0),
            ..Selection::default()
        };
        let foreign = read(bytes, &selection).unwrap();
        let mut values = bindings(&foreign.weights);
        let given = inputs
            .iter()
            .map(|(name, value)| (name.to_string(), value.clone()));
        values.extend(given.collect::<BTreeMap<_, _>>());
        evaluate(&foreign.graph, &values)
            .unwrap()
            .remove(output)
            .unwrap()
    }

    /// ∇E = 2 w x and ∇²E·v = 2 w v.
    #[test]
    fn a_file_has_what_was_asked_for_under_its_names() {
        let x = array![[1.0, -2.0], [0.5, 3.0]].into_dyn();
        let v = array![[0.25, 1.0], [-1.0, 2.0]].into_dyn();
        let slope = array![2.0, 6.0].into_dyn();
        let bytes = file(&energy(), &request(Derivation::HessianVectorProduct)).unwrap();
        assert_eq!(
            names(&bytes),
            (
                vec!["images".into(), "v".into()],
                vec!["energy".into(), "gradient".into(), "hvp".into()]
            )
        );
        let inputs = [("images", x.clone()), ("v", v.clone())];
        assert_eq!(
            evaluated(&bytes, "energy", &inputs),
            array![13.0, 27.25].into_dyn()
        );
        assert_eq!(evaluated(&bytes, "gradient", &inputs), &x * &slope);
        assert_eq!(evaluated(&bytes, "hvp", &inputs), &v * &slope);

        let renamed = Request {
            energy: EnergyOutput::OwnNameToo,
            names: Names {
                gradient: "slope".to_string(),
                ..Names::default()
            },
            ..request(Derivation::Gradient)
        };
        let bytes = file(&energy(), &renamed).unwrap();
        assert_eq!(
            names(&bytes),
            (
                vec!["images".into()],
                vec!["energy".into(), "slope".into(), "score".into()]
            )
        );
        assert_eq!(evaluated(&bytes, "slope", &inputs[..1]), &x * &slope);
        let own = evaluated(&bytes, "score", &inputs[..1]);
        assert_eq!(own, evaluated(&bytes, "energy", &inputs[..1]));
    }

    #[test]
    fn energies_of_one_number_per_image_may_have_more_axes() {
        for target in [vec![-1], vec![-1, 1], vec![-1, 1, 1, 1], vec![1, -1]] {
            let model = testing::Model::new()
                .input("x", &[-1, 1])
                .ints("target", &target);
            let model = model.node("Reshape", "x target", "y", &[]).output("y");
            let bytes = file(&model, &request(Derivation::Gradient)).unwrap();
            let x = array![[3.0], [4.0]].into_dyn();
            assert_eq!(
                evaluated(&bytes, "energy", &[("x", x.clone())]),
                array![3.0, 4.0].into_dyn()
            );
            assert_eq!(
                evaluated(&bytes, "gradient", &[("x", x)]),
                array![[1.0], [1.0]].into_dyn()
            );
        }
    }

    #[test]
    fn names_of_the_model_are_refused() {
        let named = |input: &str, weight: &str| {
            let model =
                testing::Model::new()
                    .input(input, &[-1, 2])
                    .floats(weight, &[2], &[1.0, 2.0]);
            let model =
                model
                    .ints("axes", &[1])
                    .node("Mul", &format!("{input} {weight}"), "square", &[]);
            model
                .node("ReduceSum", "square axes", "score", &[("keepdims", Int(0))])
                .output("score")
        };
        let hvp = request(Derivation::HessianVectorProduct);
        let same = Request {
            names: Names {
                hvp: "gradient".to_string(),
                ..Names::default()
            },
            ..hvp.clone()
        };
        for (model, request, wanted) in [
            (
                named("gradient", "w"),
                &hvp,
                "the model has an input named \"gradient\"; give gradient another name with --gradient-name",
            ),
            (
                named("v", "w"),
                &hvp,
                "the model has an input named \"v\"; give v another name with --v-name",
            ),
            (
                named("x", "hvp"),
                &hvp,
                "the model has a weight named \"hvp\"; give hvp another name with --hvp-name",
            ),
            (named("x", "energy"), &hvp, "--energy-name"),
            (
                named("x", "w"),
                &same,
                "hvp and gradient are both called \"gradient\"; give one another name with --hvp-name",
            ),
        ] {
            let problem = problem(&model, request);
            assert!(problem.contains(wanted), "{problem}");
        }
        let model = named("x", "w")
            .node("Neg", "square", "gradient", &[])
            .output("gradient");
        let selection = Selection {
            output: Some("score"),
            ..Selection::default()
        };
        let foreign = read(&model.bytes(), &selection).unwrap();
        let error = derived_file(&foreign, &hvp, &Settings::default()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("the model has an output named \"gradient\""),
            "{error}"
        );
        // A value inside the model makes room.
        let inside = testing::Model::new()
            .input("x", &[-1, 1])
            .node("Exp", "x", "gradient", &[]);
        let inside = inside.node("Neg", "gradient", "y", &[]).output("y");
        assert_eq!(
            names(&file(&inside, &hvp).unwrap()).1,
            ["energy", "gradient", "hvp"]
        );
    }

    #[test]
    fn refuses_what_is_no_energy_of_the_input() {
        let vector = testing::Model::new()
            .input("x", &[-1, 2])
            .node("Neg", "x", "y", &[])
            .output("y");
        let truths = testing::Model::new()
            .input("x", &[-1, 1])
            .node("Greater", "x x", "positive", &[])
            .node("Cast", "positive", "y", &[("to", Int(1))])
            .output("y");
        for (model, wanted) in [
            (
                vector,
                "output \"y\" has shape [N, 2], expected one scalar per image, [N]; reduce it with --reduce",
            ),
            (truths, "output \"y\" does not depend on input \"x\""),
        ] {
            let problem = problem(&model, &request(Derivation::Gradient));
            assert!(problem.contains(wanted), "{problem}");
        }
    }

    /// Without noise a step is `x (1 − ε²/(2T)·2 w)`.
    #[test]
    fn steps_go_down_the_energy_from_an_input_x() {
        let bytes = file(
            &energy(),
            &request(Derivation::Steps(Steps {
                count: 1,
                ..Steps::ONE
            })),
        )
        .unwrap();
        let (inputs, outputs) = names(&bytes);
        assert_eq!(inputs, ["x", "noise", "step_size", "temperature"]);
        assert_eq!(outputs, ["x_next", "energy", "gradient_norm"]);
        let x = array![[1.0, -2.0]].into_dyn();
        let scalar = |value: f64| ArrayD::from_elem(Vec::new(), value);
        let given = [
            ("x", x.clone()),
            ("noise", &x * 0.0),
            ("step_size", scalar(0.5)),
            ("temperature", scalar(2.0)),
        ];
        let wanted = &x - &(&x * &array![2.0, 6.0].into_dyn() * (0.25 / 4.0));
        assert_eq!(evaluated(&bytes, "x_next", &given), wanted);

        let contract = contract_of(&bytes);
        assert_eq!(
            (contract.kind, contract.image, contract.n_steps),
            (Kind::Step, None, None)
        );
        let several = file(
            &energy(),
            &request(Derivation::Steps(Steps {
                count: 4,
                ..Steps::ONE
            })),
        )
        .unwrap();
        assert_eq!(contract_of(&several).n_steps, Some(4));
    }

    #[test]
    fn steps_of_several_inputs_are_refused() {
        let model = testing::Model::new()
            .input("x", &[-1, 1])
            .input("label", &[-1, 1]);
        let model = model.node("Mul", "x label", "y", &[]).output("y");
        let problem = problem(
            &model,
            &request(Derivation::Steps(Steps {
                count: 1,
                ..Steps::ONE
            })),
        );
        assert!(
            problem.contains("but the model has [\"x\", \"label\"]"),
            "{problem}"
        );
    }

    #[test]
    fn the_contract_and_the_documentation_say_where_it_comes_from() {
        let mut model = testing::Model::new().input("x", &[-1, 1, 1, 1]);
        model.0.producer_name = Some("somebody".to_string());
        model.0.doc_string = Some("An energy.".to_string());
        model.graph().name = Some("main".to_string());
        let model = model.node("Neg", "x", "y", &[]).output("y");
        let bytes = file(&model, &request(Derivation::Gradient)).unwrap();
        let contract = contract_of(&bytes);
        let image = ImageShape {
            channels: 1,
            height: 1,
            width: 1,
        };
        assert_eq!(
            (contract.kind, contract.image),
            (Kind::Gradient, Some(image))
        );
        let origin = ForeignModel {
            producer: "somebody".to_string(),
            sha256: crate::source::checkpoint::sha256(&model.bytes()),
            reduction: None,
        };
        assert_eq!(contract.network, Origin::Model(origin));
        let text = serde_json::to_value(&contract.network).unwrap();
        assert_eq!(text["name"], "onnx");
        let selection = Selection {
            output: Some("gradient"),
            ..Selection::default()
        };
        let documentation = read(&bytes, &selection).unwrap().documentation;
        assert_eq!(documentation.name, "main");
        assert_eq!(documentation.text, "An energy.");
    }
}
