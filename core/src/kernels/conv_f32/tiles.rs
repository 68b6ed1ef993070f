//! Register tiles of some output pixels by some vectors of output channels.

use core::array;
use core::ops::Range;

use crate::shape::ConvShape;

use super::vector::{self, LANES, Vector};
use super::{BLOCK, ConvF32Args, Weights, group_in, group_out, is_depthwise, places};

/// Rows of fewer pixels, at the upper and lower edge of an image, are put together, whatever taps are inside.
const NARROW: usize = 4;
/// And with all between them, unless these have so many pixels.
const MANY: usize = 12;
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
    let rows = middle(w.out_h, w.kernel_h, |y| w.rows_inside(y));
    for columns in alike(w.out_w, &middle(w.out_w, w.kernel_w, |x| w.cols_inside(x))) {
        let mut part = |rows: Range<usize>| {
            if !rows.is_empty() {
                // SAFETY: as the caller's.
                unsafe { tiles.part(&Part::new(shape, rows, columns.clone())) };
            }
        };
        if columns.len() >= NARROW || is_depthwise(shape) {
            alike(w.out_h, &rows).for_each(part);
        } else if rows.len() * columns.len() >= MANY {
            [0..rows.start, rows.clone(), rows.end..w.out_h].into_iter().for_each(part);
        } else {
            part(0..w.out_h);
        }
    }
}

/// Rows of the output, or columns, under which all those of the kernel lie inside the image.
fn middle(size: usize, kernel: usize, inside: impl Fn(usize) -> Range<usize>) -> Range<usize> {
    let whole = |&at: &usize| inside(at) == (0..kernel);
    let first = (0..size).find(whole).unwrap_or(size);
    first..(first..size).rfind(whole).map_or(first, |last| last + 1)
}

/// Rows of the output, or columns, under which the same ones of the kernel lie inside the image: those in the middle, and each
/// beside them.
fn alike(size: usize, middle: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
    let each = |range: Range<usize>| range.map(|at| at..at + 1);
    let inner = (!middle.is_empty()).then(|| middle.clone());
    each(0..middle.start).chain(inner).chain(each(middle.end..size))
}

/// What a row of the kernel that is outside the image reads.
static ZEROS: [f32; 128] = [0.0; 128];

/// Pixels of the output under which the same columns of the kernel lie inside the image, and the same rows unless it says so.
struct Part {
    pixels: usize,
    /// Pixels of a row.
    width: usize,
    /// Whether some rows of the kernel are outside the image under some pixels.
    ragged: bool,
    /// Rows and columns of the kernel that are inside the image; all rows if that differs.
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
        let (inside, columns) = (w.rows_inside(y), w.cols_inside(x));
        let ragged = inside != w.rows_inside(rows.end - 1);
        let rows = if ragged { 0..w.kernel_h } else { inside };
        // Of what is outside, nothing is read.
        let iy = (y * w.stride_h + rows.start * w.dilation_h).wrapping_sub(w.pad_top);
        let ix = (x * w.stride_w + columns.start * w.dilation_w).wrapping_sub(w.pad_left);
        let input = iy.wrapping_mul(w.in_w).wrapping_add(ix).wrapping_mul(w.in_c);
        let first = Pixel { input, output: (y * w.out_w + x) * out_c };
        let step = Pixel { input: w.stride_w * w.in_c, output: out_c };
        let row = Pixel { input: w.stride_h * w.in_w * w.in_c, output: w.out_w * out_c };
        let turn = row.plus(step, (width - 1).wrapping_neg());
        Part { pixels, width, ragged, rows, columns, first, step, row, turn }
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
    /// As [`run`].
    unsafe fn part(&mut self, part: &Part) {
        // Those by which the fewest pixels are computed twice; and what a tile loads beside them counts as two. Each size
        // takes room in programs for small boards: what is rare has two.
        let sizes: &[usize] = if part.ragged || is_depthwise(self.shape) { &[6, 2] } else { &[6, 4, 2] };
        let fits = sizes.iter().copied().filter(|&size| size <= part.pixels);
        let size = fits.min_by_key(|&size| part.pixels.div_ceil(size) * (size + 2)).unwrap_or(1);
        // SAFETY: as the caller's; the part has no fewer pixels.
        unsafe {
            match size {
                1 => self.channels::<1>(part),
                2 => self.channels::<2>(part),
                4 => self.channels::<4>(part),
                _ => self.channels::<6>(part),
            }
        }
    }

