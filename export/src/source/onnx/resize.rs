//! Images of other extents: nearest neighbours, linear and cubic interpolation, axis by axis.
//!
//! ONNX operators: `Resize`, `Upsample`; see [the specification](https://onnx.ai/onnx/operators/).

use std::str::FromStr;

use super::interpolation::{Border, Coordinates, Cubic, Extents, Mode, Nearest, Taps};
use super::known::{Number, check_count};
use super::node::{Node, Outputs, Rule};
use super::numbers::{axes_of, size_of};
use super::result::Result;
use crate::graph::op::{Slice, Upsample};
use crate::graph::tensor::Tensor;
use crate::graph::{Dim, Shape, Value};

pub(super) const RULES: &[(&str, Rule)] = &[("Resize", resize), ("Upsample", upsample)];

/// Most elements of the matrix that takes an axis to its new extent.
const MAX_MATRIX: usize = 1 << 24;

/// The first opset whose `Resize` says how coordinates are transformed.
const FIRST_WITH_COORDINATES: i64 = 11;

/// `Resize(x, roi, scales, sizes)`; in opset 10 `Resize(x, scales)`, which is the `Upsample` of older ones.
fn resize(node: &mut Node<'_, '_>) -> Outputs {
    if node.opset() < FIRST_WITH_COORDINATES {
        return upsample(node);
    }
    node.ignore("extrapolation_value");
    if node.flag("antialias")? == Some(true) {
        return Err("antialias is not supported".to_string());
    }
    let border = match node.flag("exclude_outside")? {
        Some(true) => Border::Excluded,
        _ => Border::Repeated,
    };
    let cubic = Cubic {
        a: node.float("cubic_coeff_a")?.unwrap_or(-0.75),
        border,
    };
    let policy = node.text("keep_aspect_ratio_policy")?;
    if policy.is_some_and(|policy| policy != "stretch") {
        return Err("expected the keep_aspect_ratio_policy stretch".to_string());
    }
    let coordinates = known_name(node, "coordinate_transformation_mode")?;
    let coordinates = coordinates.unwrap_or(Coordinates::HalfPixel);
    let nearest = known_name(node, "nearest_mode")?.unwrap_or(Nearest::RoundPreferFloor);
    let mode = match (node.text("mode")?.as_deref(), border) {
        (Some("cubic"), _) => Mode::Cubic(cubic),
        (_, Border::Excluded) => {
            return Err("exclude_outside is supported with mode \"cubic\" only".to_string());
        }
        _ => mode(node, nearest)?,
    };
    // Only read where coordinates lie in a region.
    node.optional(1);
    let x = node.value(0)?;
    let shape = node.shape(x);
    let axes = match node.ints("axes")? {
        Some(axes) => axes_of(&axes, shape.rank())?,
        None => (0..shape.rank()).collect(),
    };
    let scales = match node.optional_value(2)? {
        Some(_) => node.constant(2)?.data().to_vec(),
        None => Vec::new(),
    };
    let sizes = match node.optional(3) {
        Some(_) => node.known(3)?.numbers()?,
        None => Vec::new(),
    };
    let extents = match (scales.as_slice(), sizes.as_slice()) {
        (scales, []) if scales.len() == axes.len() => by_scales(&shape, &axes, scales)?,
        ([], sizes) if sizes.len() == axes.len() => by_sizes(node, &shape, &axes, sizes)?,
        (scales, sizes) => {
            return Err(format!(
                "expected scales or sizes for {} axes, got {scales:?} and {} sizes",
                axes.len(),
                sizes.len()
            ));
        }
    };
    resized(node, x, &extents, mode, coordinates)
}

/// What the name in an attribute stands for.
fn known_name<T: FromStr>(node: &Node<'_, '_>, attribute: &str) -> Result<Option<T>> {
    let name = node.text(attribute)?;
    let known = |name: String| {
        let known = name.parse();
        known.map_err(|_| format!("{attribute} {name:?} is not supported"))
    };
    name.map(known).transpose()
}

/// The `Resize` of old opsets, whose scales stand in an attribute or an input.
fn upsample(node: &mut Node<'_, '_>) -> Outputs {
    let mode = mode(node, Nearest::Floor)?;
    let x = node.value(0)?;
    let shape = node.shape(x);
    let scales = match node.floats("scales")? {
        Some(scales) => scales,
        None => node.constant(1)?.data().to_vec(),
    };
    if scales.len() != shape.rank() {
        return Err(format!(
            "expected a scale for each axis of {shape}, got {scales:?}"
        ));
    }
    let axes: Vec<usize> = (0..shape.rank()).collect();
    let extents = by_scales(&shape, &axes, &scales)?;
    resized(node, x, &extents, mode, Coordinates::Asymmetric)
}

