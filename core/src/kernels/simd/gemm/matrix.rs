//! Packing at run time: a matrix as [`pack`](super::pack) lays out the weights of a fully connected layer, and the sums of its
//! columns.

use crate::shape::ConvShape;

use super::super::ops::each;
use super::super::{columns, turned_columns};
use super::{Filter, Gemm, Layout};

/// Values that are read together: of 16 columns, or of a column.
const WIDTH: usize = 16;
/// Columns that are turned together.
const TURNED: usize = 8;

/// A matrix of bytes: `[inner, cols]`, or the other way round.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    values: &'a [i8],
    turned: bool,
    inner: usize,
    cols: usize,
}

/// Some columns that are packed together: the first of them, and how many there is room for.
#[derive(Clone, Copy)]
struct Columns {
    first: usize,
    lanes: usize,
}

/// Packs `values` for `shape`, which are the transpose of its weights unless they are `turned`.
pub fn pack(layout: Layout, shape: &ConvShape, values: &[i8], turned: bool, dst: &mut [u8], sums: &mut [i32]) {
    let gemm = Gemm::new(layout, shape);
    let matrix = Matrix { values, turned, inner: gemm.filter.segment, cols: gemm.filter.out_c };
    let (header, weights) = dst.split_at_mut(layout.header_len(gemm.filter.out_c));
    groups(layout, &gemm.filter, matrix, weights, sums);
    header.fill(0);
    for (correction, sum) in header.chunks_exact_mut(4).zip(sums) {
        correction.copy_from_slice(&sum.wrapping_mul(-layout.offset).to_ne_bytes());
    }
}

