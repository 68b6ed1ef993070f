//! Maximum and average over a sliding window.
//!
//! Vectors run along the channels, so that one code serves every window.

use crate::isa::Isa;
use crate::plan::AveragePoolS8;
use crate::shape::Window;

use super::per_isa::per_isa;
use super::round::ToI8;
#[cfg(target_arch = "aarch64")]
use super::simd::bytes;

/// [`MaxPoolS8`](crate::plan::MaxPoolS8).
pub fn max_s8(isa: Isa, x: &[i8], y: &mut [i8], window: &Window) {
    #[cfg(target_arch = "aarch64")]
    if isa != Isa::Generic && window.in_c >= bytes::LANES {
        return each_sixteen(y, window, |taps, from, y| {
            let mut largest = bytes::Largest::none();
            for ky in 0..taps.rows {
                for kx in 0..taps.cols {
                    largest = largest.or(sixteen(x, from + taps.distance(window, ky, kx)));
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
        return each_sixteen(y, window, |taps, from, y| {
            let mut sum = bytes::Sum::of(op.offset(taps));
            for ky in 0..taps.rows {
                for first in (0..taps.cols).step_by(bytes::SHORT_SUM) {
                    let mut short = bytes::ShortSum::none();
                    for kx in first..taps.cols.min(first + bytes::SHORT_SUM) {
                        short = short.and(sixteen(x, from + taps.distance(window, ky, kx)));
                    }
                    sum = sum.and(short);
                }
            }
            sum.put(op.multiplier / taps.count(window, op.count_include_pad), &op.requantize, y);
        });
    }
    plain_average_s8(isa, x, y, op);
}

/// Calls `f` for each sixteen channels of every pixel of `y`, with where they begin under its first tap; some of them again where the
/// last are fewer, of no less than sixteen.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn each_sixteen(y: &mut [i8], window: &Window, mut f: impl FnMut(&Taps, usize, &mut [i8; bytes::LANES])) {
    let last = window.in_c - bytes::LANES;
    each_run(y, window, |taps, pixels| {
        for (pixel, y) in pixels.chunks_exact_mut(window.in_c).enumerate() {
            for first in (0..window.in_c).step_by(bytes::LANES).map(|first| first.min(last)) {
                if let Some(y) = y[first..].first_chunk_mut() {
                    f(taps, taps.start + pixel * window.stride_w * window.in_c + first, y);
                }
            }
        }
    });
}

#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn sixteen(x: &[i8], at: usize) -> &[i8; bytes::LANES] {
    x[at..].first_chunk().expect("a tap has all channels")
}

per_isa! {
    #[inline(never)]
    fn plain_max_s8(x: &[i8], y: &mut [i8], window: &Window) {
        pool(x, y, window, i8::MIN, larger, first);
    }

    /// [`MaxPoolF32`](crate::plan::MaxPoolF32). A NaN is passed over.
    pub fn max_f32(x: &[f32], y: &mut [f32], window: &Window) {
        pool(x, y, window, f32::NEG_INFINITY, larger, first);
    }

    #[inline(never)]
    fn plain_average_s8(x: &[i8], y: &mut [i8], op: &AveragePoolS8) {
        let to_i8 = ToI8::new(&op.requantize);
        pool(
            x,
            y,
            &op.window,
            0,
            #[inline(always)]
            |sum: i32, x| sum.wrapping_add(i32::from(x)),
            #[inline(always)]
            |sum, taps| {
                let multiplier = op.multiplier / taps.count(&op.window, op.count_include_pad);
                to_i8.apply(sum.wrapping_add(op.offset(taps)) as f32 * multiplier)
            },
        );
    }

    /// [`AveragePoolF32`](crate::plan::AveragePoolF32).
    pub fn average_f32(x: &[f32], y: &mut [f32], window: &Window, count_include_pad: bool) {
        pool(
            x,
            y,
            window,
            0.0,
            #[inline(always)]
            |sum, x| sum + x,
            #[inline(always)]
            |sum, taps| sum / taps.count(window, count_include_pad),
        );
    }
}

#[inline(always)]
fn first<T>(best: T, _: &Taps) -> T {
    best
}

#[inline(always)]
fn larger<T: PartialOrd>(best: T, x: T) -> T {
    if x > best { x } else { best }
}

/// Puts the values under the window together by `step`, beginning with `start`, and makes a result of each sum by `end`. Some channels
/// of all pixels that have the same taps, then others: what there is to reckon for a pixel takes longer than to read a
/// register full of channels.
#[inline(always)]
fn pool<X: Copy, S: Copy, Y>(
    x: &[X],
    y: &mut [Y],
    window: &Window,
    start: S,
    step: impl Fn(S, X) -> S,
    end: impl Fn(S, &Taps) -> Y,
) {
    let w = window;
    each_run(
        y,
        window,
        #[inline(always)]
        |taps, pixels| {
            let mut first = 0;
            /// From the channel `first` on, as many at a time as there are of so many.
            macro_rules! channels {
                ($len:literal) => {
                    while w.in_c - first >= $len {
                        for (pixel, y) in pixels.chunks_exact_mut(w.in_c).enumerate() {
                            let from = taps.start + pixel * w.stride_w * w.in_c + first;
                            let mut sums = [start; $len];
                            for ky in 0..taps.rows {
                                for kx in 0..taps.cols {
                                    let x = &x[from + taps.distance(w, ky, kx)..][..$len];
                                    for (sum, x) in sums.iter_mut().zip(x) {
                                        *sum = step(*sum, *x);
                                    }
                                }
                            }
                            for (y, sum) in y[first..][..$len].iter_mut().zip(sums) {
                                *y = end(sum, taps);
                            }
                        }
                        first += $len;
                    }
                };
            }
            // Small boards have little room for programs.
            #[cfg(target_arch = "x86_64")]
            channels!(32);
            channels!(8);
            channels!(1);
        },
    );
}

/// Calls `f` for the pixels of `y`, as many at a time as follow each other in a row and have the same taps.
#[inline(always)]
fn each_run<Y>(y: &mut [Y], window: &Window, mut f: impl FnMut(&Taps, &mut [Y])) {
    for (out_y, mut y) in y.chunks_exact_mut(window.out_w * window.in_c).enumerate() {
        while !y.is_empty() {
            let taps = Taps::of(window, out_y, window.out_w - y.len() / window.in_c);
            let (pixels, others) = y.split_at_mut(taps.pixels * window.in_c);
            f(&taps, pixels);
            y = others;
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

/// The part of a window that lies inside the image.
struct Taps {
    /// Rows and columns of the kernel.
    rows: usize,
    cols: usize,
    /// Where the channels of the first of them start in the input.
    start: usize,
    /// Pixels that have as many: the one that was asked for and those that follow it in its row.
    pixels: usize,
}

impl Taps {
    // Not anew in each kernel of each instruction set.
    #[inline(never)]
    fn of(window: &Window, out_y: usize, out_x: usize) -> Self {
        let w = window;
        let (rows, cols) = (w.rows_inside(out_y), w.cols_inside(out_x));
        // Outside of the image nothing is read.
        let in_y = (out_y * w.stride_h + rows.start * w.dilation_h).saturating_sub(w.pad_top);
        let in_x = (out_x * w.stride_w + cols.start * w.dilation_w).saturating_sub(w.pad_left);
        // Where all of the kernel is inside there are many, and few behind them.
        let whole = cols == (0..w.kernel_w);
        let last = (out_x..w.out_w).rfind(|&x| whole && w.cols_inside(x) == cols);
        Self {
            rows: rows.len(),
            cols: cols.len(),
            start: (in_y * w.in_w + in_x) * w.in_c,
            pixels: last.unwrap_or(out_x) + 1 - out_x,
        }
    }

    /// From the first tap to another.
    #[inline(always)]
    fn distance(&self, window: &Window, ky: usize, kx: usize) -> usize {
        (ky * window.dilation_h * window.in_w + kx * window.dilation_w) * window.in_c
    }

    /// How many there are.
    fn len(&self) -> usize {
        self.rows * self.cols
    }

    /// What an average divides by.
    fn count(&self, window: &Window, include_pad: bool) -> f32 {
        let count = if include_pad { window.kernel_h * window.kernel_w } else { self.len() };
        count.max(1) as f32
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
