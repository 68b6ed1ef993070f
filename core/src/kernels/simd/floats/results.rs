//! Results of a tile: requantized, or the sums as they are.

use super::super::ops::{Rows, each};
use super::super::target::Target;
use super::{Common, Floats, LANES};

/// What accumulators of floats are written to.
pub trait Put: Target {
    /// Writes `P` pixels.
    ///
    /// # Safety
    /// As [`tile`](super::tile).
    unsafe fn put<F: Floats, const P: usize, const BLOCKS: usize, const LATE_BIAS: bool>(
        self,
        common: &Common<F, BLOCKS>,
        acc: [[F::Vec; BLOCKS]; P],
    );
}

/// Requantized.
impl Put for *mut i8 {
    #[inline(always)]
    unsafe fn put<F: Floats, const P: usize, const BLOCKS: usize, const LATE_BIAS: bool>(
        self,
        common: &Common<F, BLOCKS>,
        acc: [[F::Vec; BLOCKS]; P],
    ) {
        // Not a loop: indices have to be constants from the start, or accumulators live in memory.
        macro_rules! store {
            ($($first:literal)+) => {$(
                if $first < P && $first % (4 / BLOCKS) == 0 {
                    // SAFETY: as the caller's.
                    unsafe {
                        let four: [F::Vec; 4] = each!(|i| {
                            let acc = acc[($first + i / BLOCKS).min(P - 1)][i % BLOCKS];
                            let late = common.late.add(i % BLOCKS * LANES).cast();
                            if LATE_BIAS { F::add_integers(acc, late) } else { acc }
                        });
                        let dst = self.add($first * common.channels);
                        let rows = (4 / BLOCKS).min(P - $first);
                        let to = Rows { dst, step: common.channels, len: common.len, rows };
                        F::store::<BLOCKS>(four, common.multiplier, common.finish, to);
                    }
                }
            )+};
        }
        store!(0 2 4);
    }
}

/// As the integers that they are.
impl Put for *mut i32 {
    #[inline(always)]
    unsafe fn put<F: Floats, const P: usize, const BLOCKS: usize, const LATE_BIAS: bool>(
        self,
        common: &Common<F, BLOCKS>,
        acc: [[F::Vec; BLOCKS]; P],
    ) {
        // The bias is added to integers, which it may make too large for f32.
        const { assert!(LATE_BIAS) };
        for (pixel, blocks) in acc.into_iter().enumerate() {
            for (block, acc) in blocks.into_iter().enumerate() {
                let mut lanes = [0_f32; LANES];
                // SAFETY: as the caller's; a block has no lanes beyond the last channel, but where there are few.
                unsafe {
                    F::put(acc, lanes.as_mut_ptr().cast());
                    let dst = self.add(pixel * common.channels + block * LANES);
                    for (lane, sum) in lanes.into_iter().enumerate().take(common.len) {
                        dst.add(lane).write((sum as i32).wrapping_add(*common.late.add(block * LANES + lane)));
                    }
                }
            }
        }
    }
}