fn mode(node: &Node<'_, '_>, nearest: Nearest) -> Result<Mode> {
    match node.text("mode")?.as_deref() {
        None | Some("nearest") => Ok(Mode::Nearest(nearest)),
        Some("linear") => Ok(Mode::Linear),
        Some(other) => Err(format!(
            "mode {other:?} is not supported, only nearest, linear and, for Resize, cubic"
        )),
    }
}

/// Per axis what changes, by scales.
fn by_scales(shape: &Shape, axes: &[usize], scales: &[f32]) -> Result<Vec<Option<Extents>>> {
    let mut extents = vec![None; shape.rank()];
    for (&axis, &scale) in axes.iter().zip(scales) {
        if scale == 1.0 {
            continue;
        }
        let Dim::Size(old) = shape.0[axis] else {
            return Err(format!("cannot resize the batch, axis {axis} of {shape}"));
        };
        let new = (old as f64 * f64::from(scale)).floor();
        if !(1.0..=f64::from(i32::MAX)).contains(&new) {
            return Err(format!("a scale of {scale} makes no extent of {old}"));
        }
        let new = new as usize;
        extents[axis] = Some(Extents { old, new, scale });
    }
    Ok(extents)
}

/// Per axis what changes, by extents of the result.
fn by_sizes(
    node: &Node<'_, '_>,
    shape: &Shape,
    axes: &[usize],
    sizes: &[Number],
) -> Result<Vec<Option<Extents>>> {
    let mut extents = vec![None; shape.rank()];
    for (&axis, &size) in axes.iter().zip(sizes) {
        if node.keeps(size, shape.0[axis]) {
            continue;
        }
        let (Dim::Size(old), Some(new)) = (shape.0[axis], size.fixed()) else {
            return Err(format!("cannot resize axis {axis} of {shape} to {size}"));
        };
        let new = size_of(new)?;
        if old == 0 || new == 0 {
            return Err(format!("cannot resize an extent of {old} to {new}"));
        }
        let scale = new as f32 / old as f32;
        extents[axis] = Some(Extents { old, new, scale });
    }
    Ok(extents)
}

/// Refuses scales that move pixels and leave all extents as they are, which ONNX Runtime does not look at.
fn check_change(extents: &[Option<Extents>]) -> Result<()> {
    let mut changed = extents.iter().flatten().peekable();
    let Some(Extents { old, scale, .. }) = changed.peek().copied() else {
        return Ok(());
    };
    match changed.all(|extents| extents.old == extents.new) {
        true => Err(format!(
            "a scale of {scale} leaves an extent of {old} as it is: runtimes do not agree whether pixels move; give sizes, or leave it out"
        )),
        false => Ok(()),
    }
}

fn resized(
    node: &mut Node<'_, '_>,
    x: Value,
    extents: &[Option<Extents>],
    mode: Mode,
    coordinates: Coordinates,
) -> Outputs {
    check_change(extents)?;
    let mut taps = Vec::new();
    for (axis, extents) in extents.iter().enumerate() {
        if let Some(extents) = extents {
            check_count(&[extents.new])?;
            taps.push((axis, extents.old, mode.taps(*extents, coordinates)));
        }
    }
    let (mut repeated, mut others) = (Vec::new(), Vec::new());
    for (axis, old, taps) in taps {
        match repetition(old, &taps) {
            Some(factor) => repeated.push((axis, factor)),
            None => others.push((axis, old, taps)),
        }
    }
    // What makes less of an axis comes first, what repeats pixels last.
    let mut x = x;
    others.sort_by_key(|(_, old, taps)| taps.len() > *old);
    for (axis, old, taps) in others {
        x = combined(node, x, axis, old, &taps)?;
    }
    Ok(vec![repeated_along(node, x, &repeated)?.into()])
}

/// The factor, where each element is repeated that often.
fn repetition(old: usize, taps: &[Taps]) -> Option<usize> {
    let factor = taps.len() / old;
    let exactly = factor * old == taps.len();
    let mut places = taps.iter().enumerate();
    let repeated = places.all(|(place, taps)| match taps.as_slice() {
        &[(from, _)] => exactly && from == place / factor,
        _ => false,
    });
    repeated.then_some(factor)
}

