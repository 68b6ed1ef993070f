//! Any kernel, pixel by pixel or run by run.

use super::super::ops::{Simd, each};
use super::Row;

/// A row of any kernel. If it has `TAPS` quads a channel, one group of them, and `TAPS` is not 0,
/// its weights stay in registers.
///
/// # Safety
/// As [`strips_of`](super::strips::strips_of).
#[inline(always)]
pub unsafe fn pixels_of<S: Simd, const TAPS: usize>(row: &Row) {
    let mut lane = 0;
    // SAFETY: as the caller's; blocks from `lane` on are there.
    unsafe {
        if const { S::LAYOUT.blocks == 4 } {
            while lane + 4 * S::LAYOUT.lanes <= row.dw.channels {
                pixels::<S, 4, TAPS>(row, lane);
                lane += 4 * S::LAYOUT.lanes;
            }
        }
        while lane + 2 * S::LAYOUT.lanes <= row.dw.channels {
            pixels::<S, 2, TAPS>(row, lane);
            lane += 2 * S::LAYOUT.lanes;
        }
        while lane < row.dw.channels {
            pixels::<S, 1, TAPS>(row, lane);
            lane += S::LAYOUT.lanes;
        }
    }
}

/// # Safety
/// As [`pixels_of`].
#[inline(always)]
unsafe fn pixels<S: Simd, const BLOCKS: usize, const TAPS: usize>(row: &Row, lane: usize) {
    let dw = row.dw;
    let lanes = S::LAYOUT.lanes;
    // SAFETY: a window's quads lie inside the planes and slack, and the last pixel writes what is
    // left of the output row.
    unsafe {
        let first: [S::Acc; BLOCKS] = each!(|b| row.layer.params.first::<S>(lane + b * lanes));
        let kept: [[S::Quads; BLOCKS]; TAPS] = each!(|tap| { each!(|b| row.weight::<S>(lane + b * lanes, tap)) });
        for x in 0..dw.out_row().div_ceil(dw.channels) {
            let mut acc = first;
            if TAPS > 0 {
                let column = row.layer.planes.add(dw.at(row.turn, 0) + (x * dw.step + lane) * 4);
                for (tap, weights) in kept.iter().enumerate() {
                    let column = column.add(tap * dw.window.dilation_w * dw.column());
                    for b in 0..BLOCKS {
                        acc[b] = S::dot(acc[b], S::load_weights(column.add(b * lanes * 4)), weights[b]);
                    }
                }
                row.store::<S, 1, BLOCKS>([acc], x, lane);
                continue;
            }
            for group in 0..dw.groups {
                let mut column = row.layer.planes.add(dw.at(row.turn, group) + (x * dw.step + lane) * 4);
                for kx in 0..dw.window.kernel_w {
                    for (b, acc) in acc.iter_mut().enumerate() {
                        let weights = row.weight::<S>(lane + b * lanes, kx * dw.groups + group);
                        *acc = S::dot(*acc, S::load_weights(column.add(b * lanes * 4)), weights);
                    }
                    column = column.add(dw.window.dilation_w * dw.column());
                }
            }
            row.store::<S, 1, BLOCKS>([acc], x, lane);
        }
    }
}
