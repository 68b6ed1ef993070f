//! armv7 with NEON: 8 lanes, pairs of i16.
//!
//! Of 32-bit NEON nothing is stable in Rust, neither its intrinsics nor functions that are compiled for it; and programs for
//! armv7 are not compiled for it as a whole, since there are such CPUs without. So vectors are no values here: what works
//! on them is blocks of assembly, which are given pointers. Accumulators are arrays, and in registers for as long as a block
//! goes: all products of a segment.
//!
//! A Cortex-A7 issues in order: what one instruction writes, the next few do not read.
// Every function here is nothing but unsafe operations, all under the contract of `Simd`.
#![allow(unsafe_op_in_unsafe_fn)]

use super::Layout;
use super::floats::Floats;
use super::ops::{Epilogue, Rows, Simd, each};

/// `vmlal.s16` by one value of a pair.
pub struct Neon32;

/// `vmla.f32`, for depthwise convolution. It rounds products and sums, which are integers that f32 holds.
pub struct Vmla;

/// Assembly that may write to every register of NEON. The directive holds for these lines alone.
macro_rules! neon {
    ($($line:expr),+; $($operand:tt)+) => {
        ::core::arch::asm!(
            ".fpu neon",
            $($line,)+
            $($operand)+,
            out("d0") _, out("d1") _, out("d2") _, out("d3") _, out("d4") _, out("d5") _, out("d6") _, out("d7") _,
            out("d8") _, out("d9") _, out("d10") _, out("d11") _, out("d12") _, out("d13") _, out("d14") _, out("d15") _,
            out("d16") _, out("d17") _, out("d18") _, out("d19") _, out("d20") _, out("d21") _, out("d22") _, out("d23") _,
            out("d24") _, out("d25") _, out("d26") _, out("d27") _, out("d28") _, out("d29") _, out("d30") _, out("d31") _,
            options(nostack),
        )
    };
}

pub(crate) use neon;

/// The products of some rows: for each its window, the register of its values and the two of its sums.
///
/// Two quads are four values of a row and 4 x 8 weights. `vld2` parts the taps of quads: of the first they are in `d4` and
/// `d6`, of the second in `d5` and `d7`.
macro_rules! products {
    ($acc:expr, $weights:expr, $quads:expr; $last:literal;
     $($window:ident = $at:expr, $values:literal, $low:literal, $high:literal;)+) => {
        neon!(
            concat!("vldm {acc}, {{d16-", $last, "}}"),
            "subs {quads}, {quads}, #2",
            "blt 3f",
            "2:",
            "vld2.8 {{d4-d7}}, [{weights}]!",
            $(concat!("vld1.16 {{", $values, "}}, [{", stringify!($window), "}]!"),)+
            "vmovl.s8 q4, d4",
            "vmovl.s8 q5, d6",
            "vmovl.s8 q6, d5",
            "vmovl.s8 q7, d7",
            $(concat!("vmlal.s16 ", $low, ", d8, ", $values, "[0]"),
            concat!("vmlal.s16 ", $high, ", d9, ", $values, "[0]"),)+
            $(concat!("vmlal.s16 ", $low, ", d10, ", $values, "[1]"),
            concat!("vmlal.s16 ", $high, ", d11, ", $values, "[1]"),)+
            $(concat!("vmlal.s16 ", $low, ", d12, ", $values, "[2]"),
            concat!("vmlal.s16 ", $high, ", d13, ", $values, "[2]"),)+
            $(concat!("vmlal.s16 ", $low, ", d14, ", $values, "[3]"),
            concat!("vmlal.s16 ", $high, ", d15, ", $values, "[3]"),)+
            "subs {quads}, {quads}, #2",
            "bge 2b",
            "3:",
            // One quad may be left.
            "tst {quads}, #1",
            "beq 4f",
            "vld2.8 {{d4-d5}}, [{weights}]",
            $(concat!("vld1.32 {{", $values, "[]}}, [{", stringify!($window), "}]"),)+
            "vmovl.s8 q4, d4",
            "vmovl.s8 q5, d5",
            $(concat!("vmlal.s16 ", $low, ", d8, ", $values, "[0]"),
            concat!("vmlal.s16 ", $high, ", d9, ", $values, "[0]"),)+
            $(concat!("vmlal.s16 ", $low, ", d10, ", $values, "[1]"),
            concat!("vmlal.s16 ", $high, ", d11, ", $values, "[1]"),)+
            "4:",
            concat!("vstm {acc}, {{d16-", $last, "}}");
            acc = in(reg) $acc,
            weights = inout(reg) $weights => _,
            quads = inout(reg) $quads => _,
            $($window = inout(reg) $at => _),+
        )
    };
}

