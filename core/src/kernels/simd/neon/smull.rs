//! Products of i8 values by `smull`, those of a second quad added by `smlal`, and summed in pairs by `sadalp`.
// Every function here is nothing but unsafe operations, all under the contract of `Simd`.
#![allow(unsafe_op_in_unsafe_fn)]
// Indices that are constants keep values in registers.
#![allow(clippy::needless_range_loop)]

use core::arch::aarch64::*;
use core::arch::asm;

use super::super::Layout;
use super::super::ops::{Epilogue, Rows, Simd, each};
use super::{broadcast, copy, store};

/// `smull` and `sadalp`: products of i8 values are summed in pairs, so that a lane has two sums
/// until it is stored. Tiles of four pixels leave registers for what two quads take, which adds four products by one `sadalp`.
pub struct Neon;

impl Simd for Neon {
    type Acc = int32x4x2_t;
    type Quads = int8x16_t;
    const LAYOUT: Layout = Layout::NEON;
    const WHOLE: bool = true;
    const HEIGHT: usize = 4;

    #[inline(always)]
    unsafe fn broadcast(quad: *const u8) -> int8x16_t {
        broadcast(quad)
    }

    #[inline(always)]
    unsafe fn load(lanes: *const u8) -> int32x4x2_t {
        let (sums, zero) = (vld1q_s32(lanes.cast()), vdupq_n_s32(0));
        int32x4x2_t(vzip1q_s32(sums, zero), vzip2q_s32(sums, zero))
    }

    #[inline(always)]
    unsafe fn load_weights(weights: *const u8) -> int8x16_t {
        vld1q_s8(weights.cast())
    }

    #[inline(always)]
    unsafe fn add(a: int32x4x2_t, b: int32x4x2_t) -> int32x4x2_t {
        int32x4x2_t(vaddq_s32(a.0, b.0), vaddq_s32(a.1, b.1))
    }

    #[inline(always)]
    unsafe fn zero() -> int32x4x2_t {
        int32x4x2_t(vdupq_n_s32(0), vdupq_n_s32(0))
    }

    #[inline(always)]
    unsafe fn dot(acc: int32x4x2_t, values: int8x16_t, weights: int8x16_t) -> int32x4x2_t {
        let low = vmull_s8(vget_low_s8(values), vget_low_s8(weights));
        int32x4x2_t(vpadalq_s16(acc.0, low), vpadalq_s16(acc.1, vmull_high_s8(values, weights)))
    }

    /// All, unless two weights of -128 meet: the sum of two products is beyond 16 bits if all four are -128, and never else.
    #[inline(never)]
    unsafe fn pairs<const BLOCKS: usize>(weights: *const u8, segments: usize, quads: usize) -> usize {
        let mut least = vdupq_n_s8(0);
        for segment in 0..segments {
            let mut at = weights.add(segment * quads * BLOCKS * 16);
            for _ in 0..quads / 2 {
                for b in 0..BLOCKS {
                    let both = [b, BLOCKS + b].map(|block| Self::load_weights(at.add(block * 16)));
                    least = vminq_s8(least, vmaxq_s8(both[0], both[1]));
                }
                at = at.add(2 * BLOCKS * 16);
            }
        }
        if vminvq_s8(least) == i8::MIN { 0 } else { quads / 2 }
    }

