//! Register tiles of some output pixels by some vectors of output channels.

use core::array;
use core::ops::Range;

use crate::shape::ConvShape;

use super::vector::{self, LANES, Vector};
use super::{BLOCK, ConvF32Args, Weights, group_in, group_out, is_depthwise, places};

/// Pixels of a full tile.
const PIXELS: usize = 6;
/// Vectors of channels of a full tile: sums fill 12 of 16 registers, or 24 of 32.
const VECTORS: usize = BLOCK / LANES;
/// Blocks of channels of a tile of one pixel: only many sums hide the latency of one.
const BLOCKS: usize = 4;

/// Convolves.
///
/// # Safety
/// The CPU has the instruction set; the slices fit `shape`, which has a vector of channels if it is depthwise.
pub(super) unsafe fn run(shape: &ConvShape, args: &ConvF32Args<'_>, output: &mut [f32]) {
    let w = &shape.window;
    let mut tiles = Tiles { shape, args, output };
    for rows in alike(w.out_h, w.kernel_h, |y| w.rows_inside(y)) {
        for columns in alike(w.out_w, w.kernel_w, |x| w.cols_inside(x)) {
            let part = Part::new(shape, rows.clone(), columns);
            // SAFETY: as the caller's; the part has no fewer pixels.
            unsafe {
                match part.pixels {
                    1 => tiles.part::<1>(&part),
                    2 | 3 => tiles.part::<2>(&part),
                    4 | 5 => tiles.part::<4>(&part),
                    _ => tiles.part::<PIXELS>(&part),
                }
            }
        }
    }
}

/// Rows of the output, or columns, under which the same ones of the kernel lie inside the image: those in the middle, under
/// which all do, and each beside them.
fn alike(size: usize, kernel: usize, inside: impl Fn(usize) -> Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let whole = |&at: &usize| inside(at) == (0..kernel);
    let first = (0..size).find(whole).unwrap_or(size);
    let end = (first..size).rfind(whole).map_or(first, |last| last + 1);
    let each = |range: Range<usize>| range.map(|at| at..at + 1);
    each(0..first).chain((first < end).then_some(first..end)).chain(each(end..size))
}

/// Pixels of the output under which the same taps lie inside the image.
struct Part {
    pixels: usize,
    /// Pixels of a row.
    width: usize,
    /// Rows and columns of the kernel that are inside the image.
    rows: Range<usize>,
    columns: Range<usize>,
    first: Pixel,
    /// From a pixel to the next in its row, from one row to the next, and from the last of a row to the first of the next.
    step: Pixel,
    row: Pixel,
    turn: Pixel,
}

/// Where in the input the values under the first tap of a pixel begin, and its results in the output.
#[derive(Clone, Copy)]
struct Pixel {
    input: usize,
    output: usize,
}

impl Pixel {
    /// So many times as far on; back where that wraps.
    #[inline(always)]
    fn plus(self, by: Pixel, times: usize) -> Pixel {
        let plus = |at: usize, by: usize| at.wrapping_add(by.wrapping_mul(times));
        Pixel { input: plus(self.input, by.input), output: plus(self.output, by.output) }
    }
}

impl Part {
    fn new(shape: &ConvShape, rows: Range<usize>, columns: Range<usize>) -> Part {
        let (w, out_c) = (&shape.window, shape.out_c);
        let (pixels, width, y, x) = (rows.len() * columns.len(), columns.len(), rows.start, columns.start);
        let (rows, columns) = (w.rows_inside(y), w.cols_inside(x));
        let mut input = 0;
        // Where no tap is inside nothing is read.
        if !rows.is_empty() && !columns.is_empty() {
            let iy = y * w.stride_h + rows.start * w.dilation_h - w.pad_top;
            let ix = x * w.stride_w + columns.start * w.dilation_w - w.pad_left;
            input = (iy * w.in_w + ix) * w.in_c;
        }
        let first = Pixel { input, output: (y * w.out_w + x) * out_c };
        let step = Pixel { input: w.stride_w * w.in_c, output: out_c };
        let row = Pixel { input: w.stride_h * w.in_w * w.in_c, output: w.out_w * out_c };
        let turn = row.plus(step, (width - 1).wrapping_neg());
        Part { pixels, width, rows, columns, first, step, row, turn }
    }

    /// Tiles of so many pixels, of which there are as many. The last one begins early enough to be whole, and its first pixels
    /// are computed twice.
    #[inline(always)]
    fn tiles<const ROWS: usize>(&self) -> impl Iterator<Item = [Pixel; ROWS]> {
        let last = (self.pixels - 1) / ROWS;
        let (mut next, mut x) = (self.first, 0);
        (0..=last).map(move |tile| {
            if tile == last {
                let from = self.pixels - ROWS;
                x = from % self.width;
                next = self.first.plus(self.row, from / self.width).plus(self.step, x);
            }
            let mut pixels = [self.first; ROWS];
            for pixel in &mut pixels {
                *pixel = next;
                x += 1;
                if x < self.width {
                    next = next.plus(self.step, 1);
                } else {
                    (next, x) = (next.plus(self.turn, 1), 0);
                }
            }
            pixels
        })
    }
}

