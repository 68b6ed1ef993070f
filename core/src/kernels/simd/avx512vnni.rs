//! AVX512-VNNI: 16 lanes, quads of u8, `vpdpbusd`. Needs AVX512F, BW, VL and VNNI.
// Every function here is nothing but unsafe operations, all under the contract of `Simd`.
#![allow(unsafe_op_in_unsafe_fn)]

use core::arch::x86_64::*;

use super::Layout;
use super::ops::{Epilogue, Interleave, Rows, Simd, each};

pub struct Avx512Vnni;

impl Simd for Avx512Vnni {
    type Acc = __m512i;
    type Quads = __m512i;
    const LAYOUT: Layout = Layout { lanes: 16, taps: 4, blocks: 4, rows: 6, offset: 128 };
    const UNIT: bool = true;

    #[inline(always)]
    unsafe fn broadcast(quad: *const u8) -> __m512i {
        _mm512_set1_epi32(quad.cast::<i32>().read_unaligned())
    }

    #[inline(always)]
    unsafe fn load(lanes: *const u8) -> __m512i {
        _mm512_loadu_si512(lanes.cast())
    }

    #[inline(always)]
    unsafe fn load_weights(weights: *const u8) -> __m512i {
        _mm512_loadu_si512(weights.cast())
    }

    #[inline(always)]
    unsafe fn add(a: __m512i, b: __m512i) -> __m512i {
        _mm512_add_epi32(a, b)
    }

    #[inline(always)]
    unsafe fn zero() -> __m512i {
        _mm512_setzero_si512()
    }

    #[inline(always)]
    unsafe fn dot(acc: __m512i, values: __m512i, weights: __m512i) -> __m512i {
        _mm512_dpbusd_epi32(acc, values, weights)
    }

    #[inline(always)]
    unsafe fn store<const BLOCKS: usize>(acc: [__m512i; 4], multiplier: *const u8, out: &Epilogue, to: Rows) {
        let high = _mm512_set1_ps(out.high);
        let zero_point = _mm512_set1_epi16(out.zero_point.into());
        let block = [0, 1 % BLOCKS, if BLOCKS <= 2 { 0 } else { 2 }, if BLOCKS <= 2 { 1 % BLOCKS } else { BLOCKS - 1 }];
        let [a, b, c, d] = [
            round(acc[0], multiplier.add(block[0] * 64), high),
            round(acc[1], multiplier.add(block[1] * 64), high),
            round(acc[2], multiplier.add(block[2] * 64), high),
            round(acc[3], multiplier.add(block[3] * 64), high),
        ];
        let first = _mm512_adds_epi16(_mm512_packs_epi32(a, b), zero_point);
        let second = _mm512_adds_epi16(_mm512_packs_epi32(c, d), zero_point);
        let bytes = _mm512_max_epi8(_mm512_packs_epi16(first, second), _mm512_set1_epi8(out.min));
        // Packs work within 128 bits: a lane of what they give holds four columns of each of the
        // registers. The permutation brings those of a register together.
        let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        let bytes = _mm512_permutexvar_epi32(order, bytes);
        let Rows { dst, step, len, rows } = to;
        if BLOCKS > 2 {
            _mm512_mask_storeu_epi8(dst, u64::MAX >> (64 - len), bytes);
        } else if BLOCKS == 2 {
            let mask = u32::MAX >> (32 - len);
            _mm256_mask_storeu_epi8(dst, mask, _mm512_castsi512_si256(bytes));
            if rows > 1 {
                _mm256_mask_storeu_epi8(dst.add(step), mask, _mm512_extracti64x4_epi64(bytes, 1));
            }
        } else {
            let mask = u16::MAX >> (16 - len);
            _mm_mask_storeu_epi8(dst, mask, _mm512_castsi512_si128(bytes));
            if rows > 1 {
                _mm_mask_storeu_epi8(dst.add(step), mask, _mm512_extracti32x4_epi32(bytes, 1));
            }
            if rows > 2 {
                _mm_mask_storeu_epi8(dst.add(step * 2), mask, _mm512_extracti32x4_epi32(bytes, 2));
            }
            if rows > 3 {
                _mm_mask_storeu_epi8(dst.add(step * 3), mask, _mm512_extracti32x4_epi32(bytes, 3));
            }
        }
    }