/// Scales, rounds and bounds four accumulators, which are f32 after the first lines: by the multipliers at `a` those with
/// even numbers, by those at `b` the others.
///
/// Clamping before rounding agrees with clamping after it, the bounds being integers. Then 1.5 * 2^23 is added, which
/// leaves no bits below the unit: it rounds half to even, and the integer is in the low bits.
macro_rules! requantize {
    ($($convert:literal),*; $acc:expr, $a:expr, $b:expr, $out:expr, $dst:expr) => {
        neon!(
            "vldm {acc}, {{d0-d15}}",
            "vld1.32 {{d16-d19}}, [{a}]",
            "vld1.32 {{d28-d31}}, [{b}]",
            "vdup.32 q10, {low}",
            "vdup.32 q11, {high}",
            "vdup.32 q12, {magic}",
            "vdup.8 q13, {zero_point}",
            $($convert,)*
            "vmul.f32 q0, q0, q8", "vmul.f32 q1, q1, q9", "vmul.f32 q2, q2, q14", "vmul.f32 q3, q3, q15",
            "vmul.f32 q4, q4, q8", "vmul.f32 q5, q5, q9", "vmul.f32 q6, q6, q14", "vmul.f32 q7, q7, q15",
            "vmax.f32 q0, q0, q10", "vmax.f32 q1, q1, q10", "vmax.f32 q2, q2, q10", "vmax.f32 q3, q3, q10",
            "vmax.f32 q4, q4, q10", "vmax.f32 q5, q5, q10", "vmax.f32 q6, q6, q10", "vmax.f32 q7, q7, q10",
            "vmin.f32 q0, q0, q11", "vmin.f32 q1, q1, q11", "vmin.f32 q2, q2, q11", "vmin.f32 q3, q3, q11",
            "vmin.f32 q4, q4, q11", "vmin.f32 q5, q5, q11", "vmin.f32 q6, q6, q11", "vmin.f32 q7, q7, q11",
            "vadd.f32 q0, q0, q12", "vadd.f32 q1, q1, q12", "vadd.f32 q2, q2, q12", "vadd.f32 q3, q3, q12",
            "vadd.f32 q4, q4, q12", "vadd.f32 q5, q5, q12", "vadd.f32 q6, q6, q12", "vadd.f32 q7, q7, q12",
            "vmovn.i32 d0, q0", "vmovn.i32 d1, q1", "vmovn.i32 d2, q2", "vmovn.i32 d3, q3",
            "vmovn.i32 d4, q4", "vmovn.i32 d5, q5", "vmovn.i32 d6, q6", "vmovn.i32 d7, q7",
            "vmovn.i16 d0, q0", "vmovn.i16 d1, q1", "vmovn.i16 d2, q2", "vmovn.i16 d3, q3",
            "vadd.i8 q0, q0, q13", "vadd.i8 q1, q1, q13",
            "vst1.8 {{d0-d3}}, [{dst}]";
            acc = in(reg) $acc,
            a = in(reg) $a,
            b = in(reg) $b,
            low = in(reg) (f32::from($out.min) - f32::from($out.zero_point)).to_bits(),
            high = in(reg) $out.high.to_bits(),
            magic = in(reg) 12_582_912_f32.to_bits(),
            zero_point = in(reg) i32::from($out.zero_point),
            dst = in(reg) $dst
        )
    };
}
impl Simd for Neon32 {
    type Acc = [i32; 8];
    type Quads = [[i16; 2]; 8];
    const LAYOUT: Layout = Layout::NEON32;

