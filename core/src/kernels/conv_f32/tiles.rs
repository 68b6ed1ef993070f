//! Register tiles of some output pixels by some vectors of output channels.

use core::ops::Range;

use crate::shape::{ConvShape, Window};

use super::vector::{self, LANES, Vector};
use super::{ConvF32Args, group_in};

/// Pixels of a full tile.
const PIXELS: usize = 6;
/// Vectors of channels of a full tile: sums fill 12 of 16 registers, or 24 of 32.
const VECTORS: usize = 16 / LANES;

/// Convolves.
///
/// # Safety
/// The CPU has the instruction set; the slices fit `shape`; `padding` holds a [`segment`](super::segment), all zero.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma"))]
#[cfg_attr(target_arch = "aarch64", target_feature(enable = "neon"))]
pub(super) unsafe fn run(shape: &ConvShape, args: &ConvF32Args<'_>, output: &mut [f32], padding: &[f32]) {
    let window = &shape.window;
    let group_out = shape.out_c / shape.groups;
    // Fully connected layers have one pixel: only many vectors hide the latency of the sum.
    let few = window.out_h * window.out_w < PIXELS;
    for group in 0..shape.groups {
        let end = (group + 1) * group_out;
        let mut channel = group * group_out;
        let mut tiles = Tiles { shape, args, output, padding, group };
        // SAFETY: these channels exist, or if they are the rest of a vector, the first of them does.
        unsafe {
            while few && end - channel >= 4 * VECTORS * LANES {
                tiles.all::<1, { 4 * VECTORS }, false>(channel);
                channel += 4 * VECTORS * LANES;
            }
            while end - channel >= VECTORS * LANES {
                tiles.all::<PIXELS, VECTORS, false>(channel);
                channel += VECTORS * LANES;
            }
            while end - channel >= LANES {
                tiles.all::<PIXELS, 1, false>(channel);
                channel += LANES;
            }
            if channel < end {
                tiles.all::<PIXELS, 1, true>(channel);
            }
        }
    }
}

/// Columns of the output under whose pixels the same columns of the kernel lie inside the image: those in the middle, under
/// which all do, and each beside them.
fn alike(window: &Window) -> impl Iterator<Item = Range<usize>> {
    let whole = |&x: &usize| window.cols_inside(x) == (0..window.kernel_w);
    let first = (0..window.out_w).find(whole).unwrap_or(window.out_w);
    let end = (first..window.out_w).rfind(whole).map_or(first, |last| last + 1);
    let each = |columns: Range<usize>| columns.map(|x| x..x + 1);
    each(0..first).chain(core::iter::once(first..end)).chain(each(end..window.out_w))
}

struct Tiles<'a> {
    shape: &'a ConvShape,
    args: &'a ConvF32Args<'a>,
    output: &'a mut [f32],
    padding: &'a [f32],
    group: usize,
}