    /// The same in tiles of so many pixels, which are not four of a depthwise convolution.
    ///
    /// # Safety
    /// As [`run`]; the part has `ROWS` pixels at least.
    unsafe fn channels<const ROWS: usize>(&mut self, part: &Part) {
        let out_c = self.shape.out_c;
        if ROWS != 4 && is_depthwise(self.shape) {
            // SAFETY: as the caller's; there are as many channels.
            unsafe {
                match out_c {
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
                    self.dense::<1, { BLOCKS * VECTORS }, false, false>(part, of(first, first));
                    first += BLOCKS * BLOCK;
                }
                while end - first >= BLOCK {
                    self.some::<ROWS, VECTORS, false>(part, of(first, first));
                    first += BLOCK;
                }
                let block = first;
                while end - first >= LANES {
                    self.some::<ROWS, 1, false>(part, of(first, block));
                    first += LANES;
                }
                if first < end {
                    self.some::<ROWS, 1, true>(part, of(first, block));
                }
            }
        }
    }

    /// [`dense`](Self::dense) of a part as it is. Ragged ones are taken by two or six.
    ///
    /// # Safety
    /// As [`dense`](Self::dense).
    unsafe fn some<const ROWS: usize, const VECTORS: usize, const REST: bool>(
        &mut self,
        part: &Part,
        channels: Channels,
    ) {
        // SAFETY: the caller's.
        unsafe {
            if part.ragged && matches!(ROWS, 2 | 6) {
                self.dense::<ROWS, VECTORS, REST, true>(part, channels);
            } else {
                self.dense::<ROWS, VECTORS, REST, false>(part, channels);
            }
        }
    }

    /// All pixels of a part, for some channels of a group.
    ///
    /// # Safety
    /// As [`channels`](Self::channels); the group has `VECTORS` vectors of channels from the first on. If it is the `REST` of them, one
    /// that is not full.
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma"))]
    #[cfg_attr(target_arch = "aarch64", target_feature(enable = "neon"))]
    unsafe fn dense<const ROWS: usize, const VECTORS: usize, const REST: bool, const RAGGED: bool>(
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
        // SAFETY: windows lie inside the image but for rows that read zeros; the caller's channels exist, of biases, weights and
        // results.
        unsafe {
            let input = self.args.input.as_ptr().add(channels.group * group_in);
            let bias = array::from_fn(|v| load::<REST>(self.args.bias, channels.first + v * LANES));
            for pixels in part.tiles::<ROWS>() {
                let mut sums: [[Vector; VECTORS]; ROWS] = [bias; ROWS];
                let x: [*const f32; ROWS] = array::from_fn(|row| input.wrapping_add(pixels[row].input));
                let inside: [Range<usize>; ROWS] = array::from_fn(|row| match RAGGED {
                    true => w.rows_inside(pixels[row].output / part.row.output),
                    false => part.rows.clone(),
                });
                for ky in part.rows.clone() {
                    for segment in 0..segments {
                        let tap = self.distance(ky - part.rows.start, segment);
                        let place = (ky * w.kernel_w + part.columns.start + segment) * group_in;
                        let weights = channels.weights + place * channels.step;
                        if !RAGGED {
                            products::<ROWS, VECTORS, REST>(&mut sums, x, tap..tap + run, values, weights, &channels);
                            continue;
                        }
                        for from in (0..run).step_by(ZEROS.len()) {
                            let x = array::from_fn(|row| {
                                if inside[row].contains(&ky) { x[row].wrapping_add(tap + from) } else { ZEROS.as_ptr() }
                            });
                            let (places, weights) = (0..ZEROS.len().min(run - from), weights + from * channels.step);
                            products::<ROWS, VECTORS, REST>(&mut sums, x, places, values, weights, &channels);
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
    /// As [`channels`](Self::channels).
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
                    let x: [*const f32; ROWS] =
                        array::from_fn(|row| input.wrapping_add(pixels[row].input.wrapping_add(first)));
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

/// Adds to sums the products of some places of a filter, counted from each of `x`, with weights from `weights` on.
///
/// # Safety
/// The CPU has the instruction set, and all of that is there.
#[inline(always)]
unsafe fn products<const ROWS: usize, const VECTORS: usize, const REST: bool>(
    sums: &mut [[Vector; VECTORS]; ROWS],
    x: [*const f32; ROWS],
    places: Range<usize>,
    values: &[f32],
    mut weights: usize,
    channels: &Channels,
) {
    // SAFETY: the caller's.
    unsafe {
        for place in places {
            let row: [Vector; VECTORS] = array::from_fn(|v| {
                let (block, lane) = (v * LANES / BLOCK, v * LANES % BLOCK);
                load::<REST>(values, weights + block * channels.block + lane)
            });
            for (sums, x) in sums.iter_mut().zip(&x) {
                let x = vector::splat(*x.add(place));
                for (sum, weights) in sums.iter_mut().zip(&row) {
                    *sum = vector::fma(*sum, x, *weights);
                }
            }
            weights += channels.step;
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
