//! Energies of what gives more than one number per image, such as the logits of a classifier.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::graph::op::{Binary, KeepDims, Reduce, ReduceKind, Reshape, Slice, Unary};
use crate::graph::{Dim, Graph, Shape, Value};
use crate::source::{Energy, Origin};

/// How an output becomes an energy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// `E = −log Σ_k exp(logit_k)`, whose density is that of the images of all classes (JEM, Grathwohl et al. 2020).
    LogSumExp,
    /// `E = −logit_K`, whose density is that of the images of class K.
    Class(usize),
    /// `E` = the sum of all numbers of an image, which are energies: of parts, or of pixels.
    Sum,
}

impl FromStr for Reduction {
    type Err = String;

    fn from_str(text: &str) -> Result<Reduction, String> {
        let class = text.strip_prefix("class=").map(str::parse);
        match (text, class) {
            ("logsumexp", _) => Ok(Reduction::LogSumExp),
            ("sum", _) => Ok(Reduction::Sum),
            (_, Some(Ok(class))) => Ok(Reduction::Class(class)),
            _ => Err(format!(
                "expected logsumexp, class=K with the number of a class, or sum, got {text:?}"
            )),
        }
    }
}

impl fmt::Display for Reduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reduction::LogSumExp => f.write_str("logsumexp"),
            Reduction::Class(class) => write!(f, "class={class}"),
            Reduction::Sum => f.write_str("sum"),
        }
    }
}

impl Reduction {
    /// The model whose output is the energy `[N]` in place of what it is made of.
    ///
    /// # Errors
    /// The output has nothing for each image, is not logits `[N, classes]` where these are reduced, or has no such class.
    pub fn applied(self, model: &Energy) -> Result<Energy> {
        let mut graph = model.graph.clone();
        let output = graph.output(&model.output)?;
        let shape = graph.shape(output).clone();
        let problem = |expected: &str| {
            Error::Onnx(format!(
                "output {:?} is {shape}; {self} expects {expected}",
                model.output
            ))
        };
        let source = graph.input_named(&model.input)?;
        let images = graph.shape(source).0.first();
        if shape.0.first() != images {
            return Err(problem("the images along its first axis"));
        }
        let is_logits = shape.rank() >= 2 && shape.0[2..].iter().all(|dim| *dim == Dim::Size(1));
        if self != Reduction::Sum && !is_logits {
            return Err(problem("logits [N, classes]"));
        }
        let count = shape.elements_per_image();
        if let Reduction::Class(class) = self
            && class >= count
        {
            return Err(problem(&format!("a class below {count}")));
        }
        let numbers = Reshape {
            shape: Shape::batched(&[count]),
        };
        let numbers = graph.apply("energy.numbers", numbers, &[output])?;
        let energy = self.energy(&mut graph, numbers)?;
        let one = Reshape {
            shape: Shape::batched(&[]),
        };
        let energy = graph.apply("energy.reduced", one, &[energy])?;
        graph.set_output(&model.output, energy);
        let mut reduced = model.clone();
        reduced.graph = graph;
        if let Origin::Model(origin) = &mut reduced.origin {
            origin.reduction = Some(self.to_string());
        }
        Ok(reduced)
    }

