//! f32 by `fmla`, for depthwise convolution.
// Every function here is nothing but unsafe operations, all under the contract of `Floats`.
#![allow(unsafe_op_in_unsafe_fn)]

use core::arch::aarch64::*;

use super::super::floats::Floats;
use super::super::ops::{Epilogue, Rows, each};
use super::{Bounds, put};

/// `fmla`.
pub struct Fmla;

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
