//! From an energy to its files: one way for checkpoints, built-in networks and ONNX models.
//!
//! ```text
//! energy → [before-gradient rewrites] → gradient → rewrites → potential → weights bound, types lowered → steps
//! ```

use std::cell::OnceCell;
use std::collections::BTreeMap;

use ndarray::{ArrayD, IxDyn};

use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::graph::tensor::Tensors;
use crate::source::checkpoint::{Header, tensors_sha256};
use crate::source::{Energy, Kind, Origin};
use crate::transform::gradient::{gradient, hessian_vector_product_along};
use crate::transform::langevin::{Steps, steps_graph};
use crate::transform::pipeline::{bind, written};
use crate::transform::potential::{Potential, check_scale};
use crate::transform::precision::{Comparison, Precision, lowered};
use crate::transform::purifier::purifier_graph;
use crate::transform::rewrite::{Rewrite, Target, apply, apply_before_gradient};
use crate::write::contract::{Contract, Described, FORMAT_VERSION, ModelOrigin, Terms, n_elements};
use crate::write::form::Form;
use crate::write::model::Model;
use crate::write::names::Names;
use crate::write::onnx::{Opset, model};

/// How an energy is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Export {
    /// Version of ONNX's operators.
    pub opset: Opset,
    /// Rewrites to apply, in order; none for the graphs as they are described.
    pub rewrites: Vec<Rewrite>,
    /// The types that the files work in.
    pub precision: Precision,
    /// What a step descends; `None` as it was learned, with the Gaussian term of the checkpoint if it has one. What was learned beside a
    /// prior needs it here, as [`read_potential`](crate::transform::potential::read_potential) gives it.
    pub potential: Option<Potential>,
    /// The L2 norm to which the drift of a step is shortened per image, if it is.
    pub clip: Option<f64>,
    /// How the outputs of derivatives are called. Steps keep to the names of the contract.
    pub names: Names,
}

impl Default for Export {
    fn default() -> Export {
        Export {
            opset: Opset::DEFAULT,
            rewrites: Target::Cpu.rewrites(),
            precision: Precision::F32,
            potential: None,
            clip: None,
            names: Names::default(),
        }
    }
}

/// A file of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelFile {
    /// `energy.onnx`, `gradient.onnx`, `step.onnx`, `classifier.onnx` or `generator.onnx`.
    pub name: &'static str,
    /// Its content.
    pub model: Model,
}

/// Names of the files that a network of that kind becomes.
pub fn file_names(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Classifier => &["classifier.onnx"],
        Kind::Generator => &["generator.onnx"],
        _ => &["energy.onnx", "gradient.onnx", "step.onnx"],
    }
}

impl Export {
    /// Checks what can be checked without an energy.
    ///
    /// # Errors
    /// The numbers of steps make no sense, or two names are one.
    pub fn check(&self, form: &Form) -> Result<()> {
        match form.n_steps() {
            Some(count) => self.steps(count).check(),
            None => self.names.check(form),
        }
    }

    /// The file that computes `form`.
    ///
    /// # Errors
    /// The output of the energy is not one number per image; a name is one of the model's own; a node has no derivative; the potential
    /// does not suit it; steps are asked of a model with several inputs; or the file would be larger than ONNX files can be.
    pub fn model(&self, energy: &Energy, form: &Form) -> Result<Model> {
        Way::new(self, energy)?.model(form)
    }

    /// The usual files: energy, gradient and `steps_per_run` steps of an energy, or the classifier or generator that it is. In a
    /// potential of more terms the three files are those of `T·U`, of which T is an input `temperature []`.
    ///
    /// # Errors
    /// As [`Export::model`]; or several steps are asked of what is not an energy.
    pub fn files(&self, energy: &Energy, steps_per_run: usize) -> Result<Vec<ModelFile>> {
        let forms = match (energy.kind, steps_per_run) {
            (Kind::Energy, count) => vec![Form::Forward, Form::Gradient, Form::Steps(count)],
            (_, 1) => vec![Form::Forward],
            (_, count) => {
                return Err(Error::Onnx(format!(
                    "{count} steps of one run belong to energies, and this checkpoint holds none"
                )));
            }
        };
        let way = Way::new(self, energy)?;
        let files = file_names(energy.kind).iter().zip(&forms);
        files
            .map(|(name, form)| {
                Ok(ModelFile {
                    name,
                    model: way.model(form)?,
                })
            })
            .collect()
    }

