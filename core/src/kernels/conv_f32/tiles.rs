//! Register tiles of some output pixels by some vectors of output channels.

use core::array;
use core::ops::Range;

use crate::shape::ConvShape;

use super::part::{self, Part};
use super::vector::{self, LANES, Vector};
use super::{BLOCK, ConvF32Args, Weights, group_in, group_out, is_depthwise, places};

/// Vectors of channels of a full tile: sums fill 12 of 16 registers, or 24 of 32.
const VECTORS: usize = BLOCK / LANES;

/// Convolves.
///
/// # Safety
/// The CPU has the instruction set; the slices fit `shape`, which has a vector of channels if it is depthwise.
pub(super) unsafe fn run(shape: &ConvShape, args: &ConvF32Args<'_>, output: &mut [f32]) {
    let mut tiles = Tiles { shape, args, output };
    // SAFETY: the caller's.
    part::each(shape, |part| unsafe { tiles.part(part) });
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

/// [`Tiles::dense`] of some size.
type Dense<'a> = unsafe fn(&mut Tiles<'a>, &Part, Channels);

/// The same in tiles of so many pixels, and of ever fewer channels.
struct Widths<'a> {
    /// Each with its vectors.
    full: [(usize, Dense<'a>); 3],
    /// Of the rest of a vector.
    rest: Dense<'a>,
}

impl<'a> Widths<'a> {
    fn new<const ROWS: usize, const MOST: usize, const SOME: usize, const RAGGED: bool>() -> Widths<'a> {
        Widths {
            full: [
                (MOST, Tiles::dense::<ROWS, MOST, false, RAGGED>),
                (SOME, Tiles::dense::<ROWS, SOME, false, RAGGED>),
                (1, Tiles::dense::<ROWS, 1, false, RAGGED>),
            ],
            rest: Tiles::dense::<ROWS, 1, true, RAGGED>,
        }
    }
}

struct Tiles<'a> {
    shape: &'a ConvShape,
    args: &'a ConvF32Args<'a>,
    output: &'a mut [f32],
}

impl<'a> Tiles<'a> {
    /// All channels of a part.
    ///
    /// # Safety
    /// As [`run`].
    unsafe fn part(&mut self, part: &Part) {
        // Those by which the fewest pixels are computed twice; and what a tile loads beside them counts as two.
        let best = |sizes: &[usize]| {
            let fits = sizes.iter().copied().filter(|&size| size <= part.pixels);
            fits.min_by_key(|&size| part.pixels.div_ceil(size) * (size + 2)).unwrap_or(1)
        };
        // Each size takes room in programs for small boards: what is rare has fewer. Tiles of few pixels have more channels:
        // only many sums hide the latency of one.
        let narrow = group_out(self.shape) < BLOCK;
        // SAFETY: as the caller's; the part has as many pixels, and if it is depthwise, there are as many channels.
        unsafe {
            if is_depthwise(self.shape) {
                match (best(&[6, 2]), self.shape.out_c >= BLOCK) {
                    (1, false) => self.depthwise::<1, 1>(part),
                    (1, true) => self.depthwise::<1, VECTORS>(part),
                    (2, false) => self.depthwise::<2, 1>(part),
                    (2, true) => self.depthwise::<2, VECTORS>(part),
                    (_, false) => self.depthwise::<6, 1>(part),
                    (_, true) => self.depthwise::<6, VECTORS>(part),
                }
            } else if part.ragged {
                match best(if narrow { &[6, 2] } else { &[2] }) {
                    2 => self.groups(part, &Widths::new::<2, { 2 * VECTORS }, VECTORS, true>()),
                    _ => self.groups(part, &Widths::new::<6, 1, 1, true>()),
                }
            } else {
                match best(&[6, 4, 3, 2]) {
                    1 => self.groups(part, &Widths::new::<1, { 4 * VECTORS }, VECTORS, false>()),
                    2 => self.groups(part, &Widths::new::<2, { 2 * VECTORS }, VECTORS, false>()),
                    3 => self.groups(part, &Widths::new::<3, { 2 * VECTORS }, VECTORS, false>()),
                    4 => self.groups(part, &Widths::new::<4, VECTORS, VECTORS, false>()),
                    _ => self.groups(part, &Widths::new::<6, VECTORS, VECTORS, false>()),
                }
            }
        }
    }

