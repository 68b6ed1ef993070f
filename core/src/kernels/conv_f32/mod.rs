//! Convolution in f32, for models that are not, or not wholly, quantized.
//!
//! Plain loops everywhere (`plain`), and register tiles where the CPU has fused multiply-add
//! (`tiles` of some `sizes` in `vector`s, and `alone` for single channels) or 32-bit NEON (`neon32`), over parts of the image (`part`). Roundings
//! differ between them, so that results agree within rounding and not in every bit.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod alone;
#[cfg(all(target_arch = "arm", target_os = "linux"))]
mod neon32;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", all(target_arch = "arm", target_os = "linux")))]
mod part;
mod plain;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod sizes;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod tiles;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod vector;

use core::ops::Range;

use crate::isa::Isa;
use crate::shape::{ConvShape, Window};

use super::binary::limit;
use super::conv::reasonable;

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
    if isa != Isa::Generic && isa.is_available() && sizes::takes(shape) {
        // SAFETY: every other instruction set includes AVX2 and FMA on x86-64 and NEON on aarch64,
        // this CPU has it, and the lengths fit.
        unsafe { sizes::run(isa, shape, args, output) };
        return true;
    }
    #[cfg(all(target_arch = "arm", target_os = "linux"))]
    if isa == Isa::Neon32 && isa.is_available() {
        // SAFETY: this CPU has it, and the lengths fit.
        unsafe { neon32::run(shape, args, output) };
        plain::run(shape, args, output, |block| neon32::rest(shape, block));
        return true;
    }
    let _ = isa;
    plain::run(shape, args, output, |block| block.start);
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
    /// Whether `shape` is reasonable and the slices are as long as it says.
    fn fit(&self, shape: &ConvShape, output: &[f32]) -> bool {
        let w = &shape.window;
        let product = |sizes: &[usize]| sizes.iter().try_fold(1usize, |all, &size| all.checked_mul(size));
        // The positions of a fully connected layer are those of its values, however many.
        let connected = *w == Window::pixels(w.in_w, w.in_c) && shape.groups == 1;
        let sizes = connected && w.in_w > 0 && w.in_c > 0 && shape.out_c > 0;
        let is_product = (w.kernel_h, w.kernel_w, shape.groups) == (1, 1, 1);
        (sizes || reasonable(shape))
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

    #[test]
    #[cfg_attr(miri, ignore = "a million numbers take minutes")]
    fn a_fully_connected_layer_may_have_any_size() {
        let count = (1 << 20) + 1;
        for (window, out_c) in
            [(Window::pixels(count, 1), 1), (Window::pixels(1, count), 1), (Window::pixels(1, 1), count)]
        {
            let shape = ConvShape { window, out_c, groups: 1 };
            let (input, weights) = (vec![1.0; window.in_w * window.in_c], vec![0.5; window.in_c * out_c]);
            let bias = vec![0.25; out_c];
            for isa in Isa::ALL {
                let args =
                    ConvF32Args { input: &input, weights: Weights::Rows(&weights), bias: &bias, min: 0.0, max: 9e9 };
                let mut y = vec![f32::NAN; window.in_w * out_c];
                assert!(run(isa, &shape, &args, &mut y), "{isa}");
                assert!(y.iter().all(|y| *y == 0.25 + 0.5 * window.in_c as f32), "{isa}");
            }
        }
    }

    #[test]
    fn positions_that_overflow_fit_nothing() {
        let changes: [fn(&mut Window); 5] = [
            |w| w.stride_w = 1 << (usize::BITS - 3),
            |w| w.dilation_h = 0,
            |w| w.dilation_w = 1 << (usize::BITS - 2),
            |w| w.pad_left = usize::MAX,
            |w| w.stride_w = 1 << 20,
        ];
        for change in changes {
            let mut window = Window { kernel_h: 2, kernel_w: 2, pad_top: 1, pad_left: 1, ..Window::pixels(9, 1) };
            change(&mut window);
            let shape = ConvShape { window, out_c: 16, groups: 1 };
            let weights = Weights::Packed(&[1.0; 64]);
            let args = ConvF32Args { input: &[1.0; 9], weights, bias: &[0.0; 16], min: -1.0, max: 1.0 };
            for isa in Isa::ALL {
                assert!(!run(isa, &shape, &args, &mut [0.0; 144]), "{isa}, {window:?}");
            }
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
            group_out in prop_oneof![Just(1), 1usize..30, 60usize..90, Just(64), Just(128), 129usize..150],
            seed: u32,
        ) {
            // 0 stands for depthwise.
            let shape = if groups == 0 {
                if seed.is_multiple_of(2) {
                    window.in_c = group_out;
                }
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
            let orders = || rows.into_iter().chain([Weights::Packed(&packed)]);
            for (isa, weights) in Isa::ALL.into_iter().flat_map(|isa| orders().map(move |weights| (isa, weights))) {
                let mut y = vec![f32::NAN; expected.len()];
                prop_assert!(run(isa, &shape, &of(weights), &mut y));
                for (y, expected) in y.iter().zip(&expected) {
                    let error = (f64::from(*y) - expected).abs();
                    prop_assert!(error <= 1e-5 * (taps as f64).sqrt(), "{} is not {}", y, expected);
                }
            }
        }

        /// Also of infinite weights, which zeros would turn to NaN, and of sums that are -0.
        #[test]
        fn lines_are_the_same_however_they_are_cut(
            window in any_window(2), out_c in 1usize..40, at in 0.0..1.0, infinite in 0usize..30, seed: u32,
        ) {
            let shape = ConvShape { window, out_c, groups: 1 };
            let mut input = noise(seed, window.in_h * window.in_w * window.in_c);
            input.iter_mut().for_each(|x| *x = x.abs());
            let mut weights = noise(seed, window.kernel_h * window.kernel_w * window.in_c * out_c);
            weights.iter_mut().filter(|w| **w < 0.0).for_each(|w| *w = -0.0);
            for weight in weights.iter_mut().skip(infinite).step_by(30) {
                *weight = f32::INFINITY;
            }
            let bias = vec![-0.0; out_c];
            let run = |isa: Isa, window: Window, input: &[f32], y: &mut [f32]| {
                let weights = Weights::Packed(&weights);
                let args = ConvF32Args { input, weights, bias: &bias, min: f32::NEG_INFINITY, max: f32::INFINITY };
                run(isa, &ConvShape { window, ..shape }, &args, y)
            };
            let cut = (at * window.lines() as f64) as usize;
            let [line_in, line_out] = window.line_pixels();
            for isa in Isa::ALL {
                let mut whole = vec![f32::NAN; window.out_h * window.out_w * out_c];
                prop_assert!(run(isa, window, &input, &mut whole));
                let mut parts = vec![f32::NAN; whole.len()];
                for lines in [0..cut, cut..window.lines()].into_iter().filter(|lines| !lines.is_empty()) {
                    let part = window.part(lines.clone());
                    let (line_in, line_out) = (line_in * window.in_c, line_out * out_c);
                    let input = &input[part.input.start * line_in..][..part.input.len() * line_in];
                    let y = &mut parts[lines.start * line_out..][..lines.len() * line_out];
                    prop_assert!(run(isa, part.window, input, y));
                }
                let bits = |y: &[f32]| y.iter().map(|y| y.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(bits(&whole), bits(&parts));
            }
        }
    }
}