    #[inline(always)]
    unsafe fn widen(src: *const i8, len: usize, dst: *mut u8) {
        let sign = _mm512_set1_epi8(i8::MIN);
        let mut at = 0;
        while at + 64 <= len {
            let values = _mm512_loadu_si512(src.add(at).cast());
            _mm512_storeu_si512(dst.add(at).cast(), _mm512_xor_si512(values, sign));
            at += 64;
        }
        if at < len {
            let values = _mm512_maskz_loadu_epi8(u64::MAX >> (64 - (len - at)), src.add(at));
            _mm512_storeu_si512(dst.add(at).cast(), _mm512_xor_si512(values, sign));
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn vectorize<R>(f: impl FnOnce() -> R) -> R {
        f()
    }
}

impl Interleave for Avx512Vnni {
    #[inline(always)]
    unsafe fn interleave(rows: &[*const i8; 4], len: usize, dst: *mut u8) {
        let mut at = 0;
        while at + 64 <= len {
            let values = each!(|r| _mm512_loadu_si512(rows[r].add(at).cast()));
            for (i, quads) in quads(values).into_iter().enumerate() {
                _mm512_storeu_si512(dst.add(at * 4 + i * 64).cast(), quads);
            }
            at += 64;
        }
        if at < len {
            let mask = u64::MAX >> (64 - (len - at));
            let values = each!(|r| _mm512_maskz_loadu_epi8(mask, rows[r].add(at)));
            for (i, quads) in quads(values).into_iter().enumerate() {
                let mask = (mask >> (i * 16)) as u16;
                _mm512_mask_storeu_epi32(dst.add(at * 4 + i * 64).cast(), mask, quads);
            }
        }
    }
}

/// An accumulator times its multiplier, to the nearest integer, ties to even. There is no lower
/// bound yet: what is below i32 saturates in the packs that follow and meets the minimum there.
#[inline(always)]
unsafe fn round(acc: __m512i, multiplier: *const u8, high: __m512) -> __m512i {
    let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), _mm512_loadu_ps(multiplier.cast()));
    _mm512_cvtps_epi32(_mm512_min_ps(scaled, high))
}

/// The 64 quads of four times 64 values: a transposition within 128 bits, then of them.
#[inline(always)]
unsafe fn quads(rows: [__m512i; 4]) -> [__m512i; 4] {
    let sign = _mm512_set1_epi8(i8::MIN);
    let [a, b, c, d] = each!(|r| _mm512_xor_si512(rows[r], sign));
    let (low, high) = (_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b));
    let (low2, high2) = (_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d));
    let (q0, q1) = (_mm512_unpacklo_epi16(low, low2), _mm512_unpackhi_epi16(low, low2));
    let (q2, q3) = (_mm512_unpacklo_epi16(high, high2), _mm512_unpackhi_epi16(high, high2));
    let (t0, t1) = (_mm512_shuffle_i32x4(q0, q1, 0x44), _mm512_shuffle_i32x4(q0, q1, 0xEE));
    let (t2, t3) = (_mm512_shuffle_i32x4(q2, q3, 0x44), _mm512_shuffle_i32x4(q2, q3, 0xEE));
    [
        _mm512_shuffle_i32x4(t0, t2, 0x88),
        _mm512_shuffle_i32x4(t0, t2, 0xDD),
        _mm512_shuffle_i32x4(t1, t3, 0x88),
        _mm512_shuffle_i32x4(t1, t3, 0xDD),
    ]
}
