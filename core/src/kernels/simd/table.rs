//! Bytes by a table of 256: a vector's worth at a time.

use core::array;

use crate::isa::Isa;

/// `y[i] = table[y[i] + 128]` for as many as fill whole vectors; returns how many these are.
pub fn look_up(isa: Isa, y: &mut [i8], table: &[i8; 256]) -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        if isa.picks_bytes() {
            // SAFETY: the CPU has AVX512-VBMI and, of AVX512-VNNI's, AVX512-BW.
            return unsafe { vbmi(y, table) };
        }
        if isa != Isa::Generic && isa.is_available() {
            // SAFETY: every other instruction set of x86-64 includes AVX2, and this CPU has it.
            return unsafe { avx2(y, table) };
        }
    }
    #[cfg(target_arch = "aarch64")]
    if isa != Isa::Generic {
        // SAFETY: every aarch64 has NEON.
        return unsafe { neon(y, table) };
    }
    let _ = (isa, y, table);
    0
}

/// Two registers hold the half of the table for negative values, two the other.
///
/// # Safety
/// The CPU has AVX512-BW and AVX512-VBMI.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bw,avx512vbmi")]
unsafe fn vbmi(y: &mut [i8], table: &[i8; 256]) -> usize {
    use core::arch::x86_64::*;

    let (blocks, _) = y.as_chunks_mut::<64>();
    // SAFETY: the table is four registers long, and a block is one.
    unsafe {
        let part = |at: usize| _mm512_loadu_si512(table.as_ptr().add(64 * at).cast());
        let [negative, positive] = [[part(0), part(1)], [part(2), part(3)]];
        for block in blocks.iter_mut() {
            let x = _mm512_loadu_si512(block.as_ptr().cast());
            // Of an index the lower seven bits count.
            let [n, p] = [negative, positive].map(|[a, b]| _mm512_permutex2var_epi8(a, x, b));
            let found = _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), p, n);
            _mm512_storeu_si512(block.as_mut_ptr().cast(), found);
        }
    }
    64 * blocks.len()
}

/// A shuffle picks out of 16 bytes, and gives 0 where the index is negative. Each of a half's eight parts less the one before it, by
/// exclusive or, is picked from by an index that is 16 less than the last one; so the parts up to the right one leave that alone.
///
/// # Safety
/// The CPU has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2(y: &mut [i8], table: &[i8; 256]) -> usize {
    use core::arch::x86_64::*;

    let mut parts: [[i8; 16]; 16] = array::from_fn(|part| array::from_fn(|at| table[16 * part + at]));
    for half in parts.chunks_exact_mut(8) {
        for at in (1..8).rev() {
            let before = half[at - 1];
            half[at].iter_mut().zip(before).for_each(|(value, before)| *value ^= before);
        }
    }
    let (blocks, _) = y.as_chunks_mut::<64>();
    // SAFETY: a part is a register of SSE long, and a block two of AVX2.
    unsafe {
        let [sign, step] = [_mm256_set1_epi8(i8::MIN), _mm256_set1_epi8(16)];
        for block in blocks.iter_mut() {
            let at = |index: usize| block.as_ptr().cast::<__m256i>().add(index);
            let positive = [_mm256_loadu_si256(at(0)), _mm256_loadu_si256(at(1))];
            let mut indices = [positive.map(|x| _mm256_xor_si256(x, sign)), positive];
            let mut found = [_mm256_setzero_si256(); 2];
            for part in 0..8 {
                for half in 0..2 {
                    let values = _mm256_broadcastsi128_si256(_mm_loadu_si128(parts[8 * half + part].as_ptr().cast()));
                    for (found, index) in found.iter_mut().zip(&mut indices[half]) {
                        *found = _mm256_xor_si256(*found, _mm256_shuffle_epi8(values, *index));
                        *index = _mm256_subs_epi8(*index, step);
                    }
                }
            }
            let to = block.as_mut_ptr().cast::<__m256i>();
            _mm256_storeu_si256(to, found[0]);
            _mm256_storeu_si256(to.add(1), found[1]);
        }
    }
    64 * blocks.len()
}

/// An instruction looks up in 64 bytes and leaves alone, or makes 0, what is beyond them.
///
/// # Safety
/// The CPU has NEON.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
unsafe fn neon(y: &mut [i8], table: &[i8; 256]) -> usize {
    use core::arch::aarch64::*;

    let (blocks, _) = y.as_chunks_mut::<16>();
    // SAFETY: the table is four times four registers long, and a block is one.
    unsafe {
        let part = |at: usize| vld1q_s8_x4(table.as_ptr().add(64 * at));
        let parts = [part(0), part(1), part(2), part(3)];
        for block in blocks.iter_mut() {
            let index = veorq_u8(vreinterpretq_u8_s8(vld1q_s8(block.as_ptr())), vdupq_n_u8(0x80));
            let mut found = vqtbl4q_s8(parts[0], index);
            found = vqtbx4q_s8(found, parts[1], vsubq_u8(index, vdupq_n_u8(64)));
            found = vqtbx4q_s8(found, parts[2], vsubq_u8(index, vdupq_n_u8(128)));
            found = vqtbx4q_s8(found, parts[3], vsubq_u8(index, vdupq_n_u8(192)));
            vst1q_s8(block.as_mut_ptr(), found);
        }
    }
    16 * blocks.len()
}
