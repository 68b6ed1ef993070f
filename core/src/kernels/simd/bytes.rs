//! aarch64: sums, maxima and dequantization of i8 values, sixteen at a time.

use core::arch::aarch64::*;

use crate::plan::AddS8;
use crate::shape::Requantize;

use super::neon::Bounds;
use super::ops::{Epilogue, each};

/// Values that are taken together.
pub const LANES: usize = 16;
/// So many values of 8 bits have a sum of 16.
pub const SHORT_SUM: usize = 255;

/// The largest of some values in each lane.
#[derive(Clone, Copy)]
pub struct Largest(int8x16_t);

impl Largest {
    #[inline(always)]
    pub fn none() -> Largest {
        // SAFETY: every aarch64 has NEON.
        Largest(unsafe { vdupq_n_s8(i8::MIN) })
    }

    #[inline(always)]
    pub fn or(self, values: &[i8; LANES]) -> Largest {
        // SAFETY: as above; there are 16 values.
        Largest(unsafe { vmaxq_s8(self.0, vld1q_s8(values.as_ptr())) })
    }

    #[inline(always)]
    pub fn put(self, to: &mut [i8; LANES]) {
        // SAFETY: as above.
        unsafe { vst1q_s8(to.as_mut_ptr(), self.0) };
    }
}

/// A sum of at most [`SHORT_SUM`] values in each lane.
#[derive(Clone, Copy)]
pub struct ShortSum([int16x8_t; 2]);

/// A sum in each lane.
#[derive(Clone, Copy)]
pub struct Sum([int32x4_t; 4]);

impl ShortSum {
    #[inline(always)]
    pub fn none() -> ShortSum {
        // SAFETY: every aarch64 has NEON.
        ShortSum(unsafe { [vdupq_n_s16(0); 2] })
    }

    #[inline(always)]
    pub fn and(self, values: &[i8; LANES]) -> ShortSum {
        let [low, high] = self.0;
        // SAFETY: as above; there are 16 values.
        unsafe {
            let values = vld1q_s8(values.as_ptr());
            ShortSum([vaddw_s8(low, vget_low_s8(values)), vaddw_high_s8(high, values)])
        }
    }
}

impl Sum {
    #[inline(always)]
    pub fn of(value: i32) -> Sum {
        // SAFETY: every aarch64 has NEON.
        Sum(unsafe { [vdupq_n_s32(value); 4] })
    }

    #[inline(always)]
    pub fn and(self, ShortSum([low, high]): ShortSum) -> Sum {
        let [a, b, c, d] = self.0;
        // SAFETY: as above.
        unsafe {
            let (a, b) = (vaddw_s16(a, vget_low_s16(low)), vaddw_high_s16(b, low));
            let (c, d) = (vaddw_s16(c, vget_low_s16(high)), vaddw_high_s16(d, high));
            Sum([a, b, c, d])
        }
    }

    #[inline(always)]
    pub fn put(self, multiplier: f32, out: &Requantize, to: &mut [i8; LANES]) {
        // SAFETY: as above.
        unsafe {
            let rounded = each!(|i| vcvtnq_s32_f32(vmulq_n_f32(vcvtq_f32_s32(self.0[i]), multiplier)));
            vst1q_s8(to.as_mut_ptr(), Bounds::new(Epilogue::from(out)).bytes(rounded));
        }
    }
}

/// `a += b` as [`AddS8`] has it, of as many values as both have in multiples of [`LANES`].
pub fn add(a: &mut [i8], b: &[i8], op: &AddS8) {
    // SAFETY: every aarch64 has NEON; there are 16 values in each array.
    unsafe {
        let bounds = Bounds::new(Epilogue::from(&op.requantize));
        let zero_points = [vdup_n_s8(op.a_zero_point), vdup_n_s8(op.b_zero_point)];
        for (a, b) in a.as_chunks_mut::<LANES>().0.iter_mut().zip(b.as_chunks::<LANES>().0) {
            let a_scaled = scaled(vld1q_s8(a.as_ptr()), zero_points[0], op.a_multiplier);
            let b_scaled = scaled(vld1q_s8(b.as_ptr()), zero_points[1], op.b_multiplier);
            let rounded = each!(|i| vcvtnq_s32_f32(vaddq_f32(a_scaled[i], b_scaled[i])));
            vst1q_s8(a.as_mut_ptr(), bounds.bytes(rounded));
        }
    }
}

/// `(x - zero_point) * scale`, of as many values as both have in multiples of [`LANES`].
pub fn dequantize(x: &[i8], y: &mut [f32], scale: f32, zero_point: i8) {
    // SAFETY: every aarch64 has NEON; there are 16 values in each array.
    unsafe {
        let zero_point = vdup_n_s8(zero_point);
        for (x, y) in x.as_chunks::<LANES>().0.iter().zip(y.as_chunks_mut::<LANES>().0) {
            let [a, b, c, d] = scaled(vld1q_s8(x.as_ptr()), zero_point, scale);
            vst1q_f32_x4(y.as_mut_ptr(), float32x4x4_t(a, b, c, d));
        }
    }
}

/// # Safety
/// The CPU has NEON.
#[inline(always)]
unsafe fn scaled(values: int8x16_t, zero_point: int8x8_t, multiplier: f32) -> [float32x4_t; 4] {
    // SAFETY: as the caller's.
    unsafe {
        let low = vsubl_s8(vget_low_s8(values), zero_point);
        let high = vsubl_high_s8(values, vcombine_s8(zero_point, zero_point));
        let wide =
            [vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low), vmovl_s16(vget_low_s16(high)), vmovl_high_s16(high)];
        each!(|i| vmulq_n_f32(vcvtq_f32_s32(wide[i]), multiplier))
    }
}
