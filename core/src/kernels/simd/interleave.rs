//! Rows of bytes into columns: the channels of an image, or of anything else.

use crate::isa::Isa;

/// `y[3 * i + row] = rows[row][i]`, for as many as all of them have.
pub fn interleave3(isa: Isa, rows: [&[i8]; 3], y: &mut [i8]) {
    let len = rows.iter().map(|row| row.len()).chain([y.len() / 3]).min().unwrap_or(0);
    #[cfg(target_arch = "x86_64")]
    let done = if isa != Isa::Generic && isa.is_available() {
        // SAFETY: every other instruction set of x86-64 includes AVX2, and this CPU has it; there
        // are `len` values in each row and three times as many in `y`.
        unsafe { ssse3(rows.map(<[i8]>::as_ptr), len, y.as_mut_ptr()) }
    } else {
        0
    };
    #[cfg(target_arch = "aarch64")]
    let done = if isa == Isa::Generic {
        0
    } else {
        // SAFETY: every aarch64 has NEON; as above.
        unsafe { neon(rows.map(<[i8]>::as_ptr), len, y.as_mut_ptr()) }
    };
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let done = {
        let _ = isa;
        0
    };
    for i in done..len {
        y[i * 3..][..3].copy_from_slice(&rows.map(|row| row[i]));
    }
}

/// 16 triples at a time, which are three registers with something of each row; returns how many.
///
/// # Safety
/// The CPU has SSSE3; there are `len` values in each row and three times as many at `y`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "ssse3")]
unsafe fn ssse3(rows: [*const i8; 3], len: usize, y: *mut i8) -> usize {
    use core::arch::x86_64::*;

    // Where byte `i` of register `part` comes from in a row; what is not of that row is 0.
    const fn order(part: usize, row: usize) -> [i8; 16] {
        let mut order = [-1; 16];
        let mut i = 0;
        while i < 16 {
            let at = part * 16 + i;
            if at % 3 == row {
                order[i] = (at / 3) as i8;
            }
            i += 1;
        }
        order
    }
    const ORDERS: [[[i8; 16]; 3]; 3] = [
        [order(0, 0), order(0, 1), order(0, 2)],
        [order(1, 0), order(1, 1), order(1, 2)],
        [order(2, 0), order(2, 1), order(2, 2)],
    ];
    let whole = len / 16 * 16;
    for at in (0..whole).step_by(16) {
        // SAFETY: as the caller's.
        unsafe {
            let values = rows.map(|row| _mm_loadu_si128(row.add(at).cast()));
            for (part, orders) in ORDERS.iter().enumerate() {
                let of = |row: usize| _mm_shuffle_epi8(values[row], _mm_loadu_si128(orders[row].as_ptr().cast()));
                let bytes = _mm_or_si128(_mm_or_si128(of(0), of(1)), of(2));
                _mm_storeu_si128(y.add(at * 3 + part * 16).cast(), bytes);
            }
        }
    }
    whole
}

/// 16 triples at a time; returns how many.
///
/// # Safety
/// The CPU has NEON; there are `len` values in each row and three times as many at `y`.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
unsafe fn neon(rows: [*const i8; 3], len: usize, y: *mut i8) -> usize {
    use core::arch::aarch64::*;

    let whole = len / 16 * 16;
    for at in (0..whole).step_by(16) {
        // SAFETY: as the caller's.
        unsafe {
            let [a, b, c] = rows.map(|row| vld1q_s8(row.add(at)));
            vst3q_s8(y.add(at * 3), int8x16x3_t(a, b, c));
        }
    }
    whole
}

/// Eight rows of 16 bytes, so many rows at a time, in registers of as many bytes: of the first `TAPS` of them what is at 0,
/// then what is at 1, and of the next ones behind it. `TAPS` is 2, 4 or 8.
#[inline]
pub fn columns<const TAPS: usize>(rows: [[i8; 16]; 8]) -> [[i8; 16]; 8] {
    const { assert!(TAPS == 2 || TAPS == 4 || TAPS == 8) };
    #[cfg(target_arch = "x86_64")]
    // SAFETY: all of x86-64 has SSE2.
    return unsafe { columns_sse2::<TAPS>(rows) };
    #[cfg(target_arch = "aarch64")]
    // SAFETY: every aarch64 has NEON.
    return unsafe { columns_neon::<TAPS>(rows) };
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let mut columns = [[0; 16]; 8];
        for (at, to) in columns.as_flattened_mut().iter_mut().enumerate() {
            *to = rows[at / (16 * TAPS) * TAPS + at % TAPS][at / TAPS % 16];
        }
        columns
    }
}