    /// In an order that leaves all sums in registers, which the compiler's own does not.
    #[inline(always)]
    unsafe fn products<const ROWS: usize, const BLOCKS: usize>(
        acc: &mut [[int32x4x2_t; BLOCKS]; ROWS],
        windows: [*const u8; ROWS],
        segment: usize,
        mut weights: *const u8,
        quads: usize,
        pairs: usize,
    ) {
        let mut windows: [*const u8; ROWS] = each!(|r| windows[r].add(segment));
        let pairs = if ROWS == Self::HEIGHT { pairs } else { 0 };
        for _ in 0..pairs {
            let w: [[int8x16_t; BLOCKS]; 2] =
                each!(|q| each!(|b| Self::load_weights(weights.add((q * BLOCKS + b) * 16))));
            let weights_of = [w[0][0], w[0][BLOCKS - 1], w[1][0], w[1][BLOCKS - 1]];
            let mut values = next_quads(&mut windows[0]);
            for r in 0..ROWS {
                let (first, last) = (acc[r][0], acc[r][BLOCKS - 1]);
                if BLOCKS == 1 {
                    acc[r][0] = Self::dots(first, values, [w[0][0], w[1][0]]);
                    if r + 1 < ROWS {
                        values = next_quads(&mut windows[r + 1]);
                    }
                    continue;
                }
                let mut sums = [first.0, first.1, last.0, last.1];
                if r + 1 < ROWS {
                    values = four_dots_and_next(&mut sums, values, weights_of, &mut windows[r + 1]);
                } else {
                    four_dots(&mut sums, values, weights_of);
                }
                acc[r] = each!(|b| int32x4x2_t(sums[b * 2], sums[b * 2 + 1]));
            }
            weights = weights.add(2 * BLOCKS * 16);
        }
        for _ in 0..quads - 2 * pairs {
            let w: [int8x16_t; BLOCKS] = each!(|b| Self::load_weights(weights.add(b * 16)));
            let mut values = next_quad(&mut windows[0]);
            for r in 0..ROWS {
                let (first, last) = (acc[r][0], acc[r][BLOCKS - 1]);
                if BLOCKS == 1 {
                    acc[r][0] = Self::dot(first, values, w[0]);
                    if r + 1 < ROWS {
                        values = next_quad(&mut windows[r + 1]);
                    }
                    continue;
                }
                let mut sums = [first.0, first.1, last.0, last.1];
                let weights = [w[0], w[BLOCKS - 1]];
                if r + 1 < ROWS {
                    values = two_dots_and_next(&mut sums, values, weights, &mut windows[r + 1]);
                } else {
                    two_dots(&mut sums, values, weights);
                }
                acc[r] = each!(|b| int32x4x2_t(sums[b * 2], sums[b * 2 + 1]));
            }
            weights = weights.add(BLOCKS * 16);
        }
    }

    /// Two sums side by side: each of the registers of one has as many products before it is needed again.
    #[inline(always)]
    unsafe fn row<const BLOCKS: usize>(
        acc: &mut [int32x4x2_t; BLOCKS],
        mut values: *const u8,
        mut weights: *const u8,
        quads: usize,
    ) {
        let mut other = [Self::zero(); BLOCKS];
        for _ in 0..quads / 4 {
            let four = vreinterpretq_s32_s8(vld1q_s8(values.cast()));
            macro_rules! quad {
                ($q:literal, $sums:ident) => {
                    let values = vreinterpretq_s8_s32(vdupq_laneq_s32(four, $q));
                    for b in 0..BLOCKS {
                        let w = Self::load_weights(weights.add(($q * BLOCKS + b) * 16));
                        $sums[b] = Self::dot($sums[b], values, w);
                    }
                };
            }
            quad!(0, acc);
            quad!(1, other);
            quad!(2, acc);
            quad!(3, other);
            values = values.add(16);
            weights = weights.add(4 * BLOCKS * 16);
        }
        for quad in 0..quads % 4 {
            let values = broadcast(values.add(quad * 4));
            for b in 0..BLOCKS {
                acc[b] = Self::dot(acc[b], values, Self::load_weights(weights.add((quad * BLOCKS + b) * 16)));
            }
        }
        *acc = each!(|b| Self::add(acc[b], other[b]));
    }

    #[inline(always)]
    unsafe fn store<const BLOCKS: usize>(acc: [int32x4x2_t; 4], multiplier: *const u8, out: &Epilogue, to: Rows) {
        store::<BLOCKS>(each!(|i| vpaddq_s32(acc[i].0, acc[i].1)), multiplier, out, to);
    }

    #[inline(always)]
    unsafe fn put(acc: int32x4x2_t, lanes: *mut i32) {
        vst1q_s32(lanes, vpaddq_s32(acc.0, acc.1));
    }

