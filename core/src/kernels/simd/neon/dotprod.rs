//! Dot products of four i8 values by `sdot`, of Armv8.2 and later.
// Every function here is nothing but unsafe operations, all under the contract of `Simd`.
#![allow(unsafe_op_in_unsafe_fn)]
// Indices that are constants keep values in registers.
#![allow(clippy::needless_range_loop)]

use core::arch::aarch64::*;
use core::arch::asm;

use super::super::Layout;
use super::super::ops::{Epilogue, Interleave, Rows, Simd, each};
use super::{broadcast, copy, store};

/// `sdot`.
pub struct Dotprod;

impl Simd for Dotprod {
    type Acc = int32x4_t;
    type Quads = int8x16_t;
    const LAYOUT: Layout = Layout::DOTPROD;
    const WHOLE: bool = true;
    const PAIRS: bool = true;

    #[inline(always)]
    unsafe fn broadcast(quad: *const u8) -> int8x16_t {
        broadcast(quad)
    }

    #[inline(always)]
    unsafe fn load(lanes: *const u8) -> int32x4_t {
        vld1q_s32(lanes.cast())
    }

    #[inline(always)]
    unsafe fn load_weights(weights: *const u8) -> int8x16_t {
        vld1q_s8(weights.cast())
    }

    #[inline(always)]
    unsafe fn add(a: int32x4_t, b: int32x4_t) -> int32x4_t {
        vaddq_s32(a, b)
    }

    #[inline(always)]
    unsafe fn zero() -> int32x4_t {
        vdupq_n_s32(0)
    }

    #[inline(always)]
    unsafe fn dot(mut acc: int32x4_t, values: int8x16_t, weights: int8x16_t) -> int32x4_t {
        // The intrinsic, `vdotq_s32`, is not stable yet.
        asm!(
            ".arch_extension dotprod",
            "sdot {acc:v}.4s, {weights:v}.16b, {values:v}.16b",
            acc = inout(vreg) acc,
            weights = in(vreg) weights,
            values = in(vreg) values,
            options(pure, nomem, nostack, preserves_flags),
        );
        acc
    }

    #[inline(always)]
    unsafe fn products<const ROWS: usize, const BLOCKS: usize>(
        acc: &mut [[int32x4_t; BLOCKS]; ROWS],
        windows: [*const u8; ROWS],
        mut segment: usize,
        mut weights: *const u8,
        quads: usize,
        _pairs: usize,
    ) {
        macro_rules! quad {
            ($q:literal, $values:ident) => {
                for b in 0..BLOCKS {
                    let w = Self::load_weights(weights.add(($q * BLOCKS + b) * 16));
                    for r in 0..ROWS {
                        acc[r][b] = dot_lane::<$q>(acc[r][b], $values[r], w);
                    }
                }
            };
        }
        // Four quads of a row in one read, or what is left of them.
        for _ in 0..quads / 4 {
            let values: [int8x16_t; ROWS] = each!(|r| vld1q_s8(windows[r].add(segment).cast()));
            quad!(0, values);
            quad!(1, values);
            quad!(2, values);
            quad!(3, values);
            weights = weights.add(4 * BLOCKS * 16);
            segment += 16;
        }
        let left = quads % 4;
        if left > 0 {
            let values: [int8x16_t; ROWS] = each!(|r| vld1q_s8(windows[r].add(segment).cast()));
            quad!(0, values);
            if left > 1 {
                quad!(1, values);
            }
            if left > 2 {
                quad!(2, values);
            }
        }
    }

    /// Two sums side by side, since a product waits for the one before.
    #[inline(always)]
    unsafe fn row<const BLOCKS: usize>(
        acc: &mut [int32x4_t; BLOCKS],
        values: *const u8,
        weights: *const u8,
        quads: usize,
    ) {
        let mut sums = [*acc, [Self::zero(); BLOCKS]];
        let (whole, left) = (quads / 4, quads % 4);
        let four = |i: usize| (values.add(i * 16), weights.add(i * 4 * BLOCKS * 16));
        for i in 0..whole {
            let (values, weights) = four(i);
            let values = vld1q_s8(values.cast());
            row_quad::<0, BLOCKS>(&mut sums[0], values, weights);
            row_quad::<1, BLOCKS>(&mut sums[1], values, weights);
            row_quad::<2, BLOCKS>(&mut sums[0], values, weights);
            row_quad::<3, BLOCKS>(&mut sums[1], values, weights);
        }
        let (values, weights) = four(whole);
        for quad in 0..left {
            row_quad::<0, BLOCKS>(&mut sums[0], broadcast(values.add(quad * 4)), weights.add(quad * BLOCKS * 16));
        }
        *acc = each!(|b| Self::add(sums[0][b], sums[1][b]));
    }

