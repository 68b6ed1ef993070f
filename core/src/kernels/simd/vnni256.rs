//! VNNI in 256-bit registers: 8 lanes, quads of u8, `vpdpbusd`. AVX-VNNI and AVX512-VNNI with VL
//! encode it differently; the latter uses it for narrow layers. Both need AVX2.
// Every function here is nothing but unsafe operations, all under the contract of `Simd`.
#![allow(unsafe_op_in_unsafe_fn)]

use core::arch::x86_64::*;
use core::marker::PhantomData;

use super::Layout;
use super::avx2::{Avx2, load_up_to_16};
use super::ops::{Epilogue, Interleave, Rows, Simd, each};

/// 256-bit VNNI in one of its encodings.
pub struct Vnni256<E>(PhantomData<E>);
pub type AvxVnni = Vnni256<Vex>;
pub type Avx512Vnni256 = Vnni256<Evex>;

pub struct Vex;
pub struct Evex;

/// # Safety
/// Both need a CPU that has the encoding.
#[allow(clippy::missing_safety_doc)]
pub trait Encoding {
    unsafe fn dpbusd(acc: __m256i, values: __m256i, weights: __m256i) -> __m256i;
    unsafe fn vectorize<R>(f: impl FnOnce() -> R) -> R;
}

impl Encoding for Vex {
    #[inline(always)]
    unsafe fn dpbusd(acc: __m256i, values: __m256i, weights: __m256i) -> __m256i {
        _mm256_dpbusd_avx_epi32(acc, values, weights)
    }

    #[inline]
    #[target_feature(enable = "avx2,avxvnni")]
    unsafe fn vectorize<R>(f: impl FnOnce() -> R) -> R {
        f()
    }
}

impl Encoding for Evex {
    #[inline(always)]
    unsafe fn dpbusd(acc: __m256i, values: __m256i, weights: __m256i) -> __m256i {
        _mm256_dpbusd_epi32(acc, values, weights)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn vectorize<R>(f: impl FnOnce() -> R) -> R {
        f()
    }
}

impl<E: Encoding> Simd for Vnni256<E> {
    type Acc = __m256i;
    type Quads = __m256i;
    const LAYOUT: Layout = Layout::NARROW_VNNI;

    #[inline(always)]
    unsafe fn broadcast(quad: *const u8) -> __m256i {
        Avx2::broadcast(quad)
    }

    #[inline(always)]
    unsafe fn load(lanes: *const u8) -> __m256i {
        Avx2::load(lanes)
    }

    #[inline(always)]
    unsafe fn load_weights(weights: *const u8) -> __m256i {
        Avx2::load(weights)
    }

    #[inline(always)]
    unsafe fn add(a: __m256i, b: __m256i) -> __m256i {
        Avx2::add(a, b)
    }

    #[inline(always)]
    unsafe fn zero() -> __m256i {
        Avx2::zero()
    }

    #[inline(always)]
    unsafe fn dot(acc: __m256i, values: __m256i, weights: __m256i) -> __m256i {
        E::dpbusd(acc, values, weights)
    }

    #[inline(always)]
    unsafe fn store<const BLOCKS: usize>(acc: [__m256i; 4], multiplier: *const u8, out: &Epilogue, to: Rows) {
        Avx2::store::<BLOCKS>(acc, multiplier, out, to);
    }

    #[inline(always)]
    unsafe fn widen(src: *const i8, len: usize, dst: *mut u8) {
        let sign = _mm256_set1_epi8(i8::MIN);
        let mut at = 0;
        while at + 32 <= len {
            let values = _mm256_loadu_si256(src.add(at).cast());
            _mm256_storeu_si256(dst.add(at).cast(), _mm256_xor_si256(values, sign));
            at += 32;
        }
        while at < len {
            let values = load_up_to_16(src.add(at), len - at);
            _mm_storeu_si128(dst.add(at).cast(), _mm_xor_si128(values, _mm256_castsi256_si128(sign)));
            at += 16;
        }
    }

    #[inline(always)]
    unsafe fn vectorize<R>(f: impl FnOnce() -> R) -> R {
        E::vectorize(f)
    }
}

impl<E: Encoding> Interleave for Vnni256<E> {
    #[inline(always)]
    unsafe fn interleave(rows: &[*const i8; 4], len: usize, dst: *mut u8) {
        let whole = len / 16 * 16;
        for at in (0..whole).step_by(16) {
            put_quads(each!(|r| _mm_loadu_si128(rows[r].add(at).cast())), dst.add(at * 4));
        }
        if whole < len {
            let mut rest = [0_u8; 64];
            put_quads(each!(|r| load_up_to_16(rows[r].add(whole), len - whole)), rest.as_mut_ptr());
            core::ptr::copy_nonoverlapping(rest.as_ptr(), dst.add(whole * 4), (len - whole) * 4);
        }
    }
}

/// Writes the 16 quads of four times 16 values.
#[inline(always)]
unsafe fn put_quads(rows: [__m128i; 4], dst: *mut u8) {
    let sign = _mm_set1_epi8(i8::MIN);
    let [a, b, c, d] = each!(|r| _mm_xor_si128(rows[r], sign));
    let (low, high) = (_mm_unpacklo_epi8(a, b), _mm_unpackhi_epi8(a, b));
    let (low2, high2) = (_mm_unpacklo_epi8(c, d), _mm_unpackhi_epi8(c, d));
    _mm_storeu_si128(dst.cast(), _mm_unpacklo_epi16(low, low2));
    _mm_storeu_si128(dst.add(16).cast(), _mm_unpackhi_epi16(low, low2));
    _mm_storeu_si128(dst.add(32).cast(), _mm_unpacklo_epi16(high, high2));
    _mm_storeu_si128(dst.add(48).cast(), _mm_unpackhi_epi16(high, high2));
}