    /// What tells how far files in the export's precision are from exact ones: the gradient of an energy, or what a classifier or
    /// generator gives.
    ///
    /// # Errors
    /// As [`Export::model`]; or an ONNX model has several inputs, of which nobody knows what is usual.
    pub fn comparison(&self, energy: &Energy) -> Result<Comparison> {
        if energy.model().is_some() && energy.inputs().len() > 1 {
            return Err(Error::Onnx(
                "errors are measured for models with one input; this one has several".to_string(),
            ));
        }
        let exact = Export {
            precision: Precision::F32,
            names: Names::default(),
            ..self.clone()
        };
        let way = Way::new(&exact, energy)?;
        let (exact, output) = match energy.kind {
            Kind::Energy => (
                way.derivative(&Form::Gradient, &energy.input, &exact.names)?,
                "gradient",
            ),
            _ => (way.forward()?, energy.output.as_str()),
        };
        Ok(Comparison {
            written: lowered(&exact, self.precision)?,
            exact,
            input: energy.input.clone(),
            output: output.to_string(),
            others: other_inputs(energy),
        })
    }

    fn steps(&self, count: usize) -> Steps {
        let clip = self.clip.map(|clip| clip as f32);
        Steps { count, clip }
    }

    /// What the files of an energy descend.
    fn potential_of(&self, energy: &Energy) -> Result<Potential> {
        let given = self.potential.as_ref();
        match (energy.kind, &energy.origin) {
            (Kind::Energy, Origin::Network(header)) => {
                let potential = match given {
                    Some(potential) => potential.clone(),
                    None => learned_without_prior(header)?,
                };
                potential.check(header.network.image())?;
                if let Some(clip) = self.clip {
                    check_scale("clip", clip, 1.0 / clip)?;
                }
                Ok(potential)
            }
            (Kind::Energy, Origin::Model(_)) if given.is_none_or(Potential::is_plain) => {
                Ok(Potential::default())
            }
            (Kind::Energy, Origin::Model(_)) => Err(Error::Potential {
                problem:
                    "prior and tau belong to energies of checkpoints, and this one is an ONNX model"
                        .to_string(),
            }),
            _ if given.is_none_or(Potential::is_plain) && self.clip.is_none() => {
                Ok(Potential::default())
            }
            _ => Err(Error::Potential {
                problem: "prior, tau and clip belong to energies, and this checkpoint holds none"
                    .to_string(),
            }),
        }
    }
}

fn learned_without_prior(header: &Header) -> Result<Potential> {
    if header.prior.is_some() {
        let problem = "the energy was learned beside a prior; say what is descended".to_string();
        return Err(Error::Potential { problem });
    }
    let tau = header.langevin.as_ref().and_then(|langevin| langevin.tau);
    Ok(Potential { prior: None, tau })
}

/// Values of the inputs that files of a checkpoint have beside x or z, for one image: the temperature that the checkpoint recommends,
/// and the first class of a generator that distinguishes classes.
fn other_inputs(energy: &Energy) -> BTreeMap<String, ArrayD<f64>> {
    let Some(header) = energy.header() else {
        return BTreeMap::new();
    };
    let recommended = header.purification.as_ref();
    let temperature = recommended.map_or(1.0, |purification| purification.temperature);
    let temperature = ArrayD::from_elem(IxDyn(&[]), temperature);
    let mut values = BTreeMap::from([("temperature".to_string(), temperature)]);
    if let (Kind::Generator, Some(n_classes)) = (energy.kind, header.network.n_classes()) {
        let first = ArrayD::from_shape_fn(IxDyn(&[1, n_classes]), |index| {
            f64::from(u8::from(index[1] == 0))
        });
        values.insert("class".to_string(), first);
    }
    values
}

/// The stages from one energy to its files.
struct Way<'a> {
    export: &'a Export,
    energy: &'a Energy,
    potential: Potential,
    /// Those of all networks in the potential.
    weights: Tensors,
    /// What all files say of themselves.
    contract: Contract,
    /// The gradient that steps take, as it is written: `gradient.onnx` and `step.onnx` share its weights.
    slope: OnceCell<Graph>,
}

