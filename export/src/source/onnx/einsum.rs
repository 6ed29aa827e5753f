//! `Einsum`: sums of products over axes that an equation names.
//!
//! ONNX operators: `Einsum`; see [the specification](https://onnx.ai/onnx/operators/).

use std::collections::{BTreeMap, BTreeSet};

use super::node::{Node, Outputs, Rule};
use super::result::Result;
use crate::graph::op::{Binary, MatMul, ReduceKind};
use crate::graph::{Dim, Shape, Value};

pub(super) const RULES: &[(&str, Rule)] = &[("Einsum", einsum)];

/// The name of an axis: a letter of the equation, or a place of its ellipsis counted from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Ellipsis(usize),
    Letter(char),
}

/// A value and the names of its axes.
#[derive(Clone, Debug)]
struct Term {
    labels: Vec<Label>,
    value: Value,
}

/// Operands are brought together two by two, as products of matrices where axes are summed over.
fn einsum(node: &mut Node<'_, '_>) -> Outputs {
    let equation = node.text("equation")?.ok_or("its equation is missing")?;
    let values = (0..node.n_operands())
        .map(|position| node.value(position))
        .collect::<Result<Vec<Value>>>()?;
    let ranks: Vec<usize> = values
        .iter()
        .map(|&value| node.shape(value).rank())
        .collect();
    let (inputs, output) =
        parsed(&equation, &ranks).map_err(|problem| format!("equation {equation:?}: {problem}"))?;
    let terms = inputs.into_iter().zip(values);
    let terms = terms
        .map(|(labels, value)| Term { labels, value })
        .collect();
    let terms = without_stretched(node, terms)?;
    let mut open = terms.into_iter();
    let first = open.next().ok_or("expected at least one operand")?;
    let mut rest: Vec<Term> = open.collect();
    let mut whole = first;
    // From left to right, as written: `ij,jk,kl->il` is (ij · jk) · kl. An axis is summed over as soon as no later operand and
    // no axis of the result has its letter, which keeps what is between small.
    while !rest.is_empty() {
        let next = rest.remove(0);
        let kept: BTreeSet<Label> = rest
            .iter()
            .flat_map(|term| &term.labels)
            .chain(&output)
            .copied()
            .collect();
        whole = product(node, whole, next, &kept)?;
    }
    let whole = summed(node, whole, |label| output.contains(&label))?;
    let order = order_of(&whole.labels, &output)?;
    Ok(vec![node.permuted("ordered", whole.value, order)?.into()])
}

/// Multiplications of an equation for operands of those extents, each pair of operands brought together over all axes at once.
pub(crate) fn multiplications(equation: &str, shapes: &[&[usize]]) -> Option<usize> {
    let ranks: Vec<usize> = shapes.iter().map(|shape| shape.len()).collect();
    let (terms, _) = parsed(equation, &ranks).ok()?;
    let mut extents: BTreeMap<Label, usize> = BTreeMap::new();
    for (labels, shape) in terms.iter().zip(shapes) {
        for (&label, &extent) in labels.iter().zip(*shape) {
            let largest = extents.entry(label).or_default();
            *largest = extent.max(*largest);
        }
    }
    let pairs = shapes.len().checked_sub(1)?;
    extents
        .into_values()
        .try_fold(pairs, |product, extent| product.checked_mul(extent))
}

