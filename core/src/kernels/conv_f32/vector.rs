//! A vector of f32: AVX2 with FMA on x86-64, NEON on aarch64.
//!
//! # Safety
//! Every function needs a CPU with that instruction set, and pointers to [`LANES`] values.
#![allow(clippy::missing_safety_doc, unsafe_op_in_unsafe_fn)]

#[cfg(target_arch = "aarch64")]
pub use neon::*;
#[cfg(target_arch = "x86_64")]
pub use x86::*;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;

    pub type Vector = __m256;
    pub const LANES: usize = 8;

    #[inline(always)]
    pub unsafe fn load(from: *const f32) -> Vector {
        _mm256_loadu_ps(from)
    }

    #[inline(always)]
    pub unsafe fn store(to: *mut f32, values: Vector) {
        _mm256_storeu_ps(to, values);
    }

    #[inline(always)]
    pub unsafe fn splat(value: f32) -> Vector {
        _mm256_set1_ps(value)
    }

    #[inline(always)]
    pub unsafe fn fma(sum: Vector, a: Vector, b: Vector) -> Vector {
        _mm256_fmadd_ps(a, b, sum)
    }

    /// NaN stays NaN: the second operand is the one that passes through.
    #[inline(always)]
    pub unsafe fn limit(values: Vector, min: Vector, max: Vector) -> Vector {
        _mm256_min_ps(max, _mm256_max_ps(min, values))
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use core::arch::aarch64::*;

    pub type Vector = float32x4_t;
    pub const LANES: usize = 4;

    #[inline(always)]
    pub unsafe fn load(from: *const f32) -> Vector {
        vld1q_f32(from)
    }

    #[inline(always)]
    pub unsafe fn store(to: *mut f32, values: Vector) {
        vst1q_f32(to, values);
    }

    #[inline(always)]
    pub unsafe fn splat(value: f32) -> Vector {
        vdupq_n_f32(value)
    }

    #[inline(always)]
    pub unsafe fn fma(sum: Vector, a: Vector, b: Vector) -> Vector {
        vfmaq_f32(sum, a, b)
    }

    /// NaN stays NaN.
    #[inline(always)]
    pub unsafe fn limit(values: Vector, min: Vector, max: Vector) -> Vector {
        vminq_f32(vmaxq_f32(values, min), max)
    }
}