    #[inline(always)]
    unsafe fn broadcast(quad: *const u8) -> [[i16; 2]; 8] {
        [quad.cast::<[i16; 2]>().read_unaligned(); 8]
    }

    #[inline(always)]
    unsafe fn load(lanes: *const u8) -> [i32; 8] {
        lanes.cast::<[i32; 8]>().read_unaligned()
    }

    #[inline(always)]
    unsafe fn load_weights(weights: *const u8) -> [[i16; 2]; 8] {
        weights.cast::<[[i8; 2]; 8]>().read().map(|pair| pair.map(i16::from))
    }

    #[inline(always)]
    unsafe fn add(a: [i32; 8], b: [i32; 8]) -> [i32; 8] {
        each!(|lane| a[lane].wrapping_add(b[lane]))
    }

    #[inline(always)]
    unsafe fn zero() -> [i32; 8] {
        [0; 8]
    }

    /// No loop here takes them one by one.
    #[inline(always)]
    unsafe fn dot(acc: [i32; 8], values: [[i16; 2]; 8], weights: [[i16; 2]; 8]) -> [i32; 8] {
        let product = |lane: usize, tap: usize| i32::from(values[lane][tap]) * i32::from(weights[lane][tap]);
        each!(|lane| acc[lane].wrapping_add(product(lane, 0)).wrapping_add(product(lane, 1)))
    }

    #[inline(always)]
    unsafe fn products<const ROWS: usize, const BLOCKS: usize>(
        acc: &mut [[[i32; 8]; BLOCKS]; ROWS],
        windows: [*const u8; ROWS],
        segment: usize,
        weights: *const u8,
        quads: usize,
        _pairs: usize,
    ) {
        debug_assert_eq!(BLOCKS, Self::LAYOUT.blocks);
        let mut first = 0;
        while first < ROWS {
            let acc = acc.as_mut_ptr().add(first);
            let window = |row: usize| windows[first + row].add(segment);
            match ROWS - first {
                1 => products!(acc, weights, quads; "d19"; a = window(0), "d0", "q8", "q9";),
                2 => products!(
                    acc, weights, quads; "d23";
                    a = window(0), "d0", "q8", "q9";
                    b = window(1), "d1", "q10", "q11";
                ),
                3 => products!(
                    acc, weights, quads; "d27";
                    a = window(0), "d0", "q8", "q9";
                    b = window(1), "d1", "q10", "q11";
                    c = window(2), "d2", "q12", "q13";
                ),
                _ => products!(
                    acc, weights, quads; "d31";
                    a = window(0), "d0", "q8", "q9";
                    b = window(1), "d1", "q10", "q11";
                    c = window(2), "d2", "q12", "q13";
                    d = window(3), "d3", "q14", "q15";
                ),
            }
            first += 4;
        }
    }

    #[inline(always)]
    unsafe fn row<const BLOCKS: usize>(
        acc: &mut [[i32; 8]; BLOCKS],
        values: *const u8,
        weights: *const u8,
        quads: usize,
    ) {
        Self::products(core::array::from_mut(acc), [values], 0, weights, quads, 0);
    }

    #[inline(always)]
    unsafe fn store<const BLOCKS: usize>(acc: [[i32; 8]; 4], multiplier: *const u8, out: &Epilogue, to: Rows) {
        let mut bytes = [0; 32];
        requantize!(
            "vcvt.f32.s32 q0, q0", "vcvt.f32.s32 q1, q1", "vcvt.f32.s32 q2, q2", "vcvt.f32.s32 q3, q3",
            "vcvt.f32.s32 q4, q4", "vcvt.f32.s32 q5, q5", "vcvt.f32.s32 q6, q6", "vcvt.f32.s32 q7, q7";
            acc.as_ptr(), multiplier, multiplier, out, bytes.as_mut_ptr()
        );
        put::<8>(&bytes, to);
    }

