//! Which operators are computed together, and which values are stored between them.
//!
//! A group begins with an *anchor*: an operator that moves over its operand (a convolution, a pool), or the first of several that work element by element.
//! What works element by element on the same extents joins the latest group among its operands' groups: there all operands are at hand. So a convolution
//! takes its bias, activation, mask and residual sum along, and the derivative of an activation is computed beside it.
//!
//! A value that another group reads is stored, unless it is cheaper to compute it there again from what is stored anyway: a ReLU's mask is made of the
//! ReLU's result where the backward pass needs it.

use crate::graph::{Graph, Op, Source, Value};
use crate::tiles::Tiles;

/// Most operations that are repeated in another group in place of storing their result.
const CHEAP: usize = 4;

/// For each value of a graph, where it is computed and whether it is stored.
pub(crate) struct Fusion {
    /// The first value of its group; `None` for inputs and constants.
    pub anchor: Vec<Option<Value>>,
    pub stored: Vec<bool>,
    /// The operand that takes part in a value's own kernel and is computed nowhere else: a pool before or behind a convolution.
    pub absorbed: Vec<Option<Value>>,
}

impl Fusion {
    pub fn new(graph: &Graph, tiles: Tiles) -> Self {
        // What a convolution and its pool have in common are tiles.
        let absorbed = match tiles {
            Tiles::One => vec![None; graph.nodes.len()],
            _ => absorbed(graph),
        };
        let anchor = anchors(graph);
        let stored = stored(graph, &anchor, &absorbed);
        Self {
            anchor,
            stored,
            absorbed,
        }
    }

    /// Whether nothing computes this value for itself.
    pub fn is_absorbed(&self, value: Value) -> bool {
        self.absorbed.contains(&Some(value))
    }
}

/// Convolutions that are one with their pool: the 3×3 convolution of a box-filtered picture with stride 2, and the transpose of it.
fn absorbed(graph: &Graph) -> Vec<Option<Value>> {
    let uses = graph.use_counts();
    let of = |value: Value| {
        let (op, operands) = graph.operator(value)?;
        let (inner, of_inner) = graph.operator(operands[0])?;
        let (conv, pool) = match (op, inner) {
            (Op::Conv(conv), Op::AveragePool(pool)) if pool.pads == [1, 1] => (conv, pool),
            (Op::AveragePool(pool), Op::ConvTranspose(conv))
                if pool.pads == [0, 0] && of_inner.len() == 2 =>
            {
                (conv, pool)
            }
            _ => return None,
        };
        let is_box = pool.kernel == [2, 2] && pool.strides == [1, 1] && pool.dilations == [1, 1];
        let is_half = conv.kernel == [3, 3]
            && conv.strides == [2, 2]
            && conv.pads == [0, 0]
            && conv.dilations == [1, 1]
            && conv.groups == 1;
        // The pads below and to the right are known by the extents.
        let [between, from, to] =
            [operands[0], of_inner[0], value].map(|value| &graph.shape(value).extents);
        let fits = (2..4).all(|axis| match op {
            Op::Conv(_) => between[axis] == from[axis] + 1 && to[axis] == from[axis] / 2,
            _ => from[axis] == to[axis] / 2,
        });
        (is_box && is_half && fits && uses[operands[0]] == 1).then_some(operands[0])
    };
    (0..graph.nodes.len()).map(of).collect()
}

/// Whether what works element by element can follow it in the same group.
fn takes_followers(op: &Op) -> bool {
    use Op::*;
    matches!(
        op,
        Conv(_) | ConvTranspose(_) | AveragePool(_) | MaxPool(_) | Map(_)
    )
}

fn anchors(graph: &Graph) -> Vec<Option<Value>> {
    let mut anchors: Vec<Option<Value>> = Vec::with_capacity(graph.nodes.len());
    for (value, node) in graph.nodes.iter().enumerate() {
        let Source::Node { op, operands } = &node.source else {
            anchors.push(None);
            continue;
        };
        let latest = operands
            .iter()
            .filter_map(|&operand| anchors[operand])
            .max();
        let joins = |&anchor: &Value| {
            let of = &graph.nodes[anchor];
            let follows = graph
                .operator(anchor)
                .is_some_and(|(op, _)| takes_followers(op));
            matches!(op, Op::Map(_)) && follows && of.shape.extents == node.shape.extents
        };
        anchors.push(Some(latest.filter(joins).unwrap_or(value)));
    }
    anchors
}

fn stored(graph: &Graph, anchor: &[Option<Value>], absorbed: &[Option<Value>]) -> Vec<bool> {
    let n = graph.nodes.len();
    let mut stored = vec![false; n];
    let mut users: Vec<Vec<Value>> = vec![Vec::new(); n];
    for (value, &absorbed) in absorbed.iter().enumerate() {
        let Some((op, operands)) = graph.operator(value) else {
            continue;
        };
        for &operand in operands {
            match op {
                Op::Map(_) => users[operand].push(value),
                _ if absorbed == Some(operand) => {}
                _ => stored[operand] = true,
            }
        }
    }
    graph
        .outputs
        .iter()
        .for_each(|&(_, value)| stored[value] = true);
    // What computing a value in another group takes; `None` if it is not to be had there.
    let mut cost: Vec<Option<usize>> = vec![None; n];
    for value in 0..n {
        let Some((op, operands)) = graph.operator(value) else {
            cost[value] = Some(0);
            continue;
        };
        let again = match op {
            Op::Map(function) if !function.is_dear() => {
                let each = operands.iter().map(|&operand| {
                    if stored[operand] {
                        Some(0)
                    } else {
                        cost[operand]
                    }
                });
                each.sum::<Option<usize>>().map(|sum| sum + 1)
            }
            _ => None,
        };
        let elsewhere = |&&user: &&Value| anchor[user] != anchor[value];
        let fits = |user: &Value| graph.shape(*user).extents == graph.shape(value).extents;
        let mut others = users[value].iter().filter(elsewhere).peekable();
        let is_used = others.peek().is_some();
        let repeats = again.is_some_and(|cost| cost <= CHEAP) && others.all(fits);
        stored[value] |= is_used && !repeats;
        cost[value] = again.filter(|&cost| cost <= CHEAP);
    }
    stored
}
