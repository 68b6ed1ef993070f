//! aarch64: 4 lanes, quads of i8. Every such CPU has NEON; later ones have a dot product, then a product of matrices.
//!
//! - `smull`: products of bytes in i16, on every CPU
//! - `dotprod`: dot products of four bytes
//! - `i8mm`: products of matrices of two by eight bytes
//! - `fmla`: f32, for depthwise convolution
//!
//! What they share is here: how values are read, rounded and written.
// Every function here is nothing but unsafe operations, all under the contract of `Simd`.
#![allow(unsafe_op_in_unsafe_fn)]

mod dotprod;
mod fmla;
mod i8mm;
mod smull;

use core::arch::aarch64::*;

use super::ops::{Epilogue, Rows, each};

pub use dotprod::Dotprod;
pub use fmla::Fmla;
pub use i8mm::I8mm;
pub use smull::Neon;

/// Reads a quad into every lane.
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
