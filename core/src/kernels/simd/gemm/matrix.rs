//! Packing at run time: a matrix as [`pack`](super::pack) lays out the weights of a fully connected layer, and the sums of its
//! columns.

use crate::shape::ConvShape;

use super::{Gemm, Layout};

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
    fn pack<const TAPS: usize>(&self, columns: Columns, group: &mut [u8], sums: &mut [i32]) {
        let quads = group.as_chunks_mut::<TAPS>().0;
        if self.turned {
            self.pack_turned(columns, quads, sums);
        } else {
            self.pack_rows(columns, quads, sums);
        }
    }

    /// Columns lie one after the other: their quads are copied.
    #[inline(always)]
    fn pack_turned<const TAPS: usize>(&self, columns: Columns, quads: &mut [[u8; TAPS]], sums: &mut [i32]) {
        let values: &[u8] = bytemuck::cast_slice(&self.values[columns.first * self.inner..]);
        let mut rest = values.chunks_exact(self.inner);
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
                *sum = column.iter().map(|&b| i32::from(b as i8)).sum();
            }
        }
    }

    /// Rows do: as many as a quad has are interleaved.
    #[inline(always)]
    fn pack_rows<const TAPS: usize>(&self, columns: Columns, quads: &mut [[u8; TAPS]], sums: &mut [i32]) {
        const ZEROS: [i8; 64] = [0; 64];
        sums.fill(0);
        for (quad, to) in quads.chunks_exact_mut(columns.lanes).enumerate() {
            let rows: [&[i8]; TAPS] = core::array::from_fn(|tap| match quad * TAPS + tap {
                row if row < self.inner => &self.values[row * self.cols + columns.first..][..columns.count],
                _ => &ZEROS[..columns.count],
            });
            let (to, beyond) = to.split_at_mut(columns.count);
            for (lane, to) in to.iter_mut().enumerate() {
                *to = rows.map(|row| row[lane] as u8);
            }
            for (lane, sum) in sums.iter_mut().enumerate() {
                *sum += rows.map(|row| i32::from(row[lane])).into_iter().sum::<i32>();
            }
            beyond.fill([0; TAPS]);
        }
    }
}
