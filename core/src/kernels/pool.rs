//! Maximum and average over a sliding window.
//!
//! Vectors run along the channels, so that one code serves every window.

use core::ops::Range;

use crate::isa::Isa;
use crate::plan::AveragePoolS8;
use crate::shape::Window;

use super::lanes::for_each_block;
use super::per_isa::per_isa;
use super::round::ToI8;
#[cfg(target_arch = "aarch64")]
use super::simd::bytes;

/// [`MaxPoolS8`](crate::plan::MaxPoolS8).
pub fn max_s8(isa: Isa, x: &[i8], y: &mut [i8], window: &Window) {
    #[cfg(target_arch = "aarch64")]
    if isa != Isa::Generic && window.in_c >= bytes::LANES {
        return each_sixteen(y, window, |taps, first, y| {
            let mut largest = bytes::Largest::none();
            for ky in taps.rows.clone() {
                for kx in taps.cols.clone() {
                    largest = largest.or(sixteen(x, taps.start(window, ky, kx) + first));
                }
            }
            largest.put(y);
        });
    }
    plain_max_s8(isa, x, y, window);
}

/// [`AveragePoolS8`].
pub fn average_s8(isa: Isa, x: &[i8], y: &mut [i8], op: &AveragePoolS8) {
    #[cfg(target_arch = "aarch64")]
    if isa != Isa::Generic && op.window.in_c >= bytes::LANES {
        let window = &op.window;
        return each_sixteen(y, window, |taps, first, y| {
            let mut sum = bytes::Sum::of(op.offset(taps));
            for ky in taps.rows.clone() {
                for from in taps.cols.clone().step_by(bytes::SHORT_SUM) {
                    let mut short = bytes::ShortSum::none();
                    for kx in from..taps.cols.end.min(from + bytes::SHORT_SUM) {
                        short = short.and(sixteen(x, taps.start(window, ky, kx) + first));
                    }
                    sum = sum.and(short);
                }
            }
            sum.put(op.multiplier / taps.count(window, op.count_include_pad), &op.requantize, y);
        });
    }
    plain_average_s8(isa, x, y, op);
}

/// Calls `f` for each sixteen channels of every pixel of `y`, some of them again where the last are fewer, of no less
/// than sixteen.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn each_sixteen(y: &mut [i8], window: &Window, mut f: impl FnMut(&Taps, usize, &mut [i8; bytes::LANES])) {
    let last = window.in_c - bytes::LANES;
    for (pixel, y) in y.chunks_exact_mut(window.in_c).enumerate() {
        let taps = Taps::of(window, pixel);
        for first in (0..window.in_c).step_by(bytes::LANES).map(|first| first.min(last)) {
            if let Some(y) = y[first..].first_chunk_mut() {
                f(&taps, first, y);
            }
        }
    }
}

#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn sixteen(x: &[i8], at: usize) -> &[i8; bytes::LANES] {
    x[at..].first_chunk().expect("a tap has all channels")
}

per_isa! {
    #[inline(never)]
    fn plain_max_s8(x: &[i8], y: &mut [i8], window: &Window) {
        max_pool(x, y, window, i8::MIN);
    }

    /// [`MaxPoolF32`](crate::plan::MaxPoolF32). A NaN is passed over.
    pub fn max_f32(x: &[f32], y: &mut [f32], window: &Window) {
        max_pool(x, y, window, f32::NEG_INFINITY);
    }

    #[inline(never)]
    fn plain_average_s8(x: &[i8], y: &mut [i8], op: &AveragePoolS8) {
        let window = &op.window;
        let to_i8 = ToI8::new(&op.requantize);
        for (pixel, y) in y.chunks_exact_mut(window.in_c).enumerate() {
            let taps = Taps::of(window, pixel);
            let multiplier = op.multiplier / taps.count(window, op.count_include_pad);
            let offset = op.offset(&taps);
            for_each_block!(y, |first, y| {
                let len = y.len();
                let mut sums = y.map(|_| 0i32);
                for ky in taps.rows.clone() {
                    for kx in taps.cols.clone() {
                        let x = &x[taps.start(window, ky, kx) + first..][..len];
                        for (sum, x) in sums.iter_mut().zip(x) {
                            *sum = sum.wrapping_add(i32::from(*x));
                        }
                    }
                }
                for (y, sum) in y.iter_mut().zip(sums) {
                    *y = to_i8.apply(sum.wrapping_add(offset) as f32 * multiplier);
                }
            });
        }
    }

    /// [`AveragePoolF32`](crate::plan::AveragePoolF32).
    pub fn average_f32(x: &[f32], y: &mut [f32], window: &Window, count_include_pad: bool) {
        for (pixel, y) in y.chunks_exact_mut(window.in_c).enumerate() {
            let taps = Taps::of(window, pixel);
            let count = taps.count(window, count_include_pad);
            for_each_block!(y, |first, sums| {
                let len = sums.len();
                sums.fill(0.0);
                for ky in taps.rows.clone() {
                    for kx in taps.cols.clone() {
                        let x = &x[taps.start(window, ky, kx) + first..][..len];
                        for (sum, x) in sums.iter_mut().zip(x) {
                            *sum += x;
                        }
                    }
                }
                for sum in sums.iter_mut() {
                    *sum /= count;
                }
            });
        }
    }
}

