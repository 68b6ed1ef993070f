//! Convolution in f32, for models that are not, or not wholly, quantized.
//!
//! Plain loops over output channels everywhere, and register tiles with fused multiply-add where
//! the CPU has it (`tiles`, `vector`). Roundings differ between them, so that results agree within
//! rounding and not in every bit.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod tiles;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod vector;

use core::ops::Range;

use crate::isa::Isa;
use crate::shape::{ConvShape, Window};

use super::binary::limit;

/// Output channels of a block of packed weights: a full tile's.
const BLOCK: usize = 16;

/// What a convolution reads beside its shape.
#[derive(Clone, Copy, Debug)]
pub struct ConvF32Args<'a> {
    /// `[in_h, in_w, in_c]`.
    pub input: &'a [f32],
    /// Of each output channel `kernel_h * kernel_w * in_c / groups`.
    pub weights: Weights<'a>,
    /// `[out_c]`.
    pub bias: &'a [f32],
    /// Lower bound of the output.
    pub min: f32,
    /// Upper bound of the output.
    pub max: f32,
}

/// Weights, and the order in which they lie.
#[derive(Clone, Copy, Debug)]
pub enum Weights<'a> {
    /// In [`order`].
    Packed(&'a [f32]),
    /// `[in_c, out_c]` of a layer that is one product of matrices: what is computed is not packed.
    Rows(&'a [f32]),
}

/// The order of packed weights, which is that in which they are read: the tap of each in a kernel `[kernel_h, kernel_w]`, its
/// input channel of the group's, and its output channel. A group's output channels go in blocks of 16, or what is left of them;
/// those of a depthwise convolution are all one block. A block has tap after tap, each has input channel after input channel,
/// and each has the block's output channels.
pub fn order(shape: &ConvShape) -> impl Iterator<Item = [usize; 3]> + use<> {
    let (taps, group_in) = (shape.window.kernel_h * shape.window.kernel_w, group_in(shape));
    blocks(shape).flat_map(move |block| {
        (0..taps).flat_map(move |tap| {
            let block = block.clone();
            (0..group_in).flat_map(move |input| block.clone().map(move |output| [tap, input, output]))
        })
    })
}

/// The output channels of each block.
fn blocks(shape: &ConvShape) -> impl Iterator<Item = Range<usize>> + use<> {
    let (all, each) = if is_depthwise(shape) { (shape.out_c, shape.out_c) } else { (group_out(shape), BLOCK) };
    (0..shape.out_c).step_by(all.max(1)).flat_map(move |group| {
        (group..group + all).step_by(each.max(1)).map(move |first| first..(first + each).min(group + all))
    })
}

/// Convolves, and returns whether it did: slices that do not fit `shape` leave `output` as it was.
pub fn run(isa: Isa, shape: &ConvShape, args: &ConvF32Args<'_>, output: &mut [f32]) -> bool {
    if !args.fit(shape, output) {
        return false;
    }
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    if isa != Isa::Generic && isa.is_available() && !(is_depthwise(shape) && shape.out_c < vector::LANES) {
        // SAFETY: every other instruction set includes AVX2 and FMA on x86-64 and NEON on aarch64,
        // this CPU has it, and the lengths fit.
        unsafe { tiles::run(shape, args, output) };
        return true;
    }
    let _ = isa;
    plain(shape, args, output);
    true
}

impl<'a> Weights<'a> {
    fn values(&self) -> &'a [f32] {
        match self {
            Weights::Packed(values) | Weights::Rows(values) => values,
        }
    }
}

impl ConvF32Args<'_> {
    /// Whether the slices are as long as `shape` says.
    fn fit(&self, shape: &ConvShape, output: &[f32]) -> bool {
        let w = &shape.window;
        let product = |sizes: &[usize]| sizes.iter().try_fold(1usize, |all, &size| all.checked_mul(size));
        let is_product = (w.kernel_h, w.kernel_w, shape.groups) == (1, 1, 1);
        w.in_c > 0
            && shape.groups > 0
            && shape.out_c > 0
            && w.in_c.is_multiple_of(shape.groups)
            && shape.out_c.is_multiple_of(shape.groups)
            && (is_product || matches!(self.weights, Weights::Packed(_)))
            && product(&[w.in_h, w.in_w, w.in_c]) == Some(self.input.len())
            && product(&[w.kernel_h, w.kernel_w, group_in(shape), shape.out_c]) == Some(self.weights.values().len())
            && self.bias.len() == shape.out_c
            && product(&[w.out_h, w.out_w, shape.out_c]) == Some(output.len())
    }

    #[inline(always)]
    fn limit(&self, value: f32) -> f32 {
        limit(value, self.min, self.max)
    }
}