/// Eight columns of 16 bytes: of each the first `TAPS` bytes, then of each the next ones, and so on; and the sum of each.
/// `TAPS` is 2, 4 or 8.
#[inline]
pub fn turned_columns<const TAPS: usize>(columns: [[i8; 16]; 8]) -> ([[i8; 16]; 8], [i32; 8]) {
    const { assert!(TAPS == 2 || TAPS == 4 || TAPS == 8) };
    #[cfg(target_arch = "x86_64")]
    // SAFETY: all of x86-64 has SSE2.
    return unsafe { turned_sse2::<TAPS>(columns) };
    #[cfg(target_arch = "aarch64")]
    // SAFETY: every aarch64 has NEON.
    return unsafe { turned_neon::<TAPS>(columns) };
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let mut turned = [[0; 16]; 8];
        for (lane, column) in columns.iter().enumerate() {
            let to = turned.as_flattened_mut().as_chunks_mut::<TAPS>().0.iter_mut().skip(lane).step_by(8);
            to.zip(column.as_chunks::<TAPS>().0).for_each(|(to, from)| *to = *from);
        }
        (turned, columns.map(|column| column.iter().map(|&x| i32::from(x)).sum()))
    }
}

/// Rows of units that lie `step` registers apart are zipped, the lower half before the upper one.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline(always)]
fn zipped<V: Copy>(registers: [V; 8], step: usize, zip: impl Fn(V, V) -> [V; 2]) -> [V; 8] {
    // Numbers that are constants once it is inlined, so that registers stay what they are.
    let [a, b, c, d] = match step {
        1 => [0, 2, 4, 6],
        2 => [0, 1, 4, 5],
        _ => [0, 1, 2, 3],
    };
    let [[a, b], [c, d], [e, f], [g, h]] = [
        zip(registers[a], registers[a + step]),
        zip(registers[b], registers[b + step]),
        zip(registers[c], registers[c + step]),
        zip(registers[d], registers[d + step]),
    ];
    [a, b, c, d, e, f, g, h]
}

/// # Safety
/// The CPU has SSE2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
#[inline]
unsafe fn columns_sse2<const TAPS: usize>(rows: [[i8; 16]; 8]) -> [[i8; 16]; 8] {
    use core::arch::x86_64::*;

    let mut registers: [__m128i; 8] = bytemuck::cast(rows);
    registers = zipped(registers, 1, |a, b| [_mm_unpacklo_epi8(a, b), _mm_unpackhi_epi8(a, b)]);
    if TAPS > 2 {
        registers = zipped(registers, 2, |a, b| [_mm_unpacklo_epi16(a, b), _mm_unpackhi_epi16(a, b)]);
    }
    if TAPS > 4 {
        registers = zipped(registers, 4, |a, b| [_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b)]);
    }
    bytemuck::cast(registers)
}

