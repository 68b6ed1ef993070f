//! The operations of an instruction set on i16 values and on sums of their products.
// Every function of an instruction set is nothing but unsafe operations, all under the contract of
// `Wide`. Indices that are constants keep values in registers.
#![allow(unsafe_op_in_unsafe_fn, clippy::needless_range_loop)]

use super::super::Layout;
use super::super::ops::Simd;

/// # Safety
/// Every method needs a CPU with that instruction set, and pointers valid for what its text says is
/// read or written.
#[allow(clippy::missing_safety_doc)]
pub trait Wide {
    /// What loads, adds and stores sums.
    type Simd: Simd;
    /// A vector of i16.
    type Values: Copy;
    const VALUES: usize;
    /// That of [`layout`](super::layout).
    const LAYOUT: Layout;

    unsafe fn load_values(from: *const u8) -> Self::Values;
    unsafe fn store_values(to: *mut u8, values: Self::Values);
    unsafe fn add_values(a: Self::Values, b: Self::Values) -> Self::Values;
    unsafe fn sub_values(a: Self::Values, b: Self::Values) -> Self::Values;
    unsafe fn sub_sums(a: Sums<Self>, b: Sums<Self>) -> Sums<Self>;
    /// Sums divided by 4, of which they are multiples.
    unsafe fn quarter(sums: Sums<Self>) -> Sums<Self>;
    /// One position of `ROWS` tiles, `row_bytes` from each other: sums of the products with `BLOCKS`
    /// blocks of weights, in `steps` of [`Layout::taps`], written row by row. Rows are filled up to
    /// whole vectors, and may be read to their end.
    unsafe fn products<const ROWS: usize, const BLOCKS: usize>(
        inputs: *const u8,
        row_bytes: usize,
        weights: *const u8,
        steps: usize,
        sums: *mut u8,
    );
    /// Turns `len` i8 values into i16. May write 64 bytes too many.
    unsafe fn widen(src: *const i8, len: usize, dst: *mut u8);
    /// Calls `f` in a function compiled for the instruction set.
    unsafe fn vectorize<R>(f: impl FnOnce() -> R) -> R;
}

/// Further divisions of sums.
#[allow(clippy::missing_safety_doc)]
pub trait Thirds: Wide {
    /// Sums divided by 2, of which they are multiples.
    unsafe fn half(sums: Sums<Self>) -> Sums<Self>;
    /// Sums divided by 3, of which they are multiples.
    unsafe fn third(sums: Sums<Self>) -> Sums<Self>;
}

type Sums<W> = <<W as Wide>::Simd as Simd>::Acc;

#[cfg(target_arch = "x86_64")]
pub use x86::Avx2Wide;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;

    use super::super::super::avx2::Avx2;
    use super::super::super::ops::each;
    use super::*;

    /// `vpmaddwd`: a lane has the weights of two channels.
    pub struct Avx2Wide;

    impl Wide for Avx2Wide {
        type Simd = Avx2;
        type Values = __m256i;
        const VALUES: usize = 16;
        const LAYOUT: Layout = Layout::AVX2;

        #[inline(always)]
        unsafe fn load_values(from: *const u8) -> __m256i {
            _mm256_loadu_si256(from.cast())
        }

        #[inline(always)]
        unsafe fn store_values(to: *mut u8, values: __m256i) {
            _mm256_storeu_si256(to.cast(), values);
        }

        #[inline(always)]
        unsafe fn add_values(a: __m256i, b: __m256i) -> __m256i {
            _mm256_add_epi16(a, b)
        }

        #[inline(always)]
        unsafe fn sub_values(a: __m256i, b: __m256i) -> __m256i {
            _mm256_sub_epi16(a, b)
        }

        #[inline(always)]
        unsafe fn sub_sums(a: __m256i, b: __m256i) -> __m256i {
            _mm256_sub_epi32(a, b)
        }

        #[inline(always)]
        unsafe fn quarter(sums: __m256i) -> __m256i {
            _mm256_srai_epi32(sums, 2)
        }

        #[inline(always)]
        unsafe fn products<const ROWS: usize, const BLOCKS: usize>(
            inputs: *const u8,
            row_bytes: usize,
            weights: *const u8,
            steps: usize,
            sums: *mut u8,
        ) {
            let mut acc = [[_mm256_setzero_si256(); BLOCKS]; ROWS];
            for step in 0..steps {
                let w: [__m256i; BLOCKS] = each!(|b| Avx2::load(weights.add((b * steps + step) * 32)));
                for r in 0..ROWS {
                    let values = Avx2::broadcast(inputs.add(r * row_bytes + step * 4));
                    for b in 0..BLOCKS {
                        acc[r][b] = Avx2::dot(acc[r][b], values, w[b]);
                    }
                }
            }
            for r in 0..ROWS {
                for b in 0..BLOCKS {
                    _mm256_storeu_si256(sums.add((r * BLOCKS + b) * 32).cast(), acc[r][b]);
                }
            }
        }

        #[inline(always)]
        unsafe fn widen(src: *const i8, len: usize, dst: *mut u8) {
            Avx2::widen(src, len, dst);
        }

        #[inline(always)]
        unsafe fn vectorize<R>(f: impl FnOnce() -> R) -> R {
            Avx2::vectorize(f)
        }
    }

    impl Thirds for Avx2Wide {
        #[inline(always)]
        unsafe fn half(sums: __m256i) -> __m256i {
            _mm256_srai_epi32(sums, 1)
        }

        #[inline(always)]
        unsafe fn third(sums: __m256i) -> __m256i {
            // 3 * 0xAAAAAAAB is 1 in 32 bits.
            _mm256_mullo_epi32(sums, _mm256_set1_epi32(0xAAAA_AAAB_u32.cast_signed()))
        }
    }
}

