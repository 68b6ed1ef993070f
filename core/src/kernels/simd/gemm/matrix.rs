//! Packing at run time: a matrix as [`pack`](super::pack) lays out the weights of a fully connected layer, and the sums of its
//! columns.

use crate::shape::ConvShape;

use super::super::columns;
use super::{Gemm, Layout};

/// Columns that are interleaved together.
const WIDTH: usize = 16;

/// A matrix of bytes: `[inner, cols]`, or the other way round.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    values: &'a [i8],
    turned: bool,
    inner: usize,
    cols: usize,
}

/// Some columns that are packed together: the first of them, how many there are, and how many there is room for.
#[derive(Clone, Copy)]
struct Columns {
    first: usize,
    count: usize,
    lanes: usize,
}

/// Packs `values` for `shape`, which are the transpose of its weights unless they are `turned`.
pub fn pack(layout: Layout, shape: &ConvShape, values: &[i8], turned: bool, dst: &mut [u8], sums: &mut [i32]) {
    let gemm = Gemm::new(layout, shape);
    let matrix = Matrix { values, turned, inner: gemm.segment, cols: gemm.out_c };
    let (header, weights) = dst.split_at_mut(layout.header_len(gemm.out_c));
    groups(layout, &gemm, matrix, weights, sums);
    header.fill(0);
    for (correction, sum) in header.chunks_exact_mut(4).zip(sums) {
        correction.copy_from_slice(&sum.wrapping_mul(-layout.offset).to_ne_bytes());
    }
}

/// Compiled once, for what every CPU has: there is little in it that wider vectors do quicker.
#[inline(never)]
fn groups(layout: Layout, gemm: &Gemm, matrix: Matrix<'_>, weights: &mut [u8], sums: &mut [i32]) {
    for (first, blocks) in gemm.groups(layout) {
        let block_bytes = gemm.block_bytes(layout);
        let group = &mut weights[first * block_bytes..][..blocks * block_bytes];
        let (first, lanes) = (first * layout.lanes, blocks * layout.lanes);
        let columns = Columns { first, count: lanes.min(matrix.cols - first), lanes };
        let sums = &mut sums[first..][..columns.count];
        match layout.taps {
            2 => matrix.pack::<2>(columns, group, sums),
            // No other architecture has such quads.
            #[cfg(any(test, target_arch = "aarch64"))]
            8 => matrix.pack::<8>(columns, group, sums),
            _ => matrix.pack::<4>(columns, group, sums),
        }
    }
}

impl Matrix<'_> {
    /// Quad by quad, the `TAPS` values of each column.
    #[inline(always)]
    fn pack<const TAPS: usize>(&self, of: Columns, group: &mut [u8], sums: &mut [i32]) {
        let quads = bytemuck::cast_slice_mut(group).as_chunks_mut::<TAPS>().0;
        if self.turned {
            self.pack_turned(of, quads, sums);
        } else {
            self.pack_rows(of, quads, sums);
        }
    }

    /// Columns lie one after the other: their quads are copied.
    #[inline(always)]
    fn pack_turned<const TAPS: usize>(&self, columns: Columns, quads: &mut [[i8; TAPS]], sums: &mut [i32]) {
        let mut rest = self.values[columns.first * self.inner..].chunks_exact(self.inner);
        for lane in 0..columns.lanes {
            let column = if lane < columns.count { rest.next().unwrap_or_default() } else { &[] };
            let (whole, part) = column.as_chunks::<TAPS>();
            let mut last = [0; TAPS];
            last[..part.len()].copy_from_slice(part);
            let mut to = quads[lane..].iter_mut().step_by(columns.lanes);
            to.by_ref().zip(whole).for_each(|(to, quad)| *to = *quad);
            if whole.len() * TAPS < self.inner {
                to.next().into_iter().for_each(|to| *to = last);
            }
            to.for_each(|to| *to = [0; TAPS]);
            if let Some(sum) = sums.get_mut(lane) {
                *sum = column.iter().map(|&b| i32::from(b)).sum();
            }
        }
    }

    /// Rows do: eight of them are interleaved, 16 columns at a time.
    #[inline(always)]
    fn pack_rows<const TAPS: usize>(&self, of: Columns, quads: &mut [[i8; TAPS]], sums: &mut [i32]) {
        sums.fill(0);
        // Columns behind these have no lanes, and are left out where they are written.
        let mut rows = self.values.chunks_exact(self.cols).map(|row| &row[of.first..]);
        for quads in quads.chunks_mut(of.lanes * (8 / TAPS)) {
            let rows: [&[i8]; 8] = core::array::from_fn(|_| rows.next().unwrap_or_default());
            for first in (0..of.lanes).step_by(WIDTH) {
                let rows = rows.map(|row| sixteen(row.get(first..).unwrap_or_default()));
                // Eight bytes have a sum of 16 bits, of which more go into a vector.
                let mut totals = [0i16; WIDTH];
                for row in &rows {
                    totals.iter_mut().zip(row).for_each(|(total, &x)| *total += i16::from(x));
                }
                let of_these = sums.get_mut(first..).unwrap_or_default();
                of_these.iter_mut().zip(totals).for_each(|(sum, total)| *sum += i32::from(total));
                let interleaved = columns::<TAPS>(rows.each_ref());
                let interleaved = interleaved.as_chunks::<TAPS>().0.chunks_exact(WIDTH);
                for (to, from) in quads.chunks_exact_mut(of.lanes).zip(interleaved) {
                    let to = &mut to[first..];
                    if let Some(to) = to.first_chunk_mut::<WIDTH>() {
                        to.copy_from_slice(from);
                    } else if let Ok(to) = <&mut [_; WIDTH / 2]>::try_from(&mut *to) {
                        // By a length that is known.
                        to.copy_from_slice(&from[..WIDTH / 2]);
                    } else {
                        to.copy_from_slice(&from[..to.len()]);
                    }
                }
            }
        }
    }
}

/// The first of some values, and 0 beyond the last.
#[inline(always)]
fn sixteen(values: &[i8]) -> [i8; WIDTH] {
    values.first_chunk().copied().unwrap_or_else(|| {
        let mut padded = [0; WIDTH];
        padded[..values.len()].copy_from_slice(values);
        padded
    })
}