    /// `[N, 1]` of `[N, count]`.
    fn energy(self, graph: &mut Graph, numbers: Value) -> Result<Value> {
        let along = |kind| Reduce {
            kind,
            axes: vec![1],
            keep_dims: KeepDims::Yes,
        };
        let negated = match self {
            Reduction::Sum => {
                return graph.apply("energy.sum", along(ReduceKind::Sum), &[numbers]);
            }
            Reduction::Class(class) => graph.apply(
                "energy.logit",
                Slice::range(1, class..class + 1),
                &[numbers],
            )?,
            // `m + log Σ e^(x − m)` with `m = max x`, so that no exponential overflows. By m the derivative is 0.
            Reduction::LogSumExp => {
                let most = graph.apply("energy.most", along(ReduceKind::Max), &[numbers])?;
                let below = graph.apply("energy.below", Binary::Sub, &[numbers, most])?;
                let shares = graph.apply("energy.shares", Unary::Exp, &[below])?;
                let sum = graph.apply("energy.sum", along(ReduceKind::Sum), &[shares])?;
                let log = graph.apply("energy.log", Unary::Log, &[sum])?;
                graph.apply("energy.logsumexp", Binary::Add, &[most, log])?
            }
        };
        graph.apply("energy.negated", Unary::Neg, &[negated])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::reference::{bindings, evaluate};
    use crate::source::onnx::testing::{Model, array};
    use crate::transform::gradient::gradient;

    /// `y [batch, 3]` of `x [batch, 3]`, seen in that shape.
    fn model(batch: i64, target: &[i64]) -> Model {
        Model::new()
            .input("x", &[batch, 3])
            .ints("target", target)
            .node("Reshape", "x target", "y", &[])
            .output("y")
    }

    #[test]
    fn energies_have_their_closed_forms() {
        let logits = [1.0f64, -2.0, 1000.0];
        for (text, wanted) in [("logsumexp", -1000.0), ("class=1", 2.0), ("sum", 999.0)] {
            let reduction: Reduction = text.parse().unwrap();
            assert_eq!(reduction.to_string(), text);
            for model in [
                model(-1, &[-1, 3]),
                model(-1, &[-1, 3, 1, 1]),
                model(1, &[1, 3]),
            ] {
                let model = reduction.applied(&model.read()).unwrap();
                let mut values = bindings(&model.weights);
                values.insert("x".to_string(), array(&[1, 3], &logits));
                let energy = evaluate(&model.graph, &values).unwrap()["y"].clone();
                assert_eq!(energy, array(&[1], &[wanted]), "{text}");
            }
        }
        let map = model(-1, &[-1, 1, 3]).read();
        assert!(Reduction::Sum.applied(&map).is_ok());
    }

    /// The shares of three classes are ¼, ½ and ¼.
    #[test]
    fn slopes_have_their_closed_forms() {
        let logits = [0.0, 2f64.ln(), 0.0];
        for (reduction, wanted) in [
            (Reduction::LogSumExp, [-0.25, -0.5, -0.25]),
            (Reduction::Class(1), [0.0, -1.0, 0.0]),
            (Reduction::Sum, [1.0; 3]),
        ] {
            let model = reduction.applied(&model(-1, &[-1, 3]).read()).unwrap();
            let slope = gradient(&model.graph, "y", "x").unwrap();
            let mut values = bindings(&model.weights);
            values.insert("x".to_string(), array(&[1, 3], &logits));
            let slope = &evaluate(&slope, &values).unwrap()["gradient"];
            let error = slope - array(&[1, 3], &wanted);
            assert!(error.iter().all(|error| error.abs() < 1e-12), "{slope}");
        }
    }

    #[test]
    fn what_does_not_suit_is_refused() {
        for text in ["mean", "class", "class=-1", "class=x", ""] {
            let problem = text.parse::<Reduction>().unwrap_err();
            assert!(problem.contains("expected logsumexp, class=K"), "{problem}");
        }
        let energies = Model::new().input("x", &[-1, 1]).ints("flat", &[-1]);
        let energies = energies.node("Reshape", "x flat", "y", &[]).output("y");
        for (model, reduction, wanted) in [
            (
                model(-1, &[-1, 3]),
                Reduction::Class(3),
                "output \"y\" is [N, 3]; class=3 expects a class below 3",
            ),
            (
                model(-1, &[-1, 1, 3]),
                Reduction::LogSumExp,
                "expects logits [N, classes]",
            ),
            (
                energies,
                Reduction::LogSumExp,
                "expects logits [N, classes]",
            ),
            (
                Model::new()
                    .input("x", &[-1, 3])
                    .node("Transpose", "x", "y", &[])
                    .output("y"),
                Reduction::Sum,
                "expects the images along its first axis",
            ),
        ] {
            let problem = reduction.applied(&model.read()).unwrap_err().to_string();
            assert!(problem.contains(wanted), "{problem}");
        }
    }
}