    #[inline(always)]
    unsafe fn widen(src: *const i8, len: usize, dst: *mut u8) {
        if len < 8 {
            for i in 0..len {
                dst.cast::<i16>().add(i).write(src.add(i).read().into());
            }
            return;
        }
        let eights = len / 8;
        neon!(
            "2:",
            "vld1.8 {{d0}}, [{src}]!",
            "vmovl.s8 q0, d0",
            "subs {eights}, {eights}, #1",
            "vst1.16 {{d0-d1}}, [{dst}]!",
            "bne 2b",
            // The last eight once more, with those behind them.
            "vld1.8 {{d0}}, [{last}]",
            "vmovl.s8 q0, d0",
            "vst1.16 {{d0-d1}}, [{last_dst}]";
            src = inout(reg) src => _,
            dst = inout(reg) dst => _,
            eights = inout(reg) eights => _,
            last = in(reg) src.add(len - 8),
            last_dst = in(reg) dst.add((len - 8) * 2)
        );
    }

    #[inline(always)]
    unsafe fn vectorize<R>(f: impl FnOnce() -> R) -> R {
        f()
    }
}

/// The products of some registers: for each where its values are, the registers of these and of its weights, and its sums.
macro_rules! float_products {
    ($acc:expr, $weights:expr, $cols:expr, $step:expr; $last:literal; $($load:literal),+;
     $($window:ident = $at:expr, $values:literal, $a:literal, $b:literal, $wa:literal, $wb:literal, $low:literal, $high:literal;)+) => {
        neon!(
            concat!("vldm {acc}, {{d16-", $last, "}}"),
            "2:",
            $(concat!("vld1.32 {{", $load, "}}, [{weights}]!"),)+
            $(concat!("vld1.32 {{", $values, "}}, [{", stringify!($window), "}], {step}"),
            concat!("vmla.f32 ", $low, ", ", $a, ", ", $wa),
            concat!("vmla.f32 ", $high, ", ", $b, ", ", $wb),)+
            "subs {cols}, {cols}, #1",
            "bne 2b",
            concat!("vstm {acc}, {{d16-", $last, "}}");
            acc = in(reg) $acc,
            weights = inout(reg) $weights => _,
            cols = inout(reg) $cols => _,
            step = in(reg) $step,
            $($window = inout(reg) $at => _),+
        )
    };
}

impl Floats for Vmla {
    type Vec = [f32; 8];
    type Finish = Epilogue;

    #[inline(always)]
    unsafe fn load(values: *const u8) -> [f32; 8] {
        values.cast::<[f32; 8]>().read_unaligned()
    }

    #[inline(always)]
    unsafe fn put(values: [f32; 8], dst: *mut u8) {
        dst.cast::<[f32; 8]>().write_unaligned(values);
    }

    #[inline(always)]
    unsafe fn convert(src: *const i8, dst: *mut u8) {
        neon!(
            "vld1.8 {{d0}}, [{src}]",
            "vmovl.s8 q0, d0",
            "vmovl.s16 q1, d0",
            "vmovl.s16 q2, d1",
            "vcvt.f32.s32 q1, q1",
            "vcvt.f32.s32 q2, q2",
            "vst1.32 {{d2-d5}}, [{dst}]";
            src = in(reg) src,
            dst = in(reg) dst
        );
    }

    /// No loop here takes them one by one.
    #[inline(always)]
    unsafe fn fma(acc: [f32; 8], a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        each!(|lane| acc[lane] + a[lane] * b[lane])
    }

