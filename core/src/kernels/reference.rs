//! The scalar convolution that every other one equals bit for bit: any groups, any window.

use crate::shape::{ConvShape, Requantize};

use super::conv::ConvArgs;

/// Bytes of the packed weights: they stay OHWI.
pub fn packed_len(shape: &ConvShape) -> usize {
    shape.out_c.saturating_mul(filter_len(shape))
}

/// Copies OHWI `weights`.
pub fn pack(weights: &[i8], dst: &mut [u8]) {
    assert_eq!(weights.len(), dst.len());
    for (d, &w) in dst.iter_mut().zip(weights) {
        *d = w as u8;
    }
}

/// Convolves, or returns `false` where weights are not as long as they have to be.
pub fn run(shape: &ConvShape, args: &ConvArgs<'_>, output: &mut [i8]) -> bool {
    if args.weights.len() != packed_len(shape) {
        return false;
    }
    let w = &shape.window;
    let group_in = w.in_c / shape.groups;
    let group_out = shape.out_c / shape.groups;
    let filter_len = filter_len(shape);
    let pixels = output.chunks_exact_mut(shape.out_c).enumerate();
    for (pixel, out) in pixels {
        let (oy, ox) = (pixel / w.out_w, pixel % w.out_w);
        for (oc, out) in out.iter_mut().enumerate() {
            let filter = &args.weights[oc * filter_len..][..filter_len];
            let channel = oc / group_out * group_in;
            let mut acc = args.bias[oc];
            let mut taps = filter.chunks_exact(group_in);
            for ky in 0..w.kernel_h {
                let iy = (oy * w.stride_h + ky * w.dilation_h).wrapping_sub(w.pad_top);
                for (kx, tap) in (0..w.kernel_w).zip(&mut taps) {
                    let ix = (ox * w.stride_w + kx * w.dilation_w).wrapping_sub(w.pad_left);
                    let inside = iy < w.in_h && ix < w.in_w;
                    let at = if inside { (iy * w.in_w + ix) * w.in_c + channel } else { 0 };
                    for (c, &weight) in tap.iter().enumerate() {
                        let value = if inside { args.input[at + c] } else { args.input_zp };
                        acc = acc.wrapping_add(i32::from(value) * i32::from(weight as i8));
                    }
                }
            }
            *out = requantize(acc, args.multiplier[oc], &args.out);
        }
    }
    true
}

/// See [`Requantize`]. Clamping before rounding agrees with clamping after it, the bounds being
/// integers, and keeps the conversion to an integer in range.
pub fn requantize(acc: i32, multiplier: f32, out: &Requantize) -> i8 {
    let zero_point = i32::from(out.zero_point);
    let low = (i32::from(out.min) - zero_point) as f32;
    let high = (i32::from(out.max) - zero_point) as f32;
    let value = (acc as f32 * multiplier).min(high).max(low);
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
