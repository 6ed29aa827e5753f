//! Operators with windows over pictures `[B, C, H, W]`.

use super::Ruled;
use super::node::NodeReader;
use crate::graph::{AxisSource, Op, Value, Windows};
use crate::shape::{Shape, product};

/// What both directions of a convolution have in common.
struct Convolution {
    windows: Windows,
    /// Top, left, bottom, right.
    pads: [usize; 4],
    operands: Vec<Value>,
    picture: Shape,
    weight: [usize; 4],
}

impl Convolution {
    fn read(node: &NodeReader<'_>, more_attributes: &[&str]) -> Result<Self, String> {
        let known = [
            "kernel_shape",
            "strides",
            "pads",
            "dilations",
            "group",
            "auto_pad",
        ];
        node.expect(&[&known, more_attributes].concat(), 3)?;
        node.expect_text("auto_pad", "NOTSET", &["NOTSET"])?;
        let mut operands = vec![node.operand(0)?, node.operand(1)?];
        if node.has(2) {
            operands.push(node.operand(2)?);
        }
        if operands[1..]
            .iter()
            .any(|&operand| node.graph.constant(operand).is_none())
        {
            return Err("its weight or bias is not constant".to_string());
        }
        let picture = node.shape(operands[0]).clone();
        let weight = &node.shape(operands[1]).extents;
        let weight: [usize; 4] = weight
            .as_slice()
            .try_into()
            .map_err(|_| format!("expected a weight of four extents, got {weight:?}"))?;
        if picture.rank() != 4 || weight.contains(&0) {
            return Err(format!(
                "expected pictures [B, C, H, W], got {:?}",
                picture.extents
            ));
        }
        let kernel = [weight[2], weight[3]];
        if node.sizes("kernel_shape", kernel)? != kernel {
            return Err("its kernel_shape is not that of its weight".to_string());
        }
        let pads = node.sizes("pads", [0; 4])?;
        let windows = Windows {
            kernel,
            strides: node.sizes("strides", [1, 1])?,
            pads: [pads[0], pads[1]],
            dilations: node.sizes("dilations", [1, 1])?,
            groups: usize::try_from(node.int("group", 1)).unwrap_or(0),
        };
        if windows.groups == 0 || !weight[0].is_multiple_of(windows.groups) {
            return Err(format!(
                "{} groups do not divide {} channels",
                windows.groups, weight[0]
            ));
        }
        check_batch(&picture, &windows, pads)?;
        Ok(Self {
            windows,
            pads,
            operands,
            picture,
            weight,
        })
    }

    fn check_channels(
        &self,
        node: &NodeReader<'_>,
        wanted: usize,
        outputs: usize,
    ) -> Result<(), String> {
        if self.picture.extents[1] != wanted {
            return Err(format!(
                "its weight takes {wanted} channels, got {}",
                self.picture.extents[1]
            ));
        }
        match self.operands.get(2).map(|&bias| &node.shape(bias).extents) {
            Some(bias) if *bias != [outputs] => {
                Err(format!("expected a bias [{outputs}], got {bias:?}"))
            }
            _ => Ok(()),
        }
    }
}

/// N may stand at the first axis, or at one along which windows do nothing.
fn check_batch(picture: &Shape, windows: &Windows, pads: [usize; 4]) -> Result<(), String> {
    if windows.strides.contains(&0) || windows.dilations.contains(&0) || windows.kernel.contains(&0)
    {
        return Err("strides, dilations and windows must be at least 1".to_string());
    }
    let idle = |axis: usize| {
        windows.kernel[axis] == 1
            && windows.strides[axis] == 1
            && pads[axis] == 0
            && pads[axis + 2] == 0
    };
    match picture.batch_axis() {
        Some(1) => Err("it mixes the images of a batch".to_string()),
        Some(axis @ 2..) if !idle(axis - 2) => Err("it mixes the images of a batch".to_string()),
        _ => Ok(()),
    }
}

/// How many windows there are along an axis.
fn count(windows: &Windows, pads: [usize; 4], axis: usize, extent: usize) -> Result<usize, String> {
    let reach = windows.dilations[axis] * (windows.kernel[axis] - 1) + 1;
    (extent + pads[axis] + pads[axis + 2])
        .checked_sub(reach)
        .map(|room| room / windows.strides[axis] + 1)
        .ok_or_else(|| format!("a window that reaches over {reach} does not fit {extent}"))
}

/// Taps of all pixels of a result: larger tables come from files that were made to do harm.
const MOST_TAPS: usize = 1 << 28;

/// Nothing if there is room for what every tap of every pixel sees.
fn check_taps(windows: &Windows, result: &Shape) -> Result<(), String> {
    let sizes = [&windows.kernel[..], &result.extents[2..]].concat();
    match product(&sizes) <= MOST_TAPS {
        true => Ok(()),
        false => Err(format!(
            "its windows {:?} over {:?} are too many",
            windows.kernel, result.extents
        )),
    }
}

/// The picture with other channels, rows and columns.
fn resized(picture: &Shape, channels: usize, rows: usize, columns: usize) -> Shape {
    picture.with_extents(vec![picture.extents[0], channels, rows, columns], |axis| {
        axis
    })
}

