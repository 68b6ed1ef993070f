//! Register tiles of some output pixels by some vectors of output channels.

use crate::shape::ConvShape;

use super::vector::{self, LANES, Vector};
use super::{ConvF32Args, group_in, plain, tap_start};

/// Pixels of a full tile.
const PIXELS: usize = 6;
/// Vectors of channels of a full tile: sums fill 12 of 16 registers, or 24 of 32.
const VECTORS: usize = 16 / LANES;

/// Convolves.
///
/// # Safety
/// The CPU has the instruction set; the slices fit `shape`; `padding` holds the channels of one group, all zero.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma"))]
#[cfg_attr(target_arch = "aarch64", target_feature(enable = "neon"))]
pub(super) unsafe fn run(shape: &ConvShape, args: &ConvF32Args<'_>, output: &mut [f32], padding: &[f32]) {
    let pixels = shape.window.out_h * shape.window.out_w;
    let group_out = shape.out_c / shape.groups;
    for group in 0..shape.groups {
        let end = (group + 1) * group_out;
        let mut channel = group * group_out;
        let mut tiles = Tiles { shape, args, output, padding, group };
        // Fully connected layers have one pixel: only many vectors hide the latency of the sum.
        while pixels < PIXELS && end - channel >= 4 * VECTORS * LANES {
            // SAFETY: these pixels and channels exist.
            (0..pixels).for_each(|pixel| unsafe { tiles.tile::<1, { 4 * VECTORS }>(pixel, channel) });
            channel += 4 * VECTORS * LANES;
        }
        while end - channel >= VECTORS * LANES {
            // SAFETY: these channels exist.
            unsafe { tiles.all_pixels::<VECTORS>(pixels, channel) };
            channel += VECTORS * LANES;
        }
        while end - channel >= LANES {
            // SAFETY: these channels exist.
            unsafe { tiles.all_pixels::<1>(pixels, channel) };
            channel += LANES;
        }
        if channel < end {
            plain(shape, args, output, channel..end);
        }
    }
}

struct Tiles<'a> {
    shape: &'a ConvShape,
    args: &'a ConvF32Args<'a>,
    output: &'a mut [f32],
    padding: &'a [f32],
    group: usize,
}

impl Tiles<'_> {
    /// # Safety
    /// The CPU has the instruction set; there are `pixels` pixels, and `VECTORS` vectors of channels from `channel` in the group.
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma"))]
    #[cfg_attr(target_arch = "aarch64", target_feature(enable = "neon"))]
    unsafe fn all_pixels<const VECTORS: usize>(&mut self, pixels: usize, channel: usize) {
        let mut pixel = 0;
        while pixels - pixel >= PIXELS {
            // SAFETY: these pixels exist.
            unsafe { self.tile::<PIXELS, VECTORS>(pixel, channel) };
            pixel += PIXELS;
        }
        while pixel < pixels {
            // SAFETY: this pixel exists.
            unsafe { self.tile::<1, VECTORS>(pixel, channel) };
            pixel += 1;
        }
    }

    /// # Safety
    /// The CPU has the instruction set; the output has `ROWS` pixels from `pixel`, and `VECTORS` vectors of channels from `channel`.
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma"))]
    #[cfg_attr(target_arch = "aarch64", target_feature(enable = "neon"))]
    unsafe fn tile<const ROWS: usize, const VECTORS: usize>(&mut self, pixel: usize, channel: usize) {
        let Self { shape, args, padding, group, .. } = *self;
        let (window, out_c) = (&shape.window, shape.out_c);
        let group_in = group_in(shape);
        let vector = |slice: &[f32], at: usize| {
            debug_assert!(at + LANES <= slice.len());
            // SAFETY: the caller's channels exist, and so do the weights of every tap of them.
            unsafe { vector::load(slice.as_ptr().add(at)) }
        };

        let mut sums: [[Vector; VECTORS]; ROWS] =
            [core::array::from_fn(|v| vector(args.bias, channel + v * LANES)); ROWS];
        let position: [(usize, usize); ROWS] =
            core::array::from_fn(|row| ((pixel + row) / window.out_w, (pixel + row) % window.out_w));
        for ky in 0..window.kernel_h {
            for kx in 0..window.kernel_w {
                let x: [&[f32]; ROWS] = core::array::from_fn(|row| match tap_start(window, position[row], (ky, kx)) {
                    Some(start) => &args.input[start + group * group_in..][..group_in],
                    None => padding,
                });
                let tap = (ky * window.kernel_w + kx) * group_in;
                for c in 0..group_in {
                    let at = (tap + c) * out_c + channel;
                    let weights: [Vector; VECTORS] = core::array::from_fn(|v| vector(args.weights, at + v * LANES));
                    for (sums, x) in sums.iter_mut().zip(&x) {
                        // SAFETY: each of `x` has `group_in` elements.
                        let x = unsafe { vector::splat(*x.get_unchecked(c)) };
                        for (sum, weights) in sums.iter_mut().zip(&weights) {
                            // SAFETY: the caller's instruction set.
                            *sum = unsafe { vector::fma(*sum, x, *weights) };
                        }
                    }
                }
            }
        }
        // SAFETY: the caller's instruction set.
        let (min, max) = unsafe { (vector::splat(args.min), vector::splat(args.max)) };
        for (row, sums) in sums.iter().enumerate() {
            let start = (pixel + row) * out_c + channel;
            let y = &mut self.output[start..][..VECTORS * LANES];
            for (sum, y) in sums.iter().zip(y.chunks_exact_mut(LANES)) {
                // SAFETY: `y` has as many elements as a vector.
                unsafe { vector::store(y.as_mut_ptr(), vector::limit(*sum, min, max)) };
            }
        }
    }
}
