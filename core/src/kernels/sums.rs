//! Sums of products of integers, where what they are worth is not known before they are needed: the input's zero point
//! is computed, and so is its scale.

use crate::isa::Isa;
use crate::shape::ConvShape;

use super::conv::reasonable;
use super::conv_f32::tap_start;
use super::per_isa::per_isa;

/// What sums are made of, beside their shape.
#[derive(Clone, Copy, Debug)]
pub struct SumsArgs<'a> {
    /// NHWC, `in_h * in_w * in_c`.
    pub input: &'a [i8],
    /// What stands for 0 in it, and what padding reads.
    pub zero_point: i8,
    /// OHWI.
    pub weights: &'a [i8],
}

/// Bytes of scratch that [`run`] works in: all that is under a window, less the zero point; more than there can be if
/// `shape` is beyond reason.
pub fn scratch_len(shape: &ConvShape) -> usize {
    let w = &shape.window;
    let sizes = [w.kernel_h, w.kernel_w, w.in_c, size_of::<i16>()];
    sizes.iter().try_fold(1usize, |all, &size| all.checked_mul(size)).unwrap_or(usize::MAX)
}

/// Sums in wrapping i32, and returns whether it did: slices that do not fit `shape` leave `output` as it was.
pub fn run(isa: Isa, shape: &ConvShape, args: &SumsArgs<'_>, output: &mut [i32], scratch: &mut [i16]) -> bool {
    let w = &shape.window;
    let product = |sizes: &[usize]| sizes.iter().try_fold(1usize, |all, &size| all.checked_mul(size));
    let fits = reasonable(shape)
        && product(&[w.in_h, w.in_w, w.in_c]) == Some(args.input.len())
        && product(&[w.out_h, w.out_w, shape.out_c]) == Some(output.len())
        && product(&[w.kernel_h, w.kernel_w, w.in_c / shape.groups, shape.out_c]) == Some(args.weights.len());
    let Some(row) = scratch.get_mut(..scratch_len(shape) / size_of::<i16>()).filter(|_| fits) else { return false };
    each_pixel(isa, shape, args, output, row);
    true
}

per_isa! {
    fn each_pixel(shape: &ConvShape, args: &SumsArgs<'_>, output: &mut [i32], row: &mut [i16]) {
        let group_out = shape.out_c / shape.groups;
        let filter_len = row.len() / shape.groups;
        for (pixel, y) in output.chunks_exact_mut(shape.out_c).enumerate() {
            gather(shape, args, pixel, row);
            let groups = row.chunks_exact(filter_len).zip(args.weights.chunks_exact(group_out * filter_len));
            for ((row, filters), y) in groups.zip(y.chunks_exact_mut(group_out)) {
                for (filter, y) in filters.chunks_exact(filter_len).zip(y) {
                    let products = row.iter().zip(filter).map(|(x, w)| i32::from(*x) * i32::from(*w));
                    *y = products.fold(0, i32::wrapping_add);
                }
            }
        }
    }
}

