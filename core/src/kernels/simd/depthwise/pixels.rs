//! Any kernel, pixel by pixel or run by run.

use super::super::ops::{Simd, each};
use super::super::target::Put;
use super::{Depthwise, Row};

/// A row of any kernel. If it has `TAPS` quads a channel, one group of them, and `TAPS` is not 0,
/// its weights stay in registers.
///
/// # Safety
/// As [`strips_of`](super::strips::strips_of).
#[inline(always)]
pub unsafe fn pixels_of<S: Simd, const TAPS: usize, T: Put>(row: &Row<T>) {
    let mut lane = 0;
    // SAFETY: as the caller's; blocks from `lane` on are there.
    unsafe {
        if const { S::LAYOUT.blocks == 4 } {
            while lane + 4 * S::LAYOUT.lanes <= row.dw.channels {
                pixels::<S, 4, TAPS, T>(row, lane);
                lane += 4 * S::LAYOUT.lanes;
            }
        }
        if const { S::LAYOUT.lanes > 4 } {
            while lane + 2 * S::LAYOUT.lanes <= row.dw.channels {
                pixels::<S, 2, TAPS, T>(row, lane);
                lane += 2 * S::LAYOUT.lanes;
            }
        }
        while lane < row.dw.channels {
            pixels::<S, 1, TAPS, T>(row, lane);
            lane += S::LAYOUT.lanes;
        }
    }
}

/// # Safety
/// As [`pixels_of`].
#[inline(always)]
unsafe fn pixels<S: Simd, const BLOCKS: usize, const TAPS: usize, T: Put>(row: &Row<T>, lane: usize) {
    let dw = *row.dw;
    let lanes = S::LAYOUT.lanes;
    let count = dw.out_row().div_ceil(dw.channels);
    // SAFETY: a window's quads lie inside the planes and slack, and the last pixel writes what is
    // left of the output row.
    unsafe {
        let first: [S::Acc; BLOCKS] = each!(|b| row.layer.params.first::<S>(lane + b * lanes));
        if TAPS == 0 {
            let weights = each!(|b| row.layer.weights.add((lane + b * lanes) * dw.taps() * 4));
            let mut x = 0;
            // Of few lanes there are registers for several pixels, which then share weights; runs of pixels may be cut short.
            if const { S::LAYOUT.lanes == 4 && !T::FEW } && dw.channels == dw.window.in_c {
                while x + 4 <= count {
                    some::<S, 4, BLOCKS, T>(row, dw, x, lane, first, weights);
                    x += 4;
                }
                if x + 2 <= count {
                    some::<S, 2, BLOCKS, T>(row, dw, x, lane, first, weights);
                    x += 2;
                }
            }
            while x < count {
                some::<S, 1, BLOCKS, T>(row, dw, x, lane, first, weights);
                x += 1;
            }
            return;
        }
        let kept: [[S::Quads; BLOCKS]; TAPS] = each!(|tap| { each!(|b| row.weight::<S>(lane + b * lanes, tap)) });
        for x in 0..count {
            let mut acc = first;
            let column = row.layer.planes.add(dw.at(row.turn, 0) + (x * dw.step + lane) * 4);
            for (tap, weights) in kept.iter().enumerate() {
                let column = column.add(tap * dw.window.dilation_w * dw.column());
                for b in 0..BLOCKS {
                    acc[b] = S::dot(acc[b], S::load_weights(column.add(b * lanes * 4)), weights[b]);
                }
            }
            row.store::<S, 1, BLOCKS>([acc], x, lane);
        }
    }
}

/// `P` pixels from `x` on, by weights of any number of groups that are read as they are needed.
///
/// # Safety
/// As [`pixels_of`]; `weights` are those of the blocks from `lane` on.
#[inline(always)]
unsafe fn some<S: Simd, const P: usize, const BLOCKS: usize, T: Put>(
    row: &Row<T>,
    dw: Depthwise,
    x: usize,
    lane: usize,
    first: [S::Acc; BLOCKS],
    weights: [*const u8; BLOCKS],
) {
    let lanes = S::LAYOUT.lanes;
    let mut acc = [first; P];
    let mut group = 0;
    // SAFETY: as the caller's.
    unsafe {
        loop {
            let plane = row.layer.planes.add(dw.at(row.turn, group) + lane * 4);
            let mut columns: [*const u8; P] = each!(|p| plane.add((x + p) * dw.step * 4).cast_const());
            let mut tap = group * lanes * 4;
            for _ in 0..dw.window.kernel_w {
                for b in 0..BLOCKS {
                    let weights = S::load_weights(weights[b].add(tap));
                    for p in 0..P {
                        acc[p][b] = S::dot(acc[p][b], S::load_weights(columns[p].add(b * lanes * 4)), weights);
                    }
                }
                columns = each!(|p| columns[p].wrapping_add(dw.window.dilation_w * dw.column()));
                tap += dw.groups * lanes * 4;
            }
            group += 1;
            if group == dw.groups {
                break;
            }
        }
        row.store::<S, P, BLOCKS>(acc, x, lane);
    }
}