/// # Safety
/// The CPU has NEON.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
#[inline]
unsafe fn columns_neon<const TAPS: usize>(rows: [[i8; 16]; 8]) -> [[i8; 16]; 8] {
    use core::arch::aarch64::*;

    let mut registers = loaded(rows);
    registers = zipped(registers, 1, |a, b| [vzip1q_s8(a, b), vzip2q_s8(a, b)]);
    if TAPS > 2 {
        registers = zipped(registers, 2, |a, b| {
            let (a, b) = (vreinterpretq_s16_s8(a), vreinterpretq_s16_s8(b));
            [vzip1q_s16(a, b), vzip2q_s16(a, b)].map(|zipped| vreinterpretq_s8_s16(zipped))
        });
    }
    if TAPS > 4 {
        registers = zipped(registers, 4, |a, b| {
            let (a, b) = (vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b));
            [vzip1q_s32(a, b), vzip2q_s32(a, b)].map(|zipped| vreinterpretq_s8_s32(zipped))
        });
    }
    stored(registers)
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
#[inline]
fn loaded(lines: [[i8; 16]; 8]) -> [core::arch::aarch64::int8x16_t; 8] {
    // SAFETY: a line has 16 bytes.
    lines.map(|line| unsafe { core::arch::aarch64::vld1q_s8(line.as_ptr()) })
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
#[inline]
fn stored(registers: [core::arch::aarch64::int8x16_t; 8]) -> [[i8; 16]; 8] {
    registers.map(|register| {
        let mut line = [0; 16];
        // SAFETY: a line has 16 bytes.
        unsafe { core::arch::aarch64::vst1q_s8(line.as_mut_ptr(), register) };
        line
    })
}

/// # Safety
/// The CPU has SSE2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
#[inline]
unsafe fn turned_sse2<const TAPS: usize>(columns: [[i8; 16]; 8]) -> ([[i8; 16]; 8], [i32; 8]) {
    use core::arch::x86_64::*;

    let mut registers: [__m128i; 8] = bytemuck::cast(columns);
    // Each round moves a place of a column's number behind those of its units.
    for _ in 0..3 {
        registers = zipped(registers, 4, |a, b| match TAPS {
            2 => [_mm_unpacklo_epi16(a, b), _mm_unpackhi_epi16(a, b)],
            4 => [_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b)],
            _ => [_mm_unpacklo_epi64(a, b), _mm_unpackhi_epi64(a, b)],
        });
    }
    // Sums of two neighbours have 16 bits, and so have eight of these.
    let pairs = |x| _mm_add_epi16(_mm_srai_epi16(_mm_slli_epi16(x, 8), 8), _mm_srai_epi16(x, 8));
    let [a, b, c, d, e, f, g, h] = registers.map(pairs);
    let sum = |a, b, c, d| _mm_add_epi16(_mm_add_epi16(a, b), _mm_add_epi16(c, d));
    let sums = match TAPS {
        2 => bytemuck::cast::<_, [i16; 8]>(_mm_add_epi16(sum(a, b, c, d), sum(e, f, g, h))).map(i32::from),
        4 => {
            let both = [sum(a, c, e, g), sum(b, d, f, h)];
            bytemuck::cast(both.map(|pairs| _mm_madd_epi16(pairs, _mm_set1_epi16(1))))
        }
        _ => {
            let four = [_mm_add_epi16(a, e), _mm_add_epi16(b, f), _mm_add_epi16(c, g), _mm_add_epi16(d, h)];
            bytemuck::cast::<_, [[i16; 4]; 8]>(four).map(|sums| sums.into_iter().map(i32::from).sum())
        }
    };
    (bytemuck::cast(registers), sums)
}

/// # Safety
/// The CPU has NEON.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
#[inline]
unsafe fn turned_neon<const TAPS: usize>(columns: [[i8; 16]; 8]) -> ([[i8; 16]; 8], [i32; 8]) {
    use core::arch::aarch64::*;

    let mut registers = loaded(columns);
    let sums = registers.map(|column| vaddlvq_s8(column).into());
    // Each round moves a place of a column's number behind those of its units.
    for _ in 0..3 {
        registers = zipped(registers, 4, |a, b| match TAPS {
            2 => {
                let (a, b) = (vreinterpretq_s16_s8(a), vreinterpretq_s16_s8(b));
                [vzip1q_s16(a, b), vzip2q_s16(a, b)].map(|zipped| vreinterpretq_s8_s16(zipped))
            }
            4 => {
                let (a, b) = (vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b));
                [vzip1q_s32(a, b), vzip2q_s32(a, b)].map(|zipped| vreinterpretq_s8_s32(zipped))
            }
            _ => {
                let (a, b) = (vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b));
                [vzip1q_s64(a, b), vzip2q_s64(a, b)].map(|zipped| vreinterpretq_s8_s64(zipped))
            }
        });
    }
    (stored(registers), sums)
}