/// Elements at equal distances, or combinations of elements.
fn combined(
    node: &mut Node<'_, '_>,
    x: Value,
    axis: usize,
    old: usize,
    taps: &[Taps],
) -> Result<Value> {
    if let Some(slice) = at_equal_distances(axis, taps) {
        return node.slice(x, slice);
    }
    if taps.len().saturating_mul(old) > MAX_MATRIX {
        return Err(format!(
            "an extent of {old} that becomes {} is too much for interpolation",
            taps.len()
        ));
    }
    let mut matrix = vec![0.0; taps.len() * old];
    for (row, taps) in taps.iter().enumerate() {
        for &(column, weight) in taps {
            matrix[row * old + column] += weight;
        }
    }
    let matrix = Tensor::new(&[taps.len(), old], matrix);
    node.combined_along("resized", x, axis, matrix)
}

fn at_equal_distances(axis: usize, taps: &[Taps]) -> Option<Slice> {
    let places: Option<Vec<usize>> = taps
        .iter()
        .map(|taps| match taps.as_slice() {
            &[(place, _)] => Some(place),
            _ => None,
        })
        .collect();
    let places = places?;
    let (&start, &end) = (places.first()?, places.last()?);
    let step = match places.get(1) {
        Some(second) => second.checked_sub(start).filter(|&step| step > 0)?,
        None => 1,
    };
    let equal = places
        .iter()
        .enumerate()
        .all(|(index, &place)| place == start + index * step);
    equal.then_some(Slice {
        axis,
        start,
        end: end + 1,
        step,
    })
}

/// Each element of some axes as often as their factors say: of images by one primitive, else axis by axis.
fn repeated_along(node: &mut Node<'_, '_>, x: Value, repeated: &[(usize, usize)]) -> Result<Value> {
    let shape = node.shape(x);
    let factor = |wanted: usize| {
        let found = repeated.iter().find(|(axis, _)| *axis == wanted);
        found.map_or(1, |(_, factor)| *factor)
    };
    let of_image = repeated.iter().all(|(axis, _)| *axis >= 2);
    match (of_image, shape.rank()) {
        _ if repeated.iter().all(|(_, factor)| *factor == 1) => Ok(x),
        (true, 4) => {
            let scales = [factor(2), factor(3)];
            node.apply("repeated", Upsample { scales }, &[x])
        }
        (true, 3) => {
            let mut image = shape;
            image.0.insert(2, Dim::Size(1));
            let image = node.seen_as("image", x, image)?;
            let scales = [1, factor(2)];
            let image = node.apply("repeated", Upsample { scales }, &[image])?;
            let mut rows = node.shape(image);
            rows.0.remove(2);
            node.seen_as("rows", image, rows)
        }
        _ => {
            let mut x = x;
            for &(axis, factor) in repeated {
                x = repeated_on(node, x, axis, factor)?;
            }
            Ok(x)
        }
    }
}

/// By an axis of its own for the copies.
fn repeated_on(node: &mut Node<'_, '_>, x: Value, axis: usize, factor: usize) -> Result<Value> {
    let shape = node.shape(x);
    let mut apart = shape.clone();
    apart.0.insert(axis + 1, Dim::Size(1));
    let x = node.seen_as("apart", x, apart.clone())?;
    apart.0[axis + 1] = Dim::Size(factor);
    let copies = node.stretch(x, &apart)?;
    let mut joined = shape;
    joined.0[axis] = Dim::Size(joined.0[axis].concrete(1) * factor);
    node.seen_as("repeated", copies, joined)
}

#[cfg(test)]
mod tests {
    use crate::graph::op::Op;
    use crate::source::onnx::testing::Attribute::{Float, Floats, Int, Ints, Text};
    use crate::source::onnx::testing::{Attribute, Model, array};

