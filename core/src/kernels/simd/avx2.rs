//! AVX2: 8 lanes, quads of i16, exact products through `vpmaddwd`, or of bytes where their sums of two
//! fit i16; depthwise in f32.
// Every function here is nothing but unsafe operations, all under the contract of `Simd`.
#![allow(unsafe_op_in_unsafe_fn)]

use core::arch::x86_64::*;

use super::Layout;
use super::floats::Floats;
use super::ops::{Arrange, Epilogue, Rows, Simd, each};

/// Has the function begin so many bytes behind the start of a cache line, wherever the linker puts it. Where in a line
/// its loops lie is worth up to 7 % on Zen 3 (core/benches/README.md), and changed with code elsewhere.
macro_rules! settled {
    ($bytes:literal) => {
        // SAFETY: nothing is done. Miri runs no assembly.
        #[cfg(not(miri))]
        core::arch::asm!(".p2align 6", concat!(".nops ", $bytes), options(nomem, nostack, preserves_flags))
    };
}

pub struct Avx2;

/// Quads of bytes. Neighbouring products of u8 and i8 are added in i16 and would saturate: weights have
/// to be such that they cannot.
pub struct Bytes;

/// The same CPUs' f32 instructions.
pub struct Fma;

impl Simd for Avx2 {
    type Acc = __m256i;
    type Quads = __m256i;
    const LAYOUT: Layout = Layout::AVX2;

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
        let multiplier: [__m256; 4] = each!(|i| _mm256_loadu_ps(multiplier.add(i % BLOCKS * 32).cast()));
        let rounded = each!(|i| round(_mm256_cvtepi32_ps(acc[i]), multiplier[i], high));
        put_rows::<BLOCKS>(rounded, Bounds::new(out), to);
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

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn vectorize<R>(f: impl FnOnce() -> R) -> R {
        settled!(32);
        f()
    }
}

impl Simd for Bytes {
    type Acc = __m256i;
    type Quads = __m256i;
    const LAYOUT: Layout = Layout::BYTES;

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
        _mm256_loadu_si256(weights.cast())
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
        Avx2::dot(acc, _mm256_maddubs_epi16(values, weights), _mm256_set1_epi16(1))
    }

    #[inline(always)]
    unsafe fn store<const BLOCKS: usize>(acc: [__m256i; 4], multiplier: *const u8, out: &Epilogue, to: Rows) {
        Avx2::store::<BLOCKS>(acc, multiplier, out, to);
    }

    #[inline(always)]
    unsafe fn widen(src: *const i8, len: usize, dst: *mut u8) {
        let mut at = 0;
        while at < len {
            let values = load_up_to_16(src.add(at), len - at);
            _mm_storeu_si128(dst.add(at).cast(), _mm_xor_si128(values, _mm_set1_epi8(i8::MIN)));
            at += 16;
        }
    }

    #[inline(always)]
    unsafe fn vectorize<R>(f: impl FnOnce() -> R) -> R {
        Avx2::vectorize(f)
    }
}

impl Arrange for Bytes {
    #[inline(always)]
    unsafe fn arrange(src: *const i8, order: *const u8, dst: *mut u8) {
        let sixteen: [__m256i; 4] = each!(|i| _mm256_broadcastsi128_si256(_mm_loadu_si128(src.add(i * 16).cast())));
        for half in 0..2 {
            let order = _mm256_loadu_si256(order.add(half * 32).cast());
            // Shuffles go by the lowest four bits of a number; the two above pick among the four.
            let [a, b, c, d] = each!(|i| _mm256_shuffle_epi8(sixteen[i], order));
            let (odd, upper) = (_mm256_slli_epi16(order, 3), _mm256_slli_epi16(order, 2));
            let values = _mm256_blendv_epi8(_mm256_blendv_epi8(a, b, odd), _mm256_blendv_epi8(c, d, odd), upper);
            let values = _mm256_xor_si256(values, _mm256_set1_epi8(i8::MIN));
            _mm256_storeu_si256(dst.add(half * 32).cast(), values);
        }
    }
}

