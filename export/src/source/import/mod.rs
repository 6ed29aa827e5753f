//! Weights that somebody else learned: from safetensors or a PyTorch checkpoint, by an explicit map of names.
//!
//! Every tensor of the file is used or named as ignored, every weight of the network is filled, and all shapes are checked. Whether the
//! network computes what the one of the file does, no map can tell: `docs/importing-weights.md` lists look-alikes.

mod convention;
mod map;
mod pickle;
mod pytorch;
mod source;
mod step;

use std::collections::{BTreeMap, BTreeSet};

pub use convention::{Convention, Output, Pooling, Reading};
pub use map::{NameMap, Target, Through};
pub use source::Source;
pub use step::{SpectralNorm, Step};

use crate::error::{Error, Result};
use crate::graph::tensor::{Tensor, Tensors};
use crate::graph::weights::check_weights;
use crate::graph::{Graph, Shape};
use map::fits;

/// Names in a list of an error message; more are counted.
const MAX_LISTED: usize = 8;

/// The weights of a graph from the tensors of a file.
///
/// # Errors
/// A name of the map is not in the file or not in the graph, or is there twice; a step does not fit; a weight has no source or the wrong
/// shape or a value that is not finite; or a tensor of the file is neither used nor ignored.
pub fn weights(source: &Source, graph: &Graph, map: &NameMap) -> Result<Tensors> {
    let roots: Vec<&str> = map.roots.iter().map(String::as_str).collect();
    let root = root_of(source, &roots)?;
    let shapes: BTreeMap<&str, &Shape> = graph
        .weights()
        .map(|weight| (graph.node(weight).name.as_str(), graph.shape(weight)))
        .collect();
    let mut used = BTreeSet::new();
    let mut weights = Tensors::new();
    for (from, target) in &map.weights {
        let to = target.name();
        let about = |problem: String| {
            Error::Import(format!("tensor {from:?}, for weight {to:?}: {problem}"))
        };
        let wanted = *shapes
            .get(to)
            .ok_or_else(|| about("the network has no weight of this name".to_string()))?;
        let tensor = through_steps(source, root, from, target, &mut used).map_err(about)?;
        if Shape::fixed(tensor.shape()) != *wanted {
            let got = Shape::fixed(tensor.shape());
            return Err(about(format!("expected shape {wanted}, got {got}")));
        }
        if weights.insert(to.to_string(), tensor).is_some() {
            return Err(about("another tensor goes there too".to_string()));
        }
    }
    fill(&mut weights, &shapes, map)?;
    check_all_filled(&weights, &shapes)?;
    check_all_used(source, root, &used, map)?;
    check_weights(graph, &weights)?;
    Ok(weights)
}

/// The first of the roots below which there is a tensor; the file itself if there are none to choose from.
fn root_of<'a>(source: &Source, roots: &[&'a str]) -> Result<&'a str> {
    let holds_any = |root: &&&str| {
        let below = full_name(root, "");
        source.names().any(|name| name.starts_with(&below))
    };
    match (roots.iter().find(holds_any), roots.is_empty()) {
        (Some(root), _) => Ok(root),
        (None, true) => Ok(""),
        (None, false) => {
            let there = listed(source.names());
            Err(Error::Import(format!(
                "no tensor below any of {roots:?}; there are {there}"
            )))
        }
    }
}

/// The name in the file of a name below a root.
fn full_name(root: &str, name: &str) -> String {
    match root {
        "" => name.to_string(),
        root => format!("{root}.{name}"),
    }
}

fn through_steps(
    source: &Source,
    root: &str,
    from: &str,
    target: &Target,
    used: &mut BTreeSet<String>,
) -> Result<Tensor, String> {
    let mut read = |name: &str| {
        let name = full_name(root, name);
        let tensor = source.tensor(&name)?;
        let tensor = tensor.ok_or_else(|| format!("the file has no tensor {name:?}"))?;
        used.insert(name);
        Ok::<Tensor, String>(tensor)
    };
    let mut tensor = read(from)?;
    for step in target.steps() {
        let named = step
            .names()
            .into_iter()
            .map(&mut read)
            .collect::<Result<Vec<Tensor>, String>>()?;
        tensor = step.applied(&tensor, &named)?;
    }
    Ok(tensor)
}

fn fill(weights: &mut Tensors, shapes: &BTreeMap<&str, &Shape>, map: &NameMap) -> Result<()> {
    for (pattern, &value) in &map.fill {
        let open: Vec<&str> = shapes
            .keys()
            .copied()
            .filter(|name| fits(pattern, name) && !weights.contains_key(*name))
            .collect();
        if open.is_empty() {
            return Err(Error::Import(format!(
                "fill {pattern:?} fits no weight of the network that has no source; remove it"
            )));
        }
        for name in open {
            let tensor = Tensor::filled(&shapes[name].concrete(1), value);
            weights.insert(name.to_string(), tensor);
        }
    }
    Ok(())
}

fn check_all_filled(weights: &Tensors, shapes: &BTreeMap<&str, &Shape>) -> Result<()> {
    let missing: Vec<&str> = shapes
        .keys()
        .copied()
        .filter(|name| !weights.contains_key(*name))
        .collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Error::Import(format!(
            "no tensor of the file goes to weights {}; map or fill them",
            listed(missing.into_iter())
        ))),
    }
}

fn check_all_used(
    source: &Source,
    root: &str,
    used: &BTreeSet<String>,
    map: &NameMap,
) -> Result<()> {
    let below = full_name(root, "");
    let left: Vec<&str> = source
        .names()
        .filter(|name| !used.contains(*name))
        .filter_map(|name| name.strip_prefix(below.as_str()))
        .filter(|name| !map.ignore.iter().any(|pattern| fits(pattern, name)))
        .collect();
    match left.is_empty() {
        true => Ok(()),
        false => Err(Error::Import(format!(
            "tensors {} of the file go nowhere; map or ignore them, or take another network",
            listed(left.into_iter())
        ))),
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let shown = names.len().min(MAX_LISTED);
    let more = match names.len() - shown {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{:?}{more}", &names[..shown])
}