    type Attributes = Vec<(&'static str, Attribute)>;

    /// A row of a number of pixels, resized to `size`, or by a scale.
    fn row(pixels: usize, size: Option<i64>, scale: f32, attributes: &Attributes) -> Model {
        let model = Model::of_opset(19).input("x", &[1, 1, pixels as i64]);
        let (model, inputs) = match size {
            Some(size) => (model.ints("sizes", &[1, 1, size]), "x _ _ sizes"),
            None => (
                model.floats("scales", &[3], &[1.0, 1.0, scale]),
                "x _ scales",
            ),
        };
        model.node("Resize", inputs, "y", attributes).output("y")
    }

    fn resized(x: &[f64], size: Option<i64>, scale: f32, attributes: &Attributes) -> Vec<f64> {
        let y = row(x.len(), size, scale, attributes).evaluate(&array(&[1, 1, x.len()], x));
        y.iter().map(|y| (y * 1e5).round() / 1e5).collect()
    }

    fn transformed(mode: &'static str) -> (&'static str, Attribute) {
        ("coordinate_transformation_mode", Text(mode))
    }

    fn rounded(mode: &'static str) -> (&'static str, Attribute) {
        ("nearest_mode", Text(mode))
    }

    #[test]
    fn nearest_pixels() {
        let x = [1.0, 2.0, 3.0, 4.0];
        let twice = [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0];
        for (attributes, wanted) in [
            (vec![], twice),
            (vec![transformed("half_pixel_symmetric")], twice),
            (vec![transformed("pytorch_half_pixel")], twice),
            (vec![transformed("asymmetric"), rounded("floor")], twice),
            (
                vec![transformed("tf_half_pixel_for_nn"), rounded("floor")],
                twice,
            ),
            (
                vec![transformed("asymmetric")],
                [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0],
            ),
            (
                vec![transformed("asymmetric"), rounded("round_prefer_ceil")],
                [1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 4.0],
            ),
            (
                vec![transformed("asymmetric"), rounded("ceil")],
                [1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 4.0],
            ),
        ] {
            for size in [Some(8), None] {
                assert_eq!(resized(&x, size, 2.0, &attributes), wanted);
            }
        }
        let floor = || vec![transformed("asymmetric"), rounded("floor")];
        assert_eq!(resized(&x, Some(2), 0.0, &floor()), [1.0, 3.0]);
        assert_eq!(resized(&x, None, 0.5, &floor()), [1.0, 3.0]);
        assert_eq!(resized(&x, Some(3), 0.0, &floor()), [1.0, 2.0, 3.0]);
        assert_eq!(
            resized(&x, Some(6), 0.0, &floor()),
            [1.0, 1.0, 2.0, 3.0, 3.0, 4.0]
        );
        assert_eq!(
            resized(&x, Some(7), 0.0, &vec![transformed("align_corners")]),
            [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0]
        );
        assert_eq!(resized(&x, Some(1), 0.0, &floor()), [1.0]);
        assert_eq!(resized(&x, Some(4), 0.0, &floor()), x);
    }

    #[test]
    fn linear_interpolation() {
        let x = [0.0, 4.0];
        let linear = |mode| vec![("mode", Text("linear")), transformed(mode)];
        for (mode, size, wanted) in [
            ("half_pixel", 4, vec![0.0, 1.0, 3.0, 4.0]),
            ("pytorch_half_pixel", 4, vec![0.0, 1.0, 3.0, 4.0]),
            ("half_pixel_symmetric", 4, vec![0.0, 1.0, 3.0, 4.0]),
            ("asymmetric", 4, vec![0.0, 2.0, 4.0, 4.0]),
            ("align_corners", 5, vec![0.0, 1.0, 2.0, 3.0, 4.0]),
            ("align_corners", 1, vec![0.0]),
            ("pytorch_half_pixel", 1, vec![0.0]),
            ("half_pixel", 1, vec![2.0]),
        ] {
            let got = resized(&x, Some(size), 0.0, &linear(mode));
            assert_eq!(got, wanted, "{mode} to {size}");
        }
        // A mean of two where an axis halves.
        let halved = resized(&[1.0, 3.0, 5.0, 9.0], None, 0.5, &linear("half_pixel"));
        assert_eq!(halved, [2.0, 7.0]);
        let symmetric = resized(&[0.0, 4.0, 8.0], None, 1.5, &linear("half_pixel_symmetric"));
        assert_eq!(symmetric, [0.0, 2.66667, 5.33333, 8.0]);
    }

    fn image(attributes: &Attributes, sizes: &[i64]) -> Model {
        Model::of_opset(18)
            .input("x", &[-1, 2, 3, 4])
            .ints("sizes", sizes)
            .node("Resize", "x _ _ sizes", "y", attributes)
            .output("y")
    }

    fn operators(model: &Model) -> Vec<&'static str> {
        let foreign = model.read();
        let values = foreign.graph.values();
        values
            .filter_map(|value| foreign.graph.operator(value).map(|(op, _)| op.name()))
            .collect()
    }

    /// Repeated pixels are one primitive, and parts at equal distances are parts.
    #[test]
    fn the_plainest_form_is_taken() {
        let floor = || {
            vec![
                ("axes", Ints(vec![2, 3])),
                transformed("asymmetric"),
                rounded("floor"),
            ]
        };
        let repeated = image(&floor(), &[6, 12]).read().graph;
        let y = repeated.output("y").unwrap();
        let (op, _) = repeated.operator(y).unwrap();
        assert!(matches!(op, Op::Upsample(upsample) if upsample.scales == [2, 3]));
        assert_eq!(operators(&image(&floor(), &[1, 2])), ["Slice", "Slice"]);
        assert_eq!(operators(&image(&floor(), &[6, 2])), ["Slice", "Resize"]);
        let channels = vec![
            ("axes", Ints(vec![1])),
            transformed("asymmetric"),
            rounded("floor"),
        ];
        let model = image(&channels, &[4]);
        assert!(!operators(&model).contains(&"MatMul"));
        let (x, y) = model.evaluate_random(1);
        for channel in 0..4 {
            let [x, y] = [(&x, channel / 2), (&y, channel)]
                .map(|(image, channel)| image.index_axis(ndarray::Axis(1), channel));
            assert_eq!(x, y);
        }
    }