pub(super) fn conv(node: &NodeReader<'_>) -> Result<Ruled, String> {
    let of = Convolution::read(node, &[])?;
    let outputs = of.weight[0];
    of.check_channels(node, of.weight[1] * of.windows.groups, outputs)?;
    let along = |axis| count(&of.windows, of.pads, axis, of.picture.extents[axis + 2]);
    let shape = resized(&of.picture, outputs, along(0)?, along(1)?);
    check_taps(&of.windows, &shape)?;
    Ok((Op::Conv(of.windows), of.operands, shape))
}

pub(super) fn conv_transpose(node: &NodeReader<'_>) -> Result<Ruled, String> {
    let of = Convolution::read(node, &["output_padding", "output_shape"])?;
    if node.ints("output_shape").is_some() {
        return Err("the attribute `output_shape` is not supported".to_string());
    }
    let outputs = of.weight[1] * of.windows.groups;
    of.check_channels(node, of.weight[0], outputs)?;
    let output_pads = node.sizes("output_padding", [0, 0])?;
    let along = |axis: usize| {
        let windows = &of.windows;
        let full = windows.strides[axis] * (of.picture.extents[axis + 2] - 1)
            + windows.dilations[axis] * (windows.kernel[axis] - 1)
            + 1
            + output_pads[axis];
        full.checked_sub(of.pads[axis] + of.pads[axis + 2])
            .filter(|&extent| extent > 0)
            .ok_or_else(|| format!("its pads leave nothing of {full}"))
    };
    let shape = resized(&of.picture, outputs, along(0)?, along(1)?);
    check_taps(&of.windows, &shape)?;
    Ok((Op::ConvTranspose(of.windows), of.operands, shape))
}

fn pool(
    node: &NodeReader<'_>,
    more_attributes: &[&str],
) -> Result<(Windows, Value, Shape), String> {
    let known = [
        "kernel_shape",
        "strides",
        "pads",
        "dilations",
        "auto_pad",
        "ceil_mode",
    ];
    node.expect(&[&known, more_attributes].concat(), 1)?;
    node.expect_text("auto_pad", "NOTSET", &["NOTSET"])?;
    if node.int("ceil_mode", 0) != 0 {
        return Err("`ceil_mode` is not supported".to_string());
    }
    let operand = node.operand(0)?;
    let picture = node.shape(operand);
    if picture.rank() != 4 || node.ints("kernel_shape").is_none() {
        return Err("expected pictures [B, C, H, W] and a kernel_shape".to_string());
    }
    let pads = node.sizes("pads", [0; 4])?;
    let windows = Windows {
        kernel: node.sizes("kernel_shape", [1, 1])?,
        strides: node.sizes("strides", [1, 1])?,
        pads: [pads[0], pads[1]],
        dilations: node.sizes("dilations", [1, 1])?,
        groups: 1,
    };
    check_batch(picture, &windows, pads)?;
    if (0..4).any(|side| pads[side] >= windows.kernel[side % 2].max(1)) {
        return Err(format!(
            "pads {pads:?} must be below the window {:?}",
            windows.kernel
        ));
    }
    let along = |axis| count(&windows, pads, axis, picture.extents[axis + 2]);
    let shape = resized(picture, picture.extents[1], along(0)?, along(1)?);
    check_taps(&windows, &shape)?;
    Ok((windows, operand, shape))
}

pub(super) fn average_pool(node: &NodeReader<'_>) -> Result<Ruled, String> {
    let (windows, operand, shape) = pool(node, &["count_include_pad"])?;
    let padded = node.sizes("pads", [0; 4])? != [0; 4];
    if padded && node.int("count_include_pad", 0) != 1 {
        return Err("with pads, expected `count_include_pad` 1".to_string());
    }
    Ok((Op::AveragePool(windows), vec![operand], shape))
}

pub(super) fn max_pool(node: &NodeReader<'_>) -> Result<Ruled, String> {
    let (windows, operand, shape) = pool(node, &["storage_order"])?;
    Ok((Op::MaxPool(windows), vec![operand], shape))
}

/// Nearest neighbours, by whole factors.
pub(super) fn resize(node: &NodeReader<'_>) -> Result<Ruled, String> {
    node.expect(
        &["mode", "coordinate_transformation_mode", "nearest_mode"],
        3,
    )?;
    node.expect_text("mode", "nearest", &["nearest"])?;
    node.expect_text(
        "coordinate_transformation_mode",
        "half_pixel",
        &["asymmetric"],
    )?;
    node.expect_text("nearest_mode", "round_prefer_floor", &["floor"])?;
    let operand = node.operand(0)?;
    let shape = node.shape(operand);
    let scales = node.float_list(2)?.unwrap_or_default();
    let whole = |&scale: &f32| scale >= 1.0 && scale.fract() == 0.0 && scale < 1e6;
    if scales.len() != shape.rank() || !scales.iter().all(whole) {
        return Err(format!(
            "expected a whole factor for each axis, got {scales:?}"
        ));
    }
    if shape.batch_axis().is_some_and(|axis| scales[axis] != 1.0) {
        return Err("it mixes the images of a batch".to_string());
    }
    let extents = shape.extents.iter().zip(scales);
    let extents = extents
        .map(|(&extent, &scale)| extent * scale as usize)
        .collect();
    let result = shape.with_extents(extents, |axis| axis);
    let axes = scales.iter().enumerate().map(|(axis, &scale)| AxisSource {
        divisor: scale as isize,
        ..AxisSource::same(axis)
    });
    let axes = axes.collect();
    Ok((Op::Move { axes, fill: 0.0 }, vec![operand], result))
}