/// The labels of the operands and of the result.
fn parsed(equation: &str, ranks: &[usize]) -> Result<(Vec<Vec<Label>>, Vec<Label>)> {
    let compact: String = equation
        .chars()
        .filter(|sign| !sign.is_whitespace())
        .collect();
    let (inputs, output) = match compact.split_once("->") {
        Some((inputs, output)) => (inputs.to_string(), Some(output.to_string())),
        None => (compact, None),
    };
    let terms: Vec<&str> = inputs.split(',').collect();
    if terms.len() != ranks.len() {
        return Err(format!(
            "it is of {} operands, but {} are given",
            terms.len(),
            ranks.len()
        ));
    }
    let inputs = terms
        .iter()
        .zip(ranks)
        .map(|(term, &rank)| term_labels(term, rank))
        .collect::<Result<Vec<Vec<Label>>>>()?;
    let mut counts: BTreeMap<Label, usize> = BTreeMap::new();
    for &label in inputs.iter().flatten() {
        *counts.entry(label).or_default() += 1;
    }
    let mut ellipsis: Vec<Label> = counts
        .keys()
        .copied()
        .filter(|label| matches!(label, Label::Ellipsis(_)))
        .collect();
    ellipsis.reverse();
    let output = match output {
        Some(output) => labels_of(&output, &ellipsis)?,
        // Without one it has the axes that stand once, in the order of the alphabet.
        None => {
            let single = counts
                .iter()
                .filter(|&(label, &count)| count == 1 && matches!(label, Label::Letter(_)));
            ellipsis
                .iter()
                .copied()
                .chain(single.map(|(&label, _)| label))
                .collect()
        }
    };
    match output.iter().find(|label| !counts.contains_key(label)) {
        Some(_) => Err("its result has an axis that no operand has".to_string()),
        None => Ok((inputs, output)),
    }
}

/// The labels of an operand with that many axes.
fn term_labels(term: &str, rank: usize) -> Result<Vec<Label>> {
    let named = term.chars().filter(char::is_ascii_alphabetic).count();
    let hidden = rank.saturating_sub(named);
    let ellipsis: Vec<Label> = (0..hidden).rev().map(Label::Ellipsis).collect();
    let labels = labels_of(term, &ellipsis)?;
    match labels.len() == rank {
        true => Ok(labels),
        false => Err(format!("{term:?} stands for an operand of {rank} axes")),
    }
}

/// The labels that stand in a term, each once.
fn labels_of(term: &str, ellipsis: &[Label]) -> Result<Vec<Label>> {
    let mut labels = Vec::new();
    let (before, behind) = match term.split_once("...") {
        Some((before, behind)) => (before, Some(behind)),
        None => (term, None),
    };
    labels.extend(before.chars().map(Label::Letter));
    if let Some(behind) = behind {
        labels.extend(ellipsis);
        labels.extend(behind.chars().map(Label::Letter));
    }
    for (place, label) in labels.iter().enumerate() {
        if matches!(label, Label::Letter(letter) if !letter.is_ascii_alphabetic()) {
            return Err(format!("{term:?} has a sign that is not a letter"));
        }
        if labels[..place].contains(label) {
            return Err(format!(
                "{term:?} has an axis twice; diagonals are not supported"
            ));
        }
    }
    Ok(labels)
}

/// Drops axes of extent 1 from operands where others have more along them: a product broadcasts along an axis that is not there, but a sum
/// over one of extent 1 would be short of the others' elements.
fn without_stretched(node: &mut Node<'_, '_>, mut terms: Vec<Term>) -> Result<Vec<Term>> {
    let mut extents: BTreeMap<Label, Dim> = BTreeMap::new();
    for term in &terms {
        for (&label, &dim) in term.labels.iter().zip(&node.shape(term.value).0) {
            let known = extents.entry(label).or_insert(dim);
            match (*known, dim) {
                (known, dim) if known == dim || dim == Dim::Size(1) => {}
                (Dim::Size(1), dim) => *known = dim,
                (known, dim) => {
                    return Err(format!("extents {known} and {dim} of one axis differ"));
                }
            }
        }
    }
    for term in &mut terms {
        let shape = node.shape(term.value);
        let kept: Vec<usize> = (0..shape.rank())
            .filter(|&axis| shape.0[axis] == extents[&term.labels[axis]])
            .collect();
        let shape = Shape(kept.iter().map(|&axis| shape.0[axis]).collect());
        term.value = node.seen_as("unstretched", term.value, shape)?;
        term.labels = kept.iter().map(|&axis| term.labels[axis]).collect();
    }
    Ok(terms)
}

