//! AVX2: 8 lanes, quads of i16, exact products through `vpmaddwd`.
// Every function here is nothing but unsafe operations, all under the contract of `Simd`.
#![allow(unsafe_op_in_unsafe_fn)]

use core::arch::x86_64::*;

use super::Layout;
use super::ops::{Epilogue, Rows, Simd};

pub struct Avx2;

impl Simd for Avx2 {
    type Vec = __m256i;
    const LAYOUT: Layout = Layout { lanes: 8, taps: 2, blocks: 2, offset: 0 };

    #[inline(always)]
    unsafe fn broadcast(quad: *const u8) -> __m256i {
        _mm256_set1_epi32(quad.cast::<i32>().read_unaligned())
    }

    #[inline(always)]
    unsafe fn load(lanes: *const u8) -> __m256i {
        _mm256_loadu_si256(lanes.cast())
    }

    #[inline(always)]
    unsafe fn load_weights(weights: *const u8) -> __m256i {
        _mm256_cvtepi8_epi16(_mm_loadu_si128(weights.cast()))
    }

    #[inline(always)]
    unsafe fn add(a: __m256i, b: __m256i) -> __m256i {
        _mm256_add_epi32(a, b)
    }

    #[inline(always)]
    unsafe fn zero() -> __m256i {
        _mm256_setzero_si256()
    }

    #[inline(always)]
    unsafe fn dot(acc: __m256i, values: __m256i, weights: __m256i) -> __m256i {
        _mm256_add_epi32(acc, _mm256_madd_epi16(values, weights))
    }

    #[inline(always)]
    unsafe fn store<const BLOCKS: usize>(acc: [__m256i; 4], multiplier: *const u8, out: &Epilogue, to: Rows) {
        let high = _mm256_set1_ps(out.high);
        let zero_point = _mm256_set1_epi16(out.zero_point.into());
        let [a, b, c, d] = [
            round(acc[0], multiplier, high),
            round(acc[1], multiplier.add(1 % BLOCKS * 32), high),
            round(acc[2], multiplier, high),
            round(acc[3], multiplier.add(1 % BLOCKS * 32), high),
        ];
        let first = _mm256_adds_epi16(_mm256_packs_epi32(a, b), zero_point);
        let second = _mm256_adds_epi16(_mm256_packs_epi32(c, d), zero_point);
        let bytes = _mm256_max_epi8(_mm256_packs_epi16(first, second), _mm256_set1_epi8(out.min));
        // Packs work within 128 bits: the permutation brings the columns of a register together.
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        let bytes = _mm256_permutevar8x32_epi32(bytes, order);
        let (low, high) = (_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
        let Rows { dst, step, len, rows } = to;
        store_partial(low, dst, len);
        if BLOCKS == 2 && rows > 1 {
            store_partial(high, dst.add(step), len);
        }
        if BLOCKS == 1 && rows > 1 {
            store_partial(_mm_srli_si128(low, 8), dst.add(step), len);
        }
        if BLOCKS == 1 && rows > 2 {
            store_partial(high, dst.add(step * 2), len);
        }
        if BLOCKS == 1 && rows > 3 {
            store_partial(_mm_srli_si128(high, 8), dst.add(step * 3), len);
        }
    }

    #[inline(always)]
    unsafe fn widen(src: *const i8, len: usize, dst: *mut u8) {
        let mut at = 0;
        while at + 16 <= len {
            let values = _mm256_cvtepi8_epi16(_mm_loadu_si128(src.add(at).cast()));
            _mm256_storeu_si256(dst.add(at * 2).cast(), values);
            at += 16;
        }
        if at < len {
            let values = _mm256_cvtepi8_epi16(load_partial(src.add(at), len - at));
            _mm256_storeu_si256(dst.add(at * 2).cast(), values);
        }
    }

    #[inline(always)]
    unsafe fn interleave(rows: &[*const i8; 4], len: usize, dst: *mut u8) {
        let whole = len / 8 * 8;
        for at in (0..whole).step_by(8) {
            let (a, b) = (_mm_loadl_epi64(rows[0].add(at).cast()), _mm_loadl_epi64(rows[1].add(at).cast()));
            _mm256_storeu_si256(dst.add(at * 4).cast(), quads(a, b));
        }
        if whole < len {
            let (a, b) = (load_partial(rows[0].add(whole), len - whole), load_partial(rows[1].add(whole), len - whole));
            let mut rest = [0_u8; 32];
            _mm256_storeu_si256(rest.as_mut_ptr().cast(), quads(a, b));
            core::ptr::copy_nonoverlapping(rest.as_ptr(), dst.add(whole * 4), (len - whole) * 4);
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn vectorize<R>(f: impl FnOnce() -> R) -> R {
        f()
    }
}

/// The 8 quads of two times 8 values.
#[inline(always)]
unsafe fn quads(a: __m128i, b: __m128i) -> __m256i {
    let (a, b) = (_mm256_cvtepi8_epi32(a), _mm256_slli_epi32(_mm256_cvtepi8_epi32(b), 16));
    _mm256_blend_epi16(a, b, 0xAA)
}

/// Reads `len` values, 1 to 16 of them; the rest is 0.
#[inline(always)]
pub(super) unsafe fn load_up_to_16(src: *const i8, len: usize) -> __m128i {
    if len < 16 { load_partial(src, len) } else { _mm_loadu_si128(src.cast()) }
}

/// An accumulator times its multiplier, to the nearest integer, ties to even. There is no lower
/// bound yet: what is below i32 saturates in the packs that follow and meets the minimum there.
#[inline(always)]
unsafe fn round(acc: __m256i, multiplier: *const u8, high: __m256) -> __m256i {
    let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(acc), _mm256_loadu_ps(multiplier.cast()));
    _mm256_cvtps_epi32(_mm256_min_ps(scaled, high))
}

/// Reads `len` values, 1 to 15 of them; the rest is 0.
#[inline(always)]
unsafe fn load_partial(src: *const i8, len: usize) -> __m128i {
    // Two reads that overlap cover any length between theirs and twice that.
    macro_rules! overlapping {
        ($word:ty) => {{
            let rest = len - size_of::<$word>();
            let (low, high) = (src.cast::<$word>(), src.add(rest).cast::<$word>());
            u128::from(low.read_unaligned()) | u128::from(high.read_unaligned()) << (rest * 8)
        }};
    }
    let value = match len {
        8.. => overlapping!(u64),
        4..8 => overlapping!(u32),
        2..4 => overlapping!(u16),
        _ => overlapping!(u8),
    };
    _mm_set_epi64x((value >> 64) as i64, value as i64)
}

/// Writes the first `len` bytes.
#[inline(always)]
unsafe fn store_partial(bytes: __m128i, dst: *mut i8, len: usize) {
    match len {
        16.. => _mm_storeu_si128(dst.cast(), bytes),
        8 => _mm_storel_epi64(dst.cast(), bytes),
        _ => {
            let mut values = [0_i8; 16];
            _mm_storeu_si128(values.as_mut_ptr().cast(), bytes);
            for (i, value) in values.into_iter().enumerate().take(len) {
                *dst.add(i) = value;
            }
        }
    }
}
