//! The common kernels, three columns wide.

use super::super::ops::{Simd, each};
use super::super::target::Put;
use super::Row;

/// A row of a kernel with three columns, `GROUPS` groups and the stride `STRIDE`.
///
/// # Safety
/// The CPU has the instruction set; planes, weights, parameters and destination are there.
#[inline(always)]
pub unsafe fn strips_of<S: Simd, const GROUPS: usize, const STRIDE: usize, T: Put>(row: &Row<T>) {
    let mut lane = 0;
    // SAFETY: as the caller's; blocks from `lane` on are there.
    unsafe {
        if const { S::LAYOUT.blocks == 4 } {
            while lane + 4 * S::LAYOUT.lanes <= row.dw.channels {
                strip::<S, 4, GROUPS, STRIDE, T>(row, lane);
                lane += 4 * S::LAYOUT.lanes;
            }
        }
        while lane < row.dw.channels {
            strip::<S, 1, GROUPS, STRIDE, T>(row, lane);
            lane += S::LAYOUT.lanes;
        }
    }
}

/// Up to four pixels at a time: each column that they share is read once, and weights stay in
/// registers.
///
/// # Safety
/// As [`strips_of`].
#[inline(always)]
unsafe fn strip<S: Simd, const BLOCKS: usize, const GROUPS: usize, const STRIDE: usize, T: Put>(
    row: &Row<T>,
    lane: usize,
) {
    let dw = row.dw;
    let lanes = S::LAYOUT.lanes;
    // SAFETY: as the caller's; the columns under pixels of the row are in the planes.
    unsafe {
        let first: [S::Acc; BLOCKS] = each!(|b| row.layer.params.first::<S>(lane + b * lanes));
        let weights: [[[S::Quads; BLOCKS]; GROUPS]; 3] =
            each!(|kx| { each!(|g| { each!(|b| row.weight::<S>(lane + b * lanes, kx * GROUPS + g)) }) });
        let planes: [*const u8; GROUPS] = each!(|g| row.layer.planes.add(dw.at(row.turn, g) + lane * 4).cast_const());
        // Not a loop: indices have to be constants from the start, or accumulators live in memory.
        macro_rules! pixels {
            ($p:literal at $x:expr) => {{
                let mut acc = [first; $p];
                pixels!(acc $p $x, 0 1 2 3 4 5 6 7 8);
                row.store::<S, $p, BLOCKS>(acc, $x, lane);
            }};
            ($acc:ident $p:literal $x:expr, $($column:literal)+) => {$(
                if $column < ($p - 1) * STRIDE + 3 {
                    let column = ($x * STRIDE + $column) * dw.column();
                    for g in 0..GROUPS {
                        for b in 0..BLOCKS {
                            let values = S::load_weights(planes[g].add(column + b * lanes * 4));
                            pixels!($acc $p $column values weights g b, 0 1 2 3);
                        }
                    }
                }
            )+};
            ($acc:ident $p:literal $column:literal $values:ident $weights:ident $g:ident $b:ident, $($pixel:literal)+) => {$(
                if $pixel < $p && $column >= $pixel * STRIDE && $column < $pixel * STRIDE + 3 {
                    // Dead branches, too, have to index within bounds.
                    const PIXEL: usize = if $pixel < $p { $pixel } else { 0 };
                    let kx = ($column + 9 - $pixel * STRIDE) % 3;
                    $acc[PIXEL][$b] = S::dot($acc[PIXEL][$b], $values, $weights[kx][$g][$b]);
                }
            )+};
        }
        let strips = dw.window.out_w.div_ceil(4);
        let mut x = 0;
        for strip in 0..strips {
            // Of like width: 5 pixels are 3 and 2, not 4 and 1.
            let width = (dw.window.out_w - x).div_ceil(strips - strip);
            match width {
                1 => pixels!(1 at x),
                2 => pixels!(2 at x),
                3 => pixels!(3 at x),
                _ => pixels!(4 at x),
            }
            x += width;
        }
    }
}