/// The sum over the axes that are not kept.
fn summed(node: &mut Node<'_, '_>, term: Term, is_kept: impl Fn(Label) -> bool) -> Result<Term> {
    let axes: Vec<usize> = (0..term.labels.len())
        .filter(|&axis| !is_kept(term.labels[axis]))
        .collect();
    if axes.is_empty() {
        return Ok(term);
    }
    let shape = node.shape(term.value);
    if let Some(axis) = axes.iter().find(|&&axis| shape.0[axis].is_batch()) {
        return Err(mixes(&shape, *axis));
    }
    let sum = node.along("sum", ReduceKind::Sum, term.value, &axes)?;
    let kept = (0..shape.rank()).filter(|axis| !axes.contains(axis));
    let kept: Vec<usize> = kept.collect();
    let shape = Shape(kept.iter().map(|&axis| shape.0[axis]).collect());
    Ok(Term {
        value: node.seen_as("summed", sum, shape)?,
        labels: kept.iter().map(|&axis| term.labels[axis]).collect(),
    })
}

fn mixes(shape: &Shape, axis: usize) -> String {
    format!("it sums over axis {axis} of {shape}, which mixes the images of a batch")
}

/// Where each of the labels stands.
fn order_of(labels: &[Label], wanted: &[Label]) -> Result<Vec<usize>> {
    let place = |label| labels.iter().position(|other| other == label);
    let order: Option<Vec<usize>> = wanted.iter().map(place).collect();
    order.ok_or_else(|| "its result has an axis that no operand has".to_string())
}

/// Two operands as one, summed over the axes that nothing else has.
///
/// Why three cases: what only one operand has is summed over before they meet, since that costs additions alone. What is left is a product
/// of matrices if both have rows of their own and something to sum over (`nic,nck->nik`), for engines are fastest at these. Else it is a product
/// element by element (`nc,nc->n`, `i,j->ij`), which needs no reshaping.
fn product(
    node: &mut Node<'_, '_>,
    left: Term,
    right: Term,
    kept: &BTreeSet<Label>,
) -> Result<Term> {
    let [of_left, of_right] = [&left, &right].map(|term| term.labels.clone());
    let left = summed(node, left, |label| {
        kept.contains(&label) || of_right.contains(&label)
    })?;
    let right = summed(node, right, |label| {
        kept.contains(&label) || of_left.contains(&label)
    })?;
    let has_batch = |term: &Term| node.shape(term.value).batch_axis().is_some();
    // The batch stands before the axes of a product.
    let [left, right] = match has_batch(&right) && !has_batch(&left) {
        true => [right, left],
        false => [left, right],
    };
    let axes = Axes::of(&left, &right, kept);
    if axes.summed.is_empty() || (axes.left.is_empty() && axes.right.is_empty()) {
        return elementwise(node, &left, &right, &axes);
    }
    matrix_product(node, &left, &right, &axes)
}

/// The axes of two operands by what becomes of them.
struct Axes {
    /// Of both, and of the result.
    shared: Vec<Label>,
    /// Of both, summed over.
    summed: Vec<Label>,
    /// Of the left operand alone.
    left: Vec<Label>,
    /// Of the right operand alone.
    right: Vec<Label>,
}

impl Axes {
    fn of(left: &Term, right: &Term, kept: &BTreeSet<Label>) -> Axes {
        let both = |label: &&Label| right.labels.contains(label);
        let in_both = left.labels.iter().filter(both).copied();
        let (shared, summed) = in_both.partition(|label| kept.contains(label));
        let alone = |of: &Term, other: &Term| {
            let labels = of.labels.iter().copied();
            labels
                .filter(|label| !other.labels.contains(label))
                .collect()
        };
        Axes {
            shared,
            summed,
            left: alone(left, right),
            right: alone(right, left),
        }
    }
}

/// A product with broadcasting, and the sum of it.
fn elementwise(node: &mut Node<'_, '_>, left: &Term, right: &Term, axes: &Axes) -> Result<Term> {
    let labels = [&axes.shared, &axes.left, &axes.right, &axes.summed].map(Vec::as_slice);
    let labels = labels.concat();
    let mut factors = Vec::new();
    for term in [left, right] {
        let own: Vec<Label> = labels
            .iter()
            .copied()
            .filter(|label| term.labels.contains(label))
            .collect();
        let ordered = node.permuted("ordered", term.value, order_of(&term.labels, &own)?)?;
        let mut dims = node.shape(ordered).0.into_iter();
        let stretched = labels.iter().map(|label| match own.contains(label) {
            true => dims.next().unwrap_or(Dim::Size(1)),
            false => Dim::Size(1),
        });
        let shape = Shape(stretched.collect());
        factors.push(node.seen_as("beside", ordered, shape)?);
    }
    let value = node.apply("product", Binary::Mul, &factors)?;
    let summed_over = &axes.summed;
    summed(node, Term { labels, value }, |label| {
        !summed_over.contains(&label)
    })
}

