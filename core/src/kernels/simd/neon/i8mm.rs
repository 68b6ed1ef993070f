//! Products of matrices of i8 values by `smmla`, of Armv8.6 and later.
// Every function here is nothing but unsafe operations, all under the contract of `Simd`.
#![allow(unsafe_op_in_unsafe_fn)]
// Indices that are constants keep values in registers.
#![allow(clippy::needless_range_loop)]

use core::arch::aarch64::*;
use core::arch::asm;

use super::super::Layout;
use super::super::ops::{Epilogue, Rows, Simd, each};
use super::{copy, store};

/// `smmla`: two rows times two channels, eight values of each.
pub struct I8mm;

impl Simd for I8mm {
    type Acc = int32x4_t;
    /// Two channels, then two more.
    type Quads = int8x16x2_t;
    const LAYOUT: Layout = Layout::I8MM;
    const WHOLE: bool = true;

    #[inline(always)]
    unsafe fn broadcast(quad: *const u8) -> int8x16x2_t {
        let values = vreinterpretq_s8_s64(vld1q_dup_s64(quad.cast()));
        int8x16x2_t(values, values)
    }

    #[inline(always)]
    unsafe fn load(lanes: *const u8) -> int32x4_t {
        vld1q_s32(lanes.cast())
    }

    #[inline(always)]
    unsafe fn load_weights(weights: *const u8) -> int8x16x2_t {
        int8x16x2_t(vld1q_s8(weights.cast()), vld1q_s8(weights.add(16).cast()))
    }

    #[inline(always)]
    unsafe fn add(a: int32x4_t, b: int32x4_t) -> int32x4_t {
        vaddq_s32(a, b)
    }

    #[inline(always)]
    unsafe fn zero() -> int32x4_t {
        vdupq_n_s32(0)
    }

    /// Of one row, which both of a matrix are.
    #[inline(always)]
    unsafe fn dot(acc: int32x4_t, values: int8x16x2_t, weights: int8x16x2_t) -> int32x4_t {
        let first = matrix(halves_low(acc, acc), values.0, weights.0);
        let second = matrix(halves_high(acc, acc), values.1, weights.1);
        halves_low(first, second)
    }

    /// Rows two by two: their accumulators become matrices and are rows again at the end. Of odd rows the last is with
    /// itself.
    #[inline(always)]
    unsafe fn products<const ROWS: usize, const BLOCKS: usize>(
        acc: &mut [[int32x4_t; BLOCKS]; ROWS],
        windows: [*const u8; ROWS],
        segment: usize,
        mut weights: *const u8,
        quads: usize,
        _pairs: usize,
    ) {
        let windows: [*const u8; ROWS] = each!(|r| windows[r].add(segment));
        let last = |r: usize| r.min(ROWS - 1);
        let pairs = ROWS.div_ceil(2);
        let mut sums = [[[vdupq_n_s32(0); 2]; BLOCKS]; ROWS];
        for p in 0..pairs {
            for b in 0..BLOCKS {
                let (upper, lower) = (acc[2 * p][b], acc[last(2 * p + 1)][b]);
                sums[p][b] = [halves_low(upper, lower), halves_high(upper, lower)];
            }
        }
        // A quad at a time: of two in one read the values would take the registers that sums are in.
        for quad in 0..quads {
            let mut values = [vdupq_n_s8(0); ROWS];
            for p in 0..pairs {
                let row = |r: usize| windows[r].add(quad * 8).cast();
                let upper = vcombine_s64(vld1_s64(row(2 * p)), vdup_n_s64(0));
                values[p] = vreinterpretq_s8_s64(vld1q_lane_s64::<1>(row(last(2 * p + 1)), upper));
            }
            for b in 0..BLOCKS {
                let w = Self::load_weights(weights.add(b * 32));
                for p in 0..pairs {
                    sums[p][b] = [matrix(sums[p][b][0], values[p], w.0), matrix(sums[p][b][1], values[p], w.1)];
                }
            }
            weights = weights.add(BLOCKS * 32);
        }
        for p in 0..pairs {
            for b in 0..BLOCKS {
                let [first, second] = sums[p][b];
                acc[last(2 * p + 1)][b] = halves_high(first, second);
                acc[2 * p][b] = halves_low(first, second);
            }
        }
    }

    /// A matrix of the row and itself, which half of the products are too many of.
    #[inline(always)]
    unsafe fn row<const BLOCKS: usize>(
        acc: &mut [int32x4_t; BLOCKS],
        values: *const u8,
        weights: *const u8,
        quads: usize,
    ) {
        Self::products(core::array::from_mut(acc), [values], 0, weights, quads, 0);
    }

    #[inline(always)]
    unsafe fn store<const BLOCKS: usize>(acc: [int32x4_t; 4], multiplier: *const u8, out: &Epilogue, to: Rows) {
        store::<BLOCKS>(acc, multiplier, out, to);
    }

    #[inline(always)]
    unsafe fn widen(src: *const i8, len: usize, dst: *mut u8) {
        copy(src, len, dst);
    }

    #[inline]
    #[target_feature(enable = "neon,dotprod,i8mm")]
    unsafe fn vectorize<R>(f: impl FnOnce() -> R) -> R {
        f()
    }
}

/// `acc`, of two rows by two channels, plus the products of two rows of values and two of weights.
#[inline(always)]
unsafe fn matrix(mut acc: int32x4_t, values: int8x16_t, weights: int8x16_t) -> int32x4_t {
    // The intrinsic, `vmmlaq_s32`, is not stable yet.
    asm!(
        ".arch_extension i8mm",
        "smmla {acc:v}.4s, {values:v}.16b, {weights:v}.16b",
        acc = inout(vreg) acc,
        values = in(vreg) values,
        weights = in(vreg) weights,
        options(pure, nomem, nostack, preserves_flags),
    );
    acc
}

#[inline(always)]
unsafe fn halves_low(a: int32x4_t, b: int32x4_t) -> int32x4_t {
    vcombine_s32(vget_low_s32(a), vget_low_s32(b))
}

#[inline(always)]
unsafe fn halves_high(a: int32x4_t, b: int32x4_t) -> int32x4_t {
    vcombine_s32(vget_high_s32(a), vget_high_s32(b))
}
