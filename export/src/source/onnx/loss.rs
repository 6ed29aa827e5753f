//! Losses of classifiers: the negative logarithm of the probability of a label.
//!
//! ONNX operators: `NegativeLogLikelihoodLoss`, `SoftmaxCrossEntropyLoss`; see [the
//! specification](https://onnx.ai/onnx/operators/).

use super::known::check_count;
use super::node::{Node, Outputs, Rule};
use super::result::Result;
use super::softmax::log_shares;
use crate::graph::op::{Binary, KeepDims, Reduce, ReduceKind, Unary, Where};
use crate::graph::tensor::Tensor;
use crate::graph::{Dim, Shape, Value};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("SoftmaxCrossEntropyLoss", cross_entropy),
    ("NegativeLogLikelihoodLoss", negative_log_likelihood),
];

/// Of scores `[N, C, ..]`; its second output is the logarithms of their shares.
fn cross_entropy(node: &mut Node<'_, '_>) -> Outputs {
    let scores = node.value(0)?;
    check_scores(&node.shape(scores))?;
    let logs = log_shares(node, scores, 1)?;
    Ok(vec![likelihood(node, logs)?.into(), logs.into()])
}

fn negative_log_likelihood(node: &mut Node<'_, '_>) -> Outputs {
    let logs = node.value(0)?;
    check_scores(&node.shape(logs))?;
    Ok(vec![likelihood(node, logs)?.into()])
}

fn check_scores(shape: &Shape) -> Result<()> {
    match shape.size(1) {
        Some(_) => Ok(()),
        None => Err(format!("expected scores [N, C, ..], got {shape}")),
    }
}

/// `−w[label] · log p[label]`, 0 for labels that are ignored: logarithms `[N, C, ..]` and labels `[N, ..]` to `[N, ..]`, which is reduced as the
/// node asks for.
fn likelihood(node: &mut Node<'_, '_>, logs: Value) -> Result<Value> {
    let reduction = node.text("reduction")?;
    let ignored = node.int("ignore_index")?;
    let shape = node.shape(logs);
    let n_classes = shape.size(1).unwrap_or(0);
    check_count(&[n_classes])?;
    let batch = shape.batch_axis().map(|axis| axis..axis + 1);
    let labels = node.indices(1, batch)?;
    let labels = node.whole_numbers_of(&labels)?;
    let mut of_labels = node.shape(labels);
    if of_labels.rank() + 1 != shape.rank() {
        return Err(format!("labels {of_labels} do not fit {shape}"));
    }
    of_labels.0.insert(1, Dim::Size(1));
    let labels = node.seen_as("labels", labels, of_labels)?;
    let is_label = node.equals_place(labels, 1, n_classes)?;
    let zero = node.scalar("zero", 0.0);
    let mut chosen = node.apply("chosen", Where, &[is_label, logs, zero])?;
    let weights = match weights(node, n_classes, ignored)? {
        Some(weights) => Some(node.on_axis("weights", weights, 1, shape.rank())?),
        None => None,
    };
    if let Some(weights) = weights {
        chosen = node.apply("weighted", Binary::Mul, &[chosen, weights])?;
    }
    let sum = node.along("sum", ReduceKind::Sum, chosen, &[1])?;
    let loss = node.apply("negative", Unary::Neg, &[sum])?;
    let loss = node.without_axis(loss, 1)?;
    match reduction.as_deref() {
        Some("none") => Ok(loss),
        Some("sum") => whole_sum(node, loss),
        None | Some("mean") => {
            let loss = whole_sum(node, loss)?;
            let one = node.scalar("one", 1.0);
            let count = node.apply("counted", Where, &[is_label, weights.unwrap_or(one), zero])?;
            let count = whole_sum(node, count)?;
            node.apply("mean", Binary::Div, &[loss, count])
        }
        Some(other) => Err(format!("reduction {other:?} is not supported")),
    }
}

/// The weights of the classes, 0 for the one that is ignored; `None` if all are 1.
fn weights(
    node: &mut Node<'_, '_>,
    n_classes: usize,
    ignored: Option<i64>,
) -> Result<Option<Value>> {
    let given = node.optional_value(2)?;
    let ignored = ignored
        .and_then(|index| usize::try_from(index).ok())
        .filter(|&index| index < n_classes);
    let Some(ignored) = ignored else {
        return Ok(given);
    };
    let mut kept = vec![1.0; n_classes];
    kept[ignored] = 0.0;
    let kept = node.add_constant("kept", Tensor::new(&[n_classes], kept));
    match given {
        Some(given) => node.apply("kept", Binary::Mul, &[given, kept]).map(Some),
        None => Ok(Some(kept)),
    }
}

/// The sum of all elements, if these are not of a batch.
fn whole_sum(node: &mut Node<'_, '_>, x: Value) -> Result<Value> {
    let shape = node.shape(x);
    if shape.batch_axis().is_some() {
        return Err(
            "its reduction mixes the images of a batch; export it with the reduction \"none\", which gives a loss for each of them"
                .to_string(),
        );
    }
    let axes: Vec<usize> = (0..shape.rank()).collect();
    if axes.is_empty() {
        return Ok(x);
    }
    let sum = Reduce {
        kind: ReduceKind::Sum,
        axes,
        keep_dims: KeepDims::No,
    };
    node.apply("whole", sum, &[x])
}

#[cfg(test)]
mod tests {
    use crate::source::onnx::testing::Attribute::Text;
    use crate::source::onnx::testing::{Model, array};

    /// Scores of equal exponentials: the loss of one of C classes is log C.
    #[test]
    fn equal_scores_lose_the_logarithm_of_their_number() {
        let model = Model::new()
            .input("x", &[-1, 4])
            .for_each_image("labels", &[], &[2])
            .node(
                "SoftmaxCrossEntropyLoss",
                "x labels",
                "y",
                &[("reduction", Text("none"))],
            )
            .output("y");
        let x = array(&[1, 4], &[7.0; 4]);
        assert!((model.evaluate(&x)[[0]] - 4f64.ln()).abs() < 1e-12);
        assert_eq!(model.slope(&x), array(&[1, 4], &[0.25, 0.25, -0.75, 0.25]));
    }

    #[test]
    fn a_loss_of_the_batch_is_refused() {
        for reduction in ["mean", "sum"] {
            let model = Model::new()
                .input("x", &[-1, 4])
                .for_each_image("labels", &[], &[2])
                .node(
                    "NegativeLogLikelihoodLoss",
                    "x labels",
                    "y",
                    &[("reduction", Text(reduction))],
                )
                .output("y");
            assert!(
                model.problem().contains("with the reduction \"none\""),
                "{}",
                model.problem()
            );
        }
    }
}