/// Eight rows of 16 values of 32 bits: what is at 0, what is at 1 and so on.
#[inline]
pub fn columns_of_words(rows: [&[u32; 16]; 8]) -> [[u32; 8]; 16] {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    {
        let mut columns = [[0; 8]; 16];
        for first in (0..8).step_by(4) {
            let rows: &[&[u32; 16]; 4] = rows[first..].first_chunk().expect("two times four rows");
            for (at, columns) in columns.chunks_exact_mut(4).enumerate() {
                let square = rows.map(|row| row[4 * at..].first_chunk().expect("four times four values"));
                // SAFETY: all of x86-64 has SSE2, and every aarch64 NEON.
                let turned = unsafe { turned(square) };
                columns
                    .iter_mut()
                    .zip(turned)
                    .for_each(|(column, turned)| column[first..][..4].copy_from_slice(&turned));
            }
        }
        columns
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    core::array::from_fn(|at| rows.map(|row| row[at]))
}

/// # Safety
/// The CPU has SSE2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
#[inline]
unsafe fn turned(square: [&[u32; 4]; 4]) -> [[u32; 4]; 4] {
    use core::arch::x86_64::*;

    // SAFETY: a row is one register.
    unsafe {
        let [a, b, c, d] = square.map(|row| _mm_loadu_si128(row.as_ptr().cast()));
        let [low, high] = [_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b)];
        let [next_low, next_high] = [_mm_unpacklo_epi32(c, d), _mm_unpackhi_epi32(c, d)];
        [
            _mm_unpacklo_epi64(low, next_low),
            _mm_unpackhi_epi64(low, next_low),
            _mm_unpacklo_epi64(high, next_high),
            _mm_unpackhi_epi64(high, next_high),
        ]
        .map(|row| {
            let mut to = [0; 4];
            _mm_storeu_si128(to.as_mut_ptr().cast(), row);
            to
        })
    }
}

/// # Safety
/// The CPU has NEON.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
#[inline]
unsafe fn turned(square: [&[u32; 4]; 4]) -> [[u32; 4]; 4] {
    use core::arch::aarch64::*;

    let mut turned = [[0; 4]; 4];
    // SAFETY: a row is one register.
    unsafe {
        let [a, b, c, d] = square.map(|row| vld1q_u32(row.as_ptr()));
        // What is stored side by side is read as one of four: the instruction that interleaves four registers turns them.
        vst4q_u32(turned.as_mut_ptr().cast(), uint32x4x4_t(a, b, c, d));
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn every_length_on_every_isa() {
        for len in 0..70 {
            let rows: [Vec<i8>; 3] = core::array::from_fn(|row| (0..len).map(|i| (i * 3 + row) as u8 as i8).collect());
            let expected: Vec<i8> = (0..len * 3).map(|i| i as u8 as i8).collect();
            for isa in Isa::ALL {
                let mut y = vec![0; len * 3];
                interleave3(isa, [&rows[0], &rows[1], &rows[2]], &mut y);
                assert_eq!(y, expected);
            }
        }
    }

    #[test]
    fn rows_become_columns() {
        fn check<const TAPS: usize>() {
            let rows: [[i8; 16]; 8] = core::array::from_fn(|row| core::array::from_fn(|i| (row * 16 + i) as i8));
            let expected: Vec<i8> = (rows.chunks_exact(TAPS))
                .flat_map(|rows| (0..16).flat_map(move |i| rows.iter().map(move |row| row[i])))
                .collect();
            assert_eq!(columns::<TAPS>(rows).as_flattened(), expected);
        }
        check::<2>();
        check::<4>();
        check::<8>();
    }

    #[test]
    fn rows_of_words_become_columns() {
        let rows: [[u32; 16]; 8] = core::array::from_fn(|row| core::array::from_fn(|i| (row * 16 + i) as u32));
        let expected = core::array::from_fn(|i| rows.map(|row| row[i]));
        assert_eq!(columns_of_words(rows.each_ref()), expected);
    }

    #[test]
    fn columns_are_turned() {
        fn check<const TAPS: usize>() {
            let columns: [[i8; 16]; 8] =
                core::array::from_fn(|lane| core::array::from_fn(|i| (lane * 16 + i * 2) as i8));
            let expected: Vec<i8> = (0..16 / TAPS)
                .flat_map(|quad| columns.iter().flat_map(move |column| column.as_chunks::<TAPS>().0[quad]))
                .collect();
            let sums = columns.map(|column| column.iter().map(|&x| i32::from(x)).sum());
            let (turned, all) = turned_columns::<TAPS>(columns);
            assert_eq!((turned.as_flattened(), all), (expected.as_slice(), sums));
        }
        check::<2>();
        check::<4>();
        check::<8>();
    }
}
