//! Register tiles of some output pixels by some vectors of output channels.

// Of iterators over sums the compiler makes less.
#![allow(clippy::needless_range_loop)]

use core::array;
use core::ops::Range;
use core::slice;

use crate::kernels::simd::ops::{each, vectorized};
use crate::shape::ConvShape;

use super::part::{Part, runs};
use super::vector::Vector;
use super::{BLOCK, ConvF32Args, Weights, group_in, group_out, places};

/// Channels of the output that have their weights next to each other, for each place of their filters.
pub(super) struct Channels {
    first: usize,
    group: usize,
    /// Where those of the group end.
    end: usize,
    /// Where the weights of the first place are, and how far it is to those of the next.
    weights: usize,
    step: usize,
    /// How far it is to the weights of the next block.
    block: usize,
}

/// All pixels of a part, for some channels of a group, in tiles of some size.
pub(super) type Dense<'a> = unsafe fn(&mut Tiles<'a>, &Part, Channels);

/// Tiles of some channels.
pub(super) struct Width<'a> {
    /// Channels that there have to be, and those that are then computed.
    pub(super) least: usize,
    pub(super) most: usize,
    pub(super) tiles: Dense<'a>,
}

pub(super) struct Tiles<'a> {
    pub(super) shape: &'a ConvShape,
    pub(super) args: &'a ConvF32Args<'a>,
    pub(super) output: &'a mut [f32],
}