    /// All channels of a part, group by group.
    ///
    /// # Safety
    /// As [`run`]; the part has as many pixels as a tile.
    unsafe fn groups(&mut self, part: &Part, widths: &Widths<'a>) {
        let (places, group_out) = (places(self.shape), group_out(self.shape));
        for group in 0..self.shape.groups {
            let (start, end) = (group * group_out, (group + 1) * group_out);
            let of = |first: usize| match self.args.weights {
                Weights::Packed(_) => {
                    let block = first - (first - start) % BLOCK;
                    let (step, weights) = (BLOCK.min(end - block), block * places + first - block);
                    Channels { first, group, weights, step, block: BLOCK * places }
                }
                Weights::Rows(_) => Channels { first, group, weights: first, step: self.shape.out_c, block: BLOCK },
            };
            let mut first = start;
            // SAFETY: as the caller's; these channels exist, or if they are the rest of a vector, the first of them does.
            unsafe {
                for (vectors, tiles) in widths.full {
                    while end - first >= vectors * LANES {
                        tiles(self, part, of(first));
                        first += vectors * LANES;
                    }
                }
                if first < end {
                    (widths.rest)(self, part, of(first));
                }
            }
        }
    }

    /// All pixels of a part, for some channels of a group.
    ///
    /// # Safety
    /// As [`groups`](Self::groups); the group has `VECTORS` vectors of channels from the first on, or if it is the `REST` of them,
    /// one that is not full. The part is `RAGGED` or not.
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
        let (segments, run) = part.runs(self.shape);
        // SAFETY: what is read lies under rows and columns that are inside the image; where a ragged part's begin may be
        // outside. The caller's channels exist, of biases, weights and results.
        unsafe {
            let input = self.args.input.as_ptr().add(channels.group * group_in);
            let bias = array::from_fn(|v| load::<REST>(self.args.bias, channels.first + v * LANES));
            for pixels in part.tiles::<ROWS>() {
                let mut sums: [[Vector; VECTORS]; ROWS] = [bias; ROWS];
                let x: [*const f32; ROWS] = array::from_fn(|row| input.wrapping_add(pixels[row].input));
                let inside: [Range<usize>; ROWS] = array::from_fn(|row| match RAGGED {
                    true => w.rows_inside(part.row_of(pixels[row])),
                    false => part.rows.clone(),
                });
                for ky in part.rows.clone() {
                    // A pixel under which this row is outside goes along with one under which it is not, and its sums stay.
                    let counts: [bool; ROWS] = array::from_fn(|row| !RAGGED || inside[row].contains(&ky));
                    let Some(one) = counts.iter().position(|&counts| counts) else { continue };
                    let x = array::from_fn(|row| if counts[row] { x[row] } else { x[one] });
                    let before = sums;
                    for segment in 0..segments {
                        let tap = part.distance(w, ky, segment);
                        let place = (ky * w.kernel_w + part.columns.start + segment) * group_in;
                        let weights = channels.weights + place * channels.step;
                        products::<ROWS, VECTORS, REST>(&mut sums, x, tap..tap + run, values, weights, &channels);
                    }
                    for ((sums, before), counts) in sums.iter_mut().zip(before).zip(counts) {
                        if !counts {
                            *sums = before;
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
    /// As [`groups`](Self::groups).
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
                            let tap = part.distance(w, ky, kx - part.columns.start);
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

    /// Apart, since it is wanted by many tiles and seldom.
    #[inline(never)]
    fn store_few(&mut self, at: usize, values: &[f32]) {
        self.output[at..][..values.len()].copy_from_slice(values);
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
                    self.store_few(at, &all[..rest]);
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
            let weight = |v: usize| {
                let (block, lane) = (v * LANES / BLOCK, v * LANES % BLOCK);
                load::<REST>(values, weights + block * channels.block + lane)
            };
            let value = |row: usize| vector::splat(*x[row].wrapping_add(place));
            // Beside the sums, registers hold all of what is less, and one of the other.
            if ROWS < VECTORS {
                let x: [Vector; ROWS] = array::from_fn(value);
                for v in 0..VECTORS {
                    let weight = weight(v);
                    for (sums, x) in sums.iter_mut().zip(&x) {
                        sums[v] = vector::fma(sums[v], *x, weight);
                    }
                }
            } else {
                let weights: [Vector; VECTORS] = array::from_fn(weight);
                for (row, sums) in sums.iter_mut().enumerate() {
                    let x = value(row);
                    for (sum, weight) in sums.iter_mut().zip(&weights) {
                        *sum = vector::fma(*sum, x, *weight);
                    }
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
            return vector::load(few(values, at).as_ptr());
        }
        vector::load(values.as_ptr().add(at))
    }
}

/// The values from `at` on, which are fewer than a vector has, and zeros.
#[cold]
fn few(values: &[f32], at: usize) -> [f32; LANES] {
    array::from_fn(|lane| values.get(at + lane).copied().unwrap_or_default())
}