impl AveragePoolS8 {
    /// What the zero points of the taps come to, negated.
    #[inline(always)]
    fn offset(&self, taps: &Taps) -> i32 {
        i32::from(self.input_zero_point).wrapping_mul(taps.len() as i32).wrapping_neg()
    }
}

#[inline(always)]
fn max_pool<T: Copy + PartialOrd>(x: &[T], y: &mut [T], window: &Window, lowest: T) {
    for (pixel, y) in y.chunks_exact_mut(window.in_c).enumerate() {
        let taps = Taps::of(window, pixel);
        for_each_block!(y, |first, best| {
            let len = best.len();
            best.fill(lowest);
            for ky in taps.rows.clone() {
                for kx in taps.cols.clone() {
                    let x = &x[taps.start(window, ky, kx) + first..][..len];
                    for (best, x) in best.iter_mut().zip(x) {
                        *best = if x > best { *x } else { *best };
                    }
                }
            }
        });
    }
}

/// The part of a window that lies inside the image, in rows and columns of the kernel.
struct Taps {
    out_y: usize,
    out_x: usize,
    rows: Range<usize>,
    cols: Range<usize>,
}

impl Taps {
    #[inline(always)]
    fn of(window: &Window, pixel: usize) -> Self {
        let w = window;
        let (out_y, out_x) = (pixel / w.out_w, pixel % w.out_w);
        Self { out_y, out_x, rows: w.rows_inside(out_y), cols: w.cols_inside(out_x) }
    }

    /// How many there are.
    fn len(&self) -> usize {
        self.rows.len() * self.cols.len()
    }

    /// What an average divides by.
    fn count(&self, window: &Window, include_pad: bool) -> f32 {
        let count = if include_pad { window.kernel_h * window.kernel_w } else { self.len() };
        count.max(1) as f32
    }