impl<'a> Tiles<'a> {
    /// All channels of a part, group by group, in tiles of ever fewer of them.
    ///
    /// # Safety
    /// The CPU has the instruction set of the tiles; the slices fit the shape; the part has as many pixels as a tile.
    pub(super) unsafe fn groups(&mut self, part: &Part, widths: &[Width<'a>]) {
        let (places, group_out) = (places(self.shape), group_out(self.shape));
        for group in 0..self.shape.groups {
            let (start, end) = (group * group_out, (group + 1) * group_out);
            let of = |first: usize| match self.args.weights {
                Weights::Packed(_) => {
                    let block = first - (first - start) % BLOCK;
                    let (step, weights) = (BLOCK.min(end - block), block * places + first - block);
                    Channels { first, group, end, weights, step, block: BLOCK * places }
                }
                Weights::Rows(_) => {
                    Channels { first, group, end, weights: first, step: self.shape.out_c, block: BLOCK }
                }
            };
            let mut first = start;
            for width in widths {
                while end - first >= width.least {
                    // SAFETY: as the caller's; there are at least as many channels as tiles of this width want.
                    unsafe { (width.tiles)(self, part, of(first)) };
                    first = end.min(first + width.most);
                }
            }
        }
    }

    /// A [`Dense`]: the group has `VECTORS` vectors of channels from the first on, of which the last is not full if it is the
    /// `REST` of them. The part is `RAGGED` or not.
    ///
    /// # Safety
    /// As [`groups`](Self::groups).
    pub(super) unsafe fn dense<
        V: Vector,
        const ROWS: usize,
        const VECTORS: usize,
        const REST: bool,
        const RAGGED: bool,
    >(
        &mut self,
        part: &Part,
        channels: Channels,
    ) {
        // SAFETY: the caller's.
        unsafe { vectorized!(V, self.dense_in::<V, ROWS, VECTORS, REST, RAGGED>(part, &channels)) }
    }

    /// # Safety
    /// As [`dense`](Self::dense).
    #[inline(always)]
    unsafe fn dense_in<V: Vector, const ROWS: usize, const VECTORS: usize, const REST: bool, const RAGGED: bool>(
        &mut self,
        part: &Part,
        channels: &Channels,
    ) {
        let (w, group_in) = (&self.shape.window, group_in(self.shape));
        let values = self.args.weights.values();
        // A last vector that is not full is a block of its own, if there are others before it.
        let rest = channels.end - channels.first - (VECTORS - 1) * V::LANES;
        let last = channels.weights + (VECTORS - 1) * channels.block;
        let last_step = match self.args.weights {
            Weights::Packed(_) if VECTORS > 1 => rest,
            _ => channels.step,
        };
        let (runs, run) = runs(self.shape, part.columns.len());
        let few = if REST { Some(rest) } else { None };
        // From one row of the kernel to the next, and from one run of it to the next: places of the filter, and values of the
        // input, which are counted from where a pixel's begin.
        let row_step = (w.kernel_w * group_in, w.dilation_h * w.in_w * w.in_c);
        let run_step = (group_in, w.dilation_w * w.in_c);
        let first = (part.rows.start * row_step.0 + part.columns.start * run_step.0, 0);
        // SAFETY: what is read lies under rows and columns that are inside the image; where a ragged part's begin may be
        // outside. The caller's channels exist, of biases, weights and results.
        unsafe {
            let bounds = [V::splat(self.args.min), V::splat(self.args.max)];
            let input = self.args.input.as_ptr().add(channels.group * group_in);
            // Nothing that is written makes these be read again.
            let (output, len) = (self.output.as_mut_ptr(), self.output.len());
            let bias = each!(|v| {
                let at = channels.first + v * V::LANES;
                if REST && v == VECTORS - 1 {
                    V::load_few(self.args.bias, at..at + rest)
                } else {
                    load(self.args.bias, at)
                }
            });
            for pixels in part.tiles::<ROWS>() {
                let mut sums: [[V; VECTORS]; ROWS] = [bias; ROWS];
                let x: [*const f32; ROWS] = each!(|row| input.wrapping_add(pixels[row].input));
                let inside: [Range<usize>; ROWS] = array::from_fn(|row| match RAGGED {
                    true => w.rows_inside(part.row_of(pixels[row])),
                    false => part.rows.clone(),
                });
                let mut next = first;
                for ky in part.rows.clone() {
                    let (mut place, mut tap) = next;
                    next = (place + row_step.0, tap + row_step.1);
                    // A pixel under which this row is outside goes along with one under which it is not, and its sums stay.
                    let counts: [bool; ROWS] = array::from_fn(|row| !RAGGED || inside[row].contains(&ky));
                    let Some(one) = counts.iter().position(|&counts| counts) else { continue };
                    let x = each!(|row| if counts[row] { x[row] } else { x[one] });
                    let before = sums;
                    for _ in 0..runs {
                        let filter = Filter {
                            values,
                            weights: values.as_ptr().wrapping_add(channels.weights + place * channels.step),
                            step: channels.step,
                            block: channels.block,
                            last: last + place * last_step,
                            last_step,
                            rest,
                        };
                        products::<V, ROWS, VECTORS, REST>(&mut sums, x, tap..tap + run, filter);
                        (place, tap) = (place + run_step.0, tap + run_step.1);
                    }
                    for ((sums, before), counts) in sums.iter_mut().zip(before).zip(counts) {
                        if !counts {
                            *sums = before;
                        }
                    }
                }
                for row in 0..ROWS {
                    let at = pixels[row].output + channels.first;
                    debug_assert!(at + (VECTORS - 1) * V::LANES + few.unwrap_or(V::LANES) <= len);
                    store(output.add(at), few, sums[row], bounds);
                }
            }
        }
    }

    /// All pixels of a part of a depthwise convolution, for a range of channels that are `VECTORS` vectors at least. The last ones
    /// begin early enough to be as many.
    ///
    /// # Safety
    /// As [`groups`](Self::groups).
    pub(super) unsafe fn depthwise<V: Vector, const ROWS: usize, const VECTORS: usize>(
        &mut self,
        part: &Part,
        channels: Range<usize>,
    ) {
        // SAFETY: the caller's.
        unsafe { vectorized!(V, self.depthwise_in::<V, ROWS, VECTORS>(part, channels)) }
    }

    /// # Safety
    /// As [`depthwise`](Self::depthwise).
    #[inline(always)]
    unsafe fn depthwise_in<V: Vector, const ROWS: usize, const VECTORS: usize>(
        &mut self,
        part: &Part,
        channels: Range<usize>,
    ) {
        let (w, out_c) = (&self.shape.window, self.shape.out_c);
        let (values, input) = (self.args.weights.values(), self.args.input.as_ptr());
        let (output, len) = (self.output.as_mut_ptr(), self.output.len());
        // SAFETY: the CPU has the instruction set.
        let bounds = unsafe { [V::splat(self.args.min), V::splat(self.args.max)] };
        for pixels in part.tiles::<ROWS>() {
            for first in channels.clone().step_by(VECTORS * V::LANES) {
                let first = first.min(channels.end - VECTORS * V::LANES);
                // SAFETY: windows lie inside the image, and have as many channels from `first` on as biases, weights and
                // results.
                unsafe {
                    let bias = each!(|v| load(self.args.bias, first + v * V::LANES));
                    let mut sums: [[V; VECTORS]; ROWS] = [bias; ROWS];
                    let x: [*const f32; ROWS] = each!(|row| input.wrapping_add(pixels[row].input.wrapping_add(first)));
                    for ky in part.rows.clone() {
                        for kx in part.columns.clone() {
                            let tap = part.distance(w, ky, kx - part.columns.start);
                            let at = (ky * w.kernel_w + kx) * out_c + first;
                            let weights: [V; VECTORS] = each!(|v| load(values, at + v * V::LANES));
                            for row in 0..ROWS {
                                for v in 0..VECTORS {
                                    let x = V::load(x[row].add(tap + v * V::LANES));
                                    sums[row][v] = sums[row][v].fma(x, weights[v]);
                                }
                            }
                        }
                    }
                    for row in 0..ROWS {
                        let at = pixels[row].output + first;
                        debug_assert!(at + VECTORS * V::LANES <= len);
                        store(output.add(at), None, sums[row], bounds);
                    }
                }
            }
        }
    }
}

/// Writes sums, limited; of the last vector only `rest`, if it is one that is not full.
///
/// # Safety
/// The CPU has the instruction set, and there is room for as many values.
#[inline(always)]
unsafe fn store<V: Vector, const VECTORS: usize>(
    output: *mut f32,
    rest: Option<usize>,
    sums: [V; VECTORS],
    [min, max]: [V; 2],
) {
    // SAFETY: the caller's.
    unsafe {
        let sums: [V; VECTORS] = each!(|v| sums[v].limit(min, max));
        for v in 0..VECTORS {
            let to = output.add(v * V::LANES);
            match rest {
                Some(rest) if v == VECTORS - 1 => sums[v].store_few(slice::from_raw_parts_mut(to, rest)),
                _ => sums[v].store(to),
            }
        }
    }
}

/// Weights of the channels of a tile.
struct Filter<'a> {
    values: &'a [f32],
    /// Those of a place, how far it is to those of the next, and to those of the next block.
    weights: *const f32,
    step: usize,
    block: usize,
    /// Where those of the last vector are, how far it is to those of the next place, and of how many channels if it is not full.
    last: usize,
    last_step: usize,
    rest: usize,
}

