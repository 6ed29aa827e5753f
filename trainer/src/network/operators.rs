//! The operators of graphs, computed by libtorch.

use anyhow::{Result, bail};
use ebm_export::graph::op::{
    Activation, AveragePool, Binary, Compare, Conv, ConvTranspose, KeepDims, MaxPool, Op, Pad,
    Reduce, ReduceKind, Slice, Unary,
};
use ebm_export::graph::{Dim, Shape};
use tch::{Device, Kind, Tensor};

use super::instruction::Moment;

/// `g · [x > 0]`, where g broadcasts to x.
pub(super) fn mask_positive(g: &Tensor, x: &Tensor) -> Result<Tensor> {
    if g.requires_grad() || x.requires_grad() || g.dim() != x.dim() {
        return Ok(g.f_mul(&x.f_gt(0.0)?.f_to_kind(g.kind())?)?);
    }
    Ok(x.f_threshold_backward(&g.f_expand_as(x)?, 0.0)?)
}

/// The moment of `[N, C, H, W]` over images and pixels, `[C]`.
pub(super) fn moment_of(moment: Moment, x: &Tensor) -> Result<Tensor> {
    const IMAGES_AND_PIXELS: [i64; 3] = [0, 2, 3];
    Ok(match moment {
        Moment::Mean => x.f_mean_dim(IMAGES_AND_PIXELS.as_slice(), false, x.kind())?,
        Moment::Variance => x.f_var_dim(IMAGES_AND_PIXELS.as_slice(), false, false)?,
    })
}

/// The result of an operator.
pub(super) fn apply(op: &Op, operands: &[&Tensor]) -> Result<Tensor> {
    let x = operands[0];
    Ok(match op {
        Op::Activation(activation) => activate(activation, x)?,
        Op::AveragePool(pool) => average_pool(pool, x)?,
        Op::Binary(Binary::Add) => x.f_add(operands[1])?,
        Op::Binary(Binary::Sub) => x.f_sub(operands[1])?,
        Op::Binary(Binary::Mul) => x.f_mul(operands[1])?,
        Op::Binary(Binary::Div) => x.f_div(operands[1])?,
        Op::Binary(Binary::Min) => x.f_minimum(operands[1])?,
        Op::Binary(Binary::Max) => x.f_maximum(operands[1])?,
        Op::Binary(Binary::Pow) => x.f_pow(operands[1])?,
        Op::Cast(_) => x.f_to_kind(Kind::Float)?,
        Op::Compare(Compare::Greater) => x.f_gt_tensor(operands[1])?,
        Op::Compare(Compare::GreaterOrEqual) => x.f_ge_tensor(operands[1])?,
        Op::Compare(Compare::Equal) => x.f_eq_tensor(operands[1])?,
        Op::Concat(concat) => Tensor::f_cat(operands, concat.axis as i64)?,
        Op::Conv(conv) => convolve(conv, x, operands[1], operands.get(2).copied())?,
        Op::ConvTranspose(conv) => {
            convolve_transposed(conv, x, operands[1], operands.get(2).copied())?
        }
        Op::Expand(expand) => x.f_expand(extents(&expand.shape), false)?,
        Op::MatMul(_) => x.f_matmul(operands[1])?,
        Op::MaxPool(pool) => max_pool(pool, x)?,
        Op::Pad(pad) => padded(pad, x)?,
        Op::Reduce(reduce) => reduced(reduce, x)?,
        Op::Reshape(reshape) => x.f_reshape(extents(&reshape.shape))?,
        Op::Reverse(reverse) => x.f_flip(as_i64(&reverse.axes))?,
        Op::Slice(slice) => sliced(slice, x)?,
        Op::Softmax(softmax) => x.f_softmax(softmax.axis as i64, x.kind())?,
        Op::Transpose(transpose) => x.f_permute(as_i64(&transpose.axes))?.f_contiguous()?,
        Op::Unary(unary) => unary_of(*unary, x)?,
        Op::Upsample(upsample) => upsampled(upsample.scales, x)?,
        Op::Where(_) => operands[1].f_where_self(x, operands[2])?,
    })
}

fn activate(activation: &Activation, x: &Tensor) -> Result<Tensor> {
    Ok(match activation {
        Activation::Relu => x.f_relu()?,
        // libtorch's own leaky_relu has a fixed slope in tch.
        Activation::LeakyRelu { slope } => x
            .f_clamp_min(0.0)?
            .f_add(&x.f_clamp_max(0.0)?.f_mul_scalar(f64::from(*slope))?)?,
        Activation::Sigmoid => x.f_sigmoid()?,
        Activation::Tanh => x.f_tanh()?,
        Activation::Softplus => x.f_softplus()?,
        Activation::Positive => x.f_gt(0.0)?.f_to_kind(x.kind())?,
    })
}