/// Whether each channel of the input makes one of the output.
fn is_depthwise(shape: &ConvShape) -> bool {
    shape.groups > 1 && shape.groups == shape.window.in_c && shape.groups == shape.out_c
}

fn group_in(shape: &ConvShape) -> usize {
    shape.window.in_c / shape.groups
}

fn group_out(shape: &ConvShape) -> usize {
    shape.out_c / shape.groups
}

/// Places of a filter.
fn places(shape: &ConvShape) -> usize {
    shape.window.kernel_h * shape.window.kernel_w * group_in(shape)
}

/// Where the channels of a tap start in the input; `None` in the padding.
fn tap_start(w: &Window, (out_y, out_x): (usize, usize), (ky, kx): (usize, usize)) -> Option<usize> {
    let iy = (out_y * w.stride_h + ky * w.dilation_h).wrapping_sub(w.pad_top);
    let ix = (out_x * w.stride_w + kx * w.dilation_w).wrapping_sub(w.pad_left);
    (iy < w.in_h && ix < w.in_w).then(|| (iy * w.in_w + ix) * w.in_c)
}

fn plain(shape: &ConvShape, args: &ConvF32Args<'_>, output: &mut [f32]) {
    let ConvShape { window, out_c, .. } = shape;
    let (places, group_in, depthwise) = (places(shape), group_in(shape), is_depthwise(shape));
    for (pixel, y) in output.chunks_exact_mut(*out_c).enumerate() {
        let position = (pixel / window.out_w, pixel % window.out_w);
        y.copy_from_slice(args.bias);
        for block in blocks(shape) {
            let (weights, step) = match args.weights {
                Weights::Packed(values) => (&values[block.start * places..], block.len()),
                Weights::Rows(values) => (&values[block.start..], *out_c),
            };
            let group = block.start / group_out(shape) * group_in;
            let y = &mut y[block];
            for tap in 0..places / group_in {
                let Some(start) = tap_start(window, position, (tap / window.kernel_w, tap % window.kernel_w)) else {
                    continue;
                };
                for c in 0..group_in {
                    let weights = &weights[(tap * group_in + c) * step..][..y.len()];
                    let pairs = y.iter_mut().zip(weights);
                    if depthwise {
                        pairs.zip(&args.input[start..]).for_each(|((y, w), x)| *y += x * w);
                    } else {
                        let x = args.input[start + group + c];
                        pairs.for_each(|(y, w)| *y += x * w);
                    }
                }
            }
        }
        y.iter_mut().for_each(|y| *y = args.limit(*y));
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
        let args = ConvF32Args { input: &[1.0], weights: Weights::Packed(&[]), bias: &[0.0; 8], min: -1.0, max: 1.0 };
        for isa in Isa::ALL {
            assert!(!run(isa, &shape, &args, &mut [0.0; 8]), "{isa}");
        }
    }

    /// The definition, in double precision, output channel by output channel, with weights `[kernel_h, kernel_w, in_c / groups,
    /// out_c]`.
    fn exact(shape: &ConvShape, args: &ConvF32Args<'_>, weights: &[f32]) -> Vec<f64> {
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
                                let weight = weights[tap * shape.out_c + oc];
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
            let inputs = w.in_c / shape.groups;
            let packed: Vec<f32> = order(&shape)
                .map(|[tap, input, output]| weights[(tap * inputs + input) * shape.out_c + output])
                .collect();
            let of = |weights| ConvF32Args { input: &input, weights, bias: &bias, min: -1.5, max: 2.0 };
            let expected = exact(&shape, &of(Weights::Packed(&packed)), &weights);
            let is_product = (w.kernel_h, w.kernel_w, shape.groups) == (1, 1, 1);
            let rows = is_product.then_some(Weights::Rows(&weights));
            for (isa, weights) in Isa::ALL.into_iter().flat_map(|isa| rows.into_iter().chain([Weights::Packed(&packed)]).map(move |weights| (isa, weights))) {
                let mut y = vec![f32::NAN; expected.len()];
                prop_assert!(run(isa, &shape, &of(weights), &mut y));
                for (y, expected) in y.iter().zip(&expected) {
                    let error = (f64::from(*y) - expected).abs();
                    prop_assert!(error <= 1e-5 * (taps as f64).sqrt(), "{} is not {}", y, expected);
                }
            }
        }
    }
}