    /// The groups' sums are side by side.
    #[inline(always)]
    unsafe fn pair<const BLOCKS: usize>(
        acc: &mut [[int32x4_t; BLOCKS]; 2],
        values: *const u8,
        weights: [*const u8; 2],
        quads: usize,
    ) {
        let (whole, left) = (quads / 4, quads % 4);
        let four = |i: usize| (values.add(i * 16), i * 4 * BLOCKS * 16);
        let [mut first, mut second] = *acc;
        for i in 0..whole {
            let (values, at) = four(i);
            let values = vld1q_s8(values.cast());
            let [w, v] = [weights[0].add(at), weights[1].add(at)];
            row_quad::<0, BLOCKS>(&mut first, values, w);
            row_quad::<0, BLOCKS>(&mut second, values, v);
            row_quad::<1, BLOCKS>(&mut first, values, w);
            row_quad::<1, BLOCKS>(&mut second, values, v);
            row_quad::<2, BLOCKS>(&mut first, values, w);
            row_quad::<2, BLOCKS>(&mut second, values, v);
            row_quad::<3, BLOCKS>(&mut first, values, w);
            row_quad::<3, BLOCKS>(&mut second, values, v);
        }
        let (values, at) = four(whole);
        for quad in 0..left {
            let (values, at) = (broadcast(values.add(quad * 4)), at + quad * BLOCKS * 16);
            row_quad::<0, BLOCKS>(&mut first, values, weights[0].add(at));
            row_quad::<0, BLOCKS>(&mut second, values, weights[1].add(at));
        }
        *acc = [first, second];
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
    #[target_feature(enable = "neon,dotprod")]
    unsafe fn vectorize<R>(f: impl FnOnce() -> R) -> R {
        f()
    }
}

impl Interleave for Dotprod {
    #[inline(always)]
    unsafe fn interleave(rows: &[*const i8; 4], len: usize, dst: *mut u8) {
        macro_rules! sixteen {
            ($at:expr) => {
                let [a, b, c, d]: [int8x16_t; 4] = each!(|r| vld1q_s8(rows[r].add($at)));
                let upper = [vreinterpretq_s16_s8(vzip1q_s8(a, b)), vreinterpretq_s16_s8(vzip2q_s8(a, b))];
                let lower = [vreinterpretq_s16_s8(vzip1q_s8(c, d)), vreinterpretq_s16_s8(vzip2q_s8(c, d))];
                let quads: [int16x8_t; 4] = each!(|i| {
                    let (upper, lower) = (upper[i / 2], lower[i / 2]);
                    if i % 2 == 0 { vzip1q_s16(upper, lower) } else { vzip2q_s16(upper, lower) }
                });
                let [a, b, c, d] = quads;
                vst1q_s16_x4(dst.add($at * 4).cast(), int16x8x4_t(a, b, c, d));
            };
        }
        let mut at = 0;
        while at + 16 <= len {
            sixteen!(at);
            at += 16;
        }
        if at < len && at > 0 {
            // The last ones, some of them again.
            sixteen!(len - 16);
            return;
        }
        while at < len {
            dst.add(at * 4).cast::<[i8; 4]>().write(rows.map(|row| row.add(at).read()));
            at += 1;
        }
    }
}

/// Adds the products of quad `QUAD` of `values` and the weights of that quad of some blocks.
#[inline(always)]
unsafe fn row_quad<const QUAD: i32, const BLOCKS: usize>(
    sums: &mut [int32x4_t; BLOCKS],
    values: int8x16_t,
    weights: *const u8,
) {
    for b in 0..BLOCKS {
        let w = vld1q_s8(weights.add((QUAD as usize * BLOCKS + b) * 16).cast());
        sums[b] = dot_lane::<QUAD>(sums[b], values, w);
    }
}

/// `acc` plus the products of the weights and of quad `QUAD` of `values`.
#[inline(always)]
unsafe fn dot_lane<const QUAD: i32>(mut acc: int32x4_t, values: int8x16_t, weights: int8x16_t) -> int32x4_t {
    // As in `dot`: not stable yet.
    asm!(
        ".arch_extension dotprod",
        "sdot {acc:v}.4s, {weights:v}.16b, {values:v}.4b[{quad}]",
        acc = inout(vreg) acc,
        weights = in(vreg) weights,
        values = in(vreg) values,
        quad = const QUAD,
        options(pure, nomem, nostack, preserves_flags),
    );
    acc
}