/// `[shared.., left, summed] · [shared.., summed, right]`.
///
/// `MatMul` multiplies the last two axes and broadcasts those before. So for `nhic,nhjc->nhij` the letters n and h stay before, and each of the groups i, j
/// and c becomes one axis, however many letters it has; behind the product the groups come apart again.
fn matrix_product(node: &mut Node<'_, '_>, left: &Term, right: &Term, axes: &Axes) -> Result<Term> {
    let shape = node.shape(left.value);
    for label in &axes.summed {
        let axis = left.labels.iter().position(|other| other == label);
        if let Some(axis) = axis.filter(|&axis| shape.0[axis].is_batch()) {
            return Err(mixes(&shape, axis));
        }
    }
    let Axes {
        shared,
        summed,
        left: of_left,
        right: of_right,
    } = axes;
    // Without shared axes a product takes all but the last of the left ones as they are.
    let (leading, rows) = match (shared.is_empty(), of_left.split_last()) {
        (true, Some((_, before))) => of_left.split_at(before.len()),
        _ => (shared.as_slice(), of_left.as_slice()),
    };
    let (rows, own_rows) = merged(node, left, [leading, rows, summed])?;
    let (columns, own_columns) = merged(node, right, [shared, summed, of_right])?;
    let value = node.apply("product", MatMul, &[rows, columns])?;
    let mut dims = own_rows[..shared.len() + of_left.len()].to_vec();
    dims.extend(&own_columns[shared.len() + summed.len()..]);
    Ok(Term {
        value: node.seen_as("apart", value, Shape(dims))?,
        labels: [shared.as_slice(), of_left, of_right].concat(),
    })
}

/// An operand with its axes in the order of three groups, the last two of which become one axis each; and the extents before that.
fn merged(
    node: &mut Node<'_, '_>,
    term: &Term,
    groups: [&[Label]; 3],
) -> Result<(Value, Vec<Dim>)> {
    let labels = groups.concat();
    let order = order_of(&term.labels, &labels)?;
    let ordered = node.permuted("ordered", term.value, order)?;
    let dims = node.shape(ordered).0;
    let [shared, first, _] = groups.map(<[Label]>::len);
    let mut sizes = dims[..shared].to_vec();
    for group in [&dims[shared..shared + first], &dims[shared + first..]] {
        let group = Shape(group.to_vec());
        let elements = Dim::Size(group.elements_per_image());
        sizes.push(group.around_batch().unwrap_or(elements));
    }
    let merged = node.seen_as("merged", ordered, Shape(sizes))?;
    Ok((merged, dims))
}

#[cfg(test)]
mod tests {
    use ndarray::ArrayD;

    use crate::source::onnx::testing::Attribute::{Ints, Text};
    use crate::source::onnx::testing::{Model, array, random};

    /// Extents of the axes that the equations name, the batch apart.
    fn extent(letter: char) -> usize {
        match letter {
            'n' => 2,
            'i' => 3,
            'j' => 4,
            'k' => 2,
            'o' => 1,
            _ => 5,
        }
    }