impl Floats for Fma {
    type Vec = __m256;
    type Finish = Finish;

    #[inline(always)]
    unsafe fn load(values: *const u8) -> __m256 {
        _mm256_loadu_ps(values.cast())
    }

    #[inline(always)]
    unsafe fn put(values: __m256, dst: *mut u8) {
        _mm256_storeu_ps(dst.cast(), values);
    }

    #[inline(always)]
    unsafe fn convert(src: *const i8, dst: *mut u8) {
        Self::put(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(src.cast()))), dst);
    }

    #[inline(always)]
    unsafe fn fma(acc: __m256, a: __m256, b: __m256) -> __m256 {
        _mm256_fmadd_ps(a, b, acc)
    }

    #[inline(always)]
    unsafe fn add_integers(acc: __m256, integers: *const u8) -> __m256 {
        let sum = _mm256_add_epi32(_mm256_cvtps_epi32(acc), _mm256_loadu_si256(integers.cast()));
        _mm256_cvtepi32_ps(sum)
    }

    #[inline(always)]
    unsafe fn finish(out: &Epilogue) -> Finish {
        Finish { high: _mm256_set1_ps(out.high), bytes: Bounds::new(out) }
    }

    #[inline(always)]
    unsafe fn store<const BLOCKS: usize>(acc: [__m256; 4], multiplier: [__m256; BLOCKS], finish: Finish, to: Rows) {
        put_rows::<BLOCKS>(each!(|i| round(acc[i], multiplier[i % BLOCKS], finish.high)), finish.bytes, to);
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn vectorize<R>(f: impl FnOnce() -> R) -> R {
        settled!(16);
        f()
    }
}

/// What f32 sums need to leave as i8.
#[derive(Clone, Copy)]
pub struct Finish {
    high: __m256,
    bytes: Bounds,
}

/// What rounded values need to leave as i8.
#[derive(Clone, Copy)]
struct Bounds {
    zero_point: __m256i,
    min: __m256i,
}

impl Bounds {
    #[inline(always)]
    unsafe fn new(out: &Epilogue) -> Bounds {
        Bounds { zero_point: _mm256_set1_epi16(out.zero_point.into()), min: _mm256_set1_epi8(out.min) }
    }
}

/// Writes four registers of rounded values: `4 / BLOCKS` rows, or one of three or four blocks.
#[inline(always)]
unsafe fn put_rows<const BLOCKS: usize>([a, b, c, d]: [__m256i; 4], out: Bounds, to: Rows) {
    let first = _mm256_adds_epi16(_mm256_packs_epi32(a, b), out.zero_point);
    let second = _mm256_adds_epi16(_mm256_packs_epi32(c, d), out.zero_point);
    let bytes = _mm256_max_epi8(_mm256_packs_epi16(first, second), out.min);
    // Packs work within 128 bits: the permutation brings the columns of a register together.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    let bytes = _mm256_permutevar8x32_epi32(bytes, order);
    let (low, high) = (_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
    let Rows { dst, step, len, rows } = to;
    store_partial(low, dst, len);
    if BLOCKS > 2 && len > 16 {
        store_partial(high, dst.add(16), len - 16);
    }
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

/// Reads `len` values, 1 to 16 of them; the rest is 0.
#[inline(always)]
pub(super) unsafe fn load_up_to_16(src: *const i8, len: usize) -> __m128i {
    if len < 16 { load_partial(src, len) } else { _mm_loadu_si128(src.cast()) }
}

/// An accumulator times its multiplier, to the nearest integer, ties to even. There is no lower
/// bound yet: what is below i32 saturates in the packs that follow and meets the minimum there.
#[inline(always)]
unsafe fn round(acc: __m256, multiplier: __m256, high: __m256) -> __m256i {
    _mm256_cvtps_epi32(_mm256_min_ps(_mm256_mul_ps(acc, multiplier), high))
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
