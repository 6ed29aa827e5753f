//! Langevin steps in the form that a server can batch.

use crate::error::Result;
use crate::graph::op::{Reshape, Transpose};
use crate::graph::tensor::Tensor;
use crate::graph::{Dim, Graph, Shape, Source, Value};
use crate::source::Purification;

/// From a graph of k Langevin steps to one whose inputs and outputs all have the batch on axis 0, as servers put requests together along it: `x [N, C, H, W]` and
/// `noise [N, k, C, H, W]` become `x_next [N, C, H, W]`, and `energy [N, k]` and `gradient_norm [N, k]` before each step. ε and T, which no image has alone, become
/// constants.
///
/// # Errors
/// The graph is not one of that number of steps.
pub fn purifier_graph(steps_graph: &Graph, dynamics: &Purification) -> Result<Graph> {
    let count = dynamics.steps;
    let mut graph = steps_graph.rebuild(|target, _, value| {
        let node = steps_graph.node(value);
        match (&node.source, node.name.as_str()) {
            (Source::Input, "noise") => noise(target, &node.value_type.shape, count).map(Some),
            (Source::Input, "step_size") => {
                Ok(Some(constant(target, "step_size", dynamics.step_size)))
            }
            (Source::Input, "temperature") => {
                Ok(Some(constant(target, "temperature", dynamics.temperature)))
            }
            _ => Ok(None),
        }
    })?;
    for output in ["energy", "gradient_norm"] {
        let of_steps = graph.output(output)?;
        let of_images = match count {
            1 => {
                let shape = Shape::batched(&[1]);
                graph.apply("served", Reshape { shape }, &[of_steps])?
            }
            _ => graph.apply("served", Transpose { axes: vec![1, 0] }, &[of_steps])?,
        };
        graph.set_output(output, of_images);
    }
    graph.rebuild(|_, _, _| Ok(None))
}

fn constant(graph: &mut Graph, name: &str, value: f64) -> Value {
    graph.constant(name, Tensor::scalar(value as f32))
}

/// The input `noise [N, k, …]` as the graph of steps wants it: `[N, …]` of one step, `[k, N, …]` of several.
fn noise(graph: &mut Graph, of_steps: &Shape, count: usize) -> Result<Value> {
    let pixels: Vec<Dim> = of_steps.0[of_steps.batch_axis().unwrap_or(0) + 1..].to_vec();
    let mut shape = Shape(vec![Dim::BATCH, Dim::Size(count)]);
    shape.0.extend(pixels);
    let rank = shape.rank();
    let noise = graph.input("noise", shape)?;
    match count {
        1 => {
            let shape = of_steps.clone();
            graph.apply("served", Reshape { shape }, &[noise])
        }
        _ => {
            let axes = [1, 0].into_iter().chain(2..rank).collect();
            graph.apply("served", Transpose { axes }, &[noise])
        }
    }
}
