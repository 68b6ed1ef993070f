//! aarch64: 4 lanes, quads of i8. Every such CPU has NEON; later ones have a dot product, then a product of matrices.
// Every function here is nothing but unsafe operations, all under the contract of `Simd`.
#![allow(unsafe_op_in_unsafe_fn)]
// Indices that are constants keep values in registers.
#![allow(clippy::needless_range_loop)]

use core::arch::aarch64::*;
use core::arch::asm;

use super::Layout;
use super::floats::Floats;
use super::ops::{Epilogue, Interleave, Rows, Simd, each};

/// `smull` and `sadalp`: products of i8 values are summed in pairs, so that a lane has two sums
/// until it is stored.
pub struct Neon;

/// `sdot`.
pub struct Dotprod;

/// `smmla`: two rows times two channels, eight values of each.
pub struct I8mm;

/// `fmla`, for depthwise convolution.
pub struct Fmla;

impl Simd for Neon {
    type Acc = int32x4x2_t;
    type Quads = int8x16_t;
    const LAYOUT: Layout = Layout::NEON;
    const WHOLE: bool = true;

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

    /// In an order that leaves all sums in registers, which the compiler's own does not.
    #[inline(always)]
    unsafe fn products<const ROWS: usize, const BLOCKS: usize>(
        acc: &mut [[int32x4x2_t; BLOCKS]; ROWS],
        windows: [*const u8; ROWS],
        segment: usize,
        mut weights: *const u8,
        quads: usize,
    ) {
        let mut windows: [*const u8; ROWS] = each!(|r| windows[r].add(segment));
        for _ in 0..quads {
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
    unsafe fn widen(src: *const i8, len: usize, dst: *mut u8) {
        copy(src, len, dst);
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn vectorize<R>(f: impl FnOnce() -> R) -> R {
        f()
    }
}

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
    ) {
        let windows: [*const u8; ROWS] = each!(|r| windows[r].add(segment));
        let row = |r: usize| r.min(ROWS - 1);
        let pairs = ROWS.div_ceil(2);
        let mut sums = [[[vdupq_n_s32(0); 2]; BLOCKS]; ROWS];
        for p in 0..pairs {
            for b in 0..BLOCKS {
                let (upper, lower) = (acc[2 * p][b], acc[row(2 * p + 1)][b]);
                sums[p][b] = [halves_low(upper, lower), halves_high(upper, lower)];
            }
        }
        macro_rules! step {
            ($values:ident, $weights:expr) => {
                for b in 0..BLOCKS {
                    let w = Self::load_weights($weights.add(b * 32));
                    for p in 0..pairs {
                        sums[p][b] = [matrix(sums[p][b][0], $values[p], w.0), matrix(sums[p][b][1], $values[p], w.1)];
                    }
                }
            };
        }
        let mut quad = 0;
        // Two quads of a row in one read.
        while quad + 2 <= quads {
            let (mut first, mut second) = ([vdupq_n_s8(0); ROWS], [vdupq_n_s8(0); ROWS]);
            for p in 0..pairs {
                let upper = vld1q_s64(windows[2 * p].add(quad * 8).cast());
                let lower = vld1q_s64(windows[row(2 * p + 1)].add(quad * 8).cast());
                first[p] = vreinterpretq_s8_s64(vzip1q_s64(upper, lower));
                second[p] = vreinterpretq_s8_s64(vzip2q_s64(upper, lower));
            }
            step!(first, weights);
            step!(second, weights.add(BLOCKS * 32));
            weights = weights.add(2 * BLOCKS * 32);
            quad += 2;
        }
        if quad < quads {
            let mut values = [vdupq_n_s8(0); ROWS];
            for p in 0..pairs {
                let upper = vld1_s8(windows[2 * p].add(quad * 8).cast());
                values[p] = vcombine_s8(upper, vld1_s8(windows[row(2 * p + 1)].add(quad * 8).cast()));
            }
            step!(values, weights);
        }
        for p in 0..pairs {
            for b in 0..BLOCKS {
                let [first, second] = sums[p][b];
                acc[row(2 * p + 1)][b] = halves_high(first, second);
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
        Self::products(core::array::from_mut(acc), [values], 0, weights, quads);
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

impl Floats for Fmla {
    const PIXELS: usize = 4;
    type Vec = float32x4x2_t;
    type Finish = Bounds;

    #[inline(always)]
    unsafe fn load(values: *const u8) -> float32x4x2_t {
        float32x4x2_t(vld1q_f32(values.cast()), vld1q_f32(values.add(16).cast()))
    }

    #[inline(always)]
    unsafe fn put(values: float32x4x2_t, dst: *mut u8) {
        vst1q_f32(dst.cast(), values.0);
        vst1q_f32(dst.add(16).cast(), values.1);
    }

    #[inline(always)]
    unsafe fn convert(src: *const i8, dst: *mut u8) {
        let values = vmovl_s8(vld1_s8(src));
        let low = vcvtq_f32_s32(vmovl_s16(vget_low_s16(values)));
        Self::put(float32x4x2_t(low, vcvtq_f32_s32(vmovl_high_s16(values))), dst);
    }

    #[inline(always)]
    unsafe fn fma(acc: float32x4x2_t, a: float32x4x2_t, b: float32x4x2_t) -> float32x4x2_t {
        float32x4x2_t(vfmaq_f32(acc.0, a.0, b.0), vfmaq_f32(acc.1, a.1, b.1))
    }

    #[inline(always)]
    unsafe fn add_integers(acc: float32x4x2_t, integers: *const u8) -> float32x4x2_t {
        let add = |acc, at| vcvtq_f32_s32(vaddq_s32(vcvtq_s32_f32(acc), vld1q_s32(integers.add(at).cast())));
        float32x4x2_t(add(acc.0, 0), add(acc.1, 16))
    }

    #[inline(always)]
    unsafe fn finish(out: &Epilogue) -> Bounds {
        Bounds::new(*out)
    }

    #[inline(always)]
    unsafe fn store<const BLOCKS: usize>(
        acc: [float32x4x2_t; 4],
        multiplier: [float32x4x2_t; BLOCKS],
        finish: Bounds,
        to: Rows,
    ) {
        let rounded = each!(|i| {
            let m = multiplier[i % BLOCKS];
            [vcvtnq_s32_f32(vmulq_f32(acc[i].0, m.0)), vcvtnq_s32_f32(vmulq_f32(acc[i].1, m.1))]
        });
        let [[a, b], [c, d], [e, f], [g, h]] = rounded;
        let (first, second) = (finish.bytes([a, b, c, d]), finish.bytes([e, f, g, h]));
        let Rows { dst, step, len, rows } = to;
        // Two blocks make a register a row, one block makes two rows of a register.
        if BLOCKS == 2 {
            put(first, len, dst);
            if rows > 1 {
                put(second, len, dst.add(step));
            }
        } else {
            let halves = [first, vextq_s8(first, first, 8), second, vextq_s8(second, second, 8)];
            for (row, half) in halves.into_iter().enumerate().take(rows) {
                put(half, len, dst.add(row * step));
            }
        }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn vectorize<R>(f: impl FnOnce() -> R) -> R {
        f()
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
    ($sums:ident, $values:ident, $weights:ident; $($between:literal, $($operand:tt)+)?) => {{
        let [mut a, mut b, mut c, mut d] = *$sums;
        asm!(
            "smull {p:v}.8h, {values:v}.8b, {first:v}.8b",
            "smull2 {q:v}.8h, {values:v}.16b, {first:v}.16b",
            "smull {r:v}.8h, {values:v}.8b, {second:v}.8b",
            "smull2 {values:v}.8h, {values:v}.16b, {second:v}.16b",
            $($between,)?
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

#[inline(always)]
unsafe fn broadcast(quad: *const u8) -> int8x16_t {
    vreinterpretq_s8_s32(vld1q_dup_s32(quad.cast()))
}

/// Values are used as they are.
#[inline(always)]
unsafe fn copy(src: *const i8, len: usize, dst: *mut u8) {
    let mut at = 0;
    while at + 64 <= len {
        vst1q_s8_x4(dst.add(at).cast(), vld1q_s8_x4(src.add(at)));
        at += 64;
    }
    while at + 16 <= len {
        vst1q_s8(dst.add(at).cast(), vld1q_s8(src.add(at)));
        at += 16;
    }
    if at < len && at > 0 {
        // The last ones, some of them again.
        at = len - 16;
        vst1q_s8(dst.add(at).cast(), vld1q_s8(src.add(at)));
        return;
    }
    while at < len {
        dst.add(at).write(src.add(at).read() as u8);
        at += 1;
    }
}

/// Requantizes four registers and writes them: `4 / BLOCKS` rows, or one row of three or four.
#[inline(always)]
unsafe fn store<const BLOCKS: usize>(acc: [int32x4_t; 4], multiplier: *const u8, out: &Epilogue, to: Rows) {
    let rounded = each!(|i| {
        let block = if BLOCKS <= 2 {
            i % BLOCKS
        } else if i < BLOCKS {
            i
        } else {
            BLOCKS - 1
        };
        let multiplier = vld1q_f32(multiplier.add(block * 16).cast());
        vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(acc[i]), multiplier))
    });
    let bytes = Bounds::new(*out).bytes(rounded);
    let Rows { dst, step, len, rows } = to;
    if BLOCKS > 2 {
        put(bytes, len, dst);
    } else if BLOCKS == 2 {
        put(bytes, len, dst);
        if rows > 1 {
            put(vextq_s8(bytes, bytes, 8), len, dst.add(step));
        }
    } else {
        let rest = [bytes, vextq_s8(bytes, bytes, 4), vextq_s8(bytes, bytes, 8), vextq_s8(bytes, bytes, 12)];
        for (row, bytes) in rest.into_iter().enumerate().take(rows) {
            put(bytes, len, dst.add(row * step));
        }
    }
}

/// Zero point and bounds of the result.
#[derive(Clone, Copy)]
pub struct Bounds {
    zero_point: int16x8_t,
    min: int8x16_t,
    max: int8x16_t,
}

impl Bounds {
    #[inline(always)]
    pub unsafe fn new(Epilogue { zero_point, min, max, .. }: Epilogue) -> Bounds {
        Bounds { zero_point: vdupq_n_s16(zero_point.into()), min: vdupq_n_s8(min), max: vdupq_n_s8(max) }
    }

    /// 16 rounded values as i8. Every step on the way saturates.
    #[inline(always)]
    pub unsafe fn bytes(self, [a, b, c, d]: [int32x4_t; 4]) -> int8x16_t {
        let first = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(a), b), self.zero_point);
        let second = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(c), d), self.zero_point);
        let bytes = vqmovn_high_s16(vqmovn_s16(first), second);
        vminq_s8(vmaxq_s8(bytes, self.min), self.max)
    }
}

/// Writes the first `len` bytes.
#[inline(always)]
unsafe fn put(bytes: int8x16_t, len: usize, dst: *mut i8) {
    match len {
        16 => vst1q_s8(dst, bytes),
        12 => {
            vst1_s8(dst, vget_low_s8(bytes));
            dst.add(8).cast::<i32>().write_unaligned(vgetq_lane_s32(vreinterpretq_s32_s8(bytes), 2));
        }
        8 => vst1_s8(dst, vget_low_s8(bytes)),
        4 => dst.cast::<i32>().write_unaligned(vgetq_lane_s32(vreinterpretq_s32_s8(bytes), 0)),
        _ => {
            let mut values = [0_i8; 16];
            vst1q_s8(values.as_mut_ptr(), bytes);
            core::ptr::copy_nonoverlapping(values.as_ptr(), dst, len.min(16));
        }
    }
}
