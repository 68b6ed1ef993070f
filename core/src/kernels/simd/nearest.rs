//! From f32 to i8 by a multiplication, which costs a fraction of a division.

use crate::isa::Isa;
use crate::kernels::round::ToI8;

/// Three roundings of at most 2^-24 each, of a product that does not leave +-2^9.
const MARGIN: f32 = 1.0 / 8192.0;

/// `y = to_i8(x * inverse)`. Whether `x / scale` would round alike is certain unless a product is next to
/// a half: then the answer is `false`, and `y` is to be written again.
pub fn nearest(isa: Isa, x: &[f32], y: &mut [i8], inverse: f32, to_i8: ToI8) -> bool {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    if isa != Isa::Generic && isa.is_available() {
        #[cfg(target_arch = "x86_64")]
        use avx2 as vectors;
        #[cfg(target_arch = "aarch64")]
        use neon as vectors;

        let (whole, rest) = x.as_chunks::<32>();
        let (whole_y, rest_y) = y.as_chunks_mut::<32>();
        // SAFETY: every other instruction set includes AVX2 on x86-64 and NEON on aarch64, and this CPU has it.
        let mut certain = unsafe { vectors(whole, whole_y, inverse, to_i8) };
        if !rest.is_empty() {
            let (mut last, mut last_y) = ([0.0; 32], [0; 32]);
            last[..rest.len()].copy_from_slice(rest);
            // SAFETY: as above.
            certain &= unsafe { vectors(&[last], core::array::from_mut(&mut last_y), inverse, to_i8) };
            rest_y.iter_mut().zip(last_y).for_each(|(y, value)| *y = value);
        }
        return certain;
    }
    let _ = isa;
    let mut certain = true;
    for (y, x) in y.iter_mut().zip(x) {
        let (value, distance) = to_i8.apply_with_distance(x * inverse);
        *y = value;
        certain &= distance <= 0.5 - MARGIN;
    }
    certain
}

/// # Safety
/// The CPU has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2(x: &[[f32; 32]], y: &mut [[i8; 32]], inverse: f32, to_i8: ToI8) -> bool {
    use super::ops::each;
    use core::arch::x86_64::*;

    let (low, high, zero_point) = to_i8.bounds();
    let (low, high, inverse) = (_mm256_set1_ps(low), _mm256_set1_ps(high), _mm256_set1_ps(inverse));
    let zero_point = _mm256_set1_epi16(zero_point);
    let mut farthest = _mm256_setzero_ps();
    for (x, y) in x.iter().zip(y) {
        // SAFETY: 32 values are read and written.
        unsafe {
            // NaN becomes the second operand, the lower bound.
            let clamped: [__m256; 4] = each!(|i| {
                let product = _mm256_mul_ps(_mm256_loadu_ps(x.as_ptr().add(i * 8)), inverse);
                _mm256_min_ps(_mm256_max_ps(product, low), high)
            });
            let [a, b, c, d] = each!(|i| _mm256_cvtps_epi32(clamped[i]));
            for (value, integer) in clamped.into_iter().zip([a, b, c, d]) {
                let distance = _mm256_sub_ps(value, _mm256_cvtepi32_ps(integer));
                farthest = _mm256_max_ps(farthest, _mm256_andnot_ps(_mm256_set1_ps(-0.0), distance));
            }
            let first = _mm256_add_epi16(_mm256_packs_epi32(a, b), zero_point);
            let second = _mm256_add_epi16(_mm256_packs_epi32(c, d), zero_point);
            // Packs work within 128 bits: the permutation brings the values back into order.
            let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            let bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(first, second), order);
            _mm256_storeu_si256(y.as_mut_ptr().cast(), bytes);
        }
    }
    let uncertain = _mm256_cmp_ps(farthest, _mm256_set1_ps(0.5 - MARGIN), _CMP_GT_OQ);
    _mm256_movemask_ps(uncertain) == 0
}

/// Nothing is clamped before it is rounded: what saturates then is certain, and what no i32 holds is far from all of them.
/// Nor is a NaN near any.
///
/// # Safety
/// The CPU has NEON.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
unsafe fn neon(x: &[[f32; 32]], y: &mut [[i8; 32]], inverse: f32, to_i8: ToI8) -> bool {
    use super::neon::Bounds;
    use super::ops::{Epilogue, each};
    use core::arch::aarch64::*;

    let mut farthest = vdupq_n_f32(0.0);
    // SAFETY: 16 values are read and written; the CPU has NEON.
    unsafe {
        let bounds = Bounds::new(Epilogue::from(&to_i8.requantize()));
        for (x, y) in x.as_flattened().as_chunks::<16>().0.iter().zip(y.as_flattened_mut().as_chunks_mut::<16>().0) {
            let products: [float32x4_t; 4] = each!(|i| vmulq_n_f32(vld1q_f32(x.as_ptr().add(i * 4)), inverse));
            let rounded: [int32x4_t; 4] = each!(|i| vcvtnq_s32_f32(products[i]));
            for i in 0..4 {
                farthest = vmaxq_f32(farthest, vabdq_f32(products[i], vcvtq_f32_s32(rounded[i])));
            }
            vst1q_s8(y.as_mut_ptr(), bounds.bytes(rounded));
        }
    }
    vmaxvq_f32(farthest) <= 0.5 - MARGIN
}