    #[inline(always)]
    unsafe fn products<const P: usize, const BLOCKS: usize>(
        acc: &mut [[[f32; 8]; BLOCKS]; P],
        windows: [*const u8; P],
        weights: *const u8,
        cols: usize,
        step: usize,
    ) {
        let acc = acc.as_flattened_mut();
        let mut first = 0;
        while first < P * BLOCKS {
            let window = |i: usize| windows[(first + i) / BLOCKS].add((first + i) % BLOCKS * 32);
            let sums = acc.as_mut_ptr().add(first);
            match (P * BLOCKS - first, BLOCKS) {
                (1, _) => {
                    float_products!(
                        sums, weights, cols, step; "d19"; "d0-d3";
                        a = window(0), "d8-d11", "q4", "q5", "q0", "q1", "q8", "q9";
                    );
                    first += 1;
                }
                (2 | 3, 1) => {
                    float_products!(
                        sums, weights, cols, step; "d23"; "d0-d3";
                        a = window(0), "d8-d11", "q4", "q5", "q0", "q1", "q8", "q9";
                        b = window(1), "d12-d15", "q6", "q7", "q0", "q1", "q10", "q11";
                    );
                    first += 2;
                }
                (2 | 3, _) => {
                    float_products!(
                        sums, weights, cols, step; "d23"; "d0-d3", "d4-d7";
                        a = window(0), "d8-d11", "q4", "q5", "q0", "q1", "q8", "q9";
                        b = window(1), "d12-d15", "q6", "q7", "q2", "q3", "q10", "q11";
                    );
                    first += 2;
                }
                (_, 1) => {
                    float_products!(
                        sums, weights, cols, step; "d31"; "d0-d3";
                        a = window(0), "d8-d11", "q4", "q5", "q0", "q1", "q8", "q9";
                        b = window(1), "d12-d15", "q6", "q7", "q0", "q1", "q10", "q11";
                        c = window(2), "d8-d11", "q4", "q5", "q0", "q1", "q12", "q13";
                        d = window(3), "d12-d15", "q6", "q7", "q0", "q1", "q14", "q15";
                    );
                    first += 4;
                }
                (_, _) => {
                    float_products!(
                        sums, weights, cols, step; "d31"; "d0-d3", "d4-d7";
                        a = window(0), "d8-d11", "q4", "q5", "q0", "q1", "q8", "q9";
                        b = window(1), "d12-d15", "q6", "q7", "q2", "q3", "q10", "q11";
                        c = window(2), "d8-d11", "q4", "q5", "q0", "q1", "q12", "q13";
                        d = window(3), "d12-d15", "q6", "q7", "q2", "q3", "q14", "q15";
                    );
                    first += 4;
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn add_integers(acc: [f32; 8], integers: *const u8) -> [f32; 8] {
        let integers = Neon32::load(integers);
        each!(|lane| (acc[lane] as i32).wrapping_add(integers[lane]) as f32)
    }

    #[inline(always)]
    unsafe fn finish(out: &Epilogue) -> Epilogue {
        *out
    }

    #[inline(always)]
    unsafe fn store<const BLOCKS: usize>(acc: [[f32; 8]; 4], multiplier: [[f32; 8]; BLOCKS], out: Epilogue, to: Rows) {
        let mut bytes = [0; 32];
        let last: *const [f32; 8] = &multiplier[BLOCKS - 1];
        requantize!(; acc.as_ptr(), multiplier.as_ptr(), last, &out, bytes.as_mut_ptr());
        if BLOCKS == 2 { put::<16>(&bytes, to) } else { put::<8>(&bytes, to) }
    }

    #[inline(always)]
    unsafe fn vectorize<R>(f: impl FnOnce() -> R) -> R {
        f()
    }
}

/// Writes rows of `N` bytes as far as they go.
#[inline(always)]
unsafe fn put<const N: usize>(bytes: &[i8; 32], Rows { dst, step, len, rows }: Rows) {
    for (row, bytes) in bytes.chunks_exact(N).enumerate().take(rows) {
        let dst = dst.add(row * step);
        if len >= N {
            dst.copy_from_nonoverlapping(bytes.as_ptr(), N);
        } else {
            dst.copy_from_nonoverlapping(bytes.as_ptr(), len);
        }
    }
}