    #[inline(always)]
    unsafe fn widen(src: *const i8, len: usize, dst: *mut u8) {
        copy(src, len, dst);
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn vectorize<R>(f: impl FnOnce() -> R) -> R {
        f()
    }
}

impl Neon {
    /// As [`Simd::dot`], of two quads whose products are summed in pairs first.
    #[inline(always)]
    unsafe fn dots(acc: int32x4x2_t, values: [int8x16_t; 2], weights: [int8x16_t; 2]) -> int32x4x2_t {
        let low = vmull_s8(vget_low_s8(values[0]), vget_low_s8(weights[0]));
        let low = vmlal_s8(low, vget_low_s8(values[1]), vget_low_s8(weights[1]));
        let high = vmlal_high_s8(vmull_high_s8(values[0], weights[0]), values[1], weights[1]);
        int32x4x2_t(vpadalq_s16(acc.0, low), vpadalq_s16(acc.1, high))
    }
}

/// Reads two quads into every lane, and moves on.
#[inline(always)]
unsafe fn next_quads(window: &mut *const u8) -> [int8x16_t; 2] {
    [next_quad(window), next_quad(window)]
}

/// Reads a quad into every lane and moves on to the next.
#[inline(always)]
unsafe fn next_quad(window: &mut *const u8) -> int8x16_t {
    let values;
    // The compiler takes an addition more.
    asm!(
        "ld1r {{{values:v}.4s}}, [{window}], #4",
        values = out(vreg) values,
        window = inout(reg) *window,
        options(readonly, nostack, preserves_flags),
    );
    values
}

/// Four products of `values` and the weights of two blocks, and then their sums: on a CPU that issues in order none
/// waits for the one before, and what is between them takes no time.
macro_rules! two_dots {
    ($sums:ident, $values:expr, $weights:expr; $($($between:literal)+, $($operand:tt)+)?) => {{
        let [mut a, mut b, mut c, mut d] = *$sums;
        asm!(
            "smull {p:v}.8h, {values:v}.8b, {first:v}.8b",
            "smull2 {q:v}.8h, {values:v}.16b, {first:v}.16b",
            "smull {r:v}.8h, {values:v}.8b, {second:v}.8b",
            "smull2 {values:v}.8h, {values:v}.16b, {second:v}.16b",
            $($($between,)+)?
            "sadalp {a:v}.4s, {p:v}.8h",
            "sadalp {b:v}.4s, {q:v}.8h",
            "sadalp {c:v}.4s, {r:v}.8h",
            "sadalp {d:v}.4s, {values:v}.8h",
            a = inout(vreg) a,
            b = inout(vreg) b,
            c = inout(vreg) c,
            d = inout(vreg) d,
            values = inout(vreg) $values => _,
            first = in(vreg) $weights[0],
            second = in(vreg) $weights[1],
            p = out(vreg) _,
            q = out(vreg) _,
            r = out(vreg) _,
            $($($operand)+,)?
            options(readonly, nostack, preserves_flags),
        );
        *$sums = [a, b, c, d];
    }};
}

/// Adds the products of `values` and of the weights of two blocks.
#[inline(always)]
unsafe fn two_dots(sums: &mut [int32x4_t; 4], values: int8x16_t, weights: [int8x16_t; 2]) {
    two_dots!(sums, values, weights;);
}

/// The same; reads the next row's quad meanwhile.
#[inline(always)]
unsafe fn two_dots_and_next(
    sums: &mut [int32x4_t; 4],
    values: int8x16_t,
    weights: [int8x16_t; 2],
    window: &mut *const u8,
) -> int8x16_t {
    let next;
    two_dots!(
        sums, values, weights;
        "ld1r {{{next:v}.4s}}, [{window}], #4", next = out(vreg) next, window = inout(reg) *window
    );
    next
}

/// [`two_dots`] of two quads of `values`, with weights of two blocks for each: products of the second are added to those of the first
/// before their sums are. What is loaded meanwhile is so before and behind these.
macro_rules! four_dots {
    ($sums:ident, $values:ident, $weights:ident; $($load:literal, $next:literal, $($operand:tt)+)?) => {
        two_dots!(
            $sums, $values[0], $weights;
            $($load)?
            "smlal {p:v}.8h, {more:v}.8b, {third:v}.8b"
            "smlal2 {q:v}.8h, {more:v}.16b, {third:v}.16b"
            "smlal {r:v}.8h, {more:v}.8b, {fourth:v}.8b"
            "smlal2 {values:v}.8h, {more:v}.16b, {fourth:v}.16b"
            $($next)?,
            more = in(vreg) $values[1], third = in(vreg) $weights[2], fourth = in(vreg) $weights[3]
            $(, $($operand)+)?
        )
    };
}

/// Adds the products of two quads of `values` and of the weights of two blocks for each.
#[inline(always)]
unsafe fn four_dots(sums: &mut [int32x4_t; 4], values: [int8x16_t; 2], weights: [int8x16_t; 4]) {
    four_dots!(sums, values, weights;);
}

/// The same; reads the next row's quads meanwhile.
#[inline(always)]
unsafe fn four_dots_and_next(
    sums: &mut [int32x4_t; 4],
    values: [int8x16_t; 2],
    weights: [int8x16_t; 4],
    window: &mut *const u8,
) -> [int8x16_t; 2] {
    let (next, after);
    four_dots!(
        sums, values, weights;
        "ld1r {{{next:v}.4s}}, [{window}], #4",
        "ld1r {{{after:v}.4s}}, [{window}], #4",
        next = out(vreg) next, after = out(vreg) after, window = inout(reg) *window
    );
    [next, after]
}
