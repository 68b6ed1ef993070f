//! Plain Rust for any CPU and any convolution, that every vector kernel equals bit for bit.
//!
//! Along a row of the image a window is contiguous in the input, so that a kernel row is one product
//! of two slices; four filters share the reading of it. Depthwise convolution goes tap by tap over
//! all channels instead. There is no scratch: what padding adds is the zero point times weights.

use core::ops::Range;

use crate::shape::{ConvShape, Requantize, Window};

use super::conv::{ConvArgs, Results};

/// Filters that are taken together.
const FILTERS: usize = 4;
/// Channels of a depthwise convolution that are.
const CHANNELS: usize = 16;

/// Bytes of the packed weights: as many as there are.
pub fn packed_len(shape: &ConvShape) -> usize {
    shape.out_c.saturating_mul(filter_len(shape))
}

/// Copies OHWI `weights`; those of a depthwise convolution become HWO.
pub fn pack(shape: &ConvShape, weights: &[i8], dst: &mut [u8]) {
    assert_eq!(weights.len(), dst.len());
    let filter_len = filter_len(shape);
    for (at, d) in dst.iter_mut().enumerate() {
        let from = if is_depthwise(shape) { at % shape.out_c * filter_len + at / shape.out_c } else { at };
        *d = weights[from] as u8;
    }
}

/// Convolves, or returns `false` where weights are not as long as they have to be.
pub fn run(shape: &ConvShape, args: &ConvArgs<'_>, mut output: Results<'_>) -> bool {
    if args.weights.len() != packed_len(shape) {
        return false;
    }
    let w = &shape.window;
    for pixel in 0..w.out_h * w.out_w {
        let position = (pixel / w.out_w, pixel % w.out_w);
        let put = &mut |channel, sum| put(args, &mut output, pixel * shape.out_c + channel, channel, sum);
        if is_depthwise(shape) {
            depthwise(w, args, position, put);
        } else {
            dense(shape, args, position, put);
        }
    }
    true
}

/// Puts the sum of a channel where it goes.
// Otherwise there is a copy of everything for either kind of results.
#[inline(never)]
fn put(args: &ConvArgs<'_>, output: &mut Results<'_>, at: usize, channel: usize, sum: i32) {
    match output {
        Results::Bytes(bytes) => bytes[at] = requantize(sum, args.multiplier[channel], &args.out),
        Results::Sums(sums) => sums[at] = sum,
    }
}

fn is_depthwise(shape: &ConvShape) -> bool {
    shape.groups == shape.window.in_c && shape.groups == shape.out_c && shape.groups > 1
}

/// All output channels of a pixel.
fn dense(shape: &ConvShape, args: &ConvArgs<'_>, position: (usize, usize), put: &mut impl FnMut(usize, i32)) {
    let (group_in, group_out) = (shape.window.in_c / shape.groups, shape.out_c / shape.groups);
    let filter_len = filter_len(shape);
    let pixel = pixel(&shape.window, args, position);
    for group in 0..shape.groups {
        let channels = group * group_in..(group + 1) * group_in;
        for block in (0..group_out).step_by(FILTERS) {
            let (first, count) = (group * group_out + block, FILTERS.min(group_out - block));
            // Fewer filters repeat the last.
            let filters: [&[u8]; FILTERS] =
                core::array::from_fn(|i| &args.weights[(first + i.min(count - 1)) * filter_len..][..filter_len]);
            let mut sums = [0; FILTERS];
            match pixel {
                Some(pixel) => products(&pixel[channels.clone()], filters, &mut sums),
                None => window(&shape.window, args, position, &channels, filters, &mut sums),
            }
            for (i, sum) in sums.into_iter().enumerate().take(count) {
                put(first + i, args.bias[first + i].wrapping_add(sum));
            }
        }
    }
}

/// All that is under the window of a kernel of one pixel, `None` of other kernels, and in the padding.
fn pixel<'a>(w: &Window, args: &ConvArgs<'a>, (oy, ox): (usize, usize)) -> Option<&'a [i8]> {
    let iy = (oy * w.stride_h).wrapping_sub(w.pad_top);
    let ix = (ox * w.stride_w).wrapping_sub(w.pad_left);
    let is_inside = (w.kernel_h, w.kernel_w) == (1, 1) && iy < w.in_h && ix < w.in_w;
    is_inside.then(|| &args.input[(iy * w.in_w + ix) * w.in_c..][..w.in_c])
}