    /// The sum of products by the plainest loop over all axes. Terms of one letter per axis.
    fn reference(terms: &[&str], output: &str, operands: &[ArrayD<f64>]) -> ArrayD<f64> {
        let mut letters: Vec<char> = terms.concat().chars().collect();
        letters.sort_unstable();
        letters.dedup();
        let sizes: Vec<usize> = letters.iter().map(|&letter| extent(letter)).collect();
        let places = |term: &str, index: &[usize]| -> Vec<usize> {
            let place = |letter| index[letters.iter().position(|&other| other == letter).unwrap()];
            term.chars().map(place).collect()
        };
        let sizes_of = |term: &str| term.chars().map(extent).collect::<Vec<usize>>();
        let mut result = ArrayD::zeros(sizes_of(output));
        for index in ndarray::indices(sizes.as_slice()) {
            let index = ndarray::Dimension::slice(&index);
            let factors = terms.iter().zip(operands);
            let product: f64 = factors
                .map(|(term, operand)| operand[places(term, index).as_slice()])
                .product();
            result[places(output, index).as_slice()] += product;
        }
        result
    }

    /// A model of terms; x is each operand whose term has an n, cut from one input, others are weights.
    fn model(equation: &'static str, terms: &[&str]) -> (Model, Vec<ArrayD<f64>>, ArrayD<f64>) {
        let batched = |term: &str| term.contains('n');
        let x = random(&[2, 200], 9);
        let mut model = Model::new().input("x", &[-1, 200]);
        let (mut names, mut operands, mut start) = (Vec::new(), Vec::new(), 0);
        for (position, term) in terms.iter().enumerate() {
            let name = format!("operand{position}");
            let sizes: Vec<usize> = term.chars().map(extent).collect();
            let extents: Vec<i64> = sizes.iter().map(|&size| size as i64).collect();
            if !batched(term) {
                let values = random(&sizes, position as u64);
                let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
                let exact: Vec<f64> = values.iter().map(|&value| f64::from(value)).collect();
                model = model.floats(&name, &extents, &values);
                operands.push(array(&sizes, &exact));
                names.push(name);
                continue;
            }
            // The batch first, then to where the term has it.
            let axis = term.find('n').unwrap();
            let count = sizes.iter().product::<usize>() / 2;
            let mut front = extents.clone();
            front.remove(axis);
            front.insert(0, -1);
            let mut perm: Vec<i64> = (1..sizes.len() as i64).collect();
            perm.insert(axis, 0);
            model = model
                .ints(&format!("{name}.start"), &[start as i64])
                .ints(&format!("{name}.end"), &[(start + count) as i64])
                .ints(&format!("{name}.axis"), &[1])
                .ints(&format!("{name}.shape"), &front)
                .node(
                    "Slice",
                    &format!("x {name}.start {name}.end {name}.axis"),
                    &format!("{name}.part"),
                    &[],
                )
                .node(
                    "Reshape",
                    &format!("{name}.part {name}.shape"),
                    &format!("{name}.front"),
                    &[],
                )
                .node(
                    "Transpose",
                    &format!("{name}.front"),
                    &name,
                    &[("perm", Ints(perm.clone()))],
                );
            let part = x.slice(ndarray::s![.., start..start + count]).to_owned();
            let mut front = sizes.clone();
            front.remove(axis);
            front.insert(0, 2);
            let part = part.into_shape_with_order(front).unwrap().into_dyn();
            let perm: Vec<usize> = perm.iter().map(|&axis| axis as usize).collect();
            operands.push(part.permuted_axes(perm));
            names.push(name);
            start += count;
        }
        let model = model.node(
            "Einsum",
            &names.join(" "),
            "y",
            &[("equation", Text(equation))],
        );
        (model.output("y"), operands, x)
    }