impl Tiles<'_> {
    /// All pixels.
    ///
    /// # Safety
    /// The CPU has the instruction set; the group has `VECTORS` vectors of channels from `channel` on. If it is the `REST` of them,
    /// one that is not full.
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma"))]
    #[cfg_attr(target_arch = "aarch64", target_feature(enable = "neon"))]
    unsafe fn all<const ROWS: usize, const VECTORS: usize, const REST: bool>(&mut self, channel: usize) {
        for columns in alike(&self.shape.window) {
            // SAFETY: the output has these columns; the rest is as the caller's.
            unsafe { self.columns::<ROWS, VECTORS, REST>(columns, channel) };
        }
    }

    /// The pixels of some columns that are [`alike`].
    ///
    /// # Safety
    /// As [`all`](Self::all); the output has these columns.
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma"))]
    #[cfg_attr(target_arch = "aarch64", target_feature(enable = "neon"))]
    unsafe fn columns<const ROWS: usize, const VECTORS: usize, const REST: bool>(
        &mut self,
        columns: Range<usize>,
        channel: usize,
    ) {
        let mut left = self.shape.window.out_h * columns.len();
        let taps = self.shape.window.cols_inside(columns.start);
        let (mut y, mut x) = (0, columns.start);
        let mut next = |_| {
            let pixel = (y, x);
            (y, x) = if x + 1 < columns.end { (y, x + 1) } else { (y + 1, columns.start) };
            pixel
        };
        while left >= ROWS {
            // SAFETY: these pixels exist.
            unsafe { self.tile::<ROWS, VECTORS, REST>(core::array::from_fn(&mut next), &taps, channel) };
            left -= ROWS;
        }
        for _ in 0..left {
            // SAFETY: this pixel exists.
            unsafe { self.tile::<1, VECTORS, REST>([next(0)], &taps, channel) };
        }
    }

    /// Pixels, each a row and a column of the output, under which the columns `taps` of the kernel are inside the image.
    ///
    /// # Safety
    /// The CPU has the instruction set; the output has these pixels, and channels as [`all`](Self::all) says.
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma"))]
    #[cfg_attr(target_arch = "aarch64", target_feature(enable = "neon"))]
    unsafe fn tile<const ROWS: usize, const VECTORS: usize, const REST: bool>(
        &mut self,
        pixels: [(usize, usize); ROWS],
        taps: &Range<usize>,
        channel: usize,
    ) {
        let Self { shape, args, padding, group, .. } = *self;
        let (w, out_c) = (&shape.window, shape.out_c);
        let group_in = group_in(shape);
        let channels = if REST { (group + 1) * (out_c / shape.groups) - channel } else { VECTORS * LANES };
        let vector = |slice: &[f32], at: usize| {
            // Lanes beyond the channels hold weights of other ones, and lead to nothing.
            if REST && slice.len() - at < LANES {
                let mut few = [0.0; LANES];
                few[..slice.len() - at].copy_from_slice(&slice[at..]);
                // SAFETY: as many as a vector has.
                return unsafe { vector::load(few.as_ptr()) };
            }
            debug_assert!(at + LANES <= slice.len());
            // SAFETY: the caller's channels exist, and so do the weights of every tap of them.
            unsafe { vector::load(slice.as_ptr().add(at)) }
        };
        // Taps in a row follow each other as the values under them do, unless something parts them.
        let together = shape.groups == 1 && w.dilation_w == 1;
        let (segments, len) = if together { (1, taps.len() * group_in) } else { (taps.len(), group_in) };

        let mut sums: [[Vector; VECTORS]; ROWS] =
            [core::array::from_fn(|v| vector(args.bias, channel + v * LANES)); ROWS];
        let (input, padding) = (args.input.as_ptr(), padding.as_ptr());
        let tops: [usize; ROWS] = core::array::from_fn(|row| (pixels[row].0 * w.stride_h).wrapping_sub(w.pad_top));
        let first = (taps.start * w.dilation_w).wrapping_sub(w.pad_left);
        let lefts: [usize; ROWS] = core::array::from_fn(|row| (pixels[row].1 * w.stride_w).wrapping_add(first));
        for ky in 0..if taps.is_empty() { 0 } else { w.kernel_h } {
            for segment in 0..segments {
                let x: [*const f32; ROWS] = core::array::from_fn(|row| {
                    let iy = tops[row].wrapping_add(ky * w.dilation_h);
                    if iy >= w.in_h {
                        return padding;
                    }
                    let start = (iy * w.in_w + lefts[row] + segment * w.dilation_w) * w.in_c + group * group_in;
                    // SAFETY: a row and columns of the image.
                    unsafe { input.add(start) }
                });
                let tap = (ky * w.kernel_w + taps.start + segment) * group_in;
                for i in 0..len {
                    let at = (tap + i) * out_c + channel;
                    let weights: [Vector; VECTORS] = core::array::from_fn(|v| vector(args.weights, at + v * LANES));
                    for (sums, x) in sums.iter_mut().zip(&x) {
                        // SAFETY: there are `len` values at each of `x`, or as much padding.
                        let x = unsafe { vector::splat(*x.add(i)) };
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
        for ((y, x), sums) in pixels.into_iter().zip(&sums) {
            let start = (y * w.out_w + x) * out_c + channel;
            let y = &mut self.output[start..][..channels];
            for (sum, y) in sums.iter().zip(y.chunks_mut(LANES)) {
                let mut all = [0.0; LANES];
                let to = if REST { all.as_mut_ptr() } else { y.as_mut_ptr() };
                // SAFETY: either has as many elements as a vector.
                unsafe { vector::store(to, vector::limit(*sum, min, max)) };
                if REST {
                    y.copy_from_slice(&all[..y.len()]);
                }
            }
        }
    }
}
