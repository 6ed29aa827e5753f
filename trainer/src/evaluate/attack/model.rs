//! What an audit is about: a classifier and an energy, each learned by a run or read from an ONNX file that anybody wrote.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use ebm_export::graph::op::{self, Op};
use ebm_export::graph::tensor::Tensors;
use ebm_export::graph::{Batch, Dim, Graph, Value};

use ebm_export::source::networks::Activation;
use ebm_export::source::onnx::{Selection, read_file};
use ebm_export::source::{Energy, ImageShape, Kind, Purification};
use ebm_export::transform::potential::Potential;
use ebm_export::transform::potential::read_potential;

use crate::run::saved::Saved;

/// A network that is attacked, or that is in the way of attacks.
#[derive(Debug)]
pub struct AttackedModel {
    /// From images `x [N, C, H, W]` in `[-1, 1]` to `logits [N, n_classes]`, or to `energy [N]`.
    pub graph: Graph,
    /// Its weights.
    pub weights: Tensors,
    /// What it takes.
    pub image: ImageShape,
    /// How it recommends to purify with it.
    pub purification: Option<Purification>,
    /// The checkpoint that it was read from, if it is not a file.
    pub saved: Option<Saved>,
}

impl AttackedModel {
    /// The classifier of a run or of an ONNX file that this option names.
    ///
    /// # Errors
    /// There is none, or the file does not map images to one number for each class.
    pub fn classifier(path: &Path, option: &str) -> Result<AttackedModel> {
        let model = open(path, Kind::Classifier, option, "logits")?;
        let shape = model.graph.shape(model.graph.output("logits")?);
        ensure!(
            matches!(shape.0[..], [Dim::Batch { .. }, Dim::Size(_)]),
            "{option} {}: expected logits [N, classes] as its output, got {shape}",
            path.display()
        );
        Ok(model)
    }

    /// The energy of a run or of an ONNX file.
    ///
    /// # Errors
    /// There is none, or the file does not map images to one number each.
    pub fn energy(path: &Path) -> Result<AttackedModel> {
        let model = open(path, Kind::Energy, "--energy", "energy")?;
        let shape = model.graph.shape(model.graph.output("energy")?);
        ensure!(
            matches!(shape.0[..], [Dim::Batch { .. }]),
            "--energy {}: expected one energy per image [N] as its output, got {shape}",
            path.display()
        );
        Ok(model)
    }

    /// What chains descend: of a run with the prior and the Gaussian term that it was learned with.
    ///
    /// # Errors
    /// The prior is missing or damaged.
    pub fn potential(&self) -> Result<Potential> {
        Ok(match &self.saved {
            Some(saved) => read_potential(&saved.folder, &saved.header)?,
            None => Potential::default(),
        })
    }

    /// The number of classes of a classifier.
    pub fn n_classes(&self) -> usize {
        let logits = self.graph.output("logits");
        let last = logits
            .ok()
            .and_then(|value| self.graph.shape(value).0.last().copied());
        match last {
            Some(Dim::Size(n_classes)) => n_classes,
            _ => 0,
        }
    }

    /// Whether it is piecewise linear, at least in parts.
    pub fn has_relus(&self) -> bool {
        let mut values = self.graph.values();
        values.any(|value| relu(&self.graph, value).is_some())
    }

    /// The same network with softened ReLUs: `(1 − a)·x + a·√(x² + e²) − a·e`, e being the bend, has the slopes 1 and 1 − 2a.
    ///
    /// # Errors
    /// The graph cannot be rebuilt.
    pub fn softened(&self, bend: f32) -> Result<Graph> {
        Ok(self.graph.rebuild(|target, mapping, value| {
            let Some((slope, x)) = relu(&self.graph, value) else {
                return Ok(None);
            };
            let soft = Activation::SoftLeakyRelu {
                a: (1.0 - slope) / 2.0,
                e: bend,
            };
            let name = &self.graph.node(value).name;
            soft.apply(target, name, mapping.get(x)).map(Some)
        })?)
    }
}

/// The slope below zero of a ReLU, leaky or not, and its operand.
fn relu(graph: &Graph, value: Value) -> Option<(f32, Value)> {
    match graph.operator(value)? {
        (Op::Activation(op::Activation::Relu), &[x]) => Some((0.0, x)),
        (Op::Activation(op::Activation::LeakyRelu { slope }), &[x]) => Some((*slope, x)),
        _ => None,
    }
}

fn open(path: &Path, kind: Kind, option: &str, output: &str) -> Result<AttackedModel> {
    if path.is_file() {
        return of_file(path, output).with_context(|| format!("{option} {}", path.display()));
    }
    let saved = Saved::open_kind(path, kind, option)?;
    Ok(AttackedModel {
        graph: saved.header.network.graph()?,
        weights: saved.weights()?,
        image: saved.header.network.image(),
        purification: saved.header.purification.clone(),
        saved: Some(saved),
    })
}

fn of_file(path: &Path, output: &str) -> Result<AttackedModel> {
    // Many images at once, whatever batch the file fixes.
    let selection = Selection {
        outputs: &[],
        input: None,
        image: None,
        batch: Some(Batch::Symbolic),
    };
    let model = read_file(path, &selection)?;
    let n_inputs = model.inputs().len();
    ensure!(
        n_inputs == 1,
        "expected images as the only input, got {n_inputs} inputs: fix the others in the model"
    );
    let input = model.graph.input_named(&model.input)?;
    let image = model.image().with_context(|| {
        let got = model.graph.shape(input);
        format!("expected images [N, C, H, W] of a fixed size as its input, got {got}")
    })?;
    let mut named = model.graph.with_input_named(&model.input, "x")?;
    let value = named.output(&model.output)?;
    named.remove_output(&model.output);
    named.set_output(output, value);
    Ok(AttackedModel {
        graph: named,
        image,
        purification: recommended(&model)?,
        weights: model.weights,
        saved: None,
    })
}

/// The purification that the contract of a file recommends, if it has one.
///
/// # Errors
/// The steps of the file do more than descend its energy, which would be another defence.
fn recommended(model: &Energy) -> Result<Option<Purification>> {
    let contract = model.model().and_then(|file| file.contract.as_ref());
    let Some(contract) = contract else {
        return Ok(None);
    };
    for (key, what) in [
        ("potential", "further terms beside its energy"),
        ("clip", "a clipped drift"),
    ] {
        ensure!(
            contract.get(key).is_none_or(serde_json::Value::is_null),
            "the steps of this file have {what}, which a file does not give apart: attack the run that it was exported from"
        );
    }
    let purification = contract.get("purification").cloned().unwrap_or_default();
    serde_json::from_value(purification)
        .context("its contract states no purification that can be read")
}
