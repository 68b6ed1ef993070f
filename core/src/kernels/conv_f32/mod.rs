//! Convolution in f32, for models that are not, or not wholly, quantized.
//!
//! Plain loops over output channels everywhere, and register tiles with fused multiply-add where
//! the CPU has it (`tiles`, `vector`). Sums are in a different order in each, so that results agree within
//! rounding and not in every bit.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod tiles;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod vector;

use crate::isa::Isa;
use crate::shape::{ConvShape, Window};

use super::binary::limit;
use super::lanes::for_each_block;

/// What a convolution reads beside its shape.
#[derive(Clone, Copy, Debug)]
pub struct ConvF32Args<'a> {
    /// `[in_h, in_w, in_c]`.
    pub input: &'a [f32],
    /// `[kernel_h, kernel_w, in_c / groups, out_c]`.
    pub weights: &'a [f32],
    /// `[out_c]`.
    pub bias: &'a [f32],
    /// Lower bound of the output.
    pub min: f32,
    /// Upper bound of the output.
    pub max: f32,
}

/// Bytes of scratch that [`run`] works in: padding under a row of the kernel.
pub fn scratch_len(shape: &ConvShape) -> usize {
    segment(shape).saturating_mul(size_of::<f32>())
}

/// Convolves, and returns whether it did: slices that do not fit `shape` leave `output` as it was.
pub fn run(isa: Isa, shape: &ConvShape, args: &ConvF32Args<'_>, output: &mut [f32], scratch: &mut [f32]) -> bool {
    if !args.fit(shape, output) || scratch.len() < segment(shape) {
        return false;
    }
    let depthwise = shape.groups == shape.window.in_c && shape.groups == shape.out_c;
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    if isa != Isa::Generic && isa.is_available() && !depthwise {
        let padding = &mut scratch[..segment(shape)];
        padding.fill(0.0);
        // SAFETY: every other instruction set includes AVX2 and FMA on x86-64 and NEON on aarch64,
        // this CPU has it, and the lengths fit.
        unsafe { tiles::run(shape, args, output, padding) };
        return true;
    }
    if depthwise {
        depthwise_f32(isa, shape, args, output);
    } else {
        plain(shape, args, output);
    }
    true
}

impl ConvF32Args<'_> {
    /// Whether the slices are as long as `shape` says.
    fn fit(&self, shape: &ConvShape, output: &[f32]) -> bool {
        let w = &shape.window;
        let product = |sizes: &[usize]| sizes.iter().try_fold(1usize, |all, &size| all.checked_mul(size));
        w.in_c > 0
            && shape.groups > 0
            && shape.out_c > 0
            && w.in_c.is_multiple_of(shape.groups)
            && shape.out_c.is_multiple_of(shape.groups)
            && product(&[w.in_h, w.in_w, w.in_c]) == Some(self.input.len())
            && product(&[w.kernel_h, w.kernel_w, group_in(shape), shape.out_c]) == Some(self.weights.len())
            && self.bias.len() == shape.out_c
            && product(&[w.out_h, w.out_w, shape.out_c]) == Some(output.len())
    }

    #[inline(always)]
    fn limit(&self, value: f32) -> f32 {
        limit(value, self.min, self.max)
    }
}

fn group_in(shape: &ConvShape) -> usize {
    shape.window.in_c / shape.groups
}

/// Values of a window that follow each other: those of a row, or where groups or dilation part them, of a pixel.
fn segment(shape: &ConvShape) -> usize {
    let w = &shape.window;
    if shape.groups == 1 && w.dilation_w == 1 { w.kernel_w.saturating_mul(w.in_c) } else { group_in(shape) }
}

/// Where the channels of a tap start in the input; `None` in the padding.
#[inline(always)]
pub(super) fn tap_start(w: &Window, (out_y, out_x): (usize, usize), (ky, kx): (usize, usize)) -> Option<usize> {
    let iy = (out_y * w.stride_h + ky * w.dilation_h).wrapping_sub(w.pad_top);
    let ix = (out_x * w.stride_w + kx * w.dilation_w).wrapping_sub(w.pad_left);
    (iy < w.in_h && ix < w.in_w).then(|| (iy * w.in_w + ix) * w.in_c)
}

fn plain(shape: &ConvShape, args: &ConvF32Args<'_>, output: &mut [f32]) {
    let ConvShape { window, out_c, groups } = shape;
    let (group_in, group_out) = (group_in(shape), out_c / groups);
    for (pixel, y) in output.chunks_exact_mut(*out_c).enumerate() {
        let position = (pixel / window.out_w, pixel % window.out_w);
        y.copy_from_slice(args.bias);
        for (tap, weights) in args.weights.chunks_exact(group_in * out_c).enumerate() {
            let tap = (tap / window.kernel_w, tap % window.kernel_w);
            let Some(start) = tap_start(window, position, tap) else { continue };
            for (c, weights) in weights.chunks_exact(*out_c).enumerate() {
                if *groups == 1 {
                    let x = args.input[start + c];
                    y.iter_mut().zip(weights).for_each(|(y, w)| *y += x * w);
                } else {
                    let x = &args.input[start..][..window.in_c];
                    for (oc, (y, w)) in y.iter_mut().zip(weights).enumerate() {
                        *y += x[oc / group_out * group_in + c] * w;
                    }
                }
            }
        }
        y.iter_mut().for_each(|y| *y = args.limit(*y));
    }
}