    #[test]
    fn derivatives_match_finite_differences() {
        for (mode, sizes) in [
            ("nearest", [6, 8]),
            ("nearest", [4, 2]),
            ("linear", [6, 8]),
            ("linear", [2, 7]),
        ] {
            let attributes = || vec![("axes", Ints(vec![-2, -1])), ("mode", Text(mode))];
            image(&attributes(), &sizes).check_derivatives(1);
        }
        let channels = || vec![("axes", Ints(vec![1])), ("mode", Text("linear"))];
        image(&channels(), &[4]).check_derivatives(2);
        row(4, Some(8), 0.0, &vec![]).check_derivatives(3);
    }

    #[test]
    fn old_scales_stand_in_an_attribute_or_an_input() {
        let scales = || vec![1.0, 1.0, 2.0];
        for (mode, wanted) in [
            ("nearest", vec![1.0, 1.0, 3.0, 3.0]),
            ("linear", vec![1.0, 2.0, 3.0, 3.0]),
        ] {
            let model = Model::new().input("x", &[-1, 1, 2]);
            let attributes = [("mode", Text(mode)), ("scales", Floats(scales()))];
            let in_attribute = model.node("Upsample", "x", "y", &attributes).output("y");
            let model = Model::new().input("x", &[-1, 1, 2]);
            let model = model.floats("scales", &[3], &scales());
            let in_input = model
                .node("Upsample", "x scales", "y", &[("mode", Text(mode))])
                .output("y");
            let model = Model::of_opset(10).input("x", &[-1, 1, 2]);
            let model = model.floats("scales", &[3], &scales());
            let of_opset_10 = model
                .node("Resize", "x scales", "y", &[("mode", Text(mode))])
                .output("y");
            for model in [in_attribute, in_input, of_opset_10] {
                let y = model.evaluate(&array(&[1, 1, 2], &[1.0, 3.0]));
                assert_eq!(y, array(&[1, 1, 4], &wanted), "{mode}");
            }
        }
    }

    #[test]
    fn refuses_what_it_cannot_do() {
        for (attributes, size, scale, wanted) in [
            (
                vec![("mode", Text("quintic"))],
                Some(8),
                0.0,
                "only nearest, linear and",
            ),
            (
                vec![("mode", Text("linear")), ("exclude_outside", Int(1))],
                Some(8),
                0.0,
                "with mode \"cubic\" only",
            ),
            (
                vec![transformed("tf_crop_and_resize")],
                Some(8),
                0.0,
                "\"tf_crop_and_resize\" is not supported",
            ),
            (
                vec![rounded("poem")],
                Some(8),
                0.0,
                "\"poem\" is not supported",
            ),
            (
                vec![("antialias", Int(1))],
                Some(8),
                0.0,
                "antialias is not supported",
            ),
            (
                vec![("keep_aspect_ratio_policy", Text("not_larger"))],
                Some(8),
                0.0,
                "keep_aspect_ratio_policy stretch",
            ),
            (vec![], None, 0.1, "a scale of 0.1 makes no extent of 4"),
            (vec![], None, -2.0, "makes no extent of 4"),
            (vec![], None, 1e30, "makes no extent of 4"),
            (vec![], None, 1e8, "too large"),
            (vec![], Some(0), 0.0, "cannot resize an extent of 4 to 0"),
            (
                vec![("axes", Ints(vec![2]))],
                Some(8),
                0.0,
                "expected scales or sizes for 1 axes",
            ),
        ] {
            let problem = row(4, size, scale, &attributes).problem();
            assert!(problem.contains(wanted), "{problem}");
        }
        let batch = Model::new()
            .input("x", &[-1, 4])
            .floats("scales", &[2], &[2.0, 1.0])
            .node(
                "Resize",
                "x _ scales",
                "y",
                &[("cubic_coeff_a", Float(0.0))],
            )
            .output("y");
        assert!(
            batch
                .problem()
                .contains("cannot resize the batch, axis 0 of [N, 4]")
        );
    }
}
