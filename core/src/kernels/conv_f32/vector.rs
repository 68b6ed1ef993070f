//! Vectors of f32: AVX2 with FMA and AVX-512 on x86-64, NEON on aarch64.

use core::ops::Range;

#[cfg(target_arch = "aarch64")]
pub use core::arch::aarch64::float32x4_t as Narrow;
#[cfg(target_arch = "x86_64")]
pub use core::arch::x86_64::{__m256 as Narrow, __m512 as Wide};

/// A vector of f32.
///
/// # Safety
/// Every method needs a CPU with the instruction set, and pointers to [`LANES`](Vector::LANES) values.
#[allow(clippy::missing_safety_doc)]
pub trait Vector: Copy {
    const LANES: usize;

    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn splat(value: f32) -> Self;
    /// `self + a * b`, rounded once.
    unsafe fn fma(self, a: Self, b: Self) -> Self;
    /// `self + a * from[LANE]`, rounded once.
    #[cfg(target_arch = "aarch64")]
    unsafe fn fma_lane<const LANE: i32>(self, a: Self, from: Self) -> Self;
    /// NaN stays NaN.
    unsafe fn limit(self, min: Self, max: Self) -> Self;

    /// Reads values in `range`, which are fewer than there are lanes; what the others hold leads to nothing.
    #[inline(always)]
    unsafe fn load_few(values: &[f32], range: Range<usize>) -> Self {
        let at = range.start;
        if values.len() - at >= Self::LANES {
            // SAFETY: as many as a vector has.
            return unsafe { Self::load(values.as_ptr().add(at)) };
        }
        // SAFETY: no vector has more lanes.
        unsafe { Self::load(few(values, at).as_ptr()) }
    }

    /// Writes to a slice that has fewer values than there are lanes.
    #[inline(always)]
    unsafe fn store_few(self, to: &mut [f32]) {
        let mut all = [0.0; MOST];
        // SAFETY: no vector has more lanes.
        unsafe { self.store(all.as_mut_ptr()) };
        copy_few(to, &all);
    }

    /// Calls `f` in a function compiled for the instruction set: all under it is to be inlined.
    unsafe fn vectorize<R>(f: impl FnOnce() -> R) -> R;
}

/// Lanes that vectors without masks have at most.
pub const MOST: usize = 8;

/// The values from `at` on, which are fewer than a vector has, and zeros.
#[cold]
fn few(values: &[f32], at: usize) -> [f32; MOST] {
    core::array::from_fn(|lane| values.get(at + lane).copied().unwrap_or_default())
}

/// Apart, since it is wanted by many tiles and seldom.
#[inline(never)]
fn copy_few(to: &mut [f32], values: &[f32; MOST]) {
    to.copy_from_slice(&values[..to.len()]);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    #![allow(unsafe_op_in_unsafe_fn)]

    use core::arch::x86_64::*;
    use core::ops::Range;

    use super::Vector;

    impl Vector for __m256 {
        const LANES: usize = 8;

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            _mm256_loadu_ps(from)
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            _mm256_storeu_ps(to, self);
        }

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            _mm256_set1_ps(value)
        }

        #[inline(always)]
        unsafe fn fma(self, a: Self, b: Self) -> Self {
            _mm256_fmadd_ps(a, b, self)
        }

        /// The second operand is the one that passes through.
        #[inline(always)]
        unsafe fn limit(self, min: Self, max: Self) -> Self {
            _mm256_min_ps(max, _mm256_max_ps(min, self))
        }

        #[inline]
        #[target_feature(enable = "avx2,fma")]
        unsafe fn vectorize<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
    }

    impl Vector for __m512 {
        const LANES: usize = 16;

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            _mm512_loadu_ps(from)
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            _mm512_storeu_ps(to, self);
        }

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            _mm512_set1_ps(value)
        }

        #[inline(always)]
        unsafe fn fma(self, a: Self, b: Self) -> Self {
            _mm512_fmadd_ps(a, b, self)
        }

        /// As of AVX2.
        #[inline(always)]
        unsafe fn limit(self, min: Self, max: Self) -> Self {
            _mm512_min_ps(max, _mm512_max_ps(min, self))
        }

        #[inline(always)]
        unsafe fn load_few(values: &[f32], range: Range<usize>) -> Self {
            debug_assert!(range.end <= values.len());
            _mm512_maskz_loadu_ps(mask(range.len()), values.as_ptr().add(range.start))
        }

        #[inline(always)]
        unsafe fn store_few(self, to: &mut [f32]) {
            _mm512_mask_storeu_ps(to.as_mut_ptr(), mask(to.len()), self);
        }

        #[inline]
        #[target_feature(enable = "avx512f")]
        unsafe fn vectorize<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
    }

    /// The first `count` lanes of 16.
    #[inline(always)]
    fn mask(count: usize) -> __mmask16 {
        ((1_u32 << count) - 1) as __mmask16
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    #![allow(unsafe_op_in_unsafe_fn)]

    use core::arch::aarch64::*;

    use super::Vector;

    impl Vector for float32x4_t {
        const LANES: usize = 4;

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            vld1q_f32(from)
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            vst1q_f32(to, self);
        }

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            vdupq_n_f32(value)
        }

        #[inline(always)]
        unsafe fn fma(self, a: Self, b: Self) -> Self {
            vfmaq_f32(self, a, b)
        }

        #[inline(always)]
        unsafe fn fma_lane<const LANE: i32>(self, a: Self, from: Self) -> Self {
            vfmaq_laneq_f32::<LANE>(self, a, from)
        }

        #[inline(always)]
        unsafe fn limit(self, min: Self, max: Self) -> Self {
            vminq_f32(vmaxq_f32(self, min), max)
        }

        /// All CPUs have it.
        #[inline(always)]
        unsafe fn vectorize<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
    }
}