super::per_isa::per_isa! {
    /// One group for each channel, one output channel for each group.
    pub fn depthwise_f32(shape: &ConvShape, args: &ConvF32Args<'_>, output: &mut [f32]) {
        let ConvShape { window, out_c, .. } = shape;
        for (pixel, y) in output.chunks_exact_mut(*out_c).enumerate() {
            let position = (pixel / window.out_w, pixel % window.out_w);
            for_each_block!(y, |first, sums| {
                let len = sums.len();
                sums.copy_from_slice(&args.bias[first..][..len]);
                for ky in 0..window.kernel_h {
                    for kx in 0..window.kernel_w {
                        let Some(start) = tap_start(window, position, (ky, kx)) else { continue };
                        let weights = (ky * window.kernel_w + kx) * out_c + first;
                        let weights = &args.weights[weights..][..len];
                        let x = &args.input[start + first..][..len];
                        let products = x.iter().zip(weights).map(|(x, w)| x * w);
                        sums.iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
                    }
                }
                sums.iter_mut().for_each(|sum| *sum = args.limit(*sum));
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::kernels::noise::noise;
    use crate::kernels::pool::tests::any_window;

    #[test]
    fn sizes_whose_product_overflows_fit_nothing() {
        let mut shape = ConvShape { window: Window::pixels(1, 1), out_c: 8, groups: 1 };
        shape.window.kernel_h = 1 << (usize::BITS - 3);
        let args = ConvF32Args { input: &[1.0], weights: &[], bias: &[0.0; 8], min: -1.0, max: 1.0 };
        for isa in Isa::ALL {
            assert!(!run(isa, &shape, &args, &mut [0.0; 8], &mut [0.0]), "{isa}");
        }
    }

    /// The definition, in double precision, output channel by output channel.
    fn exact(shape: &ConvShape, args: &ConvF32Args<'_>) -> Vec<f64> {
        let w = &shape.window;
        let (group_in, group_out) = (group_in(shape), shape.out_c / shape.groups);
        let mut y = Vec::new();
        for oy in 0..w.out_h {
            for ox in 0..w.out_w {
                for oc in 0..shape.out_c {
                    let mut sum = f64::from(args.bias[oc]);
                    for ky in 0..w.kernel_h {
                        for kx in 0..w.kernel_w {
                            let iy = (oy * w.stride_h + ky * w.dilation_h) as isize;
                            let ix = (ox * w.stride_w + kx * w.dilation_w) as isize;
                            let (iy, ix) = (iy - w.pad_top as isize, ix - w.pad_left as isize);
                            let inside = (0..w.in_h as isize).contains(&iy) && (0..w.in_w as isize).contains(&ix);
                            for c in 0..if inside { group_in } else { 0 } {
                                let pixel = iy as usize * w.in_w + ix as usize;
                                let x = args.input[pixel * w.in_c + oc / group_out * group_in + c];
                                let tap = (ky * w.kernel_w + kx) * group_in + c;
                                let weight = args.weights[tap * shape.out_c + oc];
                                sum += f64::from(x) * f64::from(weight);
                            }
                        }
                    }
                    y.push(sum.clamp(args.min.into(), args.max.into()));
                }
            }
        }
        y
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(
            mut window in any_window(2),
            groups in prop_oneof![Just(1usize), 1usize..5, Just(0)],
            group_in in 1usize..20,
            group_out in prop_oneof![1usize..30, 60usize..90],
            seed: u32,
        ) {
            // 0 stands for depthwise.
            let shape = if groups == 0 {
                ConvShape { window, out_c: window.in_c, groups: window.in_c }
            } else {
                window.in_c = groups * group_in;
                ConvShape { window, out_c: groups * group_out, groups }
            };
            let w = &shape.window;
            let input = noise(seed, w.in_h * w.in_w * w.in_c);
            let taps = w.kernel_h * w.kernel_w * w.in_c / shape.groups;
            let weights = noise(seed ^ 0x5555, taps * shape.out_c);
            let bias = noise(seed ^ 0x3333, shape.out_c);
            let args = ConvF32Args { input: &input, weights: &weights, bias: &bias, min: -1.5, max: 2.0 };
            let expected = exact(&shape, &args);
            for isa in Isa::ALL {
                let mut y = vec![f32::NAN; expected.len()];
                let mut scratch = vec![f32::NAN; scratch_len(&shape) / size_of::<f32>()];
                prop_assert!(run(isa, &shape, &args, &mut y, &mut scratch));
                for (y, expected) in y.iter().zip(&expected) {
                    let error = (f64::from(*y) - expected).abs();
                    prop_assert!(error <= 1e-5 * (taps as f64).sqrt(), "{} is not {}", y, expected);
                }
            }
        }
    }
}