    #[test]
    fn sums_are_those_of_plain_loops() {
        for (equation, output) in [
            ("ni,ij->nj", "nj"),
            ("ij,nj->ni", "ni"),
            ("ij,jn->ni", "ni"),
            ("nij,jk->nik", "nik"),
            ("nik,njk->nij", "nij"),
            ("nijk,nkjl->nil", "nil"),
            ("njik,nlik->njl", "njl"),
            ("ni,ni->n", "n"),
            ("nij,nij->nj", "nj"),
            ("nij,j->ni", "ni"),
            ("nij,j->n", "n"),
            ("nij,l->n", "n"),
            ("ni,nj->nij", "nij"),
            ("nij,jk->nk", "nk"),
            ("nki,kil->nkl", "nkl"),
            ("kil,nki->lkn", "lkn"),
            ("jk,nijk->ni", "ni"),
            ("nji->nij", "nij"),
            ("nji->nj", "nj"),
            ("nij -> n j", "nj"),
            ("ni,ij,jk->nk", "nk"),
            ("ni,nj,ijl->nl", "nl"),
            ("n,ni->i n", "in"),
            // Without a result it is what stands once, by the alphabet.
            ("nji,ik", "jkn"),
            ("in,ik", "kn"),
        ] {
            println!("{equation}");
            let inputs = equation.split("->").next().unwrap().replace(' ', "");
            let terms: Vec<&str> = inputs.split(',').collect();
            let (model, operands, x) = model(equation, &terms);
            let y = model.evaluate(&x);
            let wanted = reference(&terms, output, &operands);
            assert_eq!(y.shape(), wanted.shape());
            assert!((&y - &wanted).iter().all(|error| error.abs() < 1e-12));
            model.check_derivatives(1);
        }
    }

    /// Axes that are not named, and those that are stretched.
    #[test]
    fn ellipses_stand_for_axes() {
        for (equation, terms, like, output) in [
            ("...i,ij->...j", vec!["nki", "ij"], vec!["nki", "ij"], "nkj"),
            ("...ij,...jl", vec!["nij", "jl"], vec!["nij", "jl"], "nil"),
            ("...j,...j->...", vec!["nij", "ij"], vec!["nij", "ij"], "ni"),
            ("...j,j...->j...", vec!["nij", "j"], vec!["nij", "j"], "jni"),
        ] {
            let (model, operands, x) = model(equation, &terms);
            let y = model.evaluate(&x);
            let wanted = reference(&like, output, &operands);
            assert_eq!(y.shape(), wanted.shape());
            assert!((&y - &wanted).iter().all(|error| error.abs() < 1e-12));
            model.check_derivatives(2);
        }
        let model = Model::new()
            .input("x", &[-1, 3])
            .floats("column", &[3, 1], &[2.0, 3.0, 5.0])
            .node(
                "Einsum",
                "x column",
                "y",
                &[("equation", Text("ni,ij->nj"))],
            )
            .output("y");
        let y = model.evaluate(&array(&[1, 3], &[1.0, 10.0, 100.0]));
        assert_eq!(y, array(&[1, 1], &[532.0]));
        let model = Model::new()
            .input("x", &[-1, 2, 1])
            .floats("row", &[3], &[2.0, 3.0, 5.0])
            .node("Einsum", "x row", "y", &[("equation", Text("nki,i->nk"))])
            .output("y");
        let y = model.evaluate(&array(&[1, 2, 1], &[1.0, 10.0]));
        assert_eq!(y, array(&[1, 2], &[10.0, 100.0]));
    }

    #[test]
    fn refuses_what_does_not_fit() {
        for (equation, wanted) in [
            ("ni,ij", "it is of 2 operands, but 1 are given"),
            ("nii->n", "has an axis twice; diagonals are not supported"),
            ("ni->n", "\"ni\" stands for an operand of 3 axes"),
            ("nijk->n", "\"nijk\" stands for an operand of 3 axes"),
            ("ni1->n", "has a sign that is not a letter"),
            ("nij->nk", "its result has an axis that no operand has"),
            (
                "nij->ij",
                "it sums over axis 0 of [N, 2, 3], which mixes the images of a batch",
            ),
        ] {
            let model = Model::new().input("x", &[-1, 2, 3]);
            let model = model.node("Einsum", "x", "y", &[("equation", Text(equation))]);
            let problem = model.output("y").problem();
            assert!(problem.contains(wanted), "{problem}");
        }
        for (equation, wanted) in [
            ("nij,nkj->ik", "mixes the images of a batch"),
            ("nij,mkj->nm", "mixes the images of a batch"),
            ("nij,nji->n", "extents 3 and 2 of one axis differ"),
        ] {
            let model = Model::new().input("x", &[-1, 2, 3]);
            let model = model.node("Einsum", "x x", "y", &[("equation", Text(equation))]);
            let problem = model.output("y").problem();
            assert!(problem.contains(wanted), "{problem}");
        }
    }
}