/// Group by group of blocks. On x86-64 it is compiled for AVX2, which every instruction set there that packs has: whoever runs
/// one asks for it, and where there is none nothing is read of what is packed.
#[inline(never)]
fn groups(layout: Layout, filter: &Filter, matrix: Matrix<'_>, weights: &mut [u8], sums: &mut [i32]) {
    #[cfg(target_arch = "x86_64")]
    if crate::isa::Isa::Avx2.is_available() {
        // SAFETY: the CPU has AVX2.
        unsafe { avx2(layout, filter, matrix, weights, sums) };
    } else if cfg!(test) {
        each_group(layout, filter, matrix, weights, sums);
    }
    #[cfg(not(target_arch = "x86_64"))]
    each_group(layout, filter, matrix, weights, sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(layout: Layout, filter: &Filter, matrix: Matrix<'_>, weights: &mut [u8], sums: &mut [i32]) {
    each_group(layout, filter, matrix, weights, sums);
}

#[inline(always)]
fn each_group(layout: Layout, filter: &Filter, matrix: Matrix<'_>, weights: &mut [u8], sums: &mut [i32]) {
    for (first, blocks) in filter.groups(layout) {
        let block_bytes = filter.block_bytes(layout);
        let group = &mut weights[first * block_bytes..][..blocks * block_bytes];
        let (first, lanes) = (first * layout.lanes, blocks * layout.lanes);
        let columns = Columns { first, lanes };
        let sums = &mut sums[first..][..lanes.min(matrix.cols - first)];
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

    /// Columns lie one after the other: 16 values of each of eight of them are turned.
    #[inline(always)]
    fn pack_turned<const TAPS: usize>(&self, of: Columns, quads: &mut [[i8; TAPS]], sums: &mut [i32]) {
        for first in (0..of.lanes).step_by(TURNED) {
            let column = of.first + first;
            let mut totals = [0i32; TURNED];
            for at in (0..self.inner).step_by(WIDTH) {
                let lines = self.cols.saturating_sub(column).min(8);
                let columns = eight(self.values, column * self.inner + at, self.inner, lines, self.inner - at);
                let (turned, sums) = turned_columns::<TAPS>(columns);
                totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
                put::<TAPS, TURNED>(turned, quads, at / TAPS, of.lanes, first);
            }
            sums.iter_mut().skip(first).zip(totals).for_each(|(sum, total)| *sum = total);
        }
    }

    /// Rows do: eight of them are interleaved, 16 columns at a time.
    #[inline(always)]
    fn pack_rows<const TAPS: usize>(&self, of: Columns, quads: &mut [[i8; TAPS]], sums: &mut [i32]) {
        for first in (0..of.lanes).step_by(WIDTH) {
            let column = of.first + first;
            let there = self.cols.saturating_sub(column);
            let mut totals = [0i32; WIDTH];
            for at in (0..self.inner).step_by(8) {
                let rows = eight(self.values, at * self.cols + column, self.cols, (self.inner - at).min(8), there);
                // Eight bytes have a sum of 16 bits, of which more go into a vector.
                let mut partial = [0i16; WIDTH];
                for row in &rows {
                    partial.iter_mut().zip(row).for_each(|(sum, &byte)| *sum += i16::from(byte));
                }
                totals.iter_mut().zip(partial).for_each(|(total, sum)| *total += i32::from(sum));
                put::<TAPS, WIDTH>(columns::<TAPS>(rows), quads, at / TAPS, of.lanes, first);
            }
            sums.iter_mut().skip(first).zip(totals).for_each(|(sum, total)| *sum = total);
        }
    }
}

/// Eight lines of 16 values, `step` from each other, from `at` on: so many lines as there are, and of each so many values as
/// are `there`; 0 for the others.
#[inline(always)]
fn eight(values: &[i8], at: usize, step: usize, lines: usize, there: usize) -> [[i8; WIDTH]; 8] {
    let values = values.get(at..).unwrap_or_default();
    if lines < 8 || there < WIDTH || values.len() < 7 * step + WIDTH {
        return padded(values, step, lines, there);
    }
    // SAFETY: so many values are there.
    each!(|line| unsafe { values.as_ptr().add(line * step).cast::<[i8; WIDTH]>().read() })
}

#[inline(never)]
fn padded(values: &[i8], step: usize, lines: usize, there: usize) -> [[i8; WIDTH]; 8] {
    let mut padded = [[0; WIDTH]; 8];
    for (line, to) in padded.iter_mut().enumerate().take(lines) {
        let from = values.get(line * step..).unwrap_or_default();
        to.iter_mut().zip(from).take(there).for_each(|(to, from)| *to = *from);
    }
    padded
}

/// Writes quads of `LANES` columns, those of one place after those of another, from quad `at` and lane `first` of a group on;
/// what is beyond the last lane or the last quad is left out.
#[inline(always)]
fn put<const TAPS: usize, const LANES: usize>(
    from: [[i8; WIDTH]; 8],
    quads: &mut [[i8; TAPS]],
    at: usize,
    lanes: usize,
    first: usize,
) {
    let (start, room) = (at * lanes + first, lanes - first);
    let to = quads.get_mut(start..).unwrap_or_default();
    let places = 128 / (TAPS * LANES);
    if room >= LANES && to.len() >= (places - 1) * lanes + LANES {
        // SAFETY: there is room for the last of them.
        unsafe { whole::<TAPS, LANES, LANES>(from, to.as_mut_ptr(), lanes) };
    } else if LANES > 8 && room == 8 && to.len() >= (places - 1) * lanes + 8 {
        // SAFETY: as above.
        unsafe { whole::<TAPS, LANES, 8>(from, to.as_mut_ptr(), lanes) };
    } else {
        few(&from, LANES * TAPS, to.as_flattened_mut(), lanes * TAPS, room.min(LANES) * TAPS);
    }
}

/// Writes the first `ROOM` of `LANES` quads of each place, as the registers that they are.
///
/// # Safety
/// `to` has room for so many quads, `lanes` from each other, as often as there are places.
#[inline(always)]
unsafe fn whole<const TAPS: usize, const LANES: usize, const ROOM: usize>(
    from: [[i8; WIDTH]; 8],
    to: *mut [i8; TAPS],
    lanes: usize,
) {
    let registers = LANES * TAPS / WIDTH;
    let mut at = 0;
    while at < 8 {
        let (place, part) = (at / registers, at % registers);
        if (part + 1) * WIDTH <= ROOM * TAPS {
            // SAFETY: as the caller's.
            unsafe { to.add(place * lanes).cast::<[i8; WIDTH]>().add(part).write(from[at]) };
        }
        at += 1;
    }
}

#[inline(never)]
fn few(from: &[[i8; WIDTH]; 8], from_step: usize, to: &mut [i8], step: usize, len: usize) {
    for (place, from) in from.as_flattened().chunks_exact(from_step).enumerate() {
        if let Some(to) = to.get_mut(place * step..).and_then(|to| to.get_mut(..len)) {
            to.copy_from_slice(&from[..len]);
        }
    }
}
