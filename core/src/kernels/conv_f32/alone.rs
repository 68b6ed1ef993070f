//! Convolution to one channel, or to one of each group: vectors are of places of the filter, which lie together in the input and in
//! the weights.

// Of iterators over sums the compiler makes less.
#![allow(clippy::needless_range_loop)]

use crate::kernels::simd::ops::vectorized;
use crate::kernels::softmax::sum_lanes;
use crate::shape::ConvShape;

use super::part::{Part, runs};
use super::tiles::Tiles;
use super::vector::{MOST, Vector};
use super::{group_in, group_out, is_depthwise, places};

/// Whether that is worth it for vectors of so many lanes: a run of places fills one.
pub(super) fn takes(shape: &ConvShape, lanes: usize) -> bool {
    let (_, run) = runs(shape, shape.window.kernel_w);
    group_out(shape) == 1 && !is_depthwise(shape) && run >= lanes
}

impl Tiles<'_> {
    /// All pixels of a part, so many at a time; one if it is ragged.
    ///
    /// # Safety
    /// The CPU has the instruction set; the slices fit the shape, of which groups have one output channel each; the part has as
    /// many pixels.
    pub(super) unsafe fn alone<V: Vector, const ROWS: usize>(&mut self, part: &Part) {
        debug_assert!(ROWS == 1 || !part.ragged);
        // SAFETY: the caller's.
        unsafe { vectorized!(V, self.alone_in::<V, ROWS>(part)) }
    }

    /// # Safety
    /// As [`alone`](Self::alone).
    #[inline(always)]
    unsafe fn alone_in<V: Vector, const ROWS: usize>(&mut self, part: &Part) {
        let (w, group_in) = (&self.shape.window, group_in(self.shape));
        let (segments, run) = runs(self.shape, part.columns.len());
        let whole = run - run % V::LANES;
        for channel in 0..self.shape.out_c {
            let filter = self.args.weights.values()[channel * places(self.shape)..].as_ptr();
            for pixels in part.tiles::<ROWS>() {
                let rows = if part.ragged { w.rows_inside(part.row_of(pixels[0])) } else { part.rows.clone() };
                let from = |row: usize, tap: usize| {
                    let at = pixels[row].input.wrapping_add(channel * group_in + tap);
                    self.args.input.as_ptr().wrapping_add(at)
                };
                // SAFETY: the CPU has the instruction set.
                let mut sums = unsafe { [V::splat(0.0); ROWS] };
                let mut rest = [0.0; ROWS];
                for (ky, segment) in rows.flat_map(|ky| (0..segments).map(move |segment| (ky, segment))) {
                    let tap = part.distance(w, ky, segment);
                    let weights = filter.wrapping_add((ky * w.kernel_w + part.columns.start + segment) * group_in);
                    // SAFETY: as above; a run of places is under the pixel, inside the image, and in the filter.
                    unsafe {
                        for place in (0..whole).step_by(V::LANES) {
                            let weight = V::load(weights.add(place));
                            for row in 0..ROWS {
                                sums[row] = sums[row].fma(V::load(from(row, tap + place)), weight);
                            }
                        }
                        for place in whole..run {
                            let weight = *weights.add(place);
                            for row in 0..ROWS {
                                rest[row] += *from(row, tap + place) * weight;
                            }
                        }
                    }
                }
                for row in 0..ROWS {
                    let mut lanes = [0.0; MOST];
                    // SAFETY: no vector has more lanes.
                    unsafe { sums[row].store(lanes.as_mut_ptr()) };
                    let sum = sum_lanes(&lanes, |lane| lane) + rest[row];
                    self.output[pixels[row].output + channel] = self.args.limit(self.args.bias[channel] + sum);
                }
            }
        }
    }
}