/// Adds the products of some channels under a window and of four filters.
// Several times as large where it is compiled into its caller.
#[inline(never)]
fn window(
    w: &Window,
    args: &ConvArgs<'_>,
    (oy, ox): (usize, usize),
    channels: &Range<usize>,
    filters: [&[u8]; FILTERS],
    sums: &mut [i32; FILTERS],
) {
    let len = channels.len();
    let row_len = w.kernel_w * len;
    let whole_rows = w.dilation_w == 1 && len == w.in_c;
    for ky in 0..w.kernel_h {
        let row = filters.map(|filter| &filter[ky * row_len..][..row_len]);
        let iy = (oy * w.stride_h + ky * w.dilation_h).wrapping_sub(w.pad_top);
        if iy >= w.in_h {
            padding(args.input_zp, row, sums);
            continue;
        }
        let left = ox * w.stride_w;
        let start = left.wrapping_sub(w.pad_left);
        if whole_rows && start < w.in_w && w.kernel_w <= w.in_w - start {
            let input = &args.input[(iy * w.in_w + start) * w.in_c..][..row_len];
            products(input, row, sums);
            continue;
        }
        for kx in 0..w.kernel_w {
            let tap = row.map(|row| &row[kx * len..][..len]);
            let ix = (left + kx * w.dilation_w).wrapping_sub(w.pad_left);
            if ix < w.in_w {
                let pixel = &args.input[(iy * w.in_w + ix) * w.in_c..][..w.in_c];
                products(&pixel[channels.clone()], tap, sums);
            } else {
                padding(args.input_zp, tap, sums);
            }
        }
    }
}

/// Adds the products of values and of the weights of four filters.
#[inline]
fn products(values: &[i8], weights: [&[u8]; FILTERS], sums: &mut [i32; FILTERS]) {
    let len = values.len();
    #[cfg(all(target_arch = "arm", target_os = "linux", target_has_atomic = "64"))]
    let done = super::smlad::products(values, weights, sums);
    #[cfg(not(all(target_arch = "arm", target_os = "linux", target_has_atomic = "64")))]
    let done = 0;
    let [a, b, c, d] = weights.map(|weights| &weights[..len]);
    let [mut sum_a, mut sum_b, mut sum_c, mut sum_d] = *sums;
    for i in done..len {
        let value = i32::from(values[i]);
        sum_a = sum_a.wrapping_add(value * i32::from(a[i] as i8));
        sum_b = sum_b.wrapping_add(value * i32::from(b[i] as i8));
        sum_c = sum_c.wrapping_add(value * i32::from(c[i] as i8));
        sum_d = sum_d.wrapping_add(value * i32::from(d[i] as i8));
    }
    *sums = [sum_a, sum_b, sum_c, sum_d];
}

/// Adds the products of the zero point and of the weights of four filters.
fn padding(zero_point: i8, weights: [&[u8]; FILTERS], sums: &mut [i32; FILTERS]) {
    for (sum, weights) in sums.iter_mut().zip(weights) {
        let all = weights.iter().fold(0_i32, |all, &weight| all.wrapping_add(i32::from(weight as i8)));
        *sum = sum.wrapping_add(all.wrapping_mul(zero_point.into()));
    }
}

/// All channels of a pixel, a few at a time.
fn depthwise(w: &Window, args: &ConvArgs<'_>, (oy, ox): (usize, usize), put: &mut impl FnMut(usize, i32)) {
    let (channels, padding) = (w.in_c, [args.input_zp; CHANNELS]);
    for first in (0..channels).step_by(CHANNELS) {
        let len = CHANNELS.min(channels - first);
        let mut sums = [0_i32; CHANNELS];
        for ky in 0..w.kernel_h {
            let iy = (oy * w.stride_h + ky * w.dilation_h).wrapping_sub(w.pad_top);
            for kx in 0..w.kernel_w {
                let ix = (ox * w.stride_w + kx * w.dilation_w).wrapping_sub(w.pad_left);
                let weights = &args.weights[(ky * w.kernel_w + kx) * channels + first..][..len];
                let inside = iy < w.in_h && ix < w.in_w;
                let values =
                    if inside { &args.input[(iy * w.in_w + ix) * channels + first..][..len] } else { &padding[..len] };
                for ((sum, &value), &weight) in sums.iter_mut().zip(values).zip(weights) {
                    *sum = sum.wrapping_add(i32::from(value) * i32::from(weight as i8));
                }
            }
        }
        for (i, sum) in sums.into_iter().enumerate().take(len) {
            put(first + i, args.bias[first + i].wrapping_add(sum));
        }
    }
}

/// See [`Requantize`]. Clamping before rounding agrees with clamping after it, the bounds being
/// integers, and keeps the conversion to an integer in range.
fn requantize(acc: i32, multiplier: f32, out: &Requantize) -> i8 {
    let zero_point = i32::from(out.zero_point);
    let low = (i32::from(out.min) - zero_point) as f32;
    let high = (i32::from(out.max) - zero_point) as f32;
    let value = acc as f32 * multiplier;
    // `f32::min` is a call on some CPUs.
    let value = if value < high { value } else { high };
    let value = if value > low { value } else { low };
    (round_half_even(value) + zero_point) as i8
}

/// For `|value| < 2^22`: the sum has no bits left below the unit, so the addition itself rounds.
fn round_half_even(value: f32) -> i32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23
    ((value + MAGIC) - MAGIC) as i32
}

fn filter_len(shape: &ConvShape) -> usize {
    let w = &shape.window;
    w.kernel_h.saturating_mul(w.kernel_w).saturating_mul(w.in_c / shape.groups)
}