/// Channels of the output that have their weights next to each other, for each place of their filters.
struct Channels {
    first: usize,
    group: usize,
    /// Where the weights of the first place are, and how far it is to those of the next.
    weights: usize,
    step: usize,
    /// How far it is to the weights of the next block.
    block: usize,
}

struct Tiles<'a> {
    shape: &'a ConvShape,
    args: &'a ConvF32Args<'a>,
    output: &'a mut [f32],
}

impl Tiles<'_> {
    /// All channels of a part.
    ///
    /// # Safety
    /// As [`run`]; the part has `ROWS` pixels at least.
    unsafe fn part<const ROWS: usize>(&mut self, part: &Part) {
        let out_c = self.shape.out_c;
        if is_depthwise(self.shape) {
            // SAFETY: as the caller's; there are as many channels.
            unsafe {
                match out_c {
                    _ if ROWS == 1 && out_c >= BLOCKS * BLOCK => self.depthwise::<1, { BLOCKS * VECTORS }>(part),
                    BLOCK.. => self.depthwise::<ROWS, VECTORS>(part),
                    _ => self.depthwise::<ROWS, 1>(part),
                }
            }
            return;
        }
        let (places, group_out) = (places(self.shape), group_out(self.shape));
        for group in 0..self.shape.groups {
            let end = (group + 1) * group_out;
            let of = |first: usize, block: usize| match self.args.weights {
                Weights::Packed(_) => {
                    let (step, weights) = (BLOCK.min(end - block), block * places + first - block);
                    Channels { first, group, weights, step, block: BLOCK * places }
                }
                Weights::Rows(_) => Channels { first, group, weights: first, step: out_c, block: BLOCK },
            };
            let mut first = group * group_out;
            // SAFETY: as the caller's; these channels exist, or if they are the rest of a vector, the first of them does.
            unsafe {
                while ROWS == 1 && end - first >= BLOCKS * BLOCK {
                    self.dense::<1, { BLOCKS * VECTORS }, false>(part, of(first, first));
                    first += BLOCKS * BLOCK;
                }
                while end - first >= BLOCK {
                    self.dense::<ROWS, VECTORS, false>(part, of(first, first));
                    first += BLOCK;
                }
                let block = first;
                while end - first >= LANES {
                    self.dense::<ROWS, 1, false>(part, of(first, block));
                    first += LANES;
                }
                if first < end {
                    self.dense::<ROWS, 1, true>(part, of(first, block));
                }
            }
        }
    }

    /// All pixels of a part, for some channels of a group.
    ///
    /// # Safety
    /// As [`part`](Self::part); the group has `VECTORS` vectors of channels from the first on. If it is the `REST` of them, one
    /// that is not full.
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma"))]
    #[cfg_attr(target_arch = "aarch64", target_feature(enable = "neon"))]
    unsafe fn dense<const ROWS: usize, const VECTORS: usize, const REST: bool>(
        &mut self,
        part: &Part,
        channels: Channels,
    ) {
        let (w, group_in) = (&self.shape.window, group_in(self.shape));
        let values = self.args.weights.values();
        let rest = (channels.group + 1) * group_out(self.shape) - channels.first;
        // Taps in a row follow each other as the values under them do, unless something parts them.
        let together = self.shape.groups == 1 && w.dilation_w == 1;
        let (segments, run) =
            if together { (1, part.columns.len() * group_in) } else { (part.columns.len(), group_in) };
        // SAFETY: windows lie inside the image; the caller's channels exist, of biases, weights and results.
        unsafe {
            let input = self.args.input.as_ptr().add(channels.group * group_in);
            let bias = array::from_fn(|v| load::<REST>(self.args.bias, channels.first + v * LANES));
            for pixels in part.tiles::<ROWS>() {
                let mut sums: [[Vector; VECTORS]; ROWS] = [bias; ROWS];
                let x: [*const f32; ROWS] = array::from_fn(|row| input.wrapping_add(pixels[row].input));
                for ky in part.rows.clone() {
                    for segment in 0..segments {
                        let tap = self.distance(ky - part.rows.start, segment);
                        let place = (ky * w.kernel_w + part.columns.start + segment) * group_in;
                        let mut weights = channels.weights + place * channels.step;
                        for i in tap..tap + run {
                            let row: [Vector; VECTORS] = array::from_fn(|v| {
                                let (block, lane) = (v * LANES / BLOCK, v * LANES % BLOCK);
                                load::<REST>(values, weights + block * channels.block + lane)
                            });
                            for (sums, x) in sums.iter_mut().zip(&x) {
                                let x = vector::splat(*x.add(i));
                                for (sum, weights) in sums.iter_mut().zip(&row) {
                                    *sum = vector::fma(*sum, x, *weights);
                                }
                            }
                            weights += channels.step;
                        }
                    }
                }
                for (pixel, sums) in pixels.iter().zip(sums) {
                    self.store::<VECTORS, REST>(pixel.output + channels.first, rest, sums);
                }
            }
        }
    }

    /// All pixels of a part of a depthwise convolution, which has `VECTORS` vectors of channels at least. The last ones begin
    /// early enough to be as many.
    ///
    /// # Safety
    /// As [`part`](Self::part).
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma"))]
    #[cfg_attr(target_arch = "aarch64", target_feature(enable = "neon"))]
    unsafe fn depthwise<const ROWS: usize, const VECTORS: usize>(&mut self, part: &Part) {
        let (w, out_c) = (&self.shape.window, self.shape.out_c);
        let (values, input) = (self.args.weights.values(), self.args.input.as_ptr());
        for pixels in part.tiles::<ROWS>() {
            for first in (0..out_c).step_by(VECTORS * LANES) {
                let first = first.min(out_c - VECTORS * LANES);
                // SAFETY: windows lie inside the image, and have as many channels from `first` on as biases, weights and
                // results.
                unsafe {
                    let bias = array::from_fn(|v| load::<false>(self.args.bias, first + v * LANES));
                    let mut sums: [[Vector; VECTORS]; ROWS] = [bias; ROWS];
                    let x: [*const f32; ROWS] = array::from_fn(|row| input.wrapping_add(pixels[row].input + first));
                    for ky in part.rows.clone() {
                        for kx in part.columns.clone() {
                            let tap = self.distance(ky - part.rows.start, kx - part.columns.start);
                            let at = (ky * w.kernel_w + kx) * out_c + first;
                            let weights: [Vector; VECTORS] = array::from_fn(|v| load::<false>(values, at + v * LANES));
                            for (sums, x) in sums.iter_mut().zip(&x) {
                                for (v, (sum, weights)) in sums.iter_mut().zip(&weights).enumerate() {
                                    *sum = vector::fma(*sum, vector::load(x.add(tap + v * LANES)), *weights);
                                }
                            }
                        }
                    }
                    for (pixel, sums) in pixels.iter().zip(sums) {
                        self.store::<VECTORS, false>(pixel.output + first, VECTORS * LANES, sums);
                    }
                }
            }
        }
    }

    /// How far the values under a tap are from those under one that is so many rows and columns before it.
    #[inline(always)]
    fn distance(&self, rows: usize, columns: usize) -> usize {
        let w = &self.shape.window;
        (rows * w.dilation_h * w.in_w + columns * w.dilation_w) * w.in_c
    }

    /// Writes sums, limited, at `at`: of a `REST` that is not full, so many.
    ///
    /// # Safety
    /// The CPU has the instruction set, and the output as many values there.
    #[inline(always)]
    unsafe fn store<const VECTORS: usize, const REST: bool>(
        &mut self,
        at: usize,
        rest: usize,
        sums: [Vector; VECTORS],
    ) {
        debug_assert!(at + if REST { rest } else { VECTORS * LANES } <= self.output.len());
        // SAFETY: the caller's.
        unsafe {
            let (min, max) = (vector::splat(self.args.min), vector::splat(self.args.max));
            for (v, sum) in sums.into_iter().enumerate() {
                let sum = vector::limit(sum, min, max);
                if REST {
                    let mut all = [0.0; LANES];
                    vector::store(all.as_mut_ptr(), sum);
                    self.output[at..][..rest].copy_from_slice(&all[..rest]);
                } else {
                    vector::store(self.output.as_mut_ptr().add(at + v * LANES), sum);
                }
            }
        }
    }
}

/// The vector at `at`. Of a `REST` that is not full, lanes beyond hold what follows, or nothing, and lead to nothing.
///
/// # Safety
/// The CPU has the instruction set; there are as many values as a vector has, or one if it is the `REST`.
#[inline(always)]
unsafe fn load<const REST: bool>(values: &[f32], at: usize) -> Vector {
    debug_assert!(at + if REST { 1 } else { LANES } <= values.len());
    // SAFETY: as many as a vector has.
    unsafe {
        if REST && values.len() - at < LANES {
            let mut few = [0.0; LANES];
            few[..values.len() - at].copy_from_slice(&values[at..]);
            return vector::load(few.as_ptr());
        }
        vector::load(values.as_ptr().add(at))
    }
}