fn unary_of(unary: Unary, x: &Tensor) -> Result<Tensor> {
    Ok(match unary {
        Unary::Neg => x.f_neg()?,
        Unary::Sqrt => x.f_sqrt()?,
        Unary::Exp => x.f_exp()?,
        Unary::Log => x.f_log()?,
        Unary::Reciprocal => x.f_reciprocal()?,
        Unary::Erf => x.f_erf()?,
        Unary::Abs => x.f_abs()?,
        Unary::Sign => x.f_sign()?,
        Unary::Sin => x.f_sin()?,
        Unary::Cos => x.f_cos()?,
        Unary::Asin => x.f_asin()?,
        Unary::Atan => x.f_atan()?,
        Unary::Asinh => x.f_asinh()?,
        Unary::Acosh => x.f_acosh()?,
        Unary::Atanh => x.f_atanh()?,
        Unary::Floor => x.f_floor()?,
        Unary::Round => x.f_round()?,
    })
}

fn average_pool(pool: &AveragePool, x: &Tensor) -> Result<Tensor> {
    let [top, left, bottom, right] = pool.pads.map(|pad| pad as i64);
    let kernel = pool.kernel.map(|size| size as i64);
    let strides = pool.strides.map(|stride| stride as i64);
    if top == bottom && left == right && 2 * top <= kernel[0] && 2 * left <= kernel[1] {
        return pooled(x, kernel, strides, [top, left]);
    }
    let padded = x.f_constant_pad_nd([left, right, top, bottom])?;
    pooled(&padded, kernel, strides, [0, 0])
}

fn pooled(x: &Tensor, kernel: [i64; 2], strides: [i64; 2], pads: [i64; 2]) -> Result<Tensor> {
    if strides == [1, 1] && x.device() == Device::Cpu && !x.requires_grad() {
        return sliding_mean(x, kernel, pads);
    }
    Ok(x.f_avg_pool2d(kernel, strides, pads, false, true, None::<i64>)?)
}

fn max_pool(pool: &MaxPool, x: &Tensor) -> Result<Tensor> {
    let [top, left, bottom, right] = pool.pads.map(|pad| pad as i64);
    let kernel = pool.kernel.map(|size| size as i64);
    let strides = pool.strides.map(|stride| stride as i64);
    if top == bottom && left == right && 2 * top <= kernel[0] && 2 * left <= kernel[1] {
        return Ok(x.f_max_pool2d(kernel, strides, [top, left], [1, 1], false)?);
    }
    let padded = x.f_pad([left, right, top, bottom], "constant", f64::NEG_INFINITY)?;
    Ok(padded.f_max_pool2d(kernel, strides, [0, 0], [1, 1], false)?)
}

/// libtorch lists pads from the last axis on.
fn padded(pad: &Pad, x: &Tensor) -> Result<Tensor> {
    let pads: Vec<i64> = pad
        .pads
        .iter()
        .rev()
        .flat_map(|pads| as_i64(pads))
        .collect();
    Ok(x.f_pad(pads, "constant", f64::from(pad.value))?)
}

fn sliced(slice: &Slice, x: &Tensor) -> Result<Tensor> {
    let [axis, start, end, step] =
        [slice.axis, slice.start, slice.end, slice.step].map(|number| number as i64);
    Ok(x.f_slice(axis, start, end, step)?)
}

/// Mean pooling with stride 1, as a convolution of each channel with the same weights. On a CPU it takes a third of the time of libtorch's
/// pooling; the way back through it, for autograd, takes twice as long.
fn sliding_mean(x: &Tensor, kernel: [i64; 2], pads: [i64; 2]) -> Result<Tensor> {
    let channels = x.size()[1];
    let window = [channels, 1, kernel[0], kernel[1]];
    let share = 1.0 / (kernel[0] * kernel[1]) as f64;
    let weight = Tensor::f_full(window, share, (x.kind(), x.device()))?;
    Ok(x.f_conv2d(&weight, None::<&Tensor>, [1, 1], pads, [1, 1], channels)?)
}

/// Pointwise convolutions of so few weights are matrix products: for them a call of libtorch's convolution costs more than the sum.
const FEW_WEIGHTS: usize = 4096;

fn convolve(conv: &Conv, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    if is_small_and_pointwise(conv, x, weight) {
        return pointwise(x, weight, bias);
    }
    let [top, left, bottom, right] = conv.pads.map(|pad| pad as i64);
    let strides = conv.strides.map(|stride| stride as i64);
    let dilations = conv.dilations.map(|dilation| dilation as i64);
    let groups = conv.groups as i64;
    if top != bottom || left != right {
        let padded = x.f_constant_pad_nd([left, right, top, bottom])?;
        return Ok(padded.f_conv2d(weight, bias, strides, [0, 0], dilations, groups)?);
    }
    Ok(x.f_conv2d(weight, bias, strides, [top, left], dilations, groups)?)
}