impl<'a> Way<'a> {
    fn new(export: &'a Export, energy: &'a Energy) -> Result<Way<'a>> {
        let potential = export.potential_of(energy)?;
        Ok(Way {
            contract: contract(export, energy, &potential),
            weights: potential.weights(&energy.weights),
            potential,
            export,
            energy,
            slope: OnceCell::new(),
        })
    }

    fn model(&self, form: &Form) -> Result<Model> {
        self.export.check(form)?;
        let graph = match form {
            Form::Forward => self.forward()?,
            Form::Gradient | Form::HessianVectorProduct => self.named_derivative(form)?,
            Form::Steps(count) => steps_graph(self.slope()?, &self.export.steps(*count))?,
            Form::Purifier(dynamics) => {
                let steps = steps_graph(self.slope()?, &self.export.steps(dynamics.steps))?;
                // What ε and T alone make is computed once.
                bind(&purifier_graph(&steps, dynamics)?, &Tensors::new())?
            }
        };
        let mut contract = Contract {
            kind: form.kind(self.energy),
            n_steps: form.n_steps().filter(|&count| count > 1),
            ..self.contract.clone()
        };
        if let Form::Purifier(dynamics) = form {
            contract.purification = Some(dynamics.clone());
        }
        let model = model(&graph, &contract, self.export.opset, self.energy.batch)?;
        match self.energy.model() {
            Some(origin) => model.documented(&origin.documentation),
            None => Ok(model),
        }
    }

    fn forward(&self) -> Result<Graph> {
        let rewrites = &self.export.rewrites;
        let graph = match self.energy.kind {
            Kind::Energy => {
                let energy = apply(&self.energy.energy_graph()?, rewrites)?;
                self.potential.energy_graph(&energy, rewrites)?
            }
            _ => apply(&self.energy.graph, rewrites)?,
        };
        written(&graph, &self.weights, self.export.precision)
    }

    /// Energy and gradient of an input `x`.
    fn slope(&self) -> Result<&Graph> {
        if let Some(slope) = self.slope.get() {
            return Ok(slope);
        }
        let inputs = self.energy.inputs();
        if inputs.len() > 1 {
            return Err(Error::Onnx(format!(
                "steps have one input besides noise, step size and temperature, but the model has {inputs:?}; fix the others in the model"
            )));
        }
        let names = Names::default();
        let slope = self.derivative(&Form::Gradient, "x", &names)?;
        Ok(self.slope.get_or_init(|| slope))
    }

    fn named_derivative(&self, form: &Form) -> Result<Graph> {
        let names = &self.export.names;
        names.check_against(form, self.energy)?;
        let is_slope = *form == Form::Gradient && *names == Names::default();
        match is_slope && self.energy.inputs() == ["x"] {
            true => self.slope().cloned(),
            false => self.derivative(form, &self.energy.input, names),
        }
    }

    /// A derivative by the input, which is called `input` in it.
    fn derivative(&self, form: &Form, input: &str, names: &Names) -> Result<Graph> {
        let rewrites = &self.export.rewrites;
        let energy = self.energy.energy_graph()?;
        let energy = energy.with_input_named(&self.energy.input, input)?;
        let energy = apply_before_gradient(&energy, rewrites)?;
        let derived = match form {
            Form::HessianVectorProduct => {
                hessian_vector_product_along(&energy, "energy", input, &names.v)?
            }
            _ => gradient(&energy, "energy", input)?,
        };
        let derived = names.put_on(&derived, &self.energy.output)?;
        let derived = apply(&derived, rewrites)?;
        let derived = match self.potential.is_plain() {
            true => derived,
            false => self.potential.gradient_graph(&derived, rewrites)?,
        };
        written(&derived, &self.weights, self.export.precision)
    }
}

/// What all files of an energy say of themselves; each has a kind of its own.
fn contract(export: &Export, energy: &Energy, potential: &Potential) -> Contract {
    let header = energy.header();
    Contract {
        format_version: FORMAT_VERSION,
        kind: energy.kind,
        network: match &energy.origin {
            Origin::Network(header) => Described::Network(header.network.clone()),
            Origin::Model(model) => Described::Model(ModelOrigin {
                producer: model.producer.clone(),
                sha256: model.sha256.clone(),
                reduction: model.reduction.clone(),
            }),
        },
        image: energy.image(),
        value_range: [-1.0, 1.0],
        batch: energy.batch.size(),
        langevin: header.and_then(|header| header.langevin.clone()),
        purification: header.and_then(|header| header.purification.clone()),
        potential: (!potential.is_plain()).then(|| Terms::of(potential)),
        clip: export.clip,
        n_steps: None,
        n_classes: energy.n_classes(),
        opset: export.opset.number(),
        rewrites: export
            .rewrites
            .iter()
            .map(|rewrite| rewrite.name().to_string())
            .collect(),
        precision: export.precision,
        n_parameters: n_elements(&energy.weights),
        weights_sha256: tensors_sha256(&energy.weights),
        config: header
            .filter(|header| !header.config.is_null())
            .map(|header| header.config.clone()),
    }
}

#[cfg(test)]
mod tests;