/// What is under the window of a pixel, less the zero point, in the order of the filters: by group, tap and channel.
#[inline(always)]
fn gather(shape: &ConvShape, args: &SumsArgs<'_>, pixel: usize, row: &mut [i16]) {
    let w = &shape.window;
    let position = (pixel / w.out_w, pixel % w.out_w);
    let zero_point = i16::from(args.zero_point);
    let (filter_len, group_in) = (row.len() / shape.groups, w.in_c / shape.groups);
    for (group, row) in row.chunks_exact_mut(filter_len).enumerate() {
        for (tap, row) in row.chunks_exact_mut(group_in).enumerate() {
            match tap_start(w, position, (tap / w.kernel_w, tap % w.kernel_w)) {
                Some(start) => {
                    let x = &args.input[start + group * group_in..];
                    row.iter_mut().zip(x).for_each(|(to, x)| *to = i16::from(*x) - zero_point);
                }
                None => row.fill(0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::shape::Window;

    fn shapes() -> impl Strategy<Value = ConvShape> {
        let sizes = (1usize..8, 1usize..8, 1usize..4, 1usize..4, 1usize..3, 1usize..3);
        (sizes, 1usize..20, 1usize..4, 1usize..4, any::<(bool, bool)>()).prop_map(
            |((in_h, in_w, kernel_h, kernel_w, stride, dilation), group_in, group_out, groups, pads)| {
                let pad = |padded: bool, kernel: usize| if padded { (kernel - 1) * dilation } else { 0 };
                let (pad_top, pad_left) = (pad(pads.0, kernel_h), pad(pads.1, kernel_w));
                let window = Window {
                    in_h,
                    in_w,
                    in_c: group_in * groups,
                    out_h: (in_h + pad_top - 1) / stride + 1,
                    out_w: (in_w + pad_left - 1) / stride + 1,
                    kernel_h,
                    kernel_w,
                    stride_h: stride,
                    stride_w: stride,
                    dilation_h: dilation,
                    dilation_w: dilation,
                    pad_top,
                    pad_left,
                };
                ConvShape { window, out_c: group_out * groups, groups }
            },
        )
    }

    proptest! {
        #[test]
        fn every_instruction_set_agrees_with_the_definition(
            shape in shapes(), zero_point: i8, x in vec(any::<i8>(), 64), weights in vec(any::<i8>(), 101),
        ) {
            let w = shape.window;
            let (group_in, group_out) = (w.in_c / shape.groups, shape.out_c / shape.groups);
            let x: Vec<i8> = x.into_iter().cycle().take(w.in_h * w.in_w * w.in_c).collect();
            let taps = w.kernel_h * w.kernel_w;
            let weights: Vec<i8> = weights.into_iter().cycle().take(shape.out_c * taps * group_in).collect();
            let mut expected = vec![];
            for (pixel, o) in (0..w.out_h * w.out_w).flat_map(|pixel| (0..shape.out_c).map(move |o| (pixel, o))) {
                let mut sum = 0;
                for (tap, c) in (0..taps).flat_map(|tap| (0..group_in).map(move |c| (tap, c))) {
                    let y = (pixel / w.out_w * w.stride_h + tap / w.kernel_w * w.dilation_h).checked_sub(w.pad_top);
                    let x_at = (pixel % w.out_w * w.stride_w + tap % w.kernel_w * w.dilation_w).checked_sub(w.pad_left);
                    if let (Some(y), Some(at)) = (y.filter(|y| *y < w.in_h), x_at.filter(|x| *x < w.in_w)) {
                        let x = x[(y * w.in_w + at) * w.in_c + o / group_out * group_in + c];
                        let weight = weights[(o * taps + tap) * group_in + c];
                        sum += (i32::from(x) - i32::from(zero_point)) * i32::from(weight);
                    }
                }
                expected.push(sum);
            }
            let args = SumsArgs { input: &x, zero_point, weights: &weights };
            for isa in Isa::ALL {
                let mut y = vec![-1; expected.len()];
                let mut scratch = vec![-1; scratch_len(&shape) / 2];
                prop_assert!(run(isa, &shape, &args, &mut y, &mut scratch));
                prop_assert_eq!(&y, &expected);
                prop_assert!(!run(isa, &shape, &args, &mut y[1..], &mut scratch));
            }
        }
    }

    #[test]
    fn sums_beyond_32_bits_wrap() {
        let (x, weights) = (vec![-128; 70_000], vec![127; 70_000]);
        let shape = ConvShape { window: Window::pixels(1, x.len()), out_c: 1, groups: 1 };
        let args = SumsArgs { input: &x, zero_point: 127, weights: &weights };
        let mut y = [0];
        assert!(run(Isa::detect(), &shape, &args, &mut y, &mut vec![0; x.len()]));
        assert_eq!(y, [(-255i64 * 127 * 70_000) as i32]);
    }
}