    /// Where a tap's channels start in the input.
    #[inline(always)]
    fn start(&self, window: &Window, ky: usize, kx: usize) -> usize {
        let iy = self.out_y * window.stride_h + ky * window.dilation_h - window.pad_top;
        let ix = self.out_x * window.stride_w + kx * window.dilation_w - window.pad_left;
        (iy * window.in_w + ix) * window.in_c
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::plan::Operand;
    use crate::shape::Requantize;

    /// A window that the verifier accepts.
    pub(crate) fn any_window(max_dilation: usize) -> impl Strategy<Value = Window> {
        // Miri takes minutes for what is done in a second.
        let sizes = 1..if cfg!(miri) { 4usize } else { 8 };
        let axis = move || {
            (sizes.clone(), 1usize..4, 1usize..3, 1..=max_dilation).prop_flat_map(|(size, kernel, stride, dilation)| {
                let extent = (kernel - 1) * dilation;
                (Just((size, kernel, stride, dilation)), 0..=extent, 0..=extent)
            })
        };
        (axis(), axis(), 1usize..70).prop_filter_map("no output", |(h, w, in_c)| {
            let ((in_h, kernel_h, stride_h, dilation_h), pad_top, pad_bottom) = h;
            let ((in_w, kernel_w, stride_w, dilation_w), pad_left, pad_right) = w;
            let out_h = (in_h + pad_top + pad_bottom).checked_sub((kernel_h - 1) * dilation_h + 1)? / stride_h + 1;
            let out_w = (in_w + pad_left + pad_right).checked_sub((kernel_w - 1) * dilation_w + 1)? / stride_w + 1;
            let reaches = (out_h - 1) * stride_h < in_h + pad_top && (out_w - 1) * stride_w < in_w + pad_left;
            reaches.then_some(Window {
                in_h,
                in_w,
                in_c,
                out_h,
                out_w,
                kernel_h,
                kernel_w,
                stride_h,
                stride_w,
                dilation_h,
                dilation_w,
                pad_top,
                pad_left,
            })
        })
    }

    /// The values under the window at each output position, by trying every tap.
    fn gather<T: Copy>(x: &[T], w: &Window) -> Vec<Vec<T>> {
        let mut all = Vec::new();
        for oy in 0..w.out_h {
            for ox in 0..w.out_w {
                for c in 0..w.in_c {
                    let mut values = Vec::new();
                    for ky in 0..w.kernel_h {
                        for kx in 0..w.kernel_w {
                            let iy = (oy * w.stride_h + ky * w.dilation_h) as isize;
                            let ix = (ox * w.stride_w + kx * w.dilation_w) as isize;
                            let (iy, ix) = (iy - w.pad_top as isize, ix - w.pad_left as isize);
                            let inside = (0..w.in_h as isize).contains(&iy) && (0..w.in_w as isize).contains(&ix);
                            if inside {
                                let pixel = iy as usize * w.in_w + ix as usize;
                                values.push(x[pixel * w.in_c + c]);
                            }
                        }
                    }
                    all.push(values);
                }
            }
        }
        all
    }

    fn image(window: &Window, seed: u32) -> Vec<i8> {
        let mut state = seed | 1;
        let len = window.in_h * window.in_w * window.in_c;
        core::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as i8
        })
        .take(len)
        .collect()
    }

    proptest! {
        #[test]
        fn maximum_agrees_with_every_tap(window in any_window(3), seed: u32) {
            let x = image(&window, seed);
            let real: Vec<f32> = x.iter().map(|&x| f32::from(x)).collect();
            let expected = gather(&x, &window).into_iter().map(|v| v.into_iter().max());
            let expected: Vec<i8> = expected.map(|max| max.unwrap_or(-128)).collect();
            for isa in Isa::ALL {
                let mut y = vec![1; expected.len()];
                max_s8(isa, &x, &mut y, &window);
                prop_assert_eq!(&y, &expected);
                let mut y = vec![1.0; expected.len()];
                max_f32(isa, &real, &mut y, &window);
                for (y, &expected) in y.iter().zip(&expected) {
                    let empty = expected == -128 && *y == f32::NEG_INFINITY;
                    prop_assert!(empty || *y == f32::from(expected));
                }
            }
        }

        #[test]
        fn average_agrees_with_every_tap(
            window in any_window(3),
            seed: u32,
            count_include_pad: bool,
            multiplier in 0.1f32..3.0,
            zero_points: (i8, i8),
        ) {
            let x = image(&window, seed);
            let real: Vec<f32> = x.iter().map(|&x| f32::from(x)).collect();
            let requantize = Requantize { zero_point: zero_points.1, min: -128, max: 120 };
            let op = AveragePoolS8 {
                input: Operand::default(),
                output: Operand::default(),
                window,
                count_include_pad,
                multiplier,
                input_zero_point: zero_points.0,
                requantize,
            };
            let taps = gather(&x, &window);
            let kernel = window.kernel_h * window.kernel_w;
            for isa in Isa::ALL {
                let mut y = vec![0; taps.len()];
                average_s8(isa, &x, &mut y, &op);
                let mut y_real = vec![0.0; taps.len()];
                average_f32(isa, &real, &mut y_real, &window, count_include_pad);
                for ((values, y), y_real) in taps.iter().zip(y).zip(y_real) {
                    let count = if count_include_pad { kernel } else { values.len().max(1) };
                    let sum: i32 = values.iter().map(|&v| i32::from(v)).sum();
                    let centred = sum - i32::from(zero_points.0) * values.len() as i32;
                    let scaled = centred as f32 * (multiplier / count as f32);
                    let expected = (scaled.round_ties_even() + f32::from(zero_points.1))
                        .clamp(-128.0, 120.0);
                    prop_assert_eq!(y, expected as i8);
                    prop_assert_eq!(y_real, sum as f32 / count as f32);
                }
            }
        }
    }
}