fn is_small_and_pointwise(conv: &Conv, x: &Tensor, weight: &Tensor) -> bool {
    let size = weight.size();
    x.device() == Device::Cpu
        && size[2..] == [1, 1]
        && conv.strides == [1, 1]
        && conv.pads == [0; 4]
        && conv.groups == 1
        && weight.numel() <= FEW_WEIGHTS
}

/// A 1×1 convolution as a matrix product over the channels of each pixel.
fn pointwise(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let [n, channels, height, width] = x.size()[..] else {
        bail!("expected [N, C, H, W], got {:?}", x.size())
    };
    let outputs = weight.size()[0];
    let pixels = x.f_permute([0i64, 2, 3, 1])?.f_reshape([-1, channels])?;
    let matrix = weight.f_reshape([outputs, channels])?.f_transpose(0, 1)?;
    let sums = match bias {
        Some(bias) => bias.f_addmm(&pixels, &matrix)?,
        None => pixels.f_matmul(&matrix)?,
    };
    Ok(sums
        .f_view([n, height, width, outputs])?
        .f_permute([0i64, 3, 1, 2])?)
}

fn convolve_transposed(
    conv: &ConvTranspose,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let [top, left, bottom, right] = conv.pads.map(|pad| pad as i64);
    let strides = conv.strides.map(|stride| stride as i64);
    let dilations = conv.dilations.map(|dilation| dilation as i64);
    let output_pads = conv.output_pads.map(|pad| pad as i64);
    let groups = conv.groups as i64;
    if let (None, Some(block)) = (bias, block_of(conv, x, weight)) {
        return in_blocks(x, weight, [top, left], block);
    }
    if top == bottom && left == right {
        return Ok(x.f_conv_transpose2d(
            weight,
            bias,
            strides,
            [top, left],
            output_pads,
            groups,
            dilations,
        )?);
    }
    let whole = x.f_conv_transpose2d(
        weight,
        bias,
        strides,
        [0, 0],
        output_pads,
        groups,
        dilations,
    )?;
    let size = whole.size();
    let rows = whole.f_narrow(2, top, size[2] - top - bottom)?;
    Ok(rows
        .f_narrow(3, left, size[3] - left - right)?
        .f_contiguous()?)
}

/// Channels that a register of a CPU holds, and that its convolutions compute even where fewer are asked for.
const LANES: i64 = 16;

/// The side of the blocks of pixels that [`in_blocks`] computes at once, where it can and is faster: as large as a register holds.
fn block_of(conv: &ConvTranspose, x: &Tensor, weight: &Tensor) -> Option<i64> {
    let [top, left, bottom, right] = conv.pads;
    let (input, weight) = (x.size(), weight.size());
    let block = [4, 2]
        .into_iter()
        .find(|side| side * side * weight[1] <= LANES)?;
    let is_tiled = |axis: usize, pad: usize| {
        let reach = weight[axis] - 1 - pad as i64;
        reach >= 0 && (input[axis] + reach - pad as i64) % block == 0
    };
    let fits = x.device() == Device::Cpu
        && (top, left) == (bottom, right)
        && (conv.strides, conv.dilations) == ([1, 1], [1, 1])
        && (conv.output_pads, conv.groups) == ([0, 0], 1)
        && is_tiled(2, top)
        && is_tiled(3, left);
    fits.then_some(block)
}

/// A transposed convolution of stride 1 with few outputs `[I, O, H, W]` (the gradient of an image): one convolution gives all pixels of a
/// block at once, as channels. Half of the time of libtorch's at three channels.
fn in_blocks(x: &Tensor, weight: &Tensor, pads: [i64; 2], block: i64) -> Result<Tensor> {
    let [inputs, outputs, height, width] = weight.size()[..] else {
        bail!("expected weights [I, O, H, W], got {:?}", weight.size())
    };
    let margin = block - 1;
    let [rows, columns] = [height + margin, width + margin];
    let weight = weight
        .f_constant_pad_nd([margin; 4])?
        .f_unfold(2, rows, 1)?
        .f_unfold(3, columns, 1)?
        .f_flip([4i64, 5])?
        .f_permute([1i64, 2, 3, 4, 5, 0])?
        .f_reshape([outputs * block * block, rows, columns, inputs])?
        .f_permute([0i64, 3, 1, 2])?;
    let reach = [height - 1 - pads[0], width - 1 - pads[1]];
    let blocks = x.f_conv2d(&weight, None::<&Tensor>, [block; 2], reach, [1, 1], 1)?;
    Ok(blocks.f_pixel_shuffle(block)?)
}

