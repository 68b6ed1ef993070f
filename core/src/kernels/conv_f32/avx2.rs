//! Register tiles of some output pixels by some vectors of output channels.

use core::arch::x86_64::{
    __m256, _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_min_ps, _mm256_set1_ps,
    _mm256_storeu_ps,
};

use crate::shape::ConvShape;

use super::{ConvF32Args, group_in, plain, tap_start};

const LANES: usize = 8;
/// Pixels of a full tile; with two vectors of channels it fills 12 of the 16 registers.
const PIXELS: usize = 6;

/// Convolves.
///
/// # Safety
/// The slices fit `shape`; `padding` holds the channels of one group, all zero.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run(shape: &ConvShape, args: &ConvF32Args<'_>, output: &mut [f32], padding: &[f32]) {
    let pixels = shape.window.out_h * shape.window.out_w;
    let group_out = shape.out_c / shape.groups;
    for group in 0..shape.groups {
        let end = (group + 1) * group_out;
        let mut channel = group * group_out;
        let mut tiles = Tiles { shape, args, output, padding, group };
        // Fully connected layers have one pixel: only many vectors hide the latency of the sum.
        while pixels < PIXELS && end - channel >= 8 * LANES {
            // SAFETY: these pixels and channels exist.
            (0..pixels).for_each(|pixel| unsafe { tiles.tile::<1, 8>(pixel, channel) });
            channel += 8 * LANES;
        }
        while end - channel >= 2 * LANES {
            // SAFETY: these channels exist.
            unsafe { tiles.all_pixels::<2>(pixels, channel) };
            channel += 2 * LANES;
        }
        if end - channel >= LANES {
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
    /// There are `pixels` pixels, and `VECTORS` vectors of channels from `channel` in the group.
    #[target_feature(enable = "avx2,fma")]
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
    /// The output has `ROWS` pixels from `pixel`, and `VECTORS` vectors of channels from `channel`.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn tile<const ROWS: usize, const VECTORS: usize>(&mut self, pixel: usize, channel: usize) {
        let Self { shape, args, padding, group, .. } = *self;
        let (window, out_c) = (&shape.window, shape.out_c);
        let group_in = group_in(shape);
        let vector = |slice: &[f32], at: usize| {
            debug_assert!(at + LANES <= slice.len());
            // SAFETY: the caller's channels exist, and so do the weights of every tap of them.
            unsafe { _mm256_loadu_ps(slice.as_ptr().add(at)) }
        };

        let mut sums: [[__m256; VECTORS]; ROWS] =
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
                    let weights: [__m256; VECTORS] = core::array::from_fn(|v| vector(args.weights, at + v * LANES));
                    for (sums, x) in sums.iter_mut().zip(&x) {
                        // SAFETY: each of `x` has `group_in` elements.
                        let x = _mm256_broadcast_ss(unsafe { x.get_unchecked(c) });
                        for (sum, weights) in sums.iter_mut().zip(&weights) {
                            *sum = _mm256_fmadd_ps(x, *weights, *sum);
                        }
                    }
                }
            }
        }
        // The second operand is the one that a NaN passes through.
        let (min, max) = (_mm256_set1_ps(args.min), _mm256_set1_ps(args.max));
        for (row, sums) in sums.iter().enumerate() {
            let start = (pixel + row) * out_c + channel;
            let y = &mut self.output[start..][..VECTORS * LANES];
            for (sum, y) in sums.iter().zip(y.chunks_exact_mut(LANES)) {
                let limited = _mm256_min_ps(max, _mm256_max_ps(min, *sum));
                // SAFETY: `y` has as many elements as a vector.
                unsafe { _mm256_storeu_ps(y.as_mut_ptr(), limited) };
            }
        }
    }
}