#[cfg(target_arch = "aarch64")]
pub use neon::NeonWide;

#[cfg(target_arch = "aarch64")]
mod neon {
    use core::arch::aarch64::*;

    use super::super::super::neon::{Dotprod, Neon};
    use super::super::super::ops::each;
    use super::*;

    /// `smlal` by element: a lane has the weight of one channel.
    pub struct NeonWide;

    impl Wide for NeonWide {
        // For its whole sums; the dot product itself is not used.
        type Simd = Dotprod;
        type Values = int16x8_t;
        const VALUES: usize = 8;
        const LAYOUT: Layout = super::super::NEON;

        #[inline(always)]
        unsafe fn load_values(from: *const u8) -> int16x8_t {
            vld1q_s16(from.cast())
        }

        #[inline(always)]
        unsafe fn store_values(to: *mut u8, values: int16x8_t) {
            vst1q_s16(to.cast(), values);
        }

        #[inline(always)]
        unsafe fn add_values(a: int16x8_t, b: int16x8_t) -> int16x8_t {
            vaddq_s16(a, b)
        }

        #[inline(always)]
        unsafe fn sub_values(a: int16x8_t, b: int16x8_t) -> int16x8_t {
            vsubq_s16(a, b)
        }

        #[inline(always)]
        unsafe fn sub_sums(a: int32x4_t, b: int32x4_t) -> int32x4_t {
            vsubq_s32(a, b)
        }

        #[inline(always)]
        unsafe fn quarter(sums: int32x4_t) -> int32x4_t {
            vshrq_n_s32(sums, 2)
        }

        #[inline(always)]
        unsafe fn products<const ROWS: usize, const BLOCKS: usize>(
            inputs: *const u8,
            row_bytes: usize,
            weights: *const u8,
            steps: usize,
            sums: *mut u8,
        ) {
            let mut acc = [[vdupq_n_s32(0); BLOCKS]; ROWS];
            let weights: [*const u8; BLOCKS] = each!(|b| weights.add(b * steps * 8));
            // Pixels are filled up to whole vectors, so that four values can always be read.
            for step in (0..steps).step_by(4) {
                let values: [int16x4_t; ROWS] = each!(|r| vld1_s16(inputs.add(r * row_bytes + step * 2).cast()));
                macro_rules! step {
                    ($i:literal) => {
                        if step + $i < steps {
                            for b in 0..BLOCKS {
                                let w = vld1_s16(weights[b].add((step + $i) * 8).cast());
                                for r in 0..ROWS {
                                    acc[r][b] = vmlal_lane_s16::<$i>(acc[r][b], w, values[r]);
                                }
                            }
                        }
                    };
                }
                step!(0);
                step!(1);
                step!(2);
                step!(3);
            }
            for r in 0..ROWS {
                for b in 0..BLOCKS {
                    vst1q_s32(sums.add((r * BLOCKS + b) * 16).cast(), acc[r][b]);
                }
            }
        }

        #[inline(always)]
        unsafe fn widen(src: *const i8, len: usize, dst: *mut u8) {
            let mut at = 0;
            while at + 8 <= len {
                vst1q_s16(dst.add(at * 2).cast(), vmovl_s8(vld1_s8(src.add(at))));
                at += 8;
            }
            while at < len {
                dst.add(at * 2).cast::<[u8; 2]>().write(i16::from(src.add(at).read()).to_ne_bytes());
                at += 1;
            }
        }

        #[inline(always)]
        unsafe fn vectorize<R>(f: impl FnOnce() -> R) -> R {
            Neon::vectorize(f)
        }
    }
}