fn reduced(reduce: &Reduce, x: &Tensor) -> Result<Tensor> {
    let axes = as_i64(&reduce.axes);
    let keep = reduce.keep_dims == KeepDims::Yes;
    if axes.is_empty() {
        return Ok(x.shallow_clone());
    }
    Ok(match reduce.kind {
        ReduceKind::Sum => x.f_sum_dim_intlist(axes.as_slice(), keep, x.kind())?,
        ReduceKind::Mean => x.f_mean_dim(axes.as_slice(), keep, x.kind())?,
        ReduceKind::Max => x.f_amax(axes.as_slice(), keep)?,
    })
}

fn upsampled(scales: [usize; 2], x: &Tensor) -> Result<Tensor> {
    let size = x.size();
    let [rows, columns] = [size[2] * scales[0] as i64, size[3] * scales[1] as i64];
    Ok(x.f_upsample_nearest2d([rows, columns], None::<f64>, None::<f64>)?)
}

/// The target of a reshape or expansion as libtorch wants it: −1 leaves the batch as the operand has it.
fn extents(target: &Shape) -> Vec<i64> {
    let extent = |dim: &Dim| match dim {
        Dim::Size(size) => *size as i64,
        Dim::Batch { .. } => -1,
    };
    target.0.iter().map(extent).collect()
}

/// Sizes as libtorch wants them.
pub(super) fn as_i64(sizes: &[usize]) -> Vec<i64> {
    sizes.iter().map(|&size| size as i64).collect()
}
/// The same values with the channels innermost in memory. That a single channel is innermost, libtorch tells by its stride of 1, which a view
/// has and a permutation has not.
pub(super) fn channels_last(value: &Tensor) -> Result<Tensor> {
    let [n, channels, height, width] = value.size()[..] else {
        return Ok(value.shallow_clone());
    };
    Ok(value
        .f_permute([0i64, 2, 3, 1])?
        .f_reshape([-1])?
        .f_view([n, height, width, channels])?
        .f_permute([0i64, 3, 1, 2])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::randomness::seeded;

    #[test]
    fn blocks_of_pixels_are_those_of_libtorch() {
        let _draws = seeded(3);
        for (outputs, kernel, pads, size) in [
            (1, [3, 3], [1, 1], [8, 12]),
            (2, [3, 3], [0, 0], [6, 4]),
            (3, [3, 3], [1, 1], [6, 10]),
            (3, [5, 3], [2, 0], [4, 6]),
            (4, [1, 1], [0, 0], [2, 2]),
        ] {
            let kind = (Kind::Double, Device::Cpu);
            let conv = ConvTranspose {
                strides: [1, 1],
                pads: [pads[0], pads[1], pads[0], pads[1]],
                output_pads: [0, 0],
                dilations: [1, 1],
                groups: 1,
            };
            let x = Tensor::randn([2, 5, size[0], size[1]], kind);
            let weight = Tensor::randn([5, outputs, kernel[0], kernel[1]], kind);
            assert!(block_of(&conv, &x, &weight).is_some());
            let got = convolve_transposed(&conv, &x, &weight, None).unwrap();
            let pads = pads.map(|pad| pad as i64);
            let wanted =
                x.conv_transpose2d(&weight, None::<&Tensor>, [1, 1], pads, [0, 0], 1, [1, 1]);
            assert_eq!(got.size(), wanted.size());
            let error = (got - wanted).abs().max().double_value(&[]);
            assert!(error < 1e-12, "{outputs} {kernel:?} {pads:?}: {error}");
        }
    }

    #[test]
    fn channels_are_innermost_also_behind_a_single_one() {
        let kind = (Kind::Float, Device::Cpu);
        for channels in [1, 3] {
            let x = channels_last(&Tensor::randn([2, channels, 6, 6], kind)).unwrap();
            assert_eq!(x.stride(), [36 * channels, 1, 6 * channels, channels]);
            let weight = Tensor::randn([4, channels, 3, 3], kind);
            let y = convolve(&Conv::padded(1), &x, &weight, None).unwrap();
            assert_eq!(y.stride(), [36 * 4, 1, 6 * 4, 4]);
        }
    }

    #[test]
    fn what_leaves_parts_of_blocks_or_has_many_outputs_is_left_to_libtorch() {
        let conv = |strides| ConvTranspose {
            strides,
            pads: [1; 4],
            output_pads: [0, 0],
            dilations: [1, 1],
            groups: 1,
        };
        let zeros = |size: [i64; 4]| Tensor::zeros(size, (Kind::Float, Device::Cpu));
        for (conv, x, weight) in [
            (conv([1, 1]), [1, 5, 8, 7], [5, 3, 3, 3]),
            (conv([1, 1]), [1, 5, 8, 8], [5, 5, 3, 3]),
            (conv([2, 2]), [1, 5, 8, 8], [5, 3, 3, 3]),
        ] {
            assert!(block_of(&conv, &zeros(x), &zeros(weight)).is_none());
        }
    }
}