impl Filter<'_> {
    /// Those of a vector of channels.
    ///
    /// # Safety
    /// The CPU has the instruction set; they are there.
    #[inline(always)]
    unsafe fn vector<V: Vector, const VECTORS: usize, const REST: bool>(&self, v: usize) -> V {
        // SAFETY: the caller's.
        unsafe {
            if REST && v == VECTORS - 1 {
                return V::load_few(self.values, self.last..self.last + self.rest);
            }
            let (block, lane) = (v * V::LANES / BLOCK, v * V::LANES % BLOCK);
            V::load(self.weights.add(block * self.block + lane))
        }
    }

    /// Goes on to the next place.
    #[inline(always)]
    fn advance(&mut self) {
        self.weights = self.weights.wrapping_add(self.step);
        self.last += self.last_step;
    }
}

/// Adds to sums the products of some places of a filter, counted from each of `x`.
///
/// # Safety
/// The CPU has the instruction set, and all of that is there.
#[inline(always)]
unsafe fn products<V: Vector, const ROWS: usize, const VECTORS: usize, const REST: bool>(
    sums: &mut [[V; VECTORS]; ROWS],
    x: [*const f32; ROWS],
    places: Range<usize>,
    mut filter: Filter<'_>,
) {
    // SAFETY: the caller's.
    unsafe {
        #[cfg(target_arch = "aarch64")]
        // A row alone waits for weights, and for its values no longer one by one.
        let places = if REST || ROWS == 1 { places } else { fours(sums, x, places, &mut filter) };
        for place in places {
            // Beside the sums, registers hold all of what is less, and one of the other.
            if ROWS < VECTORS {
                let x: [V; ROWS] = each!(|row| V::splat(*x[row].wrapping_add(place)));
                for v in 0..VECTORS {
                    let weight = filter.vector::<V, VECTORS, REST>(v);
                    for row in 0..ROWS {
                        sums[row][v] = sums[row][v].fma(x[row], weight);
                    }
                }
            } else {
                // Not by `each`, of which the compiler makes two addresses.
                let mut weights = sums[0];
                for v in 0..VECTORS {
                    weights[v] = filter.vector::<V, VECTORS, REST>(v);
                }
                for row in 0..ROWS {
                    let x = V::splat(*x[row].wrapping_add(place));
                    for v in 0..VECTORS {
                        sums[row][v] = sums[row][v].fma(x, weights[v]);
                    }
                }
            }
            filter.advance();
        }
    }
}

/// Takes places as long as there are four, of whose values each is a lane of what is read; returns the others. The order of a sum is
/// the same.
///
/// # Safety
/// As [`products`].
#[cfg(target_arch = "aarch64")]
#[inline(always)]
unsafe fn fours<V: Vector, const ROWS: usize, const VECTORS: usize>(
    sums: &mut [[V; VECTORS]; ROWS],
    x: [*const f32; ROWS],
    mut places: Range<usize>,
    filter: &mut Filter<'_>,
) -> Range<usize> {
    while places.len() >= 4 {
        // SAFETY: the caller's.
        unsafe {
            let x: [V; ROWS] = each!(|row| V::load(x[row].wrapping_add(places.start)));
            macro_rules! lanes {
                ($($lane:literal)+) => {$(
                    for v in 0..VECTORS {
                        let weight = filter.vector::<V, VECTORS, false>(v);
                        for row in 0..ROWS {
                            sums[row][v] = sums[row][v].fma_lane::<$lane>(weight, x[row]);
                        }
                    }
                    filter.advance();
                )+};
            }
            lanes!(0 1 2 3);
        }
        places.start += 4;
    }
    places
}

/// The vector at `at`.
///
/// # Safety
/// The CPU has the instruction set, and there are as many values.
#[inline(always)]
unsafe fn load<V: Vector>(values: &[f32], at: usize) -> V {
    debug_assert!(at + V::LANES <= values.len());
    // SAFETY: the caller's.
    unsafe { V::load(values.as_ptr().add(at)) }
}
